//! Backends that are not there: a recogniser that knows what the far end says, and what can go wrong with any of them.
//!
//! The recogniser hears a word when it has left the far end's leg, so words of a line that was cut are not recognised,
//! and neither are words that the call's own detectors missed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::agent::{Delta, ToolCall};
use crate::sim::voice;
use crate::time::MediaTime;

/// How slow the fake backends are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delays {
    /// From a request for final words to the words.
    pub recognition: Duration,
    /// From a request for a reply to its first piece.
    pub language: Duration,
    /// From a clause to its first audio.
    pub synthesis: Duration,
}

impl Default for Delays {
    /// 150 ms, 200 ms, 80 ms.
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { recognition: ms(150), language: ms(200), synthesis: ms(80) }
    }
}

/// What a backend does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// It says that it failed.
    Error,
    /// It says nothing.
    Silence,
    /// It gives half of what was asked for, and then nothing.
    Halfway,
    /// It gives what nobody asked for.
    Nonsense,
}

/// Calls of a backend that go wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Which ones, counted from zero.
    pub calls: Range<u32>,
    /// How.
    pub how: Failure,
}

/// Everything that goes wrong in a simulated call. The default is nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Requests for final words.
    pub recognition: Option<Fault>,
    /// Requests for a reply.
    pub language: Option<Fault>,
    /// Clauses to be voiced.
    pub synthesis: Option<Fault>,
    /// Datagrams that vanish on their way to the call, counted from zero.
    pub lost_to_agent: Range<u64>,
    /// Datagrams that vanish on their way to the far end, counted from zero.
    pub lost_to_callee: Range<u64>,
}

/// How often each backend was called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Calls {
    /// Requests for final words.
    pub recognition: u32,
    /// Requests for a reply.
    pub language: u32,
    /// Clauses voiced.
    pub synthesis: u32,
}

/// Counts a call and says whether, and how, it goes wrong.
pub(super) fn next_call(count: &mut u32, fault: Option<&Fault>) -> Option<Failure> {
    let n = *count;
    *count += 1;
    fault.filter(|f| f.calls.contains(&n)).map(|f| f.how)
}

/// A reply as a model streams it: a word at a time.
pub(super) fn stream(reply: Vec<Delta>) -> Vec<Delta> {
    let mut pieces = Vec::new();
    for delta in reply {
        match delta {
            Delta::Text(text) => {
                pieces.extend(text.split_inclusive(' ').map(|word| Delta::Text(word.to_owned())));
            }
            other => pieces.push(other),
        }
    }
    pieces
}

/// A reply that no model should give.
pub(super) fn nonsense() -> Vec<Delta> {
    let call = |name: &str, arguments: &str| {
        Delta::ToolCall(ToolCall { id: String::new(), name: name.into(), arguments: arguments.into() })
    };
    vec![
        Delta::Text("}}\u{0}\u{fffd}{\"".into()),
        call("launch", "{"),
        call("send_dtmf", "{\"digits\": \"twelve\"}"),
        Delta::Done,
    ]
}

/// A word on its way from the far end.
#[derive(Debug)]
struct Word {
    line: u32,
    text: String,
    /// Its end within the line [8 kHz samples].
    end: u64,
    /// Where it arrives on the call's timeline.
    at: MediaTime,
    recognised: bool,
}

/// The recogniser.
#[derive(Debug, Default)]
pub(super) struct Recogniser {
    words: Vec<Word>,
    from: BTreeMap<u32, MediaTime>,
    /// Final words that were asked for: the job that will bring them.
    jobs: BTreeMap<u32, u32>,
    next_job: u32,
}

impl Recogniser {
    /// Words this close beyond the bounds of an utterance belong to it: detectors are not exact (samples).
    const SLACK: u64 = 8 * 150;

    /// The far end's line begins to arrive at `at`.
    pub(super) fn line_began(&mut self, line: u32, text: &str, at: MediaTime) {
        let mut begin = 0;
        for (end_byte, end) in voice::word_ends(text) {
            let word = text[begin..end_byte].trim();
            let middle = end - voice::spoken_samples(word) / 2;
            self.words.push(Word {
                line,
                text: word.to_owned(),
                end,
                at: at.plus(middle),
                recognised: false,
            });
            begin = end_byte;
        }
    }

    /// The far end's line was cut after `samples`.
    pub(super) fn line_cut(&mut self, line: u32, samples: u64) {
        self.words.retain(|w| w.line != line || w.end <= samples);
    }

    /// Listens from `at`.
    pub(super) fn listen(&mut self, utterance: u32, at: MediaTime) {
        self.from.insert(utterance, at);
    }

    /// Whether the utterance is being listened to and its end was not asked for.
    pub(super) fn is_open(&self, utterance: u32) -> bool {
        self.from.contains_key(&utterance) && !self.jobs.contains_key(&utterance)
    }

    /// A final recognition begins; the number is for [`Self::finish`].
    pub(super) fn begin(&mut self, utterance: u32) -> u32 {
        self.next_job += 1;
        self.jobs.insert(utterance, self.next_job);
        self.next_job
    }

    /// A final recognition is not wanted any more.
    pub(super) fn cancel(&mut self, utterance: u32) {
        self.jobs.remove(&utterance);
    }

    /// The final words up to `until`, unless the job was cancelled.
    pub(super) fn finish(&mut self, utterance: u32, job: u32, until: MediaTime) -> Option<String> {
        if self.jobs.get(&utterance) != Some(&job) {
            return None;
        }
        self.jobs.remove(&utterance);
        let from = self.from.remove(&utterance)?;
        let text = self.words_between(from, until);
        for word in self.words.iter_mut().filter(|w| within(w.at, from, until)) {
            word.recognised = true;
        }
        Some(text)
    }

    /// The words so far.
    pub(super) fn partial(&self, utterance: u32, now: MediaTime) -> Option<String> {
        let from = self.from.get(&utterance)?;
        Some(self.words_between(*from, now.minus(2 * Self::SLACK)))
    }

    fn words_between(&self, from: MediaTime, until: MediaTime) -> String {
        let words = self.words.iter().filter(|w| !w.recognised && within(w.at, from, until));
        words.map(|w| w.text.as_str()).collect::<Vec<_>>().join(" ")
    }
}

fn within(at: MediaTime, from: MediaTime, until: MediaTime) -> bool {
    at.plus(Recogniser::SLACK) >= from && at <= until.plus(Recogniser::SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> MediaTime {
        MediaTime::from_ms(ms)
    }

    #[test]
    fn each_word_is_recognised_once_and_one_that_was_cut_never() {
        let mut ears = Recogniser::default();
        ears.listen(1, at(1000));
        ears.line_began(1, "One two three four.", at(1000));
        ears.line_cut(1, voice::spoken_samples("One two three"));
        assert_eq!(ears.partial(1, at(1800)).as_deref(), Some("One two"));
        let job = ears.begin(1);
        assert_eq!(ears.finish(1, job, at(1500)).as_deref(), Some("One two"));
        ears.listen(2, at(1700));
        let job = ears.begin(2);
        assert_eq!(ears.finish(2, job, at(3000)).as_deref(), Some("three"));
    }

    #[test]
    fn a_cancelled_recognition_brings_nothing_and_loses_nothing() {
        let mut ears = Recogniser::default();
        ears.listen(1, at(0));
        ears.line_began(1, "One two.", at(0));
        let first = ears.begin(1);
        assert!(!ears.is_open(1));
        ears.cancel(1);
        assert_eq!(ears.finish(1, first, at(900)), None);
        let second = ears.begin(1);
        assert_eq!(ears.finish(1, first, at(900)), None);
        assert_eq!(ears.finish(1, second, at(900)).as_deref(), Some("One two."));
    }

    #[test]
    fn a_fault_hits_the_calls_it_names() {
        let fault = Fault { calls: 1..3, how: Failure::Silence };
        let mut count = 0;
        let hit: Vec<bool> = (0..4).map(|_| next_call(&mut count, Some(&fault)).is_some()).collect();
        assert_eq!(hit, [false, true, true, false]);
    }
}
