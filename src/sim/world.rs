//! Whole calls on a virtual clock: the call machine with its leg on one side, a scripted phone with its leg on the
//! other, a bad network in between, and fake backends with fixed delays. The same seed gives the same trace.
//!
//! Nothing here sleeps, allocates sockets or reads a clock: [`World::run`] always steps to the earliest thing that is
//! due. Signalling is reduced to its events; the SIP stack has simulations of its own.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::agent::{Delta, Request};
use crate::audio::{Frame, Tone};
use crate::call::io::{DialogEvent, Heard, Input, Output, Voiced};
use crate::call::outcome::Quality;
use crate::call::port::{LegCommand, LegEvent, Spoken};
use crate::call::{CallConfig, CallEvent, CallReport, Leg, LegConfig, LegPort, Machine, leg};
use crate::detect::{Chain, ChainConfig, VadModel};
use crate::rtp::SessionConfig;
use crate::sdp::Codec;
use crate::seed::Ids;
use crate::signal::{Signal, SignalKind};
use crate::sim::net::{Conditions, Link};
use crate::sim::voice;
use crate::sim::{Action, Answer, Phone, Scenario};
use crate::time::{Instant, MediaTime, Rate};
use crate::turn::SpokenWord;

/// How slow the fake backends are.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    /// From a request for final words to the words.
    pub recognition: Duration,
    /// From a request for a reply to its first piece.
    pub language: Duration,
    /// From a clause to its first audio.
    pub synthesis: Duration,
}

impl Default for Delays {
    /// 150 ms, 200 ms, 80 ms.
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { recognition: ms(150), language: ms(200), synthesis: ms(80) }
    }
}

/// What a world is made of.
pub struct WorldConfig {
    /// The call to be made.
    pub call: CallConfig,
    /// Who answers.
    pub scenario: Scenario,
    /// Both directions of the network.
    pub network: Conditions,
    /// The backends' delays.
    pub delays: Delays,
    /// The language model: a request in, the pieces of a reply out.
    pub model: Box<dyn FnMut(&Request) -> Vec<Delta>>,
    /// Voice activity of both ends.
    pub vad: VadModel,
    /// Seed for everything that is random.
    pub seed: u64,
}

/// How a simulated call went.
#[derive(Debug)]
pub struct Run {
    /// The machine's report.
    pub report: Box<CallReport>,
    /// Everything that happened, a line each, in order.
    pub trace: Vec<String>,
    /// The lines the far end spoke.
    pub said: Vec<String>,
    /// The keys the far end received.
    pub keys: String,
    /// How long the call took on the virtual clock.
    pub took: Duration,
}

/// Something of the agent's side that is due later.
#[derive(Debug)]
enum News {
    Input(Input),
    /// Audio of an utterance, ready to be played.
    Audio {
        utterance: u32,
        protected: bool,
        samples: Vec<i16>,
        last: bool,
    },
    FarEndAnswers,
}

/// One end of the media path.
struct End {
    leg: Leg,
    port: LegPort,
    waiting: VecDeque<Spoken>,
    out: Link,
}

/// A simulated call.
pub struct World {
    now: Instant,
    machine: Machine,
    phone: Phone,
    scenario: Scenario,
    agent: End,
    callee: End,
    delays: Delays,
    model: Box<dyn FnMut(&Request) -> Vec<Delta>>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    news: std::collections::BTreeMap<u64, News>,
    order: u64,
    up: bool,
    /// Lines of the far end that the recogniser has not turned into words yet, with where they began on our line.
    unheard: VecDeque<(MediaTime, String)>,
    /// Utterances whose audio is not wanted any more.
    cancelled: u32,
    cancelled_requests: u32,
    /// Text and samples of the utterance being voiced.
    voiced: (u32, usize, u64),
    keys: String,
    trace: Vec<String>,
    report: Option<Box<CallReport>>,
}

const AGENT: &str = "127.0.0.1:20000";
const CALLEE: &str = "127.0.0.1:30000";
/// A call that takes longer than this on the virtual clock is a bug of the machine, which has its own limits.
const TOO_LONG: Duration = Duration::from_secs(3600);

impl World {
    /// A world in which nothing has happened yet.
    #[must_use]
    pub fn new(config: WorldConfig) -> Self {
        let mut ids = Ids::from_number(config.seed);
        let agent = End::new(&mut ids, &config, address(CALLEE));
        let callee = End::new(&mut ids, &config, address(AGENT));
        Self {
            now: Instant::ZERO,
            machine: Machine::new(config.call),
            phone: Phone::new(config.scenario.clone()),
            scenario: config.scenario,
            agent,
            callee,
            delays: config.delays,
            model: config.model,
            queue: BinaryHeap::new(),
            news: std::collections::BTreeMap::new(),
            order: 0,
            up: false,
            unheard: VecDeque::new(),
            cancelled: 0,
            cancelled_requests: 0,
            voiced: (0, 0, 0),
            keys: String::new(),
            trace: Vec::new(),
            report: None,
        }
    }

    /// Runs the call to its end.
    ///
    /// # Panics
    /// When the call takes more than an hour: the machine's own limits are far below that.
    #[must_use]
    pub fn run(mut self) -> Run {
        self.dial();
        while self.report.is_none() {
            let next = self.next_due().expect("a call that is not over waits for something");
            self.now = self.now.max(next);
            assert!(
                self.now.since(Instant::ZERO) < TOO_LONG,
                "the call does not end:\n{}",
                self.trace.join("\n")
            );
            self.step();
        }
        Run {
            report: self.report.expect("the loop ended"),
            trace: self.trace,
            said: self.phone.said().to_vec(),
            keys: self.keys,
            took: self.now.since(Instant::ZERO),
        }
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

    fn next_due(&self) -> Option<Instant> {
        let queue = self.queue.peek().map(|Reverse((at, _))| *at);
        let phone = self.phone.poll_timeout().filter(|_| self.up);
        let arrivals = [self.agent.out.next_at(), self.callee.out.next_at()];
        let legs = [Some(self.agent.leg.next_deadline()), Some(self.callee.leg.next_deadline())];
        [queue, phone, self.machine.poll_timeout()].into_iter().chain(arrivals).chain(legs).flatten().min()
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
        self.carry_out_phone();
        self.agent.turn_over(self.now);
        self.callee.turn_over(self.now);
        self.hear_agent_leg();
        self.hear_callee_leg();
        self.carry_out_phone();
    }

    fn happen(&mut self, news: News) {
        match news {
            News::Input(Input::Reply { request, .. }) if request <= self.cancelled_requests => {}
            News::Input(input) => self.tell(input),
            News::FarEndAnswers => {
                let at = self.line();
                self.up = true;
                self.phone.start(self.now);
                self.tell(Input::Dialog(DialogEvent::Answered { at }));
            }
            News::Audio { utterance, .. } if utterance <= self.cancelled => {}
            News::Audio { utterance, protected, samples, last } => {
                self.agent.say(utterance, protected, &samples, last);
            }
        }
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
        self.trace.push(format!("{:?} {what}", self.now));
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
        if !matches!(output, Output::Ask { .. }) {
            self.note(&format!("> {output:?}"));
        }
        match output {
            Output::ListenUntil { utterance, at } => {
                let text = self.words_until(at);
                let heard = Heard::Final { utterance, text, words: Vec::new() };
                self.later(self.delays.recognition, News::Input(Input::Heard(heard)));
            }
            Output::Ask { request, body } => {
                let mut delay = self.delays.language;
                for delta in (self.model)(&body) {
                    self.later(delay, News::Input(Input::Reply { request, delta }));
                    delay += Duration::from_millis(20);
                }
            }
            Output::CancelAsk { request } => self.cancelled_requests = self.cancelled_requests.max(request),
            Output::Speak { utterance, text, protected, last } => {
                self.voice(utterance, &text, protected, last)
            }
            Output::CancelSpeak { utterance } => {
                self.cancelled = self.cancelled.max(utterance);
                self.agent.waiting.retain(|s| s.utterance > utterance);
            }
            Output::Leg(command) => self.agent.leg.handle_command(self.now, command),
            Output::HangUp => {
                let ended = DialogEvent::Ended { status: 200, by_remote: false, reason: "bye".into() };
                self.later(Duration::from_millis(30), News::Input(Input::Dialog(ended)));
            }
            Output::Event(CallEvent::Finalized(report)) => self.report = Some(report),
            _ => {}
        }
    }

    /// The lines of the far end that began before `at`, once.
    fn words_until(&mut self, at: MediaTime) -> String {
        let mut words = Vec::new();
        while let Some((start, _)) = self.unheard.front()
            && *start < at
        {
            words.extend(self.unheard.pop_front().map(|(_, text)| text));
        }
        words.join(" ")
    }

    fn voice(&mut self, utterance: u32, text: &str, protected: bool, last: bool) {
        if self.voiced.0 != utterance {
            self.voiced = (utterance, 0, 0);
        }
        let samples = if text.is_empty() { Vec::new() } else { voice::speak(text, 110.0) };
        self.voiced.1 += text.len();
        self.voiced.2 += samples.len() as u64;
        let (_, text_end, total) = self.voiced;
        let delay = self.delays.synthesis;
        self.later(delay, News::Audio { utterance, protected, samples, last });
        let words = vec![SpokenWord { text_end, end_sample: total }];
        self.later(delay, News::Input(Input::Voiced(Voiced::Progress { utterance, samples: total, words })));
        if last {
            self.later(delay, News::Input(Input::Voiced(Voiced::Finished { utterance, samples: total })));
        }
    }

    fn hear_agent_leg(&mut self) {
        while self.agent.port.heard.pop().is_some() {}
        while let Some(event) = self.agent.port.events.pop() {
            if let LegEvent::Stats(stats) = &event {
                let (packets_received, packets_lost) = (stats.packets_received, stats.packets_lost);
                let quality = Quality { packets_received, packets_lost, jitter_ms: stats.jitter_ms };
                self.tell(Input::Quality(quality));
            }
            self.tell(Input::Leg(event));
        }
    }

    fn hear_callee_leg(&mut self) {
        while self.callee.port.heard.pop().is_some() {}
        while let Some(event) = self.callee.port.events.pop() {
            match event {
                LegEvent::Signal(signal) => self.far_end_hears(&signal),
                LegEvent::PlayoutFinished { utterance, .. } => self.phone.handle_said(self.now, utterance),
                _ => {}
            }
        }
    }

    fn far_end_hears(&mut self, signal: &Signal) {
        if let SignalKind::Digit(digit) = signal.kind {
            self.keys.push(digit.as_char());
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
                    self.callee.say(utterance, true, &voice::speak(&text, 190.0), true);
                    self.unheard.push_back((self.line(), text));
                }
                Action::Beep { utterance, freq_hz, ms } => {
                    let mut samples = vec![0; (ms * MediaTime::HZ / 1000) as usize];
                    Tone::new(freq_hz, -12.0, Rate::Hz8000).fill(&mut samples);
                    self.callee.say(utterance, true, &samples, true);
                }
                Action::StopSaying { through } => {
                    self.callee.waiting.retain(|s| s.utterance > through);
                    self.callee.leg.handle_command(self.now, LegCommand::Cut { through });
                }
                Action::StartRecording | Action::StopRecording => {}
                Action::HangUp => {
                    self.up = false;
                    let ended = DialogEvent::Ended { status: 200, by_remote: true, reason: "bye".into() };
                    self.later(Duration::from_millis(20), News::Input(Input::Dialog(ended)));
                }
            }
        }
    }
}

impl End {
    fn new(ids: &mut Ids, config: &WorldConfig, remote: SocketAddr) -> Self {
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
            remote: Some(remote),
            remote_rtcp: None,
            listener: Box::new(Chain::new(&ChainConfig { vad: config.vad.clone() })),
            tap: false,
        });
        Self { leg, port, waiting: VecDeque::new(), out: Link::new(config.network, ids.next_u64()) }
    }

    fn say(&mut self, utterance: u32, protected: bool, samples: &[i16], last: bool) {
        let frames = samples.len().div_ceil(160).max(1);
        for n in 0..frames {
            let from = (n * 160).min(samples.len());
            let at = MediaTime::from_samples(from as u64);
            let frame =
                Frame::from_samples(at, Rate::Hz8000, &samples[from..(from + 160).min(samples.len())]);
            self.waiting.push_back(Spoken { utterance, protected, last: last && n + 1 == frames, frame });
        }
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
            self.out.send(now, &datagram[..n]);
        }
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("a constant")
}
