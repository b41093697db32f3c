//! The transaction layer: matches messages to transactions, runs their timers, and hands up what the core must see.
//!
//! One file per state machine; [`Transactions`] is the table of them all. Matching follows RFC 3261 §17.1.3 and
//! §17.2.3, with the RFC 2543 rules for branches without the magic cookie. The caller passes `now`.

mod client;
mod invite_client;
mod invite_server;
mod server;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::time::Instant;

use super::message::write::RequestHead;
use super::message::{Message, Method, Name, Via};
use super::session::SessionId;
use super::timer::Deadlines;

use client::Client;
use invite_client::InviteClient;
use invite_server::InviteServer;
use server::Server;

/// How a message travels. Only [`Transport::Udp`] is produced so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Transport {
    /// Datagrams; every timer runs.
    Udp,
    /// A stream; retransmission timers are off.
    Tcp,
    /// TLS over a stream.
    Tls,
}

impl Transport {
    /// Whether the transport itself repeats what is lost.
    #[must_use]
    pub fn is_reliable(self) -> bool {
        self != Self::Udp
    }

    pub(crate) fn token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }
}

/// Bytes to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// The message.
    pub bytes: Vec<u8>,
    /// How.
    pub transport: Transport,
}

/// Where a message goes and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
}

/// The most messages waiting to be drained; beyond that the newest is dropped like a lost packet.
const MAX_OUTBOX: usize = 16_384;

/// Messages waiting for `poll_transmit`.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Transmit>,
    pub(crate) sent: u64,
    pub(crate) resent: u64,
    pub(crate) dropped: u64,
}

impl Outbox {
    pub(crate) fn send(&mut self, hop: Hop, bytes: Vec<u8>) {
        if self.queue.len() >= MAX_OUTBOX {
            self.dropped += 1;
            return;
        }
        self.sent += 1;
        self.queue.push_back(Transmit { destination: hop.address, bytes, transport: hop.transport });
    }

    pub(crate) fn resend(&mut self, hop: Hop, bytes: &[u8]) {
        self.resent += 1;
        self.send(hop, bytes.to_vec());
    }

    pub(crate) fn pop(&mut self) -> Option<Transmit> {
        self.queue.pop_front()
    }
}

/// What a client transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Invite,
    Cancel,
    Bye,
    /// BYE of a second branch of a forked INVITE.
    ForkBye,
}

/// A transaction's handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TxId(u64);

#[derive(Debug)]
enum Machine {
    InviteClient(InviteClient),
    Client(Client),
    InviteServer(InviteServer),
    Server(Server),
}

impl Machine {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::InviteClient(t) => t.deadline(),
            Self::Client(t) => t.deadline(),
            Self::InviteServer(t) => t.deadline(),
            Self::Server(t) => t.deadline(),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::InviteClient(t) => t.is_over(),
            Self::Client(t) => t.is_over(),
            Self::InviteServer(t) => t.is_over(),
            Self::Server(t) => t.is_over(),
        }
    }
}

/// What names a transaction: side, branch (or its RFC 2543 stand-in), sent-by, method.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    server: bool,
    branch: String,
    method: Method,
}

/// What names a request however it travelled: Call-ID, From tag, CSeq (RFC 3261 §8.2.2.2).
type Fingerprint = (String, String, u32, Method);

#[derive(Debug)]
struct Entry {
    key: Key,
    fingerprint: Option<Fingerprint>,
    machine: Machine,
    owner: Option<SessionId>,
    purpose: Purpose,
}

/// A client transaction that ended without any answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unanswered {
    pub(crate) session: SessionId,
    pub(crate) purpose: Purpose,
    pub(crate) id: TxId,
}

/// What the layer made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A new transaction; the core must respond to it.
    New(TxId),
    /// Dealt with: a retransmission, or an ACK for a refusal.
    Absorbed,
    /// An ACK the core must match to a dialog.
    Ack,
    /// The same request over another path: 482.
    Merged,
    /// No room: 503.
    Full,
}

/// The most transactions at once; each costs a few kilobytes for at most half a minute after its call.
const MAX_TRANSACTIONS: usize = 65_536;

/// All transactions of a user agent.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    entries: BTreeMap<TxId, Entry>,
    index: BTreeMap<Key, TxId>,
    fingerprints: BTreeMap<Fingerprint, TxId>,
    deadlines: Deadlines<TxId>,
    next: u64,
    /// Owners of transactions that are gone, for the core to release.
    pub(crate) released: Vec<SessionId>,
}

/// The branch under which a server transaction is filed (RFC 3261 §17.2.3).
fn server_branch(message: &Message) -> String {
    let via = &message.via;
    let sent_by = |v: &Via| format!("{}:{}", v.host.to_ascii_lowercase(), v.port.unwrap_or(5060));
    match via.branch().strip_prefix("z9hG4bK") {
        Some(rest) if !rest.is_empty() => format!("{}|{}", via.branch(), sent_by(via)),
        _ => format!(
            "2543|{}|{}|{}|{}|{}",
            message.request_uri(),
            message.from.tag(),
            message.call_id,
            message.cseq.number,
            sent_by(via)
        ),
    }
}

impl Transactions {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn insert(&mut self, entry: Entry) -> TxId {
        let id = TxId(self.next);
        self.next += 1;
        self.index.insert(entry.key.clone(), id);
        if let Some(print) = &entry.fingerprint {
            self.fingerprints.insert(print.clone(), id);
        }
        self.entries.insert(id, entry);
        self.reschedule(id);
        id
    }

    /// Sets the next deadline, or forgets the transaction if it is over.
    fn reschedule(&mut self, id: TxId) {
        let Some(entry) = self.entries.get(&id) else { return };
        if !entry.machine.is_over() {
            self.deadlines.set(id, entry.machine.deadline());
            return;
        }
        self.deadlines.set(id, None);
        let entry = self.entries.remove(&id).expect("looked up above");
        self.index.remove(&entry.key);
        if let Some(print) = entry.fingerprint
            && self.fingerprints.get(&print) == Some(&id)
        {
            self.fingerprints.remove(&print);
        }
        self.released.extend(entry.owner);
    }

    /// Sends a request in a transaction of its own. `branch` is the one in the head's Via.
    #[expect(
        clippy::too_many_arguments,
        reason = "a request is this many things; a struct would only name them twice"
    )]
    pub(crate) fn request(
        &mut self,
        now: Instant,
        head: RequestHead,
        branch: &str,
        hop: Hop,
        bytes: Vec<u8>,
        owner: (SessionId, Purpose),
        out: &mut Outbox,
    ) -> TxId {
        let key = Key { server: false, branch: branch.to_owned(), method: head.method.clone() };
        let machine = match head.method {
            Method::Invite => Machine::InviteClient(InviteClient::start(now, head, hop, bytes, out)),
            _ => Machine::Client(Client::start(now, hop, bytes, out)),
        };
        let (session, purpose) = owner;
        self.insert(Entry { key, fingerprint: None, machine, owner: Some(session), purpose })
    }

    /// The head and hop of a pending INVITE, from which its CANCEL is made.
    pub(crate) fn invite(&self, id: TxId) -> Option<(&RequestHead, Hop)> {
        match &self.entries.get(&id)?.machine {
            Machine::InviteClient(t) => Some((t.head(), t.hop())),
            _ => None,
        }
    }

    /// Ends a client INVITE without waiting any longer.
    pub(crate) fn abandon(&mut self, id: TxId) {
        if let Some(Entry { machine: Machine::InviteClient(t), .. }) = self.entries.get_mut(&id) {
            t.abandon();
            self.reschedule(id);
        }
    }

    /// Takes a response. `Err` if no transaction matches, `Ok(None)` if the core need not see it.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        message: &Message,
        out: &mut Outbox,
    ) -> Result<Option<(TxId, SessionId, Purpose)>, ()> {
        let key = Key {
            server: false,
            branch: message.via.branch().to_owned(),
            method: message.cseq.method.clone(),
        };
        let id = *self.index.get(&key).ok_or(())?;
        let status = message.status().ok_or(())?;
        let entry = self.entries.get_mut(&id).ok_or(())?;
        let deliver = match &mut entry.machine {
            Machine::InviteClient(t) => {
                let to = message.headers.get(&Name::To).unwrap_or_default();
                t.handle_response(now, status, to, out)
            }
            Machine::Client(t) => t.handle_response(now, status),
            Machine::InviteServer(_) | Machine::Server(_) => false,
        };
        let up = entry.owner.filter(|_| deliver).map(|session| (id, session, entry.purpose));
        self.reschedule(id);
        Ok(up)
    }

    /// Takes a request whose response goes to `hop`.
    pub(crate) fn handle_request(
        &mut self,
        now: Instant,
        message: &Message,
        hop: Hop,
        out: &mut Outbox,
    ) -> Received {
        let method = message.method();
        let branch = server_branch(message);
        let filed = if *method == Method::Ack { Method::Invite } else { method.clone() };
        let key = Key { server: true, branch, method: filed };
        if let Some(&id) = self.index.get(&key) {
            let received = match &mut self.entries.get_mut(&id).expect("indexed").machine {
                Machine::InviteServer(t) if *method == Method::Ack => {
                    if t.handle_ack(now) {
                        Received::Ack
                    } else {
                        Received::Absorbed
                    }
                }
                Machine::InviteServer(t) => {
                    t.handle_retransmission(out);
                    Received::Absorbed
                }
                Machine::Server(t) => {
                    t.handle_retransmission(out);
                    Received::Absorbed
                }
                Machine::InviteClient(_) | Machine::Client(_) => Received::Absorbed,
            };
            self.reschedule(id);
            return received;
        }
        if *method == Method::Ack {
            return Received::Ack;
        }
        let print =
            (message.call_id.clone(), message.from.tag().to_owned(), message.cseq.number, method.clone());
        let outside_dialog = message.to.tag().is_empty() && *method != Method::Cancel;
        if outside_dialog && !print.1.is_empty() && self.fingerprints.contains_key(&print) {
            return Received::Merged;
        }
        if self.entries.len() >= MAX_TRANSACTIONS {
            return Received::Full;
        }
        let machine = match method {
            Method::Invite => Machine::InviteServer(InviteServer::new(hop)),
            _ => Machine::Server(Server::new(hop)),
        };
        let fingerprint = outside_dialog.then_some(print);
        Received::New(self.insert(Entry { key, fingerprint, machine, owner: None, purpose: Purpose::Invite }))
    }

    /// The INVITE server transaction a CANCEL means (RFC 3261 §9.2).
    pub(crate) fn cancelled(&self, cancel: &Message) -> Option<(TxId, Option<SessionId>)> {
        let key = Key { server: true, branch: server_branch(cancel), method: Method::Invite };
        let id = *self.index.get(&key)?;
        Some((id, self.entries.get(&id)?.owner))
    }

    /// Ties a server transaction to a session, which then lives at least as long.
    pub(crate) fn own(&mut self, id: TxId, session: SessionId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.owner = Some(session);
        }
    }

    /// Sends a response in a server transaction.
    pub(crate) fn respond(&mut self, now: Instant, id: TxId, status: u16, bytes: Vec<u8>, out: &mut Outbox) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        match &mut entry.machine {
            Machine::InviteServer(t) => t.respond(now, status, bytes, out),
            Machine::Server(t) => t.respond(now, bytes, out),
            Machine::InviteClient(_) | Machine::Client(_) => {}
        }
        self.reschedule(id);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Runs every timer that is due and names the requests that nobody answered.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Vec<Unanswered> {
        let mut unanswered = Vec::new();
        while let Some(id) = self.deadlines.pop_due(now) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let gave_up = match &mut entry.machine {
                Machine::InviteClient(t) => t.handle_timeout(now, out),
                Machine::Client(t) => t.handle_timeout(now, out),
                Machine::InviteServer(t) => {
                    t.handle_timeout(now, out);
                    false
                }
                Machine::Server(t) => {
                    t.handle_timeout(now);
                    false
                }
            };
            if let (true, Some(session)) = (gave_up, entry.owner) {
                unanswered.push(Unanswered { session, purpose: entry.purpose, id });
            }
            self.reschedule(id);
        }
        unanswered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(transport: Transport) -> Hop {
        Hop { address: "192.0.2.1:5060".parse().expect("address"), transport }
    }

    fn head(method: Method) -> RequestHead {
        RequestHead {
            method,
            uri: "sip:u@192.0.2.1".into(),
            via: "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKb".into(),
            routes: vec!["<sip:192.0.2.1;lr>".into()],
            from: "<sip:a@b>;tag=1".into(),
            to: "<sip:u@192.0.2.1>".into(),
            call_id: "c".into(),
            cseq: 7,
        }
    }

    /// Every send (ms) until nothing is due, and the end of the machine (ms).
    fn schedule<T>(
        machine: &mut T,
        out: &mut Outbox,
        deadline: impl Fn(&T) -> Option<Instant>,
        mut fire: impl FnMut(&mut T, Instant, &mut Outbox),
    ) -> (Vec<u64>, u64) {
        while out.pop().is_some() {}
        let (mut sends, mut end) = (Vec::new(), 0);
        while let Some(at) = deadline(machine) {
            fire(machine, at, out);
            end = at.as_millis();
            while out.pop().is_some() {
                sends.push(end);
            }
        }
        (sends, end)
    }

    #[test]
    fn timers_a_and_b_follow_the_rfc() {
        let mut out = Outbox::default();
        let mut t =
            InviteClient::start(Instant::ZERO, head(Method::Invite), hop(Transport::Udp), vec![1], &mut out);
        let mut gave_up = false;
        let (sends, end) = schedule(&mut t, &mut out, InviteClient::deadline, |t, at, out| {
            gave_up |= t.handle_timeout(at, out);
        });
        assert_eq!(sends, [500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!((end, gave_up, t.is_over()), (32_000, true, true));
    }

    #[test]
    fn a_refusal_is_acknowledged_each_time_until_timer_d() {
        let mut out = Outbox::default();
        let mut t =
            InviteClient::start(Instant::ZERO, head(Method::Invite), hop(Transport::Udp), vec![1], &mut out);
        out.pop();
        assert!(t.handle_response(Instant::from_millis(100), 180, "x;tag=2", &mut out));
        assert_eq!(t.deadline(), None, "no timer while ringing");
        assert!(t.handle_response(Instant::from_millis(200), 486, "<sip:u@192.0.2.1>;tag=2", &mut out));
        let ack = String::from_utf8(out.pop().expect("ACK").bytes).expect("text");
        assert!(ack.starts_with("ACK sip:u@192.0.2.1 SIP/2.0\r\n"));
        for line in
            ["branch=z9hG4bKb", "Route: <sip:192.0.2.1;lr>", "CSeq: 7 ACK", "To: <sip:u@192.0.2.1>;tag=2"]
        {
            assert!(ack.contains(line), "{line}");
        }
        assert!(!t.handle_response(Instant::from_millis(300), 486, "x", &mut out));
        assert_eq!(out.pop().expect("ACK again").bytes, ack.as_bytes());
        assert_eq!(t.deadline(), Some(Instant::from_millis(32_200)));
        assert!(!t.handle_timeout(Instant::from_millis(32_200), &mut out));
        assert!(t.is_over());
    }

    #[test]
    fn an_accepted_invite_passes_every_2xx_until_timer_m() {
        let mut out = Outbox::default();
        let mut t =
            InviteClient::start(Instant::ZERO, head(Method::Invite), hop(Transport::Udp), vec![1], &mut out);
        assert!(t.handle_response(Instant::from_millis(50), 200, "x", &mut out));
        assert!(t.handle_response(Instant::from_millis(900), 200, "y", &mut out));
        assert!(!t.handle_response(Instant::from_millis(900), 486, "y", &mut out));
        assert_eq!(t.deadline(), Some(Instant::from_millis(32_050)));
    }

    #[test]
    fn timers_e_f_and_k_follow_the_rfc() {
        let mut out = Outbox::default();
        let mut t = Client::start(Instant::ZERO, hop(Transport::Udp), vec![1], &mut out);
        let (sends, end) = schedule(&mut t, &mut out, Client::deadline, |t, at, out| {
            t.handle_timeout(at, out);
        });
        assert_eq!(sends, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
        assert_eq!(end, 32_000);

        let mut t = Client::start(Instant::ZERO, hop(Transport::Udp), vec![1], &mut out);
        t.handle_response(Instant::from_millis(100), 100);
        let (sends, end) = schedule(&mut t, &mut out, Client::deadline, |t, at, out| {
            t.handle_timeout(at, out);
        });
        assert_eq!(sends, [500, 4500, 8500, 12500, 16500, 20500, 24500, 28500], "every T2 in Proceeding");
        assert_eq!(end, 32_000);

        let mut t = Client::start(Instant::ZERO, hop(Transport::Udp), vec![1], &mut out);
        assert!(t.handle_response(Instant::from_millis(100), 200));
        assert!(!t.handle_response(Instant::from_millis(200), 200), "a repeated final response stays below");
        assert_eq!(t.deadline(), Some(Instant::from_millis(5_100)), "timer K is T4");
    }

    #[test]
    fn timers_g_h_and_i_follow_the_rfc() {
        let mut out = Outbox::default();
        let mut t = InviteServer::new(hop(Transport::Udp));
        t.respond(Instant::ZERO, 486, vec![1], &mut out);
        let (sends, end) =
            schedule(&mut t, &mut out, InviteServer::deadline, |t, at, out| t.handle_timeout(at, out));
        assert_eq!(sends, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
        assert_eq!(end, 32_000);

        let mut t = InviteServer::new(hop(Transport::Udp));
        t.respond(Instant::ZERO, 486, vec![1], &mut out);
        assert!(!t.handle_ack(Instant::from_millis(300)));
        assert_eq!(t.deadline(), Some(Instant::from_millis(5_300)), "timer I is T4, G is off");
    }

    #[test]
    fn timers_l_and_j_follow_the_rfc() {
        let mut out = Outbox::default();
        let mut t = InviteServer::new(hop(Transport::Udp));
        t.respond(Instant::ZERO, 200, vec![1], &mut out);
        out.pop();
        t.handle_retransmission(&mut out);
        assert!(out.pop().is_none(), "the core repeats the 2xx, not the transaction");
        assert!(t.handle_ack(Instant::from_millis(1)));
        assert_eq!(t.deadline(), Some(Instant::from_millis(32_000)));

        let mut t = Server::new(hop(Transport::Udp));
        t.respond(Instant::from_millis(10), vec![1], &mut out);
        assert_eq!(t.deadline(), Some(Instant::from_millis(32_010)));
        out.pop();
        t.handle_retransmission(&mut out);
        assert_eq!(out.pop().expect("the response again").bytes, [1]);
    }

    #[test]
    fn on_a_reliable_transport_nothing_is_repeated_and_nothing_lingers() {
        let mut out = Outbox::default();
        let tcp = hop(Transport::Tcp);
        let mut t = InviteClient::start(Instant::ZERO, head(Method::Invite), tcp, vec![1], &mut out);
        assert_eq!(t.deadline(), Some(Instant::from_millis(32_000)), "only timer B");
        t.handle_response(Instant::ZERO, 486, "x", &mut out);
        assert!(t.is_over(), "timer D is zero");
        let mut t = Client::start(Instant::ZERO, tcp, vec![1], &mut out);
        assert_eq!(t.deadline(), Some(Instant::from_millis(32_000)), "only timer F");
        t.handle_response(Instant::ZERO, 200);
        assert!(t.is_over(), "timer K is zero");
        let mut t = InviteServer::new(tcp);
        t.respond(Instant::ZERO, 486, vec![1], &mut out);
        assert_eq!(t.deadline(), Some(Instant::from_millis(32_000)), "only timer H");
        t.handle_ack(Instant::ZERO);
        assert!(t.is_over(), "timer I is zero");
        let mut t = Server::new(tcp);
        t.respond(Instant::ZERO, vec![1], &mut out);
        assert!(t.is_over(), "timer J is zero");
    }
}
