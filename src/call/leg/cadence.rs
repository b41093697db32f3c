//! The sender's clock: when the next packet goes out, and with which timestamp.
//!
//! Silence keeps a grid of 20 ms. A leg that starts to speak sends at once and so runs ahead of the grid by under
//! 20 ms; its timestamps go on by 160, so they never overlap; the next silence waits for the grid, which gives the
//! lead back. Time comes as `now`; out come send instants and RTP timestamps. Source of the marker rule: RFC 3551
//! §4.1 (first packet after silence).

use std::time::Duration;

use crate::audio::Frame;
use crate::time::Instant;

pub(super) const FRAME: Duration = Duration::from_millis(20);

pub(super) struct Cadence {
    /// RTP timestamp of the next packet.
    timestamp: u32,
    /// When that timestamp is due.
    grid: Instant,
    /// When the last packet went out, if it was speech.
    spoke: Option<Instant>,
}

/// One packet's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    /// RTP timestamp.
    pub(super) timestamp: u32,
    /// Marker bit.
    pub(super) marker: bool,
    /// When its first sample begins: now, or the instant this packet was due if the wake was late.
    pub(super) at: Instant,
}

impl Cadence {
    pub(super) fn new(timestamp: u32, first: Instant) -> Self {
        Self { timestamp, grid: first, spoke: None }
    }

    /// Shifts the grid before anything was sent.
    pub(super) fn stagger(&mut self, phase: Duration) {
        self.grid += phase;
    }

    /// When silence (or a telephone-event) is due.
    pub(super) fn silence_due(&self) -> Instant {
        self.grid
    }

    /// When speech may go out: 20 ms after other speech, else at once, but never a whole frame ahead of the grid.
    pub(super) fn speech_due(&self) -> Instant {
        let earliest = self.grid - FRAME;
        self.spoke.map_or(earliest, |sent| earliest.max(sent + FRAME))
    }

    /// Places a packet of silence, or an event's.
    pub(super) fn silence(&mut self, now: Instant) -> Slot {
        self.idle(now);
        let slot = Slot { timestamp: self.timestamp, marker: false, at: self.grid };
        self.spoke = None;
        self.advance();
        slot
    }

    /// Places a packet of speech.
    pub(super) fn speech(&mut self, now: Instant) -> Slot {
        self.idle(now);
        let at = self.spoke.map(|sent| sent + FRAME).filter(|&due| now < due + FRAME).unwrap_or(now);
        let slot = Slot { timestamp: self.timestamp, marker: self.spoke.is_none(), at };
        self.spoke = Some(at);
        self.advance();
        slot
    }

    /// Time passes without packets (nobody to send to, or a stall): timestamps and grid jump over whole frames, so
    /// that the phase stays and legs that stalled together do not send together ever after.
    pub(super) fn idle(&mut self, now: Instant) {
        let frames = now.since(self.grid).as_nanos() / FRAME.as_nanos();
        self.grid += FRAME * u32::try_from(frames).unwrap_or(u32::MAX);
        self.timestamp = self.timestamp.wrapping_add((frames as u32).wrapping_mul(Frame::SPAN as u32));
    }

    fn advance(&mut self) {
        self.timestamp = self.timestamp.wrapping_add(Frame::SPAN as u32);
        self.grid += FRAME;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn speech_goes_out_at_once_and_the_lead_is_given_back_at_the_next_silence() {
        let mut c = Cadence::new(1000, ms(0));
        assert_eq!(c.silence(ms(0)), Slot { timestamp: 1000, marker: false, at: ms(0) });
        assert!(c.speech_due() <= ms(5));
        assert_eq!(c.speech(ms(5)), Slot { timestamp: 1160, marker: true, at: ms(5) });
        assert_eq!(c.speech_due(), ms(25));
        assert_eq!(c.speech(ms(26)), Slot { timestamp: 1320, marker: false, at: ms(25) });
        assert_eq!(c.silence_due(), ms(60), "35 ms after the last speech: the lead of 15 ms is given back");
        assert_eq!(c.silence(ms(60)), Slot { timestamp: 1480, marker: false, at: ms(60) });
    }

    #[test]
    fn the_lead_never_reaches_a_whole_frame_more() {
        let mut c = Cadence::new(0, ms(0));
        c.silence(ms(0));
        c.speech(ms(1));
        c.silence(c.silence_due());
        assert_eq!(c.speech_due(), ms(40));
        let mut c = Cadence::new(0, ms(0));
        c.silence(ms(0));
        c.speech(ms(1));
        assert_eq!(c.speech_due(), ms(21), "more speech keeps 20 ms");
    }

    #[test]
    fn a_stall_makes_the_timestamps_jump_by_what_was_not_sent() {
        let mut c = Cadence::new(0, ms(0));
        c.silence(ms(0));
        assert_eq!(c.silence(ms(130)), Slot { timestamp: 6 * 160, marker: false, at: ms(120) });
        assert_eq!(c.silence_due(), ms(140), "the phase stays");
        c.idle(ms(1155));
        assert_eq!(c.silence_due(), ms(1140));
    }

    proptest! {
        #[test]
        fn timestamps_never_overlap_and_follow_the_clock(steps in proptest::collection::vec((0u64..30_000, any::<bool>()), 1..400)) {
            let mut c = Cadence::new(0, ms(0));
            let (mut now, mut last) = (ms(0), None::<u32>);
            for (wait_us, speaks) in steps {
                now += Duration::from_micros(wait_us);
                let slot = if speaks && now >= c.speech_due() {
                    c.speech(now)
                } else if now >= c.silence_due() {
                    c.silence(now)
                } else {
                    continue;
                };
                prop_assert!(last.is_none_or(|l| slot.timestamp - l >= 160));
                last = Some(slot.timestamp);
                let clock = (now.as_nanos() / 125_000) as i64;
                prop_assert!((i64::from(slot.timestamp) - clock).abs() <= 160, "{} at {clock}", slot.timestamp);
            }
        }
    }
}
