//! How numbers are written, and read: money, telephone numbers, times, dates, codes.
//!
//! In: a written word with digits, and its neighbours. Out: words, through the [`Reader`].

use super::normalize::{Pause, Reader, Written, is_address};
use super::numbers::{cardinal, digits, integer, ordinal, written, year};

impl Reader<'_> {
    /// A word with digits in it.
    pub(super) fn with_digits(&mut self, core: &str, word: Written<'_>) {
        let previous = self.previous().to_ascii_lowercase();
        if is_address(core) {
            self.address(core);
        } else if let Some(amount) = core.strip_prefix(['$', '£', '€']) {
            self.money(core, amount);
        } else if let Some(number) = core.strip_prefix('#') {
            self.say("number");
            self.number_or_code(number, true);
        } else if let Some(number) = core.strip_suffix('%') {
            self.number_or_code(number, false);
            self.say("percent");
        } else if !(self.telephone(core, word) || self.time(core) || self.date(core) || self.ordinal(core)) {
            let before = self.at.checked_sub(2).map_or("", |i| self.words[i].core);
            let ending =
                matches!(before, "ending" | "ends" | "end") && matches!(previous.as_str(), "in" | "with");
            let negative = word.before.ends_with('-') || word.before.ends_with('−');
            if negative && !previous.ends_with(|c: char| c.is_ascii_digit()) {
                self.say("minus");
            }
            self.number_or_code(core, ending || expects_code(&previous));
        }
    }

    fn money(&mut self, core: &str, amount: &str) {
        let (unit, units, small) = match core.chars().next() {
            Some('£') => ("pound", "pounds", "pence"),
            Some('€') => ("euro", "euros", "cents"),
            _ => ("dollar", "dollars", "cents"),
        };
        let next = self.peek(1).map_or("", |w| w.core);
        let scale =
            ["hundred", "thousand", "million", "billion", "trillion"].into_iter().find(|s| *s == next);
        if let (Some(scale), Some(number)) = (scale, written(amount)) {
            self.say(&format!("{number} {scale} {units}"));
            self.at += 1;
            return;
        }
        let suffix =
            [('k', "thousand"), ('K', "thousand"), ('M', "million"), ('m', "million"), ('B', "billion")];
        for (letter, scale) in suffix {
            if let Some(number) = amount.strip_suffix(letter).and_then(written) {
                return self.say(&format!("{number} {scale} {units}"));
            }
        }
        let (whole, cents) = amount.split_once('.').map_or((amount, ""), |(w, c)| (w, c));
        let (Some(whole), Some(part)) =
            (integer(if whole.is_empty() { "0" } else { whole }), cents_of(cents))
        else {
            return self.mixed(amount);
        };
        if whole > 0 || part == 0 {
            self.say(&format!("{} {}", cardinal(whole), if whole == 1 { unit } else { units }));
        }
        if part > 0 {
            let name = if part == 1 && small == "cents" { "cent" } else { small };
            let and = if whole > 0 { "and " } else { "" };
            self.say(&format!("{and}{} {name}", cardinal(part)));
        }
    }

    /// Digits in groups, seven and more, or an area code in parentheses: each digit by name, a pause between groups.
    fn telephone(&mut self, core: &str, word: Written<'_>) -> bool {
        let number = core.strip_prefix('+').unwrap_or(core);
        let groups: Vec<&str> = number.split(['-', '.', '(', ')']).filter(|g| !g.is_empty()).collect();
        if !groups.iter().all(|g| g.bytes().all(|b| b.is_ascii_digit())) {
            return false;
        }
        let count: usize = groups.iter().map(|g| g.len()).sum();
        let area = word.before.ends_with('(') && word.after.starts_with(')') && count == 3;
        let international = core.starts_with('+') && count > 0;
        let dated = groups.len() == 3 && groups[0].len() == 4 && groups[1].len() == 2;
        let grouped = groups.len() > 1 && count >= 7 && !dated && groups.iter().all(|g| g.len() <= 5);
        // "555 0142" and "1 800 555 0100": short groups in a row.
        let run = groups.len() == 1 && self.in_digit_run(count);
        if !(area || international || grouped || run) {
            return false;
        }
        for (i, group) in groups.iter().enumerate() {
            if i > 0 {
                self.pause(Pause::Short);
            }
            self.say(&digits(group));
        }
        let next = self.peek(1).is_some_and(|w| w.core.bytes().next().is_some_and(|b| b.is_ascii_digit()));
        if (area || international || run) && next && word.after.is_empty() {
            self.pause(Pause::Short);
        }
        true
    }

    /// Whether this group of digits stands beside others that make a telephone number together.
    fn in_digit_run(&self, count: usize) -> bool {
        let group = |w: &Written<'_>| {
            let plain = w.core.strip_prefix('+').unwrap_or(w.core);
            (1..=4).contains(&plain.len()) && plain.bytes().all(|b| b.is_ascii_digit())
        };
        if count > 4 {
            return false;
        }
        let open = |w: &Written<'_>| w.after.is_empty() || w.after == ")";
        let mut first = self.at;
        while first > 0 && group(&self.words[first - 1]) && open(&self.words[first - 1]) {
            first -= 1;
        }
        let mut last = self.at;
        while open(&self.words[last]) && self.words.get(last + 1).is_some_and(&group) {
            last += 1;
        }
        let total: usize =
            self.words[first..=last].iter().map(|w| w.core.trim_start_matches('+').len()).sum();
        last > first && total >= 7
    }

    fn time(&mut self, core: &str) -> bool {
        let lower = core.to_ascii_lowercase();
        let half = ["am", "pm", "a.m", "p.m"].into_iter().find(|h| lower.ends_with(h));
        let clock = half.map_or(lower.as_str(), |h| lower[..lower.len() - h.len()].trim_end_matches('.'));
        let (hour, minute) = match clock.split_once(':') {
            Some((h, m)) if m.len() == 2 => (h, Some(m)),
            None if half.is_some() => (clock, None),
            _ => return false,
        };
        let (Some(hour), Some(minute)) = (integer(hour), minute.map_or(Some(0), integer)) else {
            return false;
        };
        if hour > 24 || minute > 59 {
            return false;
        }
        self.say(&cardinal(hour));
        match minute {
            0 if half.is_some() => {}
            0 if hour > 12 || hour == 0 => self.say("hundred"),
            // "9:00 a.m." is nine a.m.; "9:00" alone is nine o'clock.
            0 if self.peek(1).is_some_and(|w| {
                matches!(w.core.to_ascii_lowercase().as_str(), "a.m" | "p.m" | "am" | "pm")
            }) => {}
            0 => self.say("o'clock"),
            1..=9 => self.say(&format!("oh {}", cardinal(minute))),
            _ => self.say(&cardinal(minute)),
        }
        if let Some(half) = half {
            self.spell(half);
        }
        true
    }

    fn date(&mut self, core: &str) -> bool {
        const MONTHS: [&str; 12] = [
            "january",
            "february",
            "march",
            "april",
            "may",
            "june",
            "july",
            "august",
            "september",
            "october",
            "november",
            "december",
        ];
        let parts: Vec<&str> = core.split(['/', '-']).collect();
        let numbers: Option<Vec<u64>> = parts.iter().map(|p| integer(p)).collect();
        let Some(n) = numbers else { return false };
        let month = |m: u64| (1..=12).contains(&m).then(|| MONTHS[m as usize - 1]);
        let slash = core.contains('/');
        match (n.as_slice(), slash) {
            ([y, m, d], false) if parts[0].len() == 4 && (1..=31).contains(d) => {
                let Some(month) = month(*m) else { return false };
                self.say(&format!("{month} {} {}", ordinal(*d), year(*y)));
            }
            ([m, d, y], true) if (1..=31).contains(d) => {
                let Some(month) = month(*m) else { return false };
                let y = if *y < 100 { y + 2000 } else { *y };
                self.say(&format!("{month} {} {}", ordinal(*d), year(y)));
            }
            ([24, 7], true) => self.say("twenty four seven"),
            ([1, 2], true) => self.say("one half"),
            ([1, 4], true) => self.say("one quarter"),
            ([3, 4], true) => self.say("three quarters"),
            ([1, 3], true) => self.say("one third"),
            ([2, 3], true) => self.say("two thirds"),
            ([a, b], true) => self.say(&format!("{} slash {}", cardinal(*a), cardinal(*b))),
            ([a, b], false) if parts.iter().all(|p| p.len() <= 4) => {
                let (a, b) = (self.count(*a, parts[0]), self.count(*b, parts[1]));
                self.say(&format!("{a} to {b}"));
            }
            _ => return false,
        }
        true
    }

    fn ordinal(&mut self, core: &str) -> bool {
        let lower = core.to_ascii_lowercase();
        for ending in ["st", "nd", "rd", "th"] {
            if let Some(n) = lower.strip_suffix(ending).and_then(integer) {
                self.say(&ordinal(n));
                return true;
            }
        }
        // "1990s", "20s".
        if let Some(n) = lower.strip_suffix('s').map(|s| s.trim_end_matches('\'')).and_then(integer) {
            let words = if n >= 1100 { year(n) } else { cardinal(n) };
            let plural = match words.strip_suffix('y') {
                Some(stem) => format!("{stem}ies"),
                None => format!("{words}s"),
            };
            self.say(&plural);
            return true;
        }
        false
    }

    /// A bare whole number: years and short numbers as such, long ones and those with leading zeros digit by digit.
    fn count(&self, n: u64, text: &str) -> String {
        if text.len() >= 5 && !text.contains(',') || text.len() > 1 && text.starts_with('0') {
            digits(text)
        } else if text.len() == 4 && ((1100..2000).contains(&n) || (2010..2100).contains(&n)) {
            year(n)
        } else {
            cardinal(n)
        }
    }

    fn number_or_code(&mut self, text: &str, code: bool) {
        if let Some(n) = integer(text) {
            let plain = !text.contains(',');
            let words = if code && plain && text.len() >= 3 { digits(text) } else { self.count(n, text) };
            return self.say(&words);
        }
        if let Some(words) = written(text) {
            return self.say(&words);
        }
        if let Some(fraction) = text.strip_prefix('.').filter(|f| integer(f).is_some()) {
            return self.say(&format!("point {}", digits(fraction)));
        }
        self.mixed(text);
    }

    /// Letters and digits together: units after a number, else a code.
    fn mixed(&mut self, text: &str) {
        let split = text.find(|c: char| c.is_alphabetic()).unwrap_or(0);
        let (number, unit) = text.split_at(split);
        let unit = match unit {
            "k" | "K" => "thousand",
            "km" => "kilometers",
            "kg" => "kilograms",
            "lb" | "lbs" => "pounds",
            "oz" => "ounces",
            "ft" => "feet",
            "mi" => "miles",
            "min" | "mins" => "minutes",
            "hr" | "hrs" => "hours",
            "sec" | "secs" => "seconds",
            "GB" => "gigabytes",
            "MB" => "megabytes",
            "mph" => "miles per hour",
            _ => "",
        };
        if let (false, Some(words)) = (unit.is_empty(), written(number)) {
            return self.say(&format!("{words} {unit}"));
        }
        let mut run = String::new();
        for c in text.chars().chain([' ']) {
            let same = run
                .chars()
                .last()
                .is_none_or(|l| l.is_alphabetic() == c.is_alphabetic() && c.is_alphanumeric());
            if !same {
                self.code_run(&run);
                run.clear();
            }
            if c.is_alphanumeric() || c == '\'' {
                run.push(c);
            } else if c == ',' {
                self.pause(Pause::Short);
            }
        }
    }

    fn code_run(&mut self, run: &str) {
        let word = run.len() > 2 && !run.chars().all(char::is_uppercase) && (self.known)(&run.to_lowercase());
        match integer(run) {
            Some(n) if run.len() <= 2 && !run.starts_with('0') => self.say(&cardinal(n)),
            _ if word => self.say(&run.to_lowercase()),
            _ => self.spell(run),
        }
    }
}

/// Hundredths as written after the point: none, one or two digits.
fn cents_of(text: &str) -> Option<u64> {
    match text.len() {
        0 => Some(0),
        1 => integer(text).map(|n| n * 10),
        2 => integer(text),
        _ => None,
    }
}

/// Whether a number after this word is read digit by digit.
fn expects_code(previous: &str) -> bool {
    const BEFORE: &[&str] = &[
        "code",
        "pin",
        "number",
        "extension",
        "ext",
        "id",
        "account",
        "confirmation",
        "reference",
        "order",
        "ticket",
        "zip",
        "ending",
        "digits",
        "case",
        "flight",
        "invoice",
        "dial",
        "tracking",
    ];
    BEFORE.contains(&previous)
}
