//! Who answered, decided while the line is listened to.
//!
//! Signals (speech, beeps, starvation), recognised words and the passing of media time flow in; verdicts and the
//! moment to speak into a mailbox flow out. Three kinds of evidence are fused: what was said (phrases of
//! `phrases_en`), how it was said (a person greets shortly and waits; a machine speaks on), and a beep after speech.
//! A wrong "voicemail" hangs up on, or talks over, a person, so in doubt the verdict is `human`; later evidence
//! revises it. What is heard before [`Machine::handle_answered`] is judged too (a recording has no answer), and
//! forgotten with it. The caller passes media time, never wall time; while no packets arrive nothing is decided.
//!
//! Not decided here yet: fax, and operator messages from their information tones (phrases only).

use std::collections::VecDeque;

use super::phrases_en::{HELLOS, PHRASES};
use super::{Class, Verdict};
use crate::signal::{Signal, SignalKind};
use crate::time::MediaTime;

/// What the machine says.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerOutput {
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

/// A greeting up to this long that is followed by silence is a person's (ms).
const SHORT_GREETING_MS: u64 = 2200;
const SHORT_SILENCE_MS: u64 = 600;
/// A business's greeting by a person: longer, and so is the wait for the silence (ms).
const LONG_GREETING_MS: u64 = 6000;
const LONG_SILENCE_MS: u64 = 1700;
/// Speech without a longer pause than `LONG_SILENCE_MS` for this long leans towards a machine (ms).
const LEANING_MS: u64 = 7000;
/// And for this long it is an announcement or a menu, not a mailbox's greeting (ms).
const ANNOUNCEMENT_MS: u64 = 17_000;
/// A machine's greeting without a beep has ended after this much silence (ms).
const NO_BEEP_SILENCE_MS: u64 = 2800;
/// A tone that began this long ago and has not ended as a beep is none (ms).
const LONGEST_TONE_MS: u64 = 2300;
/// Silence after a known hello (ms).
const HELLO_SILENCE_MS: u64 = 300;
/// A phrase revises a verdict only this soon after the first speech: later it is conversation (ms).
const PHRASES_UNTIL_MS: u64 = 30_000;
/// Recognised text kept (bytes).
const MAX_TEXT: usize = 4096;

/// The state machine of one call.
#[derive(Debug)]
pub struct Machine {
    out: VecDeque<AnswerOutput>,
    verdict: Verdict,
    answered: MediaTime,
    now: MediaTime,
    speaking: bool,
    /// Start of the first speech after the answer.
    greeting_start: Option<MediaTime>,
    /// End of the latest speech.
    speech_end: MediaTime,
    /// From where silence counts: `speech_end`, later by the time in which no packets came.
    silence_start: MediaTime,
    starved_since: Option<MediaTime>,
    /// Where a tone that may become a beep began.
    tone_start: Option<MediaTime>,
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
            silence_start: MediaTime::ZERO,
            starved_since: None,
            tone_start: None,
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
    pub fn poll_output(&mut self) -> Option<AnswerOutput> {
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
                self.greeting_start.get_or_insert_with(|| signal.at.max(self.answered));
            }
            SignalKind::SpeechEnd => {
                self.speaking = false;
                self.speech_end = signal.at;
                self.silence_start = signal.at;
            }
            SignalKind::BeepStart { .. } => self.tone_start = Some(signal.at),
            SignalKind::BeepEnd { freq_hz, start } => {
                self.tone_start = None;
                self.beep(freq_hz, start, signal.at);
            }
            SignalKind::Starved => self.starved_since = Some(signal.at),
            SignalKind::Flowing => {
                if let Some(since) = self.starved_since.take() {
                    self.silence_start = self.silence_start.plus(signal.at.since(since));
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
        self.greeting_start.get_or_insert_with(|| start.max(self.answered));
        normalize(text, &mut self.partial);
        let said = format!("{}{}", self.finals, self.partial);
        if is_final {
            if said.len() <= MAX_TEXT {
                self.finals.push_str(&self.partial);
            }
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
        if self.verdict.act || self.in_tone() {
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
        let silence_ms = self.now.ms_since(self.silence_start);
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

    /// Whether a tone sounds that may be the beep. One that never ends as a beep is let go.
    fn in_tone(&self) -> bool {
        self.tone_start.is_some_and(|start| self.now.ms_since(start) < LONGEST_TONE_MS)
    }

    fn ready_to_record(&mut self) {
        if self.ready || self.verdict.class != Class::Voicemail || !self.verdict.act {
            return;
        }
        let silent =
            !self.speaking && !self.in_tone() && self.now.ms_since(self.silence_start) >= NO_BEEP_SILENCE_MS;
        let at = match self.beep_end {
            Some(beep) => Some((beep, true)),
            None if silent => Some((self.now, false)),
            None => None,
        };
        if let Some((at, after_beep)) = at {
            self.ready = true;
            self.out.push_back(AnswerOutput::ReadyToRecord { at, after_beep });
        }
    }

    fn say(&mut self, class: Class, confidence: f32, act: bool, evidence: Vec<String>) {
        self.verdict = Verdict { class, confidence, decided: self.now, evidence, act };
        self.out.push_back(AnswerOutput::Verdict(self.verdict.clone()));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> MediaTime {
        MediaTime::from_ms(ms)
    }

    fn signal(m: &mut Machine, kind: SignalKind, at: u64, decided: u64) {
        m.handle_signal(&Signal { at: ms(at), decided: ms(decided), kind });
    }

    fn speak(m: &mut Machine, from: u64, to: u64) {
        signal(m, SignalKind::SpeechStart, from, from + 80);
        run(m, from + 80, to + 220);
        signal(m, SignalKind::SpeechEnd, to, to + 220);
    }

    fn run(m: &mut Machine, from: u64, to: u64) {
        for t in (from..=to).step_by(20) {
            m.tick(ms(t));
        }
    }

    fn beep(m: &mut Machine, from: u64, to: u64) {
        signal(m, SignalKind::BeepStart { freq_hz: 1000.0 }, from, from + 150);
        run(m, from + 150, to + 100);
        signal(m, SignalKind::BeepEnd { freq_hz: 1000.0, start: ms(from) }, to, to + 100);
    }

    fn outputs(m: &mut Machine) -> Vec<String> {
        std::iter::from_fn(|| m.poll_output())
            .map(|o| match o {
                AnswerOutput::Verdict(v) => format!("{} {} @{}", v.class.as_str(), v.act, v.decided.as_ms()),
                AnswerOutput::ReadyToRecord { at, after_beep } => {
                    format!("ready {after_beep} @{}", at.as_ms())
                }
            })
            .collect()
    }

    #[test]
    fn a_short_greeting_and_silence_is_a_person() {
        let mut m = Machine::new();
        speak(&mut m, 500, 1000);
        run(&mut m, 1220, 5000);
        assert_eq!(outputs(&mut m), ["human true @1600"]);
    }

    #[test]
    fn a_recognised_hello_is_a_person_sooner() {
        let mut m = Machine::new();
        speak(&mut m, 500, 1000);
        m.handle_words("Hello?", true, ms(500), ms(1000));
        run(&mut m, 1220, 5000);
        assert_eq!(outputs(&mut m), ["human true @1300"]);
        assert_eq!(m.verdict().evidence[0], "phrase: hello");
    }

    #[test]
    fn a_mailbox_phrase_decides_and_the_beep_says_when_to_speak() {
        let mut m = Machine::new();
        signal(&mut m, SignalKind::SpeechStart, 500, 580);
        run(&mut m, 580, 3000);
        m.handle_words("Please leave a message after the tone.", false, ms(500), ms(3000));
        run(&mut m, 3000, 3720);
        signal(&mut m, SignalKind::SpeechEnd, 3500, 3720);
        run(&mut m, 3720, 4400);
        beep(&mut m, 4400, 4900);
        run(&mut m, 5000, 9000);
        assert_eq!(outputs(&mut m), ["voicemail true @3000", "ready true @4900"]);
        assert!(m.verdict().evidence.contains(&"phrase: leave a message".to_owned()));
    }

    #[test]
    fn a_beep_revises_a_person_into_a_mailbox() {
        let mut m = Machine::new();
        speak(&mut m, 500, 1900);
        run(&mut m, 2120, 3000);
        beep(&mut m, 3000, 3400);
        assert_eq!(outputs(&mut m), ["human true @2500", "voicemail true @3500", "ready true @3400"]);
    }

    #[test]
    fn a_beep_that_nobody_announced_is_only_a_leaning() {
        let mut m = Machine::new();
        beep(&mut m, 300, 700);
        assert_eq!(outputs(&mut m), ["voicemail false @800"]);
        speak(&mut m, 1000, 1500);
        run(&mut m, 1720, 4000);
        assert_eq!(outputs(&mut m), ["human true @2100"]);
    }

    #[test]
    fn without_a_beep_silence_opens_the_mailbox() {
        let mut m = Machine::new();
        speak(&mut m, 500, 5000);
        m.handle_words("You've reached Ann, I can't come to the phone", true, ms(500), ms(5000));
        run(&mut m, 5220, 9000);
        assert_eq!(outputs(&mut m), ["voicemail true @5220", "ready false @7800"]);
    }

    #[test]
    fn menus_screeners_and_intercepts_are_told_apart_by_their_words() {
        for (text, class) in [
            ("Thank you for calling. For sales, press 1.", "ivr"),
            ("Please listen carefully as our menu options have changed", "ivr"),
            ("Record your name and reason for calling and I'll see if this person is available", "screener"),
            ("The number you have dialed is not in service", "operator_message"),
            ("You have reached the voice mailbox of", "voicemail"),
            ("Smith Dental, this is Amy, how can I help you?", "human"),
        ] {
            let mut m = Machine::new();
            signal(&mut m, SignalKind::SpeechStart, 500, 580);
            m.handle_words(text, false, ms(500), ms(3000));
            assert_eq!((m.verdict().class.as_str(), m.verdict().act), (class, true), "{text}");
        }
    }

    #[test]
    fn phrases_match_whole_words_only() {
        let mut m = Machine::new();
        signal(&mut m, SignalKind::SpeechStart, 500, 580);
        m.handle_words("I was impressed, press on", true, ms(500), ms(1500));
        assert_eq!(m.verdict().class, Class::Unknown);
        let mut text = String::new();
        normalize("Can\u{2019}t  PRESS 1, 12!", &mut text);
        assert_eq!(text, "cant press one 12 ");
    }

    #[test]
    fn late_phrases_are_conversation() {
        let mut m = Machine::new();
        speak(&mut m, 500, 1000);
        run(&mut m, 1220, 40_000);
        m.handle_words("just leave a message with my wife", true, ms(40_000), ms(42_000));
        assert_eq!(m.verdict().class, Class::Human);
    }

    #[test]
    fn a_long_greeting_leans_to_a_mailbox_and_silence_after_it_decides() {
        let mut m = Machine::new();
        speak(&mut m, 500, 9500);
        run(&mut m, 9720, 15_000);
        let want = ["voicemail false @7500", "voicemail true @12300", "ready false @12300"];
        assert_eq!(outputs(&mut m), want);
    }

    #[test]
    fn missing_packets_are_not_silence() {
        let mut m = Machine::new();
        speak(&mut m, 500, 1000);
        signal(&mut m, SignalKind::Starved, 1240, 1240);
        run(&mut m, 1260, 6000);
        assert_eq!(outputs(&mut m), Vec::<String>::new());
        signal(&mut m, SignalKind::Flowing, 6000, 6000);
        run(&mut m, 6000, 7000);
        assert_eq!(outputs(&mut m), ["human true @6360"]);
    }

    #[test]
    fn early_media_before_the_answer_does_not_count() {
        let mut m = Machine::new();
        speak(&mut m, 100, 900);
        m.handle_answered(ms(1200));
        run(&mut m, 1200, 6000);
        assert_eq!(outputs(&mut m), Vec::<String>::new());
        speak(&mut m, 6000, 6500);
        run(&mut m, 6720, 8000);
        assert_eq!(outputs(&mut m), ["human true @7100"]);
    }
}
