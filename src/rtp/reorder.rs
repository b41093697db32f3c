//! Puts packets in order for a machine's ear: no playout buffer, only a bounded wait for what is missing.
//!
//! Packets with extended sequence numbers in, packets in order and reports of loss out; the caller passes `now`.
//! An in-order packet comes out at once. A missing one is waited for until it is there, or a few newer packets are
//! there, or the oldest of those has waited long enough; then it is reported lost. Payloads lie in slots allocated
//! by the constructor. Source: design (a recogniser needs order and promptness, not an even pace).

use std::time::Duration;

use crate::time::Instant;

/// Packets that can wait at once: far more than a gap is waited for, so that a burst after a stall fits.
const SLOTS: usize = 16;
/// Longest payload kept: 60 ms of G.711 with room to spare.
const MAX_PAYLOAD: usize = 512;
/// Losses reported one by one before the rest is summed up: 200 ms, more than concealment can bridge.
const MAX_LOST_IN_A_ROW: u64 = 10;

/// What became of a pushed packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushOutcome {
    /// It waits for [`Reorder::pop`].
    Queued,
    /// Its place was released or given up already.
    Late,
    /// It waits here already.
    Duplicate,
    /// Its payload is longer than 512 octets.
    TooLong,
    /// All 16 slots are taken: nobody pops.
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
    /// One packet was given up. At most ten in a row, then a [`Released::Gap`].
    Lost,
    /// So many more packets were given up at once; how long they lasted only the next packet's timestamp can tell.
    Gap {
        /// How many, without those reported as [`Released::Lost`].
        packets: u64,
    },
}

/// Puts packets in order, waiting a bounded time for missing ones.
#[derive(Clone, Debug)]
pub struct Reorder {
    slots: Box<[Slot; SLOTS]>,
    waiting: usize,
    /// The number to release next; `None` before the first packet.
    next: Option<u64>,
    /// Losses reported since the last packet.
    lost_in_a_row: u64,
    max_wait: Duration,
    max_packets: usize,
}

#[derive(Clone, Debug)]
struct Slot {
    used: bool,
    arrived: Instant,
    sequence: u64,
    timestamp: u32,
    marker: bool,
    payload_type: u8,
    len: usize,
    payload: [u8; MAX_PAYLOAD],
}

impl Default for Reorder {
    /// Waits for a missing packet at most 60 ms and until 3 newer ones are there.
    fn default() -> Self {
        Self::new(Duration::from_millis(60), 3)
    }
}

impl Reorder {
    /// Waits for a missing packet at most `max_wait`, and only until `max_packets` (at least one, at most 16) newer
    /// ones are there. Allocates here, and never again.
    #[must_use]
    pub fn new(max_wait: Duration, max_packets: usize) -> Self {
        const EMPTY: Slot = Slot {
            used: false,
            arrived: Instant::ZERO,
            sequence: 0,
            timestamp: 0,
            marker: false,
            payload_type: 0,
            len: 0,
            payload: [0; MAX_PAYLOAD],
        };
        Self {
            slots: Box::new([EMPTY; SLOTS]),
            waiting: 0,
            next: None,
            lost_in_a_row: 0,
            max_wait,
            max_packets: max_packets.clamp(1, SLOTS),
        }
    }

    /// Takes a packet with its extended sequence number ([`super::Received::Packet`]). All packets of the stream belong
    /// here, telephone events too: they share the numbering.
    pub fn push(
        &mut self,
        now: Instant,
        sequence: u64,
        timestamp: u32,
        marker: bool,
        payload_type: u8,
        payload: &[u8],
    ) -> PushOutcome {
        if payload.len() > MAX_PAYLOAD {
            return PushOutcome::TooLong;
        }
        let next = *self.next.get_or_insert(sequence);
        if sequence < next {
            return PushOutcome::Late;
        }
        if self.slots.iter().any(|s| s.used && s.sequence == sequence) {
            return PushOutcome::Duplicate;
        }
        let Some(slot) = self.slots.iter_mut().find(|s| !s.used) else { return PushOutcome::Full };
        slot.used = true;
        slot.arrived = now;
        slot.sequence = sequence;
        slot.timestamp = timestamp;
        slot.marker = marker;
        slot.payload_type = payload_type;
        slot.len = payload.len();
        slot.payload[..payload.len()].copy_from_slice(payload);
        self.waiting += 1;
        PushOutcome::Queued
    }

    /// Gives the next packet or loss that is due; to be called until `None`.
    pub fn pop(&mut self, now: Instant) -> Option<Released<'_>> {
        let next = self.next?;
        let oldest = self.oldest()?;
        let missing = self.slots[oldest].sequence - next;
        if missing == 0 {
            self.next = Some(next + 1);
            self.lost_in_a_row = 0;
            self.waiting -= 1;
            let slot = &mut self.slots[oldest];
            slot.used = false;
            return Some(Released::Packet {
                timestamp: slot.timestamp,
                marker: slot.marker,
                payload_type: slot.payload_type,
                payload: &slot.payload[..slot.len],
            });
        }
        if self.waiting < self.max_packets && now < self.deadline() {
            return None;
        }
        if self.lost_in_a_row < MAX_LOST_IN_A_ROW {
            self.lost_in_a_row += 1;
            self.next = Some(next + 1);
            return Some(Released::Lost);
        }
        self.next = Some(next + missing);
        Some(Released::Gap { packets: missing })
    }

    /// When [`Reorder::pop`] will have something without a further push; in the past if it has something now.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let oldest = self.oldest()?;
        if Some(self.slots[oldest].sequence) == self.next || self.waiting >= self.max_packets {
            return Some(self.slots[oldest].arrived);
        }
        Some(self.deadline())
    }

    /// Forgets everything: the next packet is the first of a new source.
    pub fn reset(&mut self) {
        self.slots.iter_mut().for_each(|s| s.used = false);
        self.waiting = 0;
        self.next = None;
        self.lost_in_a_row = 0;
    }

    /// The waiting packet with the lowest number.
    fn oldest(&self) -> Option<usize> {
        let used = self.slots.iter().enumerate().filter(|(_, s)| s.used);
        used.min_by_key(|(_, s)| s.sequence).map(|(i, _)| i)
    }

    /// When the packet that has waited longest has waited long enough.
    fn deadline(&self) -> Instant {
        let first = self.slots.iter().filter(|s| s.used).map(|s| s.arrived).min();
        first.unwrap_or(Instant::ZERO) + self.max_wait
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: Instant = Instant::from_millis(1000);

    fn push(reorder: &mut Reorder, now: Instant, sequence: u64) -> PushOutcome {
        reorder.push(now, sequence, sequence as u32 * 160, false, 0, &[sequence as u8; 160])
    }

    /// What comes out at `now`, as text: packet numbers, `L` for a loss, `G5` for a gap.
    fn drain(reorder: &mut Reorder, now: Instant) -> String {
        let mut out = Vec::new();
        while let Some(released) = reorder.pop(now) {
            out.push(match released {
                Released::Packet { timestamp, payload, .. } => {
                    assert_eq!(payload, [(timestamp / 160) as u8; 160]);
                    (timestamp / 160).to_string()
                }
                Released::Lost => "L".into(),
                Released::Gap { packets } => format!("G{packets}"),
            });
        }
        out.join(" ")
    }

    #[test]
    fn what_is_in_order_comes_out_at_once() {
        let mut reorder = Reorder::default();
        for sequence in 7..12 {
            assert_eq!(push(&mut reorder, T0, sequence), PushOutcome::Queued);
            assert_eq!(drain(&mut reorder, T0), sequence.to_string());
        }
        assert_eq!(reorder.next_deadline(), None);
    }

    #[test]
    fn swapped_packets_come_out_in_order() {
        let mut reorder = Reorder::default();
        push(&mut reorder, T0, 1);
        drain(&mut reorder, T0);
        push(&mut reorder, T0, 3);
        assert_eq!(drain(&mut reorder, T0), "");
        push(&mut reorder, T0, 2);
        assert_eq!(drain(&mut reorder, T0), "2 3");
    }

    #[test]
    fn a_missing_packet_is_given_up_after_three_newer_ones() {
        let mut reorder = Reorder::default();
        push(&mut reorder, T0, 1);
        drain(&mut reorder, T0);
        push(&mut reorder, T0, 3);
        push(&mut reorder, T0, 4);
        assert_eq!(drain(&mut reorder, T0), "");
        push(&mut reorder, T0, 5);
        assert_eq!(drain(&mut reorder, T0), "L 3 4 5");
        assert_eq!(push(&mut reorder, T0, 2), PushOutcome::Late);
    }

    #[test]
    fn a_missing_packet_is_given_up_after_sixty_milliseconds() {
        let mut reorder = Reorder::default();
        push(&mut reorder, T0, 1);
        drain(&mut reorder, T0);
        push(&mut reorder, T0, 3);
        let due = T0 + Duration::from_millis(60);
        assert_eq!(reorder.next_deadline(), Some(due));
        assert_eq!(drain(&mut reorder, T0 + Duration::from_millis(59)), "");
        assert_eq!(drain(&mut reorder, due), "L 3");
        assert_eq!(reorder.next_deadline(), None);
    }

    #[test]
    fn a_long_gap_is_ten_losses_and_a_sum() {
        let mut reorder = Reorder::default();
        push(&mut reorder, T0, 1);
        drain(&mut reorder, T0);
        push(&mut reorder, T0, 502);
        let released = drain(&mut reorder, T0 + Duration::from_millis(60));
        assert_eq!(released, "L L L L L L L L L L G490 502");
    }

    #[test]
    fn repeats_and_giants_are_refused_and_a_full_stage_says_so() {
        let mut reorder = Reorder::default();
        push(&mut reorder, T0, 1);
        assert_eq!(push(&mut reorder, T0, 1), PushOutcome::Duplicate);
        assert_eq!(reorder.push(T0, 2, 0, false, 0, &[0; 513]), PushOutcome::TooLong);
        for sequence in 2..17 {
            assert_eq!(push(&mut reorder, T0, sequence), PushOutcome::Queued);
        }
        assert_eq!(push(&mut reorder, T0, 17), PushOutcome::Full);
    }

    #[test]
    fn after_a_reset_any_number_is_the_first() {
        let mut reorder = Reorder::default();
        push(&mut reorder, T0, 100);
        push(&mut reorder, T0, 102);
        reorder.reset();
        push(&mut reorder, T0, 5);
        assert_eq!(drain(&mut reorder, T0), "5");
    }

    proptest! {
        #[test]
        fn order_holds_and_every_number_is_accounted_for_once(
            arrivals in prop::collection::vec((0u64..4, 0u64..40), 1..200),
        ) {
            // Each arrival: how far ahead of its turn the packet is, and how long after the previous one it comes.
            let mut reorder = Reorder::default();
            let (mut now, mut accounted, mut last) = (T0, 0, None);
            let first = 1000 + arrivals[0].0;
            for (i, (ahead, pause)) in arrivals.iter().enumerate() {
                now += Duration::from_millis(*pause);
                let sequence = 1000 + i as u64 + ahead;
                reorder.push(now, sequence, sequence as u32, false, 0, &[]);
                while let Some(released) = reorder.pop(now) {
                    match released {
                        Released::Packet { timestamp, .. } => {
                            prop_assert!(last.is_none_or(|last| timestamp > last));
                            last = Some(timestamp);
                            accounted += 1;
                            prop_assert_eq!(u64::from(timestamp), first + accounted - 1);
                        }
                        Released::Lost => accounted += 1,
                        Released::Gap { packets } => accounted += packets,
                    }
                }
                if let Some(due) = reorder.next_deadline() {
                    prop_assert!(due > now && due <= now + Duration::from_millis(60));
                }
            }
        }
    }
}
