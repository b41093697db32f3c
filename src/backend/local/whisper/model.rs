//! The recogniser as a pure function: samples in, text out. Loaded once, shared by all calls; each worker brings its
//! own [`WhisperState`], so that nothing of size is allocated while it runs.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use super::decoder::{self, DecoderBuffers, Encoded};
use super::encoder::{self, EncoderBuffers, SilentTail};
use super::file::model_error;
use super::mel::{HZ, Mel, MelBuffers};
use super::vocab::{Suppressed, Vocabulary};
use super::weights::Weights;
use crate::backend::BackendError;

/// Text files of the model are a few hundred kilobytes.
const MAX_TEXT_BYTES: u64 = 8 << 20;
/// Longer speech is cut into windows of at most this [samples at 16 kHz]: 28 s.
pub(super) const MAX_WINDOW: usize = 28 * HZ;
/// A cut is looked for in this much at a window's end [samples]: 4 s.
const CUT_SPAN: usize = 4 * HZ;

/// Whisper tiny.en (English only), its weights and the cached silence. About 110 MB.
pub struct Whisper {
    weights: Weights,
    vocabulary: Vocabulary,
    suppressed: Suppressed,
    mel: Mel,
    tail: SilentTail,
}

/// The buffers of one recognition. Large, but memory is only taken for as much as the longest utterance needed.
pub struct WhisperState {
    mel: MelBuffers,
    encoder: EncoderBuffers,
    decoder: DecoderBuffers,
}

/// What was heard.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    /// The words; empty when nobody spoke.
    pub text: String,
    /// Probability that nobody spoke, 0 to 1; the least of all windows. The text is dropped above one half.
    pub no_speech: f32,
}

impl Whisper {
    /// Loads `model.bin`, `vocabulary.txt` and `config.json` from `dir` and encodes the silence, which takes about a
    /// second of processor time.
    ///
    /// # Errors
    /// [`BackendError::Model`] naming the file and the place that is missing or wrong.
    pub fn load(dir: &Path) -> Result<Self, BackendError> {
        let vocabulary = Vocabulary::parse(&read_text(dir, "vocabulary.txt")?)?;
        let suppressed = Suppressed::parse(&read_text(dir, "config.json")?)?;
        let path = dir.join("model.bin");
        let file = File::open(&path).map_err(|e| model_error(format!("{}: {e}", path.display())))?;
        let weights = Weights::read(BufReader::with_capacity(1 << 16, file))?;
        let mut state = WhisperState::new(&weights);
        Mel::silence(&mut state.mel);
        let tail = encoder::silent_tail(&weights, &state.mel.mel, &mut state.encoder);
        Ok(Self { weights, vocabulary, suppressed, mel: Mel::new(), tail })
    }

    /// Buffers for [`Self::transcribe`].
    #[must_use]
    pub fn state(&self) -> WhisperState {
        WhisperState::new(&self.weights)
    }

    /// Recognises `samples` (16 kHz, mono, ±1; any level). Speech of more than 28 s is cut at its quietest places.
    /// `cancel` is asked between layers and tokens; `None` when it said yes.
    pub fn transcribe(
        &self,
        state: &mut WhisperState,
        samples: &[f32],
        cancel: &dyn Fn() -> bool,
    ) -> Option<Transcript> {
        let mut whole = Transcript { text: String::new(), no_speech: 1.0 };
        let mut rest = samples;
        loop {
            let (window, after) = rest.split_at(window_end(rest));
            let part = self.window(state, window, cancel)?;
            whole.no_speech = whole.no_speech.min(part.no_speech);
            if !whole.text.is_empty() && !part.text.is_empty() {
                whole.text.push(' ');
            }
            whole.text.push_str(&part.text);
            if after.is_empty() {
                return Some(whole);
            }
            rest = after;
        }
    }

    fn window(
        &self,
        state: &mut WhisperState,
        samples: &[f32],
        cancel: &dyn Fn() -> bool,
    ) -> Option<Transcript> {
        let Some(positions) = self.mel.transform(samples, &mut state.mel) else {
            return Some(Transcript { text: String::new(), no_speech: 1.0 });
        };
        let mel = &state.mel.mel;
        if cancel() || !encoder::encode(&self.weights, &self.tail, mel, positions, &mut state.encoder, cancel)
        {
            return None;
        }
        let encoded = Encoded { tail: &self.tail, own: &state.encoder, positions };
        let decoded = decoder::decode(&self.weights, &self.suppressed, encoded, &mut state.decoder, cancel)?;
        Some(Transcript { text: self.vocabulary.text(&decoded.tokens), no_speech: decoded.no_speech })
    }
}

impl WhisperState {
    fn new(weights: &Weights) -> Self {
        Self {
            mel: MelBuffers::new(),
            encoder: EncoderBuffers::new(weights),
            decoder: DecoderBuffers::new(weights),
        }
    }
}

/// Where the first window of `samples` (16 kHz) ends: at their end if they fit, else at the quietest 100 ms near the
/// end of the window.
pub(super) fn window_end(samples: &[f32]) -> usize {
    const STEP: usize = HZ / 10;
    if samples.len() <= MAX_WINDOW {
        return samples.len();
    }
    let first = MAX_WINDOW - CUT_SPAN;
    let mut best = (f32::INFINITY, MAX_WINDOW);
    for (i, step) in samples[first..MAX_WINDOW].chunks_exact(STEP).enumerate() {
        let energy = step.iter().map(|v| v * v).sum();
        if energy < best.0 {
            best = (energy, first + i * STEP + STEP / 2);
        }
    }
    best.1
}

fn read_text(dir: &Path, name: &str) -> Result<String, BackendError> {
    let path = dir.join(name);
    let fail = |e: &dyn std::fmt::Display| model_error(format!("{}: {e}", path.display()));
    let size = fs::metadata(&path).map_err(|e| fail(&e))?.len();
    if size > MAX_TEXT_BYTES {
        return Err(fail(&format!("{size} bytes, more than {MAX_TEXT_BYTES}")));
    }
    fs::read_to_string(&path).map_err(|e| fail(&e))
}

#[cfg(test)]
mod tests {

    use super::super::mel::upsample;
    use super::super::testing::{real_dir, synthetic_dir, wav, words};
    use super::*;

    #[test]
    fn a_synthetic_model_loads_runs_and_can_be_cancelled() {
        let dir = synthetic_dir();
        let whisper = Whisper::load(dir.path()).expect("well-formed");
        let mut state = whisper.state();
        let noise: Vec<f32> = (0..16000).map(|i| ((i * 7919 % 1000) as f32 / 1000.0 - 0.5) * 0.1).collect();
        let heard = whisper.transcribe(&mut state, &noise, &|| false).expect("not cancelled");
        assert!((0.0..=1.0).contains(&heard.no_speech));
        let again = whisper.transcribe(&mut state, &noise, &|| false).expect("not cancelled");
        assert_eq!(heard, again, "a used state gives the same answer");
        assert_eq!(whisper.transcribe(&mut state, &noise, &|| true), None);
        let dead = whisper.transcribe(&mut state, &[0.0; 8000], &|| false).expect("not cancelled");
        assert_eq!(dead, Transcript { text: String::new(), no_speech: 1.0 });
    }

    #[test]
    fn a_missing_or_cut_file_is_named() {
        let dir = synthetic_dir();
        let model = dir.path().join("model.bin");
        let bytes = fs::read(&model).expect("just written");
        fs::write(&model, &bytes[..bytes.len() / 2]).expect("room");
        let error = Whisper::load(dir.path()).err().expect("cut short").to_string();
        assert!(error.contains("model.bin at byte") && error.contains("cut short"), "{error}");
        fs::remove_file(&model).expect("was there");
        let error = Whisper::load(dir.path()).err().expect("missing").to_string();
        assert!(error.starts_with("model whisper-tiny.en: ") && error.contains("model.bin: "), "{error}");
    }

    #[test]
    fn long_speech_is_cut_where_it_is_quiet() {
        let mut samples = vec![0.5; 60 * HZ];
        samples[25 * HZ..25 * HZ + HZ / 2].fill(0.0);
        let end = window_end(&samples);
        assert!((25 * HZ..25 * HZ + HZ / 2).contains(&end), "{end}");
        assert_eq!(window_end(&samples[..MAX_WINDOW]), MAX_WINDOW);
        assert!(window_end(&samples[30 * HZ..]) <= MAX_WINDOW);
    }

    #[test]
    fn a_recorded_sentence_is_understood() {
        let Some(dir) = real_dir() else { return };
        let whisper = Whisper::load(&dir).expect("the real model");
        let mut state = whisper.state();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/whisper/call_me_back_8k.wav");
        let mut samples = Vec::new();
        upsample(&wav(&fixture), &mut samples);
        let heard = whisper.transcribe(&mut state, &samples, &|| false).expect("not cancelled");
        println!("{heard:?}");
        assert_eq!(words(&heard.text).join(" "), "please call me back tomorrow morning about the delivery");
        assert!(heard.no_speech < 0.2, "{}", heard.no_speech);
        let noise: Vec<f32> = (0_u32..32000)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0 * 0.2 - 0.1)
            .collect();
        let noise = whisper.transcribe(&mut state, &noise, &|| false).expect("not cancelled");
        assert!(noise.text.is_empty() && noise.no_speech > 0.5, "{noise:?}");
    }

    /// `LIST=FILE cargo test --release … measure -- --ignored --nocapture`: lines of a WAV path, a tab and the text;
    /// prints the word error rate and the processor time.
    #[test]
    #[ignore = "a measurement; needs a list of recordings"]
    fn measure() {
        let Some(dir) = real_dir() else { return };
        let list = fs::read_to_string(std::env::var("LIST").expect("LIST names a file")).expect("a list");
        let before = cpu_seconds();
        let whisper = Whisper::load(&dir).expect("the real model");
        println!("load {:.2} CPU s", cpu_seconds() - before);
        let mut state = whisper.state();
        let (mut wrong, mut total, mut seconds, mut spent, mut highest) = (0, 0, 0.0, 0.0, 0.0_f32);
        let mut count = 0;
        for line in list.lines() {
            let (path, text) = line.split_once('\t').expect("path and text");
            let mut samples = vec![0; 1600];
            samples.extend(wav(Path::new(path)));
            samples.extend([0; 1600]);
            let before = cpu_seconds();
            let mut wide = Vec::new();
            upsample(&samples, &mut wide);
            let heard = whisper.transcribe(&mut state, &wide, &|| false).expect("not cancelled");
            spent += cpu_seconds() - before;
            seconds += samples.len() as f64 / 8000.0;
            count += 1;
            highest = highest.max(heard.no_speech);
            let (a, b) = (words(text), words(&heard.text));
            let errors = distance(&a, &b);
            if errors > 0 {
                println!(
                    "{errors}/{} {path}\n  want {}\n  got  {} ({:.2})",
                    a.len(),
                    a.join(" "),
                    b.join(" "),
                    heard.no_speech
                );
            }
            wrong += errors;
            total += a.len();
        }
        println!(
            "{count} clips, {seconds:.0} s, WER {:.1} %, {:.0} CPU ms a clip, RTF {:.3}, highest no-speech {highest:.2}",
            100.0 * wrong as f64 / total as f64,
            1000.0 * spent / f64::from(count),
            spent / seconds
        );
    }

    /// Processor time of this thread, which other jobs on the machine do not change (Linux).
    fn cpu_seconds() -> f64 {
        let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        let nanos: f64 = text.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
        nanos / 1e9
    }

    /// Levenshtein distance of words.
    fn distance(a: &[String], b: &[String]) -> usize {
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.iter().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, y) in b.iter().enumerate() {
                let cost = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
                diagonal = std::mem::replace(&mut row[j + 1], cost);
            }
        }
        row[b.len()]
    }
}
