//! Symmetric RTP: which address is the far end's, and who is a stranger.
//!
//! In: the address the session description names, and the source of every datagram. Out: whether to take the
//! datagram, and where to send. The described address is believed at once. Another source (the far end behind NAT)
//! is believed after [`PROBATION`] consecutive packets of one stream, and only while the described address is silent;
//! afterwards everyone else is a stranger. A simple form of RFC 4961 with the latching that RFC 7362 §4 describes.

use std::net::SocketAddr;

use crate::rtp::Packet;

/// Consecutive packets from one undescribed source before it is believed.
pub(super) const PROBATION: u8 = 4;

#[derive(Default)]
pub(super) struct Latch {
    described: Option<SocketAddr>,
    latched: Option<SocketAddr>,
    candidate: Option<Candidate>,
}

struct Candidate {
    from: SocketAddr,
    ssrc: u32,
    sequence: u16,
    run: u8,
}

impl Latch {
    /// Believes `addr`, and doubts whoever else was believed so far.
    pub(super) fn describe(&mut self, addr: SocketAddr) {
        if self.described != Some(addr) {
            self.described = Some(addr);
            self.latched = self.latched.filter(|&latched| latched == addr);
            self.candidate = None;
        }
    }

    /// Whether to take an RTP datagram from `from`.
    pub(super) fn admits_rtp(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        if self.latched == Some(from) {
            return true;
        }
        if self.described == Some(from) {
            self.latched = Some(from);
            return true;
        }
        if self.latched.is_some() {
            return false;
        }
        let Ok(packet) = Packet::parse(datagram) else { return false };
        let run = match &self.candidate {
            Some(c)
                if c.from == from
                    && c.ssrc == packet.ssrc()
                    && c.sequence.wrapping_add(1) == packet.sequence() =>
            {
                c.run + 1
            }
            _ => 1,
        };
        self.candidate = Some(Candidate { from, ssrc: packet.ssrc(), sequence: packet.sequence(), run });
        if run >= PROBATION {
            self.latched = Some(from);
            self.candidate = None;
        }
        self.latched.is_some()
    }

    /// Whether to take an RTCP datagram from `from`: its port may be another one.
    pub(super) fn admits_rtcp(&self, from: SocketAddr) -> bool {
        self.target().is_some_and(|target| target.ip() == from.ip())
    }

    /// Where to send RTP, once anything is known.
    pub(super) fn target(&self) -> Option<SocketAddr> {
        self.latched.or(self.described)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::PacketHeader;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn packet(sequence: u16) -> [u8; 12] {
        let mut out = [0; 12];
        PacketHeader { payload_type: 0, marker: false, sequence, timestamp: 0, ssrc: 7 }.write(&mut out);
        out
    }

    #[test]
    fn the_described_address_is_believed_at_once_and_others_are_strangers_then() {
        let mut latch = Latch::default();
        latch.describe(addr(4000));
        assert_eq!(latch.target(), Some(addr(4000)));
        assert!(latch.admits_rtp(addr(4000), &packet(1)));
        for sequence in 0..20 {
            assert!(!latch.admits_rtp(addr(6000), &packet(sequence)));
        }
        assert_eq!(latch.target(), Some(addr(4000)));
    }

    #[test]
    fn another_source_is_believed_after_consecutive_packets_while_the_described_one_is_silent() {
        let mut latch = Latch::default();
        latch.describe(addr(4000));
        let admitted: Vec<bool> = (10..16).map(|s| latch.admits_rtp(addr(5000), &packet(s))).collect();
        assert_eq!(admitted, [false, false, false, true, true, true]);
        assert_eq!(latch.target(), Some(addr(5000)));
        assert!(latch.admits_rtp(addr(4000), &packet(1)), "the described address always wins");
        assert_eq!(latch.target(), Some(addr(4000)));
    }

    #[test]
    fn scattered_packets_of_a_stranger_never_add_up() {
        let mut latch = Latch::default();
        for sequence in (0..40).step_by(2) {
            assert!(!latch.admits_rtp(addr(5000), &packet(sequence)));
            assert!(!latch.admits_rtp(addr(5000), b"not rtp at all"));
        }
        assert_eq!(latch.target(), None);
    }

    #[test]
    fn a_new_description_doubts_a_source_believed_before() {
        let mut latch = Latch::default();
        let admitted = (0..8).filter(|&s| latch.admits_rtp(addr(5000), &packet(s))).count();
        assert_eq!(admitted, 5);
        assert_eq!(latch.target(), Some(addr(5000)));
        latch.describe(addr(4000));
        assert_eq!(latch.target(), Some(addr(4000)));
        latch.describe(addr(4000));
        assert!(latch.admits_rtp(addr(4000), &packet(0)));
        assert!(latch.admits_rtcp(addr(4001)));
        assert!(!latch.admits_rtcp(SocketAddr::from(([192, 0, 2, 9], 4001))));
    }
}
