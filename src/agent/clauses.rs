//! Cuts a reply that is still being written into clauses that can already be spoken.
//!
//! In: text as it streams. Out: clauses, each with the white space that separates it from the one before, so that
//! joining them gives the reply. The first clause is let go early, for the sake of the first audio; later ones are
//! longer, for the sake of the melody.

/// A clause ends at a sentence mark from this length on (bytes).
const MIN_SENTENCE: usize = 2;
/// A first clause may end at a comma from this length on (bytes).
const MIN_FIRST_CLAUSE: usize = 18;
/// A later clause may end at a comma from this length on (bytes).
const MIN_CLAUSE: usize = 60;
/// A clause without any mark is cut at a space beyond this length (bytes).
const MAX_CLAUSE: usize = 220;

/// Abbreviations whose point ends no sentence.
const ABBREVIATIONS: &[&str] =
    &["mr", "mrs", "ms", "dr", "st", "no", "vs", "etc", "e.g", "i.e", "a.m", "p.m"];

/// Splits streamed text into speakable clauses.
#[derive(Debug, Default)]
pub struct ClauseSplitter {
    waiting: String,
    any_out: bool,
}

impl ClauseSplitter {
    /// Adds text as it came.
    pub fn push(&mut self, text: &str) {
        self.waiting.push_str(text);
    }

    /// The next clause that is surely whole. A mark counts once something follows it, so "3.50" stays together.
    pub fn poll_clause(&mut self) -> Option<String> {
        let end = self.boundary()?;
        let rest = self.waiting.split_off(end);
        let clause = std::mem::replace(&mut self.waiting, rest);
        Some(self.let_go(&clause))
    }

    /// What is left once the reply is complete.
    pub fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.waiting);
        (!rest.trim().is_empty()).then(|| self.let_go(&rest))
    }

    fn let_go(&mut self, clause: &str) -> String {
        let words = clause.split_whitespace().collect::<Vec<_>>().join(" ");
        let separator = if std::mem::replace(&mut self.any_out, true) { " " } else { "" };
        format!("{separator}{words}")
    }

    fn boundary(&self) -> Option<usize> {
        let text = &self.waiting;
        let start = text.len() - text.trim_start().len();
        let mut last_space = None;
        let mut chars = text.char_indices().skip_while(|&(i, _)| i < start).peekable();
        while let Some((i, c)) = chars.next() {
            let end = i + c.len_utf8();
            let &(_, next) = chars.peek()?;
            let length = end - start;
            let soft_min = if self.any_out { MIN_CLAUSE } else { MIN_FIRST_CLAUSE };
            let sentence = matches!(c, '.' | '!' | '?' | '…')
                && next.is_whitespace()
                && length >= MIN_SENTENCE
                && !ends_in_abbreviation(&text[start..i]);
            let soft = matches!(c, ',' | ';' | ':' | '—') && next.is_whitespace() && length >= soft_min;
            if sentence || soft || (c == '\n' && length > 1) {
                return Some(end);
            }
            if c.is_whitespace() {
                last_space = Some(i);
            }
            if length > MAX_CLAUSE {
                return Some(last_space.unwrap_or(end));
            }
        }
        None
    }
}

fn ends_in_abbreviation(text: &str) -> bool {
    let word = text.rsplit(char::is_whitespace).next().unwrap_or_default().to_lowercase();
    ABBREVIATIONS.contains(&word.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(pieces: &[&str]) -> Vec<String> {
        let mut splitter = ClauseSplitter::default();
        let mut out = Vec::new();
        for piece in pieces {
            splitter.push(piece);
            out.extend(std::iter::from_fn(|| splitter.poll_clause()));
        }
        out.extend(splitter.finish());
        out
    }

    #[test]
    fn sentences_are_let_go_as_soon_as_the_next_one_begins() {
        let mut splitter = ClauseSplitter::default();
        splitter.push("Yes, please. ");
        assert_eq!(splitter.poll_clause().as_deref(), Some("Yes, please."));
        splitter.push("That would be great.");
        assert_eq!(splitter.poll_clause(), None);
        assert_eq!(splitter.finish().as_deref(), Some(" That would be great."));
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn the_first_clause_may_end_at_a_comma_and_numbers_and_titles_stay_whole() {
        let clauses =
            stream(&["I would like to book a table, please, for Dr. Smith at 7.30 p.m. today. Than", "ks."]);
        assert_eq!(
            clauses,
            ["I would like to book a table,", " please, for Dr. Smith at 7.30 p.m. today.", " Thanks."]
        );
    }

    #[test]
    fn endless_text_without_marks_is_cut_at_spaces() {
        let clauses = stream(&["word ".repeat(200).as_str()]);
        assert!(clauses.len() > 3 && clauses.iter().all(|c| c.len() <= MAX_CLAUSE + 2));
        assert!(clauses.iter().all(|c| c.split_whitespace().all(|w| w == "word")));
    }

    proptest! {
        #[test]
        fn no_word_is_lost_or_split_however_the_text_arrives(
            text in "[a-zé]{1,9}([ ,.!?\n][ a-z0-9.]{0,30}){0,20}", cut in 1usize..7,
        ) {
            let mut splitter = ClauseSplitter::default();
            let mut joined = String::new();
            let chars: Vec<char> = text.chars().collect();
            for piece in chars.chunks(cut) {
                splitter.push(&piece.iter().collect::<String>());
                while let Some(clause) = splitter.poll_clause() {
                    joined.push_str(&clause);
                }
            }
            joined.push_str(&splitter.finish().unwrap_or_default());
            let words = |s: &str| s.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(words(&joined), words(&text));
        }
    }
}
