//! How a call is set up and how it ends: signalling, hanging up, the report.

use super::cause::{cause_of, outcome_of};
use super::timers::Timer;
use super::{Machine, Next, Phase};
use crate::answer::{Class, Verdict};
use crate::call::event::{CallEvent, Lifecycle};
use crate::call::io::Output;
use crate::call::outcome::{CallReport, HangupSource, Outcome};
use crate::call::port::LegCommand;
use crate::signal::{Signal, SignalKind};
use crate::time::MediaTime;

/// Why the call is over, as far as it is known before the report.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    /// The network's result where it does not follow from who answered.
    outcome: Option<Outcome>,
    source: HangupSource,
    status: u16,
    cause: &'static str,
}

impl Machine {
    pub(super) fn on_answered(&mut self, at: MediaTime) {
        if self.phase == Phase::Closing && self.answered_at.is_none() && !self.dialog_over {
            // The answer crossed our CANCEL: the dialog exists now and wants a BYE.
            self.out.push_back(Output::HangUp);
        }
        if self.phase != Phase::Setup {
            return;
        }
        self.phase = Phase::Opening;
        self.answered_at = Some(at);
        self.line = self.line.max(at);
        self.timers.clear_all();
        self.timers.set(Timer::MaxDuration, self.now + self.config.max_duration);
        self.timers.set(Timer::Gate, self.now + self.config.opening_silence);
        self.timers.set(Timer::OpeningLimit, self.now + self.config.opening_limit);
        self.pass_answer_time();
        self.tell(CallEvent::Lifecycle(Lifecycle::Answered));
        self.moment("answered", at, None, None);
        self.leg(LegCommand::PauseOnSpeech(true));
        self.answer.handle_answered(at);
        if self.turn.is_starved() {
            let signal = Signal { at, decided: at, kind: SignalKind::Starved };
            self.answer.handle_signal(&signal);
        }
        if self.voice_from.is_some() {
            // A voice in early media goes on: its turn begins with the answer.
            self.voice_from = Some(at);
            let signal = Signal { at, decided: at, kind: SignalKind::SpeechStart };
            self.answer.handle_signal(&signal);
            self.turn.handle_signal(self.now, self.line, &signal);
        }
    }

    pub(super) fn on_ended(&mut self, status: u16, by_remote: bool, reason: &str) {
        self.dialog_over = true;
        if self.phase == Phase::Closing {
            if let (Some(ending), None) = (&mut self.ending, self.answered_at) {
                ending.status = if status == 200 { 487 } else { status };
            }
            return;
        }
        let answered = self.answered_at.is_some();
        let source = if by_remote { HangupSource::Callee } else { HangupSource::System };
        let outcome = match (answered, by_remote) {
            (true, false) => Some(Outcome::NetworkError),
            (true, true) => None,
            (false, _) => Some(outcome_of(status, !by_remote, self.ringing)),
        };
        self.ending.get_or_insert_with(|| Ending { outcome, source, status, cause: cause_of(status) });
        if !answered {
            self.moment("refused", self.line, None, Some(format!("{status} {reason}")));
        }
        self.close(false);
    }

    pub(super) fn on_ring_timeout(&mut self) {
        if self.phase == Phase::Setup {
            let outcome = Some(Outcome::NoAnswer);
            self.ending =
                Some(Ending { outcome, source: HangupSource::System, status: 487, cause: "no_answer" });
            self.close(true);
        }
    }

    pub(super) fn on_hang_up(&mut self, source: HangupSource) {
        if matches!(self.phase, Phase::Closing | Phase::Done) {
            return;
        }
        if self.answered_at.is_none() {
            let outcome = Some(Outcome::Cancelled);
            self.ending = Some(Ending { outcome, source, status: 487, cause: cause_of(487) });
            self.close(true);
        } else {
            self.hang_up(source, None);
        }
    }

    /// Ends an answered call now, without another word.
    pub(super) fn hang_up(&mut self, source: HangupSource, outcome: Option<Outcome>) {
        self.will_end(source, outcome);
        self.close(true);
    }

    /// Notes why the call is about to end. The first reason stands.
    pub(super) fn will_end(&mut self, source: HangupSource, outcome: Option<Outcome>) {
        self.ending.get_or_insert(Ending { outcome, source, status: 200, cause: cause_of(200) });
    }

    /// Ends the call once everything said so far, and perhaps `last_words`, was played to its end.
    pub(super) fn end_after_speech(
        &mut self,
        source: HangupSource,
        outcome: Option<Outcome>,
        last_words: Option<&str>,
    ) {
        if matches!(self.phase, Phase::Setup | Phase::Ending | Phase::Closing | Phase::Done) {
            return;
        }
        self.will_end(source, outcome);
        self.phase = Phase::Ending;
        self.leg(LegCommand::PauseOnSpeech(false));
        if self.turn.is_paused() {
            self.turn.handle_playout_over();
            self.leg(LegCommand::Resume);
        }
        self.next = Some(Next::HangUp);
        self.timers.set(Timer::Goodbye, self.now + self.config.opening_limit);
        if let Some(words) = last_words {
            // What is being spoken of a reply that is given up ends where it is.
            self.close_reply_utterance();
            self.cancel_reply();
            self.say_line(words);
        }
    }

    pub(super) fn on_leg_closed(&mut self, at: MediaTime) {
        self.leg_over = true;
        self.line = self.line.max(at);
        if !matches!(self.phase, Phase::Closing | Phase::Done) {
            let (outcome, source) = (Some(Outcome::NetworkError), HangupSource::System);
            let status = if self.answered_at.is_some() { 200 } else { 487 };
            self.ending.get_or_insert(Ending { outcome, source, status, cause: "network_out_of_order" });
            self.close(true);
        }
    }

    /// Lets go of everything; with `hang_up` the dialog too.
    pub(super) fn close(&mut self, hang_up: bool) {
        if matches!(self.phase, Phase::Closing | Phase::Done) {
            return;
        }
        self.will_end(HangupSource::System, None);
        self.ended_at = Some(self.line);
        self.cut_voice();
        self.timers.clear_all();
        self.next = None;
        self.pressing = None;
        self.waiting = None;
        self.phase = Phase::Closing;
        self.turn.handle_call_over(self.now, self.line);
        if !self.leg_over {
            self.leg(LegCommand::Stop);
        }
        if hang_up && !self.dialog_over {
            self.out.push_back(Output::HangUp);
        }
        self.timers.set(Timer::Closing, self.now + self.config.closing_limit);
    }

    pub(super) fn try_finalize(&mut self) {
        let quiet = self.dialog_over && self.leg_over && !self.turn.in_turn();
        if self.phase == Phase::Closing && quiet {
            self.finalize();
        }
    }

    /// Writes the report: the machine's last act.
    pub(super) fn finalize(&mut self) {
        for said in self.ledger.settle(false) {
            self.on_said(said);
        }
        self.phase = Phase::Done;
        self.timers.clear_all();
        if let Some(from) = self.starved_from.take() {
            self.moment("starved", from, self.ended_at, None);
        }
        self.events.sort_by_key(|e| e.at);
        let ending = self.ending.clone().expect("close() notes why");
        let talk_samples = match (self.answered_at, self.ended_at) {
            (Some(answered), Some(ended)) => ended.since(answered),
            _ => 0,
        };
        let report = CallReport {
            outcome: ending.outcome.unwrap_or_else(|| self.outcome_by_answer()),
            hangup_cause: ending.cause.to_owned(),
            sip_status: ending.status,
            hangup_source: ending.source,
            answered_by: self.verdict.clone(),
            task_result: self.task_result.clone(),
            transcript: self.talk.turns().to_vec(),
            answered_at: self.answered_at,
            talk_samples,
            latency: self.latency.clone(),
            quality: self.quality,
            events: self.events.clone(),
        };
        self.report = Some(Box::new(report.clone().counted_from(self.answered_at.unwrap_or_default())));
        self.tell(CallEvent::Finalized(Box::new(report)));
    }

    fn outcome_by_answer(&self) -> Outcome {
        match self.verdict.class {
            _ if self.mailbox.entered => Outcome::VoicemailDetected,
            Class::Voicemail if self.verdict.act => Outcome::VoicemailDetected,
            Class::Fax if self.verdict.act => Outcome::Failed,
            Class::OperatorMessage if self.verdict.act => outcome_of_announcement(&self.verdict),
            _ => Outcome::Completed,
        }
    }
}

/// What an operator's announcement means, by what was heard of it.
pub(super) fn outcome_of_announcement(verdict: &Verdict) -> Outcome {
    const INVALID: &[&str] = &[
        "not in service",
        "no longer in service",
        "disconnected",
        "not a working number",
        "not been assigned",
        "does not exist",
        "not valid",
        "invalid",
        "check the number",
        "cannot be completed as dialed",
        "changed",
        "vacant",
        "intercept",
    ];
    let invalid = verdict.evidence.iter().any(|e| {
        let e = e.to_lowercase();
        INVALID.iter().any(|phrase| e.contains(phrase))
    });
    if invalid { Outcome::InvalidNumber } else { Outcome::Unreachable }
}
