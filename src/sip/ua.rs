//! The user agent: one local address, all its transactions and sessions.
//!
//! In: datagrams with their source, commands, `now`. Out: datagrams, events, a deadline. After every call drain
//! [`Ua::poll_transmit`] and [`Ua::poll_event`]; call [`Ua::handle_timeout`] no earlier than [`Ua::poll_timeout`].
//! No input is an error: what cannot be understood is answered where the RFC asks for it, else counted
//! ([`Ua::stats`]). Source: RFC 3261 §8.2 and §18.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use crate::seed::Ids;
use crate::time::Instant;

use super::digest::fingerprint;
use super::message::write::{Response, escaped_user, reason_phrase};
use super::message::{Malformed, Message, Method, Name, Scheme, Uri, Via, parse};
use super::session::{Event, Session, SessionId, State};
use super::timer::{Deadlines, earliest};
use super::transaction::{Hop, Outbox, Purpose, Received, Transactions, Transmit, Transport, TxId};

/// The methods we take.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO";

/// Who this user agent is.
#[derive(Clone, Debug)]
pub struct UaConfig {
    /// Our address as peers see it: goes into Via and Contact.
    pub local: SocketAddr,
    /// The user part of our Contact.
    pub user: String,
    /// What `User-Agent` and `Server` say.
    pub user_agent: String,
}

/// Counters since the beginning, and two levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams taken in.
    pub received: u64,
    /// Datagrams that were no message or a broken one, answered or not.
    pub malformed: u64,
    /// Responses and ACKs that belong to nothing we know.
    pub unmatched: u64,
    /// Requests turned away for lack of room.
    pub refused: u64,
    /// Messages sent, repetitions included.
    pub sent: u64,
    /// Messages sent again.
    pub resent: u64,
    /// Messages lost because nobody drained `poll_transmit`.
    pub dropped: u64,
    /// Sessions alive, lingering ones included.
    pub sessions: usize,
    /// Transactions alive.
    pub transactions: usize,
}

/// A SIP user agent; see the module for how to drive it.
#[derive(Debug)]
pub struct Ua {
    pub(super) config: UaConfig,
    pub(super) ids: Ids,
    pub(super) transactions: Transactions,
    pub(super) out: Outbox,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Call-ID and our tag name a session.
    pub(super) dialogs: BTreeMap<(String, String), SessionId>,
    pub(super) unmatched: u64,
    pub(super) refused: u64,
    received: u64,
    malformed: u64,
    events: VecDeque<Event>,
    deadlines: Deadlines<SessionId>,
    /// Sessions changed since the last [`Self::settle`].
    touched: Vec<SessionId>,
    next_session: u32,
    /// Makes the tags of stateless responses unguessable yet repeatable (RFC 3261 §8.2.7).
    secret: String,
}

impl Ua {
    /// A user agent that draws tags, branches and Call-IDs from `ids`.
    #[must_use]
    pub fn new(config: UaConfig, mut ids: Ids) -> Self {
        let secret = ids.token() + &ids.token();
        Self {
            config,
            ids,
            transactions: Transactions::default(),
            out: Outbox::default(),
            sessions: BTreeMap::new(),
            dialogs: BTreeMap::new(),
            unmatched: 0,
            refused: 0,
            received: 0,
            malformed: 0,
            events: VecDeque::new(),
            deadlines: Deadlines::default(),
            touched: Vec::new(),
            next_session: 0,
            secret,
        }
    }

    /// Takes one datagram.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.received += 1;
        let source = Hop { address: from, transport: Transport::Udp };
        if bytes.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return; // A keep-alive of a NAT'd peer (RFC 5626 §3.5.1).
        }
        match parse(bytes) {
            Ok(message) if message.status().is_some() => self.handle_response(now, source, &message),
            Ok(message) => self.handle_request(now, source, message),
            Err(malformed) => self.handle_malformed(source, malformed),
        }
        self.settle();
    }

    /// Runs every timer that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for lost in self.transactions.handle_timeout(now, &mut self.out) {
            let current = self.sessions.get(&lost.session).and_then(|s| s.caller.as_ref()).and_then(|c| c.tx);
            if lost.purpose == Purpose::Invite && current == Some(lost.id) {
                self.handle_invite_unanswered(lost.session);
            }
        }
        self.settle();
        while let Some(id) = self.deadlines.pop_due(now) {
            self.touch(id);
            self.handle_ack_timers(now, id);
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if session.limit.is_some_and(|at| at <= now) {
                session.limit = None;
                match session.state {
                    State::Calling => self.handle_calling_limit(now, id),
                    State::Ringing => self.handle_ringing_limit(now, id),
                    State::Accepted | State::Established | State::Over => {}
                }
            }
            self.settle();
        }
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is due, if at all.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        earliest(self.transactions.deadline(), self.deadlines.next())
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            received: self.received,
            malformed: self.malformed,
            unmatched: self.unmatched,
            refused: self.refused,
            sent: self.out.sent,
            resent: self.out.resent,
            dropped: self.out.dropped,
            sessions: self.sessions.len(),
            transactions: self.transactions.len(),
        }
    }

    fn handle_response(&mut self, now: Instant, source: Hop, message: &Message) {
        // More than one Via: meant for somebody behind us, and we are nobody's proxy (RFC 3261 §8.1.3.3).
        if message.headers.list(&Name::Via).count() > 1 {
            self.unmatched += 1;
            return;
        }
        let up = self.transactions.handle_response(now, message, &mut self.out);
        match up {
            Err(()) => self.unmatched += 1,
            Ok(None) => {}
            Ok(Some((tx, id, Purpose::Invite))) => self.handle_invite_response(now, id, tx, message, source),
            Ok(Some((_, id, Purpose::Bye))) => self.handle_bye_response(now, id, message),
            Ok(Some((_, _, Purpose::Cancel | Purpose::ForkBye))) => {}
        }
    }

    fn handle_request(&mut self, now: Instant, source: Hop, mut message: Message) {
        note_source(&mut message, source.address);
        let hop = response_hop(&message.via, source);
        match self.transactions.handle_request(now, &message, hop, &mut self.out) {
            Received::Absorbed => {}
            Received::Ack => self.handle_ack(now, &message),
            Received::Merged => self.reply_statelessly(hop, &message, 482, &[]),
            Received::Full => {
                self.refused += 1;
                self.reply_statelessly(hop, &message, 503, &[("Retry-After", "5")]);
            }
            Received::New(tx) => self.handle_new_request(now, tx, &message, hop, source),
        }
    }

    /// The order of RFC 3261 §8.2: method, address, required extensions, then the dialog.
    fn handle_new_request(&mut self, now: Instant, tx: TxId, message: &Message, hop: Hop, source: Hop) {
        match message.method() {
            Method::Cancel => return self.handle_cancel(now, tx, message),
            Method::Invite | Method::Bye | Method::Options | Method::Info => {}
            Method::Other(_) => return self.reply(now, tx, message, 501, &[("Allow", ALLOW)]),
            _ => return self.reply(now, tx, message, 405, &[("Allow", ALLOW)]),
        }
        if Uri::parse(message.request_uri()).map_or(true, |u| u.scheme() == Scheme::Other) {
            return self.reply(now, tx, message, 416, &[]);
        }
        let required: Vec<_> = message.headers.list(&Name::Require).filter(|r| !r.is_empty()).collect();
        if !required.is_empty() {
            return self.reply(now, tx, message, 420, &[("Unsupported", &required.join(", "))]);
        }
        if !message.to.tag().is_empty() {
            return self.handle_in_dialog(now, tx, message, hop, source);
        }
        match message.method() {
            Method::Invite => self.handle_new_invite(now, tx, message, hop, source),
            Method::Options => self.reply_options(now, tx, message),
            _ => self.reply(now, tx, message, 481, &[]),
        }
    }

    fn handle_in_dialog(&mut self, now: Instant, tx: TxId, message: &Message, hop: Hop, source: Hop) {
        let Some(id) = self.find_dialog(message) else { return self.reply(now, tx, message, 481, &[]) };
        let Some(session) = self.session_mut(id) else { return };
        let tag = message.from.tag();
        let early = session.caller.as_ref().is_some_and(|c| c.early_tags.iter().any(|t| t == tag));
        let current = match &mut session.dialog {
            Some(dialog) if dialog.remote_tag == tag => {
                if !dialog.accept_cseq(message.cseq.number) {
                    return self.reply(now, tx, message, 500, &[]);
                }
                true
            }
            Some(_) => false,
            None => early,
        };
        // A branch of a fork that hangs up while our own BYE is on its way to it.
        let fork = !current && session.confirmed.iter().any(|c| c.tag == tag);
        match message.method() {
            Method::Bye if current => self.handle_bye(now, tx, message, id),
            Method::Bye if fork => self.reply(now, tx, message, 200, &[]),
            _ if !current => self.reply(now, tx, message, 481, &[]),
            Method::Invite => self.handle_reinvite(now, tx, message, id, hop, source),
            Method::Options => self.reply_options(now, tx, message),
            Method::Info if message.body.is_empty() => self.reply(now, tx, message, 200, &[]),
            _ => self.reply(now, tx, message, 415, &[("Accept", "application/sdp")]),
        }
    }

    fn handle_malformed(&mut self, source: Hop, malformed: Malformed) {
        self.malformed += 1;
        let Some(mut request) = malformed.request.filter(|r| r.method != Method::Ack) else { return };
        request.via.note_source(source.address.ip(), source.address.port());
        let via = request.via.to_string();
        replace_top_via(request.headers.first_mut(&Name::Via).map(|h| &mut h.value), &via);
        let status = malformed.error.status();
        let reason = match status {
            400 => format!("Bad Request: {}", malformed.error),
            other => reason_phrase(other).to_owned(),
        };
        let tag = self.stateless_tag(&via);
        let bytes = Response::to_raw(&request, status, &reason, &tag).write(&[], None);
        self.out.send(response_hop(&request.via, source), bytes);
    }

    /// The session a request inside a dialog belongs to.
    pub(super) fn find_dialog(&self, message: &Message) -> Option<SessionId> {
        self.dialogs.get(&(message.call_id.clone(), message.to.tag().to_owned())).copied()
    }

    fn reply_options(&mut self, now: Instant, tx: TxId, message: &Message) {
        self.reply(now, tx, message, 200, &[("Allow", ALLOW), ("Accept", "application/sdp")]);
    }

    /// Answers a request that makes no session.
    pub(super) fn reply(
        &mut self,
        now: Instant,
        tx: TxId,
        message: &Message,
        status: u16,
        extra: &[(&str, &str)],
    ) {
        self.reply_tagged(now, tx, message, status, extra, None);
    }

    pub(super) fn reply_tagged(
        &mut self,
        now: Instant,
        tx: TxId,
        message: &Message,
        status: u16,
        extra: &[(&str, &str)],
        tag: Option<&str>,
    ) {
        let bytes = self.reply_bytes(message, status, extra, tag);
        self.transactions.respond(now, tx, status, bytes, &mut self.out);
    }

    fn reply_statelessly(&mut self, hop: Hop, message: &Message, status: u16, extra: &[(&str, &str)]) {
        let bytes = self.reply_bytes(message, status, extra, None);
        self.out.send(hop, bytes);
    }

    fn reply_bytes(
        &self,
        message: &Message,
        status: u16,
        extra: &[(&str, &str)],
        tag: Option<&str>,
    ) -> Vec<u8> {
        let made = self.stateless_tag(message.headers.get(&Name::Via).unwrap_or_default());
        let mut headers = extra.to_vec();
        headers.push(("Server", &self.config.user_agent));
        let response = Response::new(message, status, reason_phrase(status), tag.unwrap_or(&made));
        response.write(&headers, None)
    }

    fn stateless_tag(&self, via: &str) -> String {
        fingerprint(&format!("{}{via}", self.secret))
    }

    /// A Via of our own and its branch.
    pub(super) fn new_via(&mut self, transport: Transport) -> (String, String) {
        let branch = format!("z9hG4bK{}", self.ids.token());
        (format!("SIP/2.0/{} {};branch={branch};rport", transport.token(), self.config.local), branch)
    }

    pub(super) fn contact(&self) -> String {
        format!("<sip:{}@{}>", escaped_user(&self.config.user), self.config.local)
    }

    pub(super) fn new_session_id(&mut self) -> SessionId {
        loop {
            let id = SessionId(self.next_session);
            self.next_session = self.next_session.wrapping_add(1);
            if !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }

    /// A session to change; its deadline is looked at again when the call is over.
    pub(super) fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&id)?;
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
        Some(session)
    }

    pub(super) fn touch(&mut self, id: SessionId) {
        self.touched.push(id);
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Makes a session over and says so, once.
    pub(super) fn end(&mut self, id: SessionId, event: Event) {
        let Some(session) = self.session_mut(id) else { return };
        if session.state != State::Over {
            session.state = State::Over;
            session.limit = None;
            self.emit(event);
        }
    }

    /// Brings deadlines up to date and forgets sessions that nothing refers to any more.
    pub(super) fn settle(&mut self) {
        for id in std::mem::take(&mut self.transactions.released) {
            if let Some(session) = self.session_mut(id) {
                session.transactions = session.transactions.saturating_sub(1);
            }
        }
        while let Some(id) = self.touched.pop() {
            let Some(session) = self.sessions.get(&id) else { continue };
            if session.is_finished() {
                self.deadlines.set(id, None);
                self.dialogs.remove(&(session.call_id.clone(), session.local_tag.clone()));
                self.sessions.remove(&id);
            } else {
                self.deadlines.set(id, session.deadline());
            }
        }
    }
}

/// Writes `received` and `rport` into the top Via (RFC 3261 §18.2.1, RFC 3581 §4).
fn note_source(message: &mut Message, source: SocketAddr) {
    message.via.note_source(source.ip(), source.port());
    let via = message.via.to_string();
    replace_top_via(message.headers.first_mut(&Name::Via).map(|h| &mut h.value), &via);
}

/// Replaces the first value of the first Via line, leaving others on that line alone.
fn replace_top_via(line: Option<&mut String>, via: &str) {
    let Some(line) = line else { return };
    let rest = super::message::header::split_list(line)[1..].join(", ");
    *line = if rest.is_empty() { via.to_owned() } else { format!("{via}, {rest}") };
}

/// Where a response goes: to the source, at the port it came from if `rport` asks for that, else at the port of
/// sent-by (RFC 3261 §18.2.2, RFC 3581 §4). A reliable transport answers on its connection.
fn response_hop(via: &Via, source: Hop) -> Hop {
    if source.transport.is_reliable() || via.params.has("rport") {
        return source;
    }
    let ip: IpAddr = source.address.ip();
    Hop {
        address: SocketAddr::new(ip, via.port.filter(|p| *p != 0).unwrap_or(5060)),
        transport: source.transport,
    }
}
