//! Time as values: nothing below the edges reads a clock.
//!
//! [`Instant`] is wall time, nanoseconds since an epoch the edge chose (process start, or zero in a simulation).
//! [`MediaTime`] is a position on a leg's one timeline, counted in 8 kHz samples since the leg began: signals,
//! words, playout marks and both recording channels all carry it, so they can be compared without conversion.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// Wall time in nanoseconds since the edge's epoch. Unlike `std::time::Instant` it can be written as a literal,
/// printed in a trace and replayed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The epoch itself.
    pub const ZERO: Self = Self(0);

    /// The instant `nanos` nanoseconds after the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant `millis` milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time from `earlier` to here, zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1_000_000_000, self.0 / 1_000_000 % 1000)
    }
}

/// A position on a leg's timeline in 8 kHz samples since the leg began.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct MediaTime(u64);

impl MediaTime {
    /// The leg's beginning.
    pub const ZERO: Self = Self(0);
    /// Ticks of the media clock per second.
    pub const HZ: u64 = 8000;

    /// The position `samples` 8 kHz samples after the leg's beginning.
    #[must_use]
    pub const fn from_samples(samples: u64) -> Self {
        Self(samples)
    }

    /// The position `ms` milliseconds after the leg's beginning.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms * 8)
    }

    /// The position a wall-clock span after the leg's beginning, rounded down to a sample.
    #[must_use]
    pub const fn from_duration(span: Duration) -> Self {
        Self((span.as_nanos() / 125_000) as u64)
    }

    /// 8 kHz samples since the leg's beginning.
    #[must_use]
    pub const fn samples(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the leg's beginning.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0 / 8
    }

    /// Seconds since the leg's beginning.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / Self::HZ as f64
    }

    /// This position as a span from the leg's beginning.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_nanos(self.0 * 125_000)
    }

    /// Samples from `earlier` to here, zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Milliseconds from `earlier` to here, zero if `earlier` is later.
    #[must_use]
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.since(earlier) / 8
    }

    /// The position `samples` later.
    #[must_use]
    pub const fn plus(self, samples: u64) -> Self {
        Self(self.0 + samples)
    }

    /// The position `samples` earlier, not before the beginning.
    #[must_use]
    pub const fn minus(self, samples: u64) -> Self {
        Self(self.0.saturating_sub(samples))
    }
}

impl fmt::Debug for MediaTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}.{:03}", self.0 / 8000, self.0 % 8000 / 8)
    }
}

/// A sample rate of linear audio inside the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Rate {
    /// 8 kHz, the telephone's.
    #[default]
    Hz8000,
    /// 16 kHz, wideband and the recognisers'.
    Hz16000,
}

impl Rate {
    /// Samples a second (Hz).
    #[must_use]
    pub const fn hz(self) -> u32 {
        match self {
            Self::Hz8000 => 8000,
            Self::Hz16000 => 16000,
        }
    }

    /// Samples in one 20 ms frame.
    #[must_use]
    pub const fn frame_samples(self) -> usize {
        self.hz() as usize / 50
    }
}
