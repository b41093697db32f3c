//! Session descriptions: offer and answer for one audio stream, as pure functions.
//!
//! Octets in, octets and [`Negotiated`] out; nobody passes time, nothing is remembered between calls. Lines are parsed
//! and written by `sdp-types`. Sources: RFC 8866 (SDP), RFC 3264 (offer/answer), RFC 3551 (static payload types),
//! RFC 4733 §2.4 (telephone-event), RFC 3605 (`a=rtcp`), RFC 5761 §5.1 (`a=rtcp-mux`).
//!
//! Not done: SRTP (`RTP/SAVP` streams are refused), ICE, host names as addresses, multicast, more than one audio stream,
//! codecs beside G.711. Our RTCP shares the port of our RTP; offers and answers say so.

mod negotiate;
mod read;

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

pub use negotiate::{accept_answer, answer, offer};

/// What we offer, or can accept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalMedia {
    /// Where we receive.
    pub address: IpAddr,
    /// Port of RTP, and of RTCP.
    pub port: u16,
    /// In order of preference. An answer follows the offerer's order instead (RFC 3264 §6.1).
    pub codecs: Vec<Codec>,
    /// Payload type to offer for telephone events, commonly 101; `None` neither offers nor accepts them.
    pub telephone_event: Option<u8>,
    /// Number of the session and of its version: a description that differs from an earlier one of the same call
    /// needs a higher one.
    pub session_id: u64,
    /// Frame length we ask for (ms).
    pub ptime_ms: u32,
}

/// Codecs we speak. All have a clock rate of 8000 Hz and one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

impl Codec {
    /// The payload type RFC 3551 §6 gives it, and which we offer.
    #[must_use]
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }

    /// Its encoding name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }
}

/// Which way media flows, seen from us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// We only send.
    SendOnly,
    /// We only receive: the far end has us on hold, perhaps with music.
    RecvOnly,
    /// Neither.
    Inactive,
}

/// What both sides agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// Where our RTP goes. The address is unspecified (0.0.0.0) on an old-style hold; `direction` then forbids sending.
    pub remote: SocketAddr,
    /// Where our RTCP goes.
    pub remote_rtcp: SocketAddr,
    /// The codec.
    pub codec: Codec,
    /// Payload type to send it with.
    pub payload_type: u8,
    /// Payload type to send telephone events with, if agreed. We receive them with the number that we offered, which a
    /// well-behaved far end uses too.
    pub event_payload_type: Option<u8>,
    /// Frame length the far end asks for, else ours (ms).
    pub ptime_ms: u32,
    /// Which way media flows, seen from us.
    pub direction: Direction,
}

/// Why a session description cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SdpError {
    /// It breaks the rules of SDP: the far end's fault.
    #[error("sdp line {line}: {what}")]
    Malformed {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// It is longer than any sensible description.
    #[error("sdp of {0} octets is too long")]
    TooLong(usize),
    /// The far end refused our audio stream (port 0).
    #[error("the far end rejected the audio stream")]
    Rejected,
    /// It has no audio stream over plain RTP.
    #[error("sdp has no audio stream over RTP/AVP")]
    NoAudio,
    /// No codec of its audio stream is ours.
    #[error("sdp has no codec in common with ours")]
    NoCommonCodec,
    /// The audio stream has no unicast IP address.
    #[error("sdp line c= is missing or holds no unicast ip address")]
    NoAddress,
}
