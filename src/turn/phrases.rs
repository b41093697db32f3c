//! What words alone tell of the floor: a listener's noise, a sentence that is done, one that is not.
//!
//! Text in, a judgement out. English; another language gets the plain silence window, since nothing matches.

/// Sounds and words of a listener who does not want the floor.
const BACKCHANNELS: &[&str] = &[
    "ah", "aha", "alright", "gotcha", "hm", "hmm", "i see", "mhm", "mm", "mm hm", "mm hmm", "mmhmm", "mmm",
    "oh", "ok", "okay", "right", "sure", "uh huh", "uhhuh", "uh", "um", "yeah", "yep", "yup",
];

/// Words after which a speaker goes on.
const CONTINUERS: &[&str] = &[
    "a", "an", "and", "as", "at", "because", "but", "er", "for", "from", "if", "in", "is", "it's", "like",
    "my", "of", "on", "or", "our", "so", "that's", "the", "then", "to", "uh", "um", "with", "your",
];

/// Turns that are whole however short. A bare "yes", "no" or "thank you" is not among them: people go on after it, and an
/// early answer would talk over what they say.
const COMPLETE: &[&str] =
    &["bye", "bye bye", "go ahead", "goodbye", "hello", "hi", "no thank you", "no thanks", "yes please"];

const NUMBER_WORDS: &[&str] =
    &["zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "double"];

fn plain(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Whether `text` is nothing but backchannel: "uh-huh", "yeah, okay". Empty text is not.
#[must_use]
pub fn is_backchannel(text: &str) -> bool {
    let words = plain(text);
    let mut rest = words.as_slice();
    while !rest.is_empty() {
        let two = rest.len() > 1 && BACKCHANNELS.contains(&format!("{} {}", rest[0], rest[1]).as_str());
        if !two && !BACKCHANNELS.contains(&rest[0].as_str()) {
            return false;
        }
        rest = &rest[1 + usize::from(two)..];
    }
    !words.is_empty() && words.len() <= 4
}

/// Whether `text` is surely a whole turn: a question, a greeting, a yes or no.
#[must_use]
pub fn looks_complete(text: &str) -> bool {
    text.trim_end().ends_with('?') || COMPLETE.contains(&plain(text).join(" ").as_str())
}

/// Whether `text` surely goes on: it ends in a conjunction, an "um", a comma, or amid a number being read out.
#[must_use]
pub fn looks_unfinished(text: &str) -> bool {
    let trimmed = text.trim_end();
    if trimmed.ends_with("...") || trimmed.ends_with([',', '-', '…']) {
        return true;
    }
    let words = plain(trimmed);
    let number = |w: &String| w.chars().all(|c| c.is_ascii_digit()) || NUMBER_WORDS.contains(&w.as_str());
    match words.as_slice() {
        [.., last] if CONTINUERS.contains(&last.as_str()) => !trimmed.ends_with('?'),
        [.., before, last] => number(before) && number(last),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_noises_are_backchannel_and_words_are_not() {
        for text in ["Uh-huh.", "Mm-hmm.", "Yeah, okay.", "OK", "I see."] {
            assert!(is_backchannel(text), "{text}");
        }
        for text in ["", "Yeah, but wait.", "No.", "Hello?", "Stop", "okay okay okay okay okay"] {
            assert!(!is_backchannel(text), "{text}");
        }
    }

    #[test]
    fn a_trailing_conjunction_or_number_goes_on_and_a_question_does_not() {
        for text in ["We have a table at seven and", "Um", "It is 5 5 5", "four oh", "Well,"] {
            assert!(looks_unfinished(text), "{text}");
        }
        for text in ["What is it for?", "We open at nine.", "", "Table for two."] {
            assert!(!looks_unfinished(text), "{text}");
        }
        assert!(looks_complete("Hello.") && looks_complete("May I ask who is calling?"));
        for text in ["We open at nine.", "Yes.", "No.", "Thank you."] {
            assert!(!looks_complete(text), "{text}");
        }
    }
}
