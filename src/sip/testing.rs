//! Two user agents on a virtual clock, over a network that loses, repeats and reorders datagrams by a seed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::seed::Ids;
use crate::time::Instant;

use super::digest::{Challenge, Credentials};
use super::message::{Message, Method, Name, parse, torture};
use super::session::State;
use super::{EndReason, Event, Invite, SessionId, Transmit, Transport, Ua, UaConfig};

const OFFER: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
const ANSWER: &[u8] =
    b"v=0\r\no=- 2 2 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n";

fn address(side: usize) -> SocketAddr {
    ["192.0.2.1:5060", "192.0.2.2:5060"][side].parse().expect("address")
}

fn ua(side: usize, seed: u64) -> Ua {
    let user = ["alice", "bob"][side].to_owned();
    Ua::new(UaConfig { local: address(side), user, user_agent: "test".into() }, Ids::from_number(seed))
}

fn invite() -> Invite {
    Invite {
        target: "sip:bob@192.0.2.2".into(),
        from: "sip:alice@192.0.2.1".into(),
        from_display: Some("Alice \"A\"".into()),
        destination: address(1),
        sdp: OFFER.to_vec(),
        credentials: None,
        extra_headers: Vec::new(),
    }
}

/// What the network does to one datagram.
#[derive(Clone, Copy)]
enum Fate {
    Deliver,
    Lose,
    Twice,
    Late,
}

/// A command at a time (ms).
#[derive(Clone, Copy, Debug)]
enum Do {
    Call,
    Cancel,
    Ring,
    Answer,
    Reject,
    Bye,
    HangUp,
}

struct World {
    now: Instant,
    uas: [Ua; 2],
    sessions: [Option<SessionId>; 2],
    /// In flight by arrival and number: destination side, bytes.
    flight: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    sent: u64,
    fate: Box<dyn FnMut(u64) -> Fate>,
    plan: BTreeMap<(Instant, usize), (usize, Do)>,
    events: Vec<(u64, usize, Event)>,
    /// First line of everything sent: time (ms), side, line.
    wire: Vec<(u64, usize, String)>,
    /// The callee answers by itself: ring at once, answer after so long.
    answer_after: Option<Duration>,
    invite: Invite,
    /// A challenge the network puts before the callee: status, challenge, credentials.
    gate: Option<(u16, Challenge, Credentials)>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            now: Instant::ZERO,
            uas: [ua(0, seed), ua(1, seed + 1_000_000)],
            sessions: [None, None],
            flight: BTreeMap::new(),
            sent: 0,
            fate: Box::new(|_| Fate::Deliver),
            plan: BTreeMap::new(),
            events: Vec::new(),
            wire: Vec::new(),
            answer_after: None,
            invite: invite(),
            gate: None,
        }
    }

    fn at(mut self, ms: u64, side: usize, what: Do) -> Self {
        let n = self.plan.len();
        self.plan.insert((Instant::from_millis(ms), n), (side, what));
        self
    }

    fn fate(mut self, fate: impl FnMut(u64) -> Fate + 'static) -> Self {
        self.fate = Box::new(fate);
        self
    }

    fn answering(mut self, ms: u64) -> Self {
        self.answer_after = Some(Duration::from_millis(ms));
        self
    }

    fn carry(&mut self, side: usize, transmit: Transmit) {
        let line = String::from_utf8_lossy(&transmit.bytes).lines().next().unwrap_or_default().to_owned();
        self.wire.push((self.now.as_millis(), side, line));
        let n = self.sent;
        self.sent += 1;
        let Some(to) = (0..2).find(|s| address(*s) == transmit.destination) else { return };
        let (copies, delay) = match (self.fate)(n) {
            Fate::Deliver => (1, 10),
            Fate::Lose => (0, 0),
            Fate::Twice => (2, 10),
            Fate::Late => (1, 180),
        };
        for copy in 0..copies {
            let at = self.now + Duration::from_millis(delay);
            self.flight.insert((at, n * 2 + copy), (to, transmit.bytes.clone()));
        }
    }

    /// A request that the gate holds: it is challenged unless it carries the right answer.
    fn challenged(&mut self, to: usize, bytes: &[u8]) -> bool {
        let Some((status, challenge, credentials)) = &self.gate else { return false };
        let Ok(message) = parse(bytes) else { return false };
        let method = message.method().clone();
        if to != 1 || message.status().is_some() || matches!(method, Method::Ack | Method::Cancel) {
            return false;
        }
        let (answer, ask) = if *status == 401 {
            (Name::Authorization, "WWW-Authenticate")
        } else {
            (Name::ProxyAuthorization, "Proxy-Authenticate")
        };
        let good =
            message.headers.get(&answer).is_some_and(|v| challenge.verify(v, credentials, method.as_str()));
        if good {
            return false;
        }
        let value = format!(
            "Digest realm=\"{}\", nonce=\"{}\", qop=\"auth\", algorithm=SHA-256",
            challenge.realm, challenge.nonce
        );
        let response = super::message::write::Response::new(&message, *status, "Who?", "gate");
        let bytes = response.write(&[(ask, &value)], None);
        let destination = address(0);
        self.carry(1, Transmit { destination, bytes, transport: Transport::Udp });
        true
    }

    fn obey(&mut self, side: usize, what: Do) {
        let now = self.now;
        if matches!(what, Do::Call) {
            let id = self.uas[side].invite(now, self.invite.clone());
            self.sessions[side] = Some(id);
            return;
        }
        let Some(id) = self.sessions[side] else { return };
        let ua = &mut self.uas[side];
        match what {
            Do::Call => {}
            Do::Cancel => ua.cancel(now, id),
            Do::Ring => ua.ring(now, id, 180, None),
            Do::Answer => ua.answer(now, id, ANSWER),
            Do::Reject => ua.reject(now, id, 486, "Busy Here"),
            Do::Bye => ua.bye(now, id),
            Do::HangUp => ua.hang_up(now, id),
        }
    }

    fn drain(&mut self) {
        for side in 0..2 {
            while let Some(transmit) = self.uas[side].poll_transmit() {
                assert!(parse(&transmit.bytes).is_ok(), "we read what we write");
                self.carry(side, transmit);
            }
            while let Some(event) = self.uas[side].poll_event() {
                if let (Event::Incoming { session, .. }, Some(after)) = (&event, self.answer_after) {
                    self.sessions[side] = Some(*session);
                    let n = 1000 + 2 * self.events.len();
                    self.plan.insert((self.now, n), (side, Do::Ring));
                    self.plan.insert((self.now + after, n + 1), (side, Do::Answer));
                } else if let Event::Incoming { session, .. } = &event {
                    self.sessions[side] = Some(*session);
                }
                self.events.push((self.now.as_millis(), side, event));
            }
        }
    }

    /// Runs until nothing is left to happen, or `limit_ms`.
    fn run_for(&mut self, limit_ms: u64) {
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 20_000, "the world never comes to rest");
            self.drain();
            let flight = self.flight.keys().next().map(|k| k.0);
            let plan = self.plan.keys().next().map(|k| k.0);
            let timers = self.uas.iter().filter_map(Ua::poll_timeout).min();
            let Some(next) = [flight, plan, timers].into_iter().flatten().min() else { return };
            if next.as_millis() > limit_ms {
                return;
            }
            assert!(next >= self.now, "time runs forward");
            self.now = next;
            if flight == Some(next) {
                let (_, (to, bytes)) = self.flight.pop_first().expect("in flight");
                if !self.challenged(to, &bytes) {
                    self.uas[to].handle_datagram(next, address(1 - to), &bytes);
                }
            } else if plan == Some(next) {
                let (_, (side, what)) = self.plan.pop_first().expect("planned");
                self.obey(side, what);
            } else {
                for ua in &mut self.uas {
                    ua.handle_timeout(next);
                }
            }
        }
    }

    fn run(mut self) -> Self {
        self.run_for(3_600_000);
        self
    }

    fn finals(&self, side: usize) -> Vec<&Event> {
        self.events.iter().filter(|(_, s, e)| *s == side && e.is_final()).map(|(_, _, e)| e).collect()
    }

    /// Every session that began has exactly one final event, and nothing is left behind.
    fn assert_clean(&self, what: &str) {
        for side in 0..2 {
            let stats = self.uas[side].stats();
            assert_eq!((stats.sessions, stats.transactions), (0, 0), "{what}: side {side} leaks");
            assert_eq!(self.uas[side].dialogs.len(), 0, "{what}: side {side} leaks a dialog");
            let mut began: Vec<_> =
                self.events.iter().filter(|(_, s, _)| *s == side).map(|(.., e)| e.session()).collect();
            began.sort();
            began.dedup();
            let mut ended: Vec<_> = self.finals(side).iter().map(|e| e.session()).collect();
            ended.sort();
            assert_eq!(began, ended, "{what}: one final event a session on side {side}: {:?}", self.events);
        }
        assert!(!self.finals(0).is_empty(), "{what}: the caller learns the end");
    }

    fn sends(&self, side: usize, prefix: &str) -> Vec<u64> {
        self.wire.iter().filter(|(_, s, l)| *s == side && l.starts_with(prefix)).map(|w| w.0).collect()
    }

    fn saw(&self, side: usize, test: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(|(_, s, e)| *s == side && test(e))
    }
}

fn bye(session: SessionId, by_remote: bool) -> Event {
    Event::Ended { session, by_remote, reason: EndReason::Bye }
}

fn normal() -> World {
    World::new(1).answering(2000).at(0, 0, Do::Call).at(60_000, 0, Do::Bye)
}

#[test]
fn a_call_rings_is_answered_and_hung_up_by_the_caller() {
    let w = normal().run();
    w.assert_clean("normal");
    let lines: Vec<_> = w.wire.iter().map(|(t, s, l)| format!("{t} {s} {l}")).collect();
    assert_eq!(
        lines,
        [
            "0 0 INVITE sip:bob@192.0.2.2 SIP/2.0",
            "10 1 SIP/2.0 100 Trying",
            "10 1 SIP/2.0 180 Ringing",
            "2010 1 SIP/2.0 200 OK",
            "2020 0 ACK sip:bob@192.0.2.2:5060 SIP/2.0",
            "60000 0 BYE sip:bob@192.0.2.2:5060 SIP/2.0",
            "60010 1 SIP/2.0 200 OK",
        ]
    );
    let (a, b) = (SessionId(0), SessionId(0));
    assert!(w.saw(0, |e| *e == Event::Answered { session: a, sdp: Some(ANSWER.to_vec()) }));
    assert!(w.saw(0, |e| matches!(e, Event::Progress { status: 180, .. })));
    assert!(!w.saw(0, |e| matches!(e, Event::Progress { status: 100, .. })));
    assert!(w.saw(1, |e| *e == Event::Acked { session: b, sdp: None }));
    assert!(w.saw(1, |e| matches!(e, Event::Incoming { from, to, target, sdp, .. }
        if from == "sip:alice@192.0.2.1" && to == "sip:bob@192.0.2.2" && target == to && sdp.as_deref() == Some(OFFER))));
    assert_eq!((w.finals(0), w.finals(1)), (vec![&bye(a, false)], vec![&bye(b, true)]));
}

#[test]
fn the_callee_can_hang_up_too_also_both_at_once() {
    let w = World::new(1).answering(1000).at(0, 0, Do::Call).at(9000, 1, Do::Bye).run();
    w.assert_clean("callee hangs up");
    assert_eq!(w.finals(0), [&bye(SessionId(0), true)]);
    let w = World::new(1).answering(1000).at(0, 0, Do::Call).at(9000, 1, Do::Bye).at(9000, 0, Do::Bye).run();
    w.assert_clean("BYE glare");
    assert_eq!(w.sends(0, "SIP/2.0 200").len() + w.sends(1, "SIP/2.0 200").len(), 3);
}

#[test]
fn a_refusal_reaches_the_caller_and_is_acknowledged() {
    let w = World::new(1).at(0, 0, Do::Call).at(500, 1, Do::Ring).at(900, 1, Do::Reject).run();
    w.assert_clean("refusal");
    let reason = "Busy Here".to_owned();
    assert_eq!(w.finals(0), [&Event::Rejected { session: SessionId(0), status: 486, reason }]);
    assert_eq!((w.sends(1, "SIP/2.0 486"), w.sends(0, "ACK")), (vec![900], vec![910]));
}

#[test]
fn whichever_packet_is_lost_the_call_ends_cleanly() {
    let scripts: [fn() -> World; 5] = [
        normal,
        || World::new(2).answering(1000).at(0, 0, Do::Call).at(20_000, 1, Do::Bye),
        || World::new(3).at(0, 0, Do::Call).at(900, 1, Do::Reject).at(5000, 1, Do::Reject),
        || {
            World::new(4).at(0, 0, Do::Call).at(700, 1, Do::Ring).at(1500, 0, Do::Cancel).at(
                40_000,
                0,
                Do::HangUp,
            )
        },
        || World::new(5).answering(1000).at(0, 0, Do::Call).at(1005, 0, Do::HangUp).at(1015, 1, Do::HangUp),
    ];
    for (n, script) in scripts.iter().enumerate() {
        let packets = script().run().sent;
        for lost in 0..packets {
            script()
                .fate(move |i| if i == lost { Fate::Lose } else { Fate::Deliver })
                .run()
                .assert_clean(&format!("script {n} loses {lost}"));
            script()
                .fate(move |i| if i == lost { Fate::Twice } else { Fate::Deliver })
                .run()
                .assert_clean(&format!("script {n} doubles {lost}"));
            script()
                .fate(move |i| if i == lost { Fate::Late } else { Fate::Deliver })
                .run()
                .assert_clean(&format!("script {n} delays {lost}"));
            // A callee whose caller vanished learns it from the media: somebody hangs up for it.
            script()
                .at(400_000, 0, Do::HangUp)
                .at(400_000, 1, Do::HangUp)
                .fate(move |i| if i >= lost { Fate::Lose } else { Fate::Deliver })
                .run()
                .assert_clean(&format!("script {n} goes dark at {lost}"));
        }
    }
}

#[test]
fn a_single_loss_never_costs_the_call() {
    let packets = normal().run().sent;
    for lost in 0..packets {
        let w = normal().fate(move |i| if i == lost { Fate::Lose } else { Fate::Deliver }).run();
        assert!(w.saw(0, |e| matches!(e, Event::Answered { .. })), "lost {lost}");
        assert!(w.saw(1, |e| matches!(e, Event::Acked { .. })), "lost {lost}");
        assert_eq!(w.finals(1), [&bye(SessionId(0), true)], "lost {lost}");
    }
}

#[test]
fn five_hundred_calls_over_a_bad_network_end_cleanly_and_repeatably() {
    let run = |seed: u64| {
        let mut ids = Ids::from_number(seed);
        let verbs = [Do::Cancel, Do::Bye, Do::HangUp, Do::Reject, Do::Answer, Do::Ring];
        let mut w = World::new(seed).at(0, 0, Do::Call);
        if ids.next_unit() < 0.7 {
            w = w.answering(u64::from(ids.next_u32() % 3000));
        }
        for _ in 0..6 {
            let verb = verbs[ids.next_u32() as usize % verbs.len()];
            w = w.at(u64::from(ids.next_u32() % 6000), ids.next_u32() as usize % 2, verb);
        }
        w = w.at(200_000, 0, Do::HangUp).at(200_100, 1, Do::HangUp);
        w.fate(move |_| match ids.next_unit() {
            x if x < 0.25 => Fate::Lose,
            x if x < 0.35 => Fate::Twice,
            x if x < 0.55 => Fate::Late,
            _ => Fate::Deliver,
        })
        .run()
    };
    for seed in 0..500 {
        let w = run(seed);
        w.assert_clean(&format!("seed {seed}"));
        if seed % 50 == 0 {
            assert_eq!(w.wire, run(seed).wire, "the same seed gives the same wire");
        }
    }
}

#[test]
fn an_unanswered_invite_follows_timers_a_and_b() {
    let w = World::new(1).at(0, 0, Do::Call).fate(|_| Fate::Lose).run();
    assert_eq!(w.sends(0, "INVITE"), [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
    let reason = "Request Timeout".to_owned();
    assert_eq!(w.events, [(32_000, 0, Event::Rejected { session: SessionId(0), status: 408, reason })]);
}

#[test]
fn a_2xx_is_repeated_until_its_ack_then_given_up_with_a_bye() {
    let mut w = World::new(1).answering(0).at(0, 0, Do::Call);
    // Everything the callee sends from its 200 on is lost: 0 INVITE, 1 Trying, 2 Ringing.
    w = w.fate(|i| if i >= 3 { Fate::Lose } else { Fate::Deliver });
    w.run_for(40_000);
    let expected: Vec<u64> = [0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]
        .iter()
        .map(|t| t + 10)
        .collect();
    assert_eq!(w.sends(1, "SIP/2.0 200"), expected);
    let ended = Event::Ended { session: SessionId(0), by_remote: false, reason: EndReason::AckTimeout };
    assert!(w.events.contains(&(32_010, 1, ended)));
    assert_eq!(w.sends(1, "BYE")[0], 32_010);
}

#[test]
fn every_2xx_repetition_gets_the_same_ack() {
    let w = World::new(1).answering(0).at(0, 0, Do::Call).at(30_000, 0, Do::Bye);
    // 4 and 6 are the first two ACKs.
    let w = w.fate(|i| if matches!(i, 4 | 6) { Fate::Lose } else { Fate::Deliver }).run();
    w.assert_clean("lost ACKs");
    assert_eq!(w.sends(0, "ACK"), [20, 520, 1520]);
    assert_eq!(w.events.iter().filter(|(.., e)| matches!(e, Event::Answered { .. })).count(), 1);
    assert_eq!(w.events.iter().filter(|(.., e)| matches!(e, Event::Acked { .. })).count(), 1);
}

#[test]
fn a_callee_that_hangs_up_before_the_ack_waits_for_it() {
    let w = World::new(1).answering(100).at(0, 0, Do::Call).at(115, 1, Do::Bye).run();
    w.assert_clean("BYE before ACK");
    assert_eq!((w.sends(0, "ACK"), w.sends(1, "BYE")), (vec![120], vec![130]));
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let w = World::new(1).at(0, 0, Do::Call).at(0, 0, Do::Cancel).run();
    w.assert_clean("early cancel");
    assert_eq!(w.sends(0, "CANCEL"), [20], "not before the 100");
    assert_eq!(w.finals(1), [&Event::Cancelled { session: SessionId(0) }]);
    let reason = "Request Terminated".to_owned();
    assert_eq!(w.finals(0), [&Event::Rejected { session: SessionId(0), status: 487, reason }]);
}

#[test]
fn a_200_that_crosses_the_cancel_is_acknowledged_and_hung_up() {
    let w = World::new(1).answering(1000).at(0, 0, Do::Call).at(1015, 0, Do::Cancel).run();
    w.assert_clean("glare");
    assert_eq!(
        (w.sends(0, "CANCEL"), w.sends(0, "ACK"), w.sends(0, "BYE")),
        (vec![1015], vec![1020], vec![1020])
    );
    let ended = Event::Ended { session: SessionId(0), by_remote: false, reason: EndReason::Cancelled };
    assert_eq!(w.finals(0), [&ended]);
    assert!(!w.saw(0, |e| matches!(e, Event::Answered { .. })));
    assert_eq!(w.finals(1), [&bye(SessionId(0), true)]);
}

#[test]
fn a_cancel_nobody_answers_ends_after_64_t1() {
    let w = World::new(1)
        .at(0, 0, Do::Call)
        .at(1000, 0, Do::Cancel)
        .fate(|i| if i > 1 { Fate::Lose } else { Fate::Deliver });
    let w = w.run();
    w.assert_clean("dark cancel");
    assert!(
        w.events
            .iter()
            .any(|(t, s, e)| (*t, *s) == (33_000, 0) && matches!(e, Event::Rejected { status: 487, .. }))
    );
}

#[test]
fn nobody_decides_nobody_waits_for_ever() {
    let w = World::new(1).at(0, 0, Do::Call).run();
    w.assert_clean("undecided");
    let at = w.events.iter().find(|(_, s, e)| *s == 1 && e.is_final()).expect("ended").0;
    // The caller's limit began 10 ms earlier; its CANCEL and our 480 cross.
    assert!((180_000..=180_010).contains(&at), "{at}");
}

fn gated(status: u16, password: &str) -> World {
    let good = Credentials { username: "alice".into(), password: "secret".into() };
    let value = "Digest realm=\"gate\", nonce=\"n1\", qop=\"auth\", algorithm=SHA-256";
    let challenge = Challenge::parse_all(value).remove(0);
    let mut w = World::new(1).answering(500).at(0, 0, Do::Call).at(9000, 0, Do::Bye);
    w.invite.credentials = Some(Credentials { username: "alice".into(), password: password.into() });
    w.gate = Some((status, challenge, good));
    w.run()
}

#[test]
fn challenges_from_callee_and_proxy_are_answered_on_invite_and_bye() {
    for status in [401, 407] {
        let w = gated(status, "secret");
        w.assert_clean("auth");
        assert_eq!(w.sends(0, "INVITE").len(), 2, "{status}");
        assert_eq!(w.sends(0, "BYE").len(), 1, "{status}: the BYE carries the answer unasked");
        assert_eq!(w.finals(1), [&bye(SessionId(0), true)]);
    }
}

#[test]
fn a_wrong_password_is_tried_once() {
    for status in [401, 407] {
        let w = gated(status, "wrong");
        w.assert_clean("wrong password");
        assert_eq!(w.sends(0, "INVITE").len(), 2);
        assert!(matches!(w.finals(0)[0], Event::Rejected { status: s, .. } if *s == status));
    }
}

#[test]
fn without_credentials_the_challenge_is_the_refusal() {
    let mut w = World::new(1).at(0, 0, Do::Call);
    let value = "Digest realm=\"gate\", nonce=\"n1\", qop=\"auth\", algorithm=SHA-256";
    let good = Credentials { username: "alice".into(), password: "secret".into() };
    w.gate = Some((401, Challenge::parse_all(value).remove(0), good));
    let w = w.run();
    w.assert_clean("no credentials");
    assert_eq!(w.sends(0, "INVITE").len(), 1);
}

// ---- one user agent against hand-written bytes ----

struct Bench {
    ua: Ua,
    now: Instant,
    peer: SocketAddr,
}

impl Bench {
    fn new() -> Self {
        Self { ua: ua(1, 7), now: Instant::ZERO, peer: "198.51.100.7:40000".parse().expect("address") }
    }

    fn send(&mut self, text: &str) -> Vec<Message> {
        self.ua.handle_datagram(self.now, self.peer, text.as_bytes());
        self.sent()
    }

    fn sent(&mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(t) = self.ua.poll_transmit() {
            all.push(parse(&t.bytes).expect("we write what can be read"));
        }
        all
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.ua.poll_event()).collect()
    }
}

fn request(method: &str, branch: &str, extra: &str) -> String {
    format!(
        "{method} sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK{branch};rport\r\n\
         From: <sip:a@b>;tag=f1\r\nTo: <sip:bob@192.0.2.2>\r\nCall-ID: c1\r\nCSeq: 3 {method}\r\n\
         Max-Forwards: 0\r\n{extra}\r\n"
    )
}

fn status(messages: &[Message]) -> u16 {
    assert_eq!(messages.len(), 1);
    messages[0].status().expect("a response")
}

#[test]
fn options_are_answered_to_the_source_with_rport() {
    let mut b = Bench::new();
    b.ua.handle_datagram(b.now, b.peer, request("OPTIONS", "1", "").as_bytes());
    let t = b.ua.poll_transmit().expect("response");
    assert_eq!((t.destination, t.transport), (b.peer, Transport::Udp));
    let m = parse(&t.bytes).expect("response");
    assert_eq!(m.status(), Some(200));
    assert_eq!(
        (m.via.params.get("received"), m.via.params.get("rport")),
        (Some("198.51.100.7"), Some("40000"))
    );
    assert!(m.headers.get(&Name::Allow).is_some_and(|a| a.contains("INVITE")));
    assert!(!m.to.tag().is_empty());
    b.ua.handle_datagram(b.now, b.peer, request("OPTIONS", "1", "").as_bytes());
    assert_eq!(b.ua.poll_transmit().expect("the same again").bytes, t.bytes);
}

#[test]
fn without_rport_the_response_goes_to_the_port_of_sent_by() {
    let mut b = Bench::new();
    b.ua.handle_datagram(b.now, b.peer, request("OPTIONS", "1", "").replace(";rport", "").as_bytes());
    assert_eq!(b.ua.poll_transmit().expect("response").destination.to_string(), "198.51.100.7:5060");
}

#[test]
fn what_we_do_not_do_is_refused_by_name() {
    let mut b = Bench::new();
    assert_eq!(status(&b.send(&request("REGISTER", "1", ""))), 405);
    assert_eq!(status(&b.send(&request("FROBNICATE", "2", ""))), 501);
    assert_eq!(status(&b.send(&request("BYE", "3", ""))), 481);
    assert_eq!(status(&b.send(&request("CANCEL", "4", ""))), 481);
    let m = b.send(&request("INVITE", "5", "Require: 100rel, foo\r\n"));
    assert_eq!((status(&m), m[0].headers.get(&Name::Unsupported)), (420, Some("100rel, foo")));
    assert_eq!(
        status(&b.send(&request("OPTIONS", "6", "").replace("sip:bob@192.0.2.2 SIP", "http:x SIP"))),
        416
    );
    assert_eq!(status(&b.send(&request("INVITE", "7", "Accept: text/plain\r\n").replace("c1", "c7"))), 406);
    let m = b.send(&request("INVITE", "8", "Content-Type: text/plain\r\n\r\nhi").replace("c1", "c8"));
    assert_eq!((status(&m), m[0].headers.get(&Name::Accept)), (415, Some("application/sdp")));
    assert_eq!(status(&b.send(&request("INFO", "9", "").replace("192.0.2.2>\r", "192.0.2.2>;tag=x\r"))), 481);
    assert!(b.send(&request("ACK", "10", "")).is_empty());
    assert!(b.events().is_empty());
}

#[test]
fn the_same_invite_over_two_paths_is_merged() {
    let mut b = Bench::new();
    assert_eq!(status(&b.send(&request("INVITE", "1", ""))), 100);
    assert_eq!(status(&b.send(&request("INVITE", "2", ""))), 482);
    assert_eq!(status(&b.send(&request("INVITE", "1", ""))), 100, "a retransmission is not");
    assert_eq!(b.events().len(), 1);
}

/// An answered and acknowledged incoming call; gives our tag.
fn established(b: &mut Bench) -> String {
    let sdp = format!(
        "Contact: <sip:a@10.0.0.9>\r\nContent-Type: application/sdp\r\n\r\n{}",
        String::from_utf8_lossy(OFFER)
    );
    b.send(&request("INVITE", "1", &sdp));
    b.ua.answer(b.now, SessionId(0), ANSWER);
    let tag = b.sent()[0].to.tag().to_owned();
    assert!(b.send(&in_dialog("ACK", "2", 3, &tag, "")).is_empty());
    assert!(b.events().iter().any(|e| matches!(e, Event::Acked { .. })));
    tag
}

fn in_dialog(method: &str, branch: &str, cseq: u32, tag: &str, extra: &str) -> String {
    request(method, branch, extra)
        .replace("192.0.2.2>\r", &format!("192.0.2.2>;tag={tag}\r"))
        .replace("CSeq: 3", &format!("CSeq: {cseq}"))
}

#[test]
fn a_reinvite_that_changes_nothing_is_answered_and_one_that_does_is_refused() {
    let mut b = Bench::new();
    let tag = established(&mut b);
    let sdp = String::from_utf8_lossy(OFFER).into_owned();
    let same = format!("Content-Type: application/sdp\r\n\r\n{}", sdp.replace("1 1 IN", "1 2 IN"));
    let m = b.send(&in_dialog("INVITE", "3", 4, &tag, &same));
    assert_eq!((status(&m), m[0].sdp()), (200, Some(ANSWER)));
    b.now += Duration::from_millis(500);
    b.ua.handle_timeout(b.now);
    assert_eq!(status(&b.sent()), 200, "repeated until its ACK");
    assert_eq!(status(&b.send(&in_dialog("INVITE", "4", 5, &tag, &same))), 500, "while the first waits");
    b.send(&in_dialog("ACK", "5", 4, &tag, ""));
    let hold = format!("Content-Type: application/sdp\r\n\r\n{sdp}a=sendonly\r\n");
    assert_eq!(status(&b.send(&in_dialog("INVITE", "6", 6, &tag, &hold))), 488);
    assert_eq!(status(&b.send(&in_dialog("OPTIONS", "7", 5, &tag, ""))), 500, "an old CSeq");
    assert_eq!(status(&b.send(&in_dialog("INFO", "8", 7, &tag, ""))), 200);
    assert_eq!(status(&b.send(&in_dialog("BYE", "9", 8, "other", ""))), 481);
    assert_eq!(status(&b.send(&in_dialog("BYE", "9a", 8, &tag, ""))), 200);
    assert_eq!(b.events(), [bye(SessionId(0), true)]);
}

#[test]
fn a_bye_that_overtakes_the_ack_ends_the_repetition() {
    let mut b = Bench::new();
    b.send(&request("INVITE", "1", "Contact: <sip:a@10.0.0.9>\r\n"));
    b.ua.answer(b.now, SessionId(0), ANSWER);
    let tag = b.sent()[0].to.tag().to_owned();
    assert_eq!(status(&b.send(&in_dialog("BYE", "2", 4, &tag, ""))), 200);
    assert!(b.ua.sessions[&SessionId(0)].awaiting_ack.is_none());
    b.now += Duration::from_secs(40);
    b.ua.handle_timeout(b.now);
    assert!(b.sent().is_empty());
    assert_eq!(b.ua.stats().sessions, 0);
}

#[test]
fn a_second_branch_that_answers_is_acknowledged_and_hung_up() {
    let mut ua = ua(0, 3);
    let now = Instant::ZERO;
    let id = ua.invite(now, invite());
    let sent = parse(&ua.poll_transmit().expect("INVITE").bytes).expect("INVITE");
    let ok = |tag: &str| {
        let mut r = super::message::write::Response::new(&sent, 200, "OK", tag);
        r.record_route = false;
        r.write(
            &[("Contact", "<sip:bob@192.0.2.2>"), ("Record-Route", "<sip:192.0.2.3;lr>")],
            Some(("application/sdp", ANSWER)),
        )
    };
    let mut exchange = |bytes: &[u8]| {
        ua.handle_datagram(now, address(1), bytes);
        let mut lines = Vec::new();
        while let Some(t) = ua.poll_transmit() {
            let m = parse(&t.bytes).expect("message");
            assert_eq!(t.destination.to_string(), "192.0.2.3:5060", "the route is followed");
            lines.push(format!("{} {}", m.method().as_str(), m.to.tag()));
        }
        lines
    };
    assert_eq!(exchange(&ok("one")), ["ACK one"]);
    assert_eq!(exchange(&ok("two")), ["ACK two", "BYE two"]);
    assert_eq!(exchange(&ok("two")), ["ACK two"]);
    assert_eq!(exchange(&ok("one")), ["ACK one"]);
    let events: Vec<_> = std::iter::from_fn(|| ua.poll_event()).collect();
    assert_eq!(events, [Event::Answered { session: id, sdp: Some(ANSWER.to_vec()) }]);
    assert_eq!(ua.sessions[&id].state, State::Established);
}

#[test]
fn broken_requests_get_400_where_a_response_can_be_addressed() {
    let mut b = Bench::new();
    let m = b.send(&request("OPTIONS", "1", "Content-Length: 99\r\n"));
    assert_eq!(status(&m), 400);
    assert!(b.send("garbage").is_empty());
    assert!(b.send("OPTIONS sip:x SIP/2.0\r\n\r\n").is_empty());
    assert!(b.send("\r\n\r\n").is_empty());
    assert_eq!(b.ua.stats().malformed, 3);
}

#[test]
fn the_torture_messages_are_answered_as_rfc_4475_says() {
    let expected: &[(&str, Option<u16>)] = &[
        ("wsinv", Some(481)),
        ("intmeth", Some(501)),
        ("esc01", Some(100)),
        ("esc02", Some(501)),
        ("escnull", Some(405)),
        ("lwsdisp", Some(200)),
        ("longreq", Some(100)),
        ("dblreq", Some(405)),
        ("semiuri", Some(200)),
        ("transports", Some(200)),
        ("mpart01", Some(405)),
        ("unreason", None),
        ("noreason", None),
        ("clerr", Some(400)),
        ("ncl", Some(400)),
        ("scalar02", Some(400)),
        ("scalarlg", None),
        ("quotbal", Some(400)),
        ("ltgtruri", Some(400)),
        ("badvers", Some(505)),
        ("mismatch01", Some(400)),
        ("bigcode", None),
        ("badbranch", Some(200)),
        ("insuf", Some(400)),
        ("unkscm", Some(416)),
        ("novelsc", Some(416)),
        ("bext01", Some(420)),
        ("invut", Some(415)),
        ("multi01", Some(400)),
        ("mcl01", Some(400)),
        ("bcast", None),
        ("zeromf", Some(200)),
        ("sdp01", Some(406)),
        ("inv2543", Some(100)),
        ("regbadct", Some(400)),
    ];
    for (name, bytes) in torture::torture_messages() {
        let mut b = Bench::new();
        b.ua.handle_datagram(b.now, b.peer, &bytes);
        let sent: Vec<_> = std::iter::from_fn(|| b.ua.poll_transmit()).collect();
        let got = sent.first().and_then(|t| String::from_utf8_lossy(&t.bytes)[8..11].parse::<u16>().ok());
        if let Some((_, want)) = expected.iter().find(|(n, _)| *n == name) {
            assert_eq!(got, *want, "{name}");
        }
    }
}

#[test]
fn addresses_and_headers_cannot_inject_lines() {
    type Spoil = fn(&mut Invite);
    let spoilt: [Spoil; 7] = [
        |i| i.target = "sip:bob@192.0.2.2\r\nEvil: 1".into(),
        |i| i.target = "sip:bob@192.0.2.2>;x=<".into(),
        |i| i.target = "bob".into(),
        |i| i.target = "sip:bob@192.0.2.2?Route=x".into(),
        |i| i.from = "sip:a@b\nEvil: 1".into(),
        |i| i.extra_headers = vec![("X".into(), "y\r\nEvil: 1".into())],
        |i| i.extra_headers = vec![("Via".into(), "SIP/2.0/UDP h".into())],
    ];
    for spoil in spoilt {
        let mut ua = ua(0, 1);
        let mut call = invite();
        spoil(&mut call);
        let session = ua.invite(Instant::ZERO, call);
        assert!(ua.poll_transmit().is_none());
        assert!(
            matches!(ua.poll_event(), Some(Event::Rejected { session: s, status: 400, .. }) if s == session)
        );
        assert_eq!(ua.stats().sessions, 0);
    }
    let mut ua = ua(0, 1);
    let mut call = invite();
    call.from_display = Some("x\"\r\nEvil: 1".into());
    call.extra_headers = vec![("P-Asserted-Identity".into(), "<sip:a@b>".into())];
    ua.invite(Instant::ZERO, call);
    let text = String::from_utf8(ua.poll_transmit().expect("INVITE").bytes).expect("text");
    assert!(text.lines().all(|l| !l.starts_with("Evil")));
    assert!(text.contains("\r\nFrom: \"x\\\"Evil: 1\" <sip:alice@192.0.2.1>;tag="));
    assert!(text.contains("\r\nP-Asserted-Identity: <sip:a@b>\r\n"));
}

#[test]
fn a_flood_of_invites_stays_bounded() {
    let mut b = Bench::new();
    for n in 0..20_000 {
        let text = request("INVITE", &n.to_string(), "").replace("c1", &format!("c{n}"));
        b.ua.handle_datagram(b.now, b.peer, text.as_bytes());
        while b.ua.poll_transmit().is_some() {}
        while b.ua.poll_event().is_some() {}
    }
    let stats = b.ua.stats();
    assert!(stats.sessions <= super::session::MAX_SESSIONS && stats.refused > 3000, "{stats:?}");
}

/// Bytes of every kind of message, mutated, into the parser and into user agents in the middle of calls.
#[test]
fn mutated_messages_never_panic() {
    let mut corpus: Vec<Vec<u8>> = torture::torture_messages().into_iter().map(|(_, b)| b).collect();
    let mut w = World::new(9).answering(100).at(0, 0, Do::Call);
    w.run_for(15);
    corpus.push(
        request("INVITE", "m", "Contact: <sip:a@10.0.0.9>\r\nRecord-Route: <sip:p;lr>\r\n").into_bytes(),
    );
    corpus.extend(w.flight.values().map(|(_, b)| b.clone()));
    let tokens: [&[u8]; 12] =
        [b"\r\n", b"\r\n ", b"\"", b"<", b">", b";", b",", b":", b"%", b"tag=", b"\xff\xfe", b"SIP/2.0 "];
    let mut ids = Ids::from_number(42);
    let mut uas = [ua(0, 5), ua(1, 6)];
    let mut now = Instant::ZERO;
    for round in 0..20_000u32 {
        let mut bytes = corpus[ids.next_u32() as usize % corpus.len()].clone();
        for _ in 0..=ids.next_u32() % 6 {
            let at = ids.next_u32() as usize % (bytes.len() + 1);
            match ids.next_u32() % 5 {
                0 if at < bytes.len() => bytes[at] = ids.next_u32() as u8,
                1 => bytes.truncate(at.max(1)),
                2 => {
                    let end = (at + ids.next_u32() as usize % 40).min(bytes.len());
                    bytes.drain(at..end);
                }
                3 => {
                    let token = tokens[ids.next_u32() as usize % tokens.len()];
                    bytes.splice(at..at, token.iter().copied());
                }
                _ => {
                    let end = (at + ids.next_u32() as usize % 60).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
            }
        }
        let _ = parse(&bytes);
        now += Duration::from_millis(u64::from(ids.next_u32() % 400));
        let side = round as usize % 2;
        let ua = &mut uas[side];
        if round % 50 == 0 {
            ua.invite(now, invite());
        }
        ua.handle_datagram(now, address(1 - side), &bytes);
        ua.handle_timeout(now);
        while let Some(event) = ua.poll_event() {
            let id = event.session();
            match ids.next_u32() % 5 {
                0 => ua.ring(now, id, 183, Some(ANSWER)),
                1 => ua.answer(now, id, ANSWER),
                2 => ua.hang_up(now, id),
                _ => {}
            }
        }
        while let Some(t) = ua.poll_transmit() {
            if ids.next_u32().is_multiple_of(20) && corpus.len() < 400 {
                corpus.push(t.bytes);
            }
        }
    }
}

#[test]
fn a_response_that_has_further_to_go_is_not_ours() {
    let mut ua = ua(0, 3);
    ua.invite(Instant::ZERO, invite());
    let sent = parse(&ua.poll_transmit().expect("INVITE").bytes).expect("INVITE");
    let response = super::message::write::Response::new(&sent, 486, "Busy Here", "t");
    let bytes = response.write(&[("Via", "SIP/2.0/UDP h;branch=z9hG4bKother")], None);
    ua.handle_datagram(Instant::ZERO, address(1), &bytes);
    assert!(ua.poll_transmit().is_none() && ua.poll_event().is_none());
    assert_eq!(ua.stats().unmatched, 1);
}
