//! The call API over HTTP, against a scripted dialer: every route, refusal and setting that a client can see.
#![cfg(feature = "server")]

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request};
use chrono::DateTime;
use patchcord::agent::{Role, ToolUse, Turn};
use patchcord::answer::{Class, Verdict};
use patchcord::call::outcome::{Latencies, Quality, TaskResult, TaskStatus, TimelineEvent};
use patchcord::call::{CallEvent, CallReport, HangupSource, Lifecycle, Outcome};
use patchcord::engine::{CallRequest, PlaceError};
use patchcord::server::{Clock, Config, Control, Dialer, Events, Placed, Server, Service, StartError, app};
use patchcord::time::MediaTime;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

const NUMBER: &str = "+14155550134";

/// What the test does to one placed call.
#[derive(Clone)]
struct Script {
    request: CallRequest,
    events: Arc<Mutex<Option<mpsc::Sender<CallEvent>>>>,
    hangups: Arc<Mutex<Vec<HangupSource>>>,
}

impl Script {
    async fn send(&self, event: CallEvent) {
        let sender = self.events.lock().expect("no panic").clone();
        sender.expect("the call goes on").send(event).await.expect("it is followed");
    }

    fn drop_events(&self) {
        self.events.lock().expect("no panic").take();
    }
}

struct ScriptEvents(mpsc::Receiver<CallEvent>);

impl Events for ScriptEvents {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<CallEvent>> + Send + '_>> {
        Box::pin(self.0.recv())
    }
}

impl Control for Script {
    fn hang_up(&self, source: HangupSource) {
        self.hangups.lock().expect("no panic").push(source);
        if let Some(events) = self.events.lock().expect("no panic").take() {
            let _ = events.try_send(CallEvent::Finalized(Box::new(report(Outcome::Cancelled, 0))));
        }
    }
}

#[derive(Default)]
struct Fake {
    calls: Mutex<Vec<Script>>,
    refuse: Mutex<Option<PlaceError>>,
}

impl Fake {
    fn call(&self, index: usize) -> Script {
        self.calls.lock().expect("no panic")[index].clone()
    }

    fn placed(&self) -> usize {
        self.calls.lock().expect("no panic").len()
    }
}

impl Dialer for Fake {
    fn place(&self, request: CallRequest) -> Result<Placed, PlaceError> {
        if let Some(error) = self.refuse.lock().expect("no panic").take() {
            return Err(error);
        }
        let (events, receiver) = mpsc::channel(16);
        let script = Script { request, events: Arc::new(Mutex::new(Some(events))), hangups: Arc::default() };
        self.calls.lock().expect("no panic").push(script.clone());
        Ok(Placed { events: Box::new(ScriptEvents(receiver)), control: Arc::new(script) })
    }

    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        for call in self.calls.lock().expect("no panic").iter() {
            call.hang_up(HangupSource::System);
        }
        Box::pin(async {})
    }
}

fn report(outcome: Outcome, talk_seconds: u64) -> CallReport {
    CallReport {
        outcome,
        hangup_cause: "normal_clearing".into(),
        sip_status: 200,
        hangup_source: HangupSource::Agent,
        answered_by: Verdict {
            class: Class::Human,
            confidence: 0.97,
            decided: MediaTime::from_ms(1840),
            evidence: vec!["cadence: short greeting".into()],
            act: true,
        },
        task_result: TaskResult { status: TaskStatus::Achieved, summary: "They close at six.".into() },
        transcript: vec![turn(Role::Assistant, "Hello, this is an AI assistant.", 500, 2000), pressed()],
        answered_at: (talk_seconds > 0).then_some(MediaTime::ZERO),
        talk_samples: talk_seconds * 8000,
        latency: Latencies { response_ms: vec![700, 500, 900], ..Latencies::default() },
        quality: Quality { packets_received: 990, packets_lost: 10, jitter_ms: 1.94 },
        events: vec![TimelineEvent {
            at: MediaTime::from_ms(20),
            end: None,
            kind: "answered".into(),
            detail: None,
        }],
    }
}

fn turn(role: Role, text: &str, start_ms: u64, end_ms: u64) -> Turn {
    let (start, end) = (MediaTime::from_ms(start_ms), MediaTime::from_ms(end_ms));
    Turn { role, text: text.into(), start, end, interrupted: false, tool: None }
}

fn pressed() -> Turn {
    let tool = ToolUse { name: "send_dtmf".into(), arguments: r#"{"digits":"2"}"#.into() };
    Turn { tool: Some(tool), ..turn(Role::System, "Pressed 2.", 3000, 3200) }
}

/// Everything that every test of this program logs, down to the finest level. One for all: `tracing` remembers
/// for the whole process which of its places are listened to.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .init();
        log
    })
}

struct World {
    fake: Arc<Fake>,
    service: Arc<Service>,
    app: Router,
    clock_ms: Arc<AtomicI64>,
    folder: TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    fn code(&self) -> String {
        let body = self.json();
        assert!(body["error"]["message"].is_string(), "every refusal has a message: {body}");
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

fn clock(ms: &Arc<AtomicI64>) -> Clock {
    let ms = ms.clone();
    Arc::new(move || DateTime::from_timestamp_millis(ms.load(Ordering::SeqCst)).expect("a time"))
}

fn config(settings: &str, folder: &Path) -> Config {
    let mut config = Config::parse(settings, Path::new("patchcord.toml")).expect("valid settings");
    config.server.data_dir = folder.to_owned();
    config
}

impl World {
    async fn new(settings: &str) -> Self {
        Self::on(tempfile::tempdir().expect("a folder"), settings).await
    }

    async fn on(folder: TempDir, settings: &str) -> Self {
        log();
        let fake = Arc::new(Fake::default());
        let clock_ms = Arc::new(AtomicI64::new(1_800_000_000_000));
        let config = config(settings, folder.path());
        let service =
            Service::start_with_clock(config, fake.clone(), clock(&clock_ms)).await.expect("it starts");
        Self { fake, app: app(service.clone()), service, clock_ms, folder }
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("a body").to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, path: &str, key: &str) -> Answer {
        self.ask(request("GET", path, &[("x-api-key", key)], "")).await
    }

    async fn post(&self, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.ask(request("POST", "/call", &all, &body.to_string())).await
    }

    /// Places a call without a key: its identifier and the key that came with it.
    async fn first_call(&self) -> (String, String) {
        let placed = self.post(&[], &plain()).await;
        assert_eq!(placed.status, 201, "{}", placed.json());
        let body = placed.json();
        (text(&body["id"]), text(&body["api_key"]))
    }

    async fn finalized(&self, id: &str, key: &str) -> Value {
        for _ in 0..4 {
            let call = self.get(&format!("/call/{id}?wait=5"), key).await.json();
            if call["lifecycle"] == "finalized" {
                return call;
            }
        }
        panic!("the call did not end");
    }

    /// Places a call with this key and lets it talk.
    async fn talk(&self, key: &str, seconds: u64) -> Value {
        let index = self.fake.placed();
        let placed = self.post(&[("x-api-key", key)], &plain()).await;
        assert_eq!(placed.status, 201, "{}", placed.json());
        let ended = CallEvent::Finalized(Box::new(report(Outcome::Completed, seconds)));
        self.fake.call(index).send(ended).await;
        self.finalized(&text(&placed.json()["id"]), key).await
    }

    fn advance(&self, seconds: i64) {
        self.clock_ms.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::from(body.to_owned())).expect("a request");
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([203, 0, 113, 9], 1234))));
    request
}

fn from(mut request: Request<Body>, peer: &str) -> Request<Body> {
    let peer: SocketAddr = peer.parse().expect("an address");
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

fn plain() -> Value {
    json!({"to": NUMBER, "task": "Ask when they close."})
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn write_wav(path: &Path, seconds: u32) {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).expect("a file");
    for n in 0..seconds * 16000 {
        writer.write_sample((n % 100) as i16).expect("written");
    }
    writer.finalize().expect("closed");
}

// ---- placing ----

#[tokio::test]
async fn an_anonymous_call_gives_a_key_that_reads_it() {
    let world = World::new("").await;
    let placed = world.post(&[], &plain()).await;
    assert_eq!(placed.status, 201);
    let body = placed.json();
    assert_eq!((&body["status"], &body["lifecycle"]), (&json!("queued"), &json!("queued")));
    assert_eq!(body["id"], body["call_id"]);
    let key = text(&body["api_key"]);
    assert_eq!(placed.header("x-clawcall-api-key"), key);
    assert!(key.starts_with("clawcall_sk_") && key.len() == 12 + 64, "256 bits");
    assert_eq!(placed.header("x-clawcall-tier"), "trial");
    assert_eq!(placed.header("x-clawcall-balance-seconds"), "1800");
    assert_eq!(placed.header("x-clawcall-balance-minutes"), "30");

    let call = world.get(&format!("/call/{}", text(&body["id"])), &key).await;
    assert_eq!(call.status, 200);
    assert_eq!(call.header("x-clawcall-tier"), "trial");
    let call = call.json();
    assert_eq!(call["numbers"], json!({"to": NUMBER, "from": "+12025550100", "bridge_from": null}));
    assert_eq!(call["transcript"], Value::Null);
    assert_eq!(call["timestamps"]["queued_at"], "2027-01-15T08:00:00.000Z");
    assert!(call.get("outcome").is_none() && call.get("answered_by").is_none(), "{call}");

    let again = world.post(&[("x-api-key", &key)], &plain()).await;
    assert_eq!(again.status, 201);
    assert!(again.json().get("api_key").is_none(), "shown once");
    let stored = std::fs::read(world.folder.path().join("patchcord.db-wal")).expect("the database");
    assert!(!stored.windows(key.len()).any(|w| w == key.as_bytes()), "only its hash is kept");
}

#[tokio::test]
async fn everything_asked_for_reaches_the_dialer_and_the_record() {
    let world = World::new("[limits]\nmax_call_seconds = 600\n[trunk]\nfrom = \"+12025550177\"\n").await;
    let body = json!({
        "to": NUMBER, "task": "Ask.", "voice": "eric", "personality": "brisk", "greeting": "Good day.",
        "language": "en-GB", "max_duration_seconds": 90, "metadata": {"order": 7}, "unknown": true,
    });
    let placed = world.post(&[], &body).await.json();
    let request = world.fake.call(0).request;
    let id = text(&placed["id"]);
    assert_eq!(request.id, id);
    assert_eq!((request.to.reveal().as_str(), request.task.reveal().as_str()), (NUMBER, "Ask."));
    assert_eq!((request.voice.name.as_str(), request.voice.pitch), ("eric", 0.88));
    assert_eq!(request.personality.as_deref(), Some("brisk"));
    assert_eq!(request.greeting.as_deref(), Some("Good day."));
    assert_eq!(request.language.as_deref(), Some("en-GB"));
    assert_eq!(request.max_duration, Some(Duration::from_secs(90)));
    let recording = world.folder.path().join("recordings").join(format!("{id}.wav"));
    assert_eq!(request.recording, Some(recording));

    let call = world.get(&format!("/call/{id}"), &text(&placed["api_key"])).await.json();
    assert_eq!(call["voice"], "eric");
    assert_eq!(call["personality"], "brisk");
    assert_eq!(call["greeting"], "Good day.");
    assert_eq!(call["language"], "en-GB");
    assert_eq!(call["max_duration_seconds"], 90);
    assert_eq!(call["metadata"], json!({"order": 7}));
    assert_eq!(call["numbers"]["from"], "+12025550177");

    let plain = world.post(&[], &plain()).await;
    assert_eq!(plain.status, 201);
    let request = world.fake.call(1).request;
    assert_eq!((request.voice.name.as_str(), request.language.as_deref()), ("jessica", Some("en")));
    assert_eq!(request.max_duration, Some(Duration::from_secs(600)));
}

#[tokio::test]
async fn refused_bodies_have_the_contracts_status_and_code_and_dial_nobody() {
    let world = World::new("[limits]\nbody_bytes = 1024\n").await;
    let json_type = [("content-type", "application/json")];
    let big = json!({"to": NUMBER, "task": "x".repeat(2000)}).to_string();
    let good = plain().to_string();
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, u16, &'a str);
    let cases: Vec<Case<'_>> = vec![
        (&json_type, "{\"to\":", 422, "invalid_body"),
        (&json_type, "[]", 422, "invalid_body"),
        (&json_type, "", 422, "invalid_body"),
        (&json_type, r#"{"to": 5, "task": "x"}"#, 422, "invalid_body"),
        (&json_type, r#"{"to": "+14155550134"}"#, 400, "missing_fields"),
        (&json_type, r#"{"to": "415", "task": "x"}"#, 400, "invalid_phone"),
        (&json_type, r#"{"to": "+19005550134", "task": "x"}"#, 403, "destination_blocked"),
        (&json_type, r#"{"to": "+14155550134", "task": "x", "voice": "hal"}"#, 400, "invalid_profile"),
        (&json_type, &big, 413, "payload_too_large"),
        (&[("content-type", "text/plain")], &good, 415, "unsupported_media_type"),
        (&[], &good, 415, "unsupported_media_type"),
    ];
    for (headers, body, status, code) in cases {
        let answer = world.ask(request("POST", "/call", headers, body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{headers:?} {body:.60}");
        assert_eq!(answer.header("x-clawcall-api-key"), "", "no key for a refused request");
    }
    assert_eq!(world.fake.placed(), 0);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_the_same_shape() {
    let world = World::new("").await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/me/calls", 404),
        ("GET", "/call", 405),
        ("DELETE", "/healthz", 405),
        ("POST", "/call/x/hangup/y", 404),
    ] {
        let answer = world.ask(request(method, path, &[], "")).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(!answer.code().is_empty());
    }
    let healthy = world.ask(request("GET", "/healthz", &[], "")).await;
    assert_eq!((healthy.status, healthy.json()), (200, json!({"status": "ok"})));
}

#[tokio::test]
async fn keys_are_needed_known_and_not_sessions() {
    let world = World::new("[server]\nanonymous = false\n").await;
    assert_eq!(world.post(&[], &plain()).await.code(), "auth_required");
    let unknown = format!("clawcall_sk_{}", "0".repeat(64));
    for key in ["x", "clawcall_sk_", &unknown] {
        let answer = world.post(&[("x-api-key", key)], &plain()).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_api_key"));
    }
    let answer = world.post(&[("authorization", "Bearer a.b.c")], &plain()).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_token"));
    let answer = world.ask(request("GET", "/call/abc", &[], "")).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "auth_required"));
    assert_eq!(world.fake.placed(), 0);

    let key = world.service.issue_key().await.expect("a key");
    assert_eq!(world.post(&[("x-api-key", &key)], &plain()).await.status, 201);
}

#[tokio::test]
async fn a_call_that_is_not_yours_is_not_there() {
    let world = World::new("").await;
    let (id, key) = world.first_call().await;
    let (_, stranger) = world.first_call().await;
    for path in [format!("/call/{id}"), format!("/call/{id}?wait=1"), format!("/call/{id}/recording")] {
        let answer = world.get(&path, &stranger).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
    }
    let hangup = request("POST", &format!("/call/{id}/hangup"), &[("x-api-key", &stranger)], "");
    assert_eq!(world.ask(hangup).await.status, 404);
    assert!(world.fake.call(0).hangups.lock().expect("no panic").is_empty());
    for odd in ["/call/nope", "/call/%ff", "/call/..%2f..%2fsecret", "/call/a%20b"] {
        assert_eq!(world.get(odd, &key).await.code(), "not_found", "{odd}");
    }
    world.fake.call(0).send(CallEvent::Finalized(Box::new(report(Outcome::Completed, 60)))).await;
    world.finalized(&id, &key).await;
    assert_eq!(world.get(&format!("/call/{id}"), &stranger).await.status, 404, "also when it is over");
}

#[tokio::test]
async fn what_the_dialer_refuses_is_told_and_leaves_no_trace() {
    let world = World::new("").await;
    let (_, key) = world.first_call().await;
    let cases = [
        (PlaceError::NoTrunk, 502, "dial_failed", false),
        (PlaceError::ShuttingDown, 503, "draining", true),
        (PlaceError::NoMediaPort, 503, "number_pool_exhausted", true),
        (PlaceError::InvalidDestination, 400, "invalid_phone", false),
        (PlaceError::DuplicateId, 500, "internal", false),
    ];
    for (error, status, code, retry) in cases {
        *world.fake.refuse.lock().expect("no panic") = Some(error);
        let headers = [("x-api-key", key.as_str()), ("idempotency-key", "again")];
        let answer = world.post(&headers, &plain()).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
        assert_eq!(answer.headers.contains_key("retry-after"), retry, "{code}");
    }
    *world.fake.refuse.lock().expect("no panic") = Some(PlaceError::NoTrunk);
    assert_eq!(world.post(&[], &plain()).await.header("x-clawcall-api-key"), "");
    // The failed attempts are neither remembered nor counted (the limit to one number is 6 an hour).
    let headers = [("x-api-key", key.as_str()), ("idempotency-key", "again")];
    assert_eq!(world.post(&headers, &plain()).await.status, 201);
}

// ---- idempotency ----

#[tokio::test]
async fn the_same_idempotency_key_never_dials_twice() {
    let world = World::new("").await;
    let key = world.service.issue_key().await.expect("a key");
    let headers = [("x-api-key", key.as_str()), ("idempotency-key", "order-7")];
    let first = world.post(&headers, &plain()).await;
    let body = plain();
    let (a, b) = tokio::join!(world.post(&headers, &body), world.post(&headers, &body));
    for again in [a, b] {
        assert_eq!((again.status, again.json()), (201, first.json()));
        assert_eq!(again.header("idempotency-replayed"), "true");
    }
    assert_eq!(world.fake.placed(), 1);

    let other = world.post(&headers, &json!({"to": NUMBER, "task": "Something else."})).await;
    assert_eq!((other.status, other.code().as_str()), (409, "conflict"));
    let stranger = world.service.issue_key().await.expect("a key");
    let theirs = [("x-api-key", stranger.as_str()), ("idempotency-key", "order-7")];
    assert_ne!(world.post(&theirs, &plain()).await.json()["id"], first.json()["id"]);

    world.advance(24 * 3600 - 1);
    assert_eq!(world.post(&headers, &plain()).await.json()["id"], first.json()["id"]);
    world.advance(1);
    assert_ne!(world.post(&headers, &plain()).await.json()["id"], first.json()["id"], "after 24 h");
    let empty = [("x-api-key", key.as_str()), ("idempotency-key", "")];
    assert_eq!(world.post(&empty, &plain()).await.status, 400);
}

#[tokio::test]
async fn a_retried_anonymous_call_gives_the_same_call_and_the_same_key() {
    let world = World::new("").await;
    let headers = [("idempotency-key", "8f3c")];
    let first = world.post(&headers, &plain()).await;
    let again = world.post(&headers, &plain()).await;
    assert_eq!(again.json(), first.json());
    assert_eq!(again.header("x-clawcall-api-key"), first.header("x-clawcall-api-key"));
    assert_eq!(world.fake.placed(), 1);
    let body = plain().to_string();
    let all = [("content-type", "application/json"), ("idempotency-key", "8f3c")];
    let elsewhere = world.ask(from(request("POST", "/call", &all, &body), "198.51.100.1:1")).await;
    assert_eq!(elsewhere.status, 201);
    assert_ne!(elsewhere.json()["api_key"], first.json()["api_key"], "another network is another client");
}

// ---- limits ----

#[tokio::test]
async fn a_key_has_a_bounded_number_of_living_calls() {
    let world = World::new("[limits]\nconcurrent_calls_per_key = 2\n").await;
    let (id, key) = world.first_call().await;
    assert_eq!(world.post(&[("x-api-key", &key)], &plain()).await.status, 201);
    let third = world.post(&[("x-api-key", &key)], &plain()).await;
    assert_eq!((third.status, third.code().as_str()), (429, "concurrency_exceeded"));
    assert!(third.header("retry-after").parse::<u32>().is_ok());
    world.fake.call(0).send(CallEvent::Finalized(Box::new(report(Outcome::Busy, 0)))).await;
    world.finalized(&id, &key).await;
    assert_eq!(world.post(&[("x-api-key", &key)], &plain()).await.status, 201);
}

#[tokio::test]
async fn the_service_has_a_bounded_number_of_living_calls() {
    let world = World::new("[limits]\nconcurrent_calls = 2\n").await;
    world.first_call().await;
    world.first_call().await;
    let third = world.post(&[], &plain()).await;
    assert_eq!((third.status, third.code().as_str()), (503, "number_pool_exhausted"));
    assert!(third.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_trial_lasts_until_its_calls_and_its_minutes_are_both_used_up() {
    let settings = "[limits]\ntrial_calls = 2\ntrial_minutes = 2\ncalls_per_number_per_hour = 100\n\
                    trial_action_url = \"https://a.example/more\"\n";
    let world = World::new(settings).await;
    let key = world.service.issue_key().await.expect("a key");
    assert_eq!(world.talk(&key, 110).await["_meta"]["balance_seconds"], 10);
    world.talk(&key, 4).await;
    world.talk(&key, 4).await;
    // Short calls do not count: one call and 110 s so far. Two calls are reached next, then the minutes.
    assert_eq!(world.talk(&key, 5).await["_meta"]["balance_seconds"], 5);
    assert_eq!(world.talk(&key, 20).await["_meta"]["balance_seconds"], 0);
    let refused = world.post(&[("x-api-key", &key)], &plain()).await;
    assert_eq!((refused.status, refused.code().as_str()), (402, "trial_exhausted"));
    let error = &refused.json()["error"];
    assert_eq!(error["action"]["url"], "https://a.example/more");
    assert_eq!(
        error["quota"],
        json!({"tier": "trial", "calls_used": 3, "calls_limit": 2, "seconds_used": 135, "seconds_limit": 120})
    );
    assert_eq!(refused.header("x-clawcall-balance-seconds"), "0");
}

#[tokio::test]
async fn many_short_calls_do_not_end_a_trial_with_minutes_left() {
    let settings = "[limits]\ntrial_calls = 1\ntrial_minutes = 1\ncalls_per_number_per_hour = 100\n";
    let world = World::new(settings).await;
    let key = world.service.issue_key().await.expect("a key");
    for _ in 0..3 {
        world.talk(&key, 19).await;
    }
    assert_eq!(world.talk(&key, 19).await["_meta"]["balance_seconds"], 0);
    assert_eq!(world.post(&[("x-api-key", &key)], &plain()).await.code(), "trial_exhausted");
}

#[tokio::test]
async fn anonymous_calls_count_by_network_and_hour() {
    let settings = "[limits]\nanonymous_calls_per_hour = 2\ncalls_per_number_per_hour = 100\n\
                    [server]\ntrusted_proxies = [\"10.0.0.1\"]\nanonymous = true\n";
    let world = World::new(settings).await;
    let place = |peer: &'static str, forwarded: &'static str, key: String| {
        let mut headers = vec![("content-type", "application/json")];
        if !forwarded.is_empty() {
            headers.push(("x-forwarded-for", forwarded));
        }
        if !key.is_empty() {
            headers.push(("x-api-key", &key));
        }
        world.ask(from(request("POST", "/call", &headers, &plain().to_string()), peer))
    };
    let none = String::new;
    let first = place("[2001:db8:0:1::1]:1", "", none()).await;
    let proto = text(&first.json()["api_key"]);
    world.advance(60);
    assert_eq!(place("[2001:db8:0:1::2]:1", "", proto.clone()).await.status, 201, "the same /64, by its key");
    let refused = place("[2001:db8:0:1:ffff::3]:1", "", none()).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"));
    assert_eq!(refused.header("retry-after"), "3540", "until the first is an hour old");
    assert_eq!(place("[2001:db8:0:1::1]:1", "", proto).await.status, 429, "a proto-key counts too");
    assert_eq!(place("[2001:db8:0:2::1]:1", "", none()).await.status, 201, "another /64");
    // A stranger's header names nobody else; a proxy's does.
    assert_eq!(place("[2001:db8:0:1::1]:1", "192.0.2.1", none()).await.status, 429);
    assert_eq!(place("10.0.0.1:1", "2001:db8:0:1::9", none()).await.status, 429);
    assert_eq!(place("10.0.0.1:1", "192.0.2.1", none()).await.status, 201);
    let issued = world.service.issue_key().await.expect("a key");
    assert_eq!(place("[2001:db8:0:1::1]:1", "", issued).await.status, 201, "an issued key is no stranger");
    world.advance(3540);
    assert_eq!(place("[2001:db8:0:1::1]:1", "", none()).await.status, 201);
}

#[tokio::test]
async fn a_number_is_called_a_bounded_number_of_times_an_hour() {
    let world = World::new("[limits]\ncalls_per_number_per_hour = 2\n").await;
    world.first_call().await;
    world.advance(600);
    world.first_call().await;
    let third = world.post(&[], &plain()).await;
    assert_eq!((third.status, third.code().as_str()), (429, "rate_limited"));
    assert_eq!(third.header("retry-after"), "3000");
    let other = json!({"to": "+14155550135", "task": "x"});
    assert_eq!(world.post(&[], &other).await.status, 201);
    world.advance(3000);
    assert_eq!(world.post(&[], &plain()).await.status, 201);
}

// ---- following ----

#[tokio::test]
async fn a_call_is_followed_to_its_end_and_stable_from_then_on() {
    let world = World::new("").await;
    let (id, key) = world.first_call().await;
    let script = world.fake.call(0);
    let path = format!("/call/{id}");
    let (polled, ()) = tokio::join!(world.get("/call/unknown?wait=0", &key), async {});
    assert_eq!(polled.status, 404);

    let long_poll = format!("{path}?wait=20");
    let (polled, ()) = tokio::join!(world.get(&long_poll, &key), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        script.send(CallEvent::Lifecycle(Lifecycle::Dialing)).await;
    });
    assert_eq!(polled.json()["lifecycle"], "dialing");
    assert!(polled.json()["timestamps"]["dialing_at"].is_string());

    world.advance(3);
    script.send(CallEvent::Ringing).await;
    let (polled, ()) = tokio::join!(world.get(&long_poll, &key), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        script.send(CallEvent::Lifecycle(Lifecycle::Answered)).await;
    });
    assert_eq!(polled.json()["timestamps"]["answered_at"], "2027-01-15T08:00:03.000Z");
    assert_eq!(polled.json()["transcript"], Value::Null);

    world.advance(2);
    script.send(CallEvent::Turn(turn(Role::Assistant, "Hello, this is an AI assistant.", 500, 2000))).await;
    let mut seen = Value::Null;
    while seen["transcript"].is_null() {
        tokio::task::yield_now().await;
        seen = world.get(&path, &key).await.json();
    }
    assert_eq!(seen["transcript"][0]["timestamp"], "2027-01-15T08:00:03.500Z");
    assert!(seen.get("answered_by").is_none(), "{seen}");

    write_wav(&world.folder.path().join("recordings").join(format!("{id}.wav")), 1);
    world.advance(60);
    script.send(CallEvent::Finalized(Box::new(report(Outcome::Completed, 62)))).await;
    let call = world.finalized(&id, &key).await;
    assert_final(&call, &id);
    world.advance(1000);
    world.talk(&key, 30).await;
    assert_eq!(world.get(&path, &key).await.json(), call, "stable, also when the balance has moved on");
    assert_eq!(world.get(&format!("{path}?wait=30"), &key).await.json(), call, "and not waited for");
    assert_eq!(world.get(&path, &key).await.header("x-clawcall-balance-seconds"), "1708");
}

fn assert_final(call: &Value, id: &str) {
    assert_eq!(call["outcome"], "completed");
    let detail =
        json!({"hangup_cause": "normal_clearing", "sip_hangup_cause": "200", "hangup_source": "agent"});
    assert_eq!(call["outcome_detail"], detail);
    assert_eq!(
        (&call["hangup_cause"], &call["sip_hangup_cause"]),
        (&json!("normal_clearing"), &json!("200"))
    );
    assert_eq!(
        call["answered_by"],
        json!({"class": "human", "confidence": 0.97, "decided_ms": 1840, "evidence": ["cadence: short greeting"]})
    );
    assert_eq!(call["task_result"], json!({"status": "achieved", "summary": "They close at six."}));
    assert_eq!(call["talk_seconds"], 62);
    assert_eq!(call["recording_url"], format!("http://127.0.0.1:8080/call/{id}/recording"));
    assert_eq!(call["events"][0]["at_ms"], 20);
    assert_eq!(call["events"][0]["type"], "answered");
    assert_eq!(call["latency"]["turns"], 3);
    assert_eq!(call["latency"]["response_ms"], json!({"p50": 700, "p95": 900}));
    assert_eq!(call["latency"]["barge_in_ms"], json!({"p50": null, "p95": null}));
    assert_eq!(call["quality"], json!({"mos": 4.3, "loss_percent": 1.0, "jitter_ms": 1.9}));
    assert_eq!(call["_meta"], json!({"balance_seconds": 1738}));
    assert_eq!(call["timestamps"]["finalized_at"], "2027-01-15T08:01:05.000Z");
    let pressed = &call["transcript"][1];
    assert_eq!((&pressed["tool"], &pressed["toolArgs"]), (&json!("send_dtmf"), &json!({"digits": "2"})));
    assert_eq!(pressed["timestamp"], "2027-01-15T08:00:06.000Z");
    assert!(call["transcript"][0].get("tool").is_none());
}

#[tokio::test]
async fn a_hang_up_is_idempotent_also_after_the_end() {
    let world = World::new("").await;
    let (id, key) = world.first_call().await;
    let hang_up = || request("POST", &format!("/call/{id}/hangup"), &[("x-api-key", &key)], "");
    let first = world.ask(hang_up()).await;
    assert_eq!(first.status, 200);
    assert_eq!((&first.json()["success"], &first.json()["call_id"]), (&json!(true), &json!(id)));
    let call = world.finalized(&id, &key).await;
    assert_eq!(call["outcome"], "cancelled");
    assert_eq!(call["transcript"].as_array().map(Vec::len), Some(2));
    let again = world.ask(hang_up()).await;
    assert_eq!((again.status, &again.json()["status"]), (200, &json!("finalized")));
    assert_eq!(*world.fake.call(0).hangups.lock().expect("no panic"), [HangupSource::User]);
}

#[tokio::test]
async fn a_call_that_the_engine_loses_is_finalized_as_our_fault() {
    let world = World::new("").await;
    let (id, key) = world.first_call().await;
    let script = world.fake.call(0);
    script.send(CallEvent::Lifecycle(Lifecycle::Answered)).await;
    script.send(CallEvent::Turn(turn(Role::User, "Hello?", 100, 600))).await;
    script.drop_events();
    let call = world.finalized(&id, &key).await;
    assert_eq!(call["outcome"], "system_error");
    assert_eq!(call["transcript"][0]["text"], "Hello?");
    assert_eq!(call["sip_hangup_cause"], Value::Null);
    assert_eq!(call["outcome_detail"]["hangup_source"], "system");
}

#[tokio::test]
async fn a_wrong_wait_is_refused() {
    let world = World::new("").await;
    let (id, key) = world.first_call().await;
    let answer = world.get(&format!("/call/{id}?wait=soon"), &key).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_query"));
}

// ---- recordings ----

#[tokio::test]
async fn a_recording_is_fetched_over_a_signed_link_that_expires() {
    let world = World::new("[server]\nrecording_link_seconds = 60\n").await;
    let (id, key) = world.first_call().await;
    let path = format!("/call/{id}/recording");
    let file = world.folder.path().join("recordings").join(format!("{id}.wav"));
    write_wav(&file, 1);
    let early = world.get(&path, &key).await;
    assert_eq!((early.status, early.code().as_str()), (404, "recording_not_available"), "still running");
    world.fake.call(0).send(CallEvent::Finalized(Box::new(report(Outcome::Completed, 1)))).await;
    world.finalized(&id, &key).await;

    let redirect = world.get(&path, &key).await;
    assert_eq!(redirect.status, 302);
    let link = redirect.header("location").to_owned();
    assert!(link.starts_with(&format!("/recordings/{id}.wav?expires=")), "{link}");
    let whole = world.ask(request("GET", &link, &[], "")).await;
    assert_eq!((whole.status, whole.header("content-type")), (200, "audio/wav"));
    assert_eq!(whole.body, std::fs::read(&file).expect("the file"));
    let part = world.ask(request("GET", &link, &[("range", "bytes=0-3")], "")).await;
    assert_eq!((part.status, part.body.as_slice()), (206, b"RIFF".as_slice()));
    assert_eq!(part.header("content-range"), format!("bytes 0-3/{}", whole.body.len()));
    let beyond = world.ask(request("GET", &link, &[("range", "bytes=9999999-")], "")).await;
    assert_eq!(beyond.status, 416);

    let forged = link.replace("signature=", "signature=0");
    for wrong in
        [forged.as_str(), &format!("/recordings/{id}.wav"), "/recordings/..%2fsecret?expires=1&signature=x"]
    {
        let answer = world.ask(request("GET", wrong, &[], "")).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{wrong}");
    }
    assert_eq!(world.get(&format!("{path}?format=wav"), &key).await.status, 302);
    assert_eq!(world.get(&format!("{path}?format=ogg"), &key).await.code(), "recording_not_available");
    assert_eq!(world.get(&format!("{path}?format=mp3"), &key).await.code(), "invalid_query");
    world.advance(60);
    assert_eq!(world.ask(request("GET", &link, &[], "")).await.status, 403, "expired");
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(world.get(&path, &key).await.code(), "recording_not_available");
}

#[tokio::test]
async fn a_call_without_a_recording_says_so() {
    let world = World::new("").await;
    let (id, key) = world.first_call().await;
    world.fake.call(0).send(CallEvent::Finalized(Box::new(report(Outcome::NoAnswer, 0)))).await;
    let call = world.finalized(&id, &key).await;
    assert_eq!((&call["outcome"], &call["recording_url"]), (&json!("no_answer"), &Value::Null));
    assert_eq!(world.get(&format!("/call/{id}/recording"), &key).await.code(), "recording_not_available");
}

#[tokio::test]
async fn links_begin_with_the_public_url() {
    let world = World::new("[server]\npublic_url = \"https://calls.example\"\nanonymous = true\n").await;
    let (id, key) = world.first_call().await;
    write_wav(&world.folder.path().join("recordings").join(format!("{id}.wav")), 1);
    world.fake.call(0).send(CallEvent::Finalized(Box::new(report(Outcome::Completed, 1)))).await;
    let call = world.finalized(&id, &key).await;
    assert_eq!(call["recording_url"], format!("https://calls.example/call/{id}/recording"));
    let redirect = world.get(&format!("/call/{id}/recording"), &key).await;
    assert!(redirect.header("location").starts_with("https://calls.example/recordings/"));
}

// ---- restarts ----

#[tokio::test]
async fn after_a_crash_a_living_call_is_finalized_with_what_there_is() {
    let world = World::new("").await;
    let (id, key) = world.first_call().await;
    let (queued, queued_key) = world.first_call().await;
    let script = world.fake.call(0);
    script.send(CallEvent::Lifecycle(Lifecycle::Answered)).await;
    script.send(CallEvent::Turn(turn(Role::User, "Hello?", 100, 600))).await;
    write_wav(&world.folder.path().join("recordings").join(format!("{id}.wav")), 7);
    while rows(world.folder.path()).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A copy of the folder is what a killed process leaves: no one says goodbye.
    let left = tempfile::tempdir().expect("a folder");
    copy(world.folder.path(), left.path());

    let world = World::on(left, "").await;
    let call = world.get(&format!("/call/{id}"), &key).await.json();
    assert_eq!((&call["lifecycle"], &call["outcome"]), (&json!("finalized"), &json!("system_error")));
    assert_eq!(call["transcript"][0]["text"], "Hello?");
    assert_eq!(call["talk_seconds"], 7, "as much as was recorded");
    assert_eq!(world.get(&format!("/call/{id}/recording"), &key).await.status, 302);
    assert_eq!(call["_meta"]["balance_seconds"], 1793);
    let call = world.get(&format!("/call/{queued}"), &queued_key).await.json();
    assert_eq!((&call["outcome"], &call["talk_seconds"]), (&json!("system_error"), &json!(0)));
    assert_eq!(world.service.active_calls(), 0);
}

async fn rows(folder: &Path) -> i64 {
    let url = format!("sqlite://{}/patchcord.db", folder.display());
    let pool = sqlx::SqlitePool::connect(&url).await.expect("the database");
    let count = sqlx::query_scalar("SELECT count(*) FROM turns").fetch_one(&pool).await.expect("a count");
    pool.close().await;
    count
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).expect("made");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[tokio::test]
async fn ended_calls_and_keys_outlive_a_restart_but_not_two_at_once() {
    let World { service, folder, app, fake, clock_ms } = World::new("").await;
    let world = World { service, folder, app, fake, clock_ms };
    let key = world.service.issue_key().await.expect("a key");
    let before = world.talk(&key, 30).await;
    let config = config("", world.folder.path());
    let second = Service::start(config, world.fake.clone()).await;
    assert!(matches!(second, Err(StartError::InUse { .. })), "the folder is taken");
    let World { service, folder, app, .. } = world;
    service.drain(Duration::ZERO).await;
    drop((service, app));
    let world = World::on(folder, "").await;
    let id = text(&before["id"]);
    assert_eq!(world.get(&format!("/call/{id}"), &key).await.json(), before);
}

#[tokio::test]
async fn a_draining_service_takes_no_new_calls_and_ends_the_living() {
    let world = World::new("[server]\ndrain_seconds = 7\n").await;
    let (id, key) = world.first_call().await;
    let draining = tokio::spawn({
        let service = world.service.clone();
        async move { service.drain(Duration::from_millis(300)).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let refused = world.post(&[("x-api-key", &key)], &plain()).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "draining"));
    assert_eq!(refused.header("retry-after"), "7");
    assert_eq!(world.get(&format!("/call/{id}"), &key).await.status, 200, "reading goes on");
    assert_eq!(world.ask(request("GET", "/healthz", &[], "")).await.json()["status"], "draining");
    draining.await.expect("no panic");
    assert_eq!(*world.fake.call(0).hangups.lock().expect("no panic"), [HangupSource::System]);
    assert_eq!(world.service.active_calls(), 0);
}

#[tokio::test]
async fn a_database_that_fails_is_an_answer_and_not_a_panic() {
    let world = World::new("").await;
    let (id, key) = world.first_call().await;
    world.service.drain(Duration::ZERO).await; // closes the database
    for answer in [
        world.get(&format!("/call/{id}"), &key).await,
        world.post(&[("x-api-key", &key)], &plain()).await,
        world.post(&[("idempotency-key", "a")], &plain()).await,
    ] {
        assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    }
}

#[tokio::test]
async fn the_log_holds_no_number_task_transcript_or_key() {
    let world = World::new("").await;
    let (id, key) = world.first_call().await;
    let script = world.fake.call(0);
    script.send(CallEvent::Lifecycle(Lifecycle::Answered)).await;
    script.send(CallEvent::Turn(turn(Role::User, "My name is Mallory.", 100, 600))).await;
    write_wav(&world.folder.path().join("recordings").join(format!("{id}.wav")), 1);
    script.send(CallEvent::Finalized(Box::new(report(Outcome::Completed, 62)))).await;
    world.finalized(&id, &key).await;
    let link = world.get(&format!("/call/{id}/recording"), &key).await.header("location").to_owned();
    world.ask(request("GET", &link, &[], "")).await;
    let signature = link.rsplit_once('=').expect("signed").1;
    let text = String::from_utf8(log().0.lock().expect("no panic").clone()).expect("text");
    assert!(text.contains(&id), "calls are told apart by their identifiers: {text}");
    for secret in
        ["4155550134", "Ask when they close", "Mallory", &key, signature, "203.0.113.9", "They close"]
    {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
}

// ---- over a socket ----

#[tokio::test]
async fn a_client_written_from_the_contract_places_polls_and_fetches_a_call() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: no python3");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config("[server]\ndrain_seconds = 0\n", folder.path());
    config.server.bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let fake = Arc::new(Fake::default());
    let server = Server::bind(config, fake.clone()).await.expect("bound");
    let base = format!("http://{}", server.local_addr().expect("an address"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async {
        let _ = stopped.await;
    }));
    let saved = folder.path().join("saved.wav");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/call.py");
    let client = tokio::process::Command::new("python3")
        .args([script, &base, NUMBER, "Ask when they close."])
        .arg(&saved)
        .output();
    let callee = async {
        while fake.placed() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let call = fake.call(0);
        call.send(CallEvent::Lifecycle(Lifecycle::Answered)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        write_wav(call.request.recording.as_deref().expect("wanted"), 1);
        call.send(CallEvent::Finalized(Box::new(report(Outcome::Completed, 62)))).await;
    };
    let (output, ()) = tokio::join!(client, callee);
    let output = output.expect("it ran");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("assistant: Hello, this is an AI assistant."), "{said}");
    assert!(said.contains("completed achieved 62 s"), "{said}");
    assert_eq!(hound::WavReader::open(&saved).expect("a recording").duration(), 8000);
    stop.send(()).expect("serving");
    serving.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn a_taken_port_is_named_by_its_setting() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config("", folder.path());
    config.server.bind = taken.local_addr().expect("an address");
    let Err(error) = Server::bind(config, Arc::new(Fake::default())).await else { panic!("refused") };
    assert!(error.to_string().starts_with("setting `server.bind`: cannot bind 127.0.0.1:"), "{error}");
}
