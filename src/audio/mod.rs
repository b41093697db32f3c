//! Samples only: frames, codecs, tones, levels, loss concealment, resampling.
//!
//! Everything here is pure, takes and gives 16-bit mono samples, and allocates nothing after construction.
//! `offline` is the exception: it converts whole utterances off the media path and exists with the feature `engine`.

mod frame;
pub mod g711;
pub mod goertzel;
pub mod level;
#[cfg(feature = "engine")]
pub mod offline;
mod plc;
pub mod resample;
mod tone;

pub use frame::{Frame, Origin};
pub use goertzel::Goertzel;
pub use plc::Concealer;
pub use resample::{Downsampler2, Upsampler2};
pub use tone::Tone;
