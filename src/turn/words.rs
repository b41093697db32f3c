//! Words with times: recognised ones on the leg's timeline, spoken ones as offsets in their utterance.

use serde::{Deserialize, Serialize};

use crate::time::MediaTime;

/// A recognised word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// The word as recognised.
    pub text: String,
    /// First sample.
    pub start: MediaTime,
    /// Last sample.
    pub end: MediaTime,
}

/// A word of an utterance of ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpokenWord {
    /// Byte length of the utterance's text up to and including this word.
    pub text_end: usize,
    /// Where the word ends [8 kHz samples from the utterance's first].
    pub end_sample: u64,
}
