//! Withdrawing a call before it is answered, from either side (RFC 3261 §9).

use crate::sip::message::{Message, Method};
use crate::sip::timer::T1X64;
use crate::sip::transaction::{Purpose, TxId};
use crate::sip::ua::Ua;
use crate::time::Instant;

use super::invite::Cancel;
use super::{Event, SessionId, State};

impl Ua {
    /// Withdraws a call that is not answered yet. The CANCEL waits for a provisional response; a 2xx that crosses it
    /// is acknowledged and hung up. Nothing happens in any other state.
    pub fn cancel(&mut self, now: Instant, session: SessionId) {
        self.request_cancel(now, session);
        self.settle();
    }

    pub(crate) fn request_cancel(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.session_mut(id).filter(|s| s.state == State::Calling) else { return };
        let Some(caller) = &mut session.caller else { return };
        if caller.cancel == Cancel::No {
            caller.cancel = Cancel::Wanted;
            if caller.provisional {
                self.send_cancel(now, id);
            }
        }
    }

    pub(crate) fn send_cancel(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.session_mut(id) else { return };
        let Some(caller) = &mut session.caller else { return };
        caller.cancel = Cancel::Sent;
        session.limit = Some(now + T1X64);
        let Some(tx) = caller.tx else { return };
        let Some((head, hop)) = self.transactions.invite(tx) else { return };
        let mut head = head.clone();
        head.method = Method::Cancel;
        let branch =
            crate::sip::message::Via::parse(&head.via).map(|v| v.branch().to_owned()).unwrap_or_default();
        let bytes = head.write(&[], None);
        if let Some(session) = self.session_mut(id) {
            session.transactions += 1;
        }
        self.transactions.request(now, head, &branch, hop, bytes, (id, Purpose::Cancel), &mut self.out);
    }

    /// A call of ours rang for too long, or its CANCEL was never followed by a final response.
    pub(crate) fn handle_calling_limit(&mut self, now: Instant, id: SessionId) {
        let Some(caller) = self.session_mut(id).and_then(|s| s.caller.as_mut()) else { return };
        if caller.cancel != Cancel::Sent {
            self.request_cancel(now, id);
            return;
        }
        let tx = caller.tx;
        if let Some(tx) = tx {
            self.transactions.abandon(tx);
        }
        self.end(id, Event::Rejected { session: id, status: 487, reason: "Request Terminated".to_owned() });
    }

    /// The caller's CANCEL.
    pub(crate) fn handle_cancel(&mut self, now: Instant, tx: TxId, cancel: &Message) {
        let Some((_, owner)) = self.transactions.cancelled(cancel) else {
            self.reply(now, tx, cancel, 481, &[]);
            return;
        };
        let tag = owner.and_then(|id| self.sessions.get(&id)).map(|s| s.local_tag.clone());
        self.reply_tagged(now, tx, cancel, 200, &[], tag.as_deref());
        let Some(id) = owner else { return };
        if self.session_mut(id).is_some_and(|s| s.state == State::Ringing) {
            self.respond_to_invite(now, id, 487, "Request Terminated", &[], None);
            self.end(id, Event::Cancelled { session: id });
        }
    }
}
