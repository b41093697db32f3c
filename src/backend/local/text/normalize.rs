//! Text as written to words as said: numbers, money, times, telephone numbers, codes, abbreviations, addresses.
//!
//! In: a clause. Out: [`Token`]s, each tied to the end of the written word it came from, so that the transcript can say
//! what was heard. A written word is what stands between two spaces. American English. Unknown notations are spelled
//! or passed over, never refused.

use super::numbers::digits;

/// A piece of what is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Byte offset in the clause of the end of the written word this belongs to, its punctuation included.
    pub end: usize,
    /// What to say.
    pub kind: Said,
}

/// A word, a letter by name, or a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A lower-case word.
    Word(String),
    /// A letter said by its name.
    Letter(char),
    /// Punctuation that is heard.
    Pause(Pause),
}

/// Punctuation that is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// A comma's.
    Short,
    /// A full stop's.
    Stop,
    /// A question's.
    Question,
    /// An exclamation's.
    Exclamation,
}

/// Turns a clause into what is said. `known` tells whether a lower-case word is in the dictionary, which decides
/// whether a word in capitals is a word or an abbreviation.
#[must_use]
pub fn normalize(clause: &str, known: &dyn Fn(&str) -> bool) -> Vec<Token> {
    let words = split(clause);
    let shouted = words.len() > 2 && !clause.chars().any(char::is_lowercase);
    let mut reader = Reader { words, at: 0, end: 0, shouted, known, out: Vec::new() };
    while reader.at < reader.words.len() {
        reader.word();
        reader.at += 1;
    }
    reader.out
}

/// A written word without the punctuation around it.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) before: &'a str,
    pub(super) core: &'a str,
    pub(super) after: &'a str,
    pub(super) end: usize,
}

fn split(clause: &str) -> Vec<Written<'_>> {
    let base = clause.as_ptr() as usize;
    let words = clause.split_whitespace().map(|word| {
        let end = word.as_ptr() as usize - base + word.len();
        let first = |c: char| c.is_alphanumeric() || "$£€#+&%@/".contains(c);
        let last = |c: char| c.is_alphanumeric() || "%&+@#/".contains(c);
        let Some(start) = word.find(first) else {
            return Written { before: "", core: "", after: word, end };
        };
        let stop = word.rfind(last).map_or(start, |i| i + word[i..].chars().next().map_or(0, char::len_utf8));
        let stop = stop.max(start);
        Written { before: &word[..start], core: &word[start..stop], after: &word[stop..], end }
    });
    words.collect()
}

/// Reads one written word after the other; numbers may take the next along.
pub(super) struct Reader<'a> {
    pub(super) words: Vec<Written<'a>>,
    pub(super) at: usize,
    /// Of the written word being read.
    end: usize,
    shouted: bool,
    pub(super) known: &'a dyn Fn(&str) -> bool,
    out: Vec<Token>,
}

impl<'a> Reader<'a> {
    pub(super) fn say(&mut self, words: &str) {
        for word in words.split(' ').filter(|w| !w.is_empty()) {
            self.out.push(Token { end: self.end, kind: Said::Word(word.into()) });
        }
    }

    pub(super) fn spell(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '0'..='9' => self.say(&digits(&c.to_string())),
                c if c.is_alphabetic() => {
                    self.out.push(Token { end: self.end, kind: Said::Letter(c.to_ascii_lowercase()) });
                }
                _ => {}
            }
        }
    }

    pub(super) fn pause(&mut self, pause: Pause) {
        match self.out.last_mut() {
            None => {}
            // Of two in a row the longer one is heard.
            Some(Token { kind: Said::Pause(last), end }) => {
                *end = self.end;
                if *last == Pause::Short {
                    *last = pause;
                }
            }
            Some(_) => self.out.push(Token { end: self.end, kind: Said::Pause(pause) }),
        }
    }

    pub(super) fn peek(&self, ahead: usize) -> Option<Written<'a>> {
        self.words.get(self.at + ahead).copied()
    }

    pub(super) fn previous(&self) -> &'a str {
        self.at.checked_sub(1).map_or("", |i| self.words[i].core)
    }

    fn word(&mut self) {
        let word = self.words[self.at];
        self.end = word.end;
        if word.before.contains(['(', '[', '—', '–']) {
            self.pause(Pause::Short);
        }
        let mut dotted = false;
        if !word.core.is_empty() {
            dotted = self.core(word);
        }
        // Numbers may have taken the next words along ("million", "p.m.").
        let word = self.words[self.at];
        self.end = word.end;
        if let Some(last) = self.out.last_mut() {
            last.end = word.end;
        }
        let after = word.after.trim_matches(['"', '\'', '”', '’', ')', ']', '*', '_', '`']);
        let last = self.at + 1 == self.words.len();
        let stop = match after.chars().next() {
            Some('.') if dotted && !last => after[1..].chars().next(),
            Some('.') if after.starts_with("..") => Some(','),
            c => c,
        };
        match stop {
            Some('.') => self.pause(Pause::Stop),
            Some('?') => self.pause(Pause::Question),
            Some('!') => self.pause(Pause::Exclamation),
            Some(',' | ';' | ':' | '—' | '–' | '…') => self.pause(Pause::Short),
            Some('-') if word.core.is_empty() || after.len() > 1 => self.pause(Pause::Short),
            _ if word.after.contains([')', ']']) => self.pause(Pause::Short),
            _ => {}
        }
    }

    /// Says a word's core; true when a full stop after it belongs to an abbreviation.
    fn core(&mut self, word: Written<'_>) -> bool {
        let core = word.core.replace('’', "'");
        let core = core.as_str();
        if let Some(dotted) = self.abbreviation(core, word.after) {
            return dotted;
        }
        if core.bytes().any(|b| b.is_ascii_digit()) {
            self.with_digits(core, word);
        } else {
            self.letters(core);
        }
        false
    }

    /// Says a known abbreviation; tells whether a full stop after it belongs to it.
    fn abbreviation(&mut self, core: &str, after: &str) -> Option<bool> {
        let stop = after.starts_with('.');
        let capital = |w: Option<Written<'_>>| w.is_some_and(|w| w.core.starts_with(char::is_uppercase));
        let lower = core.to_ascii_lowercase();
        // "p.m", "U.S", "e.g" with or without their last stop.
        if core.contains('.')
            && core.split('.').all(|p| p.chars().count() == 1 && p.chars().all(char::is_alphabetic))
        {
            match lower.as_str() {
                "e.g" => self.say("for example"),
                "i.e" => self.say("that is"),
                _ => self.spell(&lower),
            }
            return Some(true);
        }
        if matches!(lower.as_str(), "am" | "pm") && self.previous().ends_with(|c: char| c.is_ascii_digit()) {
            self.spell(&lower);
            return Some(stop);
        }
        let said = match lower.as_str() {
            "mr" => "mister",
            "mrs" => "missus",
            "ms" if stop || capital(self.peek(1)) => "miz",
            "dr" if capital(self.peek(1)) => "doctor",
            "dr" if stop => {
                if self.previous().starts_with(char::is_uppercase) {
                    "drive"
                } else {
                    "doctor"
                }
            }
            "st" if capital(self.peek(1))
                && !self.previous().starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit()) =>
            {
                "saint"
            }
            "st" => "street",
            "jr" => "junior",
            "sr" => "senior",
            "vs" => "versus",
            "etc" => "etcetera",
            "approx" => "approximately",
            "ave" if stop => "avenue",
            "blvd" => "boulevard",
            "rd" if stop => "road",
            "apt"
                if stop || self.peek(1).is_some_and(|w| w.core.starts_with(|c: char| c.is_ascii_digit())) =>
            {
                "apartment"
            }
            "dept" => "department",
            "ext" => "extension",
            "inc" if stop => "incorporated",
            "corp" if stop => "corporation",
            "co" if stop => "company",
            "no" if stop
                && self.peek(1).is_some_and(|w| w.core.starts_with(|c: char| c.is_ascii_digit())) =>
            {
                "number"
            }
            "jan" if stop => "january",
            "feb" if stop => "february",
            "aug" if stop => "august",
            "sept" if stop => "september",
            "oct" if stop => "october",
            "nov" if stop => "november",
            "dec" if stop => "december",
            "mon" if stop => "monday",
            "tue" | "tues" if stop => "tuesday",
            "wed" if stop => "wednesday",
            "thu" | "thurs" if stop => "thursday",
            "fri" if stop => "friday",
            _ => return None,
        };
        self.say(said);
        Some(stop)
    }

    /// A word without digits.
    fn letters(&mut self, core: &str) {
        match core {
            "&" => return self.say("and"),
            "%" => return self.say("percent"),
            "+" => return self.say("plus"),
            "@" => return self.say("at"),
            "/" => return self.say("slash"),
            "#" => return self.say("number"),
            "$" => return self.say("dollars"),
            "£" => return self.say("pounds"),
            "€" => return self.say("euros"),
            _ => {}
        }
        if is_address(core) {
            return self.address(core);
        }
        let trimmed = core.trim_matches(|c: char| !c.is_alphabetic());
        if let Some((left, right)) = trimmed.split_once('&') {
            self.letters(left);
            self.say("and");
            return self.letters(right);
        }
        for part in trimmed.split(|c: char| !c.is_alphabetic() && c != '\'' && c != '.') {
            for piece in part.split('.') {
                self.plain(piece.trim_matches('\''));
            }
        }
    }

    /// One run of letters, perhaps an abbreviation in capitals.
    fn plain(&mut self, text: &str) {
        let lower = text.to_lowercase();
        let count = text.chars().count();
        let body = lower.strip_suffix("'s").unwrap_or(&lower);
        let stem = text.strip_suffix("'s").or_else(|| text.strip_suffix('s')).unwrap_or(text);
        let capitals =
            |t: &str| t.chars().count() > 1 && t.chars().all(|c| c.is_alphabetic() && c.is_uppercase());
        match lower.as_str() {
            "" => {}
            "a" | "i" => self.say(&lower),
            "ok" => self.say("okay"),
            _ if count == 1 => self.spell(&lower),
            _ if capitals(stem) && spelled(stem, self.shouted, self.known) => {
                self.spell(&stem.to_lowercase());
                if stem.len() < text.len() {
                    // "PINs", "AI's": the ending goes with the last letter's name.
                    self.out.push(Token { end: self.end, kind: Said::Word("'s".into()) });
                }
            }
            _ if !body.contains(['a', 'e', 'i', 'o', 'u', 'y']) && !(self.known)(&lower) => {
                self.spell(&lower);
            }
            _ => self.say(&lower),
        }
    }

    /// An e-mail or web address.
    pub(super) fn address(&mut self, text: &str) {
        let bare = text.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        let mut run = String::new();
        for c in bare.chars().chain(['\0']) {
            if c.is_alphanumeric() {
                run.push(c);
                continue;
            }
            let word = run.len() > 2 && !run.bytes().any(|b| b.is_ascii_digit());
            if word && run != "www" {
                self.say(&run.to_lowercase());
            } else {
                self.spell(&run);
            }
            run.clear();
            self.say(match c {
                '@' => "at",
                '.' => "dot",
                '/' => "slash",
                '-' => "dash",
                '_' => "underscore",
                '+' => "plus",
                _ => "",
            });
        }
    }
}

/// Whether a word in capitals is said letter by letter.
fn spelled(text: &str, shouted: bool, known: &dyn Fn(&str) -> bool) -> bool {
    const SAID: &[&str] = &[
        "NASA", "PIN", "SIM", "ZIP", "RAM", "NATO", "ASAP", "YES", "NO", "NOT", "AND", "OR", "THE", "ALL",
        "YOU", "NOW", "CAN", "ARE", "IS", "IN", "ON", "TO", "OF", "BE", "DO", "GO", "WE", "ME", "MY", "HE",
        "AN", "AT", "BUT", "FOR", "HAS", "HER", "HIS", "HOW", "NEW", "ONE", "OUR", "OUT", "TWO", "WAS",
        "WHO", "WHY", "ANY", "DAY", "GET", "LET", "MAY", "OFF", "SAY", "SIR", "SO", "IF", "AS", "BY", "UP",
        "OH", "HI",
    ];
    const SPELLED: &[&str] =
        &["AI", "IT", "US", "UK", "EU", "AIDS", "IVR", "FAQ", "SMS", "ATM", "HR", "TV", "CEO"];
    let lower = text.to_lowercase();
    if shouted && known(&lower) {
        return SPELLED[..1].contains(&text);
    }
    if SAID.contains(&text) {
        return false;
    }
    SPELLED.contains(&text) || text.chars().count() <= 3 || !known(&lower)
}

pub(super) fn is_address(text: &str) -> bool {
    const DOMAINS: &[&str] =
        &["com", "org", "net", "io", "ai", "edu", "gov", "co", "us", "uk", "de", "app", "dev", "info"];
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") || lower.starts_with("www.") {
        return true;
    }
    let host = lower.split_once('@').map_or(lower.as_str(), |(_, h)| h);
    let host = host.split('/').next().unwrap_or_default();
    let domain = host.rsplit_once('.').filter(|(name, _)| name.len() > 1);
    domain.is_some_and(|(_, d)| DOMAINS.contains(&d) || lower.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words, `.X` for letters, and punctuation.
    fn said(clause: &str) -> String {
        let known =
            |w: &str| matches!(w, "stop" | "please" | "hello" | "call" | "it" | "visa" | "us" | "blue");
        let tokens = normalize(clause, &known).into_iter().map(|t| match t.kind {
            Said::Word(w) => w,
            Said::Letter(c) => format!(".{}", c.to_ascii_uppercase()),
            Said::Pause(Pause::Short) => ",".into(),
            Said::Pause(Pause::Stop) => ".".into(),
            Said::Pause(Pause::Question) => "?".into(),
            Said::Pause(Pause::Exclamation) => "!".into(),
        });
        tokens.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn numbers_money_and_percent() {
        for (text, words) in [
            ("You owe $42.18.", "you owe forty two dollars and eighteen cents ."),
            ("$1", "one dollar"),
            ("$0.99", "ninety nine cents"),
            ("$1,250", "one thousand two hundred fifty dollars"),
            ("$5 million today", "five million dollars today"),
            ("$3k", "three thousand dollars"),
            ("£20", "twenty pounds"),
            ("15% off", "fifteen percent off"),
            ("3.5 miles", "three point five miles"),
            ("1,250 seats", "one thousand two hundred fifty seats"),
            ("in 1999", "in nineteen ninety nine"),
            ("the year 2026", "the year twenty twenty six"),
            ("-5 degrees", "minus five degrees"),
            ("10km", "ten kilometers"),
            ("1/2 cup", "one half cup"),
        ] {
            assert_eq!(said(text), words, "{text}");
        }
    }

    #[test]
    fn telephone_numbers_and_codes_are_read_digit_by_digit() {
        for (text, words) in [
            ("Call 555-0142.", "call five five five , zero one four two ."),
            ("(212) 555-0142", "two one two , five five five , zero one four two"),
            ("+1 212 555 0142", "one , two one two , five five five , zero one four two"),
            ("+12125550142", "one two one two five five five zero one four two"),
            ("1-800-555-0199", "one , eight zero zero , five five five , zero one nine nine"),
            ("Your code is 48213.", "your code is four eight two one three ."),
            ("code 4821", "code four eight two one"),
            ("the card ending in 1234", "the card ending in one two three four"),
            ("order #9315", "order number nine three one five"),
            ("PIN 0042", "pin zero zero four two"),
            ("confirmation AB12C9", "confirmation .A .B twelve .C nine"),
        ] {
            assert_eq!(said(text), words, "{text}");
        }
    }

    #[test]
    fn times_dates_and_ordinals() {
        for (text, words) in [
            ("at 3:30 p.m. today", "at three thirty .P .M today"),
            ("At 9:00 a.m.", "at nine .A .M ."),
            ("7pm", "seven .P .M"),
            ("7 PM?", "seven .P .M ?"),
            ("at 10:05", "at ten oh five"),
            ("by 5:00", "by five o'clock"),
            ("May 3rd", "may third"),
            ("the 21st,", "the twenty first ,"),
            ("11/23/2026", "november twenty third twenty twenty six"),
            ("2026-11-23", "november twenty third twenty twenty six"),
            ("open 9-5", "open nine to five"),
            ("the 1990s", "the nineteen nineties"),
            ("24/7", "twenty four seven"),
        ] {
            assert_eq!(said(text), words, "{text}");
        }
    }

    #[test]
    fn abbreviations_letters_and_capitals() {
        for (text, words) in [
            ("Mr. Smith and Dr. Jones", "mister smith and doctor jones"),
            ("12 Main St. is near St. Mary", "twelve main street is near saint mary"),
            ("I'm an AI assistant.", "i'm an .A .I assistant ."),
            ("the U.S. office", "the .U .S office"),
            ("STOP it", "stop it"),
            ("PLEASE CALL US NOW", "please call us now"),
            ("R&D", ".R and .D"),
            ("salt & pepper", "salt and pepper"),
            ("the IT team", "the .I .T team"),
            ("two ATMs", "two .A .T .M 's"),
            ("OK, e.g. this", "okay , for example this"),
            ("don’t", "don't"),
            ("follow-up and/or", "follow up and or"),
        ] {
            assert_eq!(said(text), words, "{text}");
        }
    }

    #[test]
    fn addresses_are_readable() {
        assert_eq!(said("joe.b@example.com"), "joe dot .B at example dot com");
        assert_eq!(said("www.example.com/help"), ".W .W .W dot example dot com slash help");
    }

    #[test]
    fn punctuation_becomes_pauses_and_markup_is_silent() {
        for (text, words) in [
            ("Yes — of course!", "yes , of course !"),
            ("**Sure**, \"fine\".", "sure , fine ."),
            ("Well... no", "well , no"),
            ("(really)", "really ,"),
            ("- \u{1f600} -", ""),
            ("", ""),
        ] {
            assert_eq!(said(text), words, "{text}");
        }
    }

    #[test]
    fn tokens_end_where_their_written_word_ends() {
        let ends: Vec<usize> = normalize("Pay $42.18, please.", &|_| true).iter().map(|t| t.end).collect();
        assert_eq!(ends.first(), Some(&3));
        assert!(ends[1..ends.len() - 2].iter().all(|e| *e == 11), "{ends:?}");
        assert_eq!(&ends[ends.len() - 2..], [19, 19]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic_and_in_order(text in "[\\PC ]{0,60}|[0-9$.,:/#%&@()+ apm'-]{0,40}") {
            let tokens = normalize(&text, &|w| w.len() > 3);
            proptest::prop_assert!(tokens.windows(2).all(|t| t[0].end <= t[1].end));
            proptest::prop_assert!(tokens.iter().all(|t| text.is_char_boundary(t.end)));
        }
    }
}
