//! Speech recognition, synthesis and language models behind three small traits.
//!
//! Every stream is a bounded channel: back-pressure is the channel's, dropping an end cancels the work. A backend
//! that fails says so once with a [`BackendError`] and ends its stream; it never blocks its caller, and a caller that
//! hears nothing applies its own time-outs.
//!
//! Vendors live one file each; `local/` holds the models that run in this process.

pub mod cache;
#[cfg(feature = "local-models")]
pub mod local;
pub mod openai;
pub mod scripted;

use std::time::Duration;

use tokio::sync::mpsc;

use crate::agent::{Delta, Request};
use crate::audio::Frame;
use crate::time::MediaTime;

/// Why a backend could not do its part.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendError {
    /// The backend could not be reached or refused us.
    #[error("{backend} is unavailable: {reason}")]
    Unavailable {
        /// Which backend.
        backend: &'static str,
        /// What it said; never a secret, never a transcript.
        reason: String,
    },
    /// The backend took longer than it may.
    #[error("{backend} gave nothing for {waited:?}")]
    TimedOut {
        /// Which backend.
        backend: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The backend answered with something that cannot be used.
    #[error("{backend} answered with nonsense: {reason}")]
    Malformed {
        /// Which backend.
        backend: &'static str,
        /// What was wrong, and where.
        reason: String,
    },
    /// A model's files are missing or not what they should be.
    #[error("model {model}: {reason}")]
    Model {
        /// Which model.
        model: &'static str,
        /// What is missing or wrong, with the ways out.
        reason: String,
    },
}

/// Recognises speech. One value serves many calls.
pub trait SpeechToText: Send + Sync {
    /// Opens a stream for one call. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the backend cannot take another stream.
    fn open(&self, language: Option<&str>) -> Result<SttStream, BackendError>;
}

/// One call's recognition stream.
pub struct SttStream {
    /// Audio and turn marks in. Dropping it ends the stream.
    pub input: mpsc::Sender<SttInput>,
    /// Words out. An `Err` is the last item.
    pub events: mpsc::Receiver<Result<SttEvent, BackendError>>,
}

/// What a recogniser is given: all audio of the call in order, and where turns begin and end.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every item is audio; a box for each 20 ms would cost more"
)]
pub enum SttInput {
    /// The next 20 ms of the far end.
    Audio(Frame),
    /// Speech began at `at`, which may lie a little back in the audio already given; words are wanted from there.
    Start {
        /// Number of the utterance, rising.
        utterance: u32,
        /// First voiced sample.
        at: MediaTime,
    },
    /// The callee may have finished: final words for everything up to `at` are wanted as soon as possible.
    Finish {
        /// The utterance that ends.
        utterance: u32,
        /// Last voiced sample.
        at: MediaTime,
    },
    /// The utterance was nothing (a cough) or goes on after all: a running final recognition is not wanted.
    Cancel {
        /// The utterance.
        utterance: u32,
    },
}

/// What a recogniser gives back.
#[derive(Clone, Debug, PartialEq)]
pub enum SttEvent {
    /// Words so far; replaces the earlier partial.
    Partial {
        /// The utterance.
        utterance: u32,
        /// Recognised so far.
        text: String,
    },
    /// The final words. Empty when nothing was said (noise, no speech).
    Final {
        /// The utterance.
        utterance: u32,
        /// What was said.
        text: String,
        /// The words with their times, where the backend knows them.
        words: Vec<Word>,
    },
}

pub use crate::turn::Word;

/// Synthesises speech. One value serves many calls.
pub trait TextToSpeech: Send + Sync {
    /// Starts one utterance. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the backend cannot take another utterance or does not know the voice.
    fn speak(&self, voice: &Voice) -> Result<TtsStream, BackendError>;
}

/// How an utterance should sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Voice {
    /// A configured name, e.g. `jessica`.
    pub name: String,
    /// Pitch factor, 1 for the voice as it is; the simulated callee uses another, so that the two are told apart.
    pub pitch: f32,
    /// Speed factor, 1 for the voice as it is.
    pub speed: f32,
}

impl Default for Voice {
    fn default() -> Self {
        Self { name: "default".into(), pitch: 1.0, speed: 1.0 }
    }
}

/// One utterance being synthesised.
pub struct TtsStream {
    /// Text in, clause by clause. Dropping it says that the text is complete.
    pub text: mpsc::Sender<String>,
    /// Audio out. The channel closes after the last chunk; an `Err` is the last item. Dropping it cancels.
    pub audio: mpsc::Receiver<Result<SpeechChunk, BackendError>>,
}

/// A piece of synthesised speech.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeechChunk {
    /// Mono samples at 8 kHz.
    pub samples: Vec<i16>,
    /// Words that begin in this chunk, at sample offsets from the utterance's start. May be empty.
    pub words: Vec<SpokenWord>,
}

pub use crate::turn::SpokenWord;

/// Writes replies. One value serves many calls.
pub trait LanguageModel: Send + Sync {
    /// Starts one reply. Must be called inside a tokio runtime. Dropping the receiver cancels. A reply ends with
    /// [`Delta::Done`]; an `Err` is the last item.
    ///
    /// # Errors
    /// When the request cannot be sent at all.
    fn complete(&self, request: Request)
    -> Result<mpsc::Receiver<Result<Delta, BackendError>>, BackendError>;
}
