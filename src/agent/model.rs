//! What the agent exchanges with a language model: provider-neutral messages, tools and deltas. Values only.

use serde::{Deserialize, Serialize};

/// One request for a reply: the whole conversation so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Standing instructions: who the agent is, the task, the rules.
    pub system: String,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// The tools the model may call now.
    pub tools: Vec<Tool>,
    /// The same facts as `system`, as data: for models that follow rules instead of prose.
    pub briefing: Briefing,
}

/// The facts of one call that a reply may depend on.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Briefing {
    /// What the caller asked for, in their words.
    pub task: String,
    /// The mandatory first words: an AI assistant calls, the call is recorded.
    pub disclosure: String,
    /// The caller's own greeting, spoken after the disclosure.
    pub greeting: Option<String>,
    /// A style wish.
    pub personality: Option<String>,
    /// Whether the task allows a message on voicemail.
    pub may_leave_message: bool,
    /// What answered, as far as known: `human`, `voicemail`, `ivr`, … (see [`crate::answer::Class`]).
    pub answered_by: String,
}

/// One turn of the conversation as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// What the far end said.
    User {
        /// Recognised words.
        text: String,
    },
    /// What we said: exactly what was sent before any cut.
    Assistant {
        /// The words that were heard.
        text: String,
        /// The tools called in that turn.
        tool_calls: Vec<ToolCall>,
    },
    /// What a tool gave back.
    Tool {
        /// The call it answers.
        id: String,
        /// The result in words.
        text: String,
    },
    /// News that nobody spoke: a beep was heard, the line is silent.
    Note {
        /// The news.
        text: String,
    },
}

/// A tool offered to the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Name as in the API contract: `send_dtmf`, `leave_voicemail`, `end_call`, `wait`.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its arguments, as text.
    pub parameters: String,
}

/// A tool call by the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The model's identifier for this call.
    pub id: String,
    /// Tool name.
    pub name: String,
    /// Arguments: a JSON object as text, as the model wrote it (not yet checked).
    pub arguments: String,
}

/// A piece of a reply as it streams in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delta {
    /// More words to say.
    Text(String),
    /// A whole tool call.
    ToolCall(ToolCall),
    /// The reply is complete.
    Done,
}
