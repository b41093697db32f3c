//! Whole calls on a virtual clock: agent, detectors, RTP and turn-taking are real, the network and the backends not.
#![cfg(feature = "engine")]
#![allow(clippy::disallowed_methods, reason = "prints run times")]

use std::time::Duration;

use patchcord::agent::{Delta, Request, Role, ToolCall, Turn};
use patchcord::backend::scripted;
use patchcord::call::{CallConfig, CallEvent, HangupSource, Outcome};
use patchcord::pii::Pii;
use patchcord::sim::net::Conditions;
use patchcord::sim::{Failure, Fault, Faults, Run, Scenario, World, WorldConfig, voice};
use patchcord::time::MediaTime;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn parse(toml: &str) -> Scenario {
    let scenario: Scenario = toml::from_str(toml).expect("a scenario");
    scenario.check().expect("a valid scenario");
    scenario
}

/// A shipped scenario.
fn shipped(name: &str) -> Scenario {
    let path = format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    parse(&std::fs::read_to_string(path).expect("a shipped scenario"))
}

/// A call to `scenario` with its task and the scripted agent.
fn call_to(scenario: Scenario) -> WorldConfig {
    let task = Pii::new(scenario.task.clone());
    WorldConfig::new(CallConfig::new(task), scenario, scripted::reply)
}

/// Runs the call and checks what holds for every one.
fn run(config: WorldConfig) -> Run {
    // A synthesiser that lies about its words makes the transcript lie.
    let lies = |f: &Fault| f.how == Failure::Nonsense;
    let truthful = !config.faults.synthesis.as_ref().is_some_and(lies);
    let limit = config.call.ring_timeout.max(config.call.max_duration) + Duration::from_secs(10);
    let run = World::new(config).run();
    let context = || run.trace.join("\n");
    let finals = run.events.iter().filter(|e| matches!(e, CallEvent::Finalized(_))).count();
    assert_eq!(finals, 1, "exactly one report\n{}", context());
    assert!(matches!(run.events.last(), Some(CallEvent::Finalized(_))), "nothing follows it\n{}", context());
    assert!(run.took <= limit, "took {:?}\n{}", run.took, context());
    if truthful {
        assert_words_were_sent(&run);
    }
    run
}

/// Our words in the transcript are those that the leg sent, neither more nor less.
fn assert_words_were_sent(run: &Run) {
    let told = turns(run, Role::Assistant);
    let sent: Vec<&str> = run.uttered.values().map(|u| u.words_sent()).filter(|w| !w.is_empty()).collect();
    let texts: Vec<&str> = told.iter().map(|t| t.text.as_str()).collect();
    assert_eq!(texts, sent, "\n{}", run.trace.join("\n"));
    for turn in told {
        let lasted = turn.end.since(turn.start);
        assert!(lasted + 160 >= voice::spoken_samples(&turn.text), "{turn:?} is too short for its words");
    }
}

fn turns(run: &Run, role: Role) -> Vec<&Turn> {
    run.report.transcript.iter().filter(|t| t.role == role).collect()
}

fn transcript(run: &Run) -> String {
    let line = |t: &Turn| {
        let tool = t.tool.as_ref().map(|t| format!("[{}] ", t.name)).unwrap_or_default();
        let cut = if t.interrupted { " —" } else { "" };
        format!(
            "{:7.2} {:7.2} {:?}: {tool}{}{cut}",
            t.start.as_secs_f64(),
            t.end.as_secs_f64(),
            t.role,
            t.text
        )
    };
    run.report.transcript.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Words without marks, lower case.
fn words(text: &str) -> Vec<String> {
    let word = |w: &str| w.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    text.split_whitespace().map(word).filter(|w| !w.is_empty()).collect()
}

const CHAT: &str = r#"
name = "chat"
summary = "talks and talks"
number = "+12025550199"
expect = "completed"
task = "Talk about the garden party."
answer = { after_ms = 1500 }
step = [
  { say = "Hello, this is Margaret Palmer speaking.", interruptible = true },
  { listen = { silence_ms = 700 } },
  { label = "again", say = "Oh, the garden party! How lovely. What would you like to know?", interruptible = true },
  { listen = { silence_ms = 800 } },
  { say = "Well, we thought of the second Saturday in June, but my sister is away then, so it may be the third." },
  { listen = { interrupt_after_ms = 3500, silence_ms = 900 } },
  { say = "Wait, wait, I have to correct myself there." },
  { listen = { silence_ms = 900 } },
  { say = "I see." },
  { listen = { interrupt_after_ms = 2000, silence_ms = 900 } },
  { say = "Mm-hmm." },
  { listen = { silence_ms = 900 } },
  { pause_ms = 4500 },
  { say = "Sorry, the doorbell rang. Where were we?" , interruptible = true },
  { listen = { silence_ms = 900 } },
  { pause_ms = 11000 },
  { say = "Yes, I am still here. Go on, please." },
  { listen = { interrupt_after_ms = 6000, silence_ms = 900 } },
  { say = "No, that cannot be right, the tent holds only forty people." },
  { listen = { silence_ms = 1200 } },
  { goto = "again" },
]
"#;

/// A model that never runs out of things to say, and now and then waits.
fn chatterbox() -> impl FnMut(&Request) -> Vec<Delta> {
    let mut n = 0;
    move |_| {
        n += 1;
        let text = match n % 7 {
            0 => "That sounds good.",
            1 => {
                "Thank you. I would like to ask how many guests you expect, and whether there will be a tent in case it rains in the afternoon."
            }
            2 => "I understand. Could you tell me the date again, please?",
            3 => {
                "Let me repeat that, so that I have it right. The party begins at three, the music comes at four, and everybody should bring a chair. The neighbours are invited, too."
            }
            4 => "Of course, take your time.",
            5 => "Very well. And what about the food, shall we bring a cake or rather a salad?",
            _ => {
                "All right, that is one for the list. Next I would like to know who looks after the children while the grown-ups dance, because last year nobody did."
            }
        };
        let mut reply = vec![Delta::Text(text.into())];
        if n % 7 == 4 {
            let arguments = r#"{"seconds": 20, "reason": "the callee takes their time"}"#.into();
            reply.push(Delta::ToolCall(ToolCall { id: format!("w{n}"), name: "wait".into(), arguments }));
        }
        reply.push(Delta::Done);
        reply
    }
}

fn long_call(seed: u64) -> Run {
    let scenario = parse(CHAT);
    let mut call = CallConfig::new(Pii::new(scenario.task.clone()));
    call.max_duration = Duration::from_secs(600);
    let network = Conditions {
        loss: 0.03,
        delay: ms(30),
        jitter: ms(40),
        reorder: 0.02,
        reorder_by: ms(45),
        ..Conditions::default()
    };
    run(WorldConfig { network, seed, ..WorldConfig::new(call, scenario, chatterbox()) })
}

#[test]
fn ten_minutes_on_a_bad_network_and_the_same_seed_gives_the_same_trace() {
    let start = std::time::Instant::now();
    let call = long_call(1);
    let elapsed = start.elapsed();
    println!("ten simulated minutes took {elapsed:?}; {} lines of trace", call.trace.len());
    let (again, other) = (long_call(1).trace.join("\n"), long_call(2).trace.join("\n"));
    assert!(call.trace.join("\n") == again, "the same seed gave another trace");
    assert!(other != again, "another seed gave the same trace");
    if std::env::var_os("SHOW").is_some() {
        println!("{}", call.trace.join("\n"));
        println!("{}", transcript(&call));
    }

    let report = &call.report;
    assert_eq!((report.outcome, report.hangup_source), (Outcome::Completed, HangupSource::System));
    assert!(report.talk_samples.abs_diff(600 * MediaTime::HZ) < MediaTime::HZ / 10);
    let (theirs, ours) = (turns(&call, Role::User), turns(&call, Role::Assistant));
    println!("{} turns of ours, {} of theirs", ours.len(), theirs.len());
    assert!(ours.len() >= 30 && theirs.len() >= 30, "{}", transcript(&call));

    // Speech alternates: nobody is left talking to themselves for long.
    let speakers: Vec<Role> = report.transcript.iter().filter(|t| t.tool.is_none()).map(|t| t.role).collect();
    let longest = speakers.chunk_by(|a, b| a == b).map(<[Role]>::len).max();
    assert!(longest <= Some(4), "{longest:?} turns in a row\n{}", transcript(&call));

    // What the far end said was recognised.
    let said = words(&call.said.join(" "));
    let recognised = words(&theirs.iter().map(|t| t.text.as_str()).collect::<Vec<_>>().join(" "));
    println!("{} words said, {} recognised", said.len(), recognised.len());
    assert!(recognised.len() * 10 >= said.len() * 8, "{}", transcript(&call));
    assert!(recognised.len() <= said.len(), "no word twice\n{}", transcript(&call));

    // Interruptions cut our voice, a listener's noise does not.
    let barge_ins = |resumed: bool| {
        call.events
            .iter()
            .filter(|e| matches!(e, CallEvent::BargeIn { resumed: r, .. } if *r == resumed))
            .count()
    };
    println!("{} barge-ins cut, {} resumed", barge_ins(false), barge_ins(true));
    assert!(barge_ins(false) >= 5 && barge_ins(true) >= 3, "{}", transcript(&call));
    assert!(ours.iter().filter(|t| t.interrupted).count() >= 5, "{}", transcript(&call));

    let mut response = report.latency.response_ms.clone();
    response.sort_unstable();
    println!("responses: {response:?} ms; barge-ins: {:?} ms", report.latency.barge_in_ms);
    println!("engine: {:?} ms", report.latency.engine_ms);
    assert!(response.len() >= 20 && response.iter().all(|r| *r < 3000), "{response:?}");
    assert!(response[response.len() / 2] < 1300, "{response:?}");
    assert!(report.quality.packets_lost > 600 && report.quality.packets_lost < 1200, "{:?}", report.quality);
}

#[test]
fn a_receptionist_is_asked_is_answered_and_thanked() {
    let call = run(call_to(shipped("receptionist")));
    println!("{}", transcript(&call));
    assert_eq!(call.report.outcome, Outcome::Completed, "{}", transcript(&call));
    assert_eq!(call.report.hangup_source, HangupSource::Agent);
    assert!(turns(&call, Role::User).len() >= 3 && turns(&call, Role::Assistant).len() >= 3);
    assert!(turns(&call, Role::Assistant)[0].text.contains("AI assistant"), "{}", transcript(&call));
    assert!(turns(&call, Role::Assistant).iter().any(|t| t.interrupted), "{}", transcript(&call));
    let cut = &call.report.latency.barge_in_ms;
    assert!(!cut.is_empty() && cut.iter().all(|c| *c < 150), "{cut:?}");
}

#[test]
fn a_mailbox_gets_its_message_after_the_beep() {
    let call = run(call_to(shipped("voicemail")));
    println!("{}", transcript(&call));
    assert_eq!(call.report.outcome, Outcome::VoicemailDetected, "{}", transcript(&call));
    let spoken = turns(&call, Role::Assistant);
    let beep = call.report.events.iter().find(|e| e.kind == "beep").expect("the beep was heard");
    let message = spoken.last().expect("a message");
    assert!(message.text.contains("spare part") && !message.interrupted, "{}", transcript(&call));
    let after = message.start.ms_since(beep.end.expect("over"));
    assert!((200..=1000).contains(&after), "the message began {after} ms after the beep");
}

#[test]
fn a_mailbox_is_told_nothing_when_the_task_allows_no_message() {
    let call = run(call_to(shipped("voicemail-silent")));
    assert_eq!(call.report.outcome, Outcome::VoicemailDetected, "{}", transcript(&call));
    assert!(turns(&call, Role::Assistant).is_empty(), "{}", transcript(&call));
    assert!(call.heard.is_empty(), "{:?}", call.heard);
}

#[test]
fn a_menu_gets_the_digit_and_leads_to_a_person() {
    let call = run(call_to(shipped("menu")));
    println!("{}", transcript(&call));
    assert_eq!(call.report.outcome, Outcome::Completed, "{}", transcript(&call));
    assert_eq!(call.keys, "2", "{}", transcript(&call));
    let tools = turns(&call, Role::System);
    assert!(tools.iter().any(|t| t.tool.as_ref().is_some_and(|t| t.name == "send_dtmf")));
    assert!(call.said.iter().any(|s| s.contains("Your appointment is at")), "{:?}", call.said);
    assert!(turns(&call, Role::Assistant).len() >= 3, "{}", transcript(&call));
}

#[test]
fn calls_that_nobody_takes_end_as_the_network_says() {
    for (name, outcome) in [
        ("busy", Outcome::Busy),
        ("declined", Outcome::DeclinedByCallee),
        ("invalid-number", Outcome::InvalidNumber),
        ("no-answer", Outcome::NoAnswer),
    ] {
        let call = run(call_to(shipped(name)));
        assert_eq!(call.report.outcome, outcome, "{name}");
        assert!(call.report.transcript.is_empty() && call.report.talk_samples == 0, "{name}");
    }
}

#[test]
fn a_far_end_that_sends_nothing_hears_the_opening_by_the_clock_and_dead_air_ends_the_call() {
    let lost = Conditions { loss: 1.0, ..Conditions::default() };
    let call = run(WorldConfig { network: lost, ..call_to(shipped("receptionist")) });
    println!("{}", transcript(&call));
    assert_eq!(call.report.hangup_source, HangupSource::System);
    let opening = turns(&call, Role::Assistant)[0];
    assert!((1500..=2200).contains(&opening.start.as_ms()), "{}", transcript(&call));
    assert!(opening.text.contains("AI assistant"));
    assert!(call.took < Duration::from_secs(60), "{:?}", call.took);
}

/// A few seconds of conversation, with an interruption.
fn short() -> Scenario {
    parse(
        r#"
name = "short"
summary = "a question"
number = "+12025550198"
expect = "completed"
task = "Ask whether they are open on Sunday."
answer = { after_ms = 200 }
step = [
  { say = "Hello?" },
  { listen = { silence_ms = 700, interrupt_after_ms = 2500, timeout_ms = 5000 } },
  { say = "Who is this?" },
  { listen = { silence_ms = 700, timeout_ms = 4000 } },
]
"#,
    )
}

#[test]
fn whichever_packet_is_lost_the_call_ends_cleanly() {
    let start = std::time::Instant::now();
    let mut calls = 0;
    let mut check = |faults: Faults| {
        let what = format!("{:?} {:?}", faults.lost_to_agent, faults.lost_to_callee);
        let call = run(WorldConfig { faults, ..call_to(short()) });
        calls += 1;
        assert_eq!(call.report.outcome, Outcome::Completed, "{what}\n{}", transcript(&call));
        assert!(call.report.talk_samples < 25 * MediaTime::HZ, "{what}\n{}", transcript(&call));
        assert!(!turns(&call, Role::User).is_empty(), "{what}\n{}", transcript(&call));
    };
    // Each packet of the first three seconds alone, and bursts of 300 ms.
    let bursts = (0..300).step_by(15).map(|i| i..i + 15);
    for lost in (0..150).map(|i| i..i + 1).chain(bursts) {
        check(Faults { lost_to_agent: lost.clone(), ..Faults::default() });
        check(Faults { lost_to_callee: lost, ..Faults::default() });
    }
    println!("{calls} calls took {:?}", start.elapsed());
}

/// Lets each call of each backend go wrong in each way, alone and with all that follow.
fn sweep(name: &str) {
    let start = std::time::Instant::now();
    let whole = run(call_to(shipped(name))).calls;
    let mut calls = 0;
    for how in [Failure::Error, Failure::Silence, Failure::Halfway, Failure::Nonsense] {
        for (backend, count) in [(0, whole.recognition), (1, whole.language), (2, whole.synthesis)] {
            let one = (0..count).map(|i| i..i + 1);
            let all = (0..count.min(2)).map(|i| i..u32::MAX);
            for range in one.chain(all) {
                let what = format!("{name}, backend {backend}, {how:?} {range:?}");
                let fault = Some(Fault { calls: range, how });
                let faults = match backend {
                    0 => Faults { recognition: fault, ..Faults::default() },
                    1 => Faults { language: fault, ..Faults::default() },
                    _ => Faults { synthesis: fault, ..Faults::default() },
                };
                let mut config = WorldConfig { faults, ..call_to(shipped(name)) };
                // A menu that is never understood repeats itself to the end.
                config.call.max_duration = Duration::from_secs(120);
                let call = run(config);
                calls += 1;
                let expected = [Outcome::Completed, Outcome::VoicemailDetected, Outcome::SystemError];
                let outcome = call.report.outcome;
                assert!(expected.contains(&outcome), "{what}: {outcome:?}\n{}", transcript(&call));
                if std::env::var_os("SHOW").is_some() {
                    println!("{what}: {outcome:?} after {:?}", call.took);
                }
            }
        }
    }
    println!("{name}: {calls} calls took {:?}", start.elapsed());
}

#[test]
fn whichever_backend_call_goes_wrong_a_call_to_a_person_ends_cleanly() {
    sweep("receptionist");
}

#[test]
fn whichever_backend_call_goes_wrong_a_call_to_a_mailbox_ends_cleanly() {
    sweep("voicemail");
}

#[test]
fn whichever_backend_call_goes_wrong_a_call_to_a_menu_ends_cleanly() {
    sweep("menu");
}
