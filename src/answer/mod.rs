//! Who answered the call.
mod machine;
mod phrases_en;
mod verdict;
pub use machine::{AnswerOutput, Machine};
pub use verdict::{Class, Verdict};
