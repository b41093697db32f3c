//! A voice without a synthesiser: text becomes a sound that voice-activity detectors take for speech.
//!
//! Not intelligible and not meant to be: a glottal buzz and noise through four resonances (a cascade as in Klatt,
//! "Software for a cascade/parallel formant synthesizer", 1980), one sound for each letter, 14 letters a second.
//! Text in, 8 kHz samples out; the same text and pitch give the same samples. [`word_ends`] says when each word ends.

use crate::time::MediaTime;

/// Samples a character takes, 8 kHz.
const SAMPLES_PER_CHAR: usize = 570;
/// Samples between two looks at where the sound goes: 5 ms.
const STEP: usize = 40;
/// Brings a vowel to about −20 dBFS.
const LOUDNESS: f32 = 13_000.0;

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

/// The words of `text`: where each ends, in bytes of `text` and in samples of it when spoken.
pub fn word_ends(text: &str) -> impl Iterator<Item = (usize, u64)> + '_ {
    text.char_indices().enumerate().filter_map(move |(n, (at, c))| {
        let end = at + c.len_utf8();
        let last = text[end..].chars().next().is_none_or(char::is_whitespace);
        (last && !c.is_whitespace()).then_some((end, ((n + 1) * SAMPLES_PER_CHAR) as u64))
    })
}

/// A two-pole resonance with a gain of one at 0 Hz.
#[derive(Clone, Copy, Default)]
struct Resonance {
    a1: f32,
    a2: f32,
    y1: f32,
    y2: f32,
}

impl Resonance {
    fn tune(&mut self, freq_hz: f32, width_hz: f32) {
        let r = (-std::f32::consts::PI * width_hz / 8000.0).exp();
        self.a1 = 2.0 * r * (std::f32::consts::TAU * freq_hz / 8000.0).cos();
        self.a2 = -r * r;
    }

    fn pass(&mut self, x: f32) -> f32 {
        let y = (1.0 - self.a1 - self.a2) * x + self.a1 * self.y1 + self.a2 * self.y2;
        self.y2 = self.y1;
        self.y1 = y;
        y
    }
}

/// What a letter sounds like.
#[derive(Clone, Copy)]
struct Sound {
    /// First, second and third resonance (Hz).
    formants: [f32; 3],
    voice: f32,
    noise: f32,
    /// Share of the letter that is silent before it sounds: the closure of a plosive.
    closed: f32,
}

/// Vowels by Peterson and Barney 1952 (men), the other letters by rule.
fn sound(c: char) -> Sound {
    let make = |formants: [f32; 3], voice, noise, closed| Sound { formants, voice, noise, closed };
    match c.to_ascii_lowercase() {
        'a' => make([730.0, 1090.0, 2440.0], 1.0, 0.0, 0.0),
        'e' => make([530.0, 1840.0, 2480.0], 1.0, 0.0, 0.0),
        'i' | 'y' => make([300.0, 2250.0, 2950.0], 0.9, 0.0, 0.0),
        'o' => make([570.0, 840.0, 2410.0], 1.0, 0.0, 0.0),
        'u' => make([330.0, 870.0, 2240.0], 0.9, 0.0, 0.0),
        'l' | 'm' | 'n' | 'r' | 'w' => make([320.0, 1200.0, 2300.0], 0.6, 0.0, 0.0),
        's' | 'z' | 'x' | 'c' => make([320.0, 1700.0, 3000.0], 0.25, 0.25, 0.0),
        'f' | 'h' | 'v' => make([400.0, 1300.0, 2500.0], 0.4, 0.1, 0.0),
        'p' | 't' | 'k' | 'q' => make([350.0, 1600.0, 2700.0], 0.5, 0.25, 0.5),
        'b' | 'd' | 'g' | 'j' => make([300.0, 1500.0, 2500.0], 0.6, 0.05, 0.35),
        '.' | '?' | '!' | ',' | ';' | ':' => make([500.0, 1500.0, 2500.0], 0.0, 0.0, 0.0),
        // Words run into each other.
        c if c.is_whitespace() => make([500.0, 1500.0, 2500.0], 0.35, 0.0, 0.0),
        _ => make([500.0, 1500.0, 2500.0], 0.8, 0.0, 0.0),
    }
}

/// Voices `text` with a pitch of about `f0_hz`, about −20 dBFS, 8 kHz.
#[must_use]
pub fn speak(text: &str, f0_hz: f32) -> Vec<i16> {
    let sounds: Vec<Sound> = text.chars().map(sound).collect();
    let total = sounds.len() * SAMPLES_PER_CHAR;
    let mut out = Vec::with_capacity(total);
    let mut cascade = [Resonance::default(); 4];
    cascade[3].tune(3400.0, 300.0);
    let mut dice = 0x2545_f491_u32;
    let (mut phase, mut pitch) = (0.0_f32, f0_hz);
    let (mut voice, mut noise, mut tilt, mut slow) = (0.0_f32, 0.0_f32, 0.0_f32, 0.0_f32);
    let (mut to_voice, mut to_noise) = (0.0, 0.0);
    let mut formants = [500.0, 1500.0, 2500.0];
    for n in 0..total {
        if n % STEP == 0 {
            let now = sounds[n / SAMPLES_PER_CHAR];
            let place = (n % SAMPLES_PER_CHAR) as f32 / SAMPLES_PER_CHAR as f32;
            let open = place >= now.closed;
            (to_voice, to_noise) = if open { (now.voice, now.noise) } else { (0.03, 0.0) };
            for ((formant, target), (tube, width)) in
                formants.iter_mut().zip(now.formants).zip(cascade.iter_mut().zip([70.0, 100.0, 160.0]))
            {
                *formant += 0.25 * (target - *formant);
                tube.tune(*formant, width);
            }
            // Pitch falls over the phrase, rises and falls with the words, and wavers, as voices do.
            let seconds = n as f32 / 8000.0;
            let melody = (std::f32::consts::TAU * 1.7 * seconds).sin();
            let waver = (std::f32::consts::TAU * 5.3 * seconds).sin();
            pitch = f0_hz * (1.12 - 0.2 * n as f32 / total as f32 + 0.1 * melody + 0.015 * waver);
        }
        // Loudness follows within 8 ms, so that nothing clicks.
        voice += 0.015 * (to_voice - voice);
        noise += 0.015 * (to_noise - noise);
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let hiss = (dice >> 8) as f32 / 8_388_608.0 - 1.0;
        phase += pitch / 8000.0;
        let pulse = if phase >= 1.0 { 8000.0 / pitch } else { 0.0 };
        phase = phase.fract();
        // The glottis and the lips together fall by 6 dB an octave and pass nothing steady.
        tilt += 0.25 * (pulse * voice * (1.0 + 0.1 * hiss) - tilt);
        slow += 0.05 * (tilt - slow);
        let source = (tilt - slow) * 0.035 + hiss * noise * 0.06;
        let sample = cascade.iter_mut().fold(source, |x, tube| tube.pass(x));
        out.push((sample * LOUDNESS).clamp(-30_000.0, 30_000.0) as i16);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Frame, level};
    use crate::detect::{Chain, ChainConfig, VadModel, testing};
    use crate::signal::{SignalKind, Signals};
    use crate::time::Rate;

    /// Where the detectors find speech, in ms from the first sample of the voice.
    fn found(model: &VadModel, voice: &[i16]) -> Vec<(bool, i64)> {
        let mut pcm = vec![0; 8000];
        pcm.extend(voice);
        pcm.resize(pcm.len() + 8000, 0);
        let mut chain = Chain::new(&ChainConfig { vad: model.clone() });
        let (mut out, mut all) = (Signals::new(), Vec::new());
        for (i, samples) in pcm.as_chunks::<160>().0.iter().enumerate() {
            out.clear();
            let at = MediaTime::from_samples(160 * i as u64);
            chain.observe(&Frame::from_samples(at, Rate::Hz8000, samples), &mut out);
            all.extend(out.iter().map(|s| (s.kind == SignalKind::SpeechStart, s.at.as_ms() as i64 - 1000)));
        }
        all
    }

    #[test]
    fn both_detectors_take_it_for_one_piece_of_speech() {
        let texts = [
            "Good morning, Riverside Dental. How can I help you?",
            "Sorry, who is calling please?",
            "Mm-hmm.",
            "Yes.",
            "Hello? Who is this? Why do you call?",
        ];
        let models = [Some(VadModel::Earshot), testing::weights().map(VadModel::Silero)];
        for model in models.iter().flatten() {
            for (text, f0) in texts.iter().flat_map(|t| [(t, 110.0), (t, 190.0)]) {
                let found = found(model, &speak(text, f0));
                let length = spoken_time(text).as_ms() as i64;
                assert_eq!(found.len(), 2, "{model:?} {text} at {f0} Hz: {found:?}");
                assert!(found[0].0 && found[0].1 < 180, "{model:?} {text} at {f0} Hz: {found:?}");
                assert!((length - 130..=length + 40).contains(&found[1].1), "{model:?} {text}: {found:?}");
            }
        }
    }

    #[test]
    fn it_is_as_loud_as_a_voice_on_the_telephone_and_always_the_same() {
        for f0 in [110.0, 190.0] {
            let voice = speak("This is how a voice of the simulation sounds.", f0);
            assert!((-26.0..-18.0).contains(&level::rms_dbov(&voice)), "{}", level::rms_dbov(&voice));
            assert_eq!(voice, speak("This is how a voice of the simulation sounds.", f0));
        }
        assert!(speak("", 110.0).is_empty());
    }

    #[test]
    fn words_end_where_their_last_letter_ends() {
        let ends: Vec<_> = word_ends(" Ja, é so.").collect();
        assert_eq!(ends, [(4, 4 * 570), (7, 6 * 570), (11, 10 * 570)]);
        assert_eq!(spoken_samples(" Ja, é so."), 10 * 570);
    }
}
