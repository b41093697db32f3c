//! `patchcord demo`: every scenario, and a language model behind real server-sent events.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{
    DISCLOSURE, PATCHCORD, Process, channels, file, installed, models, skip, turns, wait_for, words,
};

/// What one demo call left behind.
struct Left {
    call: Value,
    dir: PathBuf,
    /// What the demo printed about it.
    printed: String,
}

impl Left {
    fn of(out: &Path, printed: &str, scenario: &str) -> Self {
        let dir = out.join(format!("{scenario}-1"));
        let json = std::fs::read(dir.join("call.json")).unwrap_or_else(|e| panic!("{scenario}: {e}"));
        let after = printed.split(&format!("── {scenario}: ")).nth(1).expect("a heading");
        let printed = after.split("── ").next().expect("a section").to_owned();
        Self { call: serde_json::from_slice(&json).expect("JSON"), dir, printed }
    }

    /// The number that stands before `unit` on the line that starts with `label`.
    fn number(&self, label: &str, unit: &str) -> f64 {
        let line = self.printed.lines().find(|l| l.starts_with(label));
        let line = line.unwrap_or_else(|| panic!("no `{label}` in:\n{}", self.printed));
        let before = line.split(unit).next().expect("a line");
        before.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    }

    /// The recording is as long as the talk, and both its channels; the picture is a picture.
    fn check_recording(&self) -> (Vec<i16>, Vec<i16>) {
        let wav = std::fs::read(self.dir.join("recording.wav")).expect("a recording");
        let (far, near) = channels(&wav);
        let (seconds, talk) = (far.len() as f64 / 8000.0, self.call["talk_seconds"].as_f64().expect("talk"));
        assert!((seconds - talk).abs() <= 1.0, "{seconds} s of {talk} s were recorded");
        let svg = std::fs::read_to_string(self.dir.join("timeline.svg")).expect("a picture");
        well_formed(&svg);
        (far, near)
    }

    fn check_disclosure(&self) {
        let first = turns(&self.call, "assistant")[0];
        assert!(words(first).starts_with(DISCLOSURE), "{first}");
    }
}

/// Every tag is closed where it should be, every attribute is quoted, every `&` begins an entity.
fn well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        for entity in text.split('&').skip(1) {
            assert!(entity.split_once(';').is_some_and(|(name, _)| name.len() <= 5), "a bare & in {text}");
        }
        let (tag, after) = tag[1..].split_once('>').expect("the tag is closed");
        rest = after;
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
        assert!(!tag.contains('<') && !tag.contains("NaN"), "<{tag}>");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().expect("a name"));
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} are open, {rest:?} is left");
}

#[test]
fn every_scenario_of_the_demo_ends_as_it_should() {
    if !models() {
        return skip("local models: run `patchcord models pull`");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    let mut command = Command::new(PATCHCORD);
    command.args(["demo", "--scenario", "all", "--out"]).arg(&out);
    let began = Instant::now();
    let mut demo = Process::start("demo", dir.path(), &mut command);
    let status = demo.finish(Duration::from_secs(280));
    let printed = demo.stdout();
    assert!(status.success(), "{status}");
    println!("demo --scenario all: {:.0} s", began.elapsed().as_secs_f64());

    for (scenario, outcome) in [
        ("receptionist", "completed"),
        ("voicemail", "voicemail_detected"),
        ("voicemail-silent", "voicemail_detected"),
        ("menu", "completed"),
        ("busy", "busy"),
        ("no-answer", "no_answer"),
        ("declined", "declined_by_callee"),
        ("invalid-number", "invalid_number"),
    ] {
        let left = Left::of(&out, &printed, scenario);
        assert_eq!(left.call["lifecycle"], "finalized", "{scenario}");
        assert_eq!(left.call["outcome"], outcome, "{scenario}");
        let answered = matches!(outcome, "completed" | "voicemail_detected");
        assert_eq!(left.call["talk_seconds"].as_u64().expect("talk") > 0, answered, "{scenario}");
        if answered {
            left.check_recording();
        }
    }
    check_receptionist(&Left::of(&out, &printed, "receptionist"));
    check_voicemail(&Left::of(&out, &printed, "voicemail"), &out);
    check_silence(&Left::of(&out, &printed, "voicemail-silent"));
    check_menu(&Left::of(&out, &printed, "menu"));
}

fn check_receptionist(left: &Left) {
    let (agent, callee) = (turns(&left.call, "assistant"), turns(&left.call, "user"));
    assert!(agent.len() >= 3 && callee.len() >= 3, "{:#}", left.call["transcript"]);
    assert!(agent.iter().any(|t| t["interrupted"] == true), "the callee interrupts once");
    left.check_disclosure();
    let wrong = left.number("heard:", " %");
    println!("receptionist: {wrong} % word error rate, {} s of talk", left.call["talk_seconds"]);
    assert!(wrong <= 15.0, "{wrong} % of the callee's words were misheard");
}

fn check_voicemail(left: &Left, out: &Path) {
    let after_beep = left.number("message:", " ms after");
    println!("voicemail: the message began {after_beep} ms after the beep");
    assert!((200.0..=1000.0).contains(&after_beep), "{after_beep} ms after the beep");
    left.check_disclosure();
    let message = turns(&left.call, "assistant")[0];
    let ms = |key: &str| message[key].as_f64().expect("a time");
    let spoken_s = (ms("end_ms") - ms("start_ms")) / 1000.0;
    let mailboxes: Vec<PathBuf> = std::fs::read_dir(out.join("mailbox"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "wav"))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("voicemail-")))
        .filter(|p| !p.to_string_lossy().contains("silent"))
        .collect();
    let [mailbox] = mailboxes.as_slice() else { panic!("{mailboxes:?}") };
    let reader = hound::WavReader::open(mailbox).expect("the mailbox's recording");
    let rate = f64::from(reader.spec().sample_rate);
    let samples: Vec<i16> = reader.into_samples::<i16>().map(|s| s.expect("a sample")).collect();
    let loud = |s: &i16| s.unsigned_abs() > 600;
    let first = samples.iter().position(loud).expect("a message") as f64 / rate;
    let last = samples.iter().rposition(loud).expect("a message") as f64 / rate;
    println!("voicemail: spoken {spoken_s:.1} s, recorded {:.1} s", last - first);
    assert!((last - first - spoken_s).abs() < 1.0, "{spoken_s} s were spoken, {} recorded", last - first);
}

fn check_silence(left: &Left) {
    assert!(turns(&left.call, "assistant").is_empty(), "{:#}", left.call["transcript"]);
    let (_, near) = left.check_recording();
    assert!(near.iter().all(|s| s.unsigned_abs() < 16), "something was sent");
    assert_eq!(left.call["task_result"]["status"], "not_achieved");
}

fn check_menu(left: &Left) {
    let keys: Vec<&Value> =
        turns(&left.call, "system").into_iter().filter(|t| t["tool"] == "send_dtmf").collect();
    assert_eq!(keys.len(), 1, "{:#}", left.call["transcript"]);
    assert_eq!(keys[0]["toolArgs"]["digits"], "2");
    assert!(left.printed.contains("the callee received 2"), "{}", left.printed);
    // The menu is not told anything; the person behind it is told first.
    let first = turns(&left.call, "assistant")[0];
    assert!(first["start_ms"].as_u64() > keys[0]["end_ms"].as_u64(), "{first}");
    left.check_disclosure();
}

#[test]
fn a_language_model_speaks_through_real_server_sent_events() {
    let stubllm = std::env::var("PATCHCORD_STUBLLM").unwrap_or_else(|_| "stubllm".into());
    if !installed(&stubllm, "--version") {
        return skip("stubllm: PATCHCORD_STUBLLM is not set and it is not in the path");
    }
    if !models() {
        return skip("local models: run `patchcord models pull`");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("bound").port()
    };
    let mut command = Command::new(stubllm);
    command.args(["serve", "--host", "127.0.0.1", "--port", &port.to_string(), "--fixture-file"]);
    let mut stub = Process::start("stubllm", dir.path(), command.arg(file("peers/stubllm.json")));
    wait_for("stubllm listens", Duration::from_secs(60), || {
        assert!(stub.ended().is_none(), "stubllm ended: {}", stub.stderr());
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });

    let out = dir.path().join("out");
    let mut command = Command::new(PATCHCORD);
    command.args(["demo", "--llm-url", &format!("http://127.0.0.1:{port}/v1"), "--out"]).arg(&out);
    let mut demo = Process::start("demo", dir.path(), &mut command);
    let status = demo.finish(Duration::from_secs(150));
    assert!(status.success(), "{status}");
    let left = Left::of(&out, &demo.stdout(), "receptionist");
    assert_eq!(left.call["outcome"], "completed");
    left.check_disclosure();
    left.check_recording();
    let said: Vec<&str> = turns(&left.call, "assistant").into_iter().map(words).collect();
    let by_stub = said.iter().filter(|text| text.contains("purple elephant")).count();
    assert!(by_stub >= 2, "{said:#?}");
    // The stub ends the call itself, by a tool call.
    assert_eq!(left.call["task_result"]["status"], "achieved", "{:#}", left.call["transcript"]);
    assert_eq!(left.call["task_result"]["summary"], "The stub booked three o'clock.");
    println!("stubllm: {by_stub} turns, {} s of talk", left.call["talk_seconds"]);
}
