//! The conversation: prompt, tools, transcript, latency ledger.
mod briefing;
mod clauses;
mod conversation;
mod latency;
mod ledger;
mod model;
mod tools;
mod transcript;
pub use briefing::{DISCLOSURE, may_leave_message, system_prompt};
pub use clauses::ClauseSplitter;
pub use conversation::Conversation;
pub use latency::{Response, ResponseMarks};
pub use ledger::{Ledger, Said};
pub use model::{Briefing, Delta, Message, Request, Tool, ToolCall};
pub use tools::{Action, TaskAccount, ToolError, definitions, parse_call};
pub use transcript::{Role, ToolUse, Turn};
