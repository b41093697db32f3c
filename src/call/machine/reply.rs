//! The language model's replies: asking, streaming into speech, stalls and nonsense.

use std::collections::VecDeque;

use super::timers::Timer;
use super::{Machine, Next, Phase};
use crate::agent::{Action, ClauseSplitter, Delta, ToolCall, parse_call};
use crate::call::io::Output;
use crate::call::outcome::{HangupSource, Outcome};

/// The longest reply that is read (bytes).
const MAX_REPLY: usize = 4000;
/// The most tool calls that are read of one reply.
const MAX_CALLS: usize = 8;
/// Replies that fail in a row before the call is ended.
const MAX_MODEL_FAILURES: u32 = 2;
/// Replies with unusable tool calls in a row before the call is ended.
const MAX_TOOL_ERRORS: u32 = 3;

const ONE_MOMENT: &str = "Sorry, one moment.";
const GIVE_UP: &str = "I am sorry, I have a technical problem and must end this call. Goodbye.";

/// A reply in the making.
#[derive(Debug)]
pub(super) struct Reply {
    request: u32,
    splitter: ClauseSplitter,
    /// Clauses that wait for the floor.
    held: VecDeque<String>,
    /// The utterance it is spoken in, once begun.
    pub(super) utterance: Option<u32>,
    calls: Vec<ToolCall>,
    bytes: usize,
    /// Whether the model has said all.
    done: bool,
    /// Whether the utterance's text was completed.
    closed: bool,
}

impl Reply {
    fn new(request: u32) -> Self {
        Self {
            request,
            splitter: ClauseSplitter::default(),
            held: VecDeque::new(),
            utterance: None,
            calls: Vec::new(),
            bytes: 0,
            done: false,
            closed: false,
        }
    }

    /// The utterance was taken back; its text waits for the floor again.
    pub(super) fn take_back(&mut self, text: &str) {
        self.utterance = None;
        self.closed = false;
        if !text.is_empty() {
            self.held.push_front(text.to_owned());
        }
    }

    /// Whether it has no words at all.
    pub(super) const fn is_wordless(&self) -> bool {
        self.bytes == 0
    }

    /// Whether everything of it was handed on.
    fn is_spent(&self) -> bool {
        self.done && self.held.is_empty() && (self.utterance.is_none() || self.closed)
    }
}

impl Machine {
    /// Asks for a reply to everything so far.
    pub(super) fn ask(&mut self) {
        self.cancel_reply();
        for text in std::mem::take(&mut self.heard) {
            self.talk.heard(&text);
        }
        let request = self.next_request;
        self.next_request += 1;
        self.reply = Some(Reply::new(request));
        self.timers.set(Timer::Model, self.now + self.config.model_limit);
        self.out.push_back(Output::Ask { request, body: self.talk.request() });
    }

    /// The reply in the making goes into `utterance`, which has begun already.
    pub(super) fn adopt_utterance(&mut self, utterance: u32) {
        if let Some(reply) = &mut self.reply {
            reply.utterance = Some(utterance);
        }
    }

    /// The reply is not wanted any more; what of it is on its way to the wire is not touched.
    pub(super) fn cancel_reply(&mut self) {
        self.timers.clear(Timer::Model);
        if let Some(reply) = self.reply.take()
            && !reply.done
        {
            self.out.push_back(Output::CancelAsk { request: reply.request });
        }
    }

    /// Completes the utterance of a reply that is given up, so that it can play to its end.
    pub(super) fn close_reply_utterance(&mut self) {
        let Some(reply) = &mut self.reply else { return };
        if let (Some(utterance), false) = (reply.utterance, reply.closed) {
            reply.closed = true;
            reply.utterance = None;
            if self.ledger.contains(utterance) {
                self.continue_utterance(utterance, "", true);
            }
        }
    }

    /// Whether a reply is on its way from the model or waits for the floor.
    pub(super) fn is_replying(&self) -> bool {
        self.reply.as_ref().is_some_and(|r| !r.is_spent())
    }

    pub(super) fn on_delta(&mut self, request: u32, delta: Delta) {
        let Some(reply) = self.reply.as_mut().filter(|r| r.request == request && !r.done) else { return };
        self.timers.set(Timer::Model, self.now + self.config.model_limit);
        match delta {
            Delta::Text(text) => {
                reply.bytes += text.len();
                reply.splitter.push(&text);
                while let Some(clause) = reply.splitter.poll_clause() {
                    reply.held.push_back(clause);
                }
                if reply.bytes > MAX_REPLY {
                    self.out.push_back(Output::CancelAsk { request });
                    self.on_reply_done();
                } else {
                    self.flush_reply();
                }
            }
            Delta::ToolCall(call) => {
                if reply.calls.len() < MAX_CALLS {
                    reply.calls.push(call);
                }
            }
            Delta::Done => self.on_reply_done(),
        }
    }

    pub(super) fn on_reply_failed(&mut self, request: u32, reason: &str) {
        if self.reply.as_ref().is_some_and(|r| r.request == request && !r.done) {
            if let Some(reply) = &mut self.reply {
                reply.done = true;
            }
            self.model_failed(reason);
        }
    }

    pub(super) fn on_model_timeout(&mut self) {
        if self.reply.as_ref().is_some_and(|r| !r.done) {
            self.model_failed("no reply in time");
        }
    }

    /// Hands on what may be said now.
    pub(super) fn flush_reply(&mut self) {
        loop {
            let may_speak = self.may_speak();
            let Some(reply) = &mut self.reply else { return };
            if !may_speak {
                return;
            }
            let Some(clause) = reply.held.pop_front() else { break };
            let last = reply.done && reply.held.is_empty();
            let utterance = match reply.utterance {
                Some(utterance) => utterance,
                None => {
                    let Some(utterance) = self.begin_utterance() else {
                        if let Some(reply) = &mut self.reply {
                            reply.held.push_front(clause);
                        }
                        return;
                    };
                    self.adopt_utterance(utterance);
                    utterance
                }
            };
            if let Some(reply) = &mut self.reply {
                reply.closed = last;
            }
            self.continue_utterance(utterance, &clause, last);
        }
        if self.reply.as_ref().is_some_and(|r| r.done && r.utterance.is_some() && !r.closed) {
            self.close_reply_utterance();
        }
    }

    fn may_speak(&self) -> bool {
        let Some(reply) = &self.reply else { return false };
        let begun = reply.utterance.is_some();
        let callee_has_floor = self.turn.in_turn() && !self.turn.is_starved();
        match self.phase {
            _ if self.ledger.is_protected() => false,
            Phase::Ending => true,
            // What is said to a menu is known only when the reply is: with a key press nothing is said.
            Phase::Talking if self.is_menu() && !begun && !reply.done => false,
            Phase::Talking => begun || (!callee_has_floor && !self.ledger.is_unsettled()),
            _ => false,
        }
    }

    /// The model has said all it will say.
    fn on_reply_done(&mut self) {
        self.timers.clear(Timer::Model);
        let Some(reply) = &mut self.reply else { return };
        reply.done = true;
        if let Some(rest) = reply.splitter.finish() {
            reply.held.push_back(rest);
        }
        if reply.bytes == 0 && reply.calls.is_empty() {
            self.model_failed("empty reply");
            return;
        }
        self.model_failures = 0;
        let calls = std::mem::take(&mut reply.calls);
        if self.phase == Phase::Mailbox {
            self.on_mailbox_reply(&calls);
            return;
        }
        if calls.is_empty() {
            self.tool_errors = 0;
        } else {
            self.choose_action(&calls);
        }
        self.flush_reply();
    }

    /// Of the calls in a reply, the first that can be done is done; the others are answered.
    fn choose_action(&mut self, calls: &[ToolCall]) {
        let mut chosen: Option<(ToolCall, Action)> = None;
        let mut results = Vec::new();
        for call in calls {
            let result = match parse_call(call) {
                Ok(Action::LeaveVoicemail { .. }) if !self.talk.briefing().may_leave_message => {
                    "the task allows no message on voicemail; end the call instead".to_owned()
                }
                Ok(action) if chosen.is_none() => {
                    chosen = Some((call.clone(), action));
                    continue;
                }
                Ok(_) => "not done: one tool call in a reply".to_owned(),
                Err(error) => format!("error: {error}"),
            };
            results.push((call.clone(), result));
        }
        if chosen.is_none() {
            self.tool_errors += 1;
            if self.tool_errors > MAX_TOOL_ERRORS {
                self.end_after_speech(HangupSource::System, Some(Outcome::SystemError), Some(GIVE_UP));
                return;
            }
            self.next = Some(Next::Ask);
        } else {
            self.tool_errors = 0;
        }
        let refused: Vec<ToolCall> = results.iter().map(|(call, _)| call.clone()).collect();
        self.talk.said("", refused);
        for (call, result) in results {
            self.talk.tool_result(&call, &result);
        }
        if let Some((call, action)) = chosen {
            self.begin_action(call, action);
        }
    }

    /// A reply while a mailbox is on the line: its message, by tool or in plain words.
    fn on_mailbox_reply(&mut self, calls: &[ToolCall]) {
        let Some(mut reply) = self.reply.take() else { return };
        let by_tool = calls.iter().find_map(|call| match parse_call(call) {
            Ok(Action::LeaveVoicemail { message }) => Some((call.clone(), message)),
            _ => None,
        });
        let words: String = reply.held.drain(..).collect();
        if let Some((call, message)) = by_tool {
            self.take_message(Some(call), message);
        } else if !words.trim().is_empty() {
            self.take_message(None, words.trim().to_owned());
        } else if calls.iter().any(|c| matches!(parse_call(c), Ok(Action::EndCall { .. }))) {
            self.hang_up(HangupSource::Agent, None);
        } else {
            self.model_failed("no message for the mailbox");
        }
    }

    /// The model let us down: once it is asked again, behind an apology; then the call ends.
    fn model_failed(&mut self, reason: &str) {
        self.moment("model_failed", self.line, None, Some(reason.to_owned()));
        self.model_failures += 1;
        let again = self.model_failures < MAX_MODEL_FAILURES;
        match self.phase {
            Phase::Talking if again => {
                self.drop_reply_words();
                if !self.is_menu() {
                    self.say_line(ONE_MOMENT);
                }
                self.ask();
            }
            Phase::Talking => {
                self.drop_reply_words();
                let words = (!self.is_menu()).then_some(GIVE_UP);
                self.end_after_speech(HangupSource::System, Some(Outcome::SystemError), words);
            }
            Phase::Mailbox if again => self.ask(),
            Phase::Mailbox => self.hang_up(HangupSource::System, None),
            _ => self.cancel_reply(),
        }
    }

    fn drop_reply_words(&mut self) {
        if let Some(reply) = &mut self.reply {
            reply.held.clear();
        }
        self.close_reply_utterance();
        self.cancel_reply();
    }

    /// The words of a reply that were not begun are not said after all.
    pub(super) fn drop_unbegun_words(&mut self) {
        if let Some(reply) = self.reply.as_mut().filter(|r| r.utterance.is_none()) {
            reply.held.clear();
        }
    }
}
