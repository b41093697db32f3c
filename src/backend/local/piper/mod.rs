//! Synthesis in this process: Piper voices, streamed clause by clause and within the clause chunk by chunk.
//!
//! In: clauses as the agent writes them. Out: 8 kHz speech with the time at which each written word ends. The first
//! chunk of a clause costs its encoder and a quarter second of vocoder; the rest follows while it plays. All
//! inference runs on the shared pool, one chunk a job, so that other calls get their turn in between. Noise is drawn
//! inside the graph: the same text never gives the same samples twice.

mod clause;
mod model;
mod onnx;
mod telephone;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use self::clause::Utterance;
use self::model::{Network, unusable};
use self::telephone::{Finish, Resampler, speech_level};
use super::inference::{InferencePool, Priority};
use super::models::{Model, ModelCache};
use super::text::Dictionary;
use crate::backend::{BackendError, SpeechChunk, TextToSpeech, TtsStream, Voice};

/// Clauses that may wait.
const TEXT_QUEUE: usize = 16;
/// Chunks made ahead of their being taken.
const AUDIO_QUEUE: usize = 4;
/// Speech level on the line: −20 dBFS.
const LEVEL: f32 = 0.1;
/// What is said once at load to learn how loud the voice is.
const CALIBRATION: &str = "Thank you for calling, how can I help?";

/// A loaded voice and its dictionary. About 75 MB; share it.
pub struct Piper {
    network: Network,
    dictionary: Arc<Dictionary>,
    /// Brings the voice to [`LEVEL`].
    gain: f32,
}

impl Piper {
    /// Loads a Piper voice (`.onnx` and its `.onnx.json`) and says one sentence to learn its level, which takes about
    /// half a second of CPU.
    ///
    /// # Errors
    /// [`BackendError::Model`] when a file cannot be read or is not such a voice; [`BackendError::Malformed`] when
    /// the graph does not run.
    pub fn load(onnx: &Path, config: &Path, dictionary: Arc<Dictionary>) -> Result<Self, BackendError> {
        let network = Network::load(onnx, config)?;
        let mut piper = Self { network, dictionary, gain: 1.0 };
        let mut speech = Vec::new();
        let rate = f64::from(piper.network.config().sample_rate);
        for ids in clause::ids_of(&piper, CALIBRATION) {
            let latent = piper.network.encode(&ids, 1.0)?;
            let samples = piper.network.decode(&latent, 0, latent.frames)?;
            let mut resampler = Resampler::new(rate);
            resampler.push(&samples, &mut speech);
            resampler.flush(&mut speech);
        }
        let level = speech_level(&speech);
        if !(level > 1e-4 && level.is_finite()) {
            return Err(unusable(format!("{}: the voice is silent", onnx.display())));
        }
        piper.gain = LEVEL / level;
        Ok(piper)
    }

    /// Loads the voice and the dictionary of the cache.
    ///
    /// # Errors
    /// When a model is missing or unusable; the message names the ways out.
    pub fn from_cache(cache: &ModelCache) -> Result<Self, BackendError> {
        let dir = |model: Model| cache.require(model).map_err(|e| e.for_backend(model));
        let (voice, words) = (dir(Model::PiperJoe)?, dir(Model::CmuDict)?);
        let dictionary = Dictionary::load(&words.join("cmudict.dict"))
            .map_err(|e| BackendError::Model { model: "cmudict", reason: e.to_string() })?;
        let onnx = voice.join("en_US-joe-medium.onnx");
        Self::load(&onnx, &onnx.with_extension("onnx.json"), Arc::new(dictionary))
    }

    fn finish(&self) -> Finish {
        Finish::new(self.gain)
    }
}

/// A voice in this process as a backend. It has one voice, so [`Voice::name`] is not looked at; pitch and speed are.
pub struct LocalPiper {
    piper: Arc<Piper>,
    pool: InferencePool,
}

impl LocalPiper {
    /// A backend that runs on `pool`.
    #[must_use]
    pub const fn new(piper: Arc<Piper>, pool: InferencePool) -> Self {
        Self { piper, pool }
    }
}

impl TextToSpeech for LocalPiper {
    fn speak(&self, voice: &Voice) -> Result<TtsStream, BackendError> {
        for (name, factor) in [("pitch", voice.pitch), ("speed", voice.speed)] {
            if !(0.5..=2.0).contains(&factor) {
                let reason = format!("{name} {factor} is not between 0.5 and 2");
                return Err(BackendError::Unavailable { backend: "piper", reason });
            }
        }
        let (text, clauses) = mpsc::channel(TEXT_QUEUE);
        let (chunks, audio) = mpsc::channel(AUDIO_QUEUE);
        let utterance = Utterance::new(Arc::clone(&self.piper), voice);
        tokio::spawn(speak(utterance, self.pool.clone(), clauses, chunks));
        Ok(TtsStream { text, audio })
    }
}

/// One utterance: takes clauses until there are no more, or until nobody listens.
async fn speak(
    mut utterance: Utterance,
    pool: InferencePool,
    mut clauses: mpsc::Receiver<String>,
    chunks: mpsc::Sender<Result<SpeechChunk, BackendError>>,
) {
    loop {
        let clause = tokio::select! {
            biased;
            () = chunks.closed() => return,
            clause = clauses.recv() => clause,
        };
        let Some(clause) = clause else { return };
        utterance.begin(clause);
        loop {
            if chunks.is_closed() {
                return;
            }
            let (back, result) = oneshot::channel();
            let mut working = utterance;
            let job = Box::new(move || {
                let chunk = working.next_chunk();
                let _ = back.send((working, chunk));
            });
            let unavailable =
                |reason: &str| BackendError::Unavailable { backend: "piper", reason: reason.into() };
            if let Err(full) = pool.submit(Priority::Urgent, job) {
                let _ = chunks.send(Err(unavailable(&full.to_string()))).await;
                return;
            }
            let Ok((returned, chunk)) = result.await else {
                let _ = chunks.send(Err(unavailable("the inference pool gave the job up"))).await;
                return;
            };
            utterance = returned;
            let Some(item) = chunk.transpose() else { break };
            let failed = item.is_err();
            if chunks.send(item).await.is_err() || failed {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::time::Duration;

    use super::*;

    /// The voice of the machine's cache, loaded once; `None`, with a word about it, when it is not there.
    fn cached() -> Option<Arc<Piper>> {
        static PIPER: OnceLock<Option<Arc<Piper>>> = OnceLock::new();
        let load = || match Piper::from_cache(&ModelCache::open(None)) {
            Ok(piper) => Some(Arc::new(piper)),
            Err(error) => {
                assert!(std::env::var_os("PATCHCORD_REQUIRE_PEERS").is_none(), "{error}");
                println!("skipped: {error}");
                None
            }
        };
        PIPER.get_or_init(load).clone()
    }

    fn say(piper: &Arc<Piper>, voice: &Voice, clauses: &[&str]) -> Vec<SpeechChunk> {
        let mut utterance = Utterance::new(Arc::clone(piper), voice);
        let mut chunks = Vec::new();
        for clause in clauses {
            utterance.begin((*clause).to_owned());
            while let Some(chunk) = utterance.next_chunk().expect("the voice works") {
                chunks.push(chunk);
            }
        }
        chunks
    }

    fn seconds(chunks: &[SpeechChunk]) -> f64 {
        chunks.iter().map(|c| c.samples.len()).sum::<usize>() as f64 / 8000.0
    }

    #[test]
    fn chunks_equal_the_whole() {
        let Some(piper) = cached() else { return };
        let ids = clause::ids_of(&piper, "I can help you with that today.").remove(0);
        let latent = piper.network.encode(&ids, 1.0).expect("encodes");
        assert_eq!(
            latent.durations.as_ref().map(|d| d.iter().sum()),
            Some(latent.frames),
            "durations are known"
        );
        let whole = piper.network.decode(&latent, 0, latent.frames).expect("decodes");
        let mut parts = Vec::new();
        for from in (0..latent.frames).step_by(24) {
            parts.extend(piper.network.decode(&latent, from, from + 24).expect("decodes"));
        }
        assert_eq!(parts.len(), whole.len());
        let worst = parts.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "{worst}");
        assert!(piper.network.decode(&latent, 5, 5).expect("empty").is_empty());
    }

    #[test]
    fn every_word_has_its_end_in_order_and_the_last_ends_the_text() {
        let Some(piper) = cached() else { return };
        let clauses = ["Thank you for calling, ", "\u{1f600} ", "your total is $42.18. ", "How can I help?"];
        let text = clauses.concat();
        let chunks = say(&piper, &Voice::default(), &clauses);
        let words: Vec<_> = chunks.iter().flat_map(|c| &c.words).collect();
        let ends: Vec<&str> = words.iter().map(|w| &text[..w.text_end]).collect();
        assert_eq!(ends.len(), 12, "{ends:?}");
        assert!(ends[3].ends_with("calling,"));
        assert!(ends[7].ends_with("$42.18."));
        assert_eq!(words[11].text_end, text.len());
        assert!(words.windows(2).all(|w| w[0].end_sample < w[1].end_sample && w[0].text_end < w[1].text_end));
        let total: usize = chunks.iter().map(|c| c.samples.len()).sum();
        assert!(words[11].end_sample <= total as u64 && words[11].end_sample + 4000 > total as u64);
        // The amount takes longer than any other written word.
        let spans = words.windows(2).map(|w| w[1].end_sample - w[0].end_sample);
        assert_eq!(spans.enumerate().max_by_key(|s| s.1).map(|s| s.0), Some(6));
    }

    #[test]
    fn words_come_with_the_chunk_in_which_they_begin() {
        let Some(piper) = cached() else { return };
        let chunks =
            say(&piper, &Voice::default(), &["I can help you with that today, if you give me your number."]);
        assert!(chunks.len() > 3);
        let mut from = 0;
        for chunk in &chunks {
            assert!(
                chunk.words.iter().all(|w| w.end_sample > from),
                "a word that ended before its chunk began"
            );
            from += chunk.samples.len() as u64;
        }
        assert!(chunks[0].samples.len() < 2400 && !chunks[0].words.is_empty());
    }

    #[test]
    fn pitch_keeps_the_length_and_speed_changes_it() {
        let Some(piper) = cached() else { return };
        let text = ["Please hold the line while I look that up for you."];
        let length = |pitch, speed| seconds(&say(&piper, &Voice { name: "x".into(), pitch, speed }, &text));
        let plain = length(1.0, 1.0);
        for pitch in [0.8, 1.3] {
            let ratio = length(pitch, 1.0) / plain;
            assert!((0.8..1.25).contains(&ratio), "pitch {pitch}: {ratio}");
        }
        let ratio = length(1.0, 1.6) / plain;
        assert!((0.5..0.8).contains(&ratio), "speed: {ratio}");
    }

    #[test]
    fn the_level_is_the_telephones_and_silence_frames_the_speech() {
        let Some(piper) = cached() else { return };
        for pitch in [1.0, 1.25] {
            let voice = Voice { pitch, ..Voice::default() };
            let chunks = say(&piper, &voice, &["Good morning, this is the front desk speaking."]);
            let samples: Vec<f32> =
                chunks.iter().flat_map(|c| &c.samples).map(|s| f32::from(*s) / 32768.0).collect();
            let level = 20.0 * speech_level(&samples).log10();
            assert!((-23.0..-17.0).contains(&level), "pitch {pitch}: {level} dBFS");
        }
    }

    #[test]
    fn texts_without_a_word_make_no_sound() {
        let Some(piper) = cached() else { return };
        assert!(say(&piper, &Voice::default(), &["", "...", "\u{1f600}", "日本"]).is_empty());
    }

    #[test]
    fn very_long_words_and_clauses_stay_bounded() {
        let Some(piper) = cached() else { return };
        let long = "wonderful".repeat(60);
        for ids in clause::ids_of(&piper, &format!("{long} {long}, {}", "a1".repeat(900))) {
            assert!(ids.len() <= model::MAX_IDS, "{}", ids.len());
        }
    }

    #[tokio::test]
    async fn a_stream_ends_after_its_last_clause_and_a_dropped_one_stops() {
        let Some(piper) = cached() else { return };
        let pool = InferencePool::with_threads(1);
        let backend = LocalPiper::new(piper, pool.clone());
        let mut stream = backend.speak(&Voice::default()).expect("opens");
        stream.text.send("Sure. ".into()).await.expect("taken");
        stream.text.send("Bye.".into()).await.expect("taken");
        drop(stream.text);
        let mut words = 0;
        while let Some(chunk) = stream.audio.recv().await {
            words += chunk.expect("speech").words.len();
        }
        assert_eq!(words, 2);

        let mut stream = backend.speak(&Voice::default()).expect("opens");
        stream
            .text
            .send("This is a rather long sentence that nobody will hear. ".repeat(8))
            .await
            .expect("taken");
        assert!(stream.audio.recv().await.is_some_and(|c| c.is_ok()));
        drop(stream.audio);
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.text.closed()).await;
        assert!(closed.is_ok(), "the task ends when nobody listens");
    }

    #[tokio::test]
    async fn voices_out_of_range_are_refused() {
        let Some(piper) = cached() else { return };
        let backend = LocalPiper::new(piper, InferencePool::with_threads(1));
        for (pitch, speed) in [(0.0, 1.0), (1.0, f32::NAN), (3.0, 1.0), (1.0, -1.0)] {
            assert!(backend.speak(&Voice { name: "x".into(), pitch, speed }).is_err());
        }
    }

    #[test]
    fn first_audio_is_quick() {
        let Some(piper) = cached() else { return };
        for clause in ["Sure.", "I can help you with that today.", "Thank you for calling, how can I help?"] {
            let mut utterance = Utterance::new(Arc::clone(&piper), &Voice::default());
            #[expect(clippy::disallowed_methods, reason = "a measurement, printed only")]
            let start = std::time::Instant::now();
            utterance.begin(clause.into());
            let chunk = utterance.next_chunk().expect("works").expect("speech");
            let first = start.elapsed();
            let mut audio = chunk.samples.len();
            while let Some(chunk) = utterance.next_chunk().expect("works") {
                audio += chunk.samples.len();
            }
            println!(
                "{clause:?}: first chunk {:.0} ms, all {:.0} ms for {:.2} s of speech (wall, one thread)",
                first.as_secs_f64() * 1e3,
                start.elapsed().as_secs_f64() * 1e3,
                audio as f64 / 8000.0
            );
        }
    }
}
