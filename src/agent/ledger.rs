//! What of our speech was really sent: the ledger that the transcript is written from.
//!
//! In: the text of each utterance as it is handed to the synthesiser, word times and lengths as they become known,
//! playout marks from the leg. Out: for each utterance that is over, exactly the words whose ends were sent.
//!
//! Where a synthesiser gives word times they decide. Without them a word counts by its share of the text, on the safe
//! side: while the utterance's length is unknown it is taken to be as long as slow speech would make it.

use std::collections::VecDeque;

use crate::time::MediaTime;
use crate::turn::SpokenWord;

/// Slow speech: 8 kHz samples for one byte of text (10 bytes a second).
const SLOW_SAMPLES_PER_BYTE: u64 = 800;
/// The most words kept of one utterance.
const MAX_WORDS: usize = 4096;

/// An utterance that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The utterance.
    pub utterance: u32,
    /// The words that were sent whole.
    pub text: String,
    /// First sample on the timeline; `None` if none was sent.
    pub start: Option<MediaTime>,
    /// Last sample on the timeline.
    pub end: MediaTime,
    /// Whether it was cut before its end.
    pub interrupted: bool,
    /// Whether it began with the mandatory first words and they were sent whole.
    pub disclosed: bool,
}

/// An utterance between us and the wire.
#[derive(Clone, Debug)]
struct Flight {
    utterance: u32,
    text: String,
    /// Bytes of `text` that are the mandatory first words; zero if it does not begin with them.
    disclosure: usize,
    complete: bool,
    words: Vec<SpokenWord>,
    length: Option<u64>,
    synthesised: u64,
    sent: u64,
    start: Option<MediaTime>,
    end: MediaTime,
    cut: bool,
    protected: bool,
}

/// The utterances that are not over.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    flights: VecDeque<Flight>,
}

impl Ledger {
    /// Begins an utterance whose first `disclosure` bytes of text will be the mandatory first words, and which may
    /// be `protected` from being talked over.
    pub fn begin(&mut self, utterance: u32, disclosure: usize, protected: bool) {
        self.flights.push_back(Flight {
            utterance,
            text: String::new(),
            disclosure,
            complete: false,
            words: Vec::new(),
            length: None,
            synthesised: 0,
            sent: 0,
            start: None,
            end: MediaTime::ZERO,
            cut: false,
            protected,
        });
    }

    /// Adds text to an utterance, exactly as it goes to the synthesiser.
    pub fn append(&mut self, utterance: u32, text: &str, last: bool) {
        if let Some(flight) = self.find(utterance) {
            flight.text.push_str(text);
            flight.complete |= last;
        }
    }

    /// Notes what the synthesiser has made so far.
    pub fn voiced(&mut self, utterance: u32, samples: u64, words: Vec<SpokenWord>, finished: bool) {
        if let Some(flight) = self.find(utterance) {
            flight.synthesised = flight.synthesised.max(samples);
            let room = MAX_WORDS.saturating_sub(flight.words.len());
            flight.words.extend(words.into_iter().take(room));
            if finished {
                flight.length = Some(samples);
            }
        }
    }

    /// Notes that the first sample went out. Returns whether that was news.
    pub fn started(&mut self, utterance: u32, at: MediaTime) -> bool {
        let Some(flight) = self.find(utterance).filter(|f| f.start.is_none()) else { return false };
        flight.start = Some(at);
        flight.end = at;
        true
    }

    /// Notes that `samples` of an utterance were sent up to `at`.
    pub fn played(&mut self, utterance: u32, samples: u64, at: MediaTime) {
        if let Some(flight) = self.find(utterance) {
            flight.sent = flight.sent.max(samples);
            flight.end = flight.end.max(at);
        }
    }

    /// An utterance's last sample went out.
    pub fn finished(&mut self, utterance: u32, samples: u64, at: MediaTime) -> Option<Said> {
        self.played(utterance, samples, at);
        let flight = self.take(utterance)?;
        let disclosed = flight.disclosure > 0;
        Some(flight.said(None, disclosed))
    }

    /// An utterance is over before its end: what was sent of it is known for good.
    pub fn cut(&mut self, utterance: u32, samples: u64, at: MediaTime) -> Option<Said> {
        self.played(utterance, samples, at);
        let flight = self.take(utterance)?;
        Some(flight.said_so_far())
    }

    /// Marks all utterances as cut and returns their numbers; what was sent of them is still to be told.
    pub fn mark_cut(&mut self) -> Vec<u32> {
        self.flights
            .iter_mut()
            .filter(|f| !f.cut)
            .map(|f| {
                f.cut = true;
                f.utterance
            })
            .collect()
    }

    /// Gives up waiting: every utterance is over with what is known to be sent of it. With `only_cut`, those marked.
    pub fn settle(&mut self, only_cut: bool) -> Vec<Said> {
        let (over, stay): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.flights).into_iter().partition(|f| f.cut || !only_cut);
        self.flights = stay;
        over.into_iter().map(Flight::said_so_far).collect()
    }

    /// Takes back the one utterance on its way, if nothing of it was sent yet; returns its text.
    pub fn recall(&mut self, utterance: u32) -> Option<String> {
        if self.flights.len() > 1 {
            return None;
        }
        let flight = self.find(utterance).filter(|f| f.start.is_none() && !f.cut)?;
        flight.cut = true;
        Some(flight.text.clone())
    }

    /// Whether no utterance is on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Whether an utterance that was not cut is on its way.
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        self.flights.iter().any(|f| !f.cut)
    }

    /// Whether one that was cut has not been settled.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.flights.iter().any(|f| f.cut)
    }

    /// Whether an utterance on its way has the mandatory first words in it.
    #[must_use]
    pub fn is_disclosing(&self) -> bool {
        self.flights.iter().any(|f| f.disclosure > 0 && !f.cut)
    }

    /// Whether a protected utterance is on its way.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.flights.iter().any(|f| f.protected && !f.cut)
    }

    /// Whether the utterance is on its way.
    #[must_use]
    pub fn contains(&self, utterance: u32) -> bool {
        self.flights.iter().any(|f| f.utterance == utterance && !f.cut)
    }

    /// Whether the utterance has no text yet.
    #[must_use]
    pub fn is_blank(&self, utterance: u32) -> bool {
        self.flights.iter().all(|f| f.utterance != utterance || f.text.is_empty())
    }

    /// Whether any sample of what is on its way went out.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.flights.iter().any(|f| !f.cut && f.start.is_some())
    }

    fn find(&mut self, utterance: u32) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|f| f.utterance == utterance)
    }

    fn take(&mut self, utterance: u32) -> Option<Flight> {
        let at = self.flights.iter().position(|f| f.utterance == utterance)?;
        self.flights.remove(at)
    }
}

impl Flight {
    fn said_so_far(self) -> Said {
        // Everything may have gone out with the cut a moment too late.
        if self.complete && self.length.is_some_and(|length| self.sent >= length) {
            let disclosed = self.disclosure > 0;
            return self.said(None, disclosed);
        }
        let heard = self.heard_bytes();
        let disclosed = self.disclosure > 0 && heard >= self.text[..self.disclosure].trim_end().len();
        self.said(Some(heard), disclosed)
    }

    fn said(self, bytes: Option<usize>, disclosed: bool) -> Said {
        Said {
            utterance: self.utterance,
            text: self.text[..bytes.unwrap_or(self.text.len())].trim().to_owned(),
            start: self.start,
            end: self.end,
            interrupted: bytes.is_some(),
            disclosed,
        }
    }

    /// How many bytes of the text belong to words whose end was sent.
    fn heard_bytes(&self) -> usize {
        let bytes = if self.words.is_empty() {
            let slow = self.text.len() as u64 * SLOW_SAMPLES_PER_BYTE;
            let length = self.length.unwrap_or_else(|| self.synthesised.max(slow)).max(1);
            let share = (self.text.len() as u64 * self.sent.min(length) / length) as usize;
            return word_boundary(&self.text, share);
        } else {
            self.words.iter().filter(|w| w.end_sample <= self.sent).map(|w| w.text_end).max().unwrap_or(0)
        };
        let mut bytes = bytes.min(self.text.len());
        while !self.text.is_char_boundary(bytes) {
            bytes -= 1;
        }
        if bytes == 0 {
            // Marks that open the text close no word.
            return 0;
        }
        // The mark that closes a word is not a word of its own.
        let marks = self.text[bytes..].chars().take_while(|c| c.is_ascii_punctuation());
        bytes + marks.map(char::len_utf8).sum::<usize>()
    }
}

/// The end of the last whole word within the first `bytes` bytes.
fn word_boundary(text: &str, bytes: usize) -> usize {
    if bytes >= text.len() {
        return text.len();
    }
    text.char_indices().rfind(|&(i, c)| c.is_whitespace() && i <= bytes).map_or(0, |(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: MediaTime = MediaTime::from_ms(1000);

    fn word(text_end: usize, end_sample: u64) -> SpokenWord {
        SpokenWord { text_end, end_sample }
    }

    fn ledger(text: &str, disclosure: usize) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.begin(7, disclosure, false);
        ledger.append(7, text, true);
        ledger.started(7, AT);
        ledger
    }

    #[test]
    fn word_times_decide_what_was_said_before_a_cut() {
        let mut l = ledger("Yes, please do.", 0);
        l.voiced(7, 9000, vec![word(3, 3000), word(11, 6000), word(14, 9000)], false);
        let said = l.cut(7, 8999, MediaTime::from_ms(2125)).expect("known");
        assert_eq!((said.text.as_str(), said.interrupted), ("Yes, please", true));
        assert_eq!((said.start, said.end), (Some(AT), MediaTime::from_ms(2125)));
        assert!(l.is_empty());
    }

    #[test]
    fn a_words_end_must_have_been_sent() {
        for (sent, text) in
            [(0, ""), (2999, ""), (3000, "Yes,"), (6000, "Yes, please"), (9000, "Yes, please do.")]
        {
            let mut l = ledger("Yes, please do.", 0);
            l.voiced(7, 9000, vec![word(3, 3000), word(11, 6000), word(14, 9000)], false);
            assert_eq!(l.cut(7, sent, AT).expect("known").text, text, "{sent}");
        }
    }

    #[test]
    fn marks_before_the_first_word_are_not_said_without_it() {
        let mut l = ledger("\"Yes\", he said.", 0);
        l.voiced(7, 9000, vec![word(5, 3000)], false);
        assert_eq!(l.cut(7, 2999, AT).expect("known").text, "");
    }

    #[test]
    fn without_word_times_a_share_of_the_text_is_taken_rounded_down_to_words() {
        let mut l = ledger("one two three four", 0);
        l.voiced(7, 18_000, vec![], true);
        assert_eq!(l.cut(7, 9_000, AT).expect("known").text, "one two");
        let mut l = ledger("one two three four", 0);
        l.voiced(7, 4_000, vec![], false);
        assert_eq!(l.cut(7, 4_000, AT).expect("known").text, "one", "the length is not known yet");
    }

    #[test]
    fn a_finished_utterance_is_said_whole() {
        let mut l = ledger("Hello there.", 6);
        let said = l.finished(7, 5000, AT).expect("known");
        assert_eq!((said.text.as_str(), said.interrupted, said.disclosed), ("Hello there.", false, true));
        assert_eq!(l.finished(7, 5000, AT), None);
    }

    #[test]
    fn the_first_words_count_as_disclosed_only_when_sent_whole() {
        for (sent, disclosed) in [(5_999, false), (6_000, true)] {
            let mut l = ledger("Hello there. And more.", 13);
            l.voiced(7, 9000, vec![word(5, 3000), word(11, 6000), word(16, 7000), word(21, 9000)], false);
            assert_eq!(l.cut(7, sent, AT).expect("known").disclosed, disclosed);
        }
    }

    #[test]
    fn an_utterance_can_be_taken_back_only_before_its_first_sample() {
        let mut l = Ledger::default();
        l.begin(1, 3, false);
        l.append(1, "Hi. Then more.", false);
        assert_eq!(l.recall(1).as_deref(), Some("Hi. Then more."));
        assert_eq!(l.recall(1), None);
        assert!(l.is_unsettled() && !l.is_speaking());
        assert_eq!(l.settle(true).len(), 1);
        assert_eq!(ledger("Hi.", 0).recall(7), None);
    }

    #[test]
    fn word_ends_out_of_bounds_or_inside_a_character_never_panic() {
        let mut l = ledger("Café olé", 0);
        l.voiced(7, 100, vec![word(4, 1), word(4000, 2)], false);
        assert_eq!(l.cut(7, 1, AT).expect("known").text, "Caf");
    }
}
