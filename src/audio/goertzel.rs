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
