//! Placing received audio: payloads of any length become 20 ms frames on the leg's timeline.
//!
//! In: decoded samples with their RTP timestamp, in order, and the position [8 kHz samples] at which they arrived.
//! Out: frames of 160 samples. While packets follow each other, frames follow each other exactly. A frame's end is
//! placed where its packet would have arrived with the least delay seen, so nothing lies in the future.
//!
//! The far end's clock is mapped to ours by the smallest delay of each window of packets: jitter only ever delays,
//! so the smallest delay moves only with the clocks (or the path), and the mapping follows it a millisecond at a
//! time. Positions never go backwards. A jump of the timestamps, or a return after starvation, is placed anew.

use crate::audio::{Frame, Origin};
use crate::time::{MediaTime, Rate};

/// Holes up to this length are filled with made-up audio (samples); longer ones are jumps.
pub(super) const FILLED_HOLE: u32 = 480;
/// A jump is believed if it lands within this distance of the arrival (samples).
const PLAUSIBLE: u64 = 1600;
/// Packets per window of the delay estimate: one second at 20 ms.
const WINDOW: u32 = 50;
/// The mapping moves by this much at a time [samples]: one millisecond.
const STEP: i64 = 8;
/// Deviations below this are left alone (samples).
const DEAD_ZONE: i64 = 40;
/// Earlier than the mapping by more than this, every frame is moved, not one a window (samples).
const FAR_OFF: i64 = 160;

/// What to do before a packet's samples are pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Continuity {
    /// It follows, or overlaps what was made up.
    Follows,
    /// So many samples are missing: make them up.
    Hole(u32),
    /// It was placed anew; what came before was ended.
    Jump,
}

pub(super) struct Placer {
    /// Position of the first pending sample.
    at: MediaTime,
    pending: [i16; Frame::SPAN as usize],
    len: usize,
    concealed: bool,
    /// RTP timestamp of the next sample, once anything was placed.
    expected: Option<u32>,
    /// The next packet is placed by its arrival, whatever its timestamp says.
    lost_touch: bool,
    window_min: i64,
    window_len: u32,
    step: i64,
}

impl Placer {
    pub(super) fn new() -> Self {
        Self {
            at: MediaTime::ZERO,
            pending: [0; Frame::SPAN as usize],
            len: 0,
            concealed: false,
            expected: None,
            lost_touch: true,
            window_min: i64::MAX,
            window_len: 0,
            step: 0,
        }
    }

    /// Where the next sample goes.
    pub(super) fn next(&self) -> MediaTime {
        self.at.plus(self.len as u64)
    }

    /// Whether the stream has stopped and not been placed anew since.
    pub(super) fn has_lost_touch(&self) -> bool {
        self.lost_touch
    }

    /// The stream has stopped or changed: the next packet is placed anew.
    pub(super) fn lose_touch(&mut self) {
        self.lost_touch = true;
    }

    /// The frame that is begun, filled up with silence.
    pub(super) fn flush(&mut self) -> Option<Frame> {
        if self.len == 0 {
            return None;
        }
        self.pending[self.len..].fill(0);
        self.len = self.pending.len();
        Some(self.emit())
    }

    /// Learns from a packet's arrival (before any reordering delay) how the clocks run.
    pub(super) fn note_arrival(&mut self, timestamp: u32, samples: usize, arrival: MediaTime) {
        let Some(expected) = self.expected.filter(|_| !self.lost_touch) else { return };
        let ahead = i64::from(timestamp.wrapping_sub(expected).cast_signed());
        if ahead.unsigned_abs() > MediaTime::HZ {
            return;
        }
        let end = self.next().samples() as i64 + ahead + samples as i64;
        let late = arrival.samples() as i64 - end;
        if late < -FAR_OFF {
            self.step = -STEP;
        }
        self.window_min = self.window_min.min(late);
        self.window_len += 1;
        if self.window_len == WINDOW {
            if self.window_min.abs() > DEAD_ZONE {
                self.step = STEP * self.window_min.signum();
            }
            self.window_min = i64::MAX;
            self.window_len = 0;
        }
    }

    /// Compares a packet's timestamp with the expected one. After [`Continuity::Jump`] the caller has the flushed
    /// frame of before, if any, in the second value.
    pub(super) fn locate(
        &mut self,
        timestamp: u32,
        samples: usize,
        arrival: MediaTime,
    ) -> (Continuity, Option<Frame>) {
        let ahead = self.expected.map(|expected| timestamp.wrapping_sub(expected).cast_signed());
        match ahead {
            Some(ahead) if !self.lost_touch && ahead.unsigned_abs() <= FILLED_HOLE => {
                self.expected = Some(timestamp.wrapping_add(samples as u32));
                let hole = ahead.max(0).unsigned_abs();
                (if hole > 0 { Continuity::Hole(hole) } else { Continuity::Follows }, None)
            }
            _ => {
                let by_timestamp =
                    ahead.and_then(|ahead| u64::try_from(ahead).ok()).map(|ahead| self.next().plus(ahead));
                let flushed = self.flush();
                let by_arrival = arrival.minus(samples as u64);
                let at = by_timestamp
                    .filter(|at| at.samples().abs_diff(by_arrival.samples()) <= PLAUSIBLE)
                    .unwrap_or(by_arrival);
                self.at = self.at.max(at);
                self.expected = Some(timestamp.wrapping_add(samples as u32));
                self.lost_touch = false;
                self.window_min = i64::MAX;
                self.window_len = 0;
                self.step = 0;
                (Continuity::Jump, flushed)
            }
        }
    }

    /// A packet of so many samples was given up and will be made up: the next timestamp lies that much further.
    pub(super) fn skip(&mut self, samples: u32) {
        self.expected = self.expected.map(|expected| expected.wrapping_add(samples));
    }

    /// Takes samples from the front of `samples` until a frame is full. Call until it returns `None`.
    pub(super) fn fill(&mut self, samples: &mut &[i16], concealed: bool) -> Option<Frame> {
        let n = samples.len().min(self.pending.len() - self.len);
        let (now, rest) = samples.split_at(n);
        self.pending[self.len..self.len + n].copy_from_slice(now);
        self.len += n;
        self.concealed |= concealed && n > 0;
        *samples = rest;
        (self.len == self.pending.len()).then(|| self.emit())
    }

    fn emit(&mut self) -> Frame {
        let mut frame = Frame::from_samples(self.at, Rate::Hz8000, &self.pending);
        if self.concealed {
            frame.origin = Origin::Concealed;
        }
        self.concealed = false;
        self.len = 0;
        self.at = frame.end();
        self.at = match std::mem::take(&mut self.step) {
            step if step < 0 => self.at.minus(step.unsigned_abs()),
            step => self.at.plus(step.unsigned_abs()),
        };
        frame
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds a packet as the leg does; returns the frames' positions.
    fn feed(placer: &mut Placer, timestamp: u32, len: usize, arrival: u64) -> Vec<u64> {
        let arrival = MediaTime::from_samples(arrival);
        placer.note_arrival(timestamp, len, arrival);
        let (continuity, flushed) = placer.locate(timestamp, len, arrival);
        let mut at: Vec<u64> = flushed.iter().map(|f| f.at.samples()).collect();
        if let Continuity::Hole(n) = continuity {
            let made_up = vec![0; n as usize];
            let mut samples = &made_up[..];
            at.extend(std::iter::from_fn(|| placer.fill(&mut samples, true)).map(|f| f.at.samples()));
        }
        let pcm = vec![1; len];
        let mut samples = &pcm[..];
        at.extend(std::iter::from_fn(|| placer.fill(&mut samples, false)).map(|f| f.at.samples()));
        at
    }

    #[test]
    fn consecutive_packets_of_any_length_give_frames_that_follow_exactly() {
        for len in [80, 160, 240, 480] {
            let mut placer = Placer::new();
            let mut at = Vec::new();
            for i in 0..60u32 {
                at.extend(feed(
                    &mut placer,
                    (u32::MAX - 700).wrapping_add(i * len),
                    len as usize,
                    1000 + u64::from(i * len),
                ));
            }
            assert_eq!(at.len(), 60 * len as usize / 160);
            assert_eq!(at[0], 1000 - u64::from(len), "the first packet ends where it arrived");
            assert!(at.windows(2).all(|w| w[1] == w[0] + 160), "{len}");
        }
    }

    #[test]
    fn jitter_does_not_move_frames() {
        let mut placer = Placer::new();
        let mut at = Vec::new();
        for i in 0..500u32 {
            let late = u64::from(i * 7919 % 300);
            at.extend(feed(&mut placer, i * 160, 160, 1000 + u64::from(i) * 160 + late));
        }
        assert!(at.windows(2).all(|w| w[1] == w[0] + 160));
    }

    #[test]
    fn a_far_clock_that_runs_fast_or_slow_is_followed() {
        for ppm in [-200i64, -50, 50, 200] {
            let mut placer = Placer::new();
            let mut last = 0;
            let seconds = 600;
            for i in 0..50 * seconds {
                let ideal = 160 * i as i64;
                let arrival = 1000 + ideal + ideal * ppm / 1_000_000;
                for at in feed(&mut placer, i * 160, 160, arrival as u64) {
                    assert!(at >= last, "never backwards");
                    last = at;
                    let off = arrival - (at as i64 + 160);
                    assert!(off.abs() <= 60, "{ppm} ppm: {off} samples off after {i} packets");
                }
            }
        }
    }

    #[test]
    fn a_burst_at_the_start_is_brought_back_within_seconds() {
        let mut placer = Placer::new();
        let mut off = 0;
        for i in 0..500u32 {
            // The first five arrive together, so the first seems 80 ms too early in the far end's time.
            let arrival = 1000 + u64::from(i.max(4)) * 160;
            for at in feed(&mut placer, i * 160, 160, arrival) {
                off = arrival as i64 - at as i64 - 160;
            }
        }
        assert!(off.abs() <= FAR_OFF, "{off}");
    }

    #[test]
    fn a_small_hole_is_filled_and_a_jump_is_placed_anew() {
        let mut placer = Placer::new();
        feed(&mut placer, 0, 160, 160);
        assert_eq!(feed(&mut placer, 320, 160, 480), [160, 320], "one packet was missing");
        assert_eq!(feed(&mut placer, 8000, 160, 8160), [8000], "a pause, by the timestamp");
        assert_eq!(feed(&mut placer, 900_000, 160, 8320), [8160], "nonsense, by the arrival");
        assert_eq!(feed(&mut placer, 10, 80, 8400), [0_u64; 0], "restarted");
        placer.lose_touch();
        assert_eq!(feed(&mut placer, 90, 80, 16_000), [8320], "the begun frame is ended first");
        assert_eq!(placer.next().samples(), 16_000);
    }

    proptest! {
        #[test]
        fn positions_never_go_backwards(
            packets in proptest::collection::vec((any::<u32>(), 1usize..500, 0u64..400, any::<bool>()), 1..200)
        ) {
            let mut placer = Placer::new();
            let (mut now, mut timestamp, mut last) = (0, 0u32, None);
            for (jump, len, late, follows) in packets {
                timestamp = if follows { timestamp } else { jump };
                now += len as u64 + late;
                for at in feed(&mut placer, timestamp, len, now) {
                    prop_assert!(last.is_none_or(|last| at > last));
                    last = Some(at);
                }
                timestamp = timestamp.wrapping_add(len as u32);
            }
        }
    }
}
