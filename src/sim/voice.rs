//! A voice without a synthesiser: text becomes a sound that voice-activity detectors take for speech.
//!
//! Not intelligible and not meant to be: a buzzing source through three drifting resonances in syllables of 200 ms,
//! about 14 characters a second. Deterministic in the text.

use crate::time::MediaTime;

/// Samples a character takes, 8 kHz.
const SAMPLES_PER_CHAR: usize = 570;
/// Samples in one syllable.
const SYLLABLE: usize = 1600;

/// Length of `text` when spoken [8 kHz samples].
#[must_use]
pub fn spoken_samples(text: &str) -> u64 {
    (text.chars().count() * SAMPLES_PER_CHAR) as u64
}

/// Length of `text` when spoken, on the timeline.
#[must_use]
pub fn spoken_time(text: &str) -> MediaTime {
    MediaTime::from_samples(spoken_samples(text))
}

/// A two-pole resonance.
#[derive(Clone, Copy, Default)]
struct Resonance {
    a1: f32,
    a2: f32,
    gain: f32,
    y1: f32,
    y2: f32,
}

impl Resonance {
    fn tune(&mut self, freq_hz: f32, width_hz: f32) {
        let r = (-std::f32::consts::PI * width_hz / 8000.0).exp();
        let w = std::f32::consts::TAU * freq_hz / 8000.0;
        self.a1 = 2.0 * r * w.cos();
        self.a2 = -r * r;
        self.gain = 1.0 - r;
    }

    fn pass(&mut self, x: f32) -> f32 {
        let y = self.gain * x + self.a1 * self.y1 + self.a2 * self.y2;
        self.y2 = self.y1;
        self.y1 = y;
        y
    }
}

/// First, second and third resonance [Hz] of five vowels (Peterson and Barney 1952, men).
const VOWELS: [[f32; 3]; 5] = [
    [730.0, 1090.0, 2440.0],
    [530.0, 1840.0, 2480.0],
    [270.0, 2290.0, 3010.0],
    [570.0, 840.0, 2410.0],
    [300.0, 870.0, 2240.0],
];

/// Voices `text` with a pitch of `f0_hz`, about −20 dBFS, 8 kHz.
#[must_use]
pub fn speak(text: &str, f0_hz: f32) -> Vec<i16> {
    let bytes = text.as_bytes();
    let total = spoken_samples(text) as usize;
    let mut out = Vec::with_capacity(total);
    let mut formants = [Resonance::default(); 3];
    let mut phase = 0.0_f32;
    for n in 0..total {
        let syllable = n / SYLLABLE;
        let place = (n % SYLLABLE) as f32 / SYLLABLE as f32;
        if n.is_multiple_of(40) {
            let now = VOWELS[usize::from(bytes[syllable % bytes.len()]) % VOWELS.len()];
            let then = VOWELS[usize::from(bytes[(syllable + 1) % bytes.len()]) % VOWELS.len()];
            for ((formant, a), b) in formants.iter_mut().zip(now).zip(then) {
                formant.tune(a + (b - a) * place, 90.0);
            }
        }
        // Pitch falls over the phrase and wavers within the syllable, as voices do.
        let f0 = f0_hz
            * (1.1 - 0.2 * n as f32 / total as f32)
            * (1.0 + 0.04 * (std::f32::consts::TAU * place).sin());
        phase += f0 / 8000.0;
        let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
        phase = phase.fract();
        let envelope = (std::f32::consts::PI * place).sin().powf(0.6).max(0.05);
        let sum: f32 = formants.iter_mut().zip([1.0, 0.7, 0.4]).map(|(f, g)| g * f.pass(pulse)).sum();
        out.push((sum * envelope * 30_000.0).clamp(-30_000.0, 30_000.0) as i16);
    }
    out
}
