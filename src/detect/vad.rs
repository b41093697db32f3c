//! Voice activity: when the far end starts and stops to speak.
//!
//! 8 kHz frames flow in, `SpeechStart` and `SpeechEnd` flow out; time is the frames' own position. A network
//! (Silero, or `earshot` when its weights are not there) gives one probability for each 32 ms window; hysteresis
//! is counted in windows. Speech that is both close to the line's noise floor and far below the talker's own level
//! is other people in the talker's room: it never starts speech, and holds it only weakly.
//!
//! The end is reported after a short hangover (7 windows, 224 ms): it says that the voice stopped, not that the
//! turn is over, which is the turn machine's to judge.

use std::sync::Arc;

use super::silero::{Silero, SileroWeights, WINDOW};
use super::upsample::Upsampler;
use super::{Detector, narrow};
use crate::audio::Frame;
use crate::signal::{Signal, SignalKind, Signals};
use crate::time::MediaTime;

/// The network behind [`Vad`].
#[derive(Clone, Debug, Default)]
pub enum VadModel {
    /// Silero v6, shared weights.
    Silero(Arc<SileroWeights>),
    /// The network inside the `earshot` crate: needs no file, but takes steady noise for speech.
    #[default]
    Earshot,
}

/// Above this a window is speech, below [`OFF`] it is not.
const ON: f32 = 0.5;
const OFF: f32 = 0.3;
/// One window this sure starts speech at once; otherwise two in a row do.
const SURE: f32 = 0.9;
const WINDOWS_ON: u32 = 2;
/// Quiet windows before speech has ended.
const HANGOVER: f32 = 7.0;
/// How much of a quiet window a faint, background-like one counts.
const FAINT: f32 = 0.25;
/// Windows before the decision that belong to the start when they are this probable.
const LOOK_BACK: usize = 3;
const LOOK_BACK_OVER: f32 = 0.25;
/// A window is background when it is within this of the noise floor (dB) …
const OVER_FLOOR_DB: f32 = 10.0;
/// … and this far below the talker's level (dB).
const UNDER_TALKER_DB: f32 = 14.0;
/// The talker's level before anyone spoke (dBFS); rises fast, falls 0.6 dB a second of speech.
const FIRST_TALKER_DB: f32 = -26.0;
const LOWEST_TALKER_DB: f32 = -55.0;
/// Levels below this are lost packets or a muted line, and say nothing of the noise (dBFS).
const MUTED_DB: f32 = -75.0;

enum Network {
    Silero(Box<Silero>),
    Earshot { detector: Box<earshot::Detector>, upsampler: Upsampler },
}

impl Network {
    fn new(model: &VadModel) -> Self {
        match model {
            VadModel::Silero(weights) => Self::Silero(Box::new(Silero::new(weights.clone()))),
            VadModel::Earshot => Self::Earshot { detector: Box::default(), upsampler: Upsampler::new() },
        }
    }

    fn process(&mut self, window: &[f32; WINDOW]) -> f32 {
        match self {
            Self::Silero(silero) => silero.process(window),
            Self::Earshot { detector, upsampler } => {
                let mut sum = 0.0;
                for half in window.as_chunks::<128>().0 {
                    // Loud audio overshoots full scale between its samples; earshot's contract is -1 to 1.
                    let wide = upsampler.process(half).map(|s| s.clamp(-1.0, 1.0));
                    sum += detector.predict_f32(&wide);
                }
                sum / 2.0
            }
        }
    }

    fn reset(&mut self) {
        match self {
            Self::Silero(silero) => silero.reset(),
            Self::Earshot { detector, upsampler } => {
                detector.reset();
                *upsampler = Upsampler::new();
            }
        }
    }
}

/// The lowest smoothed level of the last eight seconds, in blocks of 0.8 s.
struct NoiseFloor {
    smoothed: Option<f32>,
    blocks: [f32; 10],
    windows: u32,
}

impl NoiseFloor {
    const NEW: Self = Self { smoothed: None, blocks: [f32::MAX; 10], windows: 0 };

    fn observe(&mut self, level_db: f32) -> f32 {
        if level_db > MUTED_DB {
            let before = self.smoothed.unwrap_or(level_db);
            let smoothed = before + 0.3 * (level_db - before);
            self.smoothed = Some(smoothed);
            if self.windows.is_multiple_of(25) {
                self.blocks.rotate_right(1);
                self.blocks[0] = smoothed;
            }
            self.blocks[0] = self.blocks[0].min(smoothed);
            self.windows = self.windows.wrapping_add(1);
        }
        let floor = self.blocks.iter().copied().fold(f32::MAX, f32::min);
        if floor == f32::MAX { -90.0 } else { floor }
    }
}

#[derive(Clone, Copy, Default)]
struct Past {
    start: MediaTime,
    probability: f32,
    background: bool,
}

/// The voice activity detector of one stream.
pub struct Vad {
    network: Network,
    pending: [f32; WINDOW],
    filled: usize,
    floor: NoiseFloor,
    talker_db: f32,
    /// The latest windows, newest first.
    past: [Past; LOOK_BACK + WINDOWS_ON as usize],
    run: u32,
    speaking: bool,
    quiet: f32,
    last_voiced: MediaTime,
}

impl std::fmt::Debug for Vad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vad(speaking: {})", self.speaking)
    }
}

impl Vad {
    /// A detector at the start of a stream.
    #[must_use]
    pub fn new(model: &VadModel) -> Self {
        Self {
            network: Network::new(model),
            pending: [0.0; WINDOW],
            filled: 0,
            floor: NoiseFloor::NEW,
            talker_db: FIRST_TALKER_DB,
            past: Default::default(),
            run: 0,
            speaking: false,
            quiet: 0.0,
            last_voiced: MediaTime::ZERO,
        }
    }

    /// Whether the far end is speaking, as far as reported.
    #[must_use]
    pub const fn speaking(&self) -> bool {
        self.speaking
    }

    /// The probability of speech in the latest 32 ms window, 0 to 1.
    #[must_use]
    pub const fn probability(&self) -> f32 {
        self.past[0].probability
    }

    /// The stream broke off at `at`: speech under way ends with its last voiced sample, and the next frame begins
    /// a new stream. What is known of levels stays.
    pub fn handle_gap(&mut self, at: MediaTime, out: &mut Signals) {
        if self.speaking {
            out.push(Signal { at: self.last_voiced.min(at), decided: at, kind: SignalKind::SpeechEnd });
        }
        self.network.reset();
        self.filled = 0;
        self.past = Default::default();
        self.run = 0;
        self.speaking = false;
    }

    fn window(&mut self, end: MediaTime, decided: MediaTime, out: &mut Signals) {
        let energy: f32 = self.pending.iter().map(|s| s * s).sum();
        let level_db = 10.0 * (energy / WINDOW as f32 + 1e-12).log10();
        let probability = self.network.process(&self.pending);
        let floor = self.floor.observe(level_db);
        let background = level_db < floor + OVER_FLOOR_DB && level_db < self.talker_db - UNDER_TALKER_DB;
        if probability > ON && !background {
            let step = if level_db > self.talker_db { 0.3 * (level_db - self.talker_db) } else { -0.02 };
            self.talker_db = (self.talker_db + step).max(LOWEST_TALKER_DB);
        }
        self.past.rotate_right(1);
        self.past[0] = Past { start: end.minus(WINDOW as u64), probability, background };
        if self.speaking {
            self.hold(end, decided, out);
        } else {
            self.seek(end, decided, out);
        }
    }

    fn seek(&mut self, end: MediaTime, decided: MediaTime, out: &mut Signals) {
        let now = self.past[0];
        let voiced = now.probability > ON && !now.background;
        self.run = if voiced { self.run + 1 } else { 0 };
        if self.run < WINDOWS_ON && !(voiced && now.probability > SURE) {
            return;
        }
        let first = (self.run.min(WINDOWS_ON) - 1) as usize;
        let mut start = self.past[first].start;
        for past in &self.past[first + 1..=first + LOOK_BACK] {
            if past.probability <= LOOK_BACK_OVER || past.background {
                break;
            }
            start = past.start;
        }
        self.speaking = true;
        self.quiet = 0.0;
        // Speech that goes on after a reported end does not begin before that end.
        let start = start.max(self.last_voiced);
        self.last_voiced = end;
        out.push(Signal { at: start, decided, kind: SignalKind::SpeechStart });
    }

    fn hold(&mut self, end: MediaTime, decided: MediaTime, out: &mut Signals) {
        let now = self.past[0];
        match (now.probability > OFF, now.background) {
            (true, false) => {
                self.last_voiced = end;
                self.quiet = 0.0;
            }
            (true, true) => self.quiet += FAINT,
            (false, _) => self.quiet += 1.0,
        }
        if self.quiet >= HANGOVER {
            self.speaking = false;
            self.run = 0;
            out.push(Signal { at: self.last_voiced, decided, kind: SignalKind::SpeechEnd });
        }
    }
}

impl Detector for Vad {
    fn observe(&mut self, frame: &Frame, out: &mut Signals) {
        let samples = narrow(frame);
        for (i, sample) in samples.iter().enumerate() {
            self.pending[self.filled] = *sample;
            self.filled += 1;
            if self.filled == WINDOW {
                self.filled = 0;
                self.window(frame.at.plus(i as u64 + 1), frame.end(), out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing;
    use crate::time::Rate;

    fn run(vad: &mut Vad, pcm: &[i16]) -> Vec<Signal> {
        let mut out = Signals::new();
        let mut all = Vec::new();
        for (i, samples) in pcm.as_chunks::<160>().0.iter().enumerate() {
            out.clear();
            let at = MediaTime::from_samples(160 * i as u64);
            vad.observe(&Frame::from_samples(at, Rate::Hz8000, samples), &mut out);
            all.extend(out.iter());
        }
        all
    }

    fn noise(samples: usize, amplitude: i32) -> Vec<i16> {
        let mut state = 3u32;
        (0..samples)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((((state >> 16) as i32) - 32768) * amplitude / 32768) as i16
            })
            .collect()
    }

    #[test]
    fn silence_and_faint_noise_are_no_speech_with_either_network() {
        let mut models = vec![VadModel::Earshot];
        models.extend(testing::weights().map(VadModel::Silero));
        for model in &models {
            assert_eq!(run(&mut Vad::new(model), &vec![0; 32_000]), []);
        }
        if let Some(silero) = models.get(1) {
            assert_eq!(run(&mut Vad::new(silero), &noise(80_000, 3000)), []);
        }
    }

    #[test]
    fn full_scale_audio_that_overshoots_between_samples_is_taken() {
        let square: Vec<i16> =
            (0..16_000).map(|i| if i / 9 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        for model in [Some(VadModel::Earshot), testing::weights().map(VadModel::Silero)].iter().flatten() {
            run(&mut Vad::new(model), &square);
        }
    }

    #[test]
    fn recorded_speech_starts_soon_and_ends_where_the_voice_ended() {
        let Some(pcm) = testing::dev_audio("calls/vm_003.wav") else { return };
        let models = [Some(VadModel::Earshot), testing::weights().map(VadModel::Silero)];
        for model in models.iter().flatten() {
            let found = run(&mut Vad::new(model), &pcm);
            assert_eq!(found[0].kind, SignalKind::SpeechStart);
            // Labelled 0.810 to 5.080, then from 5.500 on.
            assert!(
                found[0].at.as_ms().abs_diff(810) < 100 && found[0].decided.as_ms() < 810 + 200,
                "{found:?}"
            );
            assert!(found.is_sorted_by_key(|s| s.at) && found.is_sorted_by_key(|s| s.decided), "{found:?}");
            assert!(found.iter().all(|s| s.at <= s.decided));
            let kinds: Vec<_> = found.iter().map(|s| s.kind == SignalKind::SpeechStart).collect();
            assert!(
                kinds.iter().enumerate().all(|(i, start)| *start == (i % 2 == 0)),
                "starts and ends alternate"
            );
            if matches!(model, VadModel::Silero(_)) {
                assert!(
                    found[1].at < found[1].decided.minus(8 * 190),
                    "the hangover is not part of the speech"
                );
            }
        }
    }

    #[test]
    fn a_gap_ends_the_speech_under_way() {
        let Some(pcm) = testing::dev_audio("calls/vm_003.wav") else { return };
        let mut vad = Vad::new(&VadModel::Earshot);
        let found = run(&mut vad, &pcm[..16_000]);
        assert!(vad.speaking(), "{found:?}");
        let mut out = Signals::new();
        vad.handle_gap(MediaTime::from_ms(2000), &mut out);
        let end = out.iter().next().expect("an end");
        assert_eq!((end.kind, end.decided), (SignalKind::SpeechEnd, MediaTime::from_ms(2000)));
        assert!(end.at <= end.decided && !vad.speaking());
        out.clear();
        vad.handle_gap(MediaTime::from_ms(2100), &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn the_noise_floor_follows_the_quietest_of_eight_seconds() {
        let mut floor = NoiseFloor::NEW;
        assert_eq!(floor.observe(-90.0), -90.0);
        for _ in 0..50 {
            floor.observe(-50.0);
        }
        for _ in 0..100 {
            floor.observe(-20.0);
        }
        assert!((floor.observe(-20.0) + 50.0).abs() < 0.1);
        for _ in 0..250 {
            floor.observe(-30.0);
        }
        assert!((floor.observe(-30.0) + 30.0).abs() < 0.5);
    }

    #[test]
    #[ignore = "prints a time; run alone"]
    #[expect(clippy::disallowed_methods, reason = "measures wall time")]
    fn time_of_a_frame() {
        use crate::detect::{Chain, ChainConfig};
        let Some(pcm) = testing::dev_audio("calls/vm_003.wav") else { return };
        let models = [Some(VadModel::Earshot), testing::weights().map(VadModel::Silero)];
        for model in models.into_iter().flatten() {
            let mut best = f64::MAX;
            for _ in 0..7 {
                let mut chain = Chain::new(&ChainConfig { vad: model.clone() });
                let mut out = Signals::new();
                let start = std::time::Instant::now();
                for (i, samples) in pcm.as_chunks::<160>().0.iter().enumerate() {
                    out.clear();
                    let at = MediaTime::from_samples(160 * i as u64);
                    chain.observe(&Frame::from_samples(at, Rate::Hz8000, samples), &mut out);
                }
                best = best.min(start.elapsed().as_secs_f64() / (pcm.len() / 160) as f64);
            }
            println!("chain with {model:?}: {:.1} us a frame of 20 ms (best of 7)", best * 1e6);
        }
    }
}
