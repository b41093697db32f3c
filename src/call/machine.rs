//! The call machine: everything between "dial" and the final report.
//!
//! In: [`Input`]s from signalling, the leg, the recogniser, the language model and the synthesiser, each with `now`
//! (wall clock, for waits) and `line` (now on the leg's timeline, for what is measured). Out: [`Output`]s to carry
//! out in order, the last of which is [`CallEvent::Finalized`]. The machine composes three others: who has the floor
//! ([`crate::turn::Machine`]), who answered ([`crate::answer::Machine`]), and what was said ([`crate::agent`]).
//!
//! A call goes through `Setup → Opening → Talking → (Mailbox) → Ending → Closing → Done`. Every phase and every wait
//! in it has a time-out, so no call runs for ever; from `Closing` on nothing but the end of dialog and leg counts.

mod act;
mod cause;
mod config;
mod ending;
mod floor;
mod opening;
mod reply;
mod timers;
mod voice;

use std::collections::VecDeque;

pub use config::CallConfig;
use ending::Ending;
use opening::Mailbox;
use reply::Reply;
use timers::{Timer, Timers};

use crate::agent::{
    Action, Briefing, Conversation, DISCLOSURE, Ledger, ResponseMarks, Role, ToolCall, ToolUse, Turn,
    may_leave_message,
};
use crate::answer::{self, Verdict};
use crate::call::event::{CallEvent, Lifecycle};
use crate::call::io::{DialogEvent, Input, Output};
use crate::call::outcome::{CallReport, HangupSource, Latencies, Quality, TaskResult, TimelineEvent};
use crate::call::port::{LegCommand, LegEvent};
use crate::time::{Instant, MediaTime};
use crate::turn;

/// The most moments kept for the report.
const MAX_EVENTS: usize = 4000;

/// Where the call stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Not answered yet.
    Setup,
    /// Answered; nobody of ours has spoken.
    Opening,
    /// The conversation.
    Talking,
    /// A mailbox: the message waits for its place, or is being spoken.
    Mailbox,
    /// The last words are being spoken.
    Ending,
    /// Hung up; dialog and leg are winding down.
    Closing,
    /// Finalized.
    Done,
}

/// What follows once all that was to be said is settled.
#[derive(Clone, Debug, PartialEq)]
enum Next {
    /// Ask for a reply.
    Ask,
    /// Do what the model asked for.
    Act { call: ToolCall, action: Action },
    /// End the call.
    HangUp,
}

/// Keys on their way.
#[derive(Clone, Debug)]
struct Pressing {
    call: ToolCall,
    digits: String,
    start: MediaTime,
}

/// The machine of one call. See the module's head.
#[derive(Debug)]
pub struct Machine {
    config: CallConfig,
    phase: Phase,
    now: Instant,
    line: MediaTime,
    turn: turn::Machine,
    answer: answer::Machine,
    talk: Conversation,
    ledger: Ledger,
    timers: Timers,
    out: VecDeque<Output>,
    next: Option<Next>,

    ringing: bool,
    answered_at: Option<MediaTime>,
    ended_at: Option<MediaTime>,
    dialog_over: bool,
    leg_over: bool,
    ending: Option<Ending>,

    gate_passed: bool,
    mailbox: Mailbox,
    verdict: Verdict,

    next_utterance: u32,
    disclosed: bool,
    disclosures: u32,
    voice_failures: u32,
    marks: Option<ResponseMarks>,
    marked: Option<u32>,

    next_request: u32,
    reply: Option<Reply>,
    model_failures: u32,
    tool_errors: u32,
    pressing: Option<Pressing>,
    waiting: Option<ToolCall>,
    waits: u32,

    heard: Vec<String>,
    heard_from: MediaTime,
    voice_from: Option<MediaTime>,
    starved_from: Option<MediaTime>,
    voice_heard: bool,
    recogniser_stalls: u32,
    reprompted: bool,
    /// Whether our voice was cut and nobody has said why yet.
    floor_lost: bool,

    task_result: TaskResult,
    latency: Latencies,
    quality: Quality,
    events: Vec<TimelineEvent>,
    report: Option<Box<CallReport>>,
}

impl Machine {
    /// A call that is yet to be dialled.
    #[must_use]
    pub fn new(config: CallConfig) -> Self {
        let briefing = Briefing {
            task: config.task.reveal().clone(),
            disclosure: DISCLOSURE.to_owned(),
            greeting: config.greeting.clone().filter(|g| !g.trim().is_empty()),
            personality: config.personality.clone(),
            may_leave_message: may_leave_message(config.task.reveal()),
            answered_by: answer::Class::Unknown.as_str().to_owned(),
        };
        Self {
            phase: Phase::Setup,
            now: Instant::ZERO,
            line: MediaTime::ZERO,
            turn: turn::Machine::new(config.turn.clone()),
            answer: answer::Machine::new(),
            talk: Conversation::new(briefing),
            ledger: Ledger::default(),
            timers: Timers::default(),
            out: VecDeque::new(),
            next: None,
            ringing: false,
            answered_at: None,
            ended_at: None,
            dialog_over: false,
            leg_over: false,
            ending: None,
            gate_passed: false,
            mailbox: Mailbox::default(),
            verdict: Verdict::default(),
            next_utterance: 1,
            disclosed: false,
            disclosures: 0,
            voice_failures: 0,
            marks: None,
            marked: None,
            next_request: 1,
            reply: None,
            model_failures: 0,
            tool_errors: 0,
            pressing: None,
            waiting: None,
            waits: 0,
            heard: Vec::new(),
            heard_from: MediaTime::ZERO,
            voice_from: None,
            starved_from: None,
            voice_heard: false,
            recogniser_stalls: 0,
            reprompted: false,
            floor_lost: false,
            task_result: TaskResult::default(),
            latency: Latencies::default(),
            quality: Quality::default(),
            events: Vec::new(),
            report: None,
            config,
        }
    }

    /// Takes what happened at `now`; `line` is that moment on the leg's timeline (zero before there is a leg).
    /// Drain [`Self::poll_output`] afterwards.
    pub fn handle(&mut self, now: Instant, line: MediaTime, input: Input) {
        if self.phase == Phase::Done {
            return;
        }
        self.now = self.now.max(now);
        self.line = self.line.max(line);
        if self.phase == Phase::Setup && !self.timers.is_set(Timer::Ring) {
            self.timers.set(Timer::Ring, self.now + self.config.ring_timeout);
        }
        match input {
            Input::Dialog(event) => self.on_dialog(&event),
            Input::Leg(event) => self.on_leg(event),
            Input::Heard(heard) => self.on_heard(heard),
            Input::Reply { request, delta } => self.on_delta(request, delta),
            Input::ReplyFailed { request, reason } => self.on_reply_failed(request, &reason),
            Input::Voiced(voiced) => self.on_voiced(voiced),
            Input::Quality(quality) => self.quality = quality,
            Input::HangUp(source) => self.on_hang_up(source),
            Input::Timeout => {}
        }
        self.advance();
    }

    /// The next thing to carry out, in order. `None` until the next [`Self::handle`].
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Input::Timeout`] is wanted, unless something else happens first. `None` once finalized.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Done {
            return None;
        }
        [self.timers.next(), self.turn.poll_timeout()].into_iter().flatten().min()
    }

    /// The final report, once the call is finalized; its positions count from the answer.
    #[must_use]
    pub fn report(&self) -> Option<&CallReport> {
        self.report.as_deref()
    }

    /// The transcript so far.
    #[must_use]
    pub fn transcript(&self) -> &[Turn] {
        self.talk.turns()
    }

    /// Lets everything happen that is due now.
    fn advance(&mut self) {
        self.turn.handle_timeout(self.now, self.line);
        loop {
            if self.phase == Phase::Done {
                return;
            }
            self.drain_answer();
            if let Some(output) = self.turn.poll_output() {
                self.on_turn_output(output);
            } else if let Some(timer) = self.timers.expired(self.now) {
                self.on_timer(timer);
            } else if !self.proceed() {
                break;
            }
        }
        self.try_finalize();
        self.watch_dead_air();
    }

    fn on_dialog(&mut self, event: &DialogEvent) {
        match event {
            DialogEvent::Dialing if self.phase == Phase::Setup => {
                self.tell(CallEvent::Lifecycle(Lifecycle::Dialing));
                self.timers.set(Timer::Ring, self.now + self.config.ring_timeout);
            }
            DialogEvent::Ringing | DialogEvent::EarlyMedia
                if self.phase == Phase::Setup && !std::mem::replace(&mut self.ringing, true) =>
            {
                self.tell(CallEvent::Ringing);
            }
            DialogEvent::Answered { at } => self.on_answered(*at),
            DialogEvent::Ended { status, by_remote, reason } => self.on_ended(*status, *by_remote, reason),
            _ => {}
        }
    }

    fn on_leg(&mut self, event: LegEvent) {
        match event {
            LegEvent::Signal(signal) => self.on_signal(&signal),
            LegEvent::DigitsSent { at } => self.on_digits_sent(at),
            LegEvent::DigitsRefused { .. } => self.on_press_failed(),
            LegEvent::Closed { at } => self.on_leg_closed(at),
            playout => self.on_playout(playout),
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Ring => self.on_ring_timeout(),
            Timer::Gate => self.on_gate(),
            Timer::OpeningLimit => self.open(),
            Timer::MaxDuration => self.hang_up(HangupSource::System, None),
            Timer::Model => self.on_model_timeout(),
            Timer::Voice => self.on_voice_failed(),
            Timer::Settle => self.settle_cut(),
            Timer::Press => self.on_press_failed(),
            Timer::Wait => self.on_wait_over(),
            Timer::Mailbox => self.on_mailbox_timeout(),
            Timer::Message => self.speak_message(),
            Timer::Goodbye => self.close(true),
            Timer::DeadAir => self.on_dead_air(),
            Timer::Answer => self.pass_answer_time(),
            Timer::Closing => self.finalize(),
        }
    }

    /// Tells the outside, which counts from the answer.
    fn tell(&mut self, event: CallEvent) {
        let origin = self.answered_at.unwrap_or_default();
        self.out.push_back(Output::Event(event.counted_from(origin)));
    }

    fn leg(&mut self, command: LegCommand) {
        self.out.push_back(Output::Leg(command));
    }

    /// Records a moment for the report.
    fn moment(&mut self, kind: &str, at: MediaTime, end: Option<MediaTime>, detail: Option<String>) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(TimelineEvent { at, end, kind: kind.to_owned(), detail });
        }
    }

    /// Records a turn and tells of it.
    fn record(&mut self, turn: Turn) {
        self.talk.record(turn.clone());
        self.tell(CallEvent::Turn(turn));
    }

    /// Records what a tool did.
    fn record_tool(&mut self, call: &ToolCall, text: String, start: MediaTime, end: MediaTime) {
        let tool = Some(ToolUse { name: call.name.clone(), arguments: call.arguments.clone() });
        self.record(Turn { role: Role::System, text, start, end, interrupted: false, tool });
    }
}

#[cfg(test)]
mod tests;
