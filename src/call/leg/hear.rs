//! The receive side of a leg: from a parsed RTP packet to detectors, recogniser and recorder.
//!
//! ```text
//! packet ─► telephone-event? ─► digit
//!        └► reorder ─► decode / conceal ─► place in 20 ms frames ─► detectors ─► pause playout?
//!                                                               └► heard ring, tap ring
//! ```
//! In: packets with their extended sequence number, and `now` as wall time and as a position on the leg's timeline.
//! Out: frames and signals through rings. No packets is not silence: without any the detectors see no frames, and
//! after [`STARVED_AFTER`] one [`SignalKind::Starved`] is told.

use std::time::Duration;

use super::place::{Continuity, Placer};
use crate::audio::g711::Law;
use crate::audio::{Concealer, Frame, Origin};
use crate::call::playout::{News, Playout};
use crate::call::port::{Channel, LegEvent, TapBlock};
use crate::detect::Chain;
use crate::ring::Producer;
use crate::rtp::dtmf::EventReceiver;
use crate::rtp::{Packet, PushOutcome, Released, Reorder};
use crate::signal::{Signal, SignalKind, Signals};
use crate::time::{Instant, MediaTime};

/// Without packets for so long, nothing is known of the line any more. Longer than the gap between two packets of
/// 60 ms with 100 ms of jitter, shorter than any endpointing wait.
pub(super) const STARVED_AFTER: Duration = Duration::from_millis(200);
/// Static payload types (RFC 3551 §6).
const PCMU: u8 = 0;
const PCMA: u8 = 8;

/// `now`, in both of a leg's times.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) wall: Instant,
    pub(super) at: MediaTime,
}

/// Payload types as negotiated.
#[derive(Clone, Copy)]
pub(super) struct PayloadTypes {
    pub(super) audio: u8,
    pub(super) law: Law,
    pub(super) event: Option<u8>,
}

impl PayloadTypes {
    fn law_of(&self, payload_type: u8) -> Option<Law> {
        match payload_type {
            pt if pt == self.audio => Some(self.law),
            PCMU => Some(Law::Mu),
            PCMA => Some(Law::A),
            _ => None,
        }
    }
}

/// What finds signals in received audio; [`Chain`] is the one of every real call. It runs on the media thread, so it
/// must not allocate, lock or wait.
pub trait Listener: Send {
    /// Hears one 20 ms frame that follows the last one, and appends what it found to `out`.
    fn observe(&mut self, frame: &Frame, out: &mut Signals);

    /// The stream broke off at `at`; the next frame begins a new one.
    fn handle_gap(&mut self, at: MediaTime, out: &mut Signals);
}

impl Listener for Chain {
    fn observe(&mut self, frame: &Frame, out: &mut Signals) {
        Self::observe(self, frame, out);
    }

    fn handle_gap(&mut self, at: MediaTime, out: &mut Signals) {
        Self::handle_gap(self, at, out);
    }
}

/// What hears: everything behind a finished frame.
pub(super) struct Ears {
    listener: Box<dyn Listener>,
    /// Where the listener expects its next frame: it counts 20 ms a frame, also where a frame on the timeline is
    /// moved by a millisecond to follow the far end's clock. `None` at the beginning of a stream.
    listener_at: Option<MediaTime>,
    signals: Signals,
    heard: Producer<Frame>,
    tap: Option<Producer<TapBlock>>,
    pub(super) pause_on_speech: bool,
    starved: bool,
    pub(super) frames: u64,
    pub(super) concealed: u64,
}

impl Ears {
    pub(super) fn new(
        listener: Box<dyn Listener>,
        heard: Producer<Frame>,
        tap: Option<Producer<TapBlock>>,
    ) -> Self {
        Self {
            listener,
            listener_at: None,
            signals: Signals::new(),
            heard,
            tap,
            pause_on_speech: true,
            starved: false,
            frames: 0,
            concealed: 0,
        }
    }

    /// One frame in, everything that follows from it out.
    fn hear(&mut self, frame: &Frame, playout: &mut Playout, news: &mut News) {
        if std::mem::take(&mut self.starved) {
            let kind = SignalKind::Flowing;
            news.tell(LegEvent::Signal(Signal { at: frame.at, decided: frame.end(), kind }));
        }
        self.frames += 1;
        self.concealed += u64::from(frame.origin == Origin::Concealed);
        let mut as_expected = *frame;
        as_expected.at = self.listener_at.unwrap_or(frame.at);
        self.listener_at = Some(as_expected.end());
        self.signals.clear();
        self.listener.observe(&as_expected, &mut self.signals);
        self.tell_signals(frame.at, as_expected.at, playout, news);
        // Full rings drop and count by themselves.
        let _ = self.heard.push(*frame);
        if let Some(tap) = &mut self.tap {
            let _ = tap.push(TapBlock { channel: Channel::Far, frame: *frame });
        }
        news.rung = true;
    }

    /// The stream broke off at `at`.
    fn handle_gap(&mut self, at: MediaTime, playout: &mut Playout, news: &mut News) {
        let Some(expected) = self.listener_at.take() else { return };
        self.signals.clear();
        self.listener.handle_gap(expected, &mut self.signals);
        self.tell_signals(at, expected, playout, news);
    }

    /// Tells what was found, moved from the listener's time to the timeline's.
    fn tell_signals(&mut self, at: MediaTime, expected: MediaTime, playout: &mut Playout, news: &mut News) {
        let moved = |t: MediaTime| t.plus(at.since(expected)).minus(expected.since(at));
        for signal in self.signals.iter() {
            let signal = Signal { at: moved(signal.at), decided: moved(signal.decided), ..signal };
            news.tell(LegEvent::Signal(signal));
            if signal.kind == SignalKind::SpeechStart && self.pause_on_speech {
                playout.pause(signal.at, news);
            }
        }
    }

    /// 20 ms of ours for the recorder.
    pub(super) fn tap_near(&mut self, frame: &Frame, news: &mut News) {
        if let Some(tap) = &mut self.tap {
            let _ = tap.push(TapBlock { channel: Channel::Near, frame: *frame });
            news.rung = true;
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.heard.stats().dropped + self.tap.as_ref().map_or(0, |tap| tap.stats().dropped)
    }
}

/// From packets to frames.
pub(super) struct Hearing {
    reorder: Reorder,
    events: EventReceiver,
    concealer: Concealer,
    placer: Placer,
    /// Samples of the last packet: what a lost one is taken to have had.
    packet_len: usize,
    /// When the line is starved, while it is not.
    starves_at: Option<Instant>,
    pub(super) ignored: u64,
    pub(super) starvations: u64,
}

impl Hearing {
    pub(super) fn new() -> Self {
        Self {
            reorder: Reorder::default(),
            events: EventReceiver::new(),
            concealer: Concealer::new(),
            placer: Placer::new(),
            packet_len: Frame::SPAN as usize,
            starves_at: None,
            ignored: 0,
            starvations: 0,
        }
    }

    /// Packets are expected from now on.
    pub(super) fn expect_packets(&mut self, now: Instant) {
        self.starves_at = Some(now + STARVED_AFTER);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match (self.starves_at, self.reorder.next_deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Another source: nothing of the last one helps to understand it.
    pub(super) fn handle_new_source(&mut self) {
        self.reorder.reset();
        self.events.reset();
        self.concealer = Concealer::new();
        self.placer.lose_touch();
    }

    /// Takes a packet. Follow with [`Hearing::release`].
    pub(super) fn handle_packet(
        &mut self,
        now: Now,
        sequence: u64,
        packet: &Packet<'_>,
        types: PayloadTypes,
        news: &mut News,
    ) {
        let (timestamp, marker, pt) = (packet.timestamp(), packet.marker(), packet.payload_type());
        // Every packet takes its place in the order, or its number would look like a loss.
        let mut payload = packet.payload();
        if types.event == Some(pt) {
            if let Some(digit) = self.events.handle(timestamp, marker, payload) {
                let kind = SignalKind::Digit(digit);
                news.tell(LegEvent::Signal(Signal { at: now.at, decided: now.at, kind }));
            }
            self.expect_packets(now.wall);
            payload = &[];
        } else if types.law_of(pt).is_some() {
            self.placer.note_arrival(timestamp, payload.len(), now.at);
            self.expect_packets(now.wall);
        } else {
            self.ignored += 1;
            payload = &[];
        }
        let outcome = self.reorder.push(now.wall, sequence, timestamp, marker, pt, payload);
        self.ignored += u64::from(outcome == PushOutcome::TooLong);
    }

    /// Lets go of what is in order or overdue, and notices starvation.
    pub(super) fn release(
        &mut self,
        now: Now,
        types: PayloadTypes,
        ears: &mut Ears,
        playout: &mut Playout,
        news: &mut News,
    ) {
        let Self { reorder, concealer, placer, packet_len, .. } = self;
        let mut out = Out { placer, concealer, ears, playout, news };
        while let Some(released) = reorder.pop(now.wall) {
            match released {
                Released::Packet { timestamp, payload_type, payload, .. } => {
                    if let Some(law) = types.law_of(payload_type).filter(|_| !payload.is_empty()) {
                        *packet_len = payload.len();
                        out.decode(now.at, timestamp, law, payload);
                    }
                }
                Released::Lost => out.make_up_lost(*packet_len),
                // What the gap held, the next packet's timestamp tells.
                Released::Gap { .. } => {}
            }
        }
        if self.starves_at.is_some_and(|at| now.wall >= at) {
            self.starves_at = None;
            self.starvations += 1;
            out.starve(now.at);
        }
    }
}

/// The way of decoded samples, for the length of one call.
struct Out<'a> {
    placer: &'a mut Placer,
    concealer: &'a mut Concealer,
    ears: &'a mut Ears,
    playout: &'a mut Playout,
    news: &'a mut News,
}

impl Out<'_> {
    fn decode(&mut self, arrival: MediaTime, timestamp: u32, law: Law, payload: &[u8]) {
        let before = self.placer.next();
        let (continuity, flushed) = self.placer.locate(timestamp, payload.len(), arrival);
        if let Some(frame) = flushed {
            self.ears.hear(&frame, self.playout, self.news);
        }
        match continuity {
            Continuity::Follows => {}
            Continuity::Hole(samples) => self.conceal(samples as usize),
            Continuity::Jump => self.ears.handle_gap(before, self.playout, self.news),
        }
        let mut pcm = [0; Frame::SPAN as usize];
        for chunk in payload.chunks(pcm.len()) {
            let pcm = &mut pcm[..chunk.len()];
            law.decode_into(chunk, pcm);
            self.concealer.rejoin(pcm);
            self.concealer.good(pcm);
            self.frame(pcm, false);
        }
    }

    fn make_up_lost(&mut self, samples: usize) {
        if !self.placer.has_lost_touch() {
            self.conceal(samples);
            self.placer.skip(samples as u32);
        }
    }

    fn conceal(&mut self, mut samples: usize) {
        let mut pcm = [0; Frame::SPAN as usize];
        while samples > 0 {
            let n = samples.min(pcm.len());
            self.concealer.conceal(&mut pcm[..n]);
            self.frame(&pcm[..n], true);
            samples -= n;
        }
    }

    fn frame(&mut self, mut samples: &[i16], concealed: bool) {
        while let Some(frame) = self.placer.fill(&mut samples, concealed) {
            self.ears.hear(&frame, self.playout, self.news);
        }
    }

    fn starve(&mut self, now: MediaTime) {
        if let Some(frame) = self.placer.flush() {
            self.ears.hear(&frame, self.playout, self.news);
        }
        self.placer.lose_touch();
        self.ears.starved = true;
        let at = self.placer.next().min(now);
        self.ears.handle_gap(at, self.playout, self.news);
        let kind = SignalKind::Starved;
        self.news.tell(LegEvent::Signal(Signal { at, decided: now, kind }));
    }
}
