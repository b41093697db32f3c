//! Detectors: 8 kHz audio frames in, [`Signal`](crate::signal::Signal)s out.
//!
//! A [`Chain`] runs in the media thread, once for each received frame, in a fixed order: voice activity first,
//! then the beep, which wants to know whether anybody has spoken. Nothing allocates after construction, and time is
//! the frames' own position.

use crate::audio::Frame;
use crate::signal::Signals;
use crate::time::{MediaTime, Rate};

pub mod beep;
mod onnx;
pub mod silero;
mod spectrum;
#[cfg(test)]
pub(crate) mod testing;
mod upsample;
pub mod vad;

pub use beep::BeepDetector;
pub use silero::{Silero, SileroWeights, WeightsError};
pub use vad::{Vad, VadModel};

/// Something that listens to the far end.
pub trait Detector {
    /// Hears one 20 ms frame and appends what it found to `out`, which holds what earlier detectors found in it.
    fn observe(&mut self, frame: &Frame, out: &mut Signals);
}

/// What a [`Chain`] is made of.
#[derive(Clone, Debug, Default)]
pub struct ChainConfig {
    /// The voice activity network.
    pub vad: VadModel,
}

/// The detectors of one leg, in order.
#[derive(Debug)]
pub struct Chain {
    vad: Vad,
    beep: BeepDetector,
    next: Option<MediaTime>,
}

impl Chain {
    /// Detectors at the start of a stream. This is the only place that allocates.
    #[must_use]
    pub fn new(config: &ChainConfig) -> Self {
        Self { vad: Vad::new(&config.vad), beep: BeepDetector::new(), next: None }
    }

    /// Hears one frame; what was found is appended to `out`. A frame that does not follow the one before begins a
    /// new stream, as after [`handle_gap`](Self::handle_gap).
    pub fn observe(&mut self, frame: &Frame, out: &mut Signals) {
        if self.next.is_some_and(|next| next != frame.at) {
            self.handle_gap(self.next.map_or(frame.at, |next| next.min(frame.at)), out);
        }
        self.next = Some(frame.end());
        self.vad.observe(frame, out);
        self.beep.observe(frame, out);
    }

    /// The stream broke off at `at` (no packets, or the end): speech under way is reported as ended, and the
    /// detectors start afresh with the next frame.
    pub fn handle_gap(&mut self, at: MediaTime, out: &mut Signals) {
        self.vad.handle_gap(at, out);
        self.beep.handle_gap();
        self.next = None;
    }

    /// The voice activity detector.
    #[must_use]
    pub const fn vad(&self) -> &Vad {
        &self.vad
    }
}

/// A frame as 160 samples of −1…1 at 8 kHz; pairs of a 16 kHz frame are averaged.
fn narrow(frame: &Frame) -> [f32; 160] {
    let samples = frame.samples();
    match frame.rate() {
        Rate::Hz8000 => std::array::from_fn(|i| f32::from(samples[i]) / 32768.0),
        Rate::Hz16000 => {
            std::array::from_fn(|i| (f32::from(samples[2 * i]) + f32::from(samples[2 * i + 1])) / 65536.0)
        }
    }
}
