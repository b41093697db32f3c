//! Carrying out the model's tool calls, and what comes next once our voice has settled.

use std::time::Duration;

use super::timers::Timer;
use super::{Machine, Next, Phase, Pressing};
use crate::agent::{Action, TaskAccount, ToolCall};
use crate::call::outcome::{HangupSource, TaskResult, TaskStatus};
use crate::call::port::{Digits, LegCommand};
use crate::time::MediaTime;

/// The longest wait for one key to be sent, and for the first of them.
const PRESS_LIMIT: Duration = Duration::from_secs(3);
const KEY_LIMIT: Duration = Duration::from_millis(400);
/// Waits in a row in which nobody said a word before silence counts as dead air.
const MAX_WAITS: u32 = 6;

impl Machine {
    /// A reply asked for `action`; its words come first.
    pub(super) fn begin_action(&mut self, call: ToolCall, action: Action) {
        match action {
            Action::EndCall { reason, account } => self.begin_end(&call, reason, account),
            action => {
                if self.is_menu() {
                    self.drop_unbegun_words();
                }
                self.next = Some(Next::Act { call, action });
            }
        }
    }

    fn begin_end(&mut self, call: &ToolCall, reason: String, account: TaskAccount) {
        self.task_result = task_result(account);
        self.record_tool(call, reason, self.line, self.line);
        let silent = !self.is_replying() && !self.ledger.is_speaking();
        let wordless = self.reply.as_ref().is_none_or(super::reply::Reply::is_wordless);
        let farewell = wordless && silent && self.disclosed && !self.is_menu();
        self.end_after_speech(HangupSource::Agent, None, None);
        if farewell {
            self.say_line("Goodbye.");
        }
    }

    /// Takes the next step if our voice has settled. Returns whether one was taken.
    pub(super) fn proceed(&mut self) -> bool {
        if matches!(self.phase, Phase::Setup | Phase::Closing | Phase::Done) {
            return false;
        }
        self.flush_reply();
        if self.next.is_none() || self.pressing.is_some() || !self.ledger.is_empty() || self.is_replying() {
            return false;
        }
        match self.next.take() {
            Some(Next::Ask) => self.ask(),
            Some(Next::HangUp) => self.close(true),
            Some(Next::Act { call, action }) => self.act(call, action),
            None => return false,
        }
        true
    }

    fn act(&mut self, call: ToolCall, action: Action) {
        self.talk.said("", vec![call.clone()]);
        match action {
            Action::SendDtmf { digits } => {
                let Some(keys) = Digits::parse(&digits) else {
                    self.talk.tool_result(&call, "error: these are not keys");
                    self.next = Some(Next::Ask);
                    return;
                };
                self.leg(LegCommand::SendDigits(keys));
                self.timers.set(Timer::Press, self.now + PRESS_LIMIT + KEY_LIMIT * digits.len() as u32);
                self.pressing = Some(Pressing { call, digits, start: self.line });
            }
            Action::Wait { seconds, reason } => {
                self.record_tool(&call, reason, self.line, self.line);
                self.timers.set(Timer::Wait, self.now + Duration::from_secs(seconds));
                self.waiting = Some(call);
            }
            Action::LeaveVoicemail { message } => self.take_message(Some(call), message),
            // Begun with its reply, so that its words are not talked over.
            Action::EndCall { .. } => self.close(true),
        }
    }

    pub(super) fn on_digits_sent(&mut self, at: MediaTime) {
        let Some(Pressing { call, digits, start }) = self.pressing.take() else { return };
        self.timers.clear(Timer::Press);
        self.talk.tool_result(&call, "the keys were sent; listen to what comes");
        self.moment("digit_sent", start, Some(at), None);
        self.record_tool(&call, format!("pressed {digits}"), start, at);
    }

    /// The keys did not go out: the far end takes no telephone-events, or the leg did not report in time.
    pub(super) fn on_press_failed(&mut self) {
        self.timers.clear(Timer::Press);
        if let Some(Pressing { call, .. }) = self.pressing.take() {
            self.talk.tool_result(&call, "error: the keys could not be sent");
            self.next = Some(Next::Ask);
        }
    }

    /// The wait is over and nobody spoke.
    pub(super) fn on_wait_over(&mut self) {
        let Some(call) = self.waiting.take() else { return };
        self.waits += 1;
        self.talk.tool_result(&call, "the time is over; nobody has said anything");
        if self.waits < MAX_WAITS {
            self.next = Some(Next::Ask);
        }
    }

    /// Somebody spoke: a wait ends.
    pub(super) fn end_wait(&mut self) {
        self.waits = 0;
        self.timers.clear(Timer::Wait);
        if let Some(call) = self.waiting.take() {
            self.talk.tool_result(&call, "someone is speaking");
        }
    }
}

fn task_result(account: TaskAccount) -> TaskResult {
    let status = match account.status {
        "achieved" => TaskStatus::Achieved,
        "partly" => TaskStatus::Partly,
        "not_achieved" => TaskStatus::NotAchieved,
        _ => TaskStatus::Unknown,
    };
    TaskResult { status, summary: account.summary }
}
