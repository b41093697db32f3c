//! `patchcord serve`: a client written from the contract alone, and a crash in the middle of a call.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::support::{Service, channels, file, installed, models, simulated, skip, turns, wait_for, words};

/// The number of `peers/short.toml`.
const SHORT: &str = "+12025550111";

fn short_callee(dir: &Path) -> (super::support::Process, String) {
    let scenario = file("peers/short.toml");
    simulated(dir, &["--file", scenario.to_str().expect("a path")])
}

#[test]
fn a_client_of_twenty_lines_places_polls_and_fetches_a_call() {
    if !installed("python3", "--version") {
        return skip("python3");
    }
    if !models() {
        return skip("local models: run `patchcord models pull`");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (_sim, trunk) = short_callee(dir.path());
    let service = Service::start(dir.path(), &trunk, "");
    let wav = dir.path().join("recording.wav");
    let mut client = Command::new("python3");
    client.arg(file("clients/call.py")).arg(format!("http://{}", service.address));
    client.args([SHORT, "Ask whether they are open on Sunday."]).arg(&wav);
    let mut client = super::support::Process::start("client", dir.path(), &mut client);
    assert!(client.finish(Duration::from_secs(90)).success(), "{}", client.stderr());
    let said = client.stdout();
    assert!(said.contains(&format!("assistant: {}", super::support::DISCLOSURE)), "{said}");
    assert!(said.lines().last().is_some_and(|l| l.starts_with("completed ")), "{said}");
    let (far, near) = channels(&std::fs::read(&wav).expect("the recording"));
    assert!(far.iter().any(|s| *s > 2000) && near.iter().any(|s| *s > 2000), "both sides are heard");
}

#[test]
fn a_crash_in_the_middle_of_a_call_keeps_recording_and_transcript() {
    if !models() {
        return skip("local models: run `patchcord models pull`");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (_sim, trunk) = short_callee(dir.path());
    let mut service = Service::start(dir.path(), &trunk, "");
    let (id, key) = service.place(None, SHORT, "Ask whether they are open on Sunday.");
    let key = key.expect("the first call is given a key");
    let before = wait_for("somebody spoke", Duration::from_secs(60), || {
        let call = service.call(&key, &id);
        assert_ne!(call["lifecycle"], "finalized", "{call:#}");
        (!turns(&call, "user").is_empty() && !turns(&call, "assistant").is_empty()).then_some(call)
    });
    service.process.kill();

    let path = dir.path().join("data/recordings").join(format!("{id}.wav"));
    let on_disk = std::fs::read(&path).expect("the recording is there");
    let (far, near) = channels(&on_disk);
    let heard_ms = turns(&before, "user")[0]["end_ms"].as_u64().expect("a time") as usize;
    println!("crash: {:.1} s are on disk, the first turn ended at {heard_ms} ms", far.len() as f64 / 8000.0);
    assert!(far.len() / 8 >= heard_ms, "{} ms are on disk, {heard_ms} ms were heard", far.len() / 8);
    assert!(far.iter().any(|s| *s > 2000) && near.len() == far.len(), "the far end is heard");

    let service = Service::start(dir.path(), &trunk, "");
    let after = service.call(&key, &id);
    assert_eq!(after["lifecycle"], "finalized", "{after:#}");
    assert_eq!(after["outcome"], "system_error", "{after:#}");
    let texts =
        |call| ["user", "assistant"].map(|role| turns(call, role).into_iter().map(words).collect::<Vec<_>>());
    let (kept, told) = (texts(&after), texts(&before));
    for (kept, told) in kept.iter().zip(&told) {
        assert!(kept.starts_with(told), "{told:?} became {kept:?}");
    }
    assert_eq!(channels(&service.recording(&key, &id)).0.len(), far.len());
}
