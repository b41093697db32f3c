//! The pronouncing dictionary, held as one sorted block: 126 000 words in about 2.5 MB, not 126 000 strings.
//!
//! In: the text of CMUdict (a word, a space, its ARPAbet phones; `(2)` marks alternatives, `#` comments). Out: the
//! first pronunciation of a word as [`Phone`]s. Source: The CMU Pronouncing Dictionary.

use std::path::Path;

use super::letters;

/// ARPAbet in the order of [`Phone`]'s index; vowels first.
pub(super) const PHONES: [&str; 39] = [
    "AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW", "B", "CH", "D",
    "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z",
    "ZH",
];
const VOWELS: u8 = 15;

/// One ARPAbet phone with its stress, in a byte: index × 4 + stress.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Phone(u8);

impl Phone {
    /// `AH0`, `K`. `None` when it is no phone.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, stress) = match text.as_bytes().last()? {
            digit @ b'0'..=b'2' => (&text[..text.len() - 1], digit - b'0'),
            _ => (text, 0),
        };
        let index = PHONES.iter().position(|p| *p == name)?;
        Some(Self(index as u8 * 4 + stress))
    }

    pub(super) fn name(self) -> &'static str {
        PHONES[usize::from(self.0 >> 2)]
    }

    /// 0 none, 1 primary, 2 secondary; 0 for consonants.
    pub(super) const fn stress(self) -> u8 {
        self.0 & 3
    }

    pub(super) const fn is_vowel(self) -> bool {
        self.0 >> 2 < VOWELS
    }

    pub(super) const fn with_stress(self, stress: u8) -> Self {
        Self(self.0 & !3 | stress)
    }
}

impl std::fmt::Debug for Phone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        if self.is_vowel() { write!(f, "{}", self.stress()) } else { Ok(()) }
    }
}

/// Parses phones separated by spaces; `None` when one is none.
pub(super) fn parse_phones(text: &str) -> Option<Vec<Phone>> {
    text.split_ascii_whitespace().map(Phone::parse).collect()
}

/// Why a dictionary cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DictionaryError {
    /// The file cannot be read.
    #[error("dictionary {path}: {reason}")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// A line is not a word and its phones.
    #[error("dictionary line {line}: {reason}")]
    Malformed {
        /// Counted from one.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no word in it.
    #[error("dictionary has no words")]
    Empty,
}

/// Pronunciations of English words.
pub struct Dictionary {
    /// Per word: its letters, a zero byte, its phones as bytes.
    block: Vec<u8>,
    /// Where each word begins, in the words' byte order; a last entry marks the end.
    starts: Vec<u32>,
}

const MAX_BYTES: u64 = 64 << 20;

impl Dictionary {
    /// Reads a CMUdict file.
    ///
    /// # Errors
    /// When it cannot be read, is larger than 64 MiB, or is malformed.
    pub fn load(path: &Path) -> Result<Self, DictionaryError> {
        let unreadable =
            |reason: String| DictionaryError::Unreadable { path: path.display().to_string(), reason };
        let meta = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
        if meta.len() > MAX_BYTES {
            return Err(unreadable(format!("{} bytes are more than {MAX_BYTES}", meta.len())));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?)
    }

    /// Reads CMUdict's text.
    ///
    /// # Errors
    /// When a line is not a word and known phones, or there are no words.
    pub fn parse(text: &str) -> Result<Self, DictionaryError> {
        let mut entries: Vec<(&str, &str)> = Vec::with_capacity(text.len() / 24);
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() || line.starts_with(";;;") {
                continue;
            }
            let malformed = |reason| DictionaryError::Malformed { line: number + 1, reason };
            let (word, phones) = line.split_once(' ').ok_or_else(|| malformed("a word without phones"))?;
            if word.len() > 64 || phones.len() > 256 {
                return Err(malformed("a word longer than 64 bytes"));
            }
            if !phones.split_ascii_whitespace().all(|p| Phone::parse(p).is_some()) {
                return Err(malformed("a phone that is not ARPAbet"));
            }
            if !word.ends_with(')') {
                entries.push((word, phones));
            }
        }
        if entries.is_empty() {
            return Err(DictionaryError::Empty);
        }
        entries.sort_unstable_by_key(|e| e.0);
        let mut block = Vec::with_capacity(entries.len() * 16);
        let mut starts = Vec::with_capacity(entries.len() + 1);
        for (word, phones) in entries {
            starts.push(block.len() as u32);
            block.extend_from_slice(word.as_bytes());
            block.push(0);
            block.extend(phones.split_ascii_whitespace().filter_map(Phone::parse).map(|p| p.0));
        }
        starts.push(block.len() as u32);
        block.shrink_to_fit();
        Ok(Self { block, starts })
    }

    fn entry(&self, index: usize) -> (&[u8], &[u8]) {
        let entry = &self.block[self.starts[index] as usize..self.starts[index + 1] as usize];
        let end = entry.iter().position(|b| *b == 0).expect("every entry was written with a zero byte");
        (&entry[..end], &entry[end + 1..])
    }

    /// The listed pronunciation of a lower-case word.
    pub(super) fn listed(&self, word: &str) -> Option<Vec<Phone>> {
        let (mut low, mut high) = (0, self.starts.len() - 1);
        while low < high {
            let middle = low.midpoint(high);
            let (found, phones) = self.entry(middle);
            match found.cmp(word.as_bytes()) {
                std::cmp::Ordering::Equal => return Some(phones.iter().copied().map(Phone).collect()),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Whether a lower-case word is listed.
    #[must_use]
    pub fn contains(&self, word: &str) -> bool {
        self.listed(word).is_some()
    }

    /// Listed words.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there are no words; never true for a parsed one.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held (bytes).
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.block.capacity() + self.starts.capacity() * 4
    }

    /// How a lower-case word is said: listed, else from a listed stem and an ending, else from two listed words, else
    /// by rule from its letters.
    pub(super) fn pronounce(&self, word: &str) -> Vec<Phone> {
        self.listed(word)
            .or_else(|| self.inflected(word))
            .or_else(|| self.compound(word))
            .unwrap_or_else(|| letters::by_rule(word))
    }

    /// A listed stem with a regular ending.
    fn inflected(&self, word: &str) -> Option<Vec<Phone>> {
        let stem_of = |ending: &str| {
            let stem = word.strip_suffix(ending).filter(|s| s.len() >= 2)?;
            let doubled =
                stem.as_bytes()[stem.len() - 1] == *stem.as_bytes().get(stem.len().wrapping_sub(2))?;
            let silent = || self.listed(&format!("{stem}e")).filter(|_| !ending.starts_with('s'));
            self.listed(stem).or_else(silent).or_else(|| {
                let single =
                    (doubled && stem.is_char_boundary(stem.len() - 1)).then(|| &stem[..stem.len() - 1])?;
                self.listed(single)
            })
        };
        if let Some(mut phones) = stem_of("'s").or_else(|| stem_of("s'")).or_else(|| stem_of("s")) {
            phones.extend(plural(*phones.last()?));
            return Some(phones);
        }
        if let Some(mut phones) = word.ends_with("es").then(|| stem_of("es")).flatten() {
            phones.extend(plural(*phones.last()?));
            return Some(phones);
        }
        if let Some(mut phones) = stem_of("ed") {
            phones.extend(match phones.last()?.name() {
                "T" | "D" => parse_phones("IH0 D")?,
                "P" | "K" | "F" | "S" | "SH" | "CH" | "TH" => parse_phones("T")?,
                _ => parse_phones("D")?,
            });
            return Some(phones);
        }
        for (ending, sound) in [
            ("ing", "IH0 NG"),
            ("er", "ER0"),
            ("ers", "ER0 Z"),
            ("est", "AH0 S T"),
            ("ly", "L IY0"),
            ("ness", "N AH0 S"),
            ("less", "L AH0 S"),
            ("able", "AH0 B AH0 L"),
            ("ment", "M AH0 N T"),
        ] {
            if let Some(mut phones) = stem_of(ending) {
                phones.extend(parse_phones(sound)?);
                return Some(phones);
            }
        }
        for (start, sound) in [("un", "AH0 N"), ("re", "R IY0"), ("non", "N AA2 N"), ("pre", "P R IY0")] {
            if let Some(rest) = word.strip_prefix(start).filter(|r| r.len() >= 4).and_then(|r| self.listed(r))
            {
                return Some(parse_phones(sound)?.into_iter().chain(rest).collect());
            }
        }
        None
    }

    /// Two listed words of three letters and more; the longer first part wins.
    fn compound(&self, word: &str) -> Option<Vec<Phone>> {
        (3..=word.len().checked_sub(3)?).rev().filter(|i| word.is_char_boundary(*i)).find_map(|i| {
            let first = self.listed(&word[..i])?;
            let second = self.listed(&word[i..])?;
            // The first part carries the stress of the whole, as in "patchcord".
            let second = second.into_iter().map(|p| if p.stress() == 1 { p.with_stress(2) } else { p });
            Some(first.into_iter().chain(second).collect())
        })
    }
}

/// The sound of a plural or possessive ending after `last`.
fn plural(last: Phone) -> Vec<Phone> {
    let sound = match last.name() {
        "S" | "Z" | "SH" | "ZH" | "CH" | "JH" => "IH0 Z",
        "P" | "T" | "K" | "F" | "TH" => "S",
        _ => "Z",
    };
    parse_phones(sound).expect("the table above is ARPAbet")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Dictionary {
        let text = ";;; comment\nzebra Z IY1 B R AH0\nhello HH AH0 L OW1\nhello(2) HH EH0 L OW1\n\
            patch P AE1 CH\ncord K AO1 R D # wood\nbook B UH1 K\nrun R AH1 N\nbake B EY1 K\n";
        Dictionary::parse(text).expect("well-formed")
    }

    fn said(dictionary: &Dictionary, word: &str) -> String {
        format!("{:?}", dictionary.pronounce(word)).replace(['[', ']', ','], "")
    }

    #[test]
    fn the_first_pronunciation_is_found_whatever_the_order_of_the_file() {
        let dictionary = small();
        assert_eq!(dictionary.len(), 7);
        assert_eq!(said(&dictionary, "hello"), "HH AH0 L OW1");
        assert_eq!(said(&dictionary, "zebra"), "Z IY1 B R AH0");
        assert!(!dictionary.contains("hell"));
        assert!(!dictionary.contains(""));
    }

    #[test]
    fn words_that_are_not_listed_are_built_from_listed_ones() {
        let dictionary = small();
        assert_eq!(said(&dictionary, "patchcord"), "P AE1 CH K AO2 R D");
        assert_eq!(said(&dictionary, "patches"), "P AE1 CH IH0 Z");
        assert_eq!(said(&dictionary, "book's"), "B UH1 K S");
        assert_eq!(said(&dictionary, "running"), "R AH1 N IH0 NG");
        assert_eq!(said(&dictionary, "baking"), "B EY1 K IH0 NG");
        assert_eq!(said(&dictionary, "booked"), "B UH1 K T");
    }

    #[test]
    fn malformed_dictionaries_are_refused_with_the_line() {
        for (text, wanted) in [
            ("hello HH AH0\nworld", "dictionary line 2: a word without phones"),
            ("hello XX", "dictionary line 1: a phone that is not ARPAbet"),
            ("\n# nothing\n", "dictionary has no words"),
        ] {
            assert_eq!(Dictionary::parse(text).err().expect("refused").to_string(), wanted);
        }
        assert!(Dictionary::load(Path::new("/no/such/file")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_word_is_said_somehow_without_a_panic(word in "\\PC{0,12}") {
            small().pronounce(&word);
        }
    }
}
