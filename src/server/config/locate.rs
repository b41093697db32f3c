//! Where in the file a setting stands, and what a setting expects.

use super::ConfigError;

/// What the settings with a form of their own expect; numbers and flags speak for themselves.
const EXPECTED: &[(&str, &str)] = &[
    ("server.bind", "an address and port such as `127.0.0.1:8080`"),
    ("server.trusted_proxies", "a list of addresses or blocks such as `[\"10.0.0.0/8\"]`"),
    ("sip.bind", "an address and port such as `0.0.0.0:5060`"),
    ("sip.public_ip", "an address such as `203.0.113.7`"),
    ("sip.rtp_ports", "the first and last port such as `[10000, 20000]`"),
    ("destinations.allowed_prefixes", "a list of prefixes such as `[\"+1\"]`"),
    ("destinations.blocked_area_codes", "a list of area codes such as `[\"900\"]`"),
    ("backends.stt", "`\"local\"`"),
    ("backends.tts", "`\"local\"`"),
    ("backends.llm", "`\"scripted\"` or `\"openai\"`"),
];

/// What the setting `key` expects, where it has a form of its own.
pub(super) fn expected(key: &str) -> Option<&'static str> {
    EXPECTED.iter().find(|(name, _)| *name == key).map(|(_, form)| *form)
}

/// An error of the TOML reader with the setting it is about.
pub(super) fn syntax_error(text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..start].iter().filter(|&&b| b == b'\n').count();
    let mut key = key_at(text, line);
    let said = error.message().trim();
    if let Some(missing) = said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        key = format!("{key}.{missing}");
    }
    let mut problem = said.replace('\n', "; ");
    if let Some(form) = expected(&key) {
        problem = format!("{problem}; expected {form}");
    }
    ConfigError { line: Some(line + 1), ..ConfigError::new(key, problem) }
}

/// The setting on the line with this index: the section it stands in, and its own name.
fn key_at(text: &str, index: usize) -> String {
    let mut section = "";
    for (number, line) in text.lines().enumerate().take(index + 1) {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.split(']').next().unwrap_or(header).trim();
        } else if number == index
            && let Some((name, _)) = line.split_once('=')
        {
            let name = name.trim();
            return if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        }
    }
    section.to_owned()
}

/// The line, counted from 1, of a setting; of its section where the setting itself is not written down.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    let (mut exact, mut around, mut section) = (None, None, "");
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.split(']').next().unwrap_or(header).trim();
            if section == key {
                exact = exact.or(Some(index + 1));
            } else if key.starts_with(&format!("{section}.")) {
                around = Some(index + 1);
            }
        } else if key_at_line(section, line).is_some_and(|k| k == key) {
            exact = exact.or(Some(index + 1));
        }
    }
    exact.or(around)
}

fn key_at_line(section: &str, line: &str) -> Option<String> {
    let (name, _) = line.split_once('=')?;
    Some(if section.is_empty() { name.trim().to_owned() } else { format!("{section}.{}", name.trim()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_by_section_and_name() {
        let text = "[a]\nx = 1\n\n[b]\nx = 2\ny = 3\n[b.c]\n";
        assert_eq!(line_of(text, "b.x"), Some(5));
        assert_eq!(line_of(text, "a.x"), Some(2));
        assert_eq!(line_of(text, "b.c"), Some(7));
        assert_eq!(line_of(text, "a.missing"), Some(1));
        assert_eq!(line_of(text, "z.z"), None);
        assert_eq!(key_at(text, 5), "b.y");
        assert_eq!(key_at(text, 6), "b.c");
    }
}
