use super::driver::{Driver, When, end, line, lines, text, tool};
use crate::agent::{DISCLOSURE, Message};
use crate::answer::Class;
use crate::call::event::CallEvent;
use crate::call::io::{DialogEvent, Input};
use crate::call::outcome::{CallReport, HangupSource, Outcome, Quality, TaskStatus};
use crate::time::MediaTime;

const HELLO: &str = "Bella Trattoria, good evening.";

fn dinner(script: Vec<super::driver::Line>) -> Driver {
    Driver::new(
        "Book a table for two",
        script,
        Box::new(|_, n| match n {
            0 => text("I would like to book a table for two at seven."),
            1 => text("Yes, seven is fine."),
            _ => end("Thank you very much. Goodbye."),
        }),
    )
}

#[test]
fn a_conversation_runs_from_greeting_to_goodbye() {
    let mut call = dinner(vec![
        line(When::At(1300), 1200, HELLO),
        line(When::AfterAgent(400), 900, "Would seven suit you?"),
        line(When::AfterAgent(400), 900, "You are booked."),
    ]);
    let quality = Quality { packets_received: 900, packets_lost: 3, jitter_ms: 1.5 };
    call.at(6000, Input::Quality(quality));
    let report = call.call();
    assert_eq!(report.quality, quality);
    let opening = format!("A: {DISCLOSURE} I would like to book a table for two at seven.");
    let expected = [
        &format!("U: {HELLO}"),
        &opening,
        "U: Would seven suit you?",
        "A: Yes, seven is fine.",
        "U: You are booked.",
        "A: Thank you very much. Goodbye.",
        "S: [end_call] done",
    ];
    let mut got = lines(&report);
    got.sort_by_key(|l| l.starts_with('S'));
    assert_eq!(got, expected);
    assert_eq!((report.outcome, report.hangup_source), (Outcome::Completed, HangupSource::Agent));
    assert_eq!(report.task_result.status, TaskStatus::Achieved);
    assert_eq!((report.sip_status, report.hangup_cause.as_str()), (200, "normal_clearing"));
    assert_eq!(report.answered_by.class, Class::Human);
    assert_eq!(call.hang_ups.len(), 1);
    // Every response is accounted for to the millisecond, and starts within the endpointing wait and the fakes' delays.
    assert_eq!(report.latency.turns.len(), 3);
    for turn in &report.latency.turns {
        let parts = turn.endpointing_ms + turn.recognition_ms + turn.language_ms + turn.synthesis_ms;
        assert_eq!(parts + turn.engine_ms, turn.total_ms);
        assert!((400..1200).contains(&turn.total_ms), "{turn:?}");
    }
    let kinds: Vec<_> = report.events.iter().map(|e| e.kind.as_str()).collect();
    assert!(
        ["answered", "speech", "agent_speech", "answered_by"].iter().all(|k| kinds.contains(k)),
        "{kinds:?}"
    );
}

#[test]
fn speech_over_our_voice_cuts_it_and_the_transcript_says_what_was_sent() {
    // The word "like" is the utterance's 75th byte; its last sample is the 39 975th, sent between 4.98 and 5.00 s.
    for (over, heard) in [(4980, "I would"), (5000, "I would like")] {
        let mut call = dinner(vec![
            line(When::At(1300), 800, HELLO),
            line(When::Over(over), 900, "Sorry, who is this?"),
            line(When::AfterAgent(400), 900, "Fine."),
        ]);
        let report = call.call();
        check_cut(&call, &report, &format!("{DISCLOSURE} {heard}"));
    }
}

fn check_cut(call: &Driver, report: &CallReport, sent: &str) {
    let cut = report.transcript.iter().find(|t| t.interrupted).expect("a cut turn");
    assert_eq!(cut.text, sent);
    assert_eq!(report.latency.barge_in_ms, [20]);
    assert!(call.events.iter().any(|e| matches!(e, CallEvent::BargeIn { resumed: false, .. })));
    // The model is told what was heard of its words, and then what interrupted them.
    let messages = &call.requests[1].messages;
    let said =
        messages.iter().position(|m| matches!(m, Message::Assistant { text, .. } if *text == cut.text));
    let heard =
        messages.iter().position(|m| matches!(m, Message::User { text } if text == "Sorry, who is this?"));
    assert!(said.is_some() && said < heard, "{messages:?}");
    let repeats = call.spoken.iter().filter(|(_, t)| t.contains(DISCLOSURE)).count();
    assert_eq!(repeats, 1, "it was heard whole before the cut");
}

#[test]
fn a_cough_and_a_listeners_noise_resume_our_voice() {
    for (ms, words) in [(160, ""), (700, "Uh-huh.")] {
        let mut call = dinner(vec![
            line(When::At(1300), 800, HELLO),
            line(When::Over(2000), ms, words),
            line(When::AfterAgent(400), 900, "Would seven suit you?"),
        ]);
        let report = call.call();
        assert!(call.events.iter().any(|e| matches!(e, CallEvent::BargeIn { resumed: true, .. })), "{words}");
        assert!(report.transcript.iter().all(|t| !t.interrupted), "{words}: {:?}", lines(&report));
        assert!(report.latency.barge_in_ms.is_empty());
    }
}

#[test]
fn a_disclosure_that_was_talked_over_is_spoken_again_and_at_last_protected() {
    let mut call = Driver::new(
        "Book a table",
        vec![
            line(When::At(1300), 600, "Hello?"),
            line(When::Over(700), 900, "Hello who is this?"),
            line(When::Over(700), 900, "Can you hear me now?"),
            line(When::Over(700), 900, "What do you want?"),
            line(When::AfterAgent(300), 500, "I see, fine then."),
        ],
        Box::new(|_, n| if n < 4 { text("I am calling for a table.") } else { end("Goodbye.") }),
    );
    let report = call.call();
    let disclosures: Vec<_> = call.spoken.iter().filter(|(_, t)| t.contains(DISCLOSURE)).collect();
    assert_eq!(disclosures.len(), 3, "{:?}", call.spoken);
    let whole = report.transcript.iter().filter(|t| t.text.starts_with(DISCLOSURE) && !t.interrupted).count();
    assert_eq!(whole, 1, "{:?}", lines(&report));
    let cut = report.transcript.iter().filter(|t| t.interrupted).count();
    assert_eq!(cut, 2);
    assert_eq!(report.outcome, Outcome::Completed);
}

#[test]
fn the_agent_speaks_by_the_clock_when_nobody_else_does() {
    let mut call = dinner(vec![line(When::AfterAgent(300), 900, "Yes, who is there?")]);
    let report = call.call();
    let first = report.transcript.first().expect("a turn");
    let wait = first.start.as_ms();
    assert!((1500..=2000).contains(&wait), "{wait}");
    assert!(first.text.starts_with(DISCLOSURE));
}

#[test]
fn a_long_greeting_is_heard_out() {
    let mut call = dinner(vec![line(When::At(1500), 9000, HELLO), line(When::AfterAgent(300), 500, "Yes?")]);
    let report = call.call();
    assert!(report.transcript[1].start.as_ms() >= 10_500, "{:?}", lines(&report));
}

#[test]
fn a_greeting_of_the_caller_follows_the_mandatory_words() {
    let mut config = crate::call::CallConfig::new(crate::pii::Pii::new("Say hello".to_owned()));
    config.greeting = Some("Greetings from Ann.".into());
    let script = vec![line(When::At(1300), 600, "Hello?")];
    let mut call = Driver::with(config, script, Box::new(|_, _| end("That is all. Goodbye.")));
    let report = call.call();
    let expected = format!("A: {DISCLOSURE} Greetings from Ann. That is all. Goodbye.");
    assert!(lines(&report).contains(&expected), "{:?}", lines(&report));
}

const MAILBOX: &str = "You have reached Ann. Please leave a message after the tone.";

fn mailbox(task: &str) -> Driver {
    let mut greeting = line(When::At(1300), 4000, MAILBOX);
    greeting.beep_after = Some(800);
    Driver::new(
        task,
        vec![greeting],
        Box::new(|r, _| {
            if r.briefing.answered_by == "voicemail" {
                tool("", "leave_voicemail", r#"{"message":"Please call back about the table."}"#)
            } else {
                text("I am calling about a table.")
            }
        }),
    )
}

#[test]
fn a_mailbox_gets_the_whole_message_after_its_beep() {
    let mut call = mailbox("Book a table. If nobody is there, leave a message.");
    let report = call.call();
    assert_eq!((report.outcome, report.hangup_source), (Outcome::VoicemailDetected, HangupSource::Agent));
    let said: Vec<_> = report.transcript.iter().filter(|t| t.tool.is_none() && t.text != MAILBOX).collect();
    assert_eq!(said.len(), 1, "{:?}", lines(&report));
    assert_eq!(said[0].text, format!("{DISCLOSURE} Please call back about the table."));
    assert!(!said[0].interrupted);
    let beep_end = 300 + 4000 + 800 + 400;
    let delay = said[0].start.as_ms() - beep_end;
    assert!((200..=1000).contains(&delay), "{delay} ms after the beep");
    assert!(report.transcript.iter().any(|t| t.tool.as_ref().is_some_and(|t| t.name == "leave_voicemail")));
}

#[test]
fn a_mailbox_hears_nothing_where_the_task_allows_no_message() {
    let mut call = mailbox("Book a table.");
    let report = call.call();
    assert_eq!(report.outcome, Outcome::VoicemailDetected);
    assert!(call.spoken.is_empty(), "{:?}", call.spoken);
    assert_eq!(call.hang_ups.len(), 1);
    assert!(lines(&report).iter().all(|l| l.starts_with('U')), "{:?}", lines(&report));
    assert_eq!(report.task_result.status, TaskStatus::NotAchieved);
}

#[test]
fn a_menu_is_keyed_without_a_word_and_the_person_behind_it_is_told() {
    let mut call = Driver::new(
        "Book a table",
        vec![
            line(When::At(1300), 3000, "For reservations, press 2."),
            line(When::AfterAgent(900), 900, "Front desk, how can I help?"),
            line(When::AfterAgent(400), 700, "Done."),
        ],
        Box::new(|_, n| match n {
            0 => tool("Let me choose.", "send_dtmf", r#"{"digits":"2"}"#),
            1 => text("I am calling for a table."),
            _ => end("Thank you, goodbye."),
        }),
    );
    let report = call.call();
    assert_eq!(call.digits, "2");
    let got = lines(&report);
    assert_eq!(got[0], "U: For reservations, press 2.");
    assert_eq!(got[1], "S: [send_dtmf] pressed 2");
    assert_eq!(got[2], "U: Front desk, how can I help?");
    assert_eq!(got[3], format!("A: {DISCLOSURE} I am calling for a table."));
    assert_eq!(report.outcome, Outcome::Completed);
    assert!(report.events.iter().any(|e| e.kind == "digit_sent"));
    // The tool's result stands right behind its call.
    let messages = &call.requests[1].messages;
    let i = messages
        .iter()
        .position(|m| matches!(m, Message::Assistant { tool_calls, .. } if !tool_calls.is_empty()));
    assert!(matches!(messages[i.expect("a call") + 1], Message::Tool { .. }), "{messages:?}");
}

#[test]
fn hold_is_waited_out_in_silence_and_ends_when_someone_speaks() {
    let mut call = Driver::new(
        "Book a table",
        vec![
            line(When::At(1300), 700, "Hello?"),
            line(When::AfterAgent(300), 900, "One moment please."),
            line(When::At(30_000), 900, "Thank you for holding."),
        ],
        Box::new(|_, n| match n {
            0 => text("A table please."),
            1 => tool("Of course.", "wait", r#"{"seconds":60,"reason":"hold"}"#),
            _ => end("Thanks, goodbye."),
        }),
    );
    let report = call.call();
    let got = lines(&report);
    assert!(
        got.contains(&"S: [wait] hold".to_owned()) && got.contains(&"A: Of course.".to_owned()),
        "{got:?}"
    );
    assert!(!got.iter().any(|l| l.contains("still there")), "{got:?}");
    assert_eq!(report.task_result.status, TaskStatus::Achieved);
}

#[test]
fn refusals_become_outcomes() {
    for (status, outcome, cause) in [
        (486, Outcome::Busy, "user_busy"),
        (603, Outcome::DeclinedByCallee, "call_rejected"),
        (404, Outcome::InvalidNumber, "unallocated_number"),
        (480, Outcome::Unreachable, "no_user_responding"),
        (500, Outcome::Failed, "temporary_failure"),
    ] {
        let mut call = dinner(vec![]);
        call.dial();
        let ended = DialogEvent::Ended { status, by_remote: true, reason: "no".into() };
        call.at(900, Input::Dialog(ended));
        let report = call.run();
        assert_eq!(
            (report.outcome, report.hangup_cause.as_str(), report.sip_status),
            (outcome, cause, status)
        );
        assert_eq!((report.hangup_source, report.talk_samples), (HangupSource::Callee, 0));
        assert!(call.hang_ups.is_empty() && call.requests.is_empty());
    }
}

#[test]
fn an_unanswered_call_is_cancelled_in_time() {
    let mut call = dinner(vec![]);
    let report = call.dial().run();
    assert_eq!((report.outcome, report.hangup_cause.as_str()), (Outcome::NoAnswer, "no_answer"));
    assert_eq!(report.hangup_source, HangupSource::System);
    assert_eq!(call.hang_ups.len(), 1);
    assert!((45_000..46_000).contains(&call.hang_ups[0]));
}

#[test]
fn a_call_cancelled_while_it_rings_is_cancelled() {
    let mut call = dinner(vec![]);
    call.dial().at(5000, Input::HangUp(HangupSource::User));
    let report = call.run();
    assert_eq!((report.outcome, report.hangup_source), (Outcome::Cancelled, HangupSource::User));
}

#[test]
fn an_answer_that_crosses_the_cancel_gets_a_bye() {
    let mut call = dinner(vec![]);
    call.dial().at(5000, Input::HangUp(HangupSource::User));
    call.at(5010, Input::Dialog(DialogEvent::Answered { at: MediaTime::from_ms(5010) }));
    let report = call.run();
    assert_eq!((report.outcome, call.hang_ups.len()), (Outcome::Cancelled, 2));
}

#[test]
fn a_callee_who_hangs_up_ends_the_call_with_their_last_words() {
    let mut call = dinner(vec![line(When::At(1300), 800, "No thanks, bye.")]);
    call.at(2200, Input::Dialog(DialogEvent::Ended { status: 200, by_remote: true, reason: "BYE".into() }));
    let report = call.call();
    assert_eq!((report.outcome, report.hangup_source), (Outcome::Completed, HangupSource::Callee));
    assert_eq!(lines(&report), ["U: No thanks, bye."]);
    assert!(call.hang_ups.is_empty());
    assert_eq!(report.talk_samples, MediaTime::from_ms(1200).samples());
}
