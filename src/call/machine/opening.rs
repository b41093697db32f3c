//! From the answer to our first words, and what follows from who answered: menus, mailboxes, machines.

use std::time::Duration;

use super::ending::outcome_of_announcement;
use super::timers::Timer;
use super::{Machine, Next, Phase};
use crate::agent::ToolCall;
use crate::answer::{AnswerOutput, Class, Verdict};
use crate::call::event::CallEvent;
use crate::call::outcome::{HangupSource, Outcome, TaskResult, TaskStatus};
use crate::call::port::LegCommand;
use crate::time::MediaTime;

/// How often the answer machine is told the time while it has not decided.
const ANSWER_TICK: Duration = Duration::from_millis(200);
/// How much longer a leaning towards a machine is listened to before our first words.
const LEANING_WAIT: Duration = Duration::from_millis(1500);
/// How long a mailbox that only the model has seen is waited for.
const UNSEEN_MAILBOX_WAIT: Duration = Duration::from_secs(15);

/// What is known of a mailbox.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// Whether the call went to one.
    pub(super) entered: bool,
    /// Where it began to record.
    ready: Option<MediaTime>,
    /// The message, and the tool call that brought it.
    message: Option<(Option<ToolCall>, String)>,
    /// The message's utterance.
    pub(super) speaking: Option<u32>,
}

impl Machine {
    /// The moment by which the agent speaks if nobody else does.
    pub(super) fn on_gate(&mut self) {
        self.gate_passed = true;
        if self.phase == Phase::Opening && (!self.turn.in_turn() || self.turn.is_starved()) {
            self.open();
        }
    }

    /// The callee's first turn is over.
    pub(super) fn on_first_turn(&mut self) {
        let leaning = !self.verdict.act && matches!(self.verdict.class, Class::Voicemail | Class::Ivr);
        if leaning {
            self.timers.set(Timer::Gate, self.now + LEANING_WAIT);
        } else {
            self.open();
        }
    }

    /// The agent's first words: the mandatory ones at once, the model's behind them. A menu is not told.
    pub(super) fn open(&mut self) {
        if self.phase != Phase::Opening {
            return;
        }
        self.phase = Phase::Talking;
        self.timers.clear(Timer::Gate);
        self.timers.clear(Timer::OpeningLimit);
        if self.is_menu() {
            self.next = Some(Next::Ask);
            return;
        }
        if self.heard.is_empty() {
            self.talk.note("The call was answered; nobody has said anything yet.");
        }
        self.ask();
        if let Some(utterance) = self.begin_utterance() {
            self.adopt_utterance(utterance);
        }
    }

    /// Whether what answered is surely a menu.
    pub(super) fn is_menu(&self) -> bool {
        self.verdict.act && self.verdict.class == Class::Ivr
    }

    /// Tells the answer machine the time, and arranges to do so again while that can matter.
    pub(super) fn pass_answer_time(&mut self) {
        let matters = match self.phase {
            Phase::Opening | Phase::Mailbox => true,
            Phase::Talking => !self.verdict.act,
            _ => false,
        };
        if matters {
            self.answer.tick(self.line);
            self.timers.set(Timer::Answer, self.now + ANSWER_TICK);
        }
    }

    pub(super) fn drain_answer(&mut self) {
        while let Some(output) = self.answer.poll_output() {
            if matches!(self.phase, Phase::Setup | Phase::Closing | Phase::Done) {
                continue;
            }
            match output {
                AnswerOutput::Verdict(verdict) => self.on_verdict(verdict),
                AnswerOutput::ReadyToRecord { at, .. } => {
                    self.mailbox.ready = Some(at);
                    self.schedule_message();
                }
            }
        }
    }

    fn on_verdict(&mut self, verdict: Verdict) {
        self.talk.answered_by(verdict.class.as_str());
        self.moment("answered_by", verdict.decided, None, Some(verdict.class.as_str().to_owned()));
        self.verdict = verdict.clone();
        self.tell(CallEvent::AnsweredBy(verdict));
        if !self.verdict.act || self.phase == Phase::Ending {
            return;
        }
        match self.verdict.class {
            Class::Voicemail if self.phase != Phase::Mailbox => self.enter_mailbox(),
            Class::Human | Class::Screener if self.phase == Phase::Mailbox => self.leave_mailbox(),
            Class::Fax => self.hang_up(HangupSource::Agent, Some(Outcome::Failed)),
            Class::OperatorMessage => {
                let outcome = outcome_of_announcement(&self.verdict);
                self.hang_up(HangupSource::Agent, Some(outcome));
            }
            _ => {}
        }
    }

    /// A mailbox answered: leave a message if the task allows one, else say nothing and go.
    fn enter_mailbox(&mut self) {
        self.mailbox.entered = true;
        if !self.talk.briefing().may_leave_message {
            self.task_result = TaskResult {
                status: TaskStatus::NotAchieved,
                summary: "A mailbox answered and the task allows no message.".into(),
            };
            self.hang_up(HangupSource::Agent, None);
            return;
        }
        self.cut_voice();
        self.wait_for_mailbox(self.config.mailbox_limit);
        let note =
            "A mailbox answered. Call leave_voicemail now with the message; it is spoken after the beep.";
        self.talk.note(note);
        self.next = Some(Next::Ask);
    }

    fn wait_for_mailbox(&mut self, limit: Duration) {
        self.phase = Phase::Mailbox;
        self.mailbox.entered = true;
        self.waiting = None;
        for timer in [Timer::Gate, Timer::OpeningLimit, Timer::Wait] {
            self.timers.clear(timer);
        }
        self.timers.set(Timer::Mailbox, self.now + limit);
        self.leg(LegCommand::PauseOnSpeech(false));
        self.pass_answer_time();
    }

    /// A person took the call over from the mailbox before our message began.
    fn leave_mailbox(&mut self) {
        if self.mailbox.speaking.is_some() {
            return;
        }
        self.mailbox = Mailbox::default();
        self.timers.clear(Timer::Mailbox);
        self.timers.clear(Timer::Message);
        self.cancel_reply();
        self.phase = Phase::Talking;
        self.leg(LegCommand::PauseOnSpeech(true));
        self.talk.note("It was not a mailbox: a person is on the line.");
        self.next = Some(Next::Ask);
    }

    /// The model's message for the mailbox; `call` is the tool call that brought it.
    pub(super) fn take_message(&mut self, call: Option<ToolCall>, message: String) {
        if self.phase != Phase::Mailbox {
            // The model has noticed a mailbox that the answer machine has not.
            self.wait_for_mailbox(UNSEEN_MAILBOX_WAIT);
        }
        self.mailbox.message.get_or_insert((call, message));
        self.schedule_message();
    }

    fn schedule_message(&mut self) {
        let waits = self.phase == Phase::Mailbox && self.mailbox.speaking.is_none();
        if let (true, Some(ready), Some(_)) = (waits, self.mailbox.ready, &self.mailbox.message) {
            let at = ready.plus(MediaTime::from_duration(self.config.message_delay).samples());
            let wait = MediaTime::from_samples(at.since(self.line)).as_duration();
            self.timers.set(Timer::Message, self.now + wait);
        }
    }

    /// Speaks the message to its end.
    pub(super) fn speak_message(&mut self) {
        let Some((call, message)) = self.mailbox.message.clone() else { return };
        if self.phase != Phase::Mailbox || self.mailbox.speaking.is_some() {
            return;
        }
        self.timers.clear(Timer::Mailbox);
        if let Some(call) = call {
            self.record_tool(&call, "leaves a message".into(), self.line, self.line);
        }
        self.mailbox.speaking = Some(self.say_message(&message));
        self.task_result = TaskResult {
            status: TaskStatus::Partly,
            summary: "A mailbox answered; a message was left.".into(),
        };
        self.will_end(HangupSource::Agent, None);
        self.next = Some(Next::HangUp);
    }

    /// The synthesiser failed amid the message. Returns whether it is tried again.
    pub(super) fn retry_message(&mut self) -> bool {
        if self.mailbox.speaking.take().is_some() {
            self.next = None;
            self.timers.set(Timer::Message, self.now + Duration::from_millis(100));
            return true;
        }
        false
    }

    /// The mailbox gave no sign that it records.
    pub(super) fn on_mailbox_timeout(&mut self) {
        if self.phase != Phase::Mailbox || self.mailbox.speaking.is_some() {
            return;
        }
        if self.mailbox.message.is_some() && !self.turn.callee_speaks() {
            self.speak_message();
        } else {
            self.task_result = TaskResult {
                status: TaskStatus::NotAchieved,
                summary: "A mailbox answered; no message could be left.".into(),
            };
            self.hang_up(HangupSource::Agent, None);
        }
    }
}
