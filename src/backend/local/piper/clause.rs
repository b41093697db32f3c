//! An utterance as it is made: clauses to pieces, pieces to chunks, and where in it each word ends.
//!
//! In: clauses, in order. Out: [`SpeechChunk`]s, one for each call of [`Utterance::next_chunk`], which is the unit of
//! work given to the inference pool. Synchronous.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Piper;
use super::model::{Config, HOP, Latent, MAX_IDS};
use super::telephone::{Finish, Resampler};
use crate::backend::local::text::{Sound, normalize, phonemes};
use crate::backend::{BackendError, SpeechChunk, SpokenWord, Voice};

/// Vocoder chunks of a piece [frames of 11.6 ms]: the first short, to be heard soon; the others cheaper.
const CHUNKS: [usize; 3] = [24, 48, 96];
/// A piece with more words than this is cut at its commas …
const LONG_WORDS: usize = 10;
/// … where at least so many words are on each side.
const MIN_WORDS: usize = 3;
/// A piece is cut here, comma or not.
const MAX_WORDS: usize = 24;
/// Silence put between two pieces, beside the one the voice makes by itself [8 kHz samples].
const STOP_PAUSE: usize = 8 * 120;
const COMMA_PAUSE: usize = 8 * 40;

/// One utterance in the making.
pub(super) struct Utterance {
    piper: Arc<Piper>,
    /// Samples a second that the vocoder's output stands for, so that the pitch comes out shifted.
    rate: f64,
    /// Factor on all durations: makes up for the pitch and sets the speed.
    stretch: f32,
    finish: Finish,
    pieces: VecDeque<Piece>,
    /// Bytes of the clauses before the current one.
    text_before: usize,
    text_now: usize,
    /// 8 kHz samples given out.
    produced: u64,
    current: Option<Speaking>,
    /// Silence due before the next piece.
    pause: usize,
}

/// What the voice says in one go.
pub(super) struct Piece {
    ids: Vec<i32>,
    words: Vec<WordIds>,
    pause: usize,
}

/// The phoneme numbers of a written word.
struct WordIds {
    text_end: usize,
    first: usize,
    last: usize,
}

struct Speaking {
    latent: Latent,
    resampler: Resampler,
    /// Words not yet given out: first sample, and what is said of them.
    words: VecDeque<(u64, SpokenWord)>,
    decoded: usize,
    chunks: usize,
}

impl Utterance {
    pub(super) fn new(piper: Arc<Piper>, voice: &Voice) -> Self {
        let rate = f64::from(piper.network.config().sample_rate) * f64::from(voice.pitch);
        let finish = piper.finish();
        Self {
            piper,
            rate,
            stretch: voice.pitch / voice.speed,
            finish,
            pieces: VecDeque::new(),
            text_before: 0,
            text_now: 0,
            produced: 0,
            current: None,
            pause: 0,
        }
    }

    /// Takes the next clause. The one before must be finished: [`Self::next_chunk`] gave `None`.
    pub(super) fn begin(&mut self, clause: String) {
        self.text_before += self.text_now;
        self.text_now = clause.len();
        self.pieces = pieces(&self.piper, &clause, self.text_before).into();
    }

    /// The next chunk of the clause; `None` when it is finished.
    pub(super) fn next_chunk(&mut self) -> Result<Option<SpeechChunk>, BackendError> {
        let mut samples = Vec::new();
        let mut speaking = match self.current.take() {
            Some(speaking) => speaking,
            None => match self.pieces.pop_front() {
                Some(piece) => {
                    samples.resize(std::mem::replace(&mut self.pause, piece.pause), 0);
                    self.start(&piece, samples.len() as u64)?
                }
                None => return Ok(None),
            },
        };
        let length = CHUNKS[speaking.chunks.min(CHUNKS.len() - 1)];
        let (from, total) = (speaking.decoded, speaking.latent.frames);
        // A rest too short to be worth a job goes with the chunk before it.
        let to = if from + length + CHUNKS[0] / 2 >= total { total } else { from + length };
        let raw = self.piper.network.decode(&speaking.latent, from, to)?;
        let mut narrow = Vec::with_capacity((raw.len() as f64 * 8000.0 / self.rate) as usize + 8);
        speaking.resampler.push(&raw, &mut narrow);
        let last = to == total;
        if last {
            speaking.resampler.flush(&mut narrow);
        }
        self.finish.apply(&narrow, &mut samples);
        self.produced += samples.len() as u64;
        let mut words = Vec::new();
        while let Some((begin, _)) = speaking.words.front()
            && (last || *begin < self.produced)
        {
            words.extend(speaking.words.pop_front().map(|w| w.1));
        }
        if last {
            for word in &mut words {
                word.end_sample = word.end_sample.min(self.produced);
            }
        } else {
            (speaking.decoded, speaking.chunks) = (to, speaking.chunks + 1);
            self.current = Some(speaking);
        }
        Ok(Some(SpeechChunk { samples, words }))
    }

    fn start(&self, piece: &Piece, silence: u64) -> Result<Speaking, BackendError> {
        let latent = self.piper.network.encode(&piece.ids, self.stretch)?;
        let origin = self.produced + silence;
        let hop = HOP as f64 * 8000.0 / self.rate;
        let edges = edges(&latent, piece.ids.len());
        let at = |frame: f64| origin + (frame * hop).round() as u64;
        let words = piece.words.iter().map(|w| {
            let word = SpokenWord { text_end: w.text_end, end_sample: at(edges[w.last + 1]) };
            (at(edges[w.first]), word)
        });
        let words = words.collect();
        Ok(Speaking { latent, resampler: Resampler::new(self.rate), words, decoded: 0, chunks: 0 })
    }
}

/// Where each phoneme number begins [frames], and the end: from the durations, else as if all were equally long.
fn edges(latent: &Latent, ids: usize) -> Vec<f64> {
    let mut edges = Vec::with_capacity(ids + 1);
    let mut at = 0.0;
    edges.push(0.0);
    for i in 0..ids {
        at += match &latent.durations {
            Some(durations) => durations[i] as f64,
            None => latent.frames as f64 / ids as f64,
        };
        edges.push(at);
    }
    edges
}

/// The phoneme numbers of a text's pieces.
pub(super) fn ids_of(piper: &Piper, text: &str) -> Vec<Vec<i32>> {
    pieces(piper, text, 0).into_iter().map(|p| p.ids).collect()
}

/// Cuts a clause into what is said in one go; `before` is added to all text positions.
fn pieces(piper: &Piper, clause: &str, before: usize) -> Vec<Piece> {
    let dictionary = &piper.dictionary;
    let sounds = phonemes(&normalize(clause, &|w| dictionary.contains(w)), dictionary);
    let config = piper.network.config();
    cut(&sounds).into_iter().filter_map(|s| piece(config, s, before)).collect()
}

/// At every sentence's end; in long sentences also at commas; in endless ones anywhere.
fn cut(sounds: &[Sound]) -> Vec<&[Sound]> {
    let mut out = Vec::new();
    for sentence in sounds.split_inclusive(|s| s.is_pause && s.ipa != ",") {
        let words = |s: &[Sound]| s.iter().filter(|s| !s.is_pause).count();
        let mut rest = sentence;
        while words(rest) > LONG_WORDS {
            let comma = (0..rest.len()).find(|i| {
                rest[*i].is_pause && words(&rest[..*i]) >= MIN_WORDS && words(&rest[*i..]) >= MIN_WORDS
            });
            let at = comma.map_or(rest.len(), |i| i + 1);
            let at = if words(&rest[..at]) <= MAX_WORDS {
                at
            } else {
                let full = rest.iter().enumerate().filter(|(_, s)| !s.is_pause).nth(MAX_WORDS - 1);
                full.map_or(rest.len(), |(i, _)| i + 1)
            };
            out.push(&rest[..at]);
            rest = &rest[at..];
        }
        if !rest.is_empty() {
            out.push(rest);
        }
    }
    out
}

/// Phoneme numbers as Piper was trained on them: `^`, then each symbol followed by `_`, then `$`.
fn piece(config: &Config, sounds: &[Sound], before: usize) -> Option<Piece> {
    let mut ids = Vec::with_capacity(sounds.len() * 12);
    let mut words: Vec<WordIds> = Vec::new();
    let put = |ids: &mut Vec<i32>, symbol: char| {
        for id in config.ids(symbol) {
            ids.push(*id);
            ids.extend(config.ids('_'));
        }
    };
    ids.extend(config.ids('^'));
    ids.extend(config.ids('_'));
    for sound in sounds {
        let text_end = before + sound.end;
        if sound.is_pause {
            sound.ipa.chars().for_each(|c| put(&mut ids, c));
            if let Some(word) = words.last_mut() {
                word.text_end = text_end;
            }
            continue;
        }
        if ids.len() + 12 * sound.ipa.chars().count() > MAX_IDS {
            break;
        }
        if !words.is_empty() {
            put(&mut ids, ' ');
        }
        let first = ids.len();
        sound.ipa.chars().for_each(|c| put(&mut ids, c));
        if ids.len() == first {
            continue;
        }
        let last = ids.len() - 1;
        match words.last_mut().filter(|w| w.text_end == text_end) {
            Some(word) => word.last = last,
            None => words.push(WordIds { text_end, first, last }),
        }
    }
    if words.is_empty() {
        return None;
    }
    let ends = sounds.last().is_some_and(|s| s.is_pause);
    let stop = ends && sounds.last().is_some_and(|s| s.ipa != ",");
    if !ends {
        // Without punctuation the voice breaks its last word off.
        put(&mut ids, ',');
    }
    ids.extend(config.ids('$'));
    Some(Piece { ids, words, pause: if stop { STOP_PAUSE } else { COMMA_PAUSE } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sounds(text: &str) -> Vec<Sound> {
        let pause = |w: &str| matches!(w, "," | "." | "?");
        text.split(' ').map(|w| Sound { ipa: w.into(), end: 0, is_pause: pause(w) }).collect()
    }

    fn lengths(text: &str) -> Vec<usize> {
        cut(&sounds(text)).iter().map(|p| p.len()).collect()
    }

    #[test]
    fn sentences_are_pieces_and_only_long_ones_are_cut_at_commas() {
        assert_eq!(lengths("a , b c . d ?"), [5, 2]);
        assert_eq!(lengths("a b c , d e f g h i j k"), [4, 8]);
        assert_eq!(lengths("a b , d e f g h i j k l"), [12]);
        assert_eq!(lengths("a"), [1]);
    }

    #[test]
    fn endless_sentences_are_cut_anyway_and_nothing_is_lost() {
        let long = vec!["w"; 100].join(" ");
        assert_eq!(lengths(&long), [24, 24, 24, 24, 4]);
        let tail = format!("{long} , w w w w .");
        assert_eq!(lengths(&tail).iter().sum::<usize>(), 106);
    }

    #[test]
    fn without_durations_time_is_shared_equally() {
        let latent = Latent::for_tests(10, None);
        assert_eq!(edges(&latent, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        let latent = Latent::for_tests(10, Some(vec![1, 2, 3, 4, 0]));
        assert_eq!(edges(&latent, 5), [0.0, 1.0, 3.0, 6.0, 10.0, 10.0]);
    }
}
