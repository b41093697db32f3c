//! Refusing an incoming call.

use crate::sip::ua::Ua;
use crate::time::Instant;

use super::{EndReason, Event, SessionId, State};

impl Ua {
    /// Refuses an incoming call with a status from 300 to 699 (603 is sent for any other number). Nothing happens
    /// unless the call is undecided.
    pub fn reject(&mut self, now: Instant, session: SessionId, status: u16, reason: &str) {
        let status = if (300..=699).contains(&status) { status } else { 603 };
        if self.session_mut(session).is_some_and(|s| s.state == State::Ringing) {
            self.respond_to_invite(now, session, status, reason, &[], None);
            self.end(session, Event::Ended { session, by_remote: false, reason: EndReason::Rejected });
        }
        self.settle();
    }
}
