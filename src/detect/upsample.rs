//! 8 kHz to 16 kHz for the fallback network: every second sample is the input, the others are interpolated.

/// Half the length of the interpolation filter.
const SIDE: usize = 8;

/// Doubles the rate of a stream of samples; 8 input samples late.
pub(super) struct Upsampler {
    taps: [f32; SIDE],
    history: [f32; 2 * SIDE],
}

impl Upsampler {
    pub(super) fn new() -> Self {
        // Half-band windowed sinc: at distance k + 1/2 the sinc is ±1/(π (k + 1/2)).
        let taps = std::array::from_fn(|k| {
            let x = (k as f32 + 0.5) * std::f32::consts::PI;
            let sign = if k % 2 == 0 { 1.0 } else { -1.0 };
            let hann = 0.5 + 0.5 * (x / (SIDE as f32 + 0.5)).cos();
            sign / x * hann
        });
        Self { taps, history: [0.0; 2 * SIDE] }
    }

    pub(super) fn process(&mut self, samples: &[f32; 128]) -> [f32; 256] {
        let mut all = [0.0; 128 + 2 * SIDE];
        all[..2 * SIDE].copy_from_slice(&self.history);
        all[2 * SIDE..].copy_from_slice(samples);
        self.history.copy_from_slice(&all[128..]);
        let mut out = [0.0; 256];
        for (n, pair) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let here = n + SIDE;
            let between: f32 =
                self.taps.iter().enumerate().map(|(k, t)| t * (all[here - k] + all[here + 1 + k])).sum();
            *pair = [all[here], between];
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_keeps_its_shape_at_twice_the_rate() {
        let mut up = Upsampler::new();
        let tone = |n: f32| (n * std::f32::consts::TAU * 1000.0 / 8000.0).sin();
        let mut worst = 0.0f32;
        for block in 0..4 {
            let input = std::array::from_fn(|i| tone((128 * block + i) as f32));
            for (i, y) in up.process(&input).iter().enumerate() {
                let want = tone(128.0 * block as f32 + i as f32 / 2.0 - SIDE as f32);
                if block > 0 {
                    worst = worst.max((y - want).abs());
                }
            }
        }
        assert!(worst < 0.02, "{worst}");
    }
}
