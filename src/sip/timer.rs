//! The timers of RFC 3261 §17 and RFC 6026 as values, and a queue of deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::time::Instant;

/// Round-trip estimate (RFC 3261 table 4).
pub(crate) const T1: Duration = Duration::from_millis(500);
/// The longest interval between retransmissions of a non-INVITE request or an INVITE response.
pub(crate) const T2: Duration = Duration::from_secs(4);
/// How long a message may stay in the network.
pub(crate) const T4: Duration = Duration::from_secs(5);
/// 64·T1: timers B, D, F, H, J, L and M.
pub(crate) const T1X64: Duration = Duration::from_secs(32);

/// A retransmission interval that doubles: timers A, E, G and the 2xx of RFC 3261 §13.3.1.4.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    at: Instant,
    interval: Duration,
    cap: Duration,
}

impl Backoff {
    /// Fires first after T1; intervals never exceed `cap`.
    pub(crate) fn start(now: Instant, cap: Duration) -> Self {
        Self { at: now + T1, interval: T1, cap }
    }

    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Whether it is due; then the next firing is set.
    pub(crate) fn fire(&mut self, now: Instant) -> bool {
        if now < self.at {
            return false;
        }
        self.interval = (self.interval * 2).min(self.cap);
        self.at = now + self.interval;
        true
    }

    /// From the next firing on the interval is the cap (timer E in Proceeding).
    pub(crate) fn slow(&mut self) {
        self.interval = self.cap;
    }
}

/// The earlier of two deadlines.
pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// One deadline a key, the earliest first.
#[derive(Debug)]
pub(crate) struct Deadlines<K> {
    queue: BTreeSet<(Instant, K)>,
    at: BTreeMap<K, Instant>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { queue: BTreeSet::new(), at: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    pub(crate) fn set(&mut self, key: K, at: Option<Instant>) {
        let old = match at {
            Some(at) => self.at.insert(key, at),
            None => self.at.remove(&key),
        };
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.queue.remove(&(old, key));
        }
        if let Some(at) = at {
            self.queue.insert((at, key));
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes out the earliest key that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let (at, key) = *self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.remove(&(at, key));
        self.at.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_doubles_to_its_cap() {
        let mut b = Backoff::start(Instant::ZERO, T2);
        let mut fired = Vec::new();
        while fired.len() < 6 {
            let now = b.at();
            assert!(b.fire(now));
            fired.push(now.as_millis());
        }
        assert_eq!(fired, [500, 1500, 3500, 7500, 11500, 15500]);
    }

    #[test]
    fn moving_a_deadline_leaves_no_trace_of_the_old_one() {
        let mut d = Deadlines::default();
        d.set(1u32, Some(Instant::from_millis(5)));
        d.set(2, Some(Instant::from_millis(7)));
        d.set(1, Some(Instant::from_millis(9)));
        assert_eq!(d.next(), Some(Instant::from_millis(7)));
        assert_eq!(d.pop_due(Instant::from_millis(20)), Some(2));
        d.set(1, None);
        assert_eq!((d.next(), d.pop_due(Instant::from_millis(20))), (None, None));
    }
}
