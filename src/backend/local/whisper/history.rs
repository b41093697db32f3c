//! The last stretch of a call's audio on its media timeline, so that an utterance can be taken from a little before
//! it was noticed.

use std::collections::VecDeque;

use crate::audio::Frame;
use crate::time::{MediaTime, Rate};

/// 8 kHz samples by position; bounded, gaps are silence.
#[derive(Default)]
pub(super) struct History {
    samples: VecDeque<i16>,
    end: MediaTime,
}

impl History {
    /// The most that is kept [samples]: 60 s.
    pub(super) const MAX: usize = 60 * MediaTime::HZ as usize;

    /// Appends a frame at its position. What overlaps audio already here is ignored, a gap becomes silence.
    pub(super) fn push(&mut self, frame: &Frame) {
        if self.samples.is_empty() || frame.at.since(self.end) >= Self::MAX as u64 {
            self.samples.clear();
            self.end = frame.at;
        }
        let gap = frame.at.since(self.end) as usize;
        self.samples.extend(std::iter::repeat_n(0, gap));
        let known = (self.end.since(frame.at) as usize).min(Frame::SPAN as usize);
        match frame.rate() {
            Rate::Hz8000 => self.samples.extend(&frame.samples()[known..]),
            // A short low-pass before every other sample is dropped: recognition does not need a better one.
            Rate::Hz16000 => {
                let (wide, mut before) = (frame.samples(), i32::from(frame.samples()[0]));
                let halved = wide.chunks_exact(2).map(|pair| {
                    let value = (before + 2 * i32::from(pair[0]) + i32::from(pair[1])) / 4;
                    before = i32::from(pair[1]);
                    value as i16
                });
                self.samples.extend(halved.skip(known));
            }
        }
        self.end = self.end.plus((gap + Frame::SPAN as usize - known) as u64);
        self.drop_front(self.samples.len().saturating_sub(Self::MAX));
    }

    /// Position after the last sample.
    pub(super) fn end(&self) -> MediaTime {
        self.end
    }

    /// Position of the first sample kept.
    pub(super) fn start(&self) -> MediaTime {
        self.end.minus(self.samples.len() as u64)
    }

    /// Forgets everything before `at`.
    pub(super) fn forget_before(&mut self, at: MediaTime) {
        self.drop_front((at.since(self.start()) as usize).min(self.samples.len()));
    }

    /// The samples between two positions, as far as they are here.
    pub(super) fn between(&self, from: MediaTime, to: MediaTime) -> Vec<i16> {
        let index = |at: MediaTime| (at.since(self.start()) as usize).min(self.samples.len());
        let (from, to) = (index(from), index(to));
        self.samples.range(from..to.max(from)).copied().collect()
    }

    fn drop_front(&mut self, n: usize) {
        self.samples.drain(..n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(at: u64, value: i16) -> Frame {
        Frame::from_samples(MediaTime::from_samples(at), Rate::Hz8000, &[value; 160])
    }

    fn at(samples: u64) -> MediaTime {
        MediaTime::from_samples(samples)
    }

    #[test]
    fn gaps_are_silence_and_overlaps_are_ignored() {
        let mut h = History::default();
        h.push(&frame(1000, 1));
        h.push(&frame(1200, 2));
        h.push(&frame(1200, 9));
        h.push(&frame(1300, 3));
        h.push(&frame(0, 9));
        assert_eq!((h.start(), h.end()), (at(1000), at(1460)));
        let expected = [vec![1; 160], vec![0; 40], vec![2; 160], vec![3; 100]].concat();
        assert_eq!(h.between(at(1000), at(1460)), expected);
        assert_eq!(h.between(at(0), at(1001)), [1], "what is not here is left out");
        assert_eq!(h.between(at(1459), at(9000)), [3]);
        assert!(h.between(at(1400), at(1300)).is_empty());
    }

    #[test]
    fn a_jump_of_an_hour_costs_no_memory() {
        let mut h = History::default();
        h.push(&frame(0, 1));
        h.push(&frame(8000 * 3600, 2));
        assert_eq!((h.start(), h.end()), (at(8000 * 3600), at(8000 * 3600 + 160)));
    }

    #[test]
    fn only_the_last_minute_is_kept() {
        let mut h = History::default();
        for n in 0..3010 {
            h.push(&frame(n * 160, n as i16));
        }
        assert_eq!(h.end().since(h.start()), History::MAX as u64);
        assert_eq!(h.between(h.start(), at(1601)), [10]);
        h.forget_before(at(3009 * 160));
        assert_eq!(h.start(), at(3009 * 160));
        h.forget_before(at(u64::MAX / 2));
        assert_eq!(h.start(), h.end());
        h.push(&frame(3010 * 160, 5));
        assert_eq!(h.start(), at(3010 * 160));
    }

    #[test]
    fn wideband_is_halved() {
        let mut h = History::default();
        h.push(&Frame::from_samples(at(0), Rate::Hz16000, &[100; 320]));
        assert_eq!(h.between(at(0), at(160)), vec![100; 160]);
    }
}
