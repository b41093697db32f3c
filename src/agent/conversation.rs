//! The conversation so far, in the two forms it is needed: messages for the model, turns for the record.
//!
//! In: what was heard, what was sent, what tools did, each when it is certain. Out: a [`Request`] for the next reply,
//! and the transcript.

use super::briefing::system_prompt;
use super::model::{Briefing, Message, Request, ToolCall};
use super::tools::definitions;
use super::transcript::Turn;

/// The most messages a model is shown; older ones are left out of the request.
const MAX_MESSAGES: usize = 160;
/// The most turns a transcript holds: a turn a second for an hour.
const MAX_TURNS: usize = 3600;

/// The conversation of one call.
#[derive(Clone, Debug)]
pub struct Conversation {
    briefing: Briefing,
    messages: Vec<Message>,
    turns: Vec<Turn>,
}

impl Conversation {
    /// An empty conversation.
    #[must_use]
    pub const fn new(briefing: Briefing) -> Self {
        Self { briefing, messages: Vec::new(), turns: Vec::new() }
    }

    /// Adds what the far end said.
    pub fn heard(&mut self, text: &str) {
        self.messages.push(Message::User { text: text.to_owned() });
    }

    /// Adds what we said, as far as it was sent, with the tools called in that reply. Nothing said and no tool adds
    /// nothing.
    pub fn said(&mut self, text: &str, tool_calls: Vec<ToolCall>) {
        if !text.is_empty() || !tool_calls.is_empty() {
            self.messages.push(Message::Assistant { text: text.to_owned(), tool_calls });
        }
    }

    /// Adds a tool's result.
    pub fn tool_result(&mut self, call: &ToolCall, text: &str) {
        self.messages.push(Message::Tool { id: call.id.clone(), text: text.to_owned() });
    }

    /// Adds news that nobody spoke.
    pub fn note(&mut self, text: &str) {
        self.messages.push(Message::Note { text: text.to_owned() });
    }

    /// Adds a turn to the record, in the order of their beginnings.
    pub fn record(&mut self, turn: Turn) {
        if self.turns.len() < MAX_TURNS {
            let at = self.turns.partition_point(|t| t.start <= turn.start);
            self.turns.insert(at, turn);
        }
    }

    /// The record so far.
    #[must_use]
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// The facts of the call.
    #[must_use]
    pub const fn briefing(&self) -> &Briefing {
        &self.briefing
    }

    /// Notes what answered; later requests say so.
    pub fn answered_by(&mut self, class: &str) {
        class.clone_into(&mut self.briefing.answered_by);
    }

    /// A request for the next reply.
    #[must_use]
    pub fn request(&self) -> Request {
        let mut from = self.messages.len().saturating_sub(MAX_MESSAGES);
        // A tool's result without its call is refused by some servers.
        while matches!(self.messages.get(from), Some(Message::Tool { .. })) {
            from += 1;
        }
        Request {
            system: system_prompt(&self.briefing),
            messages: self.messages[from..].to_vec(),
            tools: definitions(self.briefing.may_leave_message),
            briefing: self.briefing.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Role;
    use crate::time::MediaTime;

    #[test]
    fn turns_are_kept_in_the_order_they_began() {
        let mut talk = Conversation::new(Briefing::default());
        for (start, text) in [(2000, "second"), (500, "first"), (3000, "third")] {
            let start = MediaTime::from_ms(start);
            talk.record(Turn {
                role: Role::User,
                text: text.into(),
                start,
                end: start,
                interrupted: false,
                tool: None,
            });
        }
        let texts: Vec<_> = talk.turns().iter().map(|t| t.text.as_str()).collect();
        assert_eq!(texts, ["first", "second", "third"]);
    }

    #[test]
    fn an_old_conversation_is_shortened_without_orphaned_tool_results() {
        let mut talk = Conversation::new(Briefing::default());
        let call = ToolCall { id: "a".into(), name: "wait".into(), arguments: "{}".into() };
        talk.said("", vec![call.clone()]);
        talk.tool_result(&call, "done");
        for _ in 0..MAX_MESSAGES - 1 {
            talk.heard("hello");
        }
        let request = talk.request();
        assert_eq!(request.messages.len(), MAX_MESSAGES - 1);
        assert!(matches!(request.messages[0], Message::User { .. }));
    }
}
