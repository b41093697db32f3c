//! Detectors: audio frames in, [`Signal`](crate::signal::Signal)s out.
mod onnx;
pub mod silero;
#[cfg(test)]
pub(crate) mod testing;

pub use silero::{Silero, SileroWeights, WeightsError};
