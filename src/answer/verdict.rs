//! Who answered: the classes of the API contract and a verdict with its evidence.

use serde::{Deserialize, Serialize};

use crate::time::MediaTime;

/// Who or what answered (API contract, `answered_by.class`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A person.
    Human,
    /// A mailbox or answering machine.
    Voicemail,
    /// A menu ("press one for …").
    Ivr,
    /// A call screener that asks who is calling and why.
    Screener,
    /// A fax machine or modem.
    Fax,
    /// An operator's announcement: the number is out of service, and the like.
    OperatorMessage,
    /// Nothing decided yet.
    #[default]
    Unknown,
}

impl Class {
    /// The name in the API contract.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Voicemail => "voicemail",
            Self::Ivr => "ivr",
            Self::Screener => "screener",
            Self::Fax => "fax",
            Self::OperatorMessage => "operator_message",
            Self::Unknown => "unknown",
        }
    }
}

/// A decision about who answered.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// The class decided for.
    pub class: Class,
    /// Confidence, 0 to 1.
    pub confidence: f32,
    /// Media time at which it was decided.
    pub decided: MediaTime,
    /// What it rests on, in words: `"phrase: leave a message"`, `"beep 1000 Hz"`, `"cadence: long greeting"`.
    pub evidence: Vec<String>,
    /// Whether the call should act on it; a verdict that is only a leaning says false.
    pub act: bool,
}
