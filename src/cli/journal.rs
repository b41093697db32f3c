//! Reads what the far end wrote about a call, to compare both ends.

use std::path::Path;

use patchcord::engine::JournalEntry;

use super::Failure;

/// The journal's newest entry for a scenario; `None` while the far end has not written it.
pub(super) fn newest(mailbox: &Path, scenario: &str) -> Result<Option<JournalEntry>, Failure> {
    let path = mailbox.join("journal.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    let mut newest = None;
    for line in text.lines() {
        let entry: JournalEntry =
            serde_json::from_str(line).map_err(|e| format!("{}: {e}", path.display()))?;
        if entry.scenario == scenario {
            newest = Some(entry);
        }
    }
    Ok(newest)
}

/// Word error rate of `heard` against `said`: edits over words said. Case, punctuation and number spelling are ignored.
pub(super) fn word_error_rate(said: &str, heard: &str) -> f64 {
    let (said, heard) = (words(said), words(heard));
    if said.is_empty() {
        return 0.0;
    }
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, a) in said.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in heard.iter().enumerate() {
            let substitute = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[heard.len()] as f64 / said.len() as f64
}

fn words(text: &str) -> Vec<String> {
    const NUMBERS: [&str; 13] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
        "twelve",
    ];
    let text = text.to_lowercase().replace(":00", " o'clock").replace('\'', "");
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(|w| match w.parse::<usize>().ok().and_then(|n| NUMBERS.get(n)) {
            Some(name) => (*name).to_owned(),
            None => w.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_against_the_words_said() {
        assert_eq!(word_error_rate("Good morning, how can I help?", "good morning how can I help"), 0.0);
        assert_eq!(word_error_rate("press two for sales", "press 2 for sails"), 0.25);
        assert_eq!(word_error_rate("three o'clock", "3 o'clock"), 0.0);
        assert_eq!(word_error_rate("a b", ""), 1.0);
    }
}
