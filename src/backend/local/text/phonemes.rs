//! Words as said to the IPA a Piper voice was trained on, which is espeak-ng's for American English.
//!
//! In: [`Token`]s and a [`Dictionary`]. Out: one [`Sound`] for each word or pause. The map was checked by ear of a
//! recogniser: speech made this way is recognised as well as speech from espeak-ng's own phonemes.

use super::dict::{Dictionary, Phone};
use super::letters::letter_name;
use super::normalize::{Pause, Said, Token};

/// A word's or a pause's phonemes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sound {
    /// IPA of a word, or the punctuation of a pause.
    pub ipa: String,
    /// Byte offset in the clause of the end of the written word this belongs to.
    pub end: usize,
    /// Whether this is a pause.
    pub is_pause: bool,
}

/// Words that carry no stress, as espeak-ng says them.
#[rustfmt::skip]
const UNSTRESSED: &[(&str, &str)] = &[
    ("a", "ɐ"), ("an", "ɐn"), ("and", "ænd"), ("are", "ɑːɹ"), ("as", "æz"), ("at", "æt"), ("be", "biː"),
    ("been", "bɪn"), ("but", "bʌt"), ("by", "baɪ"), ("can", "kæn"), ("could", "kʊd"), ("do", "duː"), ("for", "fɔːɹ"),
    ("from", "fɹʌm"), ("had", "hæd"), ("has", "hɐz"), ("have", "hæv"), ("he", "hiː"), ("her", "hɜː"), ("him", "hɪm"),
    ("his", "hɪz"), ("i", "aɪ"), ("i'd", "aɪd"), ("i'll", "aɪl"), ("i'm", "aɪm"), ("i've", "aɪv"), ("if", "ɪf"),
    ("in", "ɪn"), ("is", "ɪz"), ("it", "ɪt"), ("it's", "ɪts"), ("its", "ɪts"), ("me", "miː"),
    ("my", "maɪ"), ("of", "ʌv"), ("on", "ɔn"), ("or", "ɔːɹ"), ("our", "aʊɚ"), ("she", "ʃiː"), ("should", "ʃʊd"),
    ("than", "ðɐn"), ("that", "ðæt"), ("the", "ðə"), ("their", "ðɛɹ"), ("them", "ðɛm"), ("they", "ðeɪ"),
    ("this", "ðɪs"), ("to", "tə"), ("us", "ʌs"), ("was", "wʌz"), ("we", "wiː"), ("we'll", "wiːl"), ("we're", "wɪɹ"),
    ("were", "wɜː"), ("will", "wɪl"), ("with", "wɪð"), ("would", "wʊd"), ("you", "juː"), ("you're", "jʊɹ"),
    ("your", "jʊɹ"),
];

/// Phonemes of what is said, in order.
#[must_use]
pub fn phonemes(tokens: &[Token], dictionary: &Dictionary) -> Vec<Sound> {
    let mut sounds: Vec<Sound> = Vec::with_capacity(tokens.len());
    for (i, token) in tokens.iter().enumerate() {
        let (ipa, is_pause) = match &token.kind {
            Said::Pause(pause) => (mark(*pause).to_owned(), true),
            Said::Letter(c) => (letter_name(*c).map(|p| ipa(&p)).unwrap_or_default(), false),
            Said::Word(ending) if ending == "'s" => {
                if let Some(last) = sounds.last_mut() {
                    last.ipa.push_str(if last.ipa.ends_with('s') { "ᵻz" } else { "z" });
                    last.end = token.end;
                }
                continue;
            }
            Said::Word(word) => (spoken(word, tokens, i, dictionary), false),
        };
        if !ipa.is_empty() {
            sounds.push(Sound { ipa, end: token.end, is_pause });
        } else if let Some(last) = sounds.last_mut() {
            last.end = token.end;
        }
    }
    sounds
}

const fn mark(pause: Pause) -> &'static str {
    match pause {
        Pause::Short => ",",
        Pause::Stop => ".",
        Pause::Question => "?",
        Pause::Exclamation => "!",
    }
}

fn spoken(word: &str, tokens: &[Token], i: usize, dictionary: &Dictionary) -> String {
    let unstressed = UNSTRESSED.binary_search_by_key(&word, |e| e.0).ok().map(|n| UNSTRESSED[n].1);
    let Some(weak) = unstressed.filter(|_| !stands_out(tokens, i)) else {
        // Their dictionary forms are the weak ones too.
        return match word {
            "a" => "ˈeɪ".into(),
            "the" => "ðˈə".into(),
            _ => ipa(&dictionary.pronounce(word)),
        };
    };
    match word {
        "the" if before_vowel(tokens, i, dictionary) => "ðɪ".into(),
        "to" if before_vowel(tokens, i, dictionary) => "tʊ".into(),
        _ => weak.into(),
    }
}

/// Whether a weak word is the last one before a pause with no strong word before it in the phrase: "Can you?"
fn stands_out(tokens: &[Token], i: usize) -> bool {
    let is_pause = |t: &Token| matches!(t.kind, Said::Pause(_));
    let weak = |t: &Token| matches!(&t.kind, Said::Word(w) if UNSTRESSED.binary_search_by_key(&w.as_str(), |e| e.0).is_ok());
    let ends = tokens.get(i + 1).is_none_or(is_pause);
    ends && tokens[..i].iter().rev().take_while(|t| !is_pause(t)).all(weak)
}

fn before_vowel(tokens: &[Token], i: usize, dictionary: &Dictionary) -> bool {
    let vowel = |phones: Vec<Phone>| phones.first().is_some_and(|p| p.is_vowel());
    match tokens.get(i + 1).map(|t| &t.kind) {
        Some(Said::Word(next)) => vowel(dictionary.pronounce(next)),
        Some(Said::Letter(c)) => letter_name(*c).is_some_and(vowel),
        _ => false,
    }
}

/// ARPAbet to IPA, with the stress marks before the vowels, where espeak-ng puts them.
fn ipa(phones: &[Phone]) -> String {
    let mut out = String::with_capacity(phones.len() * 3);
    for (i, phone) in phones.iter().enumerate() {
        match phone.stress() {
            1 => out.push('ˈ'),
            2 => out.push('ˌ'),
            _ => {}
        }
        out.push_str(symbol(phones, i));
    }
    out
}

fn symbol(phones: &[Phone], i: usize) -> &'static str {
    let phone = phones[i];
    let next = phones.get(i + 1);
    let last_but_one = i + 2 == phones.len();
    let stressed = phone.stress() > 0;
    match phone.name() {
        "AA" => "ɑː",
        "AE" => "æ",
        "AH" if stressed => "ʌ",
        "AH" => "ə",
        "AO" => "ɔː",
        "AW" => "aʊ",
        "AY" => "aɪ",
        "EH" => "ɛ",
        "ER" => match (stressed, next.is_some_and(|n| n.is_vowel())) {
            (true, false) => "ɜː",
            (true, true) => "ɜːɹ",
            (false, false) => "ɚ",
            (false, true) => "ɚɹ",
        },
        "EY" => "eɪ",
        "IH" if !stressed && last_but_one && next.is_some_and(|n| matches!(n.name(), "D" | "Z")) => "ᵻ",
        "IH" => "ɪ",
        "IY" if stressed => "iː",
        "IY" => "i",
        "OW" => "oʊ",
        "OY" => "ɔɪ",
        "UH" => "ʊ",
        "UW" => "uː",
        "CH" => "tʃ",
        "DH" => "ð",
        "G" => "ɡ",
        "HH" => "h",
        "JH" => "dʒ",
        "NG" => "ŋ",
        "R" => "ɹ",
        "SH" => "ʃ",
        "T" if flapped(phones, i) => "ɾ",
        "TH" => "θ",
        "Y" => "j",
        "ZH" => "ʒ",
        "B" => "b",
        "D" => "d",
        "F" => "f",
        "K" => "k",
        "L" => "l",
        "M" => "m",
        "N" => "n",
        "P" => "p",
        "S" => "s",
        "T" => "t",
        "V" => "v",
        "W" => "w",
        _ => "z",
    }
}

/// American t between a vowel and an unstressed one: "water", "party", not "button".
fn flapped(phones: &[Phone], i: usize) -> bool {
    let before = i.checked_sub(1).map(|b| phones[b]);
    let after = |n: usize| phones.get(i + n);
    before.is_some_and(|b| b.is_vowel() || b.name() == "R")
        && after(1).is_some_and(|a| a.is_vowel() && a.stress() == 0)
        && !(after(1).is_some_and(|a| a.name() == "AH") && after(2).is_some_and(|a| a.name() == "N"))
}

#[cfg(test)]
mod tests {
    use super::super::{normalize, phonemes};
    use super::*;

    fn dictionary() -> Dictionary {
        let text = "thank TH AE1 NG K\nyou Y UW1\nfor F AO1 R\ncalling K AO1 L IH0 NG\nhow HH AW1\ncan K AE1 N\n\
            help HH EH1 L P\nwater W AO1 T ER0\nbutton B AH1 T AH0 N\nwanted W AA1 N T IH0 D\nthe DH AH0\n\
            apple AE1 P AH0 L\nhello HH AH0 L OW1\nfirst F ER1 S T\nhappy HH AE1 P IY0\ntwo T UW1\n\
            nineteen N AY2 N T IY1 N\nto T UW1\nbird B ER1 D\nwith W IH1 DH\n";
        Dictionary::parse(text).expect("well-formed")
    }

    fn said(text: &str) -> String {
        let dictionary = dictionary();
        let sounds = phonemes(&normalize(text, &|w| dictionary.contains(w)), &dictionary);
        sounds.iter().map(|s| s.ipa.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn sentences_come_out_as_espeak_would_write_them() {
        for (text, ipa) in [
            ("Thank you for calling, how can I help?", "θˈæŋk juː fɔːɹ kˈɔːlɪŋ , hˈaʊ kæn aɪ hˈɛlp ?"),
            ("Hello.", "həlˈoʊ ."),
            ("water button wanted happy first", "wˈɔːɾɚ bˈʌtən wˈɑːntᵻd hˈæpi fˈɜːst"),
            ("the apple the bird", "ðɪ ˈæpəl ðə bˈɜːd"),
            ("to apple to bird", "tʊ ˈæpəl tə bˈɜːd"),
            ("AI", "ˈeɪ ˈaɪ"),
            ("19", "nˌaɪntˈiːn"),
            ("Can you?", "kæn jˈuː ?"),
        ] {
            assert_eq!(said(text), ipa, "{text}");
        }
    }

    #[test]
    fn the_list_of_weak_words_is_sorted() {
        assert!(UNSTRESSED.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn a_plural_of_letters_is_one_sound_and_silent_words_leave_none() {
        assert_eq!(said("two ATMs"), "tˈuː ˈeɪ tˈiː ˈɛmz");
        assert_eq!(said("日本 hello"), "həlˈoʊ");
    }
}
