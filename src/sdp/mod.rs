//! Offer and answer.
use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

/// What we offer or can accept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalMedia {
    /// Where we receive.
    pub address: IpAddr,
    /// RTP port.
    pub port: u16,
    /// In order of preference.
    pub codecs: Vec<Codec>,
    /// Payload type of telephone events, if wanted; commonly 101.
    pub telephone_event: Option<u8>,
    /// Number of the session, also its version.
    pub session_id: u64,
    /// Frame length [ms].
    pub ptime_ms: u32,
}

/// Codecs we speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// G.711 µ-law, payload type 0.
    Pcmu,
    /// G.711 A-law, payload type 8.
    Pcma,
}

/// Which way media flows, seen from us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// We only send.
    SendOnly,
    /// We only receive.
    RecvOnly,
    /// Neither.
    Inactive,
}

/// What both sides agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// Where RTP goes.
    pub remote: SocketAddr,
    /// Where RTCP goes.
    pub remote_rtcp: SocketAddr,
    /// The codec.
    pub codec: Codec,
    /// Its payload type as the far end wants it.
    pub payload_type: u8,
    /// Payload type of telephone events, if agreed.
    pub event_payload_type: Option<u8>,
    /// Frame length to send [ms].
    pub ptime_ms: u32,
    /// Seen from us.
    pub direction: Direction,
}

/// Why a session description cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SdpError {
    /// Not SDP.
    #[error("sdp line {line}: {what}")]
    Malformed {
        /// 1-based.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// The far end refused our audio (port 0).
    #[error("the audio stream was rejected")]
    Rejected,
    /// No audio over RTP/AVP at all.
    #[error("no audio stream over RTP/AVP")]
    NoAudio,
    /// No common codec.
    #[error("no codec in common")]
    NoCommonCodec,
    /// No usable address.
    #[error("no usable connection address")]
    NoAddress,
}

/// Our offer.
#[must_use]
pub fn offer(_local: &LocalMedia) -> Vec<u8> {
    todo!()
}
/// Reads the answer to our offer.
///
/// # Errors
/// [`SdpError`].
pub fn accept_answer(_local: &LocalMedia, _answer: &[u8]) -> Result<Negotiated, SdpError> {
    todo!()
}
/// Answers an offer.
///
/// # Errors
/// [`SdpError`].
pub fn answer(_local: &LocalMedia, _offer: &[u8]) -> Result<(Vec<u8>, Negotiated), SdpError> {
    todo!()
}
