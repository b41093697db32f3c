//! The recording's one timeline: two channels of blocks in, one interleaved stream out.
//!
//! In: [`TapBlock`]s of both channels in any order, each with its place on the leg's timeline [8 kHz samples].
//! Out: interleaved 16-bit stereo (left: far end, right: ours), contiguous from the start position, gaps as zero.
//! Two seconds are held back so that a block may come late or before its neighbour. Time is in the blocks; the
//! caller says how far the world has moved with [`StereoTimeline::flush_until`]. It runs on the recording writer's
//! side, so it may allocate.
//!
//! Where blocks of one channel overlap (a speaking leg re-phases by under 20 ms) the later one wins from its first
//! sample on, so that a position never depends on how many blocks came before: overlaps cannot add up to drift.

use std::collections::VecDeque;

use crate::audio::Frame;
use crate::call::port::{Channel, TapBlock};
use crate::time::MediaTime;

/// Puts both channels of a recording on one timeline.
#[derive(Debug)]
pub struct StereoTimeline {
    /// Position of the first held sample: everything before it has been given out.
    base: MediaTime,
    start: MediaTime,
    held: VecDeque<[i16; 2]>,
    late_samples: u64,
}

impl StereoTimeline {
    /// How much is held back for blocks that come late [8 kHz samples].
    pub const WINDOW: u64 = 2 * MediaTime::HZ;

    /// A timeline whose first output sample is the one at `start`; what lies before is cut off.
    #[must_use]
    pub fn new(start: MediaTime) -> Self {
        Self { base: start, start, held: VecDeque::new(), late_samples: 0 }
    }

    /// Places one block. Appends to `out` the interleaved samples that are now more than two seconds old.
    pub fn push(&mut self, block: &TapBlock, out: &mut Vec<i16>) {
        let end = block.frame.end();
        if end.since(self.base) > Self::WINDOW {
            self.flush_until(end.minus(Self::WINDOW), out);
        }
        let skip = self.base.since(block.frame.at).min(Frame::SPAN) as usize;
        if block.frame.at >= self.start {
            self.late_samples += skip as u64;
        }
        let first = block.frame.at.since(self.base) as usize;
        let samples = &block.frame.samples()[skip..];
        if self.held.len() < first + samples.len() {
            self.held.resize(first + samples.len(), [0; 2]);
        }
        let channel = match block.channel {
            Channel::Far => 0,
            Channel::Near => 1,
        };
        for (held, &sample) in self.held.range_mut(first..first + samples.len()).zip(samples) {
            held[channel] = sample;
        }
    }

    /// Appends to `out` everything before `at`, silence where nothing came. Does nothing if that is given out.
    pub fn flush_until(&mut self, at: MediaTime, out: &mut Vec<i16>) {
        let wanted = at.since(self.base) as usize;
        out.reserve(wanted * 2);
        let there = wanted.min(self.held.len());
        out.extend(self.held.drain(..there).flatten());
        out.resize(out.len() + (wanted - there) * 2, 0);
        self.base = self.base.plus(wanted as u64);
    }

    /// Ends the recording at `end`: appends what is missing up to there and discards what lies beyond. The output
    /// is then exactly `end - start` sample pairs, unless more had been given out before.
    pub fn finish(&mut self, end: MediaTime, out: &mut Vec<i16>) {
        self.flush_until(end, out);
        self.held.clear();
    }

    /// Sample pairs given out so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.base.since(self.start)
    }

    /// Samples that came too late for their place (after the start, but given out already).
    #[must_use]
    pub fn late_samples(&self) -> u64 {
        self.late_samples
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Rate;

    fn block(channel: Channel, at: u64, value: i16) -> TapBlock {
        let at = MediaTime::from_samples(at);
        TapBlock { channel, frame: Frame::from_samples(at, Rate::Hz8000, &[value; 160]) }
    }

    fn left(out: &[i16]) -> Vec<i16> {
        out.iter().step_by(2).copied().collect()
    }

    fn right(out: &[i16]) -> Vec<i16> {
        out.iter().skip(1).step_by(2).copied().collect()
    }

    #[test]
    fn channels_are_interleaved_in_place_with_gaps_as_silence() {
        let mut line = StereoTimeline::new(MediaTime::ZERO);
        let mut out = Vec::new();
        line.push(&block(Channel::Near, 400, 2), &mut out);
        line.push(&block(Channel::Far, 100, 1), &mut out);
        line.finish(MediaTime::from_samples(1000), &mut out);
        assert_eq!(out.len(), 2000, "the length is exact");
        let (far, near) = (left(&out), right(&out));
        assert!(far.iter().enumerate().all(|(i, &v)| v == i16::from((100..260).contains(&i))));
        assert!(near.iter().enumerate().all(|(i, &v)| v == 2 * i16::from((400..560).contains(&i))));
    }

    #[test]
    fn a_later_block_wins_where_two_overlap_and_nothing_shifts() {
        let mut line = StereoTimeline::new(MediaTime::ZERO);
        let mut out = Vec::new();
        line.push(&block(Channel::Near, 0, 1), &mut out);
        line.push(&block(Channel::Near, 40, 2), &mut out);
        line.push(&block(Channel::Near, 200, 3), &mut out);
        line.finish(MediaTime::from_samples(360), &mut out);
        let near = right(&out);
        assert_eq!((near[39], near[40], near[199], near[200], near[359]), (1, 2, 2, 3, 3));
        assert_eq!(near.len(), 360);
    }

    #[test]
    fn what_lies_before_the_start_or_after_the_end_is_cut_off() {
        let mut line = StereoTimeline::new(MediaTime::from_samples(1000));
        let mut out = Vec::new();
        line.push(&block(Channel::Far, 0, 9), &mut out);
        line.push(&block(Channel::Far, 920, 1), &mut out);
        line.push(&block(Channel::Far, 1080, 2), &mut out);
        line.finish(MediaTime::from_samples(1100), &mut out);
        let far = left(&out);
        assert_eq!(far.len(), 100);
        assert!(far[..80].iter().all(|&v| v == 1) && far[80..].iter().all(|&v| v == 2));
        assert_eq!(line.late_samples(), 0, "before the start is not late");
    }

    #[test]
    fn a_block_two_seconds_late_is_dropped_and_counted() {
        let mut line = StereoTimeline::new(MediaTime::ZERO);
        let mut out = Vec::new();
        line.push(&block(Channel::Far, 160, 1), &mut out);
        line.push(&block(Channel::Far, 3 * 8000, 1), &mut out);
        assert_eq!(line.written(), 3 * 8000 + 160 - StereoTimeline::WINDOW);
        line.push(&block(Channel::Near, 0, 7), &mut out);
        assert_eq!(line.late_samples(), 160);
        line.finish(MediaTime::from_samples(4 * 8000), &mut out);
        assert!(right(&out).iter().all(|&v| v == 0));
        assert_eq!(out.len(), 2 * 4 * 8000);
    }

    proptest! {
        #[test]
        fn any_order_within_the_window_gives_the_same_recording(seed in 0u64..1000) {
            let mut ids = crate::seed::Ids::from_number(seed);
            let mut blocks: Vec<(f64, u64)> =
                (0..200u64).map(|i| (i as f64 + ids.next_unit() * 80.0, i)).collect();
            let (mut a, mut b) = (Vec::new(), Vec::new());
            let mut line = StereoTimeline::new(MediaTime::ZERO);
            for &(_, i) in &blocks {
                line.push(&block(Channel::Far, i * 160, i as i16), &mut a);
            }
            line.finish(MediaTime::from_samples(200 * 160), &mut a);
            blocks.sort_by(|x, y| x.0.total_cmp(&y.0));
            let mut line = StereoTimeline::new(MediaTime::ZERO);
            for &(_, i) in &blocks {
                line.push(&block(Channel::Far, i * 160, i as i16), &mut b);
            }
            line.finish(MediaTime::from_samples(200 * 160), &mut b);
            prop_assert_eq!(line.late_samples(), 0);
            prop_assert_eq!(a, b);
        }
    }
}
