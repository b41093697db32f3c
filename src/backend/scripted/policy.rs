//! The rules. A pure function of the conversation so far.

use serde_json::json;

use super::menu;
use crate::agent::{Delta, Message, Request, ToolCall};

/// What to do next in the conversation `request` describes.
#[must_use]
pub fn reply(request: &Request) -> Vec<Delta> {
    let talk = Talk::of(request);
    let action = talk.decide();
    let mut deltas: Vec<Delta> = action.say.split_inclusive(' ').map(|w| Delta::Text(w.to_owned())).collect();
    if let Some((name, arguments)) = action.tool {
        let id = format!("scripted_{}", request.messages.len());
        deltas.push(Delta::ToolCall(ToolCall {
            id,
            name: name.to_owned(),
            arguments: arguments.to_string(),
        }));
    }
    deltas.push(Delta::Done);
    deltas
}

struct Action {
    say: String,
    tool: Option<(&'static str, serde_json::Value)>,
}

impl Action {
    fn say(text: impl Into<String>) -> Self {
        Self { say: text.into(), tool: None }
    }

    fn end(text: impl Into<String>, status: &str, summary: &str) -> Self {
        let arguments = json!({"reason": "conversation finished", "task_status": status, "summary": summary});
        Self { say: text.into(), tool: Some(("end_call", arguments)) }
    }
}

/// The facts the rules look at.
struct Talk<'a> {
    request: &'a Request,
    /// The callee's last words, lower case, words separated by single spaces.
    heard: String,
    /// The same as it was spoken.
    heard_raw: &'a str,
    /// What we said last.
    last_said: &'a str,
    /// Whether the task has been stated in full in an earlier turn.
    stated: bool,
    /// Whether we already accepted an offer.
    accepted: bool,
    answered_by: &'a str,
}

/// The most that is quoted of the callee in the summary [characters].
const LONGEST_QUOTE: usize = 300;
const ACCEPTANCE: &str = "Yes, please. That would be great.";

impl<'a> Talk<'a> {
    fn of(request: &'a Request) -> Self {
        let heard_raw = request
            .messages
            .iter()
            .rev()
            .find_map(|m| if let Message::User { text } = m { Some(text.as_str()) } else { None })
            .unwrap_or_default();
        let said =
            |m: &'a Message| if let Message::Assistant { text, .. } = m { Some(text.as_str()) } else { None };
        let last_said =
            request.messages.iter().rev().filter_map(said).find(|t| !t.is_empty()).unwrap_or_default();
        // A statement that was cut off was not heard; its last words tell.
        let task_end: String = tail(&wish(&request.briefing.task));
        let stated = request.messages.iter().filter_map(said).any(|t| tail(t).ends_with(&task_end));
        let accepted = request.messages.iter().filter_map(said).any(|t| t.contains("Yes, please"));
        let heard = format!(" {} ", plain(heard_raw));
        let answered_by = request.briefing.answered_by.as_str();
        Self { request, heard, heard_raw, last_said, stated, accepted, answered_by }
    }

    fn heard_any(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|p| self.heard.contains(&format!(" {p} ")))
    }

    fn decide(&self) -> Action {
        let wish = wish(&self.request.briefing.task);
        let options = menu::options(self.heard_raw);
        if self.answered_by == "voicemail" {
            return self.voicemail(&wish);
        }
        if !options.is_empty() {
            return self.menu(&options);
        }
        if self.answered_by == "ivr"
            && !self.stated
            && !self.asks_who()
            && !self.heard_any(WHY)
            && self.is_machine_talk()
        {
            // A machine's announcement without a choice: listen on.
            return Action {
                say: String::new(),
                tool: Some(("wait", json!({"seconds": 10, "reason": "menu is talking"}))),
            };
        }
        if self.heard_any(REFUSAL) {
            return Action::end(
                "I understand. Sorry to have bothered you. Goodbye.",
                "not_achieved",
                "The callee declined.",
            );
        }
        if self.asks_who() {
            let who = "This is an AI assistant calling on behalf of a customer.";
            return Action::say(if self.accepted {
                who.to_owned()
            } else {
                format!("{who} I am calling to {wish}.")
            });
        }
        if self.heard_any(ROBOT) {
            return Action::say(format!("Yes, I am an AI assistant. I am calling to {wish}."));
        }
        if !self.stated {
            return Action::say(format!("I am calling to {wish}."));
        }
        if self.heard_any(AGAIN) && !self.last_said.is_empty() {
            return Action::say(self.last_said);
        }
        if self.heard_any(HOLD) {
            return Action {
                say: "Of course.".into(),
                tool: Some(("wait", json!({"seconds": 30, "reason": "asked to hold"}))),
            };
        }
        if self.heard_any(WHY) {
            return Action::say(format!("I am calling to {wish}."));
        }
        if self.heard_any(CLOSING) {
            return self.thank_and_end();
        }
        if !self.accepted && (self.heard_any(OFFER) || self.heard_raw.trim_end().ends_with('?')) {
            return Action::say(ACCEPTANCE);
        }
        if self.heard.trim().is_empty() {
            return Action::say(format!("I am calling to {wish}."));
        }
        self.thank_and_end()
    }

    /// "Who is this?" in its many forms, and as recognisers hear it.
    fn asks_who(&self) -> bool {
        self.heard_any(WHO)
            || (self.heard_any(&["who", "who's"])
                && self.heard_any(&["calling", "speaking", "this", "there"]))
    }

    fn is_machine_talk(&self) -> bool {
        self.heard_any(&[
            "press",
            "menu",
            "options",
            "extension",
            "directory",
            "our hours",
            "calls may be recorded",
        ])
    }

    fn voicemail(&self, wish: &str) -> Action {
        if self.request.briefing.may_leave_message {
            let message =
                format!("I am calling to {wish}. Please call back when you have a moment. Thank you.");
            Action { say: String::new(), tool: Some(("leave_voicemail", json!({ "message": message }))) }
        } else {
            Action::end("", "not_achieved", "A mailbox answered and the task allows no message.")
        }
    }

    fn menu(&self, options: &[menu::MenuOption]) -> Action {
        let tool = match menu::choose(&self.request.briefing.task, options) {
            Some(key) => ("send_dtmf", json!({"digits": key.to_string()})),
            None => ("wait", json!({"seconds": 10, "reason": "no option fits the task"})),
        };
        Action { say: String::new(), tool: Some(tool) }
    }

    fn thank_and_end(&self) -> Action {
        // What came before the task was stated (a greeting, a menu) is no answer to it.
        let messages = self.request.messages.iter();
        let answer = messages
            .skip_while(|m| !matches!(m, Message::Assistant { text, .. } if !text.is_empty()))
            .filter_map(|m| if let Message::User { text } = m { Some(text.trim()) } else { None })
            .max_by_key(|t| t.len())
            .unwrap_or_default();
        let answer: String = answer.chars().take(LONGEST_QUOTE).collect();
        Action::end(
            "No, that is all. Thank you very much for your help. Goodbye.",
            "achieved",
            &format!("The callee said: {answer}"),
        )
    }
}

const WHO: &[&str] =
    &["who am i speaking", "who are you", "may i ask who", "your name", "who do i", "calling from"];
const WHY: &[&str] = &[
    "why are you calling",
    "why",
    "what is this about",
    "what's this about",
    "regarding",
    "in regard to",
    "what do you want",
    "what do you need",
    "how can i help",
    "how may i help",
    "what can i do for you",
];
const ROBOT: &[&str] = &[
    "are you a robot",
    "are you real",
    "are you human",
    "is this a robot",
    "is this a recording",
    "am i talking to a machine",
];
const AGAIN: &[&str] = &[
    "repeat",
    "say that again",
    "say again",
    "pardon",
    "pardon me",
    "come again",
    "didn't catch",
    "did not catch",
    "what was that",
    "didn't hear",
    "can't hear",
    "excuse me",
];
const HOLD: &[&str] = &[
    "hold on",
    "one moment",
    "just a moment",
    "just a second",
    "one second",
    "let me check",
    "bear with me",
    "please hold",
    "hang on",
    "a minute",
];
const REFUSAL: &[&str] = &[
    "not interested",
    "don't call",
    "do not call",
    "stop calling",
    "wrong number",
    "we can't help",
    "cannot help you",
    "go away",
    "take me off",
    "no thank you goodbye",
];
const CLOSING: &[&str] = &[
    "anything else",
    "have a nice day",
    "have a good day",
    "goodbye",
    "good bye",
    "bye",
    "bye bye",
    "take care",
    "you're welcome",
];
const OFFER: &[&str] = &[
    "shall i",
    "shall we",
    "should i",
    "would you like",
    "do you want",
    "is that okay",
    "is that ok",
    "does that work",
    "would that work",
    "is that all right",
    "can i book",
    "may i book",
    "works for you",
];

/// The task as the end of "I am calling to …": without its closing mark and without sentences about messages, which
/// are instructions to us.
fn wish(task: &str) -> String {
    let about_messages = |s: &str| {
        let s = plain(s);
        s.contains("voicemail")
            || s.contains("leave a message")
            || s.contains("leave no message")
            || s.contains("mailbox")
    };
    let kept: Vec<&str> = task
        .split_inclusive(['.', '!', '?'])
        .map(str::trim)
        .filter(|s| !s.is_empty() && !about_messages(s))
        .collect();
    let text = if kept.is_empty() { task.trim().to_owned() } else { kept.join(" ") };
    let text = text.trim_end_matches(['.', '!', '?', ' ']);
    let text = text.strip_prefix("Please ").or_else(|| text.strip_prefix("please ")).unwrap_or(text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Lower case, letters, digits and apostrophes only, single spaces.
fn plain(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_alphanumeric() || c == '\'' { c.to_ascii_lowercase() } else { ' ' })
        .collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The last four words, plain: enough to tell whether a sentence was heard to its end.
fn tail(text: &str) -> String {
    let plain = plain(text);
    let words: Vec<&str> = plain.split(' ').collect();
    words[words.len().saturating_sub(4)..].join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Briefing;

    const TASK: &str =
        "Ask whether they have an appointment free on Tuesday afternoon. Leave a message if nobody answers.";
    const STATED: &str = "I am calling to ask whether they have an appointment free on Tuesday afternoon.";

    fn talk(answered_by: &str, messages: &[(&str, &str)]) -> (String, Option<ToolCall>) {
        let messages = messages
            .iter()
            .map(|(role, text)| match *role {
                "user" => Message::User { text: (*text).into() },
                _ => Message::Assistant { text: (*text).into(), tool_calls: Vec::new() },
            })
            .collect();
        let briefing = Briefing {
            task: TASK.into(),
            answered_by: answered_by.into(),
            may_leave_message: true,
            ..Briefing::default()
        };
        let deltas = reply(&Request { system: String::new(), messages, tools: Vec::new(), briefing });
        assert_eq!(deltas.last(), Some(&Delta::Done));
        let text = deltas
            .iter()
            .filter_map(|d| if let Delta::Text(t) = d { Some(t.as_str()) } else { None })
            .collect();
        let tool =
            deltas.iter().find_map(|d| if let Delta::ToolCall(c) = d { Some(c.clone()) } else { None });
        (text, tool)
    }

    #[test]
    fn the_task_is_stated_first_without_its_instructions_to_us() {
        let (text, tool) = talk("human", &[("user", "Good morning, how can I help you?")]);
        assert_eq!(text, STATED);
        assert_eq!(tool, None);
    }

    #[test]
    fn who_why_and_again_are_answered() {
        let (text, _) =
            talk("human", &[("user", "Hello?"), ("assistant", STATED), ("user", "Who is calling, please?")]);
        assert!(text.contains("AI assistant") && text.contains("Tuesday"), "{text}");
        let (text, _) = talk("human", &[("assistant", STATED), ("user", "What is this about?")]);
        assert_eq!(text, STATED);
        let (text, _) = talk("human", &[("assistant", STATED), ("user", "Could you repeat that?")]);
        assert_eq!(text, STATED);
    }

    #[test]
    fn a_statement_that_was_cut_is_made_again() {
        let (text, _) =
            talk("human", &[("assistant", "I am calling to ask whether"), ("user", "Sorry, what?")]);
        assert_eq!(text, STATED);
    }

    #[test]
    fn an_offer_is_accepted_once_and_then_the_call_ends() {
        let said = [("assistant", STATED), ("user", "We have three o'clock. Shall I book that?")];
        let (text, tool) = talk("human", &said);
        assert_eq!((text.as_str(), tool), (ACCEPTANCE, None));
        let said = [said[0], said[1], ("assistant", ACCEPTANCE), ("user", "You are booked. Anything else?")];
        let (text, tool) = talk("human", &said);
        assert!(text.contains("Goodbye"));
        let tool = tool.expect("ends the call");
        assert_eq!(tool.name, "end_call");
        assert!(tool.arguments.contains("\"achieved\""), "{}", tool.arguments);
    }

    #[test]
    fn the_summary_quotes_the_answer_and_not_the_menu_before_it() {
        let menu = "Thank you for calling. For billing, press one. For appointments, press two. For hours, press three.";
        let said = [
            ("user", menu),
            ("assistant", ""),
            ("user", "Appointments, good morning."),
            ("assistant", STATED),
            ("user", "Yes, at three o'clock."),
        ];
        let (_, tool) = talk("human", &said);
        let arguments = tool.expect("ends the call").arguments;
        assert!(arguments.contains("The callee said: Yes, at three o'clock."), "{arguments}");
    }

    #[test]
    fn a_menu_gets_a_digit_and_no_words() {
        let (text, tool) = talk("ivr", &[("user", "For billing, press one. For appointments, press two.")]);
        assert_eq!(text, "");
        let tool = tool.expect("presses");
        assert_eq!((tool.name.as_str(), tool.arguments.as_str()), ("send_dtmf", "{\"digits\":\"2\"}"));
    }

    #[test]
    fn a_mailbox_gets_a_message_only_when_the_task_allows_one() {
        let (_, tool) = talk("voicemail", &[("user", "Leave a message after the tone.")]);
        let tool = tool.expect("leaves a message");
        assert_eq!(tool.name, "leave_voicemail");
        assert!(tool.arguments.contains("Tuesday afternoon"));
    }
}
