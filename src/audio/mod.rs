//! Samples only: frames, codecs, tones, resampling.
mod frame;
pub use frame::{Frame, Origin};
