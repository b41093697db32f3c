//! Reorder.
use std::time::Duration;

use crate::time::Instant;

/// What became of a pushed packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushOutcome {
    /// It waits for [`Reorder::pop`].
    Queued,
    /// Its place was released or given up already.
    Late,
    /// It waits here already.
    Duplicate,
    /// Its payload is longer than a slot.
    TooLong,
    /// No slot is free: nobody pops.
    Full,
}

/// What comes out, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Released<'a> {
    /// The next packet.
    Packet {
        /// RTP timestamp.
        timestamp: u32,
        /// Marker bit.
        marker: bool,
        /// Payload type.
        payload_type: u8,
        /// Payload.
        payload: &'a [u8],
    },
    /// One packet was given up. At most ten in a row, then a `Gap`.
    Lost,
    /// So many more packets were given up, all at once.
    Gap {
        /// How many.
        packets: u64,
    },
}

/// Puts packets in order, waiting a bounded time for missing ones.
#[derive(Clone, Debug)]
pub struct Reorder {}
impl Default for Reorder {
    fn default() -> Self {
        Self::new(Duration::from_millis(60), 3)
    }
}
impl Reorder {
    /// Waits for a missing packet at most `max_wait`, and only until `max_packets` newer ones are here.
    #[must_use]
    pub fn new(_max_wait: Duration, _max_packets: usize) -> Self {
        todo!()
    }
    /// Takes a packet with its extended sequence number.
    #[expect(clippy::too_many_arguments, reason = "the header's fields, all needed")]
    pub fn push(
        &mut self,
        _now: Instant,
        _sequence: u64,
        _timestamp: u32,
        _marker: bool,
        _payload_type: u8,
        _payload: &[u8],
    ) -> PushOutcome {
        todo!()
    }
    /// Gives the next packet or loss that is due; call until `None`.
    pub fn pop(&mut self, _now: Instant) -> Option<Released<'_>> {
        todo!()
    }
    /// When `pop` will have something without a further push.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }
    /// Forgets everything: the next packet is the first (new source).
    pub fn reset(&mut self) {
        todo!()
    }
}
