//! A network that never was: one direction of a path with seeded loss, delay, jitter, duplication and reordering.
//!
//! In: datagrams with the instant they are sent. Out: the survivors at the instant they arrive. The caller passes
//! time and asks [`Link::next_at`] when to look again. The same seed and the same input give the same output.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::seed::Ids;
use crate::time::Instant;

/// How bad a path is. The default is perfect: no loss, no delay.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Conditions {
    /// Share of datagrams that vanish, 0–1.
    pub loss: f64,
    /// Delay that every datagram has.
    pub delay: Duration,
    /// Further delay, uniform between zero and this. Alone it keeps the order, as a queue does.
    pub jitter: Duration,
    /// Share of datagrams that arrive twice, 0–1.
    pub duplicate: f64,
    /// Share of datagrams that may be overtaken, 0–1: they take [`Conditions::reorder_by`] longer.
    pub reorder: f64,
    /// How much longer an overtaken datagram takes.
    pub reorder_by: Duration,
}

/// One direction of a path.
#[derive(Debug)]
pub struct Link {
    conditions: Conditions,
    ids: Ids,
    in_flight: BinaryHeap<Reverse<Flight>>,
    sent: u64,
    lost: u64,
    /// Arrival of the newest datagram that keeps its order.
    last_at: Instant,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Flight {
    at: Instant,
    order: u64,
    bytes: Vec<u8>,
}

impl Link {
    /// A path under `conditions` whose dice are thrown from `seed`.
    #[must_use]
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            ids: Ids::from_number(seed),
            in_flight: BinaryHeap::new(),
            sent: 0,
            lost: 0,
            last_at: Instant::ZERO,
        }
    }

    /// Changes the conditions for what is sent from now on.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Sends a datagram.
    pub fn send(&mut self, now: Instant, bytes: &[u8]) {
        // Every datagram throws all dice, so that one condition does not shift another's luck.
        let [loss, jitter, duplicate, reorder] = std::array::from_fn(|_| self.ids.next_unit());
        self.sent += 1;
        if loss < self.conditions.loss {
            self.lost += 1;
            return;
        }
        let mut at = now + self.conditions.delay + self.conditions.jitter.mul_f64(jitter);
        if reorder < self.conditions.reorder {
            at += self.conditions.reorder_by;
        } else {
            at = at.max(self.last_at);
            self.last_at = at;
        }
        let copies = if duplicate < self.conditions.duplicate { 2 } else { 1 };
        for copy in 0..copies {
            let flight = Flight { at, order: self.sent * 2 + copy, bytes: bytes.to_vec() };
            self.in_flight.push(Reverse(flight));
        }
    }

    /// The next datagram that has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.next_at()? > now {
            return None;
        }
        self.in_flight.pop().map(|Reverse(flight)| flight.bytes)
    }

    /// When the next datagram arrives.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse(flight)| flight.at)
    }

    /// Datagrams sent into the path.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Datagrams that vanished in it.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(conditions: Conditions, seed: u64) -> Vec<(Instant, u16)> {
        let mut link = Link::new(conditions, seed);
        let mut got = Vec::new();
        for i in 0..1000u16 {
            let now = Instant::from_millis(u64::from(i) * 20);
            while let Some(at) = link.next_at().filter(|&at| at <= now) {
                let bytes = link.poll(at).expect("it is due");
                got.push((at, u16::from_be_bytes([bytes[0], bytes[1]])));
            }
            link.send(now, &i.to_be_bytes());
        }
        while let Some(at) = link.next_at() {
            let bytes = link.poll(at).expect("it is due");
            got.push((at, u16::from_be_bytes([bytes[0], bytes[1]])));
        }
        got
    }

    #[test]
    fn a_perfect_link_delivers_everything_at_once_in_order() {
        let got = run(Conditions::default(), 1);
        let expected: Vec<_> = (0..1000u16).map(|i| (Instant::from_millis(u64::from(i) * 20), i)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn the_same_seed_gives_the_same_network_and_another_seed_another() {
        let bad = Conditions {
            loss: 0.1,
            delay: Duration::from_millis(30),
            jitter: Duration::from_millis(40),
            duplicate: 0.05,
            reorder: 0.05,
            reorder_by: Duration::from_millis(50),
        };
        assert_eq!(run(bad, 7), run(bad, 7));
        assert_ne!(run(bad, 7), run(bad, 8));
    }

    #[test]
    fn loss_duplication_and_reordering_happen_as_often_as_asked() {
        let lossy = run(Conditions { loss: 0.1, ..Conditions::default() }, 3);
        assert!((870..930).contains(&lossy.len()), "{} arrived", lossy.len());
        let twice = run(Conditions { duplicate: 0.1, ..Conditions::default() }, 3);
        assert!((1070..1130).contains(&twice.len()), "{} arrived", twice.len());
        let shuffled = run(
            Conditions { reorder: 0.1, reorder_by: Duration::from_millis(50), ..Conditions::default() },
            3,
        );
        let overtaken = shuffled.windows(2).filter(|w| w[1].1 < w[0].1).count();
        assert!((60..130).contains(&overtaken), "{overtaken} were overtaken");
    }

    #[test]
    fn jitter_alone_delays_within_its_bound_and_keeps_the_order() {
        let jitter = Duration::from_millis(40);
        let got = run(Conditions { jitter, ..Conditions::default() }, 5);
        assert!(got.windows(2).all(|w| w[0].1 < w[1].1));
        assert!(got.iter().all(|&(at, i)| at.since(Instant::from_millis(u64::from(i) * 20)) <= jitter));
    }
}
