//! Identifiers that a stranger cannot guess and a test can repeat: all drawn from one seed.
//!
//! SSRCs, SIP tags, branches and Call-IDs come from a ChaCha12 stream. The engine seeds it from the system's
//! randomness; a simulation seeds it with a constant.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A seeded source of identifiers.
#[derive(Clone)]
pub struct Ids(ChaCha12Rng);

impl Ids {
    /// A source that yields the same identifiers for the same seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// A source for tests and simulations, from a small number.
    #[must_use]
    pub fn from_number(seed: u64) -> Self {
        Self(ChaCha12Rng::seed_from_u64(seed))
    }

    /// A new source whose stream is drawn from this one.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        Self::from_seed(seed)
    }

    /// 32 random bits: an SSRC, a first timestamp.
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A uniform number in `[0, 1)`.
    pub fn next_unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A SIP token of 16 hexadecimal digits (64 bits; RFC 3261 §19.3 asks a tag for at least 32).
    pub fn token(&mut self) -> String {
        format!("{:016x}", self.0.next_u64())
    }
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ids")
    }
}
