//! `patchcord.toml`: every setting, its default, and what is wrong with it, by name, file and line.
//!
//! In: the file's text. Out: a checked [`Config`]. An unknown key is an error, so that a typing slip is never a
//! silent default. `docs/configuration.md` describes every key; a test compares the two.

mod check;
mod engine;
mod locate;
mod settings;

use std::fmt;
use std::path::{Path, PathBuf};

pub use super::address::Network;
pub use check::ACKNOWLEDGEMENT;
pub use settings::{
    AgentSettings, BackendSettings, Config, DestinationSettings, LimitSettings, LlmKind, ModelSettings,
    OpenAiSettings, SIMULATED_TRUNK, ServerSettings, SipSettings, SttKind, TrunkSettings, TtsKind,
    VoiceSettings,
};

/// What is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting, with its section: `server.bind`. Empty when the file as a whole is at fault.
    pub key: String,
    /// The file, when there is one.
    pub file: Option<PathBuf>,
    /// Line in the file, counted from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl ConfigError {
    fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), file: None, line: None, problem: problem.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let Some(line) = self.line {
                write!(f, ", line {line}")?;
            }
            f.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(f, "setting `{}`: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// When the file cannot be read, or a setting is missing, unknown or wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
            file: Some(path.to_owned()),
            ..ConfigError::new("", format!("cannot be read: {e}; expected a TOML file"))
        })?;
        Self::parse(&text, path)
    }

    /// Reads and checks `text`, which came from `file`.
    ///
    /// # Errors
    /// When a setting is missing, unknown or wrong.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let place = |error: ConfigError| ConfigError { file: Some(file.to_owned()), ..error };
        let config: Self = toml::from_str(text).map_err(|e| place(locate::syntax_error(text, &e)))?;
        config.check().map_err(|e| place(ConfigError { line: locate::line_of(text, &e.key), ..e }))?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Config::parse(text, Path::new("patchcord.toml")).expect_err("refused").to_string()
    }

    #[test]
    fn an_empty_file_is_the_closed_default() {
        let config = Config::parse("", Path::new("patchcord.toml")).expect("the defaults are valid");
        assert!(config.server.bind.ip().is_loopback());
        assert_eq!(config.trunk.address, SIMULATED_TRUNK);
        assert_eq!(config, Config::default());
    }

    #[test]
    fn a_wrong_setting_names_key_file_line_and_what_was_expected() {
        let text = "[limits]\ntrial_calls = 3\n\n[server]\nbind = \"everywhere\"\n";
        let said = problem(text);
        assert!(said.starts_with("patchcord.toml, line 5: setting `server.bind`: "), "{said}");
        assert!(said.contains("expected an address and port such as `127.0.0.1:8080`"), "{said}");

        let said = problem("[limits]\ntrial_calls = \"many\"\n");
        assert!(said.starts_with("patchcord.toml, line 2: setting `limits.trial_calls`: "), "{said}");
        assert!(said.contains("expected"), "{said}");
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let said = problem("[server]\nbnd = \"127.0.0.1:1\"\n");
        assert!(said.starts_with("patchcord.toml, line 2: setting `server.bnd`: "), "{said}");
        assert!(said.contains("`bind`"), "the known ones are listed: {said}");
        let said = problem("[sever]\nbind = \"127.0.0.1:1\"\n");
        assert!(said.starts_with("patchcord.toml, line 1: setting `sever`: "), "{said}");
    }

    #[test]
    fn a_missing_setting_is_named() {
        let said = problem("[backends]\nllm = \"openai\"\n[backends.openai]\nmodel = \"m\"\n");
        assert!(said.starts_with("patchcord.toml, line 3: setting `backends.openai.base_url`: "), "{said}");
        let said = problem("[backends]\nllm = \"openai\"\n");
        assert!(said.starts_with("patchcord.toml, line 1: setting `backends.openai`: "), "{said}");
    }

    #[test]
    fn text_that_is_not_toml_says_where() {
        let said = problem("[server]\nbind = \n");
        assert!(said.starts_with("patchcord.toml, line 2: "), "{said}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let said = Config::load(Path::new("/nonexistent/patchcord.toml")).expect_err("refused").to_string();
        assert!(said.starts_with("/nonexistent/patchcord.toml: cannot be read: "), "{said}");
    }

    /// Serde lists the fields it knows when it meets one that it does not.
    fn fields(section: &str) -> Vec<String> {
        let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
        let said = problem(&format!("{header}no_such_key = 1\n"));
        let list = said.split("expected").nth(1).expect("the list of fields");
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_setting_is_documented() {
        let doc = include_str!("../../../docs/configuration.md");
        let sections = [
            "server",
            "sip",
            "trunk",
            "destinations",
            "limits",
            "agent",
            "backends",
            "backends.openai",
            "models",
        ];
        for section in sections {
            let (_, chapter) =
                doc.split_once(&format!("## `[{section}]`\n")).unwrap_or_else(|| panic!("{section}"));
            let chapter = chapter.split("\n## ").next().expect("a part");
            let fields = fields(section);
            assert!(!fields.is_empty());
            for field in fields {
                assert!(
                    chapter.contains(&format!("| `{field}` |")) || field == "openai",
                    "{section}.{field} is not in docs/configuration.md"
                );
            }
        }
        for field in fields("") {
            assert!(doc.contains(&format!("## `[{field}")), "{field}");
        }
        for field in fields("voices.jessica") {
            assert!(doc.contains(&format!("| `{field}` |")), "voices.*.{field}");
        }
    }

    #[test]
    fn the_example_in_the_documentation_is_valid_and_complete() {
        let doc = include_str!("../../../docs/configuration.md");
        let example = doc.split("```toml\n").nth(1).and_then(|t| t.split("```").next()).expect("an example");
        Config::parse(example, Path::new("docs/configuration.md")).expect("valid");
    }
}
