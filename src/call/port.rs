//! What crosses between a leg on the media thread and its call on the async side. All of it is `Copy` or inline:
//! nothing here allocates.

use std::net::SocketAddr;

use crate::audio::Frame;
use crate::sdp::Codec;
use crate::signal::{Digit, Signal};
use crate::time::MediaTime;

/// 20 ms of an utterance on its way to the wire.
#[derive(Clone, Copy, Debug)]
pub struct Spoken {
    /// The utterance it belongs to; numbers rise.
    pub utterance: u32,
    /// Whether it is played to the end even when someone speaks over it.
    pub protected: bool,
    /// Whether it is the utterance's last frame. Samples beyond the utterance's end are silence.
    pub last: bool,
    /// The audio. `frame.at` is the offset in the utterance, not on the timeline.
    pub frame: Frame,
}

/// What a leg tells its call. Times are on the leg's timeline.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum LegEvent {
    /// A detector's finding.
    Signal(Signal),
    /// The first sample of an utterance went out.
    PlayoutStarted {
        /// The utterance.
        utterance: u32,
        /// When it went out.
        at: MediaTime,
    },
    /// So much of an utterance has been sent; told about five times a second while it plays.
    Played {
        /// The utterance.
        utterance: u32,
        /// Samples sent so far.
        samples: u64,
        /// Up to when.
        at: MediaTime,
    },
    /// Playout stopped in this tick because the callee speaks. Silence goes out until told otherwise.
    PlayoutPaused {
        /// The utterance that was playing.
        utterance: u32,
        /// Samples of it that were sent.
        samples: u64,
        /// First silent sample.
        at: MediaTime,
        /// First voiced sample of the callee.
        speech: MediaTime,
    },
    /// Playout goes on after a pause.
    PlayoutResumed {
        /// The utterance.
        utterance: u32,
        /// When.
        at: MediaTime,
    },
    /// The last sample of an utterance went out.
    PlayoutFinished {
        /// The utterance.
        utterance: u32,
        /// All its samples.
        samples: u64,
        /// When.
        at: MediaTime,
    },
    /// An utterance was cut: what waited of it was discarded. Told once for the utterance that was playing or
    /// paused, and once (with zero samples) for [`LegCommand::Cut`]'s `through` if that had not begun.
    PlayoutCut {
        /// The utterance.
        utterance: u32,
        /// Samples of it that were sent.
        samples: u64,
        /// First silent sample.
        at: MediaTime,
    },
    /// All digits of the last [`LegCommand::SendDigits`] went out.
    DigitsSent {
        /// When the last one ended.
        at: MediaTime,
    },
    /// Digits of a [`LegCommand::SendDigits`] will not go out: the far end takes no telephone-events, or too many wait.
    DigitsRefused {
        /// When.
        at: MediaTime,
    },
    /// What the leg received and sent in all; comes just before [`LegEvent::Closed`].
    Stats(LegStats),
    /// The leg is over: stopped, or its socket died.
    Closed {
        /// When.
        at: MediaTime,
    },
}

/// What a call tells its leg.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum LegCommand {
    /// Discard utterances up to and including this one, also ones still to come. Protected ones too.
    Cut {
        /// The newest utterance to discard.
        through: u32,
    },
    /// Go on where a pause stopped.
    Resume,
    /// Whether speech of the callee pauses unprotected playout in the same tick.
    PauseOnSpeech(bool),
    /// Press keys (RFC 4733).
    SendDigits(Digits),
    /// Where and how the far end wants its media: from an SDP that came after the leg was made, or changed.
    SetRemote(RemoteMedia),
    /// Close the leg; its last event is [`LegEvent::Closed`].
    Stop,
}

/// The far end's side of the session description.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoteMedia {
    /// Where it wants RTP.
    pub addr: SocketAddr,
    /// Where it wants RTCP; equal to `addr` if multiplexed (RFC 5761). `None`: the next port (RFC 3550 §11).
    pub rtcp: Option<SocketAddr>,
    /// The codec to send.
    pub codec: Codec,
    /// Payload type to send it with.
    pub payload_type: u8,
    /// Payload type of telephone-events in both directions; `None` if the far end knows none.
    pub event_payload_type: Option<u8>,
}

/// What a leg has received and sent since it began.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct LegStats {
    /// RTP packets received from the far end.
    pub packets_received: u64,
    /// RTP packets that never came (RFC 3550 §6.4.1).
    pub packets_lost: u64,
    /// Interarrival jitter at the end (ms) (RFC 3550 §6.4.1).
    pub jitter_ms: f32,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// Datagrams from addresses that are not the far end's; dropped.
    pub strangers: u64,
    /// Datagrams that were neither RTP nor RTCP; dropped.
    pub malformed: u64,
    /// Packets of a payload type that is not decoded: comfort noise and unknown ones.
    pub ignored: u64,
    /// 20 ms frames decoded or made up.
    pub frames: u64,
    /// Of these, frames that hold made-up audio.
    pub concealed: u64,
    /// Times the stream of packets dried up.
    pub starvations: u64,
    /// 20 ms of silence sent inside an utterance because its audio was not there yet.
    pub underruns: u64,
    /// Items refused by full rings (heard, events, tap together).
    pub dropped: u64,
}

/// Up to 32 keys, inline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digits {
    keys: [u8; Self::MAX],
    len: u8,
}

impl Digits {
    /// The most keys one command carries.
    pub const MAX: usize = 32;

    /// The keys in `text`; `None` if it holds no key, more than [`Digits::MAX`], or anything but keys.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut digits = Self { keys: [0; Self::MAX], len: 0 };
        for c in text.chars() {
            let digit = Digit::from_char(c)?;
            *digits.keys.get_mut(usize::from(digits.len))? = digit.event();
            digits.len += 1;
        }
        (digits.len > 0).then_some(digits)
    }

    /// The keys in order.
    pub fn iter(&self) -> impl Iterator<Item = Digit> + '_ {
        self.keys[..usize::from(self.len)].iter().filter_map(|&k| Digit::from_event(k))
    }
}

/// 20 ms for the recorder, placed on the leg's timeline.
#[derive(Clone, Copy, Debug)]
pub struct TapBlock {
    /// Which channel of the recording.
    pub channel: Channel,
    /// The audio; `frame.at` is its place on the timeline. Always 8 kHz.
    pub frame: Frame,
}

/// A recording's channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// Left: the far end, as received.
    Far,
    /// Right: ours, as sent.
    Near,
}
