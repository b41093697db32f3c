//! A stand-in until the answer machine proper is merged: a few phrases and the beep.

use std::collections::VecDeque;

use super::{Class, Verdict};
use crate::signal::{Signal, SignalKind};
use crate::time::MediaTime;

/// What the machine concludes.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerOutput {
    /// Who answered.
    Verdict(Verdict),
    /// A mailbox records from here.
    ReadyToRecord {
        /// Where the recording began.
        at: MediaTime,
        /// Whether a beep was heard.
        after_beep: bool,
    },
}

/// Who answered, from words and tones.
#[derive(Debug, Default)]
pub struct Machine {
    class: Class,
    out: VecDeque<AnswerOutput>,
}

impl Machine {
    /// A machine before the answer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The call was answered.
    pub fn handle_answered(&mut self, _at: MediaTime) {}

    /// Takes a detector's finding.
    pub fn handle_signal(&mut self, signal: &Signal) {
        if let (SignalKind::BeepEnd { .. }, Class::Voicemail) = (signal.kind, self.class) {
            self.out.push_back(AnswerOutput::ReadyToRecord { at: signal.at, after_beep: true });
        }
    }

    /// Takes words.
    pub fn handle_words(&mut self, text: &str, is_final: bool, _start: MediaTime, end: MediaTime) {
        let lower = text.to_lowercase();
        let class = if lower.contains("message") {
            Class::Voicemail
        } else if lower.contains("press ") {
            Class::Ivr
        } else if lower.contains("not in service") {
            Class::OperatorMessage
        } else if is_final && !text.is_empty() {
            Class::Human
        } else {
            return;
        };
        if class != self.class {
            self.class = class;
            self.out.push_back(AnswerOutput::Verdict(Verdict {
                class,
                confidence: 0.9,
                decided: end,
                evidence: vec![format!("phrase: {lower}")],
                act: true,
            }));
        }
    }

    /// Passes time.
    pub fn tick(&mut self, _now: MediaTime) {}

    /// The next conclusion.
    pub fn poll_output(&mut self) -> Option<AnswerOutput> {
        self.out.pop_front()
    }
}
