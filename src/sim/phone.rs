//! A simulated callee: follows its [`Scenario`] by voice activity and digits, without understanding a word.
//!
//! Pure: signals and marks go in with the time, actions come out. The driver (`patchcord sim` over real SIP and RTP, or a
//! simulated world) speaks, beeps, records and hangs up for it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::signal::{Signal, SignalKind};
use crate::sim::scenario::{Scenario, Step};
use crate::time::Instant;

/// Being spoken over for this long stops an interruptible line.
const YIELD_AFTER: Duration = Duration::from_millis(500);
/// Steps carried out without anything happening on the line in between: more is a loop in the scenario.
const MAX_STEPS_AT_ONCE: usize = 64;

/// What the driver does for the phone.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Speak; answer with [`Phone::handle_said`] when the last sample is out.
    Say {
        /// Number of this line, rising; beeps count too.
        utterance: u32,
        /// The words.
        text: String,
    },
    /// Sound a tone; answer with [`Phone::handle_said`].
    Beep {
        /// Number of this line.
        utterance: u32,
        /// Frequency (Hz).
        freq_hz: f32,
        /// Length (ms).
        ms: u64,
    },
    /// Stop what is being said.
    StopSaying {
        /// The newest line to discard.
        through: u32,
    },
    /// Keep what is heard from now on.
    StartRecording,
    /// Close the mailbox file.
    StopRecording,
    /// End the call.
    HangUp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Saying {
        utterance: u32,
    },
    /// `spoken` since when the other side has had its turn, pauses between its sentences included.
    Listening {
        spoken: Option<Instant>,
    },
    InMenu,
    Recording {
        since: Instant,
    },
    Pausing,
    Over,
}

/// One call's worth of following a scenario. Call [`Phone::start`] at the answer.
#[derive(Debug)]
pub struct Phone {
    scenario: Scenario,
    next: usize,
    state: State,
    utterances: u32,
    /// Since when the other side has been speaking without a pause.
    speaking_since: Option<Instant>,
    quiet_since: Instant,
    deadline: Option<Instant>,
    /// A key pressed while the prompt was still being spoken.
    early_key: Option<char>,
    actions: VecDeque<Action>,
    said: Vec<String>,
}

impl Phone {
    /// A phone that will follow `scenario`, which has been checked.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        Self {
            scenario,
            next: 0,
            state: State::Idle,
            utterances: 0,
            speaking_since: None,
            quiet_since: Instant::ZERO,
            deadline: None,
            early_key: None,
            actions: VecDeque::new(),
            said: Vec::new(),
        }
    }

    /// The call was answered: the first step begins.
    pub fn start(&mut self, now: Instant) {
        self.quiet_since = now;
        self.advance(now);
    }

    /// The lines spoken so far, in order; one that was stopped counts.
    #[must_use]
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// Takes what the phone's own detectors heard of the other side.
    pub fn handle_signal(&mut self, now: Instant, signal: &Signal) {
        match signal.kind {
            SignalKind::SpeechStart => self.speaking_since = Some(now),
            SignalKind::SpeechEnd => {
                self.speaking_since = None;
                self.quiet_since = now;
            }
            SignalKind::Digit(digit) => self.handle_key(now, digit.as_char()),
            _ => return,
        }
        self.reconsider(now);
    }

    /// The last sample of a line (or tone) went out.
    pub fn handle_said(&mut self, now: Instant, utterance: u32) {
        if self.state == (State::Saying { utterance }) {
            self.advance(now);
        }
    }

    /// The time given by [`Phone::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.reconsider(now);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Phone::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let silence = |needed_ms: u64| {
            self.speaking_since.is_none().then(|| self.quiet_since + Duration::from_millis(needed_ms))
        };
        let soonest = match &self.state {
            State::Saying { .. } => {
                let yields = self.step().is_some_and(|s| s.interruptible);
                self.speaking_since.filter(|_| yields).map(|since| since + YIELD_AFTER)
            }
            State::Listening { spoken } => {
                let listen = self.step().and_then(|s| s.listen.as_ref());
                let silent = listen.filter(|_| spoken.is_some()).and_then(|l| silence(l.silence_ms));
                let patience =
                    listen.and_then(|l| l.interrupt_after_ms).filter(|_| self.speaking_since.is_some());
                let interrupt = patience.and_then(|ms| spoken.map(|since| since + Duration::from_millis(ms)));
                silent.into_iter().chain(interrupt).min()
            }
            State::Recording { .. } => {
                self.step().and_then(|s| s.record.as_ref()).and_then(|r| silence(r.silence_ms))
            }
            _ => None,
        };
        soonest.into_iter().chain(self.deadline).min()
    }

    /// The step being carried out.
    fn step(&self) -> Option<&Step> {
        self.scenario.steps.get(self.next.checked_sub(1)?)
    }

    fn handle_key(&mut self, now: Instant, key: char) {
        match self.state {
            State::InMenu => self.follow_key(now, key),
            State::Saying { utterance } if self.step().is_some_and(|s| s.interruptible) => {
                self.early_key = Some(key);
                self.actions.push_back(Action::StopSaying { through: utterance });
                self.advance(now);
            }
            _ => self.early_key = Some(key),
        }
    }

    fn follow_key(&mut self, now: Instant, key: char) {
        let Some(menu) = self.step().and_then(|s| s.menu.clone()) else { return };
        let label = menu.keys.get(&key).unwrap_or(&menu.otherwise);
        self.next = self.scenario.label(label).unwrap_or(self.scenario.steps.len());
        self.advance(now);
    }

    /// Checks whether what the current step waits for has come.
    fn reconsider(&mut self, now: Instant) {
        let expired = self.deadline.is_some_and(|d| now >= d);
        let quiet = |ms: u64| {
            self.speaking_since.is_none() && now.since(self.quiet_since) >= Duration::from_millis(ms)
        };
        match self.state.clone() {
            State::Saying { utterance } => {
                let over = self.speaking_since.is_some_and(|since| now.since(since) >= YIELD_AFTER);
                if over && self.step().is_some_and(|s| s.interruptible) {
                    self.actions.push_back(Action::StopSaying { through: utterance });
                    self.advance(now);
                }
            }
            State::Listening { spoken } => {
                let Some(listen) = self.step().and_then(|s| s.listen.clone()) else { return };
                let spoken = spoken.or_else(|| self.speaking_since.map(|_| now));
                let interrupts = self.speaking_since.is_some()
                    && listen
                        .interrupt_after_ms
                        .zip(spoken)
                        .is_some_and(|(ms, since)| now.since(since) >= Duration::from_millis(ms));
                if expired || interrupts || (spoken.is_some() && quiet(listen.silence_ms)) {
                    self.advance(now);
                } else {
                    self.state = State::Listening { spoken };
                }
            }
            State::InMenu if expired => self.follow_key(now, '?'),
            State::Recording { since } => {
                let Some(record) = self.step().and_then(|s| s.record.clone()) else { return };
                let started = now.since(since) >= Duration::from_millis(record.silence_ms);
                if expired || (started && quiet(record.silence_ms)) {
                    self.actions.push_back(Action::StopRecording);
                    self.advance(now);
                }
            }
            State::Pausing if expired => self.advance(now),
            _ => {}
        }
    }

    /// Carries out steps until one has to wait for the line.
    fn advance(&mut self, now: Instant) {
        self.deadline = None;
        for _ in 0..MAX_STEPS_AT_ONCE {
            let Some(step) = self.scenario.steps.get(self.next).cloned() else { break };
            self.next += 1;
            if let Some(label) = &step.goto {
                self.next = self.scenario.label(label).unwrap_or(self.scenario.steps.len());
                continue;
            }
            if step.hang_up == Some(true) {
                break;
            }
            if self.begin(now, &step) {
                return;
            }
        }
        self.state = State::Over;
        self.actions.push_back(Action::HangUp);
    }

    /// Begins a step; false when it is over at once.
    fn begin(&mut self, now: Instant, step: &Step) -> bool {
        let within = |ms: u64| Some(now + Duration::from_millis(ms));
        if let Some(text) = &step.say {
            self.utterances += 1;
            self.said.push(text.clone());
            self.actions.push_back(Action::Say { utterance: self.utterances, text: text.clone() });
            self.state = State::Saying { utterance: self.utterances };
        } else if let Some(beep) = &step.beep {
            self.utterances += 1;
            let action = Action::Beep { utterance: self.utterances, freq_hz: beep.freq_hz, ms: beep.ms };
            self.actions.push_back(action);
            self.state = State::Saying { utterance: self.utterances };
        } else if let Some(listen) = &step.listen {
            // Speech that is already under way counts as this turn, from now on.
            self.state = State::Listening { spoken: self.speaking_since.map(|_| now) };
            self.deadline = within(listen.timeout_ms);
        } else if let Some(menu) = &step.menu {
            self.state = State::InMenu;
            self.deadline = within(menu.timeout_ms);
            if let Some(key) = self.early_key.take() {
                self.follow_key(now, key);
            }
        } else if let Some(record) = &step.record {
            self.actions.push_back(Action::StartRecording);
            self.quiet_since = now;
            self.state = State::Recording { since: now };
            self.deadline = within(record.max_ms);
        } else if let Some(ms) = step.pause_ms {
            self.state = State::Pausing;
            self.deadline = within(ms);
        } else {
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Digit;
    use crate::sim::scenario::{Answer, Listen, Menu, Record};
    use crate::time::MediaTime;

    fn scenario(steps: Vec<Step>) -> Scenario {
        let scenario = Scenario {
            name: "test".into(),
            summary: String::new(),
            number: "+12025550100".into(),
            expect: "completed".into(),
            task: String::new(),
            pitch: 1.0,
            answer: Answer::AfterMs(0),
            steps,
        };
        scenario.check().expect("a valid scenario");
        scenario
    }

    fn say(text: &str) -> Step {
        Step { say: Some(text.into()), interruptible: true, ..Step::default() }
    }

    fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn signal(kind: SignalKind) -> Signal {
        Signal { at: MediaTime::ZERO, decided: MediaTime::ZERO, kind }
    }

    fn actions(phone: &mut Phone) -> Vec<Action> {
        std::iter::from_fn(|| phone.poll_action()).collect()
    }

    #[test]
    fn it_speaks_listens_for_a_turn_and_hangs_up_at_the_end() {
        let listen = Listen { silence_ms: 800, timeout_ms: 9000, interrupt_after_ms: None };
        let mut phone =
            Phone::new(scenario(vec![say("Hello?"), Step { listen: Some(listen), ..Step::default() }]));
        phone.start(ms(0));
        assert_eq!(actions(&mut phone), [Action::Say { utterance: 1, text: "Hello?".into() }]);
        phone.handle_said(ms(600), 1);
        phone.handle_signal(ms(1000), &signal(SignalKind::SpeechStart));
        phone.handle_signal(ms(3000), &signal(SignalKind::SpeechEnd));
        assert_eq!(phone.poll_timeout(), Some(ms(3800)));
        phone.handle_timeout(ms(3799));
        assert_eq!(actions(&mut phone), []);
        phone.handle_timeout(ms(3800));
        assert_eq!(actions(&mut phone), [Action::HangUp]);
    }

    #[test]
    fn it_interrupts_once_the_other_side_has_spoken_long_enough() {
        let listen = Listen { silence_ms: 800, timeout_ms: 9000, interrupt_after_ms: Some(2000) };
        let mut phone =
            Phone::new(scenario(vec![Step { listen: Some(listen), ..Step::default() }, say("Who is this?")]));
        phone.start(ms(0));
        phone.handle_signal(ms(1000), &signal(SignalKind::SpeechStart));
        // A pause between two sentences is part of the turn, and nobody interrupts a pause.
        phone.handle_signal(ms(1500), &signal(SignalKind::SpeechEnd));
        phone.handle_signal(ms(1900), &signal(SignalKind::SpeechStart));
        assert_eq!(phone.poll_timeout(), Some(ms(3000)));
        phone.handle_timeout(ms(3000));
        assert_eq!(actions(&mut phone), [Action::Say { utterance: 1, text: "Who is this?".into() }]);
    }

    #[test]
    fn it_yields_when_spoken_over_for_half_a_second() {
        let mut phone = Phone::new(scenario(vec![say("A long line"), say("Next")]));
        phone.start(ms(0));
        phone.handle_signal(ms(100), &signal(SignalKind::SpeechStart));
        phone.handle_timeout(ms(600));
        let all = actions(&mut phone);
        assert_eq!(all[1], Action::StopSaying { through: 1 });
        assert_eq!(all[2], Action::Say { utterance: 2, text: "Next".into() });
    }

    #[test]
    fn a_line_that_does_not_yield_waits_for_nothing() {
        let mut phone = Phone::new(scenario(vec![Step { interruptible: false, ..say("A long line") }]));
        phone.start(ms(0));
        phone.handle_signal(ms(100), &signal(SignalKind::SpeechStart));
        assert_eq!(phone.poll_timeout(), None, "or its driver would wake for nothing, for ever");
        phone.handle_timeout(ms(700));
        assert_eq!(actions(&mut phone).len(), 1);
    }

    #[test]
    fn a_key_stops_the_prompt_and_leads_where_the_menu_says() {
        let menu =
            Menu { keys: [('2', "desk".to_owned())].into(), timeout_ms: 5000, otherwise: "prompt".into() };
        let steps = vec![
            Step { label: Some("prompt".into()), ..say("Press two.") },
            Step { menu: Some(menu), ..Step::default() },
            Step { label: Some("desk".into()), ..say("Front desk.") },
        ];
        let mut phone = Phone::new(scenario(steps.clone()));
        phone.start(ms(0));
        phone.handle_signal(ms(500), &signal(SignalKind::Digit(Digit::from_char('2').expect("a key"))));
        let all = actions(&mut phone);
        assert_eq!(all.last(), Some(&Action::Say { utterance: 2, text: "Front desk.".into() }), "{all:?}");
        let mut phone = Phone::new(scenario(steps));
        phone.start(ms(0));
        phone.handle_said(ms(1000), 1);
        phone.handle_timeout(ms(6000));
        let all = actions(&mut phone);
        assert_eq!(
            all.last(),
            Some(&Action::Say { utterance: 2, text: "Press two.".into() }),
            "repeated: {all:?}"
        );
    }

    #[test]
    fn a_recording_ends_after_silence() {
        let record = Record { silence_ms: 3000, max_ms: 60_000 };
        let mut phone = Phone::new(scenario(vec![Step { record: Some(record), ..Step::default() }]));
        phone.start(ms(0));
        phone.handle_signal(ms(1000), &signal(SignalKind::SpeechStart));
        phone.handle_timeout(ms(5000));
        phone.handle_signal(ms(6000), &signal(SignalKind::SpeechEnd));
        phone.handle_timeout(ms(8000));
        assert_eq!(actions(&mut phone), [Action::StartRecording]);
        phone.handle_timeout(ms(9000));
        assert_eq!(actions(&mut phone), [Action::StopRecording, Action::HangUp]);
    }

    #[test]
    fn a_loop_without_waiting_ends_the_call() {
        let mut phone = Phone::new(scenario(vec![Step {
            label: Some("a".into()),
            goto: Some("a".into()),
            ..Step::default()
        }]));
        phone.start(ms(0));
        assert_eq!(actions(&mut phone), [Action::HangUp]);
    }

    #[test]
    fn mistakes_are_named_by_step() {
        let mut wrong = scenario(vec![say("a")]);
        wrong.steps.push(Step { goto: Some("nowhere".into()), ..Step::default() });
        assert_eq!(
            wrong.check().expect_err("no such label").to_string(),
            "scenario `test`, step 2: label `nowhere` is not in this scenario"
        );
        wrong.steps[1] = Step::default();
        assert!(wrong.check().expect_err("no action").to_string().contains("no action"));
    }
}
