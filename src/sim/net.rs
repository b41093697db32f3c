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
    use std::net::SocketAddr;

    use super::*;
    use crate::audio::Frame;
    use crate::call::port::{LegCommand, LegEvent, Spoken};
    use crate::call::{Leg, LegConfig, leg};
    use crate::detect::{Chain, ChainConfig};
    use crate::rtp::SessionConfig;
    use crate::sdp::Codec;
    use crate::time::{MediaTime, Rate};

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

    /// Two legs talk over two links for a minute; what happened, and the loud samples the second one heard.
    fn converse(conditions: Conditions, seed: u64) -> (Vec<LegEvent>, Vec<MediaTime>, usize) {
        let addr = |n: u8| SocketAddr::from(([192, 0, 2, n], 4000));
        let make = |n: u8| {
            let session = SessionConfig {
                ssrc: u32::from(n),
                sequence: 65_000,
                timestamp: u32::MAX - 100_000,
                clock_hz: 8000,
                cname: [b'c'; 16],
                ntp_epoch: 0,
            };
            leg(LegConfig {
                epoch: Instant::ZERO,
                session,
                codec: Codec::Pcma,
                payload_type: 8,
                event_payload_type: Some(101),
                remote: Some(addr(3 - n)),
                remote_rtcp: Some(addr(3 - n)),
                listener: Box::new(Chain::new(&ChainConfig::default())),
                tap: false,
            })
        };
        let (mut legs, mut ports): (Vec<_>, Vec<_>) = [make(1), make(2)].into_iter().unzip();
        let mut links = [Link::new(conditions, seed), Link::new(conditions, seed + 1)];
        let mut out = [0; Leg::MAX_DATAGRAM];
        let (mut told, mut heard_at, mut loud) = (Vec::new(), Vec::new(), 0);
        let mut now = Instant::ZERO;
        let mut said = 0;
        while now < Instant::from_millis(60_000) {
            // One second of voice every two seconds.
            while said < now.as_millis() / 2000 && said < 29 {
                said += 1;
                for i in 0..50 {
                    let frame = Frame::from_samples(MediaTime::ZERO, Rate::Hz8000, &[5000; 160]);
                    let spoken = Spoken { utterance: said as u32, protected: true, last: i == 49, frame };
                    ports[0].playout.push(spoken).expect("room for a second");
                }
            }
            for side in 0..2 {
                while let Some(datagram) = links[1 - side].poll(now) {
                    legs[side].handle_datagram(now, addr(2 - side as u8), &datagram);
                }
                legs[side].handle_timeout(now);
                while let Some((len, _)) = legs[side].poll_transmit(&mut out) {
                    links[side].send(now, &out[..len]);
                }
                told.extend(std::iter::from_fn(|| ports[side].events.pop()));
            }
            while let Some(frame) = ports[1].heard.pop() {
                heard_at.push(frame.at);
                loud += frame.samples().iter().filter(|s| s.unsigned_abs() > 3000).count();
            }
            let deadlines = legs.iter().map(Leg::next_deadline);
            let next = deadlines.chain(links.iter().filter_map(Link::next_at)).min().expect("two legs");
            now = next.max(now + Duration::from_micros(1));
        }
        for leg in &mut legs {
            leg.handle_command(now, LegCommand::Stop);
            while leg.poll_transmit(&mut out).is_some() {}
        }
        told.extend(ports.iter_mut().flat_map(|p| std::iter::from_fn(|| p.events.pop())));
        (told, heard_at, loud)
    }

    #[test]
    fn two_legs_talk_over_a_bad_network_in_the_same_way_every_time() {
        let bad = Conditions {
            loss: 0.03,
            delay: Duration::from_millis(30),
            jitter: Duration::from_millis(40),
            duplicate: 0.01,
            reorder: 0.02,
            reorder_by: Duration::from_millis(30),
        };
        let (told, heard_at, loud) = converse(bad, 1);
        assert!(heard_at.windows(2).all(|w| w[0] < w[1]), "time never goes backwards");
        let ideal = 29 * 8000;
        assert!(loud > ideal * 9 / 10 && loud < ideal * 11 / 10, "{loud} of {ideal} loud samples");
        let finished = told.iter().filter(|e| matches!(e, LegEvent::PlayoutFinished { samples: 8000, .. }));
        assert_eq!(finished.count(), 29);
        let lost: Vec<_> = told
            .iter()
            .filter_map(|e| if let LegEvent::Stats(s) = e { Some(s.packets_lost) } else { None })
            .collect();
        assert!(lost.len() == 2 && lost.iter().all(|n| (50..140).contains(n)), "{lost:?} of 3000 at 3 %");
        assert_eq!((told, heard_at, loud), converse(bad, 1));
    }

    #[test]
    fn over_a_perfect_network_every_sample_arrives() {
        let (_, heard_at, loud) = converse(Conditions::default(), 1);
        assert_eq!(loud, 29 * 8000);
        let ends = heard_at.len() as u64 * 160;
        assert!((60 * 8000 - 480..=60 * 8000).contains(&ends), "{ends}");
    }
}
