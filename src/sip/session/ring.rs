//! Provisional responses to an incoming call: ringing, early media.

use crate::sip::message::write::reason_phrase;
use crate::sip::ua::{ALLOW, Ua};
use crate::time::Instant;

use super::{SessionId, State};

impl Ua {
    /// Sends a provisional response, 180 or 183 (any of 101 to 199), with an answer for early media if there is one.
    /// Nothing happens unless the call is incoming and undecided.
    pub fn ring(&mut self, now: Instant, session: SessionId, status: u16, sdp: Option<&[u8]>) {
        let contact = self.contact();
        let ringing = self.session_mut(session).is_some_and(|s| s.state == State::Ringing);
        if ringing && matches!(status, 101..=199) {
            let extra = [("Contact", contact.as_str()), ("Allow", ALLOW)];
            self.respond_to_invite(now, session, status, reason_phrase(status), &extra, sdp);
        }
        self.settle();
    }
}
