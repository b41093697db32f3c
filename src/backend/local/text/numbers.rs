//! Numbers as English words. In: integers and digit strings. Out: lower-case words, joined by spaces.

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] =
    ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const SCALES: [(u64, &str); 4] =
    [(1_000_000_000_000, "trillion"), (1_000_000_000, "billion"), (1_000_000, "million"), (1000, "thousand")];

/// `1250` → "one thousand two hundred fifty".
pub(super) fn cardinal(n: u64) -> String {
    let mut words = Vec::new();
    let mut rest = n;
    for (scale, name) in SCALES {
        if rest >= scale {
            words.push(cardinal(rest / scale));
            words.push(name.into());
            rest %= scale;
        }
    }
    if rest >= 100 {
        words.push(format!("{} hundred", ONES[(rest / 100) as usize]));
        rest %= 100;
    }
    if rest >= 20 {
        words.push(TENS[(rest / 10) as usize].into());
        rest %= 10;
        if rest > 0 {
            words.push(ONES[rest as usize].into());
        }
    } else if rest > 0 || n == 0 {
        words.push(ONES[rest as usize].into());
    }
    words.join(" ")
}

/// `23` → "twenty third".
pub(super) fn ordinal(n: u64) -> String {
    let words = cardinal(n);
    let (head, last) = words.rsplit_once(' ').map_or(("", words.as_str()), |(h, l)| (h, l));
    let last = match last {
        "one" => "first".into(),
        "two" => "second".into(),
        "three" => "third".into(),
        "five" => "fifth".into(),
        "eight" => "eighth".into(),
        "nine" => "ninth".into(),
        "twelve" => "twelfth".into(),
        other => match other.strip_suffix('y') {
            Some(stem) => format!("{stem}ieth"),
            None => format!("{other}th"),
        },
    };
    if head.is_empty() { last } else { format!("{head} {last}") }
}

/// A year or a number read in pairs: `1999` → "nineteen ninety nine", `2005` → "two thousand five".
pub(super) fn year(n: u64) -> String {
    let (high, low) = (n / 100, n % 100);
    match (high, low) {
        _ if !(1000..=9999).contains(&n) => cardinal(n),
        (h, 0) if h % 10 == 0 => cardinal(n),
        (h, 0) => format!("{} hundred", cardinal(h)),
        (h, l) if h % 10 == 0 && l < 10 => format!("{} {}", cardinal(h * 100), cardinal(l)),
        (h, l) if l < 10 => format!("{} oh {}", cardinal(h), cardinal(l)),
        (h, l) => format!("{} {}", cardinal(h), cardinal(l)),
    }
}

/// `4821` → "four eight two one". Characters other than digits are left out.
pub(super) fn digits(text: &str) -> String {
    let words: Vec<&str> = text.chars().filter_map(|c| c.to_digit(10)).map(|d| ONES[d as usize]).collect();
    words.join(" ")
}

/// A number as written, with thousands separators and decimals: `1,250.5`. `None` when it is not one.
pub(super) fn written(text: &str) -> Option<String> {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(w, f)| (w, Some(f)));
    let n = integer(whole)?;
    let Some(fraction) = fraction else { return Some(cardinal(n)) };
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(format!("{} point {}", cardinal(n), digits(fraction)))
}

/// `1,250` or `1250` as a number. `None` when it is not one or has more than fifteen digits.
pub(super) fn integer(text: &str) -> Option<u64> {
    let mut groups = text.split(',');
    let first = groups.next()?;
    let mut plain = String::from(first);
    let grouped = text.contains(',');
    for group in groups {
        if group.len() != 3 || first.len() > 3 {
            return None;
        }
        plain.push_str(group);
    }
    let fine = !first.is_empty() && plain.len() <= 15 && plain.bytes().all(|b| b.is_ascii_digit());
    (fine && !(grouped && first.starts_with('0'))).then(|| plain.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_english_reads_them() {
        for (n, words) in [
            (0, "zero"),
            (13, "thirteen"),
            (40, "forty"),
            (105, "one hundred five"),
            (1250, "one thousand two hundred fifty"),
            (1_000_000, "one million"),
            (2_000_017, "two million seventeen"),
        ] {
            assert_eq!(cardinal(n), words);
        }
        for (n, words) in
            [(1, "first"), (12, "twelfth"), (20, "twentieth"), (23, "twenty third"), (100, "one hundredth")]
        {
            assert_eq!(ordinal(n), words);
        }
        for (n, words) in [
            (1999, "nineteen ninety nine"),
            (1900, "nineteen hundred"),
            (1905, "nineteen oh five"),
            (2000, "two thousand"),
            (2005, "two thousand five"),
            (2026, "twenty twenty six"),
        ] {
            assert_eq!(year(n), words);
        }
    }

    #[test]
    fn separators_must_stand_where_they_belong() {
        assert_eq!(integer("1,250"), Some(1250));
        assert_eq!(integer("12,50"), None);
        assert_eq!(integer("1234,500"), None);
        assert_eq!(integer("9999999999999999"), None);
        assert_eq!(integer(""), None);
        assert_eq!(written("3.14").as_deref(), Some("three point one four"));
        assert_eq!(written("3.").as_deref(), None);
    }
}
