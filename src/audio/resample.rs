//! 8 kHz <-> 16 kHz by a half-band polyphase FIR: flat to 3.4 kHz, more than 50 dB down from 4.6 kHz.
//!
//! Samples in, twice or half as many out, any number per call; nobody passes time, the last samples are the state.
//! Both directions delay by 23 samples at 16 kHz (1.4 ms). A half-band filter is centred on 4 kHz and has every second tap
//! zero, so one of its two phases is a plain delay and the other 24 taps. Source: Kaiser window design, measured in the
//! tests below; image and alias attenuation are the same number because the filter is the same.

use std::f64::consts::PI;

/// Taps of the phase that is not a plain delay.
const TAPS: usize = 24;
/// Delay of the other phase when interpolating [8 kHz samples]; one more when decimating, which takes the earlier phase.
const CENTRE: usize = TAPS / 2 - 1;
/// Samples at 8 kHz worked on at a time: one 20 ms frame.
const BLOCK: usize = 160;
/// Kaiser's shape for 55 dB.
const BETA: f64 = 5.1;

/// Delay through either converter [16 kHz samples].
pub const DELAY: usize = 2 * TAPS / 2 - 1;

/// 8 kHz to 16 kHz.
#[derive(Clone, Debug)]
pub struct Upsampler2 {
    taps: [f32; TAPS],
    line: Line,
}

/// 16 kHz to 8 kHz.
#[derive(Clone, Debug)]
pub struct Downsampler2 {
    taps: [f32; TAPS],
    even: Line,
    odd: Line,
}

impl Upsampler2 {
    /// A converter that has heard silence.
    #[must_use]
    pub fn new() -> Self {
        Self { taps: half_band(), line: Line::new() }
    }

    /// Converts `input` to `out`.
    ///
    /// # Panics
    /// If `out` is not twice as long as `input`, which is the caller's bug.
    pub fn process(&mut self, input: &[i16], out: &mut [i16]) {
        assert_eq!(out.len(), 2 * input.len(), "twice as many samples out as in");
        for (input, out) in input.chunks(BLOCK).zip(out.chunks_mut(2 * BLOCK)) {
            self.line.load(input.iter().copied());
            let filtered = self.line.convolve(&self.taps, input.len());
            let delayed = self.line.delayed(CENTRE);
            for (i, pair) in out.chunks_exact_mut(2).enumerate() {
                // The zeros between the samples halve the gain, hence the factor.
                pair[0] = saturate(2.0 * filtered[i]);
                pair[1] = saturate(delayed[i]);
            }
            self.line.advance(input.len());
        }
    }
}

impl Downsampler2 {
    /// A converter that has heard silence.
    #[must_use]
    pub fn new() -> Self {
        Self { taps: half_band(), even: Line::new(), odd: Line::new() }
    }

    /// Converts `input` to `out`.
    ///
    /// # Panics
    /// If `input` is not twice as long as `out`, which is the caller's bug.
    pub fn process(&mut self, input: &[i16], out: &mut [i16]) {
        assert_eq!(input.len(), 2 * out.len(), "half as many samples out as in");
        for (input, out) in input.chunks(2 * BLOCK).zip(out.chunks_mut(BLOCK)) {
            self.even.load(input.iter().step_by(2).copied());
            self.odd.load(input.iter().skip(1).step_by(2).copied());
            let filtered = self.even.convolve(&self.taps, out.len());
            let delayed = self.odd.delayed(CENTRE + 1);
            for (i, sample) in out.iter_mut().enumerate() {
                *sample = saturate(filtered[i] + 0.5 * delayed[i]);
            }
            self.even.advance(out.len());
            self.odd.advance(out.len());
        }
    }
}

impl Default for Upsampler2 {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Downsampler2 {
    fn default() -> Self {
        Self::new()
    }
}

/// The last `TAPS - 1` samples and behind them up to one block of new ones.
#[derive(Clone, Debug)]
struct Line([f32; TAPS - 1 + BLOCK]);

impl Line {
    const fn new() -> Self {
        Self([0.0; TAPS - 1 + BLOCK])
    }

    fn load(&mut self, samples: impl Iterator<Item = i16>) {
        for (place, sample) in self.0[TAPS - 1..].iter_mut().zip(samples) {
            *place = f32::from(sample);
        }
    }

    /// The symmetric filter over the newest `n` samples. Taps outside, samples inside: that order vectorises.
    fn convolve(&self, taps: &[f32; TAPS], n: usize) -> [f32; BLOCK] {
        let mut out = [0.0; BLOCK];
        for (k, &tap) in taps.iter().enumerate() {
            for (sum, &sample) in out[..n].iter_mut().zip(&self.0[k..k + n]) {
                *sum += tap * sample;
            }
        }
        out
    }

    /// The samples as a single tap `delay` samples back sees them.
    fn delayed(&self, delay: usize) -> &[f32] {
        &self.0[TAPS - 1 - delay..]
    }

    fn advance(&mut self, n: usize) {
        self.0.copy_within(n..n + TAPS - 1, 0);
    }
}

/// The taps at odd distances from the centre, of a filter with unity gain at 16 kHz.
fn half_band() -> [f32; TAPS] {
    let span = TAPS as f64;
    let taps: [f64; TAPS] = std::array::from_fn(|k| {
        let distance = 2.0 * k as f64 - (span - 1.0);
        let sinc = (PI * distance / 2.0).sin() / (PI * distance);
        sinc * bessel_i0(BETA * (1.0 - (distance / span).powi(2)).sqrt()) / bessel_i0(BETA)
    });
    // Exactly half of the gain at 0 Hz comes from this phase, the other half from the centre tap.
    let sum: f64 = taps.iter().sum();
    taps.map(|tap| (tap * 0.5 / sum) as f32)
}

/// Modified Bessel function of order zero, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..25 {
        term *= (x / (2.0 * f64::from(k))).powi(2);
        sum += term;
    }
    sum
}

fn saturate(value: f32) -> i16 {
    // `as` saturates: an overshoot of the filter clips instead of wrapping.
    value.round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level::rms;
    use crate::audio::{Goertzel, Tone};
    use crate::time::Rate;

    const LEVEL: f32 = -6.0;

    fn tone(freq_hz: f32, rate: Rate) -> Vec<i16> {
        let mut samples = vec![0; rate.hz() as usize];
        Tone::new(freq_hz, LEVEL, rate).fill(&mut samples);
        samples
    }

    fn up(input: &[i16]) -> Vec<i16> {
        let mut out = vec![0; input.len() * 2];
        Upsampler2::new().process(input, &mut out);
        out
    }

    fn down(input: &[i16]) -> Vec<i16> {
        let mut out = vec![0; input.len() / 2];
        Downsampler2::new().process(input, &mut out);
        out
    }

    /// Level of `freq_hz` in `samples` [dB relative to the test tone], after the filter has settled.
    fn gain(samples: &[i16], freq_hz: f32, rate: Rate) -> f32 {
        let settled = &samples[samples.len() / 5..samples.len() / 5 * 4];
        let power = Goertzel::new(freq_hz, rate.hz() as f32).power(settled);
        10.0 * (power / (32767.0f32 * 32767.0 / 2.0)).log10() - LEVEL
    }

    #[test]
    fn speech_passes_flat_both_ways() {
        for freq_hz in [100.0, 300.0, 1000.0, 2000.0, 3000.0, 3400.0] {
            let up_gain = gain(&up(&tone(freq_hz, Rate::Hz8000)), freq_hz, Rate::Hz16000);
            let down_gain = gain(&down(&tone(freq_hz, Rate::Hz16000)), freq_hz, Rate::Hz8000);
            assert!(up_gain.abs() < 0.1 && down_gain.abs() < 0.1, "{freq_hz}: {up_gain} {down_gain}");
        }
    }

    #[test]
    fn images_are_fifty_decibels_down() {
        for freq_hz in [500.0, 1000.0, 2000.0, 3000.0, 3400.0] {
            let image = gain(&up(&tone(freq_hz, Rate::Hz8000)), 8000.0 - freq_hz, Rate::Hz16000);
            assert!(image < -50.0, "{freq_hz}: {image}");
        }
    }

    #[test]
    fn aliases_are_fifty_decibels_down() {
        for freq_hz in [4600.0, 5000.0, 6000.0, 7000.0, 7900.0] {
            let samples = down(&tone(freq_hz, Rate::Hz16000));
            let alias = 20.0 * (rms(&samples[100..]) / (32767.0 / 2f32.sqrt())).log10() - LEVEL;
            assert!(alias < -50.0, "{freq_hz}: {alias}");
        }
    }

    #[test]
    fn pieces_of_any_length_join_without_a_seam() {
        let (narrow, wide) = (tone(777.0, Rate::Hz8000), tone(777.0, Rate::Hz16000));
        let (mut upsampler, mut downsampler) = (Upsampler2::new(), Downsampler2::new());
        let (mut ups, mut downs) = (Vec::new(), Vec::new());
        for n in [1, 160, 3, 200, 400, 80] {
            let mut out = vec![0; 2 * n];
            upsampler.process(&narrow[ups.len() / 2..][..n], &mut out);
            let mut less = vec![0; n];
            downsampler.process(&wide[downs.len() * 2..][..2 * n], &mut less);
            ups.extend(out);
            downs.extend(less);
        }
        assert_eq!(ups, up(&narrow)[..ups.len()]);
        assert_eq!(downs, down(&wide)[..downs.len()]);
    }

    #[test]
    fn there_and_back_is_a_delay() {
        let mut noise = vec![0; 4000];
        // Below 3.4 kHz, so that all of it passes.
        for freq_hz in [211.0, 947.0, 1733.0, 3301.0] {
            Tone::new(freq_hz, -15.0, Rate::Hz8000).mix(&mut noise);
        }
        let back = down(&up(&noise));
        // Twice 23 samples at 16 kHz are 23 at 8 kHz.
        let delay = DELAY;
        let error: Vec<i16> = back[delay + 50..].iter().zip(&noise[50..]).map(|(a, b)| a - b).collect();
        assert!(rms(&error) < rms(&noise) / 100.0, "{} of {}", rms(&error), rms(&noise));
    }

    #[test]
    fn overshoot_clips_and_does_not_wrap() {
        let square: Vec<i16> = (0..800).map(|i| if i / 10 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let out = up(&square);
        assert!(out.windows(2).all(|w| w[0].abs_diff(w[1]) < 45_000), "a wrap would jump by 65535");
        assert!(out.contains(&i16::MAX));
    }
}
