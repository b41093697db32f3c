//! Test tones, beeps and ringback: one or two sines with continuous phase.
//!
//! Samples out, at the rate given to the constructor; nobody passes time, the phase is the state.
//! Levels are dB relative to a full-scale sine (dBFS): 0 dBFS peaks at 32767, which is -3.01 dBov.

use std::f64::consts::TAU;

use crate::time::Rate;

/// A phase-continuous oscillator for one or two frequencies.
#[derive(Clone, Debug)]
pub struct Tone {
    parts: [Part; 2],
}

#[derive(Clone, Debug)]
struct Part {
    /// Cycles, 0 <= phase < 1.
    phase: f64,
    /// Cycles per sample.
    step: f64,
    /// Peak, in sample units.
    amplitude: f64,
}

impl Tone {
    /// One sine of `freq_hz` at `level_dbfs`.
    #[must_use]
    pub fn new(freq_hz: f32, level_dbfs: f32, rate: Rate) -> Self {
        Self { parts: [Part::new(freq_hz, level_dbfs, rate), Part::silent()] }
    }

    /// Two sines, each at `level_dbfs`: DTMF, North American ringback (440 + 480 Hz).
    #[must_use]
    pub fn dual(low_hz: f32, high_hz: f32, level_dbfs: f32, rate: Rate) -> Self {
        Self { parts: [Part::new(low_hz, level_dbfs, rate), Part::new(high_hz, level_dbfs, rate)] }
    }

    /// Overwrites `out` with the tone's next samples.
    pub fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            *sample = saturate(self.next());
        }
    }

    /// Adds the tone's next samples to `out`, clipping at full scale.
    pub fn mix(&mut self, out: &mut [i16]) {
        for sample in out {
            *sample = saturate(f64::from(*sample) + self.next());
        }
    }

    fn next(&mut self) -> f64 {
        self.parts.iter_mut().map(Part::next).sum()
    }
}

impl Part {
    fn new(freq_hz: f32, level_dbfs: f32, rate: Rate) -> Self {
        let amplitude = 32767.0 * 10f64.powf(f64::from(level_dbfs) / 20.0);
        Self { phase: 0.0, step: f64::from(freq_hz) / f64::from(rate.hz()), amplitude }
    }

    const fn silent() -> Self {
        Self { phase: 0.0, step: 0.0, amplitude: 0.0 }
    }

    fn next(&mut self) -> f64 {
        if self.amplitude == 0.0 {
            return 0.0;
        }
        let value = self.amplitude * (self.phase * TAU).sin();
        self.phase = (self.phase + self.step).fract();
        value
    }
}

fn saturate(value: f64) -> i16 {
    // `as` saturates, and this is the clipping a sum of two loud tones needs.
    value.round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Goertzel;
    use crate::audio::level::{peak_dbov, rms_dbov};

    #[test]
    fn a_tone_has_its_level_and_its_frequency() {
        let mut out = [0; 8000];
        Tone::new(1004.0, -10.0, Rate::Hz8000).fill(&mut out);
        assert!((rms_dbov(&out) - -13.01).abs() < 0.01);
        assert!((peak_dbov(&out) - -10.0).abs() < 0.05);
        let power = Goertzel::new(1004.0, 8000.0).power(&out);
        assert!((10.0 * (power / (32768.0f32 * 32768.0)).log10() - -13.01).abs() < 0.05);
    }

    #[test]
    fn pieces_of_any_length_join_without_a_seam() {
        let mut whole = [0; 500];
        Tone::dual(697.0, 1209.0, -9.0, Rate::Hz16000).fill(&mut whole);
        let mut pieces = [0; 500];
        let mut tone = Tone::dual(697.0, 1209.0, -9.0, Rate::Hz16000);
        for piece in pieces.chunks_mut(7) {
            tone.fill(piece);
        }
        assert_eq!(whole, pieces);
    }

    #[test]
    fn mixing_adds_and_clips() {
        let mut out = [32_000; 400];
        Tone::new(440.0, -1.0, Rate::Hz8000).mix(&mut out);
        assert_eq!(out.iter().max(), Some(&i16::MAX));
        assert!(out.iter().any(|&s| s < 10_000));
    }
}
