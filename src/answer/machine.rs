//! Who answered, decided while the line is listened to.
//!
//! Signals (speech, beeps, starvation), recognised words and the passing of media time flow in; verdicts and the
//! moment to speak into a mailbox flow out. Three kinds of evidence are fused: what was said (phrases of
//! `phrases_en`), how it was said (a person greets shortly and waits; a machine speaks on), and a beep after speech.
//! A wrong "voicemail" hangs up on, or talks over, a person, so in doubt the verdict is `human`; later evidence
//! revises it. The caller passes media time, never wall time; while no packets arrive nothing is decided.
//!
//! Not decided here yet: fax, and operator messages from their information tones (phrases only).

use std::collections::VecDeque;

use super::phrases_en::{HELLOS, PHRASES};
use super::{Class, Verdict};
use crate::signal::{Signal, SignalKind};
use crate::time::MediaTime;

/// What the machine says.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A verdict, or a revised one.
    Verdict(Verdict),
    /// The mailbox listens: time to leave the message. Said once, after a voicemail verdict.
    ReadyToRecord {
        /// The beep's end, or where the silence after the greeting became long enough.
        at: MediaTime,
        /// Whether a beep was heard.
        after_beep: bool,
    },
}

/// A greeting up to this long that is followed by silence is a person's [ms].
const SHORT_GREETING_MS: u64 = 2200;
const SHORT_SILENCE_MS: u64 = 600;
/// A business's greeting by a person: longer, and so is the wait for the silence [ms].
const LONG_GREETING_MS: u64 = 6000;
const LONG_SILENCE_MS: u64 = 1300;
/// Speech without a longer pause than `LONG_SILENCE_MS` for this long leans towards a machine [ms].
const LEANING_MS: u64 = 7000;
/// And for this long it is an announcement or a menu, not a mailbox's greeting [ms].
const ANNOUNCEMENT_MS: u64 = 25_000;
/// A machine's greeting without a beep has ended after this much silence [ms].
const NO_BEEP_SILENCE_MS: u64 = 2800;
/// Silence after a known hello [ms].
const HELLO_SILENCE_MS: u64 = 300;
/// A phrase revises a verdict only this soon after the first speech: later it is conversation [ms].
const PHRASES_UNTIL_MS: u64 = 30_000;
/// Recognised text kept [bytes].
const MAX_TEXT: usize = 4096;

/// The state machine of one call.
#[derive(Debug)]
pub struct Machine {
    out: VecDeque<Output>,
    verdict: Verdict,
    answered: MediaTime,
    now: MediaTime,
    speaking: bool,
    /// Start of the first speech after the answer.
    greeting_start: Option<MediaTime>,
    /// End of the latest speech.
    speech_end: MediaTime,
    /// Time without packets that `speech_end` and silence must not count.
    starved_since: Option<MediaTime>,
    in_tone: bool,
    beep_end: Option<MediaTime>,
    finals: String,
    partial: String,
    ready: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A machine for one call, before the answer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            out: VecDeque::with_capacity(8),
            verdict: Verdict::default(),
            answered: MediaTime::ZERO,
            now: MediaTime::ZERO,
            speaking: false,
            greeting_start: None,
            speech_end: MediaTime::ZERO,
            starved_since: None,
            in_tone: false,
            beep_end: None,
            finals: String::new(),
            partial: String::new(),
            ready: false,
        }
    }

    /// The latest verdict; class `Unknown` before the first.
    #[must_use]
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// What is to be said, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// The call was answered at `at`: what was heard before was early media and is forgotten.
    pub fn handle_answered(&mut self, at: MediaTime) {
        let speaking = self.speaking;
        *self = Self { out: std::mem::take(&mut self.out), answered: at, now: at, speaking, ..Self::new() };
        if speaking {
            self.greeting_start = Some(at);
        }
    }

    /// Takes a signal of the far end.
    pub fn handle_signal(&mut self, signal: &Signal) {
        self.now = self.now.max(signal.decided);
        if signal.at < self.answered && !matches!(signal.kind, SignalKind::Starved | SignalKind::Flowing) {
            // Speech that began before the answer goes on after it; its end counts.
            if signal.kind != SignalKind::SpeechStart || signal.decided < self.answered {
                return;
            }
        }
        match signal.kind {
            SignalKind::SpeechStart => {
                self.speaking = true;
                self.greeting_start.get_or_insert(signal.at.max(self.answered));
            }
            SignalKind::SpeechEnd => {
                self.speaking = false;
                self.speech_end = signal.at;
            }
            SignalKind::BeepStart { .. } => self.in_tone = true,
            SignalKind::BeepEnd { freq_hz, start } => {
                self.in_tone = false;
                self.beep(freq_hz, start, signal.at);
            }
            SignalKind::Starved => self.starved_since = Some(signal.at),
            SignalKind::Flowing => {
                if let Some(since) = self.starved_since.take() {
                    self.speech_end = self.speech_end.plus(signal.at.since(since));
                }
            }
            _ => {}
        }
        self.decide();
    }

    /// Takes recognised text of the far end between `start` and `end`; a partial one replaces the partial before.
    pub fn handle_words(&mut self, text: &str, is_final: bool, start: MediaTime, end: MediaTime) {
        if end < self.answered {
            return;
        }
        self.greeting_start.get_or_insert(start.max(self.answered));
        normalize(text, &mut self.partial);
        if is_final {
            if self.finals.len() + self.partial.len() <= MAX_TEXT {
                self.finals.push_str(&self.partial);
            }
        }
        let said = if is_final { self.finals.clone() } else { format!("{}{}", self.finals, self.partial) };
        if is_final {
            self.partial.clear();
        }
        let until = self.greeting_start.unwrap_or(self.answered).plus(8 * PHRASES_UNTIL_MS);
        if start <= until {
            self.phrases(&said);
        }
        self.decide();
    }

    /// Media time has come to `now`. Allocates only when there is something to say.
    pub fn tick(&mut self, now: MediaTime) {
        self.now = self.now.max(now);
        self.decide();
    }

    fn beep(&mut self, freq_hz: f32, start: MediaTime, end: MediaTime) {
        let spoken = self.greeting_start.is_some_and(|s| s < start);
        self.beep_end = Some(end);
        // A mailbox speaks before it beeps; a beep alone is only a leaning.
        if self.verdict.class != Class::Voicemail || !self.verdict.act {
            let confidence = if spoken { 0.95 } else { 0.5 };
            if spoken || self.verdict.class == Class::Unknown {
                self.say(Class::Voicemail, confidence, spoken, vec![format!("beep {freq_hz:.0} Hz")]);
            }
        }
    }

    /// The class that phrases speak for, if they reach its weight.
    fn phrases(&mut self, said: &str) {
        const CLASSES: [Class; 5] =
            [Class::Screener, Class::OperatorMessage, Class::Voicemail, Class::Ivr, Class::Human];
        let mut best: Option<(Class, f32)> = None;
        for class in CLASSES {
            let weight: f32 = found(said, class).map(|p| p.weight).sum();
            if weight >= 1.0 && best.is_none_or(|(_, b)| weight > b) {
                best = Some((class, weight));
            }
        }
        let Some((class, weight)) = best else { return };
        let current = &self.verdict;
        let weaker = match current.class {
            // A mailbox often has a menu ("press one for more options"), and a beep outweighs words.
            Class::Voicemail => class != Class::Ivr && class != Class::Human && self.beep_end.is_none(),
            Class::Screener | Class::OperatorMessage => false,
            Class::Ivr => class != Class::Human,
            _ => true,
        };
        if (current.class != class && (weaker || !current.act)) || (current.class == class && !current.act) {
            let evidence = found(said, class).map(|p| format!("phrase: {}", p.words)).collect();
            self.say(class, (0.8 + 0.08 * weight).min(0.98), true, evidence);
        }
    }

    /// What timing alone says; called with every input.
    fn decide(&mut self) {
        if self.starved_since.is_some() {
            return;
        }
        self.ready_to_record();
        let Some(start) = self.greeting_start else { return };
        if self.verdict.act || self.in_tone {
            return;
        }
        let spoken_ms =
            if self.speaking { self.now.ms_since(start) } else { self.speech_end.ms_since(start) };
        if self.speaking {
            if spoken_ms >= ANNOUNCEMENT_MS {
                self.say(Class::Ivr, 0.6, true, vec!["cadence: announcement".into()]);
            } else if spoken_ms >= LEANING_MS && self.verdict.class == Class::Unknown {
                self.say(Class::Voicemail, 0.5, false, vec!["cadence: long greeting".into()]);
            }
            return;
        }
        let silence_ms = self.now.ms_since(self.speech_end);
        let hello = HELLOS.contains(&self.finals.trim());
        if hello && silence_ms >= HELLO_SILENCE_MS {
            let evidence = vec![format!("phrase: {}", self.finals.trim()), "cadence: short greeting".into()];
            self.say(Class::Human, 0.9, true, evidence);
        } else if spoken_ms <= SHORT_GREETING_MS && silence_ms >= SHORT_SILENCE_MS {
            self.say(Class::Human, 0.75, true, vec!["cadence: short greeting, then silence".into()]);
        } else if spoken_ms <= LONG_GREETING_MS && silence_ms >= LONG_SILENCE_MS {
            self.say(Class::Human, 0.55, true, vec!["cadence: greeting, then silence".into()]);
        } else if spoken_ms > LONG_GREETING_MS && silence_ms >= NO_BEEP_SILENCE_MS {
            let (class, what) = if spoken_ms >= ANNOUNCEMENT_MS {
                (Class::Ivr, "cadence: announcement, then silence")
            } else {
                (Class::Voicemail, "cadence: long greeting, then silence")
            };
            self.say(class, 0.6, true, vec![what.into()]);
        }
    }

    fn ready_to_record(&mut self) {
        if self.ready || self.verdict.class != Class::Voicemail || !self.verdict.act {
            return;
        }
        let silent =
            !self.speaking && !self.in_tone && self.now.ms_since(self.speech_end) >= NO_BEEP_SILENCE_MS;
        let at = match self.beep_end {
            Some(beep) => Some((beep, true)),
            None if silent => Some((self.now, false)),
            None => None,
        };
        if let Some((at, after_beep)) = at {
            self.ready = true;
            self.out.push_back(Output::ReadyToRecord { at, after_beep });
        }
    }

    fn say(&mut self, class: Class, confidence: f32, act: bool, evidence: Vec<String>) {
        self.verdict = Verdict { class, confidence, decided: self.now, evidence, act };
        self.out.push_back(Output::Verdict(self.verdict.clone()));
        self.ready_to_record();
    }
}

fn found<'a>(said: &'a str, class: Class) -> impl Iterator<Item = &'static super::phrases_en::Phrase> + 'a {
    PHRASES.iter().filter(move |p| p.class == class && has(said, p.words))
}

/// Whether `words` occur in normalised text as whole words.
fn has(said: &str, words: &str) -> bool {
    said.match_indices(words).any(|(at, _)| {
        let before = at == 0 || said.as_bytes()[at - 1] == b' ';
        let after = said.as_bytes().get(at + words.len()).is_none_or(|b| *b == b' ');
        before && after
    })
}

/// Lower-case words separated and followed by one space; apostrophes dropped, single digits spelled.
fn normalize(text: &str, out: &mut String) {
    const DIGITS: [&str; 10] =
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    out.clear();
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’');
    for word in words.filter(|w| !w.is_empty()) {
        if out.len() + word.len() > MAX_TEXT {
            return;
        }
        match word.as_bytes() {
            [digit @ b'0'..=b'9'] => out.push_str(DIGITS[usize::from(digit - b'0')]),
            _ => out.extend(word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)),
        }
        out.push(' ');
    }
}
