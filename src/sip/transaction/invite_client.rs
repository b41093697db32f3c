//! The INVITE client transaction (RFC 3261 §17.1.1 with the Accepted state of RFC 6026 §8.4).
//!
//! ```text
//! Calling ──1xx──> Proceeding ──3xx-6xx──> Completed ──D──> over
//!    │ A: resend, B: give up    └──2xx──> Accepted ──M──> over
//! ```

use crate::sip::message::Method;
use crate::sip::message::write::RequestHead;
use crate::sip::timer::{Backoff, T1X64, earliest};
use crate::time::Instant;

use super::{Hop, Outbox};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Calling,
    Proceeding,
    Completed,
    Accepted,
    Over,
}

#[derive(Debug)]
pub(crate) struct InviteClient {
    state: State,
    head: RequestHead,
    hop: Hop,
    bytes: Vec<u8>,
    ack: Vec<u8>,
    /// Timer A.
    resend: Option<Backoff>,
    /// Timer B, D or M.
    end: Option<Instant>,
}

impl InviteClient {
    pub(crate) fn start(now: Instant, head: RequestHead, hop: Hop, bytes: Vec<u8>, out: &mut Outbox) -> Self {
        out.send(hop, bytes.clone());
        Self {
            state: State::Calling,
            head,
            hop,
            bytes,
            ack: Vec::new(),
            // Timer A doubles without a cap (§17.1.1.2).
            resend: (!hop.transport.is_reliable()).then(|| Backoff::start(now, T1X64)),
            end: Some(now + T1X64),
        }
    }

    pub(crate) fn head(&self) -> &RequestHead {
        &self.head
    }

    pub(crate) fn hop(&self) -> Hop {
        self.hop
    }

    /// Takes a response with its To value; true if the core is to see it.
    pub(crate) fn handle_response(&mut self, now: Instant, status: u16, to: &str, out: &mut Outbox) -> bool {
        match (self.state, status) {
            (State::Calling | State::Proceeding, 100..=199) => {
                self.state = State::Proceeding;
                self.resend = None;
                self.end = None;
                true
            }
            (State::Calling | State::Proceeding, 200..=299) => {
                self.state = State::Accepted;
                self.resend = None;
                self.end = Some(now + T1X64);
                true
            }
            (State::Calling | State::Proceeding, _) => {
                self.resend = None;
                let ack = RequestHead { method: Method::Ack, to: to.to_owned(), ..self.head.clone() };
                self.ack = ack.write(&[], None);
                out.send(self.hop, self.ack.clone());
                if self.hop.transport.is_reliable() {
                    self.state = State::Over;
                    self.end = None;
                } else {
                    self.state = State::Completed;
                    self.end = Some(now + T1X64);
                }
                true
            }
            (State::Completed, 300..) => {
                out.send(self.hop, self.ack.clone());
                false
            }
            (State::Accepted, 200..=299) => true,
            _ => false,
        }
    }

    /// True if timer B ended an unanswered request.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> bool {
        if self.end.is_some_and(|at| at <= now) {
            let unanswered = self.state == State::Calling;
            self.abandon();
            return unanswered;
        }
        if self.resend.as_mut().is_some_and(|r| r.fire(now)) {
            out.resend(self.hop, &self.bytes);
        }
        false
    }

    /// Ends the transaction without an answer (RFC 3261 §9.1: 64·T1 after a CANCEL).
    pub(crate) fn abandon(&mut self) {
        self.state = State::Over;
        self.resend = None;
        self.end = None;
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        earliest(self.resend.map(|r| r.at()), self.end)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }
}
