//! Telephone events: keys as RTP payloads of four octets.
//!
//! ```text
//! octet 0: event code, 0-15 for keys      octet 1: E(nd) bit, R, volume [-dBm0]      octets 2-3: duration [ts units]
//! ```
//! A press sent by [`EventSender`], 20 ms apart, in 8 kHz units (`t` is the first poll's timestamp):
//!
//! ```text
//! tick        0    1    2    3    4    5    6    7..9        10
//! marker      M
//! duration  160  320  480  640 800E 800E 800E  (pause)   next key
//! timestamp   t    t    t    t    t    t    t
//! ```
//! Payloads in, one [`Digit`] per press out, and the other way round. Nobody passes time: the receiver judges by
//! timestamps, the sender counts its polls. Source: RFC 4733 §2.3, §2.5; events 0–15 of §3.2 only.

use crate::signal::Digit;

/// Timestamp units in one 20 ms poll at 8 kHz, the clock rate of telephone events beside G.711.
const TICK_UNITS: u16 = 160;
/// How long a key sounds: 5 polls = 100 ms.
const TONE_TICKS: u16 = 5;
/// The end is sent three times (RFC 4733 §2.5.1.4), the first of them as the tone's last packet.
const END_REPEATS: u16 = 2;
/// Silence between keys: 5 polls = 100 ms, the repeated ends included.
const PAUSE_TICKS: u16 = 5;
/// -10 dBm0, in the middle of what Q.24 networks accept.
const VOLUME: u8 = 10;
/// Packets older than the last press by less than this are stragglers of it; older ones mean a new time base.
const STRAGGLER_UNITS: u32 = 5 * 8000;

/// Collects keys: one digit per press, however often it is repeated and whichever of its packets are lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventReceiver {
    last: Option<Press>,
}

#[derive(Clone, Copy, Debug)]
struct Press {
    code: u8,
    timestamp: u32,
    ended: bool,
}

impl EventReceiver {
    /// A receiver that has heard nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// Takes the payload of an event packet; gives a digit with the first packet of each press, be it start, middle or
    /// end. A new timestamp is a new press, except where a press longer than 8 s goes on in a new segment (§2.5.1.3).
    /// The marker bit is not needed: it may be lost with its packet.
    pub fn handle(&mut self, timestamp: u32, _marker: bool, payload: &[u8]) -> Option<Digit> {
        let &[code, flags, _, _, ..] = payload else { return None };
        let digit = Digit::from_event(code)?;
        let ended = flags & 0x80 != 0;
        if let Some(last) = &mut self.last {
            let ahead = timestamp.wrapping_sub(last.timestamp);
            if ahead == 0 && code == last.code {
                last.ended |= ended;
                return None;
            }
            let behind = last.timestamp.wrapping_sub(timestamp);
            if behind > 0 && behind < STRAGGLER_UNITS {
                return None;
            }
            if ahead == u32::from(u16::MAX) && code == last.code && !last.ended {
                *last = Press { code, timestamp, ended };
                return None;
            }
        }
        self.last = Some(Press { code, timestamp, ended });
        Some(digit)
    }

    /// Forgets the last press: a new source has its own timestamps.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

/// One event packet to send; its payload is in the buffer given to [`EventSender::poll`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventPacket {
    /// Marker bit: the first packet of a press.
    pub marker: bool,
    /// RTP timestamp: the start of the press.
    pub timestamp: u32,
    /// Octets written, always 4.
    pub len: usize,
}

/// Presses keys, polled every 20 ms.
#[derive(Clone, Copy, Debug)]
pub struct EventSender {
    queue: [u8; Self::CAPACITY],
    head: usize,
    queued: usize,
    press: Option<Sending>,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    code: u8,
    timestamp: u32,
    /// Polls since the press began.
    tick: u16,
}

impl EventSender {
    /// Keys that can wait.
    pub const CAPACITY: usize = 64;

    /// A sender with nothing to send.
    #[must_use]
    pub const fn new() -> Self {
        Self { queue: [0; Self::CAPACITY], head: 0, queued: 0, press: None }
    }

    /// Queues keys behind those that wait; returns how many did not fit.
    pub fn queue(&mut self, digits: impl IntoIterator<Item = Digit>) -> usize {
        let mut refused = 0;
        for digit in digits {
            if self.queued == Self::CAPACITY {
                refused += 1;
                continue;
            }
            self.queue[(self.head + self.queued) % Self::CAPACITY] = digit.event();
            self.queued += 1;
        }
        refused
    }

    /// To be called every 20 ms with the current media timestamp while [`EventSender::is_active`]; a packet replaces
    /// that tick's audio. In the pause between keys there is no packet, and audio or silence may be sent.
    pub fn poll(&mut self, timestamp: u32, out: &mut [u8; 4]) -> Option<EventPacket> {
        if self.press.is_none_or(|p| p.tick == TONE_TICKS + PAUSE_TICKS) {
            self.press = self.next_key().map(|code| Sending { code, timestamp, tick: 0 });
        }
        let press = self.press.as_mut()?;
        let tick = press.tick;
        press.tick += 1;
        if tick >= TONE_TICKS + END_REPEATS {
            return None;
        }
        let duration = (tick + 1).min(TONE_TICKS) * TICK_UNITS;
        let end = if tick + 1 >= TONE_TICKS { 0x80 } else { 0 };
        let [high, low] = duration.to_be_bytes();
        *out = [press.code, end | VOLUME, high, low];
        Some(EventPacket { marker: tick == 0, timestamp: press.timestamp, len: out.len() })
    }

    /// Whether keys wait, sound, or pause. False as soon as the last key's pause is over.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.queued > 0 || self.press.is_some_and(|p| p.tick < TONE_TICKS + PAUSE_TICKS)
    }

    fn next_key(&mut self) -> Option<u8> {
        if self.queued == 0 {
            return None;
        }
        let code = self.queue[self.head];
        self.head = (self.head + 1) % Self::CAPACITY;
        self.queued -= 1;
        Some(code)
    }
}

impl Default for EventSender {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digits(text: &str) -> Vec<Digit> {
        text.chars().map(|c| Digit::from_char(c).expect("a key")).collect()
    }

    /// Everything a sender emits for `text`, from timestamp `start` on.
    fn sent(text: &str, start: u32) -> Vec<(EventPacket, [u8; 4])> {
        let mut sender = EventSender::new();
        assert_eq!(sender.queue(digits(text)), 0);
        let (mut packets, mut timestamp) = (Vec::new(), start);
        while sender.is_active() {
            let mut out = [0; 4];
            if let Some(packet) = sender.poll(timestamp, &mut out) {
                packets.push((packet, out));
            }
            timestamp = timestamp.wrapping_add(160);
        }
        packets
    }

    fn received<'a>(packets: impl IntoIterator<Item = &'a (EventPacket, [u8; 4])>) -> String {
        let mut receiver = EventReceiver::new();
        let digits =
            packets.into_iter().filter_map(|(p, payload)| receiver.handle(p.timestamp, p.marker, payload));
        digits.map(Digit::as_char).collect()
    }

    #[test]
    fn a_press_is_five_packets_and_two_more_ends() {
        let packets = sent("5", 1000);
        let durations: Vec<u16> = packets.iter().map(|(_, b)| u16::from_be_bytes([b[2], b[3]])).collect();
        assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800]);
        let ends: Vec<bool> = packets.iter().map(|(_, b)| b[1] & 0x80 != 0).collect();
        assert_eq!(ends, [false, false, false, false, true, true, true]);
        let markers: Vec<bool> = packets.iter().map(|(p, _)| p.marker).collect();
        assert_eq!(markers, [true, false, false, false, false, false, false]);
        assert!(packets.iter().all(|(p, b)| p.timestamp == 1000 && b[0] == 5));
    }

    #[test]
    fn keys_follow_each_other_after_a_pause() {
        let packets = sent("12", 0);
        assert_eq!(packets.len(), 14);
        assert_eq!(packets[7].0, EventPacket { marker: true, timestamp: 10 * 160, len: 4 });
        assert_eq!(received(&packets), "12");
    }

    #[test]
    fn equal_keys_in_a_row_are_separate_presses() {
        assert_eq!(received(&sent("1100", 0)), "1100");
    }

    #[test]
    fn a_full_queue_says_how_many_keys_it_refused() {
        let mut sender = EventSender::new();
        assert_eq!(sender.queue(digits(&"1".repeat(70))), 6);
        assert!(sender.is_active());
    }

    #[test]
    fn stragglers_of_an_older_press_are_not_presses() {
        let packets = sent("12", 0);
        let mut order: Vec<_> = packets.clone();
        order.insert(9, packets[6]);
        order.push(packets[6]);
        order.push(packets[13]);
        assert_eq!(received(&order), "12");
    }

    #[test]
    fn a_long_press_that_goes_on_in_a_second_segment_is_one_press() {
        let mut receiver = EventReceiver::new();
        assert!(receiver.handle(500, true, &[1, 10, 0, 160]).is_some());
        assert!(receiver.handle(500, false, &[1, 10, 0xff, 0xff]).is_none());
        assert!(receiver.handle(500 + 0xffff, false, &[1, 10, 0, 160]).is_none());
        assert!(receiver.handle(500 + 0xffff, false, &[1, 0x8a, 1, 160]).is_none());
    }

    #[test]
    fn a_new_time_base_does_not_swallow_keys() {
        let mut receiver = EventReceiver::new();
        assert!(receiver.handle(4_000_000, true, &[1, 10, 0, 160]).is_some());
        assert!(receiver.handle(1000, true, &[1, 10, 0, 160]).is_some());
    }

    #[test]
    fn flash_and_short_payloads_are_not_keys() {
        let mut receiver = EventReceiver::new();
        assert_eq!(receiver.handle(0, true, &[16, 10, 0, 160]), None, "hook flash");
        assert_eq!(receiver.handle(0, true, &[1, 10, 0]), None);
        assert_eq!(receiver.handle(0, true, &[]), None);
    }

    proptest! {
        #[test]
        fn any_loss_that_leaves_a_packet_of_each_press_leaves_the_digits(
            text in "[0-9*#A-D]{1,8}", start: u32, keep in prop::collection::vec(1u8..128, 8),
        ) {
            // Bit i of keep[k] says whether packet i of press k arrives; at least one does.
            let packets = sent(&text, start);
            let arrived = packets.iter().enumerate().filter(|(i, _)| keep[i / 7] >> (i % 7) & 1 == 1);
            prop_assert_eq!(received(arrived.map(|(_, p)| p)), text);
        }

        #[test]
        fn no_payload_panics(stream in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..6)), 0..50)) {
            let mut receiver = EventReceiver::new();
            for (timestamp, payload) in stream {
                receiver.handle(timestamp, false, &payload);
            }
        }
    }
}
