//! Who has the floor: endpointing, barge-in, backchannel. See [`Machine`].
mod machine;
mod phrases;
mod words;
pub use machine::{Machine, Output, TurnConfig, Utterance};
pub use phrases::{is_backchannel, looks_complete, looks_unfinished};
pub use words::{SpokenWord, Word};
