//! Answering: the 2xx, repeated by the core until its ACK comes (RFC 3261 §13.3.1.4).

use crate::sip::message::Message;
use crate::sip::timer::{Backoff, T1X64, T2};
use crate::sip::transaction::Hop;
use crate::sip::ua::{ALLOW, Ua};
use crate::time::Instant;

use super::{AwaitingAck, EndReason, Event, SessionId, State};

impl Ua {
    /// Answers an incoming call with 200 and `sdp`. Nothing happens unless the call is undecided.
    pub fn answer(&mut self, now: Instant, session: SessionId, sdp: &[u8]) {
        self.accept(now, session, sdp);
        self.settle();
    }

    fn accept(&mut self, now: Instant, id: SessionId, sdp: &[u8]) {
        let contact = self.contact();
        if self.session_mut(id).is_none_or(|s| s.state != State::Ringing) {
            return;
        }
        let extra = [("Contact", contact.as_str()), ("Allow", ALLOW), ("Accept", "application/sdp")];
        let Some((bytes, hop, cseq)) = self.respond_to_invite(now, id, 200, "OK", &extra, Some(sdp)) else {
            return;
        };
        let Some(session) = self.session_mut(id) else { return };
        session.state = State::Accepted;
        session.limit = None;
        session.local_sdp = sdp.to_vec();
        self.await_ack(now, id, cseq, bytes, hop);
    }

    /// Starts repeating a 2xx that was just sent.
    pub(crate) fn await_ack(&mut self, now: Instant, id: SessionId, cseq: u32, bytes: Vec<u8>, hop: Hop) {
        if let Some(session) = self.session_mut(id) {
            let resend = Backoff::start(now, T2);
            session.awaiting_ack = Some(AwaitingAck { cseq, bytes, hop, resend, until: now + T1X64 });
        }
    }

    /// An ACK that no INVITE transaction absorbed.
    pub(crate) fn handle_ack(&mut self, now: Instant, ack: &Message) {
        let Some(id) = self.find_dialog(ack) else {
            self.unmatched += 1;
            return;
        };
        let Some(session) = self.session_mut(id) else { return };
        let awaited = session.awaiting_ack.as_ref().is_some_and(|a| a.cseq == ack.cseq.number);
        let ours = session.dialog.as_ref().is_some_and(|d| d.remote_tag == ack.from.tag());
        if !awaited || !ours {
            return;
        }
        session.awaiting_ack = None;
        if std::mem::take(&mut session.bye_when_acked) {
            self.send_bye(now, id);
        } else if session.state == State::Accepted {
            session.state = State::Established;
            let sdp = ack.sdp().map(<[u8]>::to_vec);
            if let Some(sdp) = &sdp {
                session.remote_sdp.clone_from(sdp);
            }
            self.emit(Event::Acked { session: id, sdp });
        }
    }

    /// The timers of a 2xx that waits for its ACK.
    pub(crate) fn handle_ack_timers(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.session_mut(id) else { return };
        let Some(waiting) = &mut session.awaiting_ack else { return };
        if now < waiting.until {
            if waiting.resend.fire(now) {
                let (hop, bytes) = (waiting.hop, waiting.bytes.clone());
                self.out.resend(hop, &bytes);
            }
            return;
        }
        session.awaiting_ack = None;
        session.bye_when_acked = false;
        if session.state != State::Over {
            let reason = EndReason::AckTimeout;
            self.end(id, Event::Ended { session: id, by_remote: false, reason });
        }
        self.send_bye(now, id);
    }
}
