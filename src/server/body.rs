//! The body of `POST /call`: from bytes to a request whose every field is valid, or a refusal that names the field.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::config::Config;
use super::error::ApiError;
use super::phone::{Policy, Refused};
use super::secrets;
use crate::pii::Pii;

const MAX_TASK_CHARS: usize = 8000;
const MAX_STYLE_CHARS: usize = 1000;
const MAX_METADATA_BYTES: usize = 4096;

/// A call that may be placed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CallBody {
    pub(super) to: Pii<String>,
    pub(super) task: Pii<String>,
    pub(super) voice: String,
    pub(super) personality: Option<String>,
    pub(super) greeting: Option<String>,
    pub(super) language: Option<String>,
    pub(super) max_duration_seconds: u64,
    pub(super) metadata: Option<Value>,
    /// Of the JSON as it was understood: blanks do not make another body.
    pub(super) hash: [u8; 32],
}

impl CallBody {
    /// Reads and checks a body against the configuration.
    pub(super) fn parse(bytes: &[u8], config: &Config) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| {
            ApiError::invalid_body(format!("the body is not JSON: line {}, column {}", e.line(), e.column()))
        })?;
        let hash = secrets::sha256(value.to_string().as_bytes());
        let Value::Object(fields) = value else {
            return Err(ApiError::invalid_body("the body must be a JSON object"));
        };
        let to = text(&fields, "to")?;
        let task = text(&fields, "task")?;
        let voice = text(&fields, "voice")?;
        let personality = text(&fields, "personality")?;
        let greeting = text(&fields, "greeting")?;
        let language = text(&fields, "language")?;
        let max_duration_seconds = whole_number(&fields, "max_duration_seconds")?;
        let metadata = object(&fields, "metadata")?;
        let bridge_number = text(&fields, "bridge_number")?;
        let webhook_url = text(&fields, "webhook_url")?;

        let missing: Vec<&str> = [("to", &to), ("task", &task)]
            .iter()
            .filter(|(_, v)| v.is_none())
            .map(|(name, _)| *name)
            .collect();
        let (Some(to), Some(task)) = (to, task) else {
            let message = format!("required and missing or empty: {}", missing.join(", "));
            return Err(ApiError::bad_request("missing_fields", message));
        };
        check_number(&to, "to", config)?;
        if task.chars().count() > MAX_TASK_CHARS {
            return Err(ApiError::invalid_body(format!("`task` is longer than {MAX_TASK_CHARS} characters")));
        }
        for (name, value) in [("personality", &personality), ("greeting", &greeting)] {
            if value.as_ref().is_some_and(|v| v.chars().count() > MAX_STYLE_CHARS) {
                let message = format!("`{name}` is longer than {MAX_STYLE_CHARS} characters");
                return Err(ApiError::bad_request("invalid_profile", message));
            }
        }
        let voice = voice.unwrap_or_else(|| config.agent.default_voice.clone());
        if !config.voices.contains_key(&voice) {
            let names: Vec<&str> = config.voices.keys().map(String::as_str).collect();
            let message = format!("`voice` must be one of {}", names.join(", "));
            return Err(ApiError::bad_request("invalid_profile", message));
        }
        check_language(language.as_deref(), config)?;
        check_later_fields(bridge_number.as_deref(), webhook_url.is_some(), config)?;
        Ok(Self {
            to: Pii::new(to),
            task: Pii::new(task),
            voice,
            personality,
            greeting,
            language,
            max_duration_seconds: duration(max_duration_seconds, config.limits.max_call_seconds)?,
            metadata,
            hash,
        })
    }
}

fn check_number(number: &str, field: &str, config: &Config) -> Result<(), ApiError> {
    let destinations = &config.destinations;
    let policy = Policy::new(destinations.allowed_prefixes.clone(), destinations.blocked_area_codes.clone());
    policy.check(number).map_err(|refused| {
        let message = format!("`{field}`: {refused}");
        match refused {
            Refused::Invalid(_) => ApiError::bad_request("invalid_phone", message),
            Refused::Blocked(_) => ApiError::new(StatusCode::FORBIDDEN, "destination_blocked", message),
        }
    })
}

fn check_language(language: Option<&str>, config: &Config) -> Result<(), ApiError> {
    let Some(language) = language else { return Ok(()) };
    let primary = language.split('-').next().unwrap_or_default();
    if config.agent.languages.iter().any(|known| known.eq_ignore_ascii_case(primary)) {
        return Ok(());
    }
    let message = format!("`language` must be one of {}", config.agent.languages.join(", "));
    Err(ApiError::bad_request("invalid_profile", message))
}

/// Fields of the contract that this version cannot honour yet: better refused than ignored.
fn check_later_fields(bridge: Option<&str>, webhook: bool, config: &Config) -> Result<(), ApiError> {
    if let Some(number) = bridge {
        check_number(number, "bridge_number", config)?;
    }
    let unsupported = |field: &str| {
        let message = format!("`{field}` is not supported by this version yet; leave it out");
        ApiError::bad_request("unsupported_field", message)
    };
    match (bridge, webhook) {
        (Some(_), _) => Err(unsupported("bridge_number")),
        (None, true) => Err(unsupported("webhook_url")),
        (None, false) => Ok(()),
    }
}

fn duration(asked: Option<u64>, most: u64) -> Result<u64, ApiError> {
    match asked {
        None => Ok(most),
        Some(seconds) if (1..=most).contains(&seconds) => Ok(seconds),
        Some(_) => Err(ApiError::invalid_body(format!("`max_duration_seconds` must be 1 to {most}"))),
    }
}

/// A text field, trimmed; `null` and blank count as absent.
fn text(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, ApiError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|t| !t.is_empty())),
        Some(_) => Err(ApiError::invalid_body(format!("`{name}` must be a string"))),
    }
}

fn whole_number(fields: &Map<String, Value>, name: &str) -> Result<Option<u64>, ApiError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| ApiError::invalid_body(format!("`{name}` must be a whole number, 1 or more"))),
    }
}

fn object(fields: &Map<String, Value>, name: &str) -> Result<Option<Value>, ApiError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value @ Value::Object(_)) if value.to_string().len() > MAX_METADATA_BYTES => {
            Err(ApiError::invalid_body(format!("`{name}` is longer than {MAX_METADATA_BYTES} bytes")))
        }
        Some(value @ Value::Object(_)) => Ok(Some(value.clone())),
        Some(_) => Err(ApiError::invalid_body(format!("`{name}` must be an object"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<CallBody, ApiError> {
        CallBody::parse(body.to_string().as_bytes(), &Config::default())
    }

    fn refusal(patch: Value) -> (u16, &'static str, String) {
        let mut body = json!({"to": "+14155550134", "task": "Ask when they close."});
        for (name, value) in patch.as_object().expect("fields") {
            body[name] = value.clone();
        }
        let error = parse(&body).expect_err("refused");
        let (status, code, message) = error.parts();
        (status, code, message.to_owned())
    }

    #[test]
    fn a_plain_body_gets_the_defaults() {
        let body = parse(&json!({"to": "+14155550134", "task": " Ask when they close. ", "voice": null}))
            .expect("valid");
        assert_eq!(body.task.reveal(), "Ask when they close.");
        assert_eq!((body.voice.as_str(), body.max_duration_seconds), ("jessica", 1800));
        assert_eq!((body.language, body.metadata, body.greeting), (None, None, None));
    }

    #[test]
    fn every_wrong_field_is_refused_by_name_with_its_code() {
        let long = "x".repeat(9000);
        let cases = [
            (json!({"to": 5}), 422, "invalid_body", "`to`"),
            (json!({"task": ["x"]}), 422, "invalid_body", "`task`"),
            (json!({"voice": 1}), 422, "invalid_body", "`voice`"),
            (json!({"personality": {}}), 422, "invalid_body", "`personality`"),
            (json!({"greeting": false}), 422, "invalid_body", "`greeting`"),
            (json!({"language": 1}), 422, "invalid_body", "`language`"),
            (json!({"metadata": "x"}), 422, "invalid_body", "`metadata`"),
            (json!({"metadata": {"x": long}}), 422, "invalid_body", "`metadata`"),
            (json!({"max_duration_seconds": "60"}), 422, "invalid_body", "`max_duration_seconds`"),
            (json!({"max_duration_seconds": 1.5}), 422, "invalid_body", "`max_duration_seconds`"),
            (json!({"max_duration_seconds": -1}), 422, "invalid_body", "`max_duration_seconds`"),
            (json!({"max_duration_seconds": 0}), 422, "invalid_body", "`max_duration_seconds`"),
            (json!({"max_duration_seconds": 1801}), 422, "invalid_body", "1 to 1800"),
            (json!({"task": long}), 422, "invalid_body", "`task`"),
            (json!({"to": null}), 400, "missing_fields", "empty: to"),
            (json!({"task": "  "}), 400, "missing_fields", "empty: task"),
            (json!({"to": "", "task": null}), 400, "missing_fields", "to, task"),
            (json!({"to": "4155550134"}), 400, "invalid_phone", "`to`"),
            (json!({"to": "+14155550"}), 400, "invalid_phone", "`to`"),
            (json!({"to": "+19005550134"}), 403, "destination_blocked", "900"),
            (json!({"to": "+442079460000"}), 403, "destination_blocked", "+1"),
            (json!({"voice": "nobody"}), 400, "invalid_profile", "chris, eric, jessica, sarah"),
            (json!({"greeting": long}), 400, "invalid_profile", "`greeting`"),
            (json!({"language": "de-DE"}), 400, "invalid_profile", "`language`"),
            (json!({"bridge_number": "123"}), 400, "invalid_phone", "`bridge_number`"),
            (json!({"bridge_number": "+14155550135"}), 400, "unsupported_field", "`bridge_number`"),
            (json!({"webhook_url": "https://a.example"}), 400, "unsupported_field", "`webhook_url`"),
        ];
        for (patch, status, code, names) in cases {
            let (got_status, got_code, message) = refusal(patch.clone());
            assert_eq!((got_status, got_code), (status, code), "{patch}: {message}");
            assert!(message.contains(names), "{patch}: {message}");
        }
    }

    #[test]
    fn what_is_not_a_json_object_is_an_invalid_body() {
        for bytes in ["", "{", "nonsense", "[]", "\"x\"", "null", "{\"to\":\"\u{1}"] {
            let error = CallBody::parse(bytes.as_bytes(), &Config::default()).expect_err("refused");
            assert_eq!(error.parts().0, 422, "{bytes}");
            assert_eq!(error.parts().1, "invalid_body", "{bytes}");
        }
        assert!(CallBody::parse(&[0xff, 0xfe], &Config::default()).is_err());
    }

    #[test]
    fn blanks_do_not_make_another_body() {
        let hash = |text: &str| CallBody::parse(text.as_bytes(), &Config::default()).expect("valid").hash;
        let a = hash(r#"{"to":"+14155550134","task":"t"}"#);
        assert_eq!(a, hash("{ \"to\": \"+14155550134\",\n \"task\": \"t\" }"));
        assert_ne!(a, hash(r#"{"to":"+14155550134","task":"u"}"#));
    }

    #[test]
    fn settings_decide_voices_languages_numbers_and_length() {
        let config = Config::parse(
            "[destinations]\nallowed_prefixes = [\"+44\"]\n[agent]\ndefault_voice = \"anna\"\n\
             languages = [\"de\"]\n[voices.anna]\n[limits]\nmax_call_seconds = 60\n",
            std::path::Path::new("patchcord.toml"),
        )
        .expect("valid");
        let body = json!({"to": "+442079460000", "task": "t", "language": "DE-at"}).to_string();
        let body = CallBody::parse(body.as_bytes(), &config).expect("valid");
        assert_eq!((body.voice.as_str(), body.max_duration_seconds), ("anna", 60));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = CallBody::parse(&bytes, &Config::default());
        }

        #[test]
        fn no_strings_in_its_fields_make_it_panic(to in ".{0,20}", task in ".{0,40}", voice in ".{0,9}") {
            let _ = parse(&json!({"to": to, "task": task, "voice": voice}));
        }
    }
}
