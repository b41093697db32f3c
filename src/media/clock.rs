//! The one clock that media threads and engine share.

use crate::time::Instant;

/// Reads the system's monotonic clock as [`Instant`]s since the clock was made. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock whose [`Instant::ZERO`] is now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn new() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    /// The time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn now(&self) -> Instant {
        Instant::ZERO + std::time::Instant::now().duration_since(self.origin)
    }

    /// When `at` is in the system's terms, for timers of an async runtime.
    #[must_use]
    pub fn to_std(&self, at: Instant) -> std::time::Instant {
        self.origin + at.since(Instant::ZERO)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
