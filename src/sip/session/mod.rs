//! Sessions: one INVITE usage each, from first request to last timer. One file per verb.
//!
//! ```text
//! caller:  Calling ───────2xx──────> Established ──BYE──> Over
//!             └── refusal, timer B, CANCEL ──────────────> Over
//! callee:  Ringing ──answer──> Accepted ──ACK──> Established ──BYE──> Over
//!             └── reject, CANCEL, BYE └── no ACK: BYE ──> Over
//! ```
//!
//! Every session gives exactly one final event (`Rejected`, `Cancelled` or `Ended`); its state stays a while longer,
//! until its last transaction is over, to answer what still comes.

pub(crate) mod answer;
pub(crate) mod auth;
pub(crate) mod bye;
pub(crate) mod cancel;
pub(crate) mod incoming;
pub(crate) mod invite;
pub(crate) mod reinvite;
pub(crate) mod reject;
pub(crate) mod ring;

use std::time::Duration;

use crate::time::Instant;

use super::dialog::Dialog;
use super::timer::{Backoff, earliest};
use super::transaction::Hop;
use auth::Authenticator;

/// The handle of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) u32);

/// What a session tells its owner. `Rejected`, `Cancelled` and `Ended` are final; each session gives one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Somebody calls us; `100 Trying` is already sent. Answer with `ring`, `answer`, `reject` or `hang_up`.
    Incoming {
        /// The new session.
        session: SessionId,
        /// The caller's address (From URI).
        from: String,
        /// The address the caller dialled (To URI).
        to: String,
        /// The address the call was routed to (Request-URI).
        target: String,
        /// The offer; `None` if the caller waits for ours in the answer.
        sdp: Option<Vec<u8>>,
    },
    /// A provisional response from the callee, 101 to 199 (100 says nothing about the callee).
    Progress {
        /// The session.
        session: SessionId,
        /// The status code.
        status: u16,
        /// The reason phrase.
        reason: String,
        /// The answer to our offer if the callee sends early media.
        sdp: Option<Vec<u8>>,
    },
    /// The callee answered and we acknowledged.
    Answered {
        /// The session.
        session: SessionId,
        /// The answer to our offer; `None` if it came with a provisional response only.
        sdp: Option<Vec<u8>>,
    },
    /// The caller acknowledged our answer.
    Acked {
        /// The session.
        session: SessionId,
        /// The caller's answer if its INVITE had no offer.
        sdp: Option<Vec<u8>>,
    },
    /// Our call was refused, or nobody answered it. Final.
    Rejected {
        /// The session.
        session: SessionId,
        /// The status code; locally made ones are 400 and 513 (the call could not be asked for), 408 (timer B)
        /// and 503 (too many sessions).
        status: u16,
        /// The reason phrase.
        reason: String,
    },
    /// The caller gave up before we answered. Final.
    Cancelled {
        /// The session.
        session: SessionId,
    },
    /// The session is over. Final.
    Ended {
        /// The session.
        session: SessionId,
        /// Whether the peer ended it.
        by_remote: bool,
        /// Why.
        reason: EndReason,
    },
}

impl Event {
    /// The session this is about.
    #[must_use]
    pub fn session(&self) -> SessionId {
        match self {
            Self::Incoming { session, .. }
            | Self::Progress { session, .. }
            | Self::Answered { session, .. }
            | Self::Acked { session, .. }
            | Self::Rejected { session, .. }
            | Self::Cancelled { session }
            | Self::Ended { session, .. } => *session,
        }
    }

    /// Whether this is the session's last event.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::Cancelled { .. } | Self::Ended { .. })
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// A BYE, ours or theirs.
    Bye,
    /// Our answer was never acknowledged (64·T1).
    AckTimeout,
    /// We cancelled, but the callee had just answered: acknowledged and hung up at once.
    Cancelled,
    /// We refused the call.
    Rejected,
    /// Nobody decided about an incoming call for [`RINGING_LIMIT`].
    RingTimeout,
}

/// The longest a call may ring: an incoming one is then refused with 480, an outgoing one cancelled. The owner is
/// expected to have a shorter limit; 3 minutes is timer C of RFC 3261 §16.6, after which proxies give up too.
pub const RINGING_LIMIT: Duration = Duration::from_secs(180);

/// The most sessions at once, lingering ones included.
pub(crate) const MAX_SESSIONS: usize = 16_384;
/// The most branches of one forked call that are told from each other.
pub(crate) const MAX_FORKS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Caller, no final response yet.
    Calling,
    /// Callee, no final response yet.
    Ringing,
    /// Callee, 2xx sent, ACK awaited.
    Accepted,
    Established,
    Over,
}

/// A 2xx that is repeated until its ACK comes (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(crate) struct AwaitingAck {
    pub(crate) cseq: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) hop: Hop,
    pub(crate) resend: Backoff,
    pub(crate) until: Instant,
}

/// A confirmed branch of our INVITE: its ACK is repeated whenever its 2xx is.
#[derive(Debug)]
pub(crate) struct Confirmed {
    pub(crate) tag: String,
    pub(crate) ack: Vec<u8>,
    pub(crate) hop: Hop,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) state: State,
    pub(crate) call_id: String,
    pub(crate) local_tag: String,
    /// What only a caller has.
    pub(crate) caller: Option<invite::Caller>,
    /// What only a callee has, until its final response.
    pub(crate) callee: Option<incoming::Callee>,
    pub(crate) dialog: Option<Dialog>,
    pub(crate) confirmed: Vec<Confirmed>,
    pub(crate) awaiting_ack: Option<AwaitingAck>,
    /// Hung up before the ACK: the BYE waits for it (RFC 3261 §15).
    pub(crate) bye_when_acked: bool,
    pub(crate) limit: Option<Instant>,
    pub(crate) auth: Option<Authenticator>,
    /// Nonces already tried for the BYE.
    pub(crate) bye_attempts: auth::Attempts,
    pub(crate) local_sdp: Vec<u8>,
    pub(crate) remote_sdp: Vec<u8>,
    /// Transactions that still refer to this session.
    pub(crate) transactions: u32,
}

impl Session {
    pub(crate) fn new(state: State, call_id: String, local_tag: String) -> Self {
        Self {
            state,
            call_id,
            local_tag,
            caller: None,
            callee: None,
            dialog: None,
            confirmed: Vec::new(),
            awaiting_ack: None,
            bye_when_acked: false,
            limit: None,
            auth: None,
            bye_attempts: auth::Attempts::default(),
            local_sdp: Vec::new(),
            remote_sdp: Vec::new(),
            transactions: 0,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let ack = self.awaiting_ack.as_ref().map(|a| a.resend.at().min(a.until));
        earliest(ack, self.limit)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.state == State::Over && self.transactions == 0 && self.awaiting_ack.is_none()
    }
}
