//! The shipped scenarios, and reading scenarios from files.

use std::path::Path;

use patchcord::sim::Scenario;

use super::Failure;

/// In the order of `demo --scenario all`.
const SHIPPED: &[(&str, &str)] = &[
    ("receptionist", include_str!("../../scenarios/receptionist.toml")),
    ("voicemail", include_str!("../../scenarios/voicemail.toml")),
    ("voicemail-silent", include_str!("../../scenarios/voicemail-silent.toml")),
    ("menu", include_str!("../../scenarios/menu.toml")),
    ("busy", include_str!("../../scenarios/busy.toml")),
    ("no-answer", include_str!("../../scenarios/no-answer.toml")),
    ("declined", include_str!("../../scenarios/declined.toml")),
    ("invalid-number", include_str!("../../scenarios/invalid-number.toml")),
];

/// The names of the shipped scenarios.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// A shipped scenario by name, or all of them by `all`.
pub(super) fn shipped(name: &str) -> Result<Vec<Scenario>, Failure> {
    if name == "all" {
        return SHIPPED.iter().map(|(name, text)| parse(text, name)).collect();
    }
    let Some((name, text)) = SHIPPED.iter().find(|(n, _)| *n == name) else {
        let known: Vec<&str> = names().collect();
        return Err(format!("scenario `{name}` is not shipped: expected all, {}", known.join(", ")).into());
    };
    Ok(vec![parse(text, name)?])
}

/// A scenario of the user's own.
pub(super) fn from_file(path: &Path) -> Result<Scenario, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text, &path.display().to_string())
}

fn parse(text: &str, origin: &str) -> Result<Scenario, Failure> {
    let scenario: Scenario = toml::from_str(text).map_err(|e| format!("{origin}: {e}"))?;
    scenario.check().map_err(|e| format!("{origin}: {e}"))?;
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_is_valid_and_has_a_number_of_its_own() {
        let all = shipped("all").expect("valid");
        assert_eq!(all.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), names().collect::<Vec<_>>());
        let mut numbers: Vec<_> = all.iter().map(|s| &s.number).collect();
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), all.len());
    }

    #[test]
    fn mistakes_in_a_users_file_are_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("mine.toml");
        std::fs::write(&path, "name = \"x\"\nsummmary = \"y\"\n").expect("written");
        let error = from_file(&path).expect_err("a typo").to_string();
        assert!(error.contains("mine.toml") && error.contains("summmary"), "{error}");
    }
}
