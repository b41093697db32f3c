//! SIP as a sans-IO user agent, caller (UAC) and callee (UAS): datagrams in, datagrams, events and a deadline out.
//!
//! ```text
//!                    ua (demultiplexes, answers what needs no session)
//!    handle_datagram ──> message::parse ──> transaction ──> session/<verb> ──> dialog
//!    poll_transmit   <── message::write <──     │ timers A..M    │ 2xx until ACK
//!    poll_event      <───────────────────────────────────────────┘
//! ```
//!
//! [`Ua`] owns every transaction and every session of one local address. It reads no clock and opens no socket:
//! the caller passes `now`, drains `poll_transmit` and `poll_event` after every call, and calls `handle_timeout`
//! when `poll_timeout` says so. Randomness (tags, branches, Call-IDs, cnonces) comes from one seed, so the same
//! inputs give the same bytes.
//!
//! Sources: RFC 3261 (SIP), RFC 6026 (2xx transactions), RFC 3581 (rport), RFC 7616 and 2617 (digest),
//! RFC 4475 (torture messages, in the tests).
//!
//! What we do not do: no `100rel` or `UPDATE` is offered (RFC 3262, 3311), so a peer that requires it gets 420; a
//! re-INVITE that changes the media is refused with 488; no registration; no name resolution (the caller passes an
//! address; a name in a Contact or Route means "where the peer's last message came from"); UDP only so far.
//! Transactions and hops already carry the transport, and their timers vanish where it is reliable.

pub mod digest;
pub mod message;

mod dialog;
mod session;
mod timer;
mod transaction;
mod ua;

#[cfg(test)]
mod testing;

pub use digest::Credentials;
pub use session::invite::Invite;
pub use session::{EndReason, Event, RINGING_LIMIT, SessionId};
pub use transaction::{Transmit, Transport};
pub use ua::{Stats, Ua, UaConfig};
