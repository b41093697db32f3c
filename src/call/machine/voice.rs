//! Our voice: what is handed to the synthesiser, what the leg says was sent, and how it is cut.

use std::time::Duration;

use super::timers::Timer;
use super::{Machine, Next, Phase};
use crate::agent::{DISCLOSURE, Response, Role, Said, Turn};
use crate::call::io::{Output, Voiced};
use crate::call::outcome::{HangupSource, Outcome, ResponseLatency};
use crate::call::port::{LegCommand, LegEvent};

/// How long the leg's account of a cut is waited for.
const SETTLE: Duration = Duration::from_millis(250);
/// After so many cuts the mandatory words are spoken protected.
const UNPROTECTED_DISCLOSURES: u32 = 2;
/// Failures of the synthesiser in a row that end the call.
const MAX_VOICE_FAILURES: u32 = 2;

impl Machine {
    /// Begins an utterance, with the mandatory first words where they are still due. `None` when these have been
    /// talked over so often that they are now spoken protected and alone: what follows waits for their end.
    pub(super) fn begin_utterance(&mut self) -> Option<u32> {
        if self.disclosed || self.ledger.is_disclosing() {
            return Some(self.number_utterance(0, false));
        }
        self.disclosures += 1;
        let protected = self.disclosures > UNPROTECTED_DISCLOSURES;
        let utterance = self.number_utterance(DISCLOSURE.len(), protected);
        let words = self.first_words();
        self.speak(utterance, words, protected, protected);
        (!protected).then_some(utterance)
    }

    /// The mandatory first words and the caller's greeting.
    pub(super) fn first_words(&self) -> String {
        match &self.talk.briefing().greeting {
            Some(greeting) => format!("{DISCLOSURE} {}", greeting.trim()),
            None => DISCLOSURE.to_owned(),
        }
    }

    /// Speaks a line of our own as an utterance by itself.
    pub(super) fn say_line(&mut self, line: &str) {
        self.close_reply_utterance();
        let utterance = match self.begin_utterance() {
            Some(utterance) => utterance,
            None => self.number_utterance(0, false),
        };
        self.continue_utterance(utterance, line, true);
    }

    /// Speaks a mailbox message, mandatory words first, protected. Returns its utterance.
    pub(super) fn say_message(&mut self, message: &str) -> u32 {
        let utterance = self.number_utterance(DISCLOSURE.len(), true);
        self.speak(utterance, format!("{DISCLOSURE} {message}"), true, true);
        utterance
    }

    /// Adds a clause to an utterance, with the space between them where one is missing.
    pub(super) fn continue_utterance(&mut self, utterance: u32, clause: &str, last: bool) {
        let clause = clause.trim();
        let gap = if clause.is_empty() || self.ledger.is_blank(utterance) { "" } else { " " };
        self.speak(utterance, format!("{gap}{clause}"), false, last);
    }

    fn number_utterance(&mut self, disclosure: usize, protected: bool) -> u32 {
        let utterance = self.next_utterance;
        self.next_utterance += 1;
        self.ledger.begin(utterance, disclosure, protected);
        utterance
    }

    fn speak(&mut self, utterance: u32, text: String, protected: bool, last: bool) {
        self.ledger.append(utterance, &text, last);
        if let (Some(marks), None) = (&mut self.marks, self.marked)
            && !text.is_empty()
        {
            marks.clause = Some(self.line);
            self.marked = Some(utterance);
        }
        self.timers.set(Timer::Voice, self.now + self.config.voice_limit);
        self.out.push_back(Output::Speak { utterance, text, protected, last });
    }

    /// Gives the floor to the callee: our voice stops, unless what it says is protected.
    pub(super) fn yield_floor(&mut self) {
        if self.ledger.is_protected() {
            self.cancel_reply();
        } else {
            self.cut_voice();
        }
    }

    /// Stops our voice for good, and the reply that would have gone on.
    pub(super) fn cut_voice(&mut self) {
        self.cancel_reply();
        self.turn.handle_playout_over();
        let cut = self.ledger.mark_cut();
        self.discard(&cut);
    }

    fn discard(&mut self, utterances: &[u32]) {
        for &utterance in utterances {
            self.out.push_back(Output::CancelSpeak { utterance });
        }
        if let Some(&through) = utterances.last() {
            self.leg(LegCommand::Cut { through });
            self.timers.clear(Timer::Voice);
            self.timers.set(Timer::Settle, self.now + SETTLE);
        }
    }

    /// The callee began to speak before the first sample of the reply went out: take it back.
    pub(super) fn recall_reply(&mut self) {
        let Some(utterance) = self.reply.as_ref().and_then(|r| r.utterance) else { return };
        if self.phase != Phase::Talking {
            return;
        }
        let Some(text) = self.ledger.recall(utterance) else { return };
        let first_words = self.first_words();
        let rest = match text.strip_prefix(&first_words) {
            Some(rest) => {
                self.disclosures -= 1;
                rest
            }
            None => &text,
        };
        if let Some(reply) = &mut self.reply {
            reply.take_back(rest.trim());
        }
        if let (Some(marks), true) = (&mut self.marks, self.marked == Some(utterance)) {
            (marks.clause, marks.audio) = (None, None);
            self.marked = None;
        }
        self.discard(&[utterance]);
    }

    /// News of the playout from the leg.
    pub(super) fn on_playout(&mut self, event: LegEvent) {
        self.touch_voice();
        match event {
            LegEvent::PlayoutStarted { utterance, at } => {
                let news = self.ledger.started(utterance, at);
                if news && self.marked == Some(utterance) {
                    self.on_response_sent(at);
                }
            }
            LegEvent::Played { utterance, samples, at } => self.ledger.played(utterance, samples, at),
            LegEvent::PlayoutPaused { utterance, samples, at, speech } => {
                self.ledger.played(utterance, samples, at);
                let floor_is_ours = matches!(self.phase, Phase::Ending | Phase::Mailbox);
                if floor_is_ours {
                    self.leg(LegCommand::Resume);
                } else if matches!(self.phase, Phase::Talking | Phase::Opening) {
                    self.turn.handle_paused(self.now, self.line, utterance, speech, at);
                }
            }
            LegEvent::PlayoutFinished { utterance, samples, at } => {
                self.voice_failures = 0;
                if let Some(said) = self.ledger.finished(utterance, samples, at) {
                    self.on_said(said);
                }
            }
            LegEvent::PlayoutCut { utterance, samples, at } => {
                if let Some(said) = self.ledger.cut(utterance, samples, at) {
                    self.on_said(said);
                }
            }
            _ => {}
        }
    }

    /// News from the synthesiser.
    pub(super) fn on_voiced(&mut self, voiced: Voiced) {
        match voiced {
            Voiced::Progress { utterance, samples, words } => {
                self.touch_voice();
                if let (Some(marks), true) = (&mut self.marks, self.marked == Some(utterance)) {
                    marks.audio.get_or_insert(self.line);
                }
                self.ledger.voiced(utterance, samples, words, false);
            }
            Voiced::Finished { utterance, samples } => {
                self.touch_voice();
                self.ledger.voiced(utterance, samples, Vec::new(), true);
            }
            Voiced::Failed { utterance, reason } => {
                if self.ledger.contains(utterance) {
                    self.moment("synthesis_failed", self.line, None, Some(reason));
                    self.on_voice_failed();
                }
            }
        }
    }

    /// Our voice cannot go on: what is left of it is lost.
    pub(super) fn on_voice_failed(&mut self) {
        if self.turn.is_paused() || !self.ledger.is_speaking() {
            return;
        }
        self.voice_failures += 1;
        let ending = self.phase == Phase::Ending;
        self.cut_voice();
        if self.voice_failures >= MAX_VOICE_FAILURES && !ending {
            self.ending = None;
            self.hang_up(HangupSource::System, Some(Outcome::SystemError));
        } else if !self.retry_message() && self.phase == Phase::Talking {
            self.next = Some(Next::Ask);
        }
    }

    fn touch_voice(&mut self) {
        if self.timers.is_set(Timer::Voice) {
            self.timers.set(Timer::Voice, self.now + self.config.voice_limit);
        }
    }

    /// The leg owes the account of a cut no longer.
    pub(super) fn settle_cut(&mut self) {
        for said in self.ledger.settle(true) {
            self.on_said(said);
        }
    }

    /// An utterance is over, and what was sent of it is certain.
    pub(super) fn on_said(&mut self, said: Said) {
        self.disclosed |= said.disclosed;
        if self.marked == Some(said.utterance) {
            self.marked = None;
            self.marks = None;
        }
        if !self.ledger.is_speaking() {
            self.timers.clear(Timer::Voice);
        }
        if !self.ledger.is_unsettled() {
            self.timers.clear(Timer::Settle);
        }
        let Some(start) = said.start else { return };
        self.moment("agent_speech", start, Some(said.end), None);
        if said.text.is_empty() {
            return;
        }
        self.talk.said(&said.text, Vec::new());
        self.record(Turn {
            role: Role::Assistant,
            text: said.text,
            start,
            end: said.end,
            interrupted: said.interrupted,
            tool: None,
        });
    }

    fn on_response_sent(&mut self, at: crate::time::MediaTime) {
        self.marked = None;
        let Some(marks) = self.marks.take() else { return };
        let Response { endpointing_ms, recognition_ms, language_ms, synthesis_ms, engine_ms, total_ms } =
            marks.sent(at);
        self.latency.response_ms.push(total_ms);
        self.latency.engine_ms.push(engine_ms);
        self.latency.turns.push(ResponseLatency {
            endpointing_ms,
            recognition_ms,
            language_ms,
            synthesis_ms,
            engine_ms,
            total_ms,
        });
    }
}
