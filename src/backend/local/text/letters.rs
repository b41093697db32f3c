//! How an English word that no dictionary lists is probably said: letter-to-sound rules, then a guess at the stress.
//!
//! In: a lower-case word. Out: its phones. The rules are, with additions, those of Elovitz, Johnson, McHugh and Shore,
//! "Automatic Translation of English Text to Phonetics by Means of Letter-to-Sound Rules", Naval Research Laboratory
//! report 7948, 1976 (public domain): the first rule of the letter whose contexts fit on both sides wins.

use super::dict::{Phone, parse_phones};

/// Left context, letters, right context, sound. In contexts: `_` word edge, `#` vowels, `:` any consonants, `^` one
/// consonant, `.` a voiced one, `+` front vowel, `&` sibilant, `@` consonant after which u is "oo", `%` an ending.
type Rule = (&'static str, &'static str, &'static str, &'static str);

const MAX_LETTERS: usize = 40;

/// Phones of a word by rule; anything but the letters a to z and the apostrophe is passed over.
pub(super) fn by_rule(word: &str) -> Vec<Phone> {
    let plain = word.chars().filter_map(unaccented).filter(|c| c.is_ascii_lowercase() || *c == '\'');
    let letters: Vec<u8> = plain.take(MAX_LETTERS).map(|c| c as u8).collect();
    let mut phones = Vec::new();
    let mut i = 0;
    while i < letters.len() {
        let doubled = letters.get(i + 1) == Some(&letters[i]) && b"bdfglmnprtz".contains(&letters[i]);
        if doubled || letters[i] == b'\'' {
            i += 1;
            continue;
        }
        let (length, sound) = rule(&letters, i);
        phones.extend(parse_phones(sound).expect("the rules below are ARPAbet, held by a test"));
        i += length;
    }
    stress(&letters, &mut phones);
    phones
}

/// The names of letters, as in an abbreviation.
pub(super) fn letter_name(letter: char) -> Option<Vec<Phone>> {
    const NAMES: [&str; 26] = [
        "EY1",
        "B IY1",
        "S IY1",
        "D IY1",
        "IY1",
        "EH1 F",
        "JH IY1",
        "EY1 CH",
        "AY1",
        "JH EY1",
        "K EY1",
        "EH1 L",
        "EH1 M",
        "EH1 N",
        "OW1",
        "P IY1",
        "K Y UW1",
        "AA1 R",
        "EH1 S",
        "T IY1",
        "Y UW1",
        "V IY1",
        "D AH1 B AH0 L Y UW0",
        "EH1 K S",
        "W AY1",
        "Z IY1",
    ];
    let index = (unaccented(letter.to_ascii_lowercase())? as usize).checked_sub('a' as usize)?;
    NAMES.get(index).and_then(|n| parse_phones(n))
}

/// The plain letter under the accents of Western European names.
fn unaccented(c: char) -> Option<char> {
    Some(match c {
        'à'..='å' => 'a',
        'ç' => 'c',
        'è'..='ë' => 'e',
        'ì'..='ï' => 'i',
        'ñ' => 'n',
        'ò'..='ö' | 'ø' => 'o',
        'ù'..='ü' => 'u',
        'ý' | 'ÿ' => 'y',
        c if c.is_ascii() => c,
        _ => return None,
    })
}

fn rule(letters: &[u8], i: usize) -> (usize, &'static str) {
    let fits = |(left, middle, right, _): &&Rule| {
        letters[i..].starts_with(middle.as_bytes())
            && fits_left(left.as_bytes(), &letters[..i])
            && fits_right(right.as_bytes(), &letters[i + middle.len()..])
    };
    match RULES.iter().find(fits) {
        Some((_, middle, _, sound)) => (middle.len(), sound),
        None => (1, ""),
    }
}

const fn vowel(c: u8) -> bool {
    matches!(c, b'a' | b'e' | b'i' | b'o' | b'u' | b'y')
}

fn single(symbol: u8, c: u8) -> bool {
    match symbol {
        b'^' => c.is_ascii_lowercase() && !vowel(c),
        b'.' => b"bdvgjlmnrwz".contains(&c),
        b'+' => b"eiy".contains(&c),
        b'&' => b"scgzxj".contains(&c),
        b'@' => b"tsrdlznj".contains(&c),
        literal => literal == c,
    }
}

/// How many letters the run symbols take; `None` for other symbols or when `#` finds no vowel.
fn run<'a>(symbol: u8, mut letters: impl Iterator<Item = &'a u8>) -> Option<usize> {
    let mut n = 0;
    match symbol {
        b'#' => {
            while letters.next().is_some_and(|c| vowel(*c)) {
                n += 1;
            }
            (n > 0).then_some(n)
        }
        b':' => {
            while letters.next().is_some_and(|c| !vowel(*c)) {
                n += 1;
            }
            Some(n)
        }
        _ => None,
    }
}

fn fits_left(pattern: &[u8], before: &[u8]) -> bool {
    let mut rest = before;
    for symbol in pattern.iter().rev() {
        match symbol {
            b'_' if !rest.is_empty() => return false,
            b'_' => {}
            b'#' | b':' => match run(*symbol, rest.iter().rev()) {
                Some(n) => rest = &rest[..rest.len() - n],
                None => return false,
            },
            b'&' | b'@' if rest.last() == Some(&b'h') => {
                // "ch" and "sh" are sibilants; these and "th" come before "oo".
                let Some((c, head)) = rest[..rest.len() - 1].split_last() else { return false };
                if !(b"cs".contains(c) || *symbol == b'@' && *c == b't') {
                    return false;
                }
                rest = head;
            }
            _ => match rest.split_last() {
                Some((c, head)) if single(*symbol, *c) => rest = head,
                _ => return false,
            },
        }
    }
    true
}

fn fits_right(pattern: &[u8], after: &[u8]) -> bool {
    let mut rest = after;
    for symbol in pattern {
        match symbol {
            b'_' if !rest.is_empty() => return false,
            b'_' => {}
            b'#' | b':' => match run(*symbol, rest.iter()) {
                Some(n) => rest = &rest[n..],
                None => return false,
            },
            b'%' => return [&b"er"[..], b"ers", b"e", b"es", b"ed", b"ing", b"ings", b"ely"].contains(&rest),
            _ => match rest.split_first() {
                Some((c, tail)) if single(*symbol, *c) => rest = tail,
                _ => return false,
            },
        }
    }
    true
}

/// Gives one vowel the stress: before endings that draw it there, else the last but one before a final vowel
/// letter (names), else the first of two and the third from the end.
fn stress(letters: &[u8], phones: &mut [Phone]) {
    let vowels: Vec<usize> = (0..phones.len()).filter(|i| phones[*i].is_vowel()).collect();
    let n = vowels.len();
    if n == 0 {
        return;
    }
    let ends = |endings: &[&str]| endings.iter().any(|e| letters.ends_with(e.as_bytes()));
    let starts = |begins: &[&str]| begins.iter().any(|b| letters.starts_with(b.as_bytes()));
    let from_end = match n {
        1 => 1,
        _ if ends(&["tion", "sion", "cian", "tian", "cial", "tial", "cious", "tious", "ic", "ics"]) => 2,
        _ if ends(&["ee", "eer", "ette", "esque"]) => 1,
        _ if ends(&["a", "o", "i", "u", "sky", "ski"]) => 2,
        2 if starts(&["re", "de", "be", "ex", "con", "com", "en", "un"]) => 1,
        2 => 2,
        _ => 3,
    };
    let chosen = vowels[n - from_end];
    phones[chosen] = phones[chosen].with_stress(1);
}

#[rustfmt::skip]
const RULES: &[Rule] = &[
    ("_", "a", "_", "AH"), ("", "ar", "o", "AH R"), ("", "ar", "#", "EH R"), ("_^", "as", "#", "EY S"),
    ("", "a", "wa", "AH"), ("", "aw", "", "AO"), ("_:", "any", "", "EH N IY"), ("", "a", "^+#", "EY"),
    ("#:", "ally", "", "AH L IY"), ("_", "al", "#", "AH L"), ("#:", "ag", "e", "IH JH"), ("", "a", "^+:#", "AE"),
    ("_:", "a", "^+_", "EY"), ("", "a", "^%", "EY"), ("_", "arr", "", "AH R"), ("", "arr", "", "AE R"),
    ("_:", "ar", "_", "AA R"), ("", "ar", "_", "ER"), ("", "ar", "", "AA R"), ("", "air", "", "EH R"),
    ("", "ai", "", "EY"), ("", "ay", "", "EY"), ("", "au", "", "AO"), ("#:", "al", "_", "AH L"),
    ("#:", "als", "_", "AH L Z"), ("", "alk", "", "AO K"), ("", "al", "^", "AO L"), ("_:", "able", "", "EY B AH L"),
    ("", "able", "", "AH B AH L"), ("", "ang", "+", "EY N JH"), ("#:", "a", "_", "AH"), ("", "a", "", "AE"),
    ("_", "be", "^#", "B IH"), ("", "being", "", "B IY IH NG"), ("_", "bus", "#", "B IH Z"),
    ("", "buil", "", "B IH L"), ("m", "b", "_", ""), ("", "b", "", "B"),
    ("_", "ch", "^", "K"), ("^e", "ch", "", "K"), ("", "ch", "", "CH"), ("_s", "ci", "#", "S AY"),
    ("", "ci", "a", "SH"), ("", "ci", "o", "SH"), ("", "ci", "en", "SH"), ("", "cc", "+", "K S"), ("", "cc", "", "K"),
    ("", "c", "+", "S"), ("", "ck", "", "K"), ("", "com", "%", "K AH M"), ("", "c", "", "K"),
    ("#:", "ded", "_", "D IH D"), (".e", "d", "_", "D"), ("#:^e", "d", "_", "T"), ("_", "de", "^#", "D IH"),
    ("_", "does", "", "D AH Z"), ("_", "doing", "", "D UW IH NG"), ("_", "dow", "", "D AW"), ("", "du", "a", "JH UW"),
    ("", "dge", "", "JH"), ("", "d", "", "D"),
    ("#:", "e", "_", ""), ("_:", "e", "_", "IY"), ("#", "ed", "_", "D"), ("#:", "e", "d_", ""),
    ("", "ev", "er", "EH V"), ("", "e", "^%", "IY"), ("", "eri", "#", "IY R IY"), ("", "eri", "", "EH R IH"),
    ("#:", "er", "#", "ER"), ("", "er", "#", "EH R"), ("", "er", "", "ER"), ("_", "even", "", "IY V EH N"),
    ("#:", "e", "w", ""), ("@", "ew", "", "UW"), ("", "ew", "", "Y UW"), ("", "e", "o", "IY"),
    ("#:&", "es", "_", "IH Z"), ("#:", "e", "s_", ""), ("#:", "ely", "_", "L IY"), ("#:", "ement", "", "M EH N T"),
    ("", "eful", "", "F UH L"), ("", "ee", "", "IY"), ("", "earn", "", "ER N"), ("_", "ear", "^", "ER"),
    ("", "ead", "", "EH D"), ("#:", "ea", "_", "IY AH"), ("", "ea", "su", "EH"), ("", "ea", "", "IY"),
    ("", "eigh", "", "EY"), ("", "ei", "", "IY"), ("_", "eye", "", "AY"), ("", "ey", "", "IY"), ("", "eu", "", "Y UW"),
    ("#:", "e", "n_", "AH"), ("#:", "e", "l_", "AH"), ("", "e", "", "EH"),
    ("", "ful", "", "F UH L"), ("", "f", "", "F"),
    ("", "giv", "", "G IH V"), ("_", "g", "i^", "G"), ("", "ge", "t", "G EH"), ("_b#", "g", "", "G"),
    ("", "g", "+", "JH"), ("", "great", "", "G R EY T"), ("_", "gh", "", "G"), ("#", "gh", "", ""), ("_", "gn", "", "N"),
    ("", "g", "", "G"),
    ("_", "hav", "", "HH AE V"), ("_", "hour", "", "AW ER"), ("", "how", "", "HH AW"), ("", "h", "#", "HH"),
    ("", "h", "", ""),
    ("_", "in", "", "IH N"), ("_", "i", "_", "AY"), ("", "in", "d_", "AY N"), ("", "ier", "", "IY ER"),
    ("#:r", "ied", "", "IY D"), ("", "ied", "_", "AY D"), ("", "ien", "", "IY EH N"), ("", "ie", "t", "AY EH"),
    ("_:", "i", "%", "AY"), ("", "i", "%", "IY"), ("", "ie", "", "IY"), ("#:", "i", "_", "IY"), ("", "i", "a", "IY"),
    ("", "i", "o", "IY"), ("", "i", "^+:#", "IH"), ("", "ir", "#", "AY R"), ("", "iz", "%", "AY Z"),
    ("", "is", "%", "AY Z"), ("", "i", "d%", "AY"), ("+^", "i", "^+", "IH"), ("", "i", "t%", "AY"),
    ("#:^", "i", "^+", "IH"), ("", "i", "^+", "AY"), ("", "ir", "", "ER"), ("", "igh", "", "AY"),
    ("", "ild", "", "AY L D"), ("", "ign", "_", "AY N"), ("", "ign", "^", "AY N"), ("", "ign", "%", "AY N"),
    ("", "ique", "", "IY K"), ("", "i", "", "IH"),
    ("", "j", "", "JH"), ("_", "k", "n", ""), ("", "k", "", "K"),
    ("", "lo", "c#", "L OW"), ("#:^", "l", "%", "AH L"), ("", "l", "", "L"),
    ("", "mov", "", "M UW V"), ("", "mc", "^", "M AH K"), ("", "mc", "#", "M AH K"), ("", "m", "", "M"),
    ("e", "ng", "+", "N JH"), ("", "ng", "r", "NG G"), ("", "ng", "#", "NG G"), ("", "ngl", "%", "NG G AH L"),
    ("", "ng", "", "NG"), ("", "nk", "", "NG K"), ("", "n", "", "N"),
    ("", "of", "_", "AH V"), ("", "orough", "", "ER OW"), ("#:", "or", "_", "ER"), ("#:", "ors", "_", "ER Z"),
    ("", "or", "", "AO R"), ("_", "one", "_", "W AH N"), ("", "ow", "", "OW"), ("_", "over", "", "OW V ER"),
    ("", "ov", "%", "AH V"), ("", "o", "^%", "OW"), ("", "o", "^a_", "OW"),
    ("", "o", "^o_", "OW"), ("", "o", "^en", "OW"), ("", "o", "^i#", "OW"), ("", "ol", "d", "OW L"),
    ("", "ought", "", "AO T"), ("", "ough", "", "AH F"), ("_", "ou", "", "AW"), ("h", "ou", "s#", "AW"),
    ("", "ous", "", "AH S"), ("", "our", "", "AO R"), ("", "ould", "", "UH D"), ("^", "ou", "^l", "AH"),
    ("", "oup", "", "UW P"), ("", "ou", "", "AW"), ("", "oy", "", "OY"), ("", "oing", "", "OW IH NG"),
    ("", "oi", "", "OY"), ("", "oor", "", "AO R"), ("", "ook", "", "UH K"), ("", "ood", "", "UH D"),
    ("", "oo", "", "UW"), ("", "o", "e", "OW"), ("", "o", "_", "OW"), ("", "oa", "", "OW"), ("c", "o", "n", "AA"),
    ("", "o", "ng", "AO"), ("i", "on", "", "AH N"), ("#:", "on", "_", "AH N"), ("#^", "on", "", "AH N"),
    ("", "o", "st_", "OW"), ("", "of", "^", "AO F"), ("", "other", "", "AH DH ER"), ("", "oss", "_", "AO S"),
    ("#:^", "om", "", "AH M"), ("", "o", "", "AA"),
    ("", "ph", "", "F"), ("", "peop", "", "P IY P"), ("", "pow", "", "P AW"), ("_", "ps", "", "S"), ("_", "pn", "", "N"),
    ("", "p", "", "P"),
    ("", "quar", "", "K W AO R"), ("", "que", "_", "K"), ("", "qu", "", "K W"), ("", "q", "", "K"),
    ("_", "re", "^#", "R IY"), ("_", "rh", "", "R"), ("", "r", "", "R"),
    ("", "sh", "", "SH"), ("#", "sion", "", "ZH AH N"), ("", "some", "", "S AH M"), ("#", "sur", "#", "ZH ER"),
    ("", "sur", "#", "SH ER"), ("#", "su", "#", "ZH UW"), ("#", "ssu", "#", "SH UW"), ("#", "sed", "_", "Z D"),
    ("#", "s", "#", "Z"), ("^", "sion", "", "SH AH N"), ("", "ssion", "", "SH AH N"), ("", "s", "s", ""),
    (".", "s", "_", "Z"), ("#:.e", "s", "_", "Z"), ("u", "s", "_", "S"), ("_", "sch", "", "SH"), ("", "s", "c+", ""),
    ("#", "sm", "_", "Z AH M"), ("", "s", "", "S"),
    ("", "ther", "", "DH ER"), ("", "through", "", "TH R UW"), ("", "th", "", "TH"), ("#:", "ted", "_", "T IH D"),
    ("s", "ti", "#n", "CH"), ("", "ti", "o", "SH"), ("", "ti", "a", "SH"), ("", "tien", "", "SH AH N"),
    ("", "tur", "#", "CH ER"), ("", "tu", "a", "CH UW"), ("", "tch", "", "CH"), ("", "t", "", "T"),
    ("_", "un", "i", "Y UW N"), ("_", "un", "", "AH N"), ("@", "ur", "#", "UH R"), ("", "ur", "#", "Y UH R"),
    ("", "ur", "", "ER"), ("", "u", "^_", "AH"), ("", "u", "^^", "AH"), ("", "uy", "", "AY"), ("_g", "u", "#", ""),
    ("g", "u", "%", ""), ("g", "u", "#", "W"), ("#n", "u", "", "Y UW"), ("@", "u", "", "UW"), ("", "u", "_", "UW"),
    ("", "u", "", "Y UW"),
    ("", "view", "", "V Y UW"), ("", "v", "", "V"),
    ("", "wa", "s", "W AA"), ("", "wa", "t", "W AA"), ("", "where", "", "W EH R"), ("", "whol", "", "HH OW L"),
    ("", "who", "", "HH UW"), ("", "wh", "", "W"), ("", "war", "", "W AO R"), ("", "wor", "^", "W ER"),
    ("", "wr", "", "R"), ("#", "w", "_", ""), ("", "w", "", "W"),
    ("_", "x", "", "Z"), ("", "x", "", "K S"),
    ("", "young", "", "Y AH NG"), ("_", "you", "", "Y UW"), ("_", "y", "", "Y"), ("#:^", "y", "_", "IY"),
    ("#:^", "y", "i", "IY"), ("_:", "y", "_", "AY"), ("_:", "y", "#", "AY"), ("_:", "y", "^+:#", "IH"),
    ("_:", "y", "^#", "AY"), ("", "y", "", "IH"),
    ("", "z", "", "Z"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn said(word: &str) -> String {
        format!("{:?}", by_rule(word)).replace(['[', ']', ','], "")
    }

    #[test]
    fn every_rule_is_arpabet() {
        for (left, letters, right, sound) in RULES {
            assert!(parse_phones(sound).is_some(), "{left}[{letters}]{right} = {sound}");
            assert!(!letters.is_empty());
        }
        assert_eq!(letter_name('W').map(|p| p.len()), Some(7));
        assert_eq!(letter_name('7'), None);
    }

    #[test]
    fn unlisted_words_come_out_close_to_english() {
        for (word, phones) in [
            ("blick", "B L IH1 K"),
            ("snoat", "S N OW1 T"),
            ("trake", "T R EY1 K"),
            ("phlobber", "F L AA1 B ER0"),
            ("zorvation", "Z AO0 R V EY1 SH AH0 N"),
            ("chillify", "CH IH1 L IH0 F IY0"),
            ("mendoza", "M EH0 N D OW1 Z AH0"),
            ("knarth", "N AA1 R TH"),
        ] {
            assert_eq!(said(word), phones, "{word}");
        }
    }

    #[test]
    fn accents_are_read_as_plain_letters() {
        assert_eq!(said("señor"), said("senor"));
        assert_eq!(said("日本"), "");
    }

    proptest::proptest! {
        #[test]
        fn every_word_with_a_vowel_has_one_stress(word in "[a-z']{1,14}") {
            let phones = by_rule(&word);
            let vowels = phones.iter().filter(|p| p.is_vowel()).count();
            let stressed = phones.iter().filter(|p| p.stress() == 1).count();
            proptest::prop_assert_eq!(stressed, usize::from(vowels > 0));
        }
    }
}
