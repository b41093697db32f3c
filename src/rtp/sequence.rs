//! Sequence numbers of one received source: extension over wraps, restarts, loss, duplicates, jitter.
//!
//! 16-bit sequence numbers in, extended 64-bit ones and counters out. Arrival times are passed in where needed.
//! Source: RFC 3550 §6.4.1, A.1 (validity), A.3 (loss), A.8 (jitter). Beyond A.1 a bitmap of the last 128 numbers tells
//! duplicates from late packets, which the RFC's counters confuse.

use crate::time::Instant;

/// A jump forward by this many is not loss but a restart (RFC 3550 A.1: one minute at 50 packets a second).
const MAX_DROPOUT: u16 = 3000;
/// A packet older than the newest by this many or more is not late but from another numbering (RFC 3550 A.1).
const MAX_MISORDER: u16 = 100;

/// What a sequence number means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sequence {
    /// A packet to use. Extended numbers never repeat, also over a restart.
    Valid {
        /// The extended number.
        extended: u64,
        /// Whether a newer packet came before it.
        late: bool,
        /// Whether the numbering (re)started with this packet.
        restarted: bool,
    },
    /// Received before.
    Duplicate,
    /// Not to be used until the next number in sequence confirms it.
    Unconfirmed,
}

/// Follows one source's sequence numbers.
#[derive(Clone, Copy, Debug)]
pub struct SequenceTracker {
    state: State,
    /// Packets in sequence that make a source trusted.
    probation: u8,
    /// Newest extended number.
    highest: u64,
    /// Extended number the current numbering began with.
    base: u64,
    /// Bit `i` is set when `highest - i` was received.
    seen: u128,
    received: u64,
    /// Expected packets of earlier numberings, before restarts.
    expected_before: u64,
    duplicates: u64,
    reordered: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing valid yet; `missing` more packets in sequence are needed, the first of them `next`.
    Probation { missing: u8, next: Option<u16> },
    /// Valid; `restart` is the number that would confirm a restart.
    Valid { restart: Option<u16> },
}

impl SequenceTracker {
    /// A tracker that trusts a source after `probation` packets in sequence (RFC 3550 asks for 2); with 1 or 0 it
    /// trusts the first packet.
    #[must_use]
    pub const fn new(probation: u8) -> Self {
        Self {
            state: State::Probation { missing: probation, next: None },
            probation,
            highest: 0,
            base: 0,
            seen: 0,
            received: 0,
            expected_before: 0,
            duplicates: 0,
            reordered: 0,
        }
    }

    /// Takes the number of a received packet.
    pub fn update(&mut self, sequence: u16) -> Sequence {
        match self.state {
            State::Probation { missing, next } => self.probe(sequence, missing, next),
            State::Valid { restart } => self.follow(sequence, restart),
        }
    }

    /// Packets received, duplicates not counted.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Packets that were sent as far as the numbers tell.
    #[must_use]
    pub const fn expected(&self) -> u64 {
        match self.state {
            State::Valid { .. } => self.expected_before + self.highest - self.base + 1,
            State::Probation { .. } => self.expected_before,
        }
    }

    /// Packets lost so far: expected and not received.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    /// Packets received more than once.
    #[must_use]
    pub const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets received after a newer one.
    #[must_use]
    pub const fn reordered(&self) -> u64 {
        self.reordered
    }

    /// The newest number as RTCP reports it: 16 bits of wraps over 16 bits of number.
    #[must_use]
    pub const fn highest(&self) -> u32 {
        // The first cycle is numbered 1 so that packets before the first one have a place; reports count from 0.
        self.highest.wrapping_sub(1 << 16) as u32
    }

    /// Starts to follow a new source, whose first packet has this number, keeping the totals. Extended numbers go on
    /// rising. The packet counts as received.
    pub fn restart(&mut self, sequence: u16) -> u64 {
        if matches!(self.state, State::Valid { .. }) {
            self.expected_before = self.expected();
        }
        // A fresh cycle leaves room below for packets that were overtaken by the first.
        let cycle = (self.highest >> 16) + if self.highest == 0 { 1 } else { 2 };
        self.highest = (cycle << 16) + u64::from(sequence);
        self.base = self.highest;
        self.seen = 1;
        self.received += 1;
        self.state = State::Valid { restart: None };
        self.highest
    }

    fn probe(&mut self, sequence: u16, missing: u8, next: Option<u16>) -> Sequence {
        // After a break in the row the count starts over, and this packet is its first.
        let missing = if next == Some(sequence) { missing } else { self.probation }.saturating_sub(1);
        if missing == 0 {
            let extended = self.restart(sequence);
            return Sequence::Valid { extended, late: false, restarted: true };
        }
        self.state = State::Probation { missing, next: Some(sequence.wrapping_add(1)) };
        Sequence::Unconfirmed
    }

    fn follow(&mut self, sequence: u16, restart: Option<u16>) -> Sequence {
        let ahead = sequence.wrapping_sub(self.highest as u16);
        if ahead == 0 {
            self.duplicates += 1;
            return Sequence::Duplicate;
        }
        if ahead < MAX_DROPOUT {
            self.highest += u64::from(ahead);
            self.seen = self.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
            self.received += 1;
            self.state = State::Valid { restart: None };
            return Sequence::Valid { extended: self.highest, late: false, restarted: false };
        }
        let behind = ahead.wrapping_neg();
        if behind < MAX_MISORDER {
            return self.fill(behind);
        }
        if restart == Some(sequence) {
            let extended = self.restart(sequence);
            return Sequence::Valid { extended, late: false, restarted: true };
        }
        self.state = State::Valid { restart: Some(sequence.wrapping_add(1)) };
        Sequence::Unconfirmed
    }

    fn fill(&mut self, behind: u16) -> Sequence {
        let bit = 1u128 << behind;
        if self.seen & bit != 0 {
            self.duplicates += 1;
            return Sequence::Duplicate;
        }
        self.seen |= bit;
        self.received += 1;
        self.reordered += 1;
        let extended = self.highest - u64::from(behind);
        // The very first packets may arrive swapped; the numbering then began earlier than it seemed.
        self.base = self.base.min(extended);
        Sequence::Valid { extended, late: true, restarted: false }
    }
}

/// Interarrival jitter (RFC 3550 §6.4.1, A.8).
#[derive(Clone, Copy, Debug)]
pub struct Jitter {
    clock_hz: u32,
    last: Option<(u32, u32)>,
    /// Timestamp units.
    jitter: f32,
}

impl Jitter {
    /// An estimator for timestamps that tick `clock_hz` times a second.
    #[must_use]
    pub const fn new(clock_hz: u32) -> Self {
        Self { clock_hz, last: None, jitter: 0.0 }
    }

    /// Takes a packet that is not late. Packets that repeat the last timestamp (telephone events) say nothing about
    /// the path and are passed over.
    pub fn update(&mut self, arrival: Instant, timestamp: u32) {
        let ticks = u128::from(arrival.as_nanos()) * u128::from(self.clock_hz) / 1_000_000_000;
        let transit = (ticks as u32).wrapping_sub(timestamp);
        match self.last {
            Some((_, last_timestamp)) if last_timestamp == timestamp => return,
            Some((last_transit, _)) => {
                let d = (transit.wrapping_sub(last_transit) as i32).unsigned_abs();
                // A jump of more than a second is a new time base, not a late packet.
                if d < self.clock_hz {
                    self.jitter += (d as f32 - self.jitter) / 16.0;
                }
            }
            None => {}
        }
        self.last = Some((transit, timestamp));
    }

    /// Forgets the last packet but keeps the estimate: the source changed its time base.
    pub fn rebase(&mut self) {
        self.last = None;
    }

    /// The estimate [timestamp units].
    #[must_use]
    pub const fn units(&self) -> u32 {
        self.jitter as u32
    }

    /// The estimate (ms).
    #[must_use]
    pub fn ms(&self) -> f32 {
        self.jitter * 1000.0 / self.clock_hz.max(1) as f32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn valid(tracker: &mut SequenceTracker, sequence: u16) -> u64 {
        match tracker.update(sequence) {
            Sequence::Valid { extended, .. } => extended,
            other => panic!("{sequence} gave {other:?}"),
        }
    }

    #[test]
    fn a_wrap_is_one_step() {
        let mut tracker = SequenceTracker::new(1);
        let first = valid(&mut tracker, 65534);
        assert_eq!(valid(&mut tracker, 65535), first + 1);
        assert_eq!(valid(&mut tracker, 0), first + 2);
        assert_eq!(tracker.highest(), 1 << 16, "one wrap, number zero");
        assert_eq!((tracker.expected(), tracker.lost()), (3, 0));
    }

    #[test]
    fn probation_wants_two_in_sequence() {
        let mut tracker = SequenceTracker::new(2);
        assert_eq!(tracker.update(10), Sequence::Unconfirmed);
        assert_eq!(tracker.update(20), Sequence::Unconfirmed, "not in sequence, starts over");
        assert!(matches!(tracker.update(21), Sequence::Valid { restarted: true, .. }));
        assert_eq!(tracker.received(), 1);
    }

    #[test]
    fn a_longer_probation_counts_down_and_starts_over() {
        let mut tracker = SequenceTracker::new(3);
        for sequence in [1, 2, 9, 10] {
            assert_eq!(tracker.update(sequence), Sequence::Unconfirmed, "{sequence}");
        }
        assert!(matches!(tracker.update(11), Sequence::Valid { .. }));
    }

    #[test]
    fn late_packets_are_not_lost_and_repeats_are_not_received() {
        let mut tracker = SequenceTracker::new(1);
        for sequence in [100, 101, 103] {
            tracker.update(sequence);
        }
        assert_eq!(tracker.lost(), 1);
        assert!(matches!(tracker.update(102), Sequence::Valid { late: true, .. }));
        assert_eq!(tracker.update(102), Sequence::Duplicate);
        assert_eq!(tracker.update(103), Sequence::Duplicate);
        assert_eq!((tracker.lost(), tracker.received()), (0, 4));
        assert_eq!((tracker.duplicates(), tracker.reordered()), (2, 1));
    }

    #[test]
    fn a_first_packet_that_was_overtaken_counts() {
        let mut tracker = SequenceTracker::new(1);
        tracker.update(1);
        assert!(matches!(tracker.update(0), Sequence::Valid { late: true, .. }));
        assert!(matches!(tracker.update(65535), Sequence::Valid { late: true, .. }));
        assert_eq!((tracker.expected(), tracker.received()), (3, 3));
    }

    #[test]
    fn one_stray_number_is_ignored_but_two_in_sequence_restart() {
        let mut tracker = SequenceTracker::new(1);
        let before = valid(&mut tracker, 5);
        assert_eq!(tracker.update(40_000), Sequence::Unconfirmed);
        assert_eq!(valid(&mut tracker, 6), before + 1, "the stream goes on");
        assert_eq!(tracker.update(40_001), Sequence::Unconfirmed, "the stray one was forgotten");
        let Sequence::Valid { extended, restarted: true, .. } = tracker.update(40_002) else {
            panic!("restart not seen")
        };
        assert!(extended > before + 1, "extended numbers never repeat");
        assert_eq!(tracker.lost(), 0, "a restart is not loss");
    }

    #[test]
    fn jitter_follows_the_rfc() {
        let mut jitter = Jitter::new(8000);
        // Every other packet 10 ms (80 units) late: D alternates +80, -80, so J approaches 80.
        for i in 0..200u32 {
            let late = if i % 2 == 0 { 0 } else { 10 };
            jitter.update(Instant::from_millis(u64::from(i * 20 + late)), i * 160);
        }
        assert!((jitter.ms() - 10.0).abs() < 0.1, "{}", jitter.ms());
        assert_eq!(jitter.units(), 79);
    }

    #[test]
    fn repeated_timestamps_do_not_count_as_jitter() {
        let mut jitter = Jitter::new(8000);
        for i in 0..10 {
            jitter.update(Instant::from_millis(i * 20), 4711);
        }
        assert_eq!(jitter.units(), 0);
    }

    proptest! {
        #[test]
        fn any_numbers_keep_the_books(numbers in prop::collection::vec(any::<u16>(), 0..300), probation in 0u8..4) {
            let mut tracker = SequenceTracker::new(probation);
            for number in numbers {
                tracker.update(number);
                prop_assert!(tracker.received() <= tracker.expected());
            }
        }

        #[test]
        fn loss_and_duplicates_are_counted_exactly(
            start: u16, fate in prop::collection::vec(0u8..4, 1..500),
        ) {
            // 0 = lost, 1 and 2 = once, 3 = twice. First and last always arrive, so that the span is known.
            let mut tracker = SequenceTracker::new(1);
            let last = fate.len() - 1;
            let (mut lost, mut twice) = (0, 0);
            for (i, fate) in fate.into_iter().enumerate() {
                let number = start.wrapping_add(i as u16);
                match fate {
                    0 if i != 0 && i != last => lost += 1,
                    3 => {
                        twice += 1;
                        tracker.update(number);
                        tracker.update(number);
                    }
                    _ => {
                        tracker.update(number);
                    }
                }
            }
            prop_assert_eq!(tracker.lost(), lost);
            prop_assert_eq!(tracker.duplicates(), twice);
        }
    }
}
