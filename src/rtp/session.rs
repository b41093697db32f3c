//! One RTP session of a leg: our stream out, the far end's stream in, and RTCP about both.
//!
//! Datagrams in, borrowed packets and [`RtcpNews`] out; payloads in, datagrams in the caller's buffers out. The caller
//! passes `now` and knows the addresses. Nothing allocates, nothing fails: what is wrong is counted in [`Stats`].
//! Source: RFC 3550 §5, §6.2–6.4, A.1–A.8; RFC 5761 §4. The RTCP interval is that of a session of two, about 5 s.

use std::time::Duration;

use super::packet::{HEADER_LEN, Packet, PacketHeader, ParseError};
use super::rtcp::{self, Report, ReportBlock, RtcpNews, SenderInfo};
use super::sequence::{Jitter, Sequence, SequenceTracker};
use crate::seed::Ids;
use crate::time::Instant;

/// Mean RTCP interval of a session this small (RFC 3550 §6.2); the first one is half of it (§6.3.1).
const RTCP_INTERVAL_S: f64 = 5.0;
/// Division by e - 3/2 makes up for timer reconsideration (RFC 3550 §6.3.1).
const RECONSIDERATION: f64 = 1.218_28;

/// What a session starts with. The numbers should be random ([`Ids`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionConfig {
    /// Our synchronisation source. Also seeds the RTCP interval.
    pub ssrc: u32,
    /// First sequence number.
    pub sequence: u16,
    /// First timestamp; the session reports it until a packet was written.
    pub timestamp: u32,
    /// Timestamp units per second (Hz); 8000 for G.711. Both directions.
    pub clock_hz: u32,
    /// Canonical name: 16 octets of printable ASCII, random per call (RFC 7022 §4.2).
    pub cname: [u8; 16],
    /// NTP time, 32.32 fixed point, of [`Instant::ZERO`]; see [`rtcp::ntp_from_unix_nanos`].
    pub ntp_epoch: u64,
}

/// What became of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received<'a> {
    /// A packet to use.
    Packet {
        /// Extended sequence number; rises over wraps, restarts and new sources, and never repeats.
        sequence: u64,
        /// The packet.
        packet: Packet<'a>,
        /// True with the first packet of all, and when the source changed or restarted its numbering: reorder
        /// stage, timestamps and event receiver must start afresh with this packet.
        new_source: bool,
    },
    /// Not to be used; counted.
    Ignored(Reason),
}

/// Why a datagram was ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It is not RTP.
    Malformed(ParseError),
    /// It was received before.
    Duplicate,
    /// It is from another source, or far out of sequence, and no second packet in sequence has confirmed it yet.
    Unconfirmed,
}

/// Counters and estimates of a session.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Stats {
    /// Packets received, duplicates not counted.
    pub received: u64,
    /// Packets lost on the way to us.
    pub lost: u64,
    /// Packets received more than once.
    pub duplicates: u64,
    /// Packets received after a newer one.
    pub reordered: u64,
    /// Datagrams that were neither RTP nor RTCP.
    pub malformed: u64,
    /// Packets ignored as [`Reason::Unconfirmed`].
    pub unconfirmed: u64,
    /// How often the source changed or restarted, the first one not counted.
    pub restarts: u64,
    /// Interarrival jitter (ms).
    pub jitter_ms: f32,
    /// Packets sent.
    pub sent: u64,
    /// Payload octets sent.
    pub octets_sent: u64,
    /// Round trip (ms), once the far end has reported on a report of ours.
    pub rtt_ms: Option<f32>,
    /// Packets of ours the far end has lost, once it has reported.
    pub remote_lost: Option<i32>,
    /// Jitter of our stream at the far end (ms), once it has reported.
    pub remote_jitter_ms: Option<f32>,
}

/// One SSRC's send and receive state.
#[derive(Clone, Debug)]
pub struct Session {
    config: SessionConfig,
    outgoing: Outgoing,
    incoming: Incoming,
    schedule: Schedule,
    news: Stats,
}

#[derive(Clone, Copy, Debug)]
struct Outgoing {
    /// Of the next packet.
    sequence: u16,
    /// Of the last packet.
    timestamp: u32,
    /// `sent` at the last report: nothing since makes it a receiver report.
    reported: u64,
}

#[derive(Clone, Debug)]
struct Incoming {
    ssrc: Option<u32>,
    /// Another source's number, and its sequence number that would confirm it.
    candidate: Option<(u32, u16)>,
    tracker: SequenceTracker,
    jitter: Jitter,
    /// Middle NTP bits of the last sender report and when it came.
    last_sr: Option<(u32, Instant)>,
    /// Expected and received at the last report.
    reported: (u64, u64),
}

#[derive(Clone, Debug)]
struct Schedule {
    next: Option<Instant>,
    random: Ids,
}

impl Session {
    /// A session that has sent and received nothing.
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        Self {
            outgoing: Outgoing { sequence: config.sequence, timestamp: config.timestamp, reported: 0 },
            incoming: Incoming {
                ssrc: None,
                candidate: None,
                // SDP names the far end's address, so its first packet is used; 20 ms are not given away.
                tracker: SequenceTracker::new(1),
                jitter: Jitter::new(config.clock_hz),
                last_sr: None,
                reported: (0, 0),
            },
            schedule: Schedule { next: None, random: Ids::from_number(u64::from(config.ssrc)) },
            news: Stats::default(),
            config,
        }
    }

    /// Takes a datagram that is not RTCP ([`Session::is_rtcp`]). The first source is trusted at once, another one, or a
    /// jump in numbering, with its second packet in sequence.
    pub fn handle_rtp<'a>(&mut self, now: Instant, datagram: &'a [u8]) -> Received<'a> {
        let packet = match Packet::parse(datagram) {
            Ok(packet) => packet,
            Err(error) => {
                self.news.malformed += 1;
                return Received::Ignored(Reason::Malformed(error));
            }
        };
        match self.incoming.place(packet.ssrc(), packet.sequence()) {
            Sequence::Valid { extended, late, restarted } => {
                if restarted {
                    self.incoming.jitter.rebase();
                    self.news.restarts += u64::from(self.incoming.tracker.received() > 1);
                }
                if !late {
                    self.incoming.jitter.update(now, packet.timestamp());
                }
                Received::Packet { sequence: extended, packet, new_source: restarted }
            }
            Sequence::Duplicate => Received::Ignored(Reason::Duplicate),
            Sequence::Unconfirmed => {
                self.news.unconfirmed += 1;
                Received::Ignored(Reason::Unconfirmed)
            }
        }
    }

    /// Takes an RTCP datagram and says what it said; `None`, counted, if it is malformed.
    pub fn handle_rtcp(&mut self, now: Instant, datagram: &[u8]) -> Option<RtcpNews> {
        let Some(news) = rtcp::parse(datagram, self.config.ssrc) else {
            self.news.malformed += 1;
            return None;
        };
        // Reports may come before the first packet; a report of a source we do not hear is no base for ours.
        if let Some(sender) = news.sender
            && (self.incoming.ssrc.is_none() || self.incoming.ssrc == news.source)
        {
            self.incoming.last_sr = Some((rtcp::ntp_middle(sender.ntp), now));
        }
        if let Some(report) = news.report {
            self.learn(now, &report);
        }
        Some(news)
    }

    /// Whether a datagram on a port shared with RTP is RTCP (RFC 5761 §4: packet types 192–223).
    #[must_use]
    pub fn is_rtcp(datagram: &[u8]) -> bool {
        matches!(datagram, &[first, 192..=223, ..] if first >> 6 == 2)
    }

    /// Writes one RTP packet to the front of `out` and returns its length, 12 octets more than the payload's. The
    /// sequence number advances by one.
    ///
    /// # Panics
    /// If `out` is too short, which is the caller's bug.
    pub fn write_packet(
        &mut self,
        payload_type: u8,
        marker: bool,
        timestamp: u32,
        payload: &[u8],
        out: &mut [u8],
    ) -> usize {
        let header = PacketHeader {
            payload_type,
            marker,
            sequence: self.outgoing.sequence,
            timestamp,
            ssrc: self.config.ssrc,
        };
        header.write(out);
        let len = HEADER_LEN + payload.len();
        out[HEADER_LEN..len].copy_from_slice(payload);
        self.outgoing.sequence = self.outgoing.sequence.wrapping_add(1);
        self.outgoing.timestamp = timestamp;
        self.news.sent += 1;
        self.news.octets_sent += payload.len() as u64;
        len
    }

    /// Writes a report to the front of `out` if one is due, and returns its length, at most [`rtcp::MAX_LEN`]. The first
    /// call only starts the schedule: the first report comes about 2.5 s later, the others about 5 s apart.
    ///
    /// A sender report pairs `now` with the timestamp of the last packet written, so it is exact to one frame.
    pub fn poll_rtcp(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let Some(next) = self.schedule.next else {
            self.schedule.after(now, RTCP_INTERVAL_S / 2.0);
            return None;
        };
        if now < next {
            return None;
        }
        self.schedule.after(now, RTCP_INTERVAL_S);
        Some(self.write_report(now, false, out))
    }

    /// When [`Session::poll_rtcp`] wants to be called; in the past before its first call.
    #[must_use]
    pub fn next_rtcp(&self) -> Instant {
        self.schedule.next.unwrap_or(Instant::ZERO)
    }

    /// Writes the last report, with BYE, to the front of `out` and returns its length, at most [`rtcp::MAX_LEN`].
    pub fn write_bye(&mut self, now: Instant, out: &mut [u8]) -> usize {
        self.write_report(now, true, out)
    }

    /// Timestamp of the last packet written, or the configured first one.
    #[must_use]
    pub const fn timestamp(&self) -> u32 {
        self.outgoing.timestamp
    }

    /// The counters and estimates.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let tracker = &self.incoming.tracker;
        Stats {
            received: tracker.received(),
            lost: tracker.lost(),
            duplicates: tracker.duplicates(),
            reordered: tracker.reordered(),
            jitter_ms: self.incoming.jitter.ms(),
            ..self.news
        }
    }

    fn ntp(&self, now: Instant) -> u64 {
        self.config.ntp_epoch.wrapping_add(rtcp::ntp_span(now.as_nanos()))
    }

    fn learn(&mut self, now: Instant, report: &ReportBlock) {
        self.news.remote_lost = Some(report.cumulative_lost);
        self.news.remote_jitter_ms = Some(report.jitter as f32 * 1000.0 / self.config.clock_hz.max(1) as f32);
        if report.last_sr == 0 {
            return;
        }
        let trip = rtcp::ntp_middle(self.ntp(now))
            .wrapping_sub(report.last_sr)
            .wrapping_sub(report.delay_since_last_sr) as i32;
        // Rounding at the far end may make a short trip negative; what is longer than a minute answers nothing of ours.
        if trip < 60 << 16 && trip > -(1 << 16) {
            self.news.rtt_ms = Some(trip.max(0) as f32 * 1000.0 / 65536.0);
        }
    }

    fn write_report(&mut self, now: Instant, bye: bool, out: &mut [u8]) -> usize {
        let sender = (self.news.sent > self.outgoing.reported).then(|| SenderInfo {
            ntp: self.ntp(now),
            rtp_timestamp: self.outgoing.timestamp,
            packets: self.news.sent as u32,
            octets: self.news.octets_sent as u32,
        });
        self.outgoing.reported = self.news.sent;
        let block = self.incoming.report(now);
        Report { ssrc: self.config.ssrc, sender, block, cname: &self.config.cname, bye }.write(out)
    }
}

impl Incoming {
    fn place(&mut self, ssrc: u32, sequence: u16) -> Sequence {
        if self.ssrc.is_none() || self.ssrc == Some(ssrc) {
            self.ssrc = Some(ssrc);
            // While the known source is heard, a second one must not take over.
            self.candidate = None;
            return self.tracker.update(sequence);
        }
        if self.candidate != Some((ssrc, sequence)) {
            self.candidate = Some((ssrc, sequence.wrapping_add(1)));
            return Sequence::Unconfirmed;
        }
        self.candidate = None;
        self.ssrc = Some(ssrc);
        self.last_sr = None;
        let extended = self.tracker.restart(sequence);
        Sequence::Valid { extended, late: false, restarted: true }
    }

    fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let ssrc = self.ssrc?;
        let (expected, received) = (self.tracker.expected(), self.tracker.received());
        let expected_since = expected - self.reported.0;
        let lost_since = expected_since.saturating_sub(received - self.reported.1);
        self.reported = (expected, received);
        let fraction = (lost_since * 256).checked_div(expected_since).unwrap_or(0);
        let delay = self.last_sr.map_or(0, |(_, at)| rtcp::ntp_span(now.since(at).as_nanos() as u64) >> 16);
        Some(ReportBlock {
            ssrc,
            fraction_lost: fraction.min(255) as u8,
            cumulative_lost: i32::try_from(self.tracker.lost()).unwrap_or(i32::MAX),
            highest_sequence: self.tracker.highest(),
            jitter: self.jitter.units(),
            last_sr: self.last_sr.map_or(0, |(ntp, _)| ntp),
            delay_since_last_sr: delay as u32,
        })
    }
}

impl Schedule {
    fn after(&mut self, now: Instant, mean_s: f64) {
        let seconds = mean_s * (0.5 + self.random.next_unit()) / RECONSIDERATION;
        self.next = Some(now + Duration::from_secs_f64(seconds));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(ssrc: u32) -> Session {
        Session::new(SessionConfig {
            ssrc,
            sequence: 65_535,
            timestamp: 1000,
            clock_hz: 8000,
            cname: *b"abcdefghijklmnop",
            ntp_epoch: 0xe000_0000 << 32,
        })
    }

    fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
        let mut out = vec![0; HEADER_LEN + 160];
        let timestamp = u32::from(sequence) * 160;
        PacketHeader { payload_type: 0, marker: false, sequence, timestamp, ssrc }.write(&mut out);
        out
    }

    /// Hands a packet over: its extended number and whether its source is new, if it is to be used.
    fn give(session: &mut Session, ssrc: u32, sequence: u16) -> Option<(u64, bool)> {
        let now = Instant::from_millis(u64::from(sequence) * 20);
        match session.handle_rtp(now, &rtp(ssrc, sequence)) {
            Received::Packet { sequence, new_source, .. } => Some((sequence, new_source)),
            Received::Ignored(_) => None,
        }
    }

    #[test]
    fn the_first_packet_is_used_at_once() {
        let mut session = session(1);
        let (first, new_source) = give(&mut session, 9, 100).expect("used");
        assert!(new_source);
        assert_eq!(give(&mut session, 9, 101), Some((first + 1, false)));
        assert_eq!(give(&mut session, 9, 101), None);
        assert_eq!((session.stats().received, session.stats().duplicates), (2, 1));
        assert_eq!(session.stats().restarts, 0);
    }

    #[test]
    fn a_new_source_takes_over_with_its_second_packet() {
        let mut session = session(1);
        let (first, _) = give(&mut session, 9, 100).expect("used");
        assert_eq!(give(&mut session, 7, 5000), None);
        let (second, new_source) = give(&mut session, 7, 5001).expect("confirmed");
        assert!(new_source && second > first);
        assert_eq!(session.stats().restarts, 1);
        assert_eq!((session.stats().lost, session.stats().unconfirmed), (0, 1));
    }

    #[test]
    fn a_second_source_does_not_take_over_while_the_first_is_heard() {
        let mut session = session(1);
        for i in 0..50 {
            assert!(give(&mut session, 9, i).is_some());
            assert_eq!(give(&mut session, 7, 4000 + i), None);
        }
    }

    #[test]
    fn what_is_not_rtp_is_counted() {
        let mut session = session(1);
        assert_eq!(
            session.handle_rtp(Instant::ZERO, &[1, 2, 3]),
            Received::Ignored(Reason::Malformed(ParseError::Truncated))
        );
        assert_eq!(session.handle_rtcp(Instant::ZERO, &[0x80, 200, 0, 9]), None);
        assert_eq!(session.stats().malformed, 2);
    }

    #[test]
    fn rtcp_is_told_from_rtp_by_its_packet_type() {
        assert!(Session::is_rtcp(&[0x80, 200, 0, 6]));
        assert!(Session::is_rtcp(&[0x81, 203, 0, 1]));
        assert!(!Session::is_rtcp(&rtp(1, 2)));
        assert!(!Session::is_rtcp(&[0x80, 0x80 | 101]), "marker and telephone event");
        assert!(!Session::is_rtcp(&[]));
    }

    #[test]
    fn packets_are_numbered_over_the_wrap() {
        let mut session = session(1);
        let mut out = [0; 200];
        assert_eq!(session.write_packet(0, true, 1000, &[0xff; 160], &mut out), 172);
        assert_eq!(Packet::parse(&out[..172]).expect("valid").sequence(), 65_535);
        session.write_packet(0, false, 1160, &[0xff; 160], &mut out);
        let packet = Packet::parse(&out[..172]).expect("valid");
        assert_eq!((packet.sequence(), packet.timestamp(), packet.marker()), (0, 1160, false));
        assert_eq!((session.stats().sent, session.stats().octets_sent), (2, 320));
        assert_eq!(session.timestamp(), 1160);
    }

    #[test]
    fn reports_come_about_every_five_seconds_and_never_in_step() {
        let mut session = session(1);
        let mut out = [0; rtcp::MAX_LEN];
        assert_eq!(session.poll_rtcp(Instant::ZERO, &mut out), None);
        let first = session.next_rtcp();
        assert!((1000..3200).contains(&first.as_millis()), "{first:?}");
        let mut last = first;
        let mut gaps = Vec::new();
        for _ in 0..200 {
            assert!(session.poll_rtcp(last, &mut out).is_some());
            assert_eq!(session.poll_rtcp(last, &mut out), None, "only once");
            gaps.push(session.next_rtcp().since(last).as_secs_f64());
            last = session.next_rtcp();
        }
        assert!(gaps.iter().all(|g| (2.0..6.2).contains(g)), "{gaps:?}");
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((3.8..4.4).contains(&mean), "{mean}");
    }

    #[test]
    fn who_sends_reports_as_sender_and_who_was_silent_as_receiver() {
        let mut session = session(1);
        let mut out = [0; rtcp::MAX_LEN];
        let now = Instant::from_millis(500);
        session.write_packet(0, true, 1000, &[0xff; 160], &mut [0; 200]);
        let n = session.write_report(now, false, &mut out);
        let sender = rtcp::parse(&out[..n], 0).expect("valid").sender.expect("sender report");
        assert_eq!(sender.ntp, 0xe000_0000_8000_0000);
        assert_eq!((sender.rtp_timestamp, sender.packets, sender.octets), (1000, 1, 160));
        let n = session.write_bye(now, &mut out);
        let news = rtcp::parse(&out[..n], 0).expect("valid");
        assert_eq!((news.sender, news.bye), (None, true));
    }

    #[test]
    fn loss_is_reported_as_a_fraction_since_the_last_report() {
        let mut session = session(1);
        let mut out = [0; rtcp::MAX_LEN];
        let mut report = |session: &mut Session| {
            let n = session.write_report(Instant::ZERO, false, &mut out);
            rtcp::parse(&out[..n], 9).expect("valid").report.expect("a block about source 9")
        };
        for sequence in [10, 11, 13] {
            give(&mut session, 9, sequence);
        }
        let block = report(&mut session);
        assert_eq!((block.fraction_lost, block.cumulative_lost, block.highest_sequence), (64, 1, 13));
        for sequence in 14..20 {
            give(&mut session, 9, sequence);
        }
        let block = report(&mut session);
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 1));
    }

    #[test]
    fn the_round_trip_is_measured_through_a_report_and_its_echo() {
        let (mut us, mut them) = (session(1), session(2));
        let mut out = [0; rtcp::MAX_LEN];
        us.write_packet(0, true, 0, &[0; 160], &mut [0; 200]);
        them.handle_rtp(Instant::ZERO, &rtp(1, 65_535));
        // 30 ms there, 1 s of thought, 20 ms back.
        let n = us.write_report(Instant::from_millis(1000), false, &mut out);
        them.handle_rtcp(Instant::from_millis(1030), &out[..n]);
        let n = them.write_report(Instant::from_millis(2030), false, &mut out);
        let news = us.handle_rtcp(Instant::from_millis(2050), &out[..n]).expect("valid");
        assert!(news.report.is_some());
        let rtt = us.stats().rtt_ms.expect("measured");
        assert!((rtt - 50.0).abs() < 0.1, "{rtt}");
        assert_eq!(us.stats().remote_lost, Some(0));
    }

    proptest! {
        #[test]
        fn no_datagram_panics(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20)) {
            let mut session = session(1);
            for (i, datagram) in datagrams.iter().enumerate() {
                let now = Instant::from_millis(i as u64 * 20);
                session.handle_rtp(now, datagram);
                session.handle_rtcp(now, datagram);
                session.write_report(now, false, &mut [0; rtcp::MAX_LEN]);
            }
        }
    }
}
