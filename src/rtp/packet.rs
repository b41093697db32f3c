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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_packet_reads_field_by_field() {
        let bytes = [0x80, 0x88, 0x12, 0x34, 0x00, 0x00, 0x00, 0xa0, 0xde, 0xad, 0xbe, 0xef, 0xd5, 0xd5];
        let packet = Packet::parse(&bytes).expect("valid");
        assert_eq!(packet.payload_type(), 8);
        assert!(packet.marker());
        assert_eq!(packet.sequence(), 0x1234);
        assert_eq!(packet.timestamp(), 160);
        assert_eq!(packet.ssrc(), 0xdead_beef);
        assert_eq!(packet.payload(), [0xd5, 0xd5]);
    }

    #[test]
    fn csrcs_extension_and_padding_are_not_payload() {
        // RFC 3550 §5.1: V=2, P=1, X=1, CC=2; one extension word; three padding octets.
        let mut bytes = vec![0xb2, 0x00, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend([0; 8]);
        bytes.extend([0xbe, 0xde, 0, 1, 9, 9, 9, 9]);
        bytes.extend([0x55, 0x66]);
        bytes.extend([0, 0, 3]);
        assert_eq!(Packet::parse(&bytes).expect("valid").payload(), [0x55, 0x66]);
    }

    #[test]
    fn what_its_own_header_contradicts_is_refused() {
        let mut bytes = [0u8; 14];
        assert_eq!(Packet::parse(&bytes), Err(ParseError::Version));
        bytes[0] = 0x80;
        assert_eq!(Packet::parse(&bytes[..11]), Err(ParseError::Truncated));
        bytes[0] = 0x81;
        assert_eq!(Packet::parse(&bytes), Err(ParseError::Truncated), "CSRC list missing");
        bytes[0] = 0x90;
        assert_eq!(Packet::parse(&bytes), Err(ParseError::Truncated), "extension missing");
        bytes[0] = 0xa0;
        assert_eq!(Packet::parse(&bytes), Err(ParseError::Padding), "no padding octet at all");
        bytes[13] = 3;
        assert_eq!(Packet::parse(&bytes), Err(ParseError::Padding), "more padding than payload");
        bytes[13] = 2;
        assert_eq!(Packet::parse(&bytes).expect("all padding").payload(), [0_u8; 0]);
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.payload().len() <= bytes.len() - HEADER_LEN);
            }
        }

        #[test]
        fn what_is_written_reads_back(
            payload_type in 0u8..128, marker: bool, sequence: u16, timestamp: u32, ssrc: u32,
        ) {
            let header = PacketHeader { payload_type, marker, sequence, timestamp, ssrc };
            let mut out = [0xff; 20];
            prop_assert_eq!(header.write(&mut out), HEADER_LEN);
            let packet = Packet::parse(&out).expect("own packets are valid");
            prop_assert_eq!(packet.header(), header);
            prop_assert_eq!(packet.payload(), [0xff; 8]);
        }
    }
}
