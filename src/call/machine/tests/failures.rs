use std::time::Duration;

use super::driver::{Driver, Line, Model, When, end, line, lines, text, tool};
use crate::agent::{DISCLOSURE, Delta, Message};
use crate::call::CallConfig;
use crate::call::io::{Heard, Input};
use crate::call::outcome::{HangupSource, Outcome, TaskStatus};
use crate::pii::Pii;
use crate::signal::SignalKind;
use crate::time::MediaTime;

fn script() -> Vec<Line> {
    vec![
        line(When::At(1300), 800, "Hello?"),
        line(When::Over(2500), 700, "Wait, who is this?"),
        line(When::AfterAgent(400), 900, "One moment please."),
        line(When::AfterAgent(900), 900, "All right."),
    ]
}

fn model() -> Model {
    Box::new(|_, n| match n {
        0 => text("I would like to book a table for two."),
        1 => tool("One key.", "send_dtmf", r#"{"digits":"12#"}"#),
        2 => tool("Of course.", "wait", r#"{"seconds":5,"reason":"hold"}"#),
        _ => end("Thank you. Goodbye."),
    })
}

#[test]
fn without_any_audio_the_opening_is_spoken_and_dead_air_ends_the_call() {
    let mut call = Driver::new("Book a table", vec![], Box::new(|_, _| text("I am calling for a table.")));
    // The leg has noticed before the answer, and says so only once.
    call.signal(300, MediaTime::from_ms(200), SignalKind::Starved);
    let report = call.call();
    assert_eq!((report.outcome, report.hangup_source), (Outcome::Completed, HangupSource::System));
    assert_eq!(lines(&report), [format!("A: {DISCLOSURE} I am calling for a table.")]);
    assert_eq!(call.hang_ups.len(), 1);
    let talk = MediaTime::from_samples(report.talk_samples).as_ms();
    assert!((8_000..15_000).contains(&talk), "{talk} ms");
    assert!(report.events.iter().any(|e| e.kind == "starved"));
}

#[test]
fn silence_is_asked_about_once_and_then_ends_the_call() {
    let script = vec![line(When::At(1300), 800, "Hello?")];
    let mut call = Driver::new("Book a table", script, Box::new(|_, _| text("I am calling for a table.")));
    let report = call.call();
    let got = lines(&report);
    assert_eq!(got[2], "A: Are you still there?");
    assert!(got[3].contains("hang up now") && got.len() == 4, "{got:?}");
    assert_eq!((report.outcome, report.task_result.status), (Outcome::Completed, TaskStatus::NotAchieved));
}

#[test]
fn the_longest_duration_holds_whatever_happens() {
    let mut config = CallConfig::new(Pii::new("Talk".to_owned()));
    config.max_duration = Duration::from_secs(20);
    let script = (0..20).map(|_| line(When::AfterAgent(200), 900, "Tell me more.")).collect();
    let mut call = Driver::with(config, script, Box::new(|_, _| text("There is always more to tell.")));
    let report = call.call();
    assert_eq!(MediaTime::from_samples(report.talk_samples).as_ms(), 20_000);
    assert_eq!((report.outcome, report.hangup_source), (Outcome::Completed, HangupSource::System));
}

#[test]
fn a_stalled_model_gets_one_apology_and_then_the_call_ends() {
    let script = vec![line(When::At(1300), 800, "Hello?")];
    let mut call = Driver::new("Book a table", script, Box::new(|_, _| vec![]));
    let report = call.call();
    let got = lines(&report);
    assert_eq!(got[1], format!("A: {DISCLOSURE}"));
    assert_eq!(got[2], "A: Sorry, one moment.");
    assert!(got[3].contains("technical problem"), "{got:?}");
    assert_eq!((report.outcome, report.hangup_source), (Outcome::SystemError, HangupSource::System));
    assert_eq!(call.requests.len(), 2);
}

#[test]
fn a_model_that_stalls_mid_sentence_recovers_on_the_second_try() {
    let script = vec![line(When::At(1300), 800, "Hello?"), line(When::AfterAgent(300), 500, "Fine, thanks.")];
    let mut call = Driver::new(
        "Book a table",
        script,
        Box::new(|_, n| match n {
            0 => vec![Delta::Text("I am calling for a table. It should ".into())],
            1 => text("It should be at seven."),
            _ => end("Goodbye."),
        }),
    );
    let report = call.call();
    let got = lines(&report);
    assert_eq!(got[1], format!("A: {DISCLOSURE} I am calling for a table."));
    assert_eq!(got[2], "A: Sorry, one moment.");
    assert_eq!(got[3], "A: It should be at seven.");
    assert_eq!(report.outcome, Outcome::Completed);
}

#[test]
fn nonsense_tool_calls_are_told_back_and_bounded() {
    let script = vec![line(When::At(1300), 800, "Hello?")];
    let mut call = Driver::new("Book a table", script, Box::new(|_, _| tool("", "send_dtmf", "{oops")));
    let report = call.call();
    assert_eq!(call.requests.len(), 4);
    let told = |m: &Message| matches!(m, Message::Tool { text, .. } if text.contains("JSON object"));
    assert!(call.requests[1].messages.iter().any(told));
    assert_eq!(report.outcome, Outcome::SystemError);
}

#[test]
fn an_endless_reply_is_cut_to_size() {
    let script = vec![line(When::At(1300), 800, "Hello?")];
    let mut call =
        Driver::new(
            "Book a table",
            script,
            Box::new(|_, n| {
                if n == 0 { vec![Delta::Text("and so on and on ".into()); 2000] } else { end("Goodbye.") }
            }),
        );
    call.at(20_000, Input::HangUp(HangupSource::User));
    call.call();
    let bytes: usize = call.spoken.iter().map(|(_, t)| t.len()).sum();
    assert!(bytes < 4300, "{bytes}");
}

#[test]
fn a_failed_recogniser_ends_the_call_with_an_apology() {
    let script = vec![line(When::At(1300), 800, "Hello?")];
    let mut call = Driver::new("Book a table", script, Box::new(|_, _| text("I am calling for a table.")));
    call.at(9000, Input::Heard(Heard::Failed { reason: "gone".into() }));
    let report = call.call();
    assert_eq!((report.outcome, report.hangup_source), (Outcome::SystemError, HangupSource::System));
    assert!(lines(&report).last().expect("a turn").contains("cannot hear you"), "{:?}", lines(&report));
}

#[test]
fn a_recogniser_that_never_answers_ends_the_call_with_an_apology() {
    let mut call = Driver::new("Book a table", script(), model());
    call.stt_works = false;
    let report = call.call();
    assert_eq!(report.outcome, Outcome::SystemError);
    assert!(lines(&report).last().expect("a turn").contains("cannot hear you"), "{:?}", lines(&report));
}

#[test]
fn a_broken_synthesiser_ends_the_call() {
    let mut call = Driver::new("Book a table", script(), model());
    call.tts_works = false;
    let report = call.call();
    assert_eq!((report.outcome, call.hang_ups.len()), (Outcome::SystemError, 1));
    assert!(lines(&report).iter().all(|l| l.starts_with('U')));
}

#[test]
fn starvation_holds_back_the_end_of_a_turn_but_not_the_opening() {
    let mut call = Driver::new("Book a table", vec![], model());
    call.signal(1100, MediaTime::from_ms(1100), SignalKind::SpeechStart);
    call.signal(1500, MediaTime::from_ms(1500), SignalKind::Starved);
    call.at(20_000, Input::HangUp(HangupSource::User));
    let report = call.call();
    let first = report.transcript.first().expect("the opening");
    assert!((1500..=2000).contains(&first.start.as_ms()), "{:?}", first.start);
}

#[test]
fn hanging_up_at_any_moment_gives_one_consistent_report() {
    let mut whole = Driver::new("Book a table", script(), model());
    let reference = whole.call();
    assert_eq!(reference.outcome, Outcome::Completed, "{:?}", lines(&reference));
    let steps = whole.inputs;
    assert!(steps > 100, "{steps}");
    for i in 0..steps {
        let mut call = Driver::new("Book a table", script(), model());
        call.hang_up_before = Some(i);
        let report = call.call();
        assert!(call.hang_ups.len() == 1 || call.answered, "step {i}");
        assert!(!call.hang_ups.is_empty(), "step {i}: nobody ended the dialog");
        if report.answered_at.is_none() {
            assert_eq!((report.outcome, report.talk_samples), (Outcome::Cancelled, 0), "step {i}");
        } else {
            assert_eq!(report.outcome, Outcome::Completed, "step {i}");
        }
        for turn in &report.transcript {
            assert!(turn.start <= turn.end, "step {i}: {turn:?}");
        }
        assert!(report.transcript.is_sorted_by_key(|t| t.start), "step {i}");
    }
}

#[test]
fn failing_any_one_backend_call_still_ends_cleanly() {
    for failed in 0..5 {
        let mut replies = model();
        let mut call = Driver::new(
            "Book a table",
            script(),
            Box::new(move |r, n| if n == failed { vec![] } else { replies(r, n) }),
        );
        let report = call.call();
        assert!(matches!(report.outcome, Outcome::Completed | Outcome::SystemError), "{failed}");
        assert_eq!(call.hang_ups.len(), 1, "{failed}");
    }
}

#[test]
fn endless_words_of_a_recogniser_are_not_carried_on() {
    let endless: &'static str = Box::leak("word \u{e9} ".repeat(20_000).into_boxed_str());
    let mut call = Driver::new("Book a table", vec![line(When::At(1300), 800, endless)], model());
    call.at(20_000, Input::HangUp(HangupSource::User));
    let report = call.call();
    let longest = report.transcript.iter().map(|t| t.text.len()).max().unwrap_or_default();
    assert!((1..=8000).contains(&longest), "{longest} bytes in one turn");
}
