//! Calls to SIPp, a SIP endpoint that is not ours. It sends no media: each call speaks its opening and ends by dead air.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{
    DISCLOSURE, Process, Service, file, free_udp_port, installed, models, skip, turns, wait_for, words,
};

/// The number that is dialled; the answers that `peers/uas_407.xml` expects depend on it.
const NUMBER: &str = "+12025550199";
/// The most calls at once.
const AT_ONCE: usize = 40;
/// The longest one call takes: opening, dead air, and time to spare on a busy machine.
const ONE_CALL: Duration = Duration::from_secs(90);

/// How many calls each test places.
fn how_many() -> usize {
    let set = std::env::var("PATCHCORD_SIPP_CALLS").ok();
    set.map_or(24, |n| n.parse().expect("PATCHCORD_SIPP_CALLS is a number"))
}

/// The last line of SIPp's statistics: (successful, failed).
fn counts(statistics: &Path) -> (usize, usize) {
    let text = std::fs::read_to_string(statistics).expect("SIPp's statistics");
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().expect("names").split(';').collect();
    let values: Vec<&str> = lines.last().expect("values").split(';').collect();
    let value = |name: &str| {
        let column = names.iter().position(|n| *n == name).expect("a column");
        values[column].parse().expect("a number")
    };
    (value("SuccessfulCall(C)"), value("FailedCall(C)"))
}

/// Places calls through a SIPp that plays `scenario`; every one must end well on both sides.
fn calls_through(name: &str, scenario: &[&str], settings: &str) {
    if !installed("sipp", "-v") {
        return skip("sipp: install the package sip-tester");
    }
    if !models() {
        return skip("local models: run `patchcord models pull`");
    }
    let count = how_many();
    let dir = tempfile::tempdir().expect("a folder");
    let statistics = dir.path().join("statistics.csv");
    let (sip, rtp) = (free_udp_port(), free_udp_port());
    let mut command = Command::new("sipp");
    command.args(scenario).args([
        "-i",
        "127.0.0.1",
        "-mi",
        "127.0.0.1",
        "-nostdin",
        "-trace_stat",
        "-fd",
        "1",
    ]);
    command.args(["-p", &sip.to_string(), "-mp", &rtp.to_string(), "-m", &count.to_string()]);
    command.args(["-trace_err", "-error_file"]).arg(dir.path().join("errors.log"));
    command.arg("-stf").arg(&statistics).current_dir(dir.path());
    let mut sipp = Process::start("sipp", dir.path(), &mut command);
    let service = Service::start(dir.path(), &format!("127.0.0.1:{sip}"), settings);

    let began = Instant::now();
    let ended = place_all(&service, count);
    let took = began.elapsed();
    let talk: Vec<u64> = ended.iter().map(|c| c["talk_seconds"].as_u64().unwrap_or_default()).collect();
    let status = sipp.finish(Duration::from_secs(30));
    let (successful, failed) = counts(&statistics);
    let completed = ended.iter().filter(|c| c["outcome"] == "completed").count();
    println!(
        "{name}: {count} calls in {:.0} s, at most {AT_ONCE} at once; SIPp: {successful} successful, {failed} failed; \
         ours: {completed} completed; talk {} to {} s",
        took.as_secs_f64(),
        talk.iter().min().expect("calls"),
        talk.iter().max().expect("calls")
    );
    let errors = std::fs::read_to_string(dir.path().join("errors.log")).unwrap_or_default();
    assert!(status.success() && (successful, failed) == (count, 0), "{status}\n{errors}");
    for call in &ended {
        assert_eq!(call["outcome"], "completed", "{call:#}");
        let said = turns(call, "assistant");
        assert!(said.first().is_some_and(|t| words(t).starts_with(DISCLOSURE)), "{call:#}");
        assert_eq!(call["hangup_cause"], "normal_clearing", "{call:#}");
        // Opening by the clock, some seven seconds of speech, four of dead air: calls do not hold each other up.
        assert!(call["talk_seconds"].as_u64().is_some_and(|s| (10..30).contains(&s)), "{call:#}");
    }
}

fn place_all(service: &Service, count: usize) -> Vec<Value> {
    const TASK: &str = "Ask whether they are open on Sunday.";
    let place = |key: Option<&str>| service.place(key, NUMBER, TASK);
    let (first, key) = place(None);
    let key = key.expect("the first call is given a key");
    let (mut running, mut ended) = (vec![(first, Instant::now())], Vec::new());
    let mut placed = 1;
    while ended.len() < count {
        while placed < count && running.len() < AT_ONCE {
            running.push((place(Some(&key)).0, Instant::now()));
            placed += 1;
        }
        let before = ended.len();
        wait_for("a call ends", ONE_CALL, || {
            running.retain(|(id, since)| {
                let call = service.call(&key, id);
                assert!(since.elapsed() < ONE_CALL, "a call goes on and on: {call:#}");
                let over = call["lifecycle"] == "finalized";
                if over {
                    ended.push(call);
                }
                !over
            });
            (ended.len() > before).then_some(())
        });
    }
    ended
}

#[test]
fn calls_to_sipp_all_complete() {
    calls_through("sipp uas", &["-sn", "uas"], "");
}

const CREDENTIALS: &str =
    "domain = \"trunk.example.com\"\nusername = \"patchcord\"\npassword = \"correct horse\"\n";

#[test]
fn calls_through_a_challenging_proxy_all_complete() {
    let scenario = file("peers/uas_407.xml");
    calls_through("sipp 407", &["-sf", scenario.to_str().expect("a path")], CREDENTIALS);
}

#[test]
fn calls_to_a_server_that_challenges_invite_and_bye_all_complete() {
    let scenario = file("peers/uas_401.xml");
    calls_through("sipp 401", &["-sf", scenario.to_str().expect("a path")], CREDENTIALS);
}
