//! Whole calls on a virtual clock: the call machine with its leg on one side, a scripted phone with its leg on the
//! other, a bad network in between, and fake backends with fixed delays. The same seed gives the same trace.
//!
//! Nothing here sleeps, opens sockets or reads a clock: [`World::run`] always steps to the earliest thing that is
//! due. Signalling is reduced to its events; the SIP stack has simulations of its own. The call hears with the real
//! detectors, the phone by level alone. Both speak with [`crate::sim::voice`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use crate::agent::{Delta, Request};
use crate::audio::{Frame, Tone};
use crate::call::io::{DialogEvent, Heard, Input, Output, Voiced};
use crate::call::outcome::Quality;
use crate::call::port::{LegCommand, LegEvent, RemoteMedia, Spoken};
use crate::call::{CallConfig, CallEvent, CallReport, Leg, LegConfig, LegPort, Listener, Machine, leg};
use crate::detect::{Chain, ChainConfig, VadModel};
use crate::rtp::SessionConfig;
use crate::sdp::Codec;
use crate::seed::Ids;
use crate::signal::{Signal, SignalKind};
use crate::sim::ears::LevelEars;
use crate::sim::fakes::{self, Calls, Delays, Failure, Faults, Recogniser};
use crate::sim::net::{Conditions, Link};
use crate::sim::voice;
use crate::sim::{Action, Answer, Phone, Scenario};
use crate::time::{Instant, MediaTime, Rate};
use crate::turn::SpokenWord;

const AGENT: &str = "127.0.0.1:20000";
const CALLEE: &str = "127.0.0.1:30000";
/// Pitch of our voice, and of a far end whose scenario says 1.0 (Hz).
const PITCH_HZ: f32 = 110.0;
/// A message of the signalling takes this long.
const SIGNALLING: Duration = Duration::from_millis(20);
/// From one piece of a streamed reply to the next.
const PIECE: Duration = Duration::from_millis(20);
/// From one look at the words so far to the next.
const PARTIALS: Duration = Duration::from_millis(200);
/// A call that takes longer than this on the virtual clock is a bug of the machine, which has its own limits.
const TOO_LONG: Duration = Duration::from_secs(3600);
/// Steps without time passing: more is a wait that never ends.
const MAX_STEPS_AT_ONCE: u32 = 1000;
/// How long the world goes on after the report, to see that nothing follows it.
const AFTERWARDS: Duration = Duration::from_secs(1);
const FRAME: usize = Rate::Hz8000.frame_samples();

/// A language model: a request in, the pieces of a reply out.
pub type Model = Box<dyn FnMut(&Request) -> Vec<Delta>>;

/// What a world is made of.
pub struct WorldConfig {
    /// The call to be made.
    pub call: CallConfig,
    /// Who answers.
    pub scenario: Scenario,
    /// The language model. Its replies are streamed a word at a time.
    pub model: Model,
    /// Both directions of the network.
    pub network: Conditions,
    /// The backends' delays.
    pub delays: Delays,
    /// What goes wrong.
    pub faults: Faults,
    /// Voice activity of the call.
    pub vad: VadModel,
    /// Seed for everything that is random.
    pub seed: u64,
}

impl WorldConfig {
    /// A call to `scenario` on a perfect network, with backends that work.
    #[must_use]
    pub fn new(
        call: CallConfig,
        scenario: Scenario,
        model: impl FnMut(&Request) -> Vec<Delta> + 'static,
    ) -> Self {
        Self {
            call,
            scenario,
            model: Box::new(model),
            network: Conditions::default(),
            delays: Delays::default(),
            faults: Faults::default(),
            vad: VadModel::default(),
            seed: 1,
        }
    }
}

/// How a simulated call went.
#[derive(Debug)]
pub struct Run {
    /// The machine's report.
    pub report: Box<CallReport>,
    /// Everything that happened, a line each, in order.
    pub trace: Vec<String>,
    /// What the call told the outside, in order. The world runs on for a second after the report, so whatever comes
    /// after it is here, too.
    pub events: Vec<CallEvent>,
    /// The lines the far end spoke; one that was stopped counts.
    pub said: Vec<String>,
    /// The keys the far end received.
    pub keys: String,
    /// When the far end heard our voice, on the timeline of its leg.
    pub heard: Vec<Range<MediaTime>>,
    /// Our utterances, by number, and what the leg sent of them.
    pub uttered: BTreeMap<u32, Uttered>,
    /// How often each backend was called.
    pub calls: Calls,
    /// How long the call took on the virtual clock, from dialling to the report.
    pub took: Duration,
}

/// What becomes of [`Run`].
#[derive(Default)]
struct Log {
    trace: Vec<String>,
    events: Vec<CallEvent>,
    keys: String,
    heard: Vec<Range<MediaTime>>,
    uttered: BTreeMap<u32, Uttered>,
    calls: Calls,
}

/// An utterance of ours, by the synthesiser's and the leg's account.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Uttered {
    /// Its whole text.
    pub text: String,
    /// Samples of it that were sent [8 kHz].
    pub samples: u64,
}

impl Uttered {
    /// The words that were sent to their end.
    #[must_use]
    pub fn words_sent(&self) -> &str {
        let sent = voice::word_ends(&self.text).take_while(|(_, end)| *end <= self.samples);
        self.text[..sent.last().map_or(0, |(end, _)| end)].trim()
    }
}

/// Something that is due later.
#[derive(Debug)]
enum News {
    Input(Input),
    Words { utterance: u32, job: u32, until: MediaTime },
    WordsSoFar { utterance: u32 },
    Audio { utterance: u32, protected: bool, samples: Vec<i16>, last: bool },
    FarEndAnswers,
    WeHangUp,
}

/// The synthesiser's account of the utterance it is voicing.
#[derive(Debug, Default)]
struct Voicing {
    utterance: u32,
    bytes: usize,
    samples: u64,
    /// Whether its text is.
    complete: bool,
    /// Whether nothing more comes of it.
    dead: bool,
}

/// A simulated call.
pub struct World {
    now: Instant,
    machine: Machine,
    phone: Phone,
    scenario: Scenario,
    agent: End,
    callee: End,
    network: Conditions,
    delays: Delays,
    faults: Faults,
    model: Model,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    news: BTreeMap<u64, News>,
    order: u64,
    /// Whether the far end has answered and not hung up.
    up: bool,
    answered: bool,
    over: bool,
    recogniser: Recogniser,
    lines: BTreeMap<u32, String>,
    cancelled: BTreeSet<u32>,
    cancelled_requests: BTreeSet<u32>,
    voicing: Voicing,
    heard_from: Option<MediaTime>,
    log: Log,
    report: Option<Box<CallReport>>,
}

impl World {
    /// A world in which nothing has happened yet.
    #[must_use]
    pub fn new(config: WorldConfig) -> Self {
        let mut ids = Ids::from_number(config.seed);
        let ears = Chain::new(&ChainConfig { vad: config.vad });
        let agent = End::new(&mut ids, config.network, Box::new(ears), config.faults.lost_to_callee.clone());
        let ears = LevelEars::default();
        let callee = End::new(&mut ids, config.network, Box::new(ears), config.faults.lost_to_agent.clone());
        Self {
            now: Instant::ZERO,
            machine: Machine::new(config.call),
            phone: Phone::new(config.scenario.clone()),
            scenario: config.scenario,
            agent,
            callee,
            network: config.network,
            delays: config.delays,
            faults: config.faults,
            model: config.model,
            queue: BinaryHeap::new(),
            news: BTreeMap::new(),
            order: 0,
            up: false,
            answered: false,
            over: false,
            recogniser: Recogniser::default(),
            lines: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            cancelled_requests: BTreeSet::new(),
            voicing: Voicing::default(),
            heard_from: None,
            log: Log::default(),
            report: None,
        }
    }

    /// Runs the call to its end.
    ///
    /// # Panics
    /// When the call takes more than an hour, time stands still, or an utterance begins before the one before it was
    /// completed or cancelled: bugs of the machine, all of them.
    #[must_use]
    pub fn run(mut self) -> Run {
        self.dial();
        let (mut steps, mut took) = (0, None);
        let mut until = Instant::ZERO + TOO_LONG;
        loop {
            let next = self.next_due();
            if next > until {
                break;
            }
            steps = if next > self.now { 0 } else { steps + 1 };
            assert!(steps < MAX_STEPS_AT_ONCE, "time stands still:\n{}", self.log.trace.join("\n"));
            self.now = self.now.max(next);
            self.step();
            if self.report.is_some() && took.is_none() {
                took = Some(self.now.since(Instant::ZERO));
                until = self.now + AFTERWARDS;
            }
        }
        let Log { trace, events, keys, heard, uttered, calls } = self.log;
        let (Some(report), Some(took)) = (self.report, took) else {
            panic!("the call does not end:\n{}", trace.join("\n"))
        };
        Run { report, trace, events, said: self.phone.said().to_vec(), keys, heard, uttered, calls, took }
    }

    fn dial(&mut self) {
        self.tell(Input::Dialog(DialogEvent::Dialing));
        match self.scenario.answer {
            Answer::AfterMs(ms) => {
                self.tell(Input::Dialog(DialogEvent::Ringing));
                self.later(Duration::from_millis(ms), News::FarEndAnswers);
            }
            Answer::Reject(status) => {
                let ended = DialogEvent::Ended { status, by_remote: true, reason: "refused".into() };
                self.later(Duration::from_millis(300), News::Input(Input::Dialog(ended)));
            }
            Answer::Never(_) => self.tell(Input::Dialog(DialogEvent::Ringing)),
        }
    }

    fn next_due(&self) -> Instant {
        let queue = self.queue.peek().map(|Reverse((at, _))| *at);
        let phone = self.phone.poll_timeout().filter(|_| self.up);
        let arrivals = [self.agent.out.next_at(), self.callee.out.next_at()];
        let legs = self.agent.leg.next_deadline().min(self.callee.leg.next_deadline());
        let others = [queue, phone, self.machine.poll_timeout()];
        others.into_iter().chain(arrivals).flatten().fold(legs, Instant::min)
    }

    fn step(&mut self) {
        while let Some(datagram) = self.agent.out.poll(self.now) {
            self.callee.leg.handle_datagram(self.now, address(AGENT), &datagram);
        }
        while let Some(datagram) = self.callee.out.poll(self.now) {
            self.agent.leg.handle_datagram(self.now, address(CALLEE), &datagram);
        }
        while let Some(Reverse((at, order))) = self.queue.peek().copied()
            && at <= self.now
        {
            self.queue.pop();
            let news = self.news.remove(&order).expect("queued together");
            self.happen(news);
        }
        if self.machine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.tell(Input::Timeout);
        }
        if self.up && self.phone.poll_timeout().is_some_and(|at| at <= self.now) {
            self.phone.handle_timeout(self.now);
        }
        // What a leg tells makes others act, and their commands make it send.
        loop {
            self.carry_out_phone();
            self.agent.turn_over(self.now);
            self.callee.turn_over(self.now);
            if !(self.hear_agent_leg() | self.hear_callee_leg()) {
                break;
            }
        }
    }

    fn happen(&mut self, news: News) {
        match news {
            News::Input(Input::Reply { request, .. } | Input::ReplyFailed { request, .. })
                if self.cancelled_requests.contains(&request) => {}
            News::Input(Input::Voiced(
                Voiced::Progress { utterance, .. } | Voiced::Finished { utterance, .. },
            )) if self.cancelled.contains(&utterance) => {}
            News::Input(input) => self.tell(input),
            News::Words { utterance, job, until } => {
                if let Some(text) = self.recogniser.finish(utterance, job, until) {
                    self.tell(Input::Heard(Heard::Final { utterance, text, words: Vec::new() }));
                }
            }
            News::WordsSoFar { utterance } => self.tell_words_so_far(utterance),
            News::FarEndAnswers if self.over => {}
            News::FarEndAnswers => self.answer(),
            News::Audio { utterance, .. } if self.cancelled.contains(&utterance) => {}
            News::Audio { utterance, protected, samples, last } => {
                self.agent.say(utterance, protected, &samples, last);
            }
            News::WeHangUp => {
                let status = if self.answered { 200 } else { 487 };
                self.far_end_is_over();
                let ended = DialogEvent::Ended { status, by_remote: false, reason: "hung up".into() };
                self.later(SIGNALLING, News::Input(Input::Dialog(ended)));
            }
        }
    }

    fn answer(&mut self) {
        (self.up, self.answered) = (true, true);
        for (end, remote) in [(&mut self.agent, CALLEE), (&mut self.callee, AGENT)] {
            let remote = RemoteMedia {
                addr: address(remote),
                rtcp: Some(address(remote)),
                codec: Codec::Pcmu,
                payload_type: 0,
                event_payload_type: Some(101),
            };
            end.leg.handle_command(self.now, LegCommand::SetRemote(remote));
        }
        self.phone.start(self.now);
        let at = self.line();
        self.tell(Input::Dialog(DialogEvent::Answered { at }));
    }

    fn far_end_is_over(&mut self) {
        (self.up, self.over) = (false, true);
        self.callee.leg.handle_command(self.now, LegCommand::Stop);
    }

    fn later(&mut self, delay: Duration, news: News) {
        self.order += 1;
        self.queue.push(Reverse((self.now + delay, self.order)));
        self.news.insert(self.order, news);
    }

    fn line(&self) -> MediaTime {
        MediaTime::from_duration(self.now.since(Instant::ZERO))
    }

    fn note(&mut self, what: &str) {
        self.log.trace.push(format!("{:?} {what}", self.now));
    }

    fn tell(&mut self, input: Input) {
        let quiet = matches!(input, Input::Timeout | Input::Leg(LegEvent::Played { .. }) | Input::Voiced(_));
        if !quiet {
            self.note(&format!("< {input:?}"));
        }
        let line = self.line();
        self.machine.handle(self.now, line, input);
        while let Some(output) = self.machine.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match &output {
            Output::Ask { request, .. } => self.note(&format!("> Ask {{ request: {request} }}")),
            output => self.note(&format!("> {output:?}")),
        }
        match output {
            Output::ListenFrom { utterance, at } => {
                self.recogniser.listen(utterance, at);
                self.later(PARTIALS, News::WordsSoFar { utterance });
            }
            Output::ListenUntil { utterance, at } => self.recognise(utterance, at),
            Output::ListenCancel { utterance } => {
                self.recogniser.cancel(utterance);
                self.later(PARTIALS, News::WordsSoFar { utterance });
            }
            Output::Ask { request, body } => self.ask(request, &body),
            Output::CancelAsk { request } => {
                self.cancelled_requests.insert(request);
            }
            Output::Speak { utterance, text, protected, last } => {
                self.voice(utterance, &text, protected, last);
            }
            Output::CancelSpeak { utterance } => {
                self.cancelled.insert(utterance);
                self.agent.discard(|u| u == utterance);
            }
            Output::Leg(command) => self.agent.leg.handle_command(self.now, command),
            Output::HangUp => self.later(SIGNALLING, News::WeHangUp),
            Output::Event(event) => {
                if let CallEvent::Finalized(report) = &event {
                    self.report.get_or_insert_with(|| report.clone());
                }
                self.log.events.push(event);
            }
        }
    }

    fn recognise(&mut self, utterance: u32, until: MediaTime) {
        let delay = self.delays.recognition;
        let fault = fakes::next_call(&mut self.log.calls.recognition, self.faults.recognition.as_ref());
        let job = self.recogniser.begin(utterance);
        let news = match fault {
            None => News::Words { utterance, job, until },
            Some(Failure::Error) => {
                News::Input(Input::Heard(Heard::Failed { reason: "recognition failed".into() }))
            }
            Some(Failure::Silence) => return,
            Some(Failure::Halfway) => {
                let text = self.recogniser.partial(utterance, until).unwrap_or_default();
                News::Input(Input::Heard(Heard::Partial { utterance, text }))
            }
            Some(Failure::Nonsense) => {
                let stranger =
                    Heard::Final { utterance: utterance + 7, text: "what".into(), words: Vec::new() };
                self.later(delay, News::Input(Input::Heard(stranger)));
                let text = "\u{fffd}\u{0} ".repeat(3000);
                News::Input(Input::Heard(Heard::Final { utterance, text, words: Vec::new() }))
            }
        };
        self.later(delay, news);
    }

    fn tell_words_so_far(&mut self, utterance: u32) {
        if !self.recogniser.is_open(utterance) || self.report.is_some() {
            return;
        }
        if let Some(text) = self.recogniser.partial(utterance, self.line()).filter(|t| !t.is_empty()) {
            self.tell(Input::Heard(Heard::Partial { utterance, text }));
        }
        self.later(PARTIALS, News::WordsSoFar { utterance });
    }

    fn ask(&mut self, request: u32, body: &Request) {
        let fault = fakes::next_call(&mut self.log.calls.language, self.faults.language.as_ref());
        let mut pieces = fakes::stream((self.model)(body));
        let mut delay = self.delays.language;
        match fault {
            None => {}
            Some(Failure::Error) => {
                let reason = "no reply".to_owned();
                self.later(delay, News::Input(Input::ReplyFailed { request, reason }));
                return;
            }
            Some(Failure::Silence) => return,
            Some(Failure::Halfway) => pieces.truncate(pieces.len() / 2),
            Some(Failure::Nonsense) => pieces = fakes::nonsense(),
        }
        for delta in pieces {
            self.later(delay, News::Input(Input::Reply { request, delta }));
            delay += PIECE;
        }
    }

    fn voice(&mut self, utterance: u32, text: &str, protected: bool, last: bool) {
        if self.voicing.utterance != utterance {
            let before = &self.voicing;
            let settled =
                before.complete || before.utterance == 0 || self.cancelled.contains(&before.utterance);
            assert!(settled, "utterance {utterance} begins before {} is complete", before.utterance);
            self.voicing = Voicing { utterance, ..Voicing::default() };
        }
        self.voicing.complete |= last;
        self.log.uttered.entry(utterance).or_default().text.push_str(text);
        if self.voicing.dead {
            return;
        }
        let fault = fakes::next_call(&mut self.log.calls.synthesis, self.faults.synthesis.as_ref());
        let delay = self.delays.synthesis;
        let mut samples = voice::speak(text, PITCH_HZ);
        let (bytes, before) = (self.voicing.bytes, self.voicing.samples);
        let word = |(end, at)| SpokenWord { text_end: bytes + end, end_sample: before + at };
        let mut words: Vec<SpokenWord> = voice::word_ends(text).map(word).collect();
        match fault {
            None => {}
            Some(Failure::Error) => {
                self.voicing.dead = true;
                let reason = "synthesis failed".to_owned();
                self.later(delay, News::Input(Input::Voiced(Voiced::Failed { utterance, reason })));
                return;
            }
            Some(Failure::Silence) => {
                self.voicing.dead = true;
                return;
            }
            Some(Failure::Halfway) => {
                self.voicing.dead = true;
                samples.truncate(samples.len() / 2);
                words.retain(|w| w.end_sample <= before + samples.len() as u64);
            }
            Some(Failure::Nonsense) => {
                samples.truncate(3);
                words = vec![SpokenWord { text_end: usize::MAX, end_sample: 0 }; 3];
            }
        }
        self.voicing.bytes += text.len();
        self.voicing.samples += samples.len() as u64;
        let total = self.voicing.samples;
        let last = last && !self.voicing.dead;
        self.later(delay, News::Audio { utterance, protected, samples, last });
        self.later(delay, News::Input(Input::Voiced(Voiced::Progress { utterance, samples: total, words })));
        if last {
            self.later(delay, News::Input(Input::Voiced(Voiced::Finished { utterance, samples: total })));
        }
    }

    /// Takes the news of our leg; whether there were any.
    fn hear_agent_leg(&mut self) -> bool {
        let mut any = false;
        while self.agent.port.heard.pop().is_some() {}
        while let Some(event) = self.agent.port.events.pop() {
            any = true;
            match event {
                LegEvent::Stats(stats) => {
                    let (packets_received, packets_lost) = (stats.packets_received, stats.packets_lost);
                    let quality = Quality { packets_received, packets_lost, jitter_ms: stats.jitter_ms };
                    self.tell(Input::Quality(quality));
                }
                LegEvent::PlayoutFinished { utterance, samples, .. }
                | LegEvent::PlayoutCut { utterance, samples, .. }
                | LegEvent::Played { utterance, samples, .. } => {
                    if let Some(uttered) = self.log.uttered.get_mut(&utterance) {
                        uttered.samples = uttered.samples.max(samples);
                    }
                }
                _ => {}
            }
            self.tell(Input::Leg(event));
        }
        any
    }

    /// Takes the news of the far end's leg; whether there were any.
    fn hear_callee_leg(&mut self) -> bool {
        let mut any = false;
        while self.callee.port.heard.pop().is_some() {}
        while let Some(event) = self.callee.port.events.pop() {
            any = true;
            match event {
                LegEvent::Signal(signal) => self.far_end_hears(&signal),
                LegEvent::PlayoutStarted { utterance, at } => {
                    if let Some(text) = self.lines.remove(&utterance) {
                        let way = self.network.delay + self.network.jitter / 2;
                        let arrives = at.plus(MediaTime::from_duration(way).samples());
                        self.recogniser.line_began(utterance, &text, arrives);
                    }
                }
                LegEvent::PlayoutCut { utterance, samples, .. } => {
                    self.recogniser.line_cut(utterance, samples);
                }
                LegEvent::PlayoutFinished { utterance, .. } if self.up => {
                    self.phone.handle_said(self.now, utterance);
                }
                _ => {}
            }
        }
        any
    }

    fn far_end_hears(&mut self, signal: &Signal) {
        match signal.kind {
            SignalKind::Digit(digit) => self.log.keys.push(digit.as_char()),
            SignalKind::SpeechStart => self.heard_from = Some(signal.at),
            SignalKind::SpeechEnd => {
                self.log.heard.extend(self.heard_from.take().map(|from| from..signal.at));
            }
            _ => {}
        }
        if self.up {
            self.phone.handle_signal(self.now, signal);
        }
    }

    fn carry_out_phone(&mut self) {
        while let Some(action) = self.phone.poll_action() {
            self.note(&format!("far end: {action:?}"));
            match action {
                Action::Say { utterance, text } => {
                    let voice = voice::speak(&text, 1.5 * PITCH_HZ * self.scenario.pitch);
                    self.callee.say(utterance, true, &voice, true);
                    self.lines.insert(utterance, text);
                }
                Action::Beep { utterance, freq_hz, ms } => {
                    let mut samples = vec![0; (ms * MediaTime::HZ / 1000) as usize];
                    Tone::new(freq_hz, -12.0, Rate::Hz8000).fill(&mut samples);
                    self.callee.say(utterance, true, &samples, true);
                }
                Action::StopSaying { through } => {
                    self.callee.discard(|u| u <= through);
                    self.callee.leg.handle_command(self.now, LegCommand::Cut { through });
                }
                Action::StartRecording | Action::StopRecording => {}
                Action::HangUp => {
                    self.far_end_is_over();
                    let ended = DialogEvent::Ended { status: 200, by_remote: true, reason: "bye".into() };
                    self.later(SIGNALLING, News::Input(Input::Dialog(ended)));
                }
            }
        }
    }
}

/// One end of the media path.
struct End {
    leg: Leg,
    port: LegPort,
    waiting: VecDeque<Spoken>,
    /// The utterance being cut into frames, and its samples that do not fill one yet.
    framing: u32,
    rest: Vec<i16>,
    framed: u64,
    out: Link,
    sent: u64,
    vanishing: Range<u64>,
}

impl End {
    fn new(ids: &mut Ids, network: Conditions, listener: Box<dyn Listener>, vanishing: Range<u64>) -> Self {
        let mut cname = [0; 16];
        cname.copy_from_slice(ids.token().as_bytes());
        let session = SessionConfig {
            ssrc: ids.next_u32(),
            sequence: ids.next_u32() as u16,
            timestamp: ids.next_u32(),
            clock_hz: 8000,
            cname,
            ntp_epoch: 0,
        };
        let (leg, port) = leg(LegConfig {
            epoch: Instant::ZERO,
            session,
            codec: Codec::Pcmu,
            payload_type: 0,
            event_payload_type: Some(101),
            remote: None,
            remote_rtcp: None,
            listener,
            tap: false,
        });
        Self {
            leg,
            port,
            waiting: VecDeque::new(),
            framing: 0,
            rest: Vec::new(),
            framed: 0,
            out: Link::new(network, ids.next_u64()),
            sent: 0,
            vanishing,
        }
    }

    /// Appends audio to an utterance; frames that are not full wait for more, unless it is the last.
    fn say(&mut self, utterance: u32, protected: bool, samples: &[i16], last: bool) {
        if self.framing != utterance {
            self.framing = utterance;
            self.framed = 0;
            self.rest.clear();
        }
        self.rest.extend(samples);
        // One frame is held back, because the last one is marked.
        while self.rest.len() > FRAME || (last && !self.rest.is_empty()) {
            let taken = self.rest.len().min(FRAME);
            let at = MediaTime::from_samples(self.framed);
            let frame = Frame::from_samples(at, Rate::Hz8000, &self.rest[..taken]);
            self.rest.drain(..taken);
            self.framed += taken as u64;
            let last = last && self.rest.is_empty();
            self.waiting.push_back(Spoken { utterance, protected, last, frame });
        }
        if last && samples.is_empty() && self.framed == 0 {
            // An utterance without a sound still begins and ends.
            let frame = Frame::silence(MediaTime::ZERO, Rate::Hz8000);
            self.waiting.push_back(Spoken { utterance, protected, last, frame });
        }
    }

    fn discard(&mut self, which: impl Fn(u32) -> bool) {
        self.waiting.retain(|s| !which(s.utterance));
    }

    /// Lets the leg do what is due, and sends what it has to send.
    fn turn_over(&mut self, now: Instant) {
        while !self.port.playout.is_full()
            && let Some(spoken) = self.waiting.pop_front()
        {
            // Room was just seen, and only this side fills the ring.
            let _ = self.port.playout.push(spoken);
        }
        self.leg.handle_timeout(now);
        let mut datagram = [0; Leg::MAX_DATAGRAM];
        while let Some((n, _)) = self.leg.poll_transmit(&mut datagram) {
            if !self.vanishing.contains(&self.sent) {
                self.out.send(now, &datagram[..n]);
            }
            self.sent += 1;
        }
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("a constant")
}
