//! Calling: INVITE, its provisional and final responses, authentication, and the ACK of every 2xx (RFC 3261 §13.2).

use std::net::SocketAddr;

use crate::sip::dialog::Dialog;
use crate::sip::digest::Credentials;
use crate::sip::message::write::{RequestHead, quoted};
use crate::sip::message::{MAX_MESSAGE_BYTES, Message, Method, Name, Start, Uri};
use crate::sip::transaction::{Hop, Purpose, Transport, TxId};
use crate::sip::ua::{ALLOW, Ua};
use crate::time::Instant;

use super::auth::{Attempts, Authenticator};
use super::{Confirmed, EndReason, Event, MAX_FORKS, MAX_SESSIONS, RINGING_LIMIT, Session, SessionId, State};

/// The most extra headers of a call.
const MAX_EXTRA_HEADERS: usize = 32;

/// A call to make.
#[derive(Clone, Debug)]
pub struct Invite {
    /// The address to call, `sip:` or `sips:`.
    pub target: String,
    /// The address that calls, `sip:` or `sips:`.
    pub from: String,
    /// The caller's name.
    pub from_display: Option<String>,
    /// Where the INVITE goes.
    pub destination: SocketAddr,
    /// The offer.
    pub sdp: Vec<u8>,
    /// What to answer 401 and 407 with.
    pub credentials: Option<Credentials>,
    /// More headers, for example `P-Asserted-Identity`. Those this user agent writes itself are refused.
    pub extra_headers: Vec<(String, String)>,
}

/// How far a withdrawal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    No,
    /// Asked for, but no provisional response has come yet (RFC 3261 §9.1).
    Wanted,
    Sent,
}

#[derive(Debug)]
pub(crate) struct Caller {
    target: String,
    from: String,
    hop: Hop,
    extra: Vec<(String, String)>,
    cseq: u32,
    pub(crate) tx: Option<TxId>,
    attempts: Attempts,
    /// The INVITE's credentials, which its ACK repeats (RFC 3261 §22.1).
    auth_lines: Vec<(&'static str, String)>,
    pub(crate) provisional: bool,
    pub(crate) cancel: Cancel,
    pub(crate) early_tags: Vec<String>,
}

/// Whether an address from our own side may go into a request.
fn is_callable(address: &str) -> bool {
    address.bytes().all(|b| b.is_ascii_graphic())
        && address.len() <= 512
        && Uri::parse(address).is_ok_and(|u| u.is_sip() && !u.has_headers())
}

/// Why a call cannot even be asked for.
fn fault(invite: &Invite) -> Option<(u16, &'static str)> {
    if !is_callable(&invite.target) {
        return Some((400, "target is not a sip address"));
    }
    if !is_callable(&invite.from) {
        return Some((400, "from is not a sip address"));
    }
    if invite.from_display.as_ref().is_some_and(|d| d.len() > 256) {
        return Some((400, "display name too long"));
    }
    if invite.extra_headers.len() > MAX_EXTRA_HEADERS || !invite.extra_headers.iter().all(is_permitted) {
        return Some((400, "extra header not permitted"));
    }
    let extra: usize = invite.extra_headers.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
    if invite.sdp.len() + extra + 4096 > MAX_MESSAGE_BYTES {
        return Some((513, "message too large"));
    }
    None
}

fn is_permitted((name, value): &(String, String)) -> bool {
    let free = matches!(
        Name::from_token(name),
        Name::Other(_) | Name::Subject | Name::ReferredBy | Name::Reason | Name::Date | Name::Expires
    );
    free && crate::sip::message::is_token(name) && !value.contains(char::is_control)
}

impl Ua {
    /// Calls somebody. What is wrong with the call itself (address, headers, size) comes back as
    /// [`Event::Rejected`] with a local status, like every other refusal.
    pub fn invite(&mut self, now: Instant, invite: Invite) -> SessionId {
        let id = self.new_session_id();
        let full = (self.sessions.len() >= MAX_SESSIONS).then_some((503, "too many sessions"));
        if let Some((status, reason)) = fault(&invite).or(full) {
            self.emit(Event::Rejected { session: id, status, reason: reason.to_owned() });
            return id;
        }
        let tag = self.ids.token();
        let call_id = self.ids.token() + &self.ids.token();
        let display = invite.from_display.as_deref().map(|d| quoted(d) + " ").unwrap_or_default();
        let mut session = Session::new(State::Calling, call_id.clone(), tag.clone());
        session.auth = invite.credentials.map(Authenticator::new);
        session.local_sdp = invite.sdp;
        session.limit = Some(now + RINGING_LIMIT);
        session.caller = Some(Caller {
            target: invite.target,
            from: format!("{display}<{}>;tag={tag}", invite.from),
            hop: Hop { address: invite.destination, transport: Transport::Udp },
            extra: invite.extra_headers,
            cseq: 0,
            tx: None,
            attempts: Attempts::default(),
            auth_lines: Vec::new(),
            provisional: false,
            cancel: Cancel::No,
            early_tags: Vec::new(),
        });
        self.sessions.insert(id, session);
        self.dialogs.insert((call_id, tag), id);
        self.send_invite(now, id);
        self.settle();
        id
    }

    fn send_invite(&mut self, now: Instant, id: SessionId) {
        let cnonce = self.ids.token();
        let contact = self.contact();
        let agent = self.config.user_agent.clone();
        let (via, branch) = self.new_via(Transport::Udp);
        let Some(session) = self.session_mut(id) else { return };
        let Some(caller) = &mut session.caller else { return };
        caller.cseq += 1;
        caller.provisional = false;
        caller.auth_lines = match &mut session.auth {
            Some(auth) => auth.lines("INVITE", &caller.target, &cnonce),
            None => Vec::new(),
        };
        let head = RequestHead {
            method: Method::Invite,
            uri: caller.target.clone(),
            via,
            routes: Vec::new(),
            from: caller.from.clone(),
            to: format!("<{}>", caller.target),
            call_id: session.call_id.clone(),
            cseq: caller.cseq,
        };
        let mut extra = vec![("Contact", contact.as_str()), ("Allow", ALLOW), ("Accept", "application/sdp")];
        extra.push(("User-Agent", &agent));
        extra.extend(caller.auth_lines.iter().map(|(n, v)| (*n, v.as_str())));
        extra.extend(caller.extra.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        let bytes = head.write(&extra, Some(("application/sdp", &session.local_sdp)));
        let hop = caller.hop;
        session.transactions += 1;
        let owner = (id, Purpose::Invite);
        let tx = self.transactions.request(now, head, &branch, hop, bytes, owner, &mut self.out);
        if let Some(caller) = self.session_mut(id).and_then(|s| s.caller.as_mut()) {
            caller.tx = Some(tx);
        }
    }

    /// A response to our INVITE that the transaction passed up.
    pub(crate) fn handle_invite_response(
        &mut self,
        now: Instant,
        id: SessionId,
        tx: TxId,
        response: &Message,
        source: Hop,
    ) {
        let Start::Response { status, reason } = &response.start else { return };
        match status {
            100..=199 => self.handle_progress(now, id, response, *status, reason),
            200..=299 => self.handle_2xx(now, id, tx, response, source),
            _ => self.handle_refusal(now, id, response, *status, reason),
        }
    }

    fn handle_progress(
        &mut self,
        now: Instant,
        id: SessionId,
        response: &Message,
        status: u16,
        reason: &str,
    ) {
        let Some(session) = self.session_mut(id).filter(|s| s.state == State::Calling) else { return };
        let Some(caller) = &mut session.caller else { return };
        caller.provisional = true;
        let tag = response.to.tag();
        if !tag.is_empty()
            && caller.early_tags.len() < MAX_FORKS
            && !caller.early_tags.iter().any(|t| t == tag)
        {
            caller.early_tags.push(tag.to_owned());
        }
        match caller.cancel {
            Cancel::Wanted => self.send_cancel(now, id),
            Cancel::No if status > 100 => {
                let sdp = response.sdp().map(<[u8]>::to_vec);
                if let Some(sdp) = &sdp {
                    session.remote_sdp.clone_from(sdp);
                }
                self.emit(Event::Progress { session: id, status, reason: reason.to_owned(), sdp });
            }
            Cancel::No | Cancel::Sent => {}
        }
    }

    fn handle_refusal(&mut self, now: Instant, id: SessionId, response: &Message, status: u16, reason: &str) {
        let Some(session) = self.session_mut(id).filter(|s| s.state == State::Calling) else { return };
        let Some(caller) = &mut session.caller else { return };
        let challenged = matches!(status, 401 | 407) && caller.cancel == Cancel::No;
        if challenged
            && let Some(auth) = &mut session.auth
            && auth.handle_challenge(response, &mut caller.attempts)
        {
            self.send_invite(now, id);
            return;
        }
        self.end(id, Event::Rejected { session: id, status, reason: reason.to_owned() });
    }

    fn handle_2xx(&mut self, now: Instant, id: SessionId, tx: TxId, response: &Message, source: Hop) {
        let Some(head) = self.transactions.invite(tx).map(|(head, _)| head.clone()) else { return };
        let Some(session) = self.session_mut(id) else { return };
        let tag = response.to.tag();
        if let Some(known) = session.confirmed.iter().find(|c| c.tag == tag) {
            let (hop, ack) = (known.hop, known.ack.clone());
            self.out.resend(hop, &ack);
            return;
        }
        if session.confirmed.len() >= MAX_FORKS {
            return;
        }
        let mut dialog = Dialog::from_response(response, &head, source);
        let first = session.state == State::Calling;
        self.send_ack(id, &mut dialog);
        if !first {
            self.send_fork_bye(now, id, dialog);
            return;
        }
        let Some(session) = self.session_mut(id) else { return };
        session.dialog = Some(dialog);
        session.limit = None;
        let sdp = response.sdp().map(<[u8]>::to_vec);
        if session.caller.as_ref().is_some_and(|c| c.cancel != Cancel::No) {
            self.end(id, Event::Ended { session: id, by_remote: false, reason: EndReason::Cancelled });
            self.send_bye(now, id);
            return;
        }
        session.state = State::Established;
        if let Some(sdp) = &sdp {
            session.remote_sdp.clone_from(sdp);
        }
        self.emit(Event::Answered { session: id, sdp });
    }

    /// The ACK of a 2xx is no transaction: it goes out once for every 2xx that comes (RFC 3261 §13.2.2.4).
    fn send_ack(&mut self, id: SessionId, dialog: &mut Dialog) {
        let (via, _) = self.new_via(Transport::Udp);
        let (head, hop) = dialog.request(Method::Ack, &via);
        let Some(session) = self.session_mut(id) else { return };
        let lines = session.caller.as_ref().map(|c| c.auth_lines.clone()).unwrap_or_default();
        let extra: Vec<_> = lines.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let ack = head.write(&extra, None);
        session.confirmed.push(Confirmed { tag: dialog.remote_tag.clone(), ack: ack.clone(), hop });
        self.out.send(hop, ack);
    }

    /// Timer B of our INVITE.
    pub(crate) fn handle_invite_unanswered(&mut self, id: SessionId) {
        if self.session_mut(id).is_some_and(|s| s.state == State::Calling) {
            self.end(id, Event::Rejected { session: id, status: 408, reason: "Request Timeout".to_owned() });
        }
    }
}
