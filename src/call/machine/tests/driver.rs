//! The driver: a virtual clock in steps of 20 ms, a leg that plays what is synthesised and pauses on speech, a
//! recogniser that knows the callee's script, a model and a synthesiser with fixed delays.

use std::collections::{BTreeMap, VecDeque};

use crate::agent::{Delta, Request, ToolCall};
use crate::call::event::CallEvent;
use crate::call::io::{DialogEvent, Heard, Input, Output, Voiced};
use crate::call::machine::{CallConfig, Machine};
use crate::call::outcome::CallReport;
use crate::call::port::{LegCommand, LegEvent};
use crate::pii::Pii;
use crate::signal::{Signal, SignalKind};
use crate::time::{Instant, MediaTime};
use crate::turn::SpokenWord;

/// Samples of one synthesised byte: 15 bytes a second.
pub(super) const BYTE: u64 = 533;

/// When the callee says a line.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// At this time (ms).
    At(u64),
    /// So long after our last sample, once we have spoken since the callee's last line (ms).
    AfterAgent(u64),
    /// So long after our voice began, once we have spoken since the callee's last line (ms).
    Over(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) when: When,
    pub(super) ms: u64,
    pub(super) text: &'static str,
    pub(super) beep_after: Option<u64>,
}

pub(super) fn line(when: When, ms: u64, text: &'static str) -> Line {
    Line { when, ms, text, beep_after: None }
}

struct Playing {
    utterance: u32,
    protected: bool,
    text: String,
    length: u64,
    last: bool,
    sent: u64,
}

pub(super) type Model = Box<dyn FnMut(&Request, usize) -> Vec<Delta>>;

pub(super) struct Driver {
    pub(super) machine: Machine,
    pub(super) ms: u64,
    pub(super) events: Vec<CallEvent>,
    pub(super) requests: Vec<Request>,
    pub(super) spoken: Vec<(u64, String)>,
    pub(super) hang_ups: Vec<u64>,
    pub(super) digits: String,
    pub(super) stt_works: bool,
    pub(super) tts_works: bool,
    pub(super) remote_ended: bool,
    /// The number of inputs given so far; the sweep hangs up before the i-th.
    pub(super) inputs: usize,
    pub(super) hang_up_before: Option<usize>,
    pub(super) answered: bool,
    model: Model,
    script: VecDeque<Line>,
    due: BTreeMap<(u64, usize), Input>,
    order: usize,
    queue: VecDeque<Playing>,
    paused: Option<u64>,
    pause_on_speech: bool,
    agent_began: Option<u64>,
    agent_ended: u64,
    agent_spoke: bool,
    speaking: Option<(u64, u64, &'static str)>,
    said: Vec<(u64, u64, &'static str)>,
    listening: BTreeMap<u32, u64>,
    stopped: bool,
}

pub(super) fn text(text: &str) -> Vec<Delta> {
    let mut deltas: Vec<Delta> = text.split_inclusive(' ').map(|w| Delta::Text(w.into())).collect();
    deltas.push(Delta::Done);
    deltas
}

pub(super) fn tool(say: &str, name: &str, arguments: &str) -> Vec<Delta> {
    let mut deltas = text(say);
    deltas.insert(
        deltas.len() - 1,
        Delta::ToolCall(ToolCall { id: "c1".into(), name: name.into(), arguments: arguments.into() }),
    );
    deltas
}

pub(super) fn end(say: &str) -> Vec<Delta> {
    tool(say, "end_call", r#"{"reason":"done","task_status":"achieved","summary":"It worked."}"#)
}

impl Driver {
    pub(super) fn new(task: &str, script: Vec<Line>, model: Model) -> Self {
        Self::with(CallConfig::new(Pii::new(task.to_owned())), script, model)
    }

    pub(super) fn with(config: CallConfig, script: Vec<Line>, model: Model) -> Self {
        Self {
            machine: Machine::new(config),
            ms: 0,
            events: Vec::new(),
            requests: Vec::new(),
            spoken: Vec::new(),
            hang_ups: Vec::new(),
            digits: String::new(),
            stt_works: true,
            tts_works: true,
            remote_ended: false,
            inputs: 0,
            hang_up_before: None,
            answered: false,
            model,
            script: script.into(),
            due: BTreeMap::new(),
            order: 0,
            queue: VecDeque::new(),
            paused: None,
            pause_on_speech: true,
            agent_began: None,
            agent_ended: 0,
            agent_spoke: false,
            speaking: None,
            said: Vec::new(),
            listening: BTreeMap::new(),
            stopped: false,
        }
    }

    pub(super) fn at(&mut self, ms: u64, input: Input) {
        self.order += 1;
        self.due.insert((ms, self.order), input);
    }

    pub(super) fn dial(&mut self) -> &mut Self {
        self.at(0, Input::Dialog(DialogEvent::Dialing));
        self.at(100, Input::Dialog(DialogEvent::Ringing));
        self
    }

    /// Dials, is answered at 1 s, and runs to the end.
    pub(super) fn call(&mut self) -> CallReport {
        self.dial();
        self.at(1000, Input::Dialog(DialogEvent::Answered { at: MediaTime::from_ms(1000) }));
        self.run()
    }

    pub(super) fn signal(&mut self, ms: u64, at: MediaTime, kind: SignalKind) {
        let signal = Signal { at, decided: MediaTime::from_ms(ms), kind };
        self.at(ms, Input::Leg(LegEvent::Signal(signal)));
    }

    /// Runs until the report; a call that is not over after 15 minutes never ends.
    pub(super) fn run(&mut self) -> CallReport {
        while self.machine.report().is_none() {
            assert!(self.ms < 900_000, "the call never ends");
            self.step();
        }
        let finals = self.events.iter().filter(|e| matches!(e, CallEvent::Finalized(_))).count();
        assert_eq!(finals, 1, "exactly one final event");
        assert!(matches!(self.events.last(), Some(CallEvent::Finalized(_))), "and it is the last");
        assert_eq!(self.machine.poll_timeout(), None);
        self.machine.report().expect("over").clone()
    }

    fn step(&mut self) {
        self.ms += 20;
        self.callee();
        self.play();
        while let Some((&key, _)) = self.due.first_key_value() {
            if key.0 > self.ms {
                break;
            }
            let input = self.due.remove(&key).expect("present");
            self.give(input);
        }
        if self.machine.poll_timeout().is_some_and(|at| at <= Instant::from_millis(self.ms)) {
            self.give(Input::Timeout);
            let next = self.machine.poll_timeout();
            assert!(next.is_none_or(|at| at > Instant::from_millis(self.ms)), "a wait that never ends");
        }
    }

    fn give(&mut self, input: Input) {
        if self.hang_up_before == Some(self.inputs) {
            self.hang_up_before = None;
            self.give(Input::HangUp(crate::call::HangupSource::User));
        }
        self.inputs += 1;
        match &input {
            Input::Dialog(DialogEvent::Answered { .. }) => self.answered = true,
            Input::Dialog(DialogEvent::Ended { by_remote: true, .. }) => self.remote_ended = true,
            _ => {}
        }
        self.machine.handle(Instant::from_millis(self.ms), MediaTime::from_ms(self.ms), input);
        while let Some(output) = self.machine.poll_output() {
            self.carry_out(output);
        }
    }

    fn callee(&mut self) {
        if !self.answered || self.stopped {
            return;
        }
        if let Some((_, until, _)) = self.speaking {
            if self.ms >= until + 160 {
                self.speaking = None;
                self.signal(self.ms, MediaTime::from_ms(until), SignalKind::SpeechEnd);
            }
            return;
        }
        let playing = self.agent_began.is_some();
        let Some(next) = self.script.front() else { return };
        let now = match next.when {
            When::At(at) => self.ms >= at,
            When::AfterAgent(after) => {
                self.agent_spoke && !playing && self.queue.is_empty() && self.ms >= self.agent_ended + after
            }
            When::Over(after) => self.agent_began.is_some_and(|began| self.ms >= began + after),
        };
        if !now {
            return;
        }
        let next = self.script.pop_front().expect("present");
        self.agent_spoke = false;
        let start = self.ms;
        self.speaking = Some((start, start + next.ms, next.text));
        self.said.push((start, start + next.ms, next.text));
        self.signal(self.ms, MediaTime::from_ms(start), SignalKind::SpeechStart);
        if next.ms >= 500 && self.stt_works {
            self.partial_at(start + 420, next.text);
        }
        if let Some(after) = next.beep_after {
            let (from, to) = (start + next.ms + after, start + next.ms + after + 400);
            let (start, freq_hz) = (MediaTime::from_ms(from), 1000.0);
            self.signal(to + 60, MediaTime::from_ms(to), SignalKind::BeepEnd { freq_hz, start });
        }
        if self.pause_on_speech
            && let (None, Some(playing)) = (self.paused, self.queue.front())
            && playing.sent > 0
            && !playing.protected
        {
            let at = MediaTime::from_ms(self.ms + 20);
            let (utterance, samples) = (playing.utterance, playing.sent);
            self.paused = Some(self.ms);
            let speech = MediaTime::from_ms(start);
            self.at(self.ms, Input::Leg(LegEvent::PlayoutPaused { utterance, samples, at, speech }));
        }
    }

    /// Half of the words become known while they are spoken. The speech that just began is a new utterance.
    fn partial_at(&mut self, ms: u64, text: &'static str) {
        let utterance = self.listening.keys().last().copied().unwrap_or(0) + 1;
        let text = text.split(' ').take(2).collect::<Vec<_>>().join(" ");
        self.at(ms, Input::Heard(Heard::Partial { utterance, text }));
    }

    fn play(&mut self) {
        if self.stopped || self.paused.is_some() {
            return;
        }
        let at = MediaTime::from_ms(self.ms);
        let Some(front) = self.queue.front_mut() else {
            return;
        };
        if front.length > front.sent {
            let first = front.sent == 0;
            front.sent = (front.sent + 160).min(front.length);
            let (utterance, samples, over) =
                (front.utterance, front.sent, front.last && front.sent == front.length);
            if first {
                self.agent_began.get_or_insert(self.ms);
                self.at(self.ms, Input::Leg(LegEvent::PlayoutStarted { utterance, at }));
            }
            if samples % 1600 == 0 {
                self.at(self.ms, Input::Leg(LegEvent::Played { utterance, samples, at }));
            }
            if over {
                self.finish_front();
            }
        } else if front.last && front.length > 0 {
            self.finish_front();
        }
    }

    fn finish_front(&mut self) {
        let done = self.queue.pop_front().expect("present");
        self.agent_ended = self.ms;
        self.agent_began = None;
        self.agent_spoke = true;
        let (utterance, samples) = (done.utterance, done.sent);
        let at = MediaTime::from_ms(self.ms);
        self.at(self.ms, Input::Leg(LegEvent::PlayoutFinished { utterance, samples, at }));
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Event(event) => self.events.push(event),
            Output::ListenFrom { utterance, at } => {
                self.listening.insert(utterance, at.as_ms());
            }
            Output::ListenUntil { utterance, at } if self.stt_works => {
                let from = self.listening[&utterance];
                let text: Vec<&str> = self
                    .said
                    .iter()
                    .filter(|s| s.0 >= from && s.0 < at.as_ms() && !s.2.is_empty())
                    .map(|s| s.2)
                    .collect();
                let text = text.join(" ");
                let words = Vec::new();
                self.at(self.ms + 150, Input::Heard(Heard::Final { utterance, text, words }));
            }
            Output::ListenCancel { utterance } => {
                self.due.retain(
                    |_, i| !matches!(i, Input::Heard(Heard::Final { utterance: u, .. }) if *u == utterance),
                );
            }
            Output::Ask { request, body } => {
                let deltas = (self.model)(&body, self.requests.len());
                self.requests.push(body);
                for (i, delta) in deltas.into_iter().enumerate() {
                    self.at(self.ms + 200 + 10 * i as u64, Input::Reply { request, delta });
                }
            }
            Output::CancelAsk { request } => {
                self.due.retain(|_, i| !matches!(i, Input::Reply { request: r, .. } if *r == request));
            }
            Output::Speak { utterance, text, protected, last } => {
                self.speak(utterance, &text, protected, last);
            }
            Output::CancelSpeak { utterance } => {
                self.due.retain(|_, i| !matches!(i, Input::Voiced(v) if voiced(v) == utterance));
            }
            Output::Leg(command) => self.command(command),
            Output::HangUp => {
                self.hang_ups.push(self.ms);
                let status = if self.answered { 200 } else { 487 };
                let ended = DialogEvent::Ended { status, by_remote: false, reason: String::new() };
                self.at(self.ms + 40, Input::Dialog(ended));
            }
            _ => {}
        }
    }

    fn speak(&mut self, utterance: u32, text: &str, protected: bool, last: bool) {
        if !text.is_empty() {
            self.spoken.push((self.ms, text.to_owned()));
        }
        if !self.tts_works {
            let reason = "broken".to_owned();
            self.at(self.ms + 40, Input::Voiced(Voiced::Failed { utterance, reason }));
            return;
        }
        if self.queue.iter().all(|p| p.utterance != utterance) {
            let text = String::new();
            self.queue.push_back(Playing { utterance, protected, text, length: 0, last: false, sent: 0 });
        }
        let playing = self.queue.iter_mut().find(|p| p.utterance == utterance).expect("just pushed");
        let begin = playing.text.len();
        playing.text.push_str(text);
        playing.last = last;
        playing.length = playing.text.len() as u64 * BYTE;
        let samples = playing.length;
        let mut words = Vec::new();
        for (i, c) in text.char_indices() {
            let end = begin + i + c.len_utf8();
            let next = text[i + c.len_utf8()..].chars().next();
            if !c.is_whitespace() && next.is_none_or(char::is_whitespace) {
                words.push(SpokenWord { text_end: end, end_sample: end as u64 * BYTE });
            }
        }
        self.at(self.ms + 20, Input::Voiced(Voiced::Progress { utterance, samples, words }));
        if last {
            self.at(self.ms + 20, Input::Voiced(Voiced::Finished { utterance, samples }));
        }
    }

    fn command(&mut self, command: LegCommand) {
        let at = MediaTime::from_ms(self.ms);
        match command {
            LegCommand::Cut { through } => {
                while self.queue.front().is_some_and(|p| p.utterance <= through) {
                    let cut = self.queue.pop_front().expect("present");
                    self.paused = None;
                    self.agent_began = None;
                    self.agent_ended = self.ms;
                    if cut.sent > 0 {
                        let (utterance, samples) = (cut.utterance, cut.sent);
                        self.at(self.ms + 20, Input::Leg(LegEvent::PlayoutCut { utterance, samples, at }));
                    }
                }
            }
            LegCommand::Resume => self.paused = None,
            LegCommand::PauseOnSpeech(on) => self.pause_on_speech = on,
            LegCommand::SendDigits(digits) => {
                self.digits.extend(digits.iter().map(crate::signal::Digit::as_char));
                self.agent_spoke = true;
                self.agent_ended = self.ms + 200;
                let at = MediaTime::from_ms(self.ms + 200);
                self.at(self.ms + 200, Input::Leg(LegEvent::DigitsSent { at }));
            }
            LegCommand::Stop => {
                self.stopped = true;
                self.at(self.ms + 40, Input::Leg(LegEvent::Closed { at: MediaTime::from_ms(self.ms + 40) }));
            }
            LegCommand::SetRemote(_) => unreachable!("the engine sets the remote, not the machine"),
        }
    }
}

fn voiced(v: &Voiced) -> u32 {
    match v {
        Voiced::Progress { utterance, .. }
        | Voiced::Finished { utterance, .. }
        | Voiced::Failed { utterance, .. } => *utterance,
    }
}

/// The transcript as "who: words", tools in brackets, an asterisk where it was interrupted.
pub(super) fn lines(report: &CallReport) -> Vec<String> {
    report
        .transcript
        .iter()
        .map(|t| {
            let who = format!("{:?}", t.role).chars().next().expect("a name");
            let tool = t.tool.as_ref().map(|t| format!("[{}] ", t.name)).unwrap_or_default();
            format!("{who}: {tool}{}{}", t.text, if t.interrupted { "*" } else { "" })
        })
        .collect()
}
