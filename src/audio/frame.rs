//! The unit of sound inside the engine: 20 ms, mono, on the stack.

use crate::time::{MediaTime, Rate};

/// 20 ms of mono 16-bit audio with its position on the leg's timeline. `Copy`, never on the heap.
#[derive(Clone, Copy)]
pub struct Frame {
    /// Position of the first sample.
    pub at: MediaTime,
    /// Where the samples come from.
    pub origin: Origin,
    rate: Rate,
    pcm: [i16; Self::MAX_SAMPLES],
}

/// Where a frame's samples come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Origin {
    /// Decoded from received packets.
    #[default]
    Received,
    /// Made up for lost packets.
    Concealed,
}

impl Frame {
    /// Samples in a frame of the highest rate.
    pub const MAX_SAMPLES: usize = Rate::Hz16000.frame_samples();
    /// A frame's length on the timeline [8 kHz samples].
    pub const SPAN: u64 = MediaTime::HZ / 50;

    /// Silence at `at`.
    #[must_use]
    pub const fn silence(at: MediaTime, rate: Rate) -> Self {
        Self { at, origin: Origin::Received, rate, pcm: [0; Self::MAX_SAMPLES] }
    }

    /// A frame holding `samples`, zero-padded to 20 ms; samples beyond 20 ms are ignored.
    #[must_use]
    pub fn from_samples(at: MediaTime, rate: Rate, samples: &[i16]) -> Self {
        let mut frame = Self::silence(at, rate);
        let n = samples.len().min(rate.frame_samples());
        frame.pcm[..n].copy_from_slice(&samples[..n]);
        frame
    }

    /// The samples: 160 at 8 kHz, 320 at 16 kHz.
    #[must_use]
    pub fn samples(&self) -> &[i16] {
        &self.pcm[..self.rate.frame_samples()]
    }

    /// The samples, writable.
    pub fn samples_mut(&mut self) -> &mut [i16] {
        &mut self.pcm[..self.rate.frame_samples()]
    }

    /// Sample rate.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Position just after the last sample.
    #[must_use]
    pub const fn end(&self) -> MediaTime {
        self.at.plus(Self::SPAN)
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({:?}, {:?}, {} Hz)", self.at, self.origin, self.rate.hz())
    }
}
