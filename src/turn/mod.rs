//! Who has the floor.
mod words;
pub use words::{SpokenWord, Word};
