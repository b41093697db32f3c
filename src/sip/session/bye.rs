//! Hanging up, from either side (RFC 3261 §15), and the one command that fits every state.

use crate::sip::dialog::Dialog;
use crate::sip::message::{Message, Method};
use crate::sip::transaction::{Purpose, Transport, TxId};
use crate::sip::ua::Ua;
use crate::time::Instant;

use super::auth::Attempts;
use super::{EndReason, Event, SessionId, State};

impl Ua {
    /// Hangs up an answered call; the session is over at once. A callee that still waits for the ACK sends its BYE
    /// when the ACK comes or will come no more. Nothing happens before the answer.
    pub fn bye(&mut self, now: Instant, session: SessionId) {
        self.hang_up_answered(now, session);
        self.settle();
    }

    /// Ends a session by whatever fits its state: CANCEL, 603, or BYE.
    pub fn hang_up(&mut self, now: Instant, session: SessionId) {
        match self.sessions.get(&session).map(|s| s.state) {
            Some(State::Calling) => self.cancel(now, session),
            Some(State::Ringing) => self.reject(now, session, 603, "Decline"),
            Some(State::Accepted | State::Established) => self.bye(now, session),
            Some(State::Over) | None => {}
        }
    }

    fn hang_up_answered(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.session_mut(id) else { return };
        if !matches!(session.state, State::Accepted | State::Established) {
            return;
        }
        let wait = session.awaiting_ack.is_some();
        session.bye_when_acked = wait;
        self.end(id, Event::Ended { session: id, by_remote: false, reason: EndReason::Bye });
        if !wait {
            self.send_bye(now, id);
        }
    }

    /// Sends BYE in the session's dialog, with credentials if the INVITE needed them.
    pub(crate) fn send_bye(&mut self, now: Instant, id: SessionId) {
        let cnonce = self.ids.token();
        let agent = self.config.user_agent.clone();
        let (via, branch) = self.new_via(Transport::Udp);
        let Some(session) = self.session_mut(id) else { return };
        let Some(dialog) = &mut session.dialog else { return };
        let (head, hop) = dialog.request(Method::Bye, &via);
        let mut lines = Vec::new();
        if let Some(auth) = &mut session.auth {
            auth.preempt(&mut session.bye_attempts);
            lines = auth.lines("BYE", &head.uri, &cnonce);
        }
        let mut extra = vec![("User-Agent", agent.as_str())];
        extra.extend(lines.iter().map(|(n, v)| (*n, v.as_str())));
        let bytes = head.write(&extra, None);
        session.transactions += 1;
        let owner = (id, Purpose::Bye);
        self.transactions.request(now, head, &branch, hop, bytes, owner, &mut self.out);
    }

    /// Hangs up a branch of a forked call that answered too late (RFC 3261 §13.2.2.4).
    pub(crate) fn send_fork_bye(&mut self, now: Instant, id: SessionId, mut dialog: Dialog) {
        let cnonce = self.ids.token();
        let (via, branch) = self.new_via(Transport::Udp);
        let (head, hop) = dialog.request(Method::Bye, &via);
        let Some(session) = self.session_mut(id) else { return };
        session.transactions += 1;
        let lines = session.auth.as_mut().map(|a| a.lines("BYE", &head.uri, &cnonce)).unwrap_or_default();
        let extra: Vec<_> = lines.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let bytes = head.write(&extra, None);
        let owner = (id, Purpose::ForkBye);
        self.transactions.request(now, head, &branch, hop, bytes, owner, &mut self.out);
    }

    /// A response to our BYE: a challenge is answered, anything else ends the matter.
    pub(crate) fn handle_bye_response(&mut self, now: Instant, id: SessionId, response: &Message) {
        if !matches!(response.status(), Some(401 | 407)) {
            return;
        }
        let Some(session) = self.session_mut(id) else { return };
        let mut attempts: Attempts = std::mem::take(&mut session.bye_attempts);
        let again = session.auth.as_mut().is_some_and(|a| a.handle_challenge(response, &mut attempts));
        session.bye_attempts = attempts;
        if again {
            self.send_bye(now, id);
        }
    }

    /// The peer's BYE; it may come before the ACK, and from a caller even before our answer.
    pub(crate) fn handle_bye(&mut self, now: Instant, tx: TxId, bye: &Message, id: SessionId) {
        self.reply(now, tx, bye, 200, &[]);
        let Some(session) = self.session_mut(id) else { return };
        let early = session.caller.as_ref().and_then(|c| c.tx);
        session.awaiting_ack = None;
        session.bye_when_acked = false;
        let ended = Event::Ended { session: id, by_remote: true, reason: EndReason::Bye };
        match session.state {
            State::Ringing => {
                self.respond_to_invite(now, id, 487, "Request Terminated", &[], None);
                self.end(id, Event::Cancelled { session: id });
            }
            State::Calling => {
                // The callee answered, gave up waiting for our ACK and hung up: no 2xx will come any more.
                if let Some(tx) = early {
                    self.transactions.abandon(tx);
                }
                self.end(id, ended);
            }
            State::Accepted | State::Established => self.end(id, ended),
            State::Over => {}
        }
    }
}
