//! The record of who said what, and when it was on the line.

use serde::{Deserialize, Serialize};

use crate::time::MediaTime;

/// Who spoke.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Our agent.
    Assistant,
    /// The far end.
    User,
    /// Neither: a tool's doing, or a fact about the call.
    System,
}

/// One turn of a transcript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Who spoke.
    pub role: Role,
    /// The words: recognised, or exactly what was sent before any cut.
    pub text: String,
    /// First sample on the call's timeline.
    pub start: MediaTime,
    /// Last sample on the call's timeline.
    pub end: MediaTime,
    /// Whether the speaker was cut off.
    pub interrupted: bool,
    /// The tool this turn records, if it records one.
    pub tool: Option<ToolUse>,
}

impl Turn {
    /// The same turn with its times counted from `origin`; not before it.
    #[must_use]
    pub fn counted_from(mut self, origin: MediaTime) -> Self {
        self.start = self.start.minus(origin.samples());
        self.end = self.end.minus(origin.samples());
        self
    }
}

/// A tool as it shows in the transcript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolUse {
    /// Tool name.
    pub name: String,
    /// Checked arguments, a JSON object as text.
    pub arguments: String,
}
