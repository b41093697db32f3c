//! Session.
use super::packet::{Packet, ParseError};
use super::rtcp::RtcpNews;
use crate::time::Instant;

/// What a session starts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionConfig {
    /// Our SSRC, random.
    pub ssrc: u32,
    /// First sequence number, random.
    pub sequence: u16,
    /// First timestamp, random.
    pub timestamp: u32,
    /// Timestamp units per second [Hz]; 8000 for G.711.
    pub clock_hz: u32,
    /// Canonical name: 16 printable ASCII octets, random per call (RFC 7022).
    pub cname: [u8; 16],
    /// NTP time [32.32] of `Instant::ZERO`.
    pub ntp_epoch: u64,
}

/// What became of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received<'a> {
    /// A packet to use.
    Packet {
        /// Extended sequence number; rises over wraps and restarts.
        sequence: u64,
        /// The packet.
        packet: Packet<'a>,
        /// The source changed or restarted: reorder stage, concealment and event receiver must start afresh.
        new_source: bool,
    },
    /// Not to be used; counted.
    Ignored(Reason),
}

/// Why a datagram was ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Not RTP.
    Malformed(ParseError),
    /// Received before.
    Duplicate,
    /// From another source, or far out of sequence, and not yet confirmed by a second packet.
    Unconfirmed,
}

/// Counters of a session.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Stats {
    /// Packets received, without duplicates.
    pub received: u64,
    /// Packets lost so far.
    pub lost: u64,
    /// Packets received more than once.
    pub duplicates: u64,
    /// Packets received after a later one.
    pub reordered: u64,
    /// Datagrams that were not RTP or RTCP.
    pub malformed: u64,
    /// Packets ignored because their source was not (yet) trusted.
    pub unconfirmed: u64,
    /// Interarrival jitter [ms] (RFC 3550 A.8).
    pub jitter_ms: f32,
    /// Packets sent.
    pub sent: u64,
    /// Payload octets sent.
    pub octets_sent: u64,
    /// Round trip [ms], once the far end has reported.
    pub rtt_ms: Option<f32>,
    /// Packets of ours the far end says it lost.
    pub remote_lost: Option<i32>,
    /// The far end's jitter [ms].
    pub remote_jitter_ms: Option<f32>,
}

/// One SSRC's send and receive state.
#[derive(Clone, Debug)]
pub struct Session {}
impl Session {
    /// New.
    #[must_use]
    pub fn new(_config: SessionConfig) -> Self {
        todo!()
    }
    /// Takes an RTP datagram.
    pub fn handle_rtp<'a>(&mut self, _now: Instant, _datagram: &'a [u8]) -> Received<'a> {
        todo!()
    }
    /// Takes an RTCP datagram.
    pub fn handle_rtcp(&mut self, _now: Instant, _datagram: &[u8]) -> Option<RtcpNews> {
        todo!()
    }
    /// Whether a datagram is RTCP (RFC 5761 §4).
    #[must_use]
    pub fn is_rtcp(_datagram: &[u8]) -> bool {
        todo!()
    }
    /// Writes one RTP packet to the front of `out`, returning its length.
    pub fn write_packet(
        &mut self,
        _payload_type: u8,
        _marker: bool,
        _timestamp: u32,
        _payload: &[u8],
        _out: &mut [u8],
    ) -> usize {
        todo!()
    }
    /// Writes a report when due, returning its length.
    pub fn poll_rtcp(&mut self, _now: Instant, _out: &mut [u8]) -> Option<usize> {
        todo!()
    }
    /// When [`Self::poll_rtcp`] is next due.
    #[must_use]
    pub fn next_rtcp(&self) -> Instant {
        todo!()
    }
    /// Writes the last report with BYE, returning its length.
    pub fn write_bye(&mut self, _now: Instant, _out: &mut [u8]) -> usize {
        todo!()
    }
    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        todo!()
    }
}
