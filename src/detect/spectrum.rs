//! The strongest two tones of the telephone band, every 10 ms.
//!
//! 20 ms of samples flow in, two sets of [`Peaks`] flow out. One complex 256-point FFT serves both hops: one is its
//! real, the other its imaginary part. No allocation.

/// Samples between spectra.
pub(super) const HOP: usize = 80;
const N: usize = 256;
/// Band whose energy counts: 190–3690 Hz.
const BAND: std::ops::RangeInclusive<usize> = 6..=118;
/// Bins that a tone of 250–2000 Hz may peak in.
const TONES: std::ops::RangeInclusive<usize> = 8..=65;
/// Energy of a Hann main lobe over that of its centre bin.
const LOBE: f32 = 1.5;

/// The two strongest tones and the whole band, as mean squares of a signal of full scale 1.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peaks {
    pub(super) first: f32,
    pub(super) first_hz: f32,
    pub(super) second: f32,
    pub(super) second_hz: f32,
    pub(super) total: f32,
}

pub(super) struct Spectrum {
    history: [f32; N + HOP],
    window: [f32; N],
    /// cos and sin of 2πk/N.
    twiddles: [(f32, f32); N / 2],
}

impl Spectrum {
    /// Samples from a spectrum's centre to its end.
    pub(super) const HALF: usize = N / 2;

    pub(super) fn new() -> Self {
        let angle = |k: usize| k as f32 * std::f32::consts::TAU / N as f32;
        Self {
            history: [0.0; N + HOP],
            window: std::array::from_fn(|n| 0.5 - 0.5 * angle(n).cos()),
            twiddles: std::array::from_fn(|k| (angle(k).cos(), angle(k).sin())),
        }
    }

    /// The peaks around 208 and 128 samples before the end of `samples`.
    pub(super) fn observe(&mut self, samples: &[f32; 2 * HOP]) -> [Peaks; 2] {
        self.history.copy_within(2 * HOP.., 0);
        self.history[N - HOP..].copy_from_slice(samples);
        let mut z = [(0.0f32, 0.0f32); N];
        for (n, window) in self.window.iter().enumerate() {
            let to = (n as u8).reverse_bits() as usize;
            z[to] = (self.history[n] * window, self.history[n + HOP] * window);
        }
        self.fft(&mut z);
        let [mut a, mut b] = [[0.0f32; N / 2 + 1]; 2];
        // A tone of amplitude A has |X| = A·N/4 at its bin; its mean square is A²/2.
        let scale = 8.0 / (N * N) as f32;
        for k in 0..=N / 2 {
            let ((pr, pi), (qr, qi)) = (z[k], z[(N - k) % N]);
            let (ar, ai, br, bi) = (pr + qr, pi - qi, pi + qi, qr - pr);
            a[k] = scale * (ar * ar + ai * ai) / 4.0;
            b[k] = scale * (br * br + bi * bi) / 4.0;
        }
        [peaks(&a), peaks(&b)]
    }

    fn fft(&self, z: &mut [(f32, f32); N]) {
        let mut half = 1;
        while half < N {
            let stride = N / (2 * half);
            for block in z.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for ((l, h), (c, s)) in low.iter_mut().zip(high).zip(self.twiddles.iter().step_by(stride)) {
                    let t = (h.0 * c + h.1 * s, h.1 * c - h.0 * s);
                    *h = (l.0 - t.0, l.1 - t.1);
                    *l = (l.0 + t.0, l.1 + t.1);
                }
            }
            half *= 2;
        }
    }
}

fn peaks(power: &[f32; N / 2 + 1]) -> Peaks {
    let strongest = |away: Option<usize>| {
        let free = |k: &usize| away.is_none_or(|a| k.abs_diff(a) > 4);
        TONES
            .filter(free)
            .fold(*TONES.start(), |best, k| if power[k] > power[best] || !free(&best) { k } else { best })
    };
    let lobe = |k: usize| power[k - 2..=k + 2].iter().sum::<f32>() / LOBE;
    let hz = |k: usize| {
        let [a, b, c] = [power[k - 1], power[k], power[k + 1]].map(|p| p.sqrt() + 1e-9);
        // Interpolation for the Hann window from the larger neighbour.
        let part =
            if c > a { (2.0 * c / b - 1.0) / (c / b + 1.0) } else { -(2.0 * a / b - 1.0) / (a / b + 1.0) };
        (k as f32 + part.clamp(-0.6, 0.6)) * 8000.0 / N as f32
    };
    let first = strongest(None);
    let second = strongest(Some(first));
    Peaks {
        first: lobe(first),
        first_hz: hz(first),
        second: lobe(second),
        second_hz: hz(second),
        total: power[BAND].iter().sum::<f32>() / LOBE + 1e-12,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tones_are_measured_in_both_hops() {
        let mut spectrum = Spectrum::new();
        let sample = |n: usize| {
            let t = n as f32 * std::f32::consts::TAU / 8000.0;
            0.2 * (t * 703.0).sin() + 0.1 * (t * 1405.0).sin()
        };
        let mut peaks = [Peaks::default(); 2];
        for frame in 0..4 {
            peaks = spectrum.observe(&std::array::from_fn(|i| sample(160 * frame + i)));
        }
        for p in peaks {
            assert!((p.first_hz - 703.0).abs() < 1.0 && (p.second_hz - 1405.0).abs() < 2.0, "{p:?}");
            assert!((p.first - 0.02).abs() < 0.001 && (p.second - 0.005).abs() < 0.0005, "{p:?}");
            assert!((p.total - 0.025).abs() < 0.001, "{p:?}");
        }
    }
}
