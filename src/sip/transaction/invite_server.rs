//! The INVITE server transaction (RFC 3261 §17.2.1 with the Accepted state of RFC 6026 §8.5).
//!
//! ```text
//! Proceeding ──3xx-6xx──> Completed ──ACK──> Confirmed ──I──> over
//!      │                      └ G: resend, H: give up
//!      └──2xx──> Accepted ──L──> over      (the core repeats the 2xx)
//! ```

use crate::sip::timer::{Backoff, T1X64, T2, T4, earliest};
use crate::time::Instant;

use super::{Hop, Outbox};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
    Over,
}

#[derive(Debug)]
pub(crate) struct InviteServer {
    state: State,
    hop: Hop,
    /// The last provisional, or the final non-2xx response.
    response: Vec<u8>,
    /// Timer G.
    resend: Option<Backoff>,
    /// Timer H, I or L.
    end: Option<Instant>,
}

impl InviteServer {
    pub(crate) fn new(hop: Hop) -> Self {
        Self { state: State::Proceeding, hop, response: Vec::new(), resend: None, end: None }
    }

    /// The same INVITE again.
    pub(crate) fn handle_retransmission(&mut self, out: &mut Outbox) {
        if matches!(self.state, State::Proceeding | State::Completed) && !self.response.is_empty() {
            out.resend(self.hop, &self.response);
        }
    }

    /// An ACK with this transaction's branch; true if the core is to see it (ACK for a 2xx from an old peer).
    pub(crate) fn handle_ack(&mut self, now: Instant) -> bool {
        if self.state == State::Completed {
            self.resend = None;
            if self.hop.transport.is_reliable() {
                self.state = State::Over;
                self.end = None;
            } else {
                self.state = State::Confirmed;
                self.end = Some(now + T4);
            }
        }
        self.state == State::Accepted
    }

    /// Sends a response; nothing after a final one.
    pub(crate) fn respond(&mut self, now: Instant, status: u16, bytes: Vec<u8>, out: &mut Outbox) {
        if self.state != State::Proceeding {
            return;
        }
        out.send(self.hop, bytes.clone());
        match status {
            100..=199 => self.response = bytes,
            200..=299 => {
                self.state = State::Accepted;
                self.response = Vec::new();
                self.end = Some(now + T1X64);
            }
            _ => {
                self.state = State::Completed;
                self.response = bytes;
                self.resend = (!self.hop.transport.is_reliable()).then(|| Backoff::start(now, T2));
                self.end = Some(now + T1X64);
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if self.end.is_some_and(|at| at <= now) {
            self.state = State::Over;
            self.resend = None;
            self.end = None;
        } else if self.resend.as_mut().is_some_and(|r| r.fire(now)) {
            out.resend(self.hop, &self.response);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        earliest(self.resend.map(|r| r.at()), self.end)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }
}
