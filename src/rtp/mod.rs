//! RTP and RTCP for one stream each way: packets, sequence accounting, reordering, telephone events, reports.
//!
//! Datagrams in, views of their payload and counters out; datagrams out into the caller's buffers. The caller passes
//! `now`. Nothing allocates after construction, nothing fails: a bad packet is a counter.
//! Sources: RFC 3550 (RTP, RTCP), RFC 3551 (profile), RFC 4733 (telephone events), RFC 5761 (demultiplexing).
//!
//! Not done: SRTP, RTCP feedback and extended reports (RFC 4585, 3611), mixers (CSRC lists are skipped), encryption of
//! any kind, and scaling of the RTCP interval with group size (there are two parties).

pub mod dtmf;
mod packet;
mod reorder;
pub mod rtcp;
pub mod sequence;
mod session;

pub use packet::{HEADER_LEN, Packet, PacketHeader, ParseError};
pub use reorder::{PushOutcome, Released, Reorder};
pub use rtcp::RtcpNews;
pub use session::{Reason, Received, Session, SessionConfig, Stats};

#[cfg(test)]
mod tests;
