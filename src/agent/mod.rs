//! The conversation: prompt, tools, transcript, latency ledger.
mod model;
mod transcript;
pub use model::{Briefing, Delta, Message, Request, Tool, ToolCall};
pub use transcript::{Role, ToolUse, Turn};
