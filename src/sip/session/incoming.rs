//! Being called: the checks of RFC 3261 §8.2 that belong to INVITE, the new session, and its responses (§13.3).

use crate::sip::dialog::Dialog;
use crate::sip::message::write::Response;
use crate::sip::message::{Message, Name, is_sdp};
use crate::sip::transaction::{Hop, TxId};
use crate::sip::ua::Ua;
use crate::time::Instant;

use super::{Event, MAX_SESSIONS, RINGING_LIMIT, Session, SessionId, State};

#[derive(Debug)]
pub(crate) struct Callee {
    pub(crate) request: Message,
    pub(crate) tx: TxId,
    /// Where responses go.
    pub(crate) hop: Hop,
}

/// The status an INVITE is refused with before anybody is asked, and the header that says why.
fn refusal(invite: &Message) -> Option<(u16, Option<(&'static str, &'static str)>)> {
    let encoded =
        invite.headers.get(&Name::ContentEncoding).is_some_and(|e| !e.eq_ignore_ascii_case("identity"));
    if encoded {
        return Some((415, Some(("Accept-Encoding", "identity"))));
    }
    let foreign = invite.headers.get(&Name::ContentType).is_some_and(|t| !is_sdp(t));
    if foreign && !invite.body.is_empty() {
        return Some((415, Some(("Accept", "application/sdp"))));
    }
    let mut accepts = invite.headers.list(&Name::Accept).peekable();
    let understands = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        matches!(range.as_str(), "application/sdp" | "application/*" | "*/*")
    };
    if accepts.peek().is_some() && !accepts.any(understands) {
        return Some((406, None));
    }
    None
}

impl Ua {
    /// An INVITE without To tag.
    pub(crate) fn handle_new_invite(
        &mut self,
        now: Instant,
        tx: TxId,
        invite: &Message,
        hop: Hop,
        source: Hop,
    ) {
        if let Some((status, header)) = refusal(invite) {
            self.reply(now, tx, invite, status, header.as_slice());
            return;
        }
        if self.sessions.len() >= MAX_SESSIONS {
            self.refused += 1;
            self.reply(now, tx, invite, 503, &[("Retry-After", "5")]);
            return;
        }
        let id = self.new_session_id();
        let tag = self.ids.token();
        let mut session = Session::new(State::Ringing, invite.call_id.clone(), tag.clone());
        session.dialog = Some(Dialog::from_request(invite, &tag, source));
        session.remote_sdp = invite.sdp().unwrap_or_default().to_vec();
        session.limit = Some(now + RINGING_LIMIT);
        session.transactions = 1;
        session.callee = Some(Callee { request: invite.clone(), tx, hop });
        self.sessions.insert(id, session);
        self.dialogs.insert((invite.call_id.clone(), tag), id);
        self.transactions.own(tx, id);
        self.touch(id);
        self.respond_to_invite(now, id, 100, "Trying", &[], None);
        self.emit(Event::Incoming {
            session: id,
            from: invite.from.uri.as_str().to_owned(),
            to: invite.to.uri.as_str().to_owned(),
            target: invite.request_uri().to_owned(),
            sdp: invite.sdp().map(<[u8]>::to_vec),
        });
    }

    /// A response to the INVITE of a session that rings; a final one takes its request away. Gives the bytes sent
    /// and where they went.
    pub(crate) fn respond_to_invite(
        &mut self,
        now: Instant,
        id: SessionId,
        status: u16,
        reason: &str,
        extra: &[(&str, &str)],
        sdp: Option<&[u8]>,
    ) -> Option<(Vec<u8>, Hop, u32)> {
        let agent = self.config.user_agent.clone();
        let session = self.session_mut(id)?;
        let callee = session.callee.take()?;
        let mut response = Response::new(&callee.request, status, reason, &session.local_tag);
        response.record_route = matches!(status, 101..=299);
        let mut headers = extra.to_vec();
        headers.push(("Server", &agent));
        let bytes = response.write(&headers, sdp.map(|s| ("application/sdp", s)));
        let sent = (bytes.clone(), callee.hop, callee.request.cseq.number);
        let tx = callee.tx;
        if status < 200 {
            session.callee = Some(callee);
        }
        self.transactions.respond(now, tx, status, bytes, &mut self.out);
        Some(sent)
    }

    /// Nobody decided about an incoming call.
    pub(crate) fn handle_ringing_limit(&mut self, now: Instant, id: SessionId) {
        self.respond_to_invite(now, id, 480, "Temporarily Unavailable", &[], None);
        let reason = super::EndReason::RingTimeout;
        self.end(id, Event::Ended { session: id, by_remote: false, reason });
    }
}
