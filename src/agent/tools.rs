//! The agent's tools: what a model is offered, and the check of what it asks for.
//!
//! In: a [`ToolCall`] as the model wrote it. Out: an [`Action`] whose arguments hold, or a [`ToolError`] whose text is
//! given back to the model as the tool's result.

use serde_json::{Map, Value};

use super::model::{Tool, ToolCall};

/// The longest tool arguments that are read (bytes).
const MAX_ARGUMENTS: usize = 8 * 1024;
/// The longest message left on voicemail (bytes).
const MAX_MESSAGE: usize = 1200;
/// The longest summary kept (bytes).
const MAX_SUMMARY: usize = 2000;
/// The most keys of one `send_dtmf`.
const MAX_DIGITS: usize = 32;
/// The longest single wait (s).
const MAX_WAIT_S: u64 = 300;

/// A checked tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Press keys.
    SendDtmf {
        /// 1 to 32 of `0`–`9`, `*`, `#`, `A`–`D`.
        digits: String,
    },
    /// Say a message to a mailbox after its beep, then end the call.
    LeaveVoicemail {
        /// The message without the mandatory first words.
        message: String,
    },
    /// Say what is left to say and end the call.
    EndCall {
        /// Why.
        reason: String,
        /// What became of the task.
        account: TaskAccount,
    },
    /// Stay silent on hold.
    Wait {
        /// At most so long (s), 1 to 300.
        seconds: u64,
        /// Why.
        reason: String,
    },
}

/// The agent's own account of its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskAccount {
    /// `achieved`, `partly`, `not_achieved` or `unknown`.
    pub status: &'static str,
    /// In a sentence.
    pub summary: String,
}

/// Why a tool call cannot be carried out. The text is for the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// No such tool.
    #[error("there is no tool of that name; the tools are send_dtmf, leave_voicemail, end_call and wait")]
    UnknownTool,
    /// The arguments are not a JSON object, or too long.
    #[error("the arguments are not a JSON object of at most 8 KiB")]
    NotAnObject,
    /// An argument is missing or not what it should be.
    #[error("argument `{name}`: expected {expected}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// The digits are a payment card's.
    #[error("payment card numbers are never keyed")]
    CardNumber,
}

/// The tools as offered to a model. `leave_voicemail` only where the task allows a message.
#[must_use]
pub fn definitions(may_leave_message: bool) -> Vec<Tool> {
    let tool = |name: &str, description: &str, parameters: &str| Tool {
        name: name.into(),
        description: description.into(),
        parameters: parameters.into(),
    };
    let mut tools = vec![
        tool(
            "send_dtmf",
            "Press keys on the telephone, to choose from a menu or give an extension.",
            r##"{"type":"object","properties":{"digits":{"type":"string","pattern":"^[0-9*#A-D]{1,32}$"}},"required":["digits"],"additionalProperties":false}"##,
        ),
        tool(
            "end_call",
            "End the call after the words of this reply were spoken. Say goodbye in the same reply.",
            r#"{"type":"object","properties":{"reason":{"type":"string"},"task_status":{"type":"string","enum":["achieved","partly","not_achieved","unknown"]},"summary":{"type":"string","description":"What came of the task, in one or two sentences"}},"required":["reason","task_status","summary"],"additionalProperties":false}"#,
        ),
        tool(
            "wait",
            "Stay silent, on hold or while a machine talks. Ends early when someone speaks.",
            r#"{"type":"object","properties":{"seconds":{"type":"integer","minimum":1,"maximum":300},"reason":{"type":"string"}},"required":["seconds","reason"],"additionalProperties":false}"#,
        ),
    ];
    if may_leave_message {
        tools.push(tool(
            "leave_voicemail",
            "Leave a message on the mailbox that answered; it is spoken after the beep and then the call ends.",
            r#"{"type":"object","properties":{"message":{"type":"string","maxLength":1200}},"required":["message"],"additionalProperties":false}"#,
        ));
    }
    tools
}

/// Checks a tool call.
///
/// # Errors
/// When the tool is unknown or an argument is not what it should be; the error's text is the tool's result.
pub fn parse_call(call: &ToolCall) -> Result<Action, ToolError> {
    if !matches!(call.name.as_str(), "send_dtmf" | "leave_voicemail" | "end_call" | "wait") {
        return Err(ToolError::UnknownTool);
    }
    if call.arguments.len() > MAX_ARGUMENTS {
        return Err(ToolError::NotAnObject);
    }
    let arguments: Map<String, Value> =
        serde_json::from_str(&call.arguments).map_err(|_| ToolError::NotAnObject)?;
    match call.name.as_str() {
        "send_dtmf" => digits(&arguments),
        "leave_voicemail" => {
            let message = text(&arguments, "message", MAX_MESSAGE)?;
            Ok(Action::LeaveVoicemail { message })
        }
        "end_call" => end_call(&arguments),
        _ => {
            let expected = "a whole number from 1 to 300";
            let error = ToolError::Argument { name: "seconds", expected };
            let seconds = arguments.get("seconds").and_then(Value::as_f64).ok_or_else(|| error.clone())?;
            if !(1.0..=MAX_WAIT_S as f64).contains(&seconds) {
                return Err(error);
            }
            let reason = text(&arguments, "reason", MAX_SUMMARY).unwrap_or_default();
            Ok(Action::Wait { seconds: seconds as u64, reason })
        }
    }
}

fn digits(arguments: &Map<String, Value>) -> Result<Action, ToolError> {
    let expected = "a string of 1 to 32 keys out of 0-9, *, #, A-D";
    let error = ToolError::Argument { name: "digits", expected };
    // Models like to write a single key as a number, and to group keys with spaces or dashes.
    let raw = match arguments.get("digits") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Err(error),
    };
    let digits: String = raw.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let keys = |c: char| matches!(c, '0'..='9' | '*' | '#' | 'A'..='D' | 'a'..='d');
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.chars().all(keys) {
        return Err(error);
    }
    if is_card_number(&digits) {
        return Err(ToolError::CardNumber);
    }
    Ok(Action::SendDtmf { digits })
}

fn end_call(arguments: &Map<String, Value>) -> Result<Action, ToolError> {
    let error = ToolError::Argument {
        name: "task_status",
        expected: "one of achieved, partly, not_achieved, unknown",
    };
    let status = match arguments.get("task_status").and_then(Value::as_str) {
        Some("achieved") => "achieved",
        Some("partly") => "partly",
        Some("not_achieved") => "not_achieved",
        Some("unknown") => "unknown",
        _ => return Err(error),
    };
    let summary = text(arguments, "summary", MAX_SUMMARY)?;
    let reason = text(arguments, "reason", MAX_SUMMARY).unwrap_or_default();
    Ok(Action::EndCall { reason, account: TaskAccount { status, summary } })
}

fn text(arguments: &Map<String, Value>, name: &'static str, max: usize) -> Result<String, ToolError> {
    let error = ToolError::Argument { name, expected: "a text, not empty and not too long" };
    match arguments.get(name).and_then(Value::as_str).map(str::trim) {
        Some(text) if !text.is_empty() && text.len() <= max => Ok(text.to_owned()),
        _ => Err(error),
    }
}

/// Whether 13 to 19 digits pass the check of payment card numbers (ISO/IEC 7812-1, annex B).
fn is_card_number(keys: &str) -> bool {
    let digits: Vec<u32> = keys.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| match (i % 2, d * 2) {
            (0, _) => *d,
            (_, twice) if twice > 9 => twice - 9,
            (_, twice) => twice,
        })
        .sum();
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &str) -> Result<Action, ToolError> {
        parse_call(&ToolCall { id: "1".into(), name: name.into(), arguments: arguments.into() })
    }

    #[test]
    fn good_arguments_become_actions() {
        assert_eq!(call("send_dtmf", r#"{"digits":"1 2#"}"#), Ok(Action::SendDtmf { digits: "12#".into() }));
        assert_eq!(call("send_dtmf", r#"{"digits":2}"#), Ok(Action::SendDtmf { digits: "2".into() }));
        assert_eq!(
            call("wait", r#"{"seconds":30,"reason":"hold"}"#),
            Ok(Action::Wait { seconds: 30, reason: "hold".into() })
        );
        let end = call("end_call", r#"{"reason":"done","task_status":"partly","summary":"Half."}"#);
        assert!(matches!(end, Ok(Action::EndCall { account: TaskAccount { status: "partly", .. }, .. })));
    }

    #[test]
    fn nonsense_is_told_back_to_the_model() {
        assert_eq!(call("fly", "{}"), Err(ToolError::UnknownTool));
        for arguments in ["", "[]", "{\"digits\":", "null", &"x".repeat(9000)] {
            assert_eq!(call("send_dtmf", arguments), Err(ToolError::NotAnObject), "{arguments}");
        }
        for arguments in [r#"{"digits":"call me"}"#, r#"{"digits":""}"#, r#"{"digits":null}"#, "{}"] {
            assert!(matches!(call("send_dtmf", arguments), Err(ToolError::Argument { name: "digits", .. })));
        }
        for arguments in [r#"{"seconds":0}"#, r#"{"seconds":1e300}"#, r#"{"seconds":"ten"}"#] {
            assert!(matches!(call("wait", arguments), Err(ToolError::Argument { name: "seconds", .. })));
        }
        assert!(call("end_call", r#"{"reason":"x","task_status":"great","summary":"y"}"#).is_err());
        assert!(call("leave_voicemail", r#"{"message":"  "}"#).is_err());
    }

    #[test]
    fn card_numbers_are_not_keyed_and_other_long_numbers_are() {
        // The test number that card schemes publish.
        assert_eq!(call("send_dtmf", r#"{"digits":"4111 1111 1111 1111"}"#), Err(ToolError::CardNumber));
        assert!(call("send_dtmf", r#"{"digits":"4111111111111112"}"#).is_ok());
    }

    #[test]
    fn every_definition_is_valid_json_and_a_message_is_offered_only_where_allowed() {
        for tool in definitions(true) {
            assert!(serde_json::from_str::<Value>(&tool.parameters).is_ok(), "{}", tool.name);
        }
        assert!(definitions(true).iter().any(|t| t.name == "leave_voicemail"));
        assert!(!definitions(false).iter().any(|t| t.name == "leave_voicemail"));
    }
}
