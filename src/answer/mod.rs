//! Who answered the call.
mod machine;
mod verdict;
pub use machine::{Machine, Output};
pub use verdict::{Class, Verdict};
