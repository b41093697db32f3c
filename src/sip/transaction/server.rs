//! The non-INVITE server transaction (RFC 3261 §17.2.2): Trying ──final──> Completed ──J──> over.
//!
//! This user agent answers every non-INVITE request at once with a final response, so Proceeding does not occur.

use crate::sip::timer::T1X64;
use crate::time::Instant;

use super::{Hop, Outbox};

#[derive(Debug)]
pub(crate) struct Server {
    hop: Hop,
    response: Vec<u8>,
    /// Timer J.
    end: Option<Instant>,
    over: bool,
}

impl Server {
    pub(crate) fn new(hop: Hop) -> Self {
        Self { hop, response: Vec::new(), end: None, over: false }
    }

    /// The same request again.
    pub(crate) fn handle_retransmission(&mut self, out: &mut Outbox) {
        if !self.response.is_empty() {
            out.resend(self.hop, &self.response);
        }
    }

    /// Sends the final response; a second one is ignored.
    pub(crate) fn respond(&mut self, now: Instant, bytes: Vec<u8>, out: &mut Outbox) {
        if !self.response.is_empty() {
            return;
        }
        out.send(self.hop, bytes.clone());
        self.response = bytes;
        if self.hop.transport.is_reliable() {
            self.over = true;
        } else {
            self.end = Some(now + T1X64);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.over |= self.end.is_some_and(|at| at <= now);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.over { None } else { self.end }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }
}
