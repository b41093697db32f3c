//! One leg: the media of one far end, as a state machine that a media thread runs.
//!
//! In: datagrams, commands, `now` ([`Leg::handle_datagram`], [`Leg::handle_command`], [`Leg::handle_timeout`]), and
//! through a ring the [`Spoken`] frames to play. Out: datagrams ([`Leg::poll_transmit`]), and through rings the
//! frames heard, [`LegEvent`]s and the recorder's blocks ([`LegPort`]). After any `handle_*`, call `poll_transmit`
//! until it returns `None`; only then does [`Leg::next_deadline`] say when to call `handle_timeout` next. A frame
//! pushed to the playout ring goes out at the next `handle_timeout`, so call it then, too.
//!
//! Once made, a leg allocates nothing, locks nothing, logs nothing and cannot fail: a bad packet is a counter.
//!
//! Not done here: SRTP, playout buffering for human ears, wideband codecs, comfort noise (its packets are counted).

mod cadence;
mod hear;
mod latch;
mod place;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use self::cadence::Cadence;
pub use self::hear::Listener;
use self::hear::{Ears, Hearing, Now, PayloadTypes};
use self::latch::Latch;
use crate::audio::Frame;
use crate::audio::g711::Law;
use crate::call::playout::{News, Playout};
use crate::call::port::{LegCommand, LegEvent, LegStats, RemoteMedia, Spoken, TapBlock};
use crate::ring::{Consumer, ring};
use crate::rtp::dtmf::EventSender;
use crate::rtp::{Received, Session, SessionConfig};
use crate::sdp::Codec;
use crate::time::{Instant, MediaTime, Rate};

/// Frames heard that may wait for the async side: 2.5 s.
const HEARD: usize = 128;
/// Events that may wait.
const EVENTS: usize = 256;
/// Frames that may wait to be played: 2.5 s; a cut discards at most these.
const PLAYOUT: usize = 128;
/// Blocks that may wait for the recorder: 2.5 s of both channels.
const TAP: usize = 256;

/// What a leg is made of.
pub struct LegConfig {
    /// The beginning of the leg's timeline.
    pub epoch: Instant,
    /// SSRC, first sequence number and the like.
    pub session: SessionConfig,
    /// The codec to send.
    pub codec: Codec,
    /// Payload type to send it with.
    pub payload_type: u8,
    /// Payload type of telephone-events in both directions; `None` if the far end knows none.
    pub event_payload_type: Option<u8>,
    /// Where the far end wants RTP; `None` until its session description comes ([`LegCommand::SetRemote`]).
    pub remote: Option<SocketAddr>,
    /// Where it wants RTCP; `None`: the port after `remote`.
    pub remote_rtcp: Option<SocketAddr>,
    /// What listens to the far end, e.g. a boxed [`crate::detect::Chain`].
    pub listener: Box<dyn Listener>,
    /// Whether a recorder taps the leg.
    pub tap: bool,
}

/// The async side's ends of a leg's rings. The leg is gone when `events` is abandoned and empty; the last event of
/// a leg that ended in order is [`LegEvent::Closed`].
pub struct LegPort {
    /// What the far end said, 20 ms a frame, placed on the timeline.
    pub heard: Consumer<Frame>,
    /// News, in order.
    pub events: Consumer<LegEvent>,
    /// What to say.
    pub playout: crate::ring::Producer<Spoken>,
    /// Both channels for the recorder, if it was asked for.
    pub tap: Option<Consumer<TapBlock>>,
}

/// How far a leg's end has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    Stopping,
    Over,
}

/// One leg. Pauses unprotected playout when the far end speaks, until [`LegCommand::PauseOnSpeech`] says otherwise.
pub struct Leg {
    epoch: Instant,
    now: Instant,
    session: Session,
    types: PayloadTypes,
    latch: Latch,
    remote_rtcp: Option<SocketAddr>,
    hearing: Hearing,
    ears: Ears,
    playout: Playout,
    cadence: Cadence,
    keys: EventSender,
    news: News,
    life: Life,
    strangers: u64,
    underruns: u64,
}

/// Makes a leg and the other ends of its rings. Allocates all that the leg will ever need.
#[must_use]
pub fn leg(config: LegConfig) -> (Leg, LegPort) {
    let (heard_tx, heard) = ring(HEARD);
    let (events_tx, events) = ring(EVENTS);
    let (playout, playout_rx) = ring(PLAYOUT);
    let (tap_tx, tap) = if config.tap { Some(ring(TAP)).unzip() } else { (None, None) };
    let mut leg = Leg {
        epoch: config.epoch,
        now: config.epoch,
        types: PayloadTypes {
            audio: config.payload_type,
            law: law(config.codec),
            event: config.event_payload_type,
        },
        latch: Latch::default(),
        remote_rtcp: config.remote_rtcp,
        hearing: Hearing::new(),
        ears: Ears::new(config.listener, heard_tx, tap_tx),
        playout: Playout::new(playout_rx),
        cadence: Cadence::new(config.session.timestamp, config.epoch),
        keys: EventSender::new(),
        news: News { events: events_tx, rung: false },
        life: Life::Running,
        strangers: 0,
        underruns: 0,
        session: Session::new(config.session),
    };
    if let Some(remote) = config.remote {
        leg.latch.describe(remote);
        leg.hearing.expect_packets(config.epoch);
    }
    (leg, LegPort { heard, events, playout, tap })
}

fn law(codec: Codec) -> Law {
    match codec {
        Codec::Pcmu => Law::Mu,
        Codec::Pcma => Law::A,
    }
}

impl Leg {
    /// The least room [`Leg::poll_transmit`] needs (octets).
    pub const MAX_DATAGRAM: usize = 512;

    /// Takes an RTP or RTCP datagram from either of the leg's ports.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let now = self.advance(now);
        if self.life != Life::Running {
            return;
        }
        if Session::is_rtcp(datagram) {
            if self.latch.admits_rtcp(from) {
                self.session.handle_rtcp(now.wall, datagram);
            } else {
                self.strangers += 1;
            }
            return;
        }
        if !self.latch.admits_rtp(from, datagram) {
            self.strangers += 1;
            return;
        }
        if let Received::Packet { sequence, packet, new_source } = self.session.handle_rtp(now.wall, datagram)
        {
            if new_source {
                self.hearing.handle_new_source();
            }
            self.hearing.handle_packet(now, sequence, &packet, self.types, &mut self.news);
            self.release(now);
        }
    }

    /// Takes a command.
    pub fn handle_command(&mut self, now: Instant, command: LegCommand) {
        let now = self.advance(now);
        if self.life != Life::Running {
            return;
        }
        match command {
            LegCommand::Cut { through } => self.playout.cut(through, now.at, &mut self.news),
            LegCommand::Resume => self.playout.resume(now.at, &mut self.news),
            LegCommand::PauseOnSpeech(on) => self.ears.pause_on_speech = on,
            LegCommand::SendDigits(digits) => {
                if self.types.event.is_none() || self.keys.queue(digits.iter()) > 0 {
                    self.news.tell(LegEvent::DigitsRefused { at: now.at });
                }
            }
            LegCommand::SetRemote(remote) => self.set_remote(now, remote),
            LegCommand::Stop => self.life = Life::Stopping,
        }
    }

    /// Does what time demands.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        if self.life == Life::Running {
            self.release(now);
        }
    }

    /// Writes the next datagram to the front of `out` and says how long it is and where it goes. RTCP goes out of the
    /// leg's RTCP port if it has one; [`Session::is_rtcp`] tells.
    ///
    /// # Panics
    /// If `out` is shorter than [`Leg::MAX_DATAGRAM`].
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        assert!(out.len() >= Self::MAX_DATAGRAM, "room for a datagram");
        let now = self.now;
        match (self.life, self.latch.target()) {
            (Life::Over, _) => None,
            (Life::Stopping, target) => {
                self.close();
                let target = self.rtcp_target(target?);
                Some((self.session.write_bye(now, out), target))
            }
            (Life::Running, None) => {
                self.cadence.idle(now);
                None
            }
            (Life::Running, Some(target)) => {
                if self.session.next_rtcp() <= now
                    && let Some(len) = self.session.poll_rtcp(now, out)
                {
                    return Some((len, self.rtcp_target(target)));
                }
                self.write_media(now, out).map(|len| (len, target))
            }
        }
    }

    /// When to call [`Leg::handle_timeout`] next, unless something comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let mut next = self.now + Duration::from_secs(1);
        if self.life == Life::Running {
            if self.latch.target().is_some() {
                next = next.min(self.session.next_rtcp()).min(self.media_due());
            }
            if let Some(deadline) = self.hearing.next_deadline() {
                next = next.min(deadline);
            }
        }
        next
    }

    /// Whether something was put into a ring since this was last asked.
    pub fn rung(&mut self) -> bool {
        std::mem::take(&mut self.news.rung)
    }

    /// Whether the leg has ended: [`LegEvent::Closed`] was told, nothing more will come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.life == Life::Over
    }

    /// Shifts the leg's 20 ms grid by `phase` (under 20 ms), so that many legs do not all send at once. To be called
    /// before anything was sent.
    pub fn stagger(&mut self, phase: Duration) {
        self.cadence.stagger(phase);
    }

    /// What was received and sent so far.
    #[must_use]
    pub fn stats(&self) -> LegStats {
        let session = self.session.stats();
        LegStats {
            packets_received: session.received,
            packets_lost: session.lost,
            jitter_ms: session.jitter_ms,
            packets_sent: session.sent,
            strangers: self.strangers,
            malformed: session.malformed,
            ignored: self.hearing.ignored,
            frames: self.ears.frames,
            concealed: self.ears.concealed,
            starvations: self.hearing.starvations,
            underruns: self.underruns,
            dropped: self.ears.dropped() + self.news.events.stats().dropped,
        }
    }

    fn advance(&mut self, now: Instant) -> Now {
        self.now = self.now.max(now);
        Now { wall: self.now, at: self.position(self.now) }
    }

    fn position(&self, at: Instant) -> MediaTime {
        MediaTime::from_duration(at.since(self.epoch))
    }

    fn release(&mut self, now: Now) {
        self.hearing.release(now, self.types, &mut self.ears, &mut self.playout, &mut self.news);
    }

    fn set_remote(&mut self, now: Now, remote: RemoteMedia) {
        if self.latch.target().is_none() {
            self.hearing.expect_packets(now.wall);
        }
        self.latch.describe(remote.addr);
        self.remote_rtcp = remote.rtcp;
        self.types = PayloadTypes {
            audio: remote.payload_type,
            law: law(remote.codec),
            event: remote.event_payload_type,
        };
    }

    /// Where RTCP goes while RTP goes to `target`, which may differ from what was described.
    fn rtcp_target(&self, target: SocketAddr) -> SocketAddr {
        let next_port = SocketAddr::new(target.ip(), target.port().saturating_add(1));
        self.remote_rtcp.filter(|rtcp| rtcp.ip() == target.ip()).unwrap_or(next_port)
    }

    /// When the next audio or event packet is due, once a target is known.
    fn media_due(&self) -> Instant {
        if !self.keys.is_active() && self.playout.is_ready() {
            self.cadence.speech_due()
        } else {
            self.cadence.silence_due()
        }
    }

    /// Writes the audio or event packet that is due, if one is.
    fn write_media(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        self.playout.discard();
        if now < self.media_due() {
            return None;
        }
        if self.keys.is_active() {
            return Some(self.write_key(now, out));
        }
        if self.playout.is_ready() {
            let slot = self.cadence.speech(now);
            let frame = self.playout.take(self.position(slot.at), &mut self.news)?;
            return Some(self.write_audio(slot, &frame, out));
        }
        self.underruns += u64::from(self.playout.is_mid_utterance());
        Some(self.write_silence(now, out))
    }

    fn write_key(&mut self, now: Instant, out: &mut [u8]) -> usize {
        let slot = self.cadence.silence(now);
        let mut payload = [0; 4];
        let packet = self.keys.poll(slot.timestamp, &mut payload);
        let at = self.position(slot.at);
        if !self.keys.is_active() {
            self.news.tell(LegEvent::DigitsSent { at: at.plus(Frame::SPAN) });
        }
        let silence = Frame::silence(at, Rate::Hz8000);
        match (packet, self.types.event) {
            (Some(event), Some(payload_type)) => {
                self.ears.tap_near(&silence, &mut self.news);
                let payload = &payload[..event.len];
                self.session.write_packet(payload_type, event.marker, event.timestamp, payload, out)
            }
            _ => self.write_audio(slot, &silence, out),
        }
    }

    fn write_silence(&mut self, now: Instant, out: &mut [u8]) -> usize {
        let slot = self.cadence.silence(now);
        self.write_audio(slot, &Frame::silence(self.position(slot.at), Rate::Hz8000), out)
    }

    fn write_audio(&mut self, slot: cadence::Slot, frame: &Frame, out: &mut [u8]) -> usize {
        self.ears.tap_near(frame, &mut self.news);
        let mut payload = [0; Frame::SPAN as usize];
        self.types.law.encode_into(frame.samples(), &mut payload);
        self.session.write_packet(self.types.audio, slot.marker, slot.timestamp, &payload, out)
    }

    fn close(&mut self) {
        self.life = Life::Over;
        let at = self.position(self.now);
        self.news.tell(LegEvent::Stats(self.stats()));
        self.news.tell(LegEvent::Closed { at });
    }
}
