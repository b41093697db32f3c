//! Power of one frequency in a block of samples (Goertzel's recurrence).
//!
//! Samples in, mean-square power out; nobody passes time. Costs one multiplication per sample and frequency, which is
//! why tone detectors use it where a transform would compute hundreds of bins nobody reads.

use std::f32::consts::TAU;

/// The recurrence for one frequency. Stateless between blocks.
#[derive(Clone, Copy, Debug)]
pub struct Goertzel {
    coefficient: f32,
}

impl Goertzel {
    /// A bin at `freq_hz` for samples at `rate_hz`.
    #[must_use]
    pub fn new(freq_hz: f32, rate_hz: f32) -> Self {
        Self { coefficient: 2.0 * (TAU * freq_hz / rate_hz).cos() }
    }

    /// Mean-square power at this frequency, in squared sample units: a sine of amplitude `A` at exactly this
    /// frequency gives `A²/2`, the same as the block's own mean square, so their ratio is tonality. Zero for no samples.
    #[must_use]
    pub fn power(&self, block: &[i16]) -> f32 {
        if block.is_empty() {
            return 0.0;
        }
        let (mut s1, mut s2) = (0.0f32, 0.0f32);
        for &sample in block {
            let s0 = f32::from(sample) + self.coefficient * s1 - s2;
            s2 = s1;
            s1 = s0;
        }
        let n = block.len() as f32;
        2.0 * (s1 * s1 + s2 * s2 - self.coefficient * s1 * s2).max(0.0) / (n * n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Tone;
    use crate::audio::level::mean_square;
    use crate::time::Rate;

    #[test]
    fn a_pure_tone_is_all_in_its_bin_and_nothing_two_bins_away() {
        // 200 samples at 8 kHz: bins are 40 Hz apart.
        let mut block = [0; 200];
        Tone::new(1000.0, -6.0, Rate::Hz8000).fill(&mut block);
        let total = mean_square(&block);
        let at = |hz| Goertzel::new(hz, 8000.0).power(&block) / total;
        assert!((at(1000.0) - 1.0).abs() < 0.001);
        assert!(at(1080.0) < 0.0001 && at(920.0) < 0.0001);
    }

    #[test]
    fn silence_and_no_samples_have_no_power() {
        let bin = Goertzel::new(440.0, 8000.0);
        assert_eq!(bin.power(&[]), 0.0);
        assert_eq!(bin.power(&[0; 160]), 0.0);
    }
}
