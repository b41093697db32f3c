//! The one vocabulary for lock-free single-producer single-consumer rings, and their counters.
//!
//! Neither end ever waits. A full ring drops the newest item and counts it; who needs back-pressure asks
//! [`Producer::is_full`] first and waits on its own side. Built on `ringbuf`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringbuf::HeapRb;
use ringbuf::traits::{Consumer as _, Observer as _, Producer as _, Split as _};

/// Creates a ring for `capacity` items. Allocates once, here.
#[must_use]
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let (tx, rx) = HeapRb::new(capacity).split();
    let counters = Arc::new(Counters::default());
    (Producer { ring: tx, counters: Arc::clone(&counters) }, Consumer { ring: rx, counters })
}

#[derive(Default)]
struct Counters {
    pushed: AtomicU64,
    dropped: AtomicU64,
    high_water: AtomicU64,
}

/// What a ring has carried so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingStats {
    /// Items that went in.
    pub pushed: u64,
    /// Items refused because the ring was full.
    pub dropped: u64,
    /// The most items that ever waited at once.
    pub high_water: u64,
}

impl Counters {
    fn stats(&self) -> RingStats {
        RingStats {
            pushed: self.pushed.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            high_water: self.high_water.load(Ordering::Relaxed),
        }
    }
}

/// The writing end. `Send`, owned by one thread.
pub struct Producer<T> {
    ring: ringbuf::HeapProd<T>,
    counters: Arc<Counters>,
}

impl<T> Producer<T> {
    /// Appends an item without waiting.
    ///
    /// # Errors
    /// Gives the item back when the ring is full, and counts it as dropped.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        match self.ring.try_push(item) {
            Ok(()) => {
                // Only this end writes the counters, so plain load/store pairs are exact.
                self.counters
                    .pushed
                    .store(self.counters.pushed.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                let waiting = self.ring.occupied_len() as u64;
                if waiting > self.counters.high_water.load(Ordering::Relaxed) {
                    self.counters.high_water.store(waiting, Ordering::Relaxed);
                }
                Ok(())
            }
            Err(item) => {
                self.counters
                    .dropped
                    .store(self.counters.dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                Err(item)
            }
        }
    }

    /// Whether the next push would be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ring.is_full()
    }

    /// Free places.
    #[must_use]
    pub fn vacant(&self) -> usize {
        self.ring.vacant_len()
    }

    /// Whether the reading end is gone.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        !self.ring.read_is_held()
    }

    /// The ring's counters.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        self.counters.stats()
    }
}

/// The reading end. `Send`, owned by one thread.
pub struct Consumer<T> {
    ring: ringbuf::HeapCons<T>,
    counters: Arc<Counters>,
}

impl<T> Consumer<T> {
    /// Takes the oldest item without waiting.
    pub fn pop(&mut self) -> Option<T> {
        self.ring.try_pop()
    }

    /// The oldest item, left in place.
    #[must_use]
    pub fn peek(&self) -> Option<&T> {
        self.ring.try_peek()
    }

    /// Items waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.occupied_len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Whether the writing end is gone; what waits can still be read.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        !self.ring.write_is_held()
    }

    /// The ring's counters.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        self.counters.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_gives_the_item_back_and_counts_it() {
        let (mut tx, mut rx) = ring(2);
        assert_eq!(tx.push(1), Ok(()));
        assert_eq!(tx.push(2), Ok(()));
        assert_eq!(tx.push(3), Err(3));
        assert_eq!(rx.pop(), Some(1));
        assert_eq!(tx.stats(), RingStats { pushed: 2, dropped: 1, high_water: 2 });
        assert_eq!(rx.stats(), tx.stats());
    }

    #[test]
    fn each_end_sees_that_the_other_is_gone() {
        let (mut tx, mut rx) = ring(2);
        tx.push(1).expect("room for two");
        drop(tx);
        assert!(rx.is_abandoned());
        assert_eq!(rx.pop(), Some(1), "what waits can still be read");
        let (tx, rx) = ring::<u8>(1);
        drop(rx);
        assert!(tx.is_abandoned());
    }
}
