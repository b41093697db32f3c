//! The RTP packet: a borrowed view for reading, a 12-byte header for writing.
//!
//! Datagram in, view out; nobody passes time. Source: RFC 3550 §5.1, §5.3.1.

use thiserror::Error;

/// Octets of the fixed header.
pub const HEADER_LEN: usize = 12;

/// Why a datagram is not an RTP packet. Always the sender's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ParseError {
    /// Shorter than its own header says.
    #[error("rtp packet ends inside its header")]
    Truncated,
    /// The version field is not 2.
    #[error("rtp version is not 2")]
    Version,
    /// The padding count is zero or reaches into the header.
    #[error("rtp padding does not fit the packet")]
    Padding,
}

/// A received RTP packet, borrowed from its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    header: PacketHeader,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a datagram; CSRC list and header extension are skipped, padding is removed.
    ///
    /// # Errors
    /// [`ParseError`] when the lengths in the header do not fit the datagram or the version is not 2.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, ParseError> {
        let (fixed, rest) = datagram.split_first_chunk::<HEADER_LEN>().ok_or(ParseError::Truncated)?;
        if fixed[0] >> 6 != 2 {
            return Err(ParseError::Version);
        }
        let csrc_len = usize::from(fixed[0] & 0x0f) * 4;
        let mut payload = rest.get(csrc_len..).ok_or(ParseError::Truncated)?;
        if fixed[0] & 0x10 != 0 {
            let (head, after) = payload.split_first_chunk::<4>().ok_or(ParseError::Truncated)?;
            let words = usize::from(u16::from_be_bytes([head[2], head[3]]));
            payload = after.get(words * 4..).ok_or(ParseError::Truncated)?;
        }
        if fixed[0] & 0x20 != 0 {
            let padding = usize::from(*payload.last().ok_or(ParseError::Padding)?);
            if padding == 0 || padding > payload.len() {
                return Err(ParseError::Padding);
            }
            payload = &payload[..payload.len() - padding];
        }
        Ok(Self { header: PacketHeader::read(fixed), payload })
    }

    /// Sequence number.
    #[must_use]
    pub const fn sequence(&self) -> u16 {
        self.header.sequence
    }

    /// Sampling instant of the first payload octet, in units of the clock rate.
    #[must_use]
    pub const fn timestamp(&self) -> u32 {
        self.header.timestamp
    }

    /// Synchronisation source.
    #[must_use]
    pub const fn ssrc(&self) -> u32 {
        self.header.ssrc
    }

    /// Payload type, 0–127.
    #[must_use]
    pub const fn payload_type(&self) -> u8 {
        self.header.payload_type
    }

    /// The marker bit: for audio, the first packet after silence (RFC 3551 §4.1).
    #[must_use]
    pub const fn marker(&self) -> bool {
        self.header.marker
    }

    /// The payload without padding.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The fixed header's fields.
    #[must_use]
    pub const fn header(&self) -> PacketHeader {
        self.header
    }
}

/// The fields of the fixed header that a sender chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PacketHeader {
    /// Payload type, 0–127.
    pub payload_type: u8,
    /// Marker bit.
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in units of the clock rate.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

impl PacketHeader {
    /// Writes the 12 octets to the front of `out` and returns 12.
    ///
    /// # Panics
    /// If `out` is shorter than 12 octets, which is the caller's bug.
    pub fn write(&self, out: &mut [u8]) -> usize {
        let out = out.first_chunk_mut::<HEADER_LEN>().expect("room for the fixed header");
        out[0] = 2 << 6;
        out[1] = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        out[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        HEADER_LEN
    }

    fn read(fixed: &[u8; HEADER_LEN]) -> Self {
        let [_, flags, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3] = *fixed;
        Self {
            payload_type: flags & 0x7f,
            marker: flags & 0x80 != 0,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([r0, r1, r2, r3]),
        }
    }
}
