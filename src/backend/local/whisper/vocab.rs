//! From token numbers to text: `vocabulary.txt`, one token a line, each character standing for a byte (the GPT-2 byte
//! map: `bytes_to_unicode` in `gpt-2/src/encoder.py`); and `config.json`, which lists the tokens never wanted.

use super::file::model_error;
use super::weights::VOCABULARY;
use crate::backend::BackendError;

/// Ends a text.
pub(super) const END: usize = 50_256;
/// Begins a text; also the first token that is not text.
pub(super) const START: usize = 50_257;
/// Its probability at the first position is that of "nobody speaks".
pub(super) const NO_SPEECH: usize = 50_361;
/// Ends the prompt: text without time stamps.
pub(super) const NO_TIMESTAMPS: usize = 50_362;

/// The tokens' bytes.
pub(super) struct Vocabulary {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Vocabulary {
    /// Reads `vocabulary.txt`.
    ///
    /// # Errors
    /// [`BackendError::Model`] when a token is missing or cannot be spelled.
    pub(super) fn parse(text: &str) -> Result<Self, BackendError> {
        let map = byte_map();
        let mut vocabulary = Self { bytes: Vec::with_capacity(text.len()), ends: Vec::new() };
        for (number, line) in text.split_terminator('\n').enumerate() {
            for c in line.trim_end_matches('\r').chars() {
                let byte = map.get(c as usize).copied().flatten().ok_or_else(|| {
                    model_error(format!("vocabulary.txt line {}: {c:?} stands for no byte", number + 1))
                })?;
                vocabulary.bytes.push(byte);
            }
            vocabulary.ends.push(vocabulary.bytes.len() as u32);
        }
        if vocabulary.ends.len() != VOCABULARY {
            let lines = vocabulary.ends.len();
            return Err(model_error(format!("vocabulary.txt has {lines} tokens, not {VOCABULARY}")));
        }
        Ok(vocabulary)
    }

    fn token(&self, token: usize) -> &[u8] {
        let start = token.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.bytes[start..self.ends[token] as usize]
    }

    /// The text of `tokens`, trimmed; bytes that are not UTF-8 are replaced.
    pub(super) fn text(&self, tokens: &[usize]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|t| self.token(*t)).copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

/// The byte each character stands for: printable Latin-1 itself, the others from U+0100 on in order.
fn byte_map() -> [Option<u8>; 324] {
    let mut map = [None; 324];
    let mut next = 256;
    for byte in 0..=255_u8 {
        if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
            map[usize::from(byte)] = Some(byte);
        } else {
            map[next] = Some(byte);
            next += 1;
        }
    }
    map
}

/// Tokens the decoder may not choose.
#[derive(Debug)]
pub(super) struct Suppressed {
    /// Never.
    pub(super) always: Vec<usize>,
    /// Not as the first one.
    pub(super) first: Vec<usize>,
}

impl Suppressed {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// [`BackendError::Model`] when it is not JSON or a list is missing.
    pub(super) fn parse(text: &str) -> Result<Self, BackendError> {
        let json: serde_json::Value =
            serde_json::from_str(text).map_err(|e| model_error(format!("config.json: {e}")))?;
        let list = |key: &str| -> Result<Vec<usize>, BackendError> {
            let numbers = json.get(key).and_then(|v| v.as_array());
            let numbers = numbers.ok_or_else(|| model_error(format!("config.json has no list `{key}`")))?;
            let ids: Option<Vec<usize>> =
                numbers.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok())).collect();
            ids.filter(|ids| ids.iter().all(|id| *id < VOCABULARY))
                .ok_or_else(|| model_error(format!("config.json: `{key}` holds something that is no token")))
        };
        let text_only = |ids: Vec<usize>| ids.into_iter().filter(|id| *id < START).collect();
        Ok(Self { always: text_only(list("suppress_ids")?), first: text_only(list("suppress_ids_begin")?) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::vocabulary;
    use super::*;

    #[test]
    fn tokens_become_text_byte_by_byte() {
        let v = Vocabulary::parse(&vocabulary()).expect("well-formed");
        assert_eq!(v.text(&[0, 1]), "Hello world");
        assert_eq!(v.text(&[2, 3]), "café");
        assert_eq!(v.text(&[0, 4]), "Hello\u{fffd}", "half a character is replaced");
        assert_eq!(v.text(&[]), "");
        assert_eq!(v.text(&[VOCABULARY - 1]), "51863");
    }

    #[test]
    fn a_wrong_vocabulary_is_named() {
        let short = Vocabulary::parse("a\nb\n").err().expect("short");
        assert!(short.to_string().contains("vocabulary.txt has 2 tokens, not 51864"));
        let strange = Vocabulary::parse("a\n中\n").err().expect("not a byte");
        assert!(strange.to_string().contains("vocabulary.txt line 2: '中' stands for no byte"));
    }

    #[test]
    fn a_wrong_config_is_named() {
        for (text, expected) in [
            ("{", "config.json: EOF"),
            ("{}", "config.json has no list `suppress_ids`"),
            (r#"{"suppress_ids":[1],"suppress_ids_begin":[-1]}"#, "`suppress_ids_begin` holds something"),
            (r#"{"suppress_ids":[99999],"suppress_ids_begin":[]}"#, "`suppress_ids` holds something"),
        ] {
            let error = Suppressed::parse(text).expect_err("malformed").to_string();
            assert!(error.contains(expected), "{error}");
        }
        let good = Suppressed::parse(r#"{"suppress_ids":[1,50257],"suppress_ids_begin":[220,50256]}"#);
        let good = good.expect("well-formed");
        assert_eq!((good.always, good.first), (vec![1], vec![220, 50256]));
    }
}
