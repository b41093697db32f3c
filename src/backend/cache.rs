//! Remembers synthesised clauses, so that what every call says alike (the disclosure above all) costs nothing and
//! starts at once. Calls that want the same clause at the same time wait for the one that voices it first: many calls
//! placed together would otherwise all voice the same words and starve each other.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::backend::{BackendError, SpeechChunk, SpokenWord, TextToSpeech, TtsStream, Voice};

/// Clauses longer than this are rarely said twice [bytes].
const MAX_TEXT: usize = 400;
/// Samples of one clause that are kept: 30 s.
const MAX_CLAUSE_SAMPLES: usize = 30 * 8000;
/// Chunks voiced ahead of the listener: a clause fits, so that a slow listener holds up nobody who waits for it.
const MAX_CHUNKS_AHEAD: usize = 64;

/// A synthesiser that keeps the clauses it voiced lately.
pub struct CachedSpeech {
    inner: Arc<dyn TextToSpeech>,
    memory: Arc<Mutex<Memory>>,
}

/// A clause as it was voiced: samples, and words relative to its own start.
#[derive(Clone)]
struct Clause {
    samples: Vec<i16>,
    words: Vec<SpokenWord>,
}

struct Memory {
    clauses: HashMap<Key, Arc<Clause>>,
    /// Oldest first.
    order: VecDeque<Key>,
    samples: usize,
    capacity: usize,
    /// Clauses that are being voiced now; whoever holds the lock voices.
    voicing: HashMap<Key, Arc<tokio::sync::Mutex<()>>>,
}

/// Voice, pitch and speed in thousandths, text.
type Key = (String, u32, u32, String);

impl CachedSpeech {
    /// Keeps up to `seconds` of speech (16 kB a second).
    #[must_use]
    pub fn new(inner: Arc<dyn TextToSpeech>, seconds: usize) -> Self {
        let memory = Memory {
            clauses: HashMap::new(),
            order: VecDeque::new(),
            samples: 0,
            capacity: seconds * 8000,
            voicing: HashMap::new(),
        };
        Self { inner, memory: Arc::new(Mutex::new(memory)) }
    }
}

impl TextToSpeech for CachedSpeech {
    fn speak(&self, voice: &Voice) -> Result<TtsStream, BackendError> {
        let (text, texts) = mpsc::channel(16);
        let (audio_tx, audio) = mpsc::channel(MAX_CHUNKS_AHEAD);
        let session = Session {
            inner: Arc::clone(&self.inner),
            memory: Arc::clone(&self.memory),
            voice: voice.clone(),
            audio: audio_tx,
            text_before: 0,
            samples_before: 0,
        };
        tokio::spawn(session.run(texts));
        Ok(TtsStream { text, audio })
    }
}

/// One utterance: each clause from memory, or voiced and remembered.
struct Session {
    inner: Arc<dyn TextToSpeech>,
    memory: Arc<Mutex<Memory>>,
    voice: Voice,
    audio: mpsc::Sender<Result<SpeechChunk, BackendError>>,
    /// Bytes of text in the clauses before this one.
    text_before: usize,
    /// Samples in the clauses before this one.
    samples_before: u64,
}

impl Session {
    async fn run(mut self, mut texts: mpsc::Receiver<String>) {
        while let Some(text) = texts.recv().await {
            let key = (
                self.voice.name.clone(),
                (self.voice.pitch * 1e3) as u32,
                (self.voice.speed * 1e3) as u32,
                text,
            );
            let goes_on = match self.known(&key) {
                Some(clause) => self.replay(&clause).await,
                None => self.voice_or_wait(&key).await,
            };
            if !goes_on {
                return;
            }
            self.text_before += key.3.len();
        }
    }

    fn known(&self, key: &Key) -> Option<Arc<Clause>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clauses.get(key).cloned()
    }

    /// Voices the clause, unless another session is at it: then waits for it to be known, or for its turn.
    async fn voice_or_wait(&mut self, key: &Key) -> bool {
        if key.3.len() > MAX_TEXT {
            return self.voice_clause(key).await;
        }
        let voicing = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(memory.voicing.entry(key.clone()).or_default())
        };
        let turn = tokio::select! {
            turn = voicing.lock_owned() => Some(turn),
            () = self.audio.closed() => None,
        };
        let goes_on = match (&turn, self.known(key)) {
            (None, _) => false,
            (Some(_), Some(clause)) => self.replay(&clause).await,
            (Some(_), None) => self.voice_clause(key).await,
        };
        drop(turn);
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).forget_voicing(key);
        goes_on
    }

    async fn replay(&mut self, clause: &Clause) -> bool {
        let chunk = SpeechChunk { samples: clause.samples.clone(), words: self.shifted(&clause.words) };
        self.samples_before += chunk.samples.len() as u64;
        self.audio.send(Ok(chunk)).await.is_ok()
    }

    /// Words of a clause as words of the utterance.
    fn shifted(&self, words: &[SpokenWord]) -> Vec<SpokenWord> {
        let shift = |w: &SpokenWord| SpokenWord {
            text_end: w.text_end + self.text_before,
            end_sample: w.end_sample + self.samples_before,
        };
        words.iter().map(shift).collect()
    }

    async fn voice_clause(&mut self, key: &Key) -> bool {
        let mut clause = Clause { samples: Vec::new(), words: Vec::new() };
        let stream = match self.inner.speak(&self.voice) {
            Ok(TtsStream { text, audio }) => {
                // A synthesiser that takes no text closes its audio, which is noticed below.
                let _ = text.send(key.3.clone()).await;
                audio
            }
            Err(error) => {
                let _ = self.audio.send(Err(error)).await;
                return false;
            }
        };
        let mut stream = stream;
        while let Some(chunk) = stream.recv().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    let _ = self.audio.send(Err(error)).await;
                    return false;
                }
            };
            clause.samples.extend_from_slice(&chunk.samples);
            clause.words.extend_from_slice(&chunk.words);
            let words = self.shifted(&chunk.words);
            if self.audio.send(Ok(SpeechChunk { samples: chunk.samples, words })).await.is_err() {
                return false;
            }
        }
        self.samples_before += clause.samples.len() as u64;
        if key.3.len() <= MAX_TEXT && clause.samples.len() <= MAX_CLAUSE_SAMPLES && !clause.samples.is_empty()
        {
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).remember(key.clone(), clause);
        }
        true
    }
}

impl Memory {
    /// Drops the lock of a clause that nobody voices and nobody waits for.
    fn forget_voicing(&mut self, key: &Key) {
        if self.voicing.get(key).is_some_and(|voicing| Arc::strong_count(voicing) == 1) {
            self.voicing.remove(key);
        }
    }

    fn remember(&mut self, key: Key, clause: Clause) {
        self.samples += clause.samples.len();
        if let Some(before) = self.clauses.insert(key.clone(), Arc::new(clause)) {
            self.samples -= before.samples.len();
        } else {
            self.order.push_back(key);
        }
        while self.samples > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(forgotten) = self.clauses.remove(&oldest) {
                self.samples -= forgotten.samples.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Voices each byte as 10 samples, each clause as one word, and counts how often it was asked.
    #[derive(Default)]
    struct Counting(Arc<AtomicUsize>);

    impl TextToSpeech for Counting {
        fn speak(&self, _voice: &Voice) -> Result<TtsStream, BackendError> {
            let (text, mut texts) = mpsc::channel::<String>(4);
            let (tx, audio) = mpsc::channel(4);
            let count = Arc::clone(&self.0);
            tokio::spawn(async move {
                while let Some(text) = texts.recv().await {
                    count.fetch_add(1, Ordering::Relaxed);
                    let samples = vec![7; text.len() * 10];
                    let words = vec![SpokenWord { text_end: text.len(), end_sample: samples.len() as u64 }];
                    let _ = tx.send(Ok(SpeechChunk { samples, words })).await;
                }
            });
            Ok(TtsStream { text, audio })
        }
    }

    async fn say(tts: &CachedSpeech, clauses: &[&str]) -> (usize, Vec<SpokenWord>) {
        let mut stream = tts.speak(&Voice::default()).expect("speaks");
        for clause in clauses {
            stream.text.send((*clause).to_owned()).await.expect("takes text");
        }
        drop(stream.text);
        let (mut samples, mut words) = (0, Vec::new());
        while let Some(chunk) = stream.audio.recv().await {
            let chunk = chunk.expect("no error");
            samples += chunk.samples.len();
            words.extend(chunk.words);
        }
        (samples, words)
    }

    #[tokio::test]
    async fn a_clause_is_voiced_once_and_its_words_keep_their_place() {
        let inner = Counting::default();
        let count = Arc::clone(&inner.0);
        let tts = CachedSpeech::new(Arc::new(inner), 60);
        let first = say(&tts, &["Hello.", " An AI."]).await;
        let second = say(&tts, &["Hello.", " An AI."]).await;
        assert_eq!(first, second);
        assert_eq!(first.0, 130);
        assert_eq!(first.1[1], SpokenWord { text_end: 13, end_sample: 130 });
        assert_eq!(count.load(Ordering::Relaxed), 2, "two clauses, each voiced once");
    }

    #[tokio::test]
    async fn calls_that_say_the_same_at_once_voice_it_once() {
        let inner = Counting::default();
        let count = Arc::clone(&inner.0);
        let tts = CachedSpeech::new(Arc::new(inner), 60);
        let (a, b, c) = tokio::join!(say(&tts, &["Hello."]), say(&tts, &["Hello."]), say(&tts, &["Hello."]));
        assert!(a == b && b == c && a.0 == 60, "{a:?} {b:?} {c:?}");
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(tts.memory.lock().expect("no panic").voicing.is_empty(), "nobody waits any more");
    }

    #[tokio::test]
    async fn when_the_first_is_cut_off_the_next_voices() {
        let inner = Counting::default();
        let tts = CachedSpeech::new(Arc::new(inner), 60);
        let cut = tts.speak(&Voice::default()).expect("speaks");
        cut.text.send("Hello.".to_owned()).await.expect("takes text");
        drop(cut);
        assert_eq!(say(&tts, &["Hello."]).await.0, 60);
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let inner = Counting::default();
        let count = Arc::clone(&inner.0);
        let tts = CachedSpeech::new(Arc::new(inner), 0);
        say(&tts, &["again"]).await;
        say(&tts, &["again"]).await;
        assert_eq!(count.load(Ordering::Relaxed), 2, "no room to remember anything");
    }
}
