//! RTCP compound packets: sender and receiver reports, canonical name, goodbye.
//!
//! Datagram in, [`RtcpNews`] out; fields in, octets in the caller's buffer out. NTP times are passed in. Own code on both
//! ways, because `rtcp-types` allocates for every SDES chunk; the tests check one against the other.
//! Source: RFC 3550 §6.4 (reports), §6.5 (SDES), §6.6 (BYE), A.2 (validity). Packets of other types are skipped.

/// Octets of the longest compound packet written here: sender report, one block, canonical name, goodbye.
pub const MAX_LEN: usize = 28 + BLOCK_LEN + SDES_LEN + 8;

const BLOCK_LEN: usize = 24;
const SDES_LEN: usize = 28;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SDES: u8 = 202;
const BYE: u8 = 203;

/// What an RTCP compound packet said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RtcpNews {
    /// The source that sent it, if it holds a report.
    pub source: Option<u32>,
    /// The far end's own sending, if it sends.
    pub sender: Option<SenderInfo>,
    /// What it says about our stream, if anything.
    pub report: Option<ReportBlock>,
    /// Whether a source left. After a transfer it may be the old one: not by itself the end of a call.
    pub bye: bool,
}

/// Sender information of a sender report (RFC 3550 §6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SenderInfo {
    /// Wall time as NTP, 32.32 fixed point.
    pub ntp: u64,
    /// The same instant in RTP timestamp units.
    pub rtp_timestamp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Payload octets sent so far.
    pub octets: u32,
}

/// Reception report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReportBlock {
    /// The source it is about.
    pub ssrc: u32,
    /// Fraction lost since the previous report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost so far, signed 24 bits.
    pub cumulative_lost: i32,
    /// Extended highest sequence number received.
    pub highest_sequence: u32,
    /// Interarrival jitter [timestamp units].
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report, 0 if none came.
    pub last_sr: u32,
    /// Delay from receiving that report to sending this one [1/65536 s].
    pub delay_since_last_sr: u32,
}

/// A report to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report<'a> {
    /// Our source.
    pub ssrc: u32,
    /// Our sending: makes it a sender report.
    pub sender: Option<SenderInfo>,
    /// What we receive.
    pub block: Option<ReportBlock>,
    /// Canonical name, 16 octets of printable ASCII.
    pub cname: &'a [u8; 16],
    /// Whether we leave.
    pub bye: bool,
}

/// NTP time, 32.32 fixed point, of `nanos` after the Unix epoch.
#[must_use]
pub const fn ntp_from_unix_nanos(nanos: u64) -> u64 {
    // RFC 868: 70 years with 17 leap days lie between 1900 and 1970.
    ntp_span(nanos).wrapping_add(2_208_988_800 << 32)
}

/// A span of `nanos` nanoseconds as 32.32 fixed-point seconds.
#[must_use]
pub const fn ntp_span(nanos: u64) -> u64 {
    (((nanos as u128) << 32) / 1_000_000_000) as u64
}

/// The middle 32 bits of an NTP time: 16.16 fixed-point seconds, as reports use it.
#[must_use]
pub const fn ntp_middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

impl Report<'_> {
    /// Writes the compound packet to the front of `out` and returns its length, at most [`MAX_LEN`].
    ///
    /// # Panics
    /// If `out` is too short, which is the caller's bug.
    pub fn write(&self, out: &mut [u8]) -> usize {
        let mut to = Writer { out, at: 0 };
        let count = u8::from(self.block.is_some());
        let block_len = usize::from(count) * BLOCK_LEN;
        match self.sender {
            Some(sender) => {
                to.head(count, SENDER_REPORT, 28 + block_len);
                to.u32(self.ssrc);
                to.u32((sender.ntp >> 32) as u32);
                to.u32(sender.ntp as u32);
                to.u32(sender.rtp_timestamp);
                to.u32(sender.packets);
                to.u32(sender.octets);
            }
            None => {
                to.head(count, RECEIVER_REPORT, 8 + block_len);
                to.u32(self.ssrc);
            }
        }
        if let Some(block) = &self.block {
            block.write(&mut to);
        }
        to.head(1, SDES, SDES_LEN);
        to.u32(self.ssrc);
        to.put(&[1, self.cname.len() as u8]);
        to.put(self.cname);
        to.put(&[0, 0]);
        if self.bye {
            to.head(1, BYE, 8);
            to.u32(self.ssrc);
        }
        to.at
    }
}

impl ReportBlock {
    fn write(&self, to: &mut Writer<'_>) {
        let lost = self.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        to.u32(self.ssrc);
        to.u32(u32::from(self.fraction_lost) << 24 | lost);
        to.u32(self.highest_sequence);
        to.u32(self.jitter);
        to.u32(self.last_sr);
        to.u32(self.delay_since_last_sr);
    }

    fn read(words: &[u8; BLOCK_LEN]) -> Self {
        let word = |i: usize| be32(words, i * 4);
        Self {
            ssrc: word(0),
            fraction_lost: (word(1) >> 24) as u8,
            // Shifting the 24 bits to the top and back extends the sign.
            cumulative_lost: ((word(1) << 8) as i32) >> 8,
            highest_sequence: word(2),
            jitter: word(3),
            last_sr: word(4),
            delay_since_last_sr: word(5),
        }
    }
}

/// Reads a compound packet; `ours` is the source whose report block is wanted. `None` if the lengths do not add up or a
/// version is not 2.
#[must_use]
pub fn parse(mut datagram: &[u8], ours: u32) -> Option<RtcpNews> {
    let mut news = RtcpNews::default();
    if datagram.is_empty() {
        return None;
    }
    while !datagram.is_empty() {
        let (head, rest) = datagram.split_first_chunk::<4>()?;
        if head[0] >> 6 != 2 {
            return None;
        }
        let (body, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[2], head[3]])) * 4)?;
        news.read(head[1], head[0] & 0x1f, body, ours)?;
        datagram = after;
    }
    Some(news)
}

impl RtcpNews {
    fn read(&mut self, kind: u8, count: u8, body: &[u8], ours: u32) -> Option<()> {
        let blocks = match kind {
            SENDER_REPORT => {
                let (info, blocks) = body.split_at_checked(24)?;
                self.source = Some(be32(info, 0));
                self.sender = Some(SenderInfo {
                    ntp: u64::from(be32(info, 4)) << 32 | u64::from(be32(info, 8)),
                    rtp_timestamp: be32(info, 12),
                    packets: be32(info, 16),
                    octets: be32(info, 20),
                });
                blocks
            }
            RECEIVER_REPORT => {
                let (source, blocks) = body.split_at_checked(4)?;
                self.source = Some(be32(source, 0));
                blocks
            }
            BYE => {
                self.bye = true;
                return Some(());
            }
            _ => return Some(()),
        };
        let blocks = blocks.get(..usize::from(count) * BLOCK_LEN)?;
        let (blocks, _) = blocks.as_chunks::<BLOCK_LEN>();
        if let Some(block) = blocks.iter().map(ReportBlock::read).find(|b| b.ssrc == ours) {
            self.report = Some(block);
        }
        Some(())
    }
}

/// The big-endian word at `at`; the caller has checked the length.
fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |b| u32::from_be_bytes(*b))
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    /// `len` counts the whole packet, head included, in octets.
    fn head(&mut self, count: u8, kind: u8, len: usize) {
        let words = (len / 4 - 1) as u16;
        self.put(&[2 << 6 | count, kind]);
        self.put(&words.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtcp_types::{Compound, Packet};

    use super::*;

    const CNAME: &[u8; 16] = b"0123456789abcdef";

    fn report() -> Report<'static> {
        Report {
            ssrc: 0x1111_2222,
            sender: Some(SenderInfo {
                ntp: 0xe000_0000_8000_0000,
                rtp_timestamp: 160,
                packets: 7,
                octets: 1120,
            }),
            block: Some(ReportBlock {
                ssrc: 0x3333_4444,
                fraction_lost: 64,
                cumulative_lost: -2,
                highest_sequence: 0x1_0005,
                jitter: 12,
                last_sr: 0xdead_beef,
                delay_since_last_sr: 65536,
            }),
            cname: CNAME,
            bye: true,
        }
    }

    #[test]
    fn another_implementation_reads_what_we_write() {
        let mut out = [0; MAX_LEN];
        let n = report().write(&mut out);
        assert_eq!(n, MAX_LEN);
        let packets: Vec<_> =
            Compound::parse(&out[..n]).expect("valid").map(|p| p.expect("valid packet")).collect();
        let [Packet::Sr(sr), Packet::Sdes(sdes), Packet::Bye(bye)] = &packets[..] else {
            panic!("{packets:?}")
        };
        assert_eq!((sr.ssrc(), sr.ntp_timestamp()), (0x1111_2222, 0xe000_0000_8000_0000));
        assert_eq!((sr.rtp_timestamp(), sr.packet_count(), sr.octet_count()), (160, 7, 1120));
        let block = sr.report_blocks().next().expect("one block");
        assert_eq!((block.ssrc(), block.fraction_lost()), (0x3333_4444, 64));
        assert_eq!(block.cumulative_lost(), 0xff_fffe);
        assert_eq!((block.extended_sequence_number(), block.interarrival_jitter()), (0x1_0005, 12));
        assert_eq!(block.last_sender_report_timestamp(), 0xdead_beef);
        assert_eq!(block.delay_since_last_sender_report_timestamp(), 65536);
        let item = sdes.chunks().next().expect("a chunk").items().next().expect("an item");
        assert_eq!((item.type_(), item.value()), (1, &CNAME[..]));
        assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [0x1111_2222]);
    }

    #[test]
    fn we_read_what_we_write() {
        let mut out = [0; MAX_LEN];
        let n = report().write(&mut out);
        let news = parse(&out[..n], 0x3333_4444).expect("valid");
        assert_eq!(news.source, Some(0x1111_2222));
        assert_eq!((news.sender, news.report, news.bye), (report().sender, report().block, true));
        assert_eq!(parse(&out[..n], 1).expect("valid").report, None, "not about us");
    }

    #[test]
    fn a_receiver_report_without_blocks_is_thirty_six_octets_with_the_name() {
        let mut out = [0; MAX_LEN];
        let n = Report { sender: None, block: None, bye: false, ..report() }.write(&mut out);
        assert_eq!(n, 36);
        assert_eq!(out[..8], [0x80, 201, 0, 1, 0x11, 0x11, 0x22, 0x22]);
        assert_eq!(out[8..18], [0x81, 202, 0, 6, 0x11, 0x11, 0x22, 0x22, 1, 16]);
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        let mut out = [0; MAX_LEN];
        let n = report().write(&mut out);
        assert_eq!(parse(&[], 1), None);
        assert_eq!(parse(&out[..n - 1], 1), None);
        out[0] = 0x82;
        assert_eq!(parse(&out[..n], 1), None, "two blocks announced, one there");
        out[0] = 0x41;
        assert_eq!(parse(&out[..n], 1), None, "version 1");
    }

    #[test]
    fn the_unix_epoch_is_in_ntp_where_rfc_868_puts_it() {
        assert_eq!(ntp_from_unix_nanos(500_000_000), 2_208_988_800 << 32 | 0x8000_0000);
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..120), ours: u32) {
            let _ = parse(&bytes, ours);
        }

        #[test]
        fn no_mutated_report_panics(at in 0usize..MAX_LEN, value: u8, cut in 0usize..=MAX_LEN) {
            let mut out = [0; MAX_LEN];
            let n = report().write(&mut out);
            out[at] = value;
            let _ = parse(&out[..n.min(cut)], 0x3333_4444);
        }
    }
}
