//! The non-INVITE client transaction (RFC 3261 §17.1.2).
//!
//! ```text
//! Trying ──1xx──> Proceeding ──final──> Completed ──K──> over
//!    └ E: resend (T1 doubling to T2; T2 in Proceeding), F: give up
//! ```

use crate::sip::timer::{Backoff, T1X64, T2, T4, earliest};
use crate::time::Instant;

use super::{Hop, Outbox};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Trying,
    Proceeding,
    Completed,
    Over,
}

#[derive(Debug)]
pub(crate) struct Client {
    state: State,
    hop: Hop,
    bytes: Vec<u8>,
    /// Timer E.
    resend: Option<Backoff>,
    /// Timer F or K.
    end: Option<Instant>,
}

impl Client {
    pub(crate) fn start(now: Instant, hop: Hop, bytes: Vec<u8>, out: &mut Outbox) -> Self {
        out.send(hop, bytes.clone());
        let resend = (!hop.transport.is_reliable()).then(|| Backoff::start(now, T2));
        Self { state: State::Trying, hop, bytes, resend, end: Some(now + T1X64) }
    }

    /// True if the core is to see the response.
    pub(crate) fn handle_response(&mut self, now: Instant, status: u16) -> bool {
        match (self.state, status) {
            (State::Trying | State::Proceeding, 100..=199) => {
                self.state = State::Proceeding;
                if let Some(resend) = &mut self.resend {
                    resend.slow();
                }
                true
            }
            (State::Trying | State::Proceeding, _) => {
                self.resend = None;
                if self.hop.transport.is_reliable() {
                    self.state = State::Over;
                    self.end = None;
                } else {
                    self.state = State::Completed;
                    self.end = Some(now + T4);
                }
                true
            }
            _ => false,
        }
    }

    /// True if timer F ended an unanswered request.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> bool {
        if self.end.is_some_and(|at| at <= now) {
            let unanswered = self.state != State::Completed;
            self.state = State::Over;
            self.resend = None;
            self.end = None;
            return unanswered;
        }
        if self.resend.as_mut().is_some_and(|r| r.fire(now)) {
            out.resend(self.hop, &self.bytes);
        }
        false
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        earliest(self.resend.map(|r| r.at()), self.end)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }
}
