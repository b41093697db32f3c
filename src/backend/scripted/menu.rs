//! Picks a menu option by matching its words with the task.

/// Words that say nothing about a department or a wish.
const STOP_WORDS: &[&str] = &[
    "a", "an", "the", "to", "for", "of", "and", "or", "in", "on", "at", "is", "are", "you", "your", "we",
    "our", "i", "me", "my", "please", "press", "dial", "with", "they", "them", "their", "whether", "if",
    "about", "any", "this", "that", "it", "be", "can", "will", "would", "speak", "talk", "want", "ask",
    "tell", "call", "have", "has", "do",
];

/// What people call a person behind a menu.
const OPERATOR_WORDS: &[&str] = &[
    "operator",
    "representative",
    "reception",
    "receptionist",
    "agent",
    "person",
    "someone",
    "front",
    "desk",
    "other",
];

/// Groups of words that stand for each other in menus and tasks.
const RELATED: &[&[&str]] = &[
    &["appointment", "book", "booking", "reservation", "reserve", "schedule", "scheduling", "table", "visit"],
    &["bill", "billing", "invoice", "payment", "pay", "account", "charge", "refund"],
    &["hour", "opening", "open", "close", "closing", "location", "address", "direction"],
    &["repair", "service", "support", "technical", "help", "broken", "problem"],
    &["sale", "buy", "order", "purchase", "price", "quote", "stock"],
    &["cancel", "cancellation"],
];

/// One option of a menu: the key and the words around it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MenuOption {
    pub(super) key: char,
    words: Vec<String>,
}

/// The options in a spoken menu: "for sales, press one", "press 2 for billing".
pub(super) fn options(text: &str) -> Vec<MenuOption> {
    let mut found = Vec::new();
    for clause in text.split(['.', ';', '?', '!']) {
        let words = words(clause);
        // Where "press N" closes a phrase the words before it belong to it; where it opens one, the words after.
        let keys: Vec<(usize, char)> = words
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| matches!(pair[0].as_str(), "press" | "dial" | "say"))
            .filter_map(|(i, pair)| key(&pair[1]).map(|k| (i, k)))
            .collect();
        let leading = keys.first().is_some_and(|&(i, _)| i > 0);
        for (n, &(i, key)) in keys.iter().enumerate() {
            let range = if leading {
                let from = if n == 0 { 0 } else { keys[n - 1].0 + 2 };
                from..i
            } else {
                i + 2..keys.get(n + 1).map_or(words.len(), |next| next.0)
            };
            found.push(MenuOption { key, words: content(&words[range]) });
        }
    }
    found
}

/// The key to press for `task`: the option that shares most words with it, else the one that leads to a person.
/// `None` when nothing fits.
pub(super) fn choose(task: &str, options: &[MenuOption]) -> Option<char> {
    let task = content(&words(task));
    let score = |option: &MenuOption| -> usize {
        option.words.iter().map(|w| task.iter().map(|t| likeness(w, t)).max().unwrap_or(0)).sum()
    };
    let best = options.iter().max_by_key(|o| (score(o), std::cmp::Reverse(o.key)))?;
    if score(best) > 0 {
        return Some(best.key);
    }
    options.iter().find(|o| o.words.iter().any(|w| OPERATOR_WORDS.contains(&w.as_str()))).map(|o| o.key)
}

fn likeness(a: &str, b: &str) -> usize {
    if a == b {
        return 3;
    }
    usize::from(RELATED.iter().any(|group| group.contains(&a) && group.contains(&b))) * 2
}

fn key(word: &str) -> Option<char> {
    const NAMES: [&str; 10] =
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    match word {
        "star" | "*" => Some('*'),
        "pound" | "hash" | "#" => Some('#'),
        "to" | "too" => Some('2'),
        "for" => Some('4'),
        "oh" => Some('0'),
        _ => {
            NAMES.iter().position(|n| *n == word).and_then(|i| char::from_digit(i as u32, 10)).or_else(|| {
                let mut chars = word.chars();
                chars.next().filter(|c| c.is_ascii_digit() && chars.next().is_none())
            })
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '*' | '#' | '\''))
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect()
}

fn content(words: &[String]) -> Vec<String> {
    let stem =
        |w: &String| w.strip_suffix('s').filter(|s| s.len() > 3 && !s.ends_with('s')).unwrap_or(w).to_owned();
    words.iter().filter(|w| !STOP_WORDS.contains(&w.as_str())).map(stem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_word_orders_are_read() {
        let text = "For sales, press one. For appointments press 2. Press 0 for the operator.";
        let keys: Vec<char> = options(text).iter().map(|o| o.key).collect();
        assert_eq!(keys, ['1', '2', '0']);
        let text = "press one for sales, press two for service";
        assert_eq!(options(text).iter().map(|o| o.key).collect::<Vec<_>>(), ['1', '2']);
    }

    #[test]
    fn the_option_that_shares_the_tasks_words_wins() {
        let menu =
            options("For billing, press 1. To book an appointment, press 2. For anything else, press 3.");
        assert_eq!(choose("Ask for an appointment on Tuesday", &menu), Some('2'));
        assert_eq!(choose("Ask why the invoice is wrong", &menu), Some('1'));
    }

    #[test]
    fn without_a_match_a_person_is_asked_for() {
        let menu = options("For sales press 1. To reach the operator press 0.");
        assert_eq!(choose("Ask about the lost umbrella", &menu), Some('0'));
        assert_eq!(choose("Ask about the lost umbrella", &options("For sales press 1.")), None);
    }
}
