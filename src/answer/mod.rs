//! Who answered the call.
mod verdict;
pub use verdict::{Class, Verdict};
