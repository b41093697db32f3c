//! The turn machine: who has the floor.
//!
//! In: voice signals with their sample positions, recognised words, pauses of our own playout. Out: what the
//! recogniser is asked for, whether a paused voice resumes or is cut, and the callee's finished turns.
//! The caller passes `now` (wall clock, for waits) and `line` (now on the leg's timeline, for what is measured).
//!
//! Endpointing: at every end of speech the final words are asked for at once, while the silence still runs; the turn
//! is over when the silence lasted and the words are there. Speech in that time takes the question back.
//! Barge-in: the leg has paused our voice in its own tick; here it is decided what for. No pause outlasts
//! [`TurnConfig::pause_limit`].

use std::collections::VecDeque;
use std::time::Duration;

use super::phrases::{is_backchannel, looks_complete, looks_unfinished};
use super::words::Word;
use crate::signal::{Signal, SignalKind};
use crate::time::{Instant, MediaTime};

/// Waits and limits of turn-taking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnConfig {
    /// Silence that ends a turn.
    pub silence: Duration,
    /// Silence that ends a turn whose words look complete.
    pub silence_complete: Duration,
    /// Silence that ends a turn whose words look unfinished.
    pub silence_unfinished: Duration,
    /// Speech over our voice that lasts so long cuts it, whatever the words.
    pub cut_after: Duration,
    /// How long after the last voiced sample the detector may report the end of speech.
    pub detector_hangover: Duration,
    /// The longest our voice stays paused undecided.
    pub pause_limit: Duration,
    /// How long final words are waited for once the silence is over.
    pub recognition_limit: Duration,
    /// The longest single utterance given to the recogniser; longer speech is recognised in pieces.
    pub utterance_limit: Duration,
    /// How long missing packets hold back the end of a turn.
    pub starvation_limit: Duration,
}

impl Default for TurnConfig {
    fn default() -> Self {
        Self {
            silence: Duration::from_millis(600),
            silence_complete: Duration::from_millis(420),
            silence_unfinished: Duration::from_millis(1100),
            cut_after: Duration::from_millis(380),
            detector_hangover: Duration::from_millis(260),
            pause_limit: Duration::from_millis(1000),
            recognition_limit: Duration::from_secs(4),
            utterance_limit: Duration::from_secs(25),
            starvation_limit: Duration::from_secs(3),
        }
    }
}

/// A finished turn of the callee.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Utterance {
    /// What was said; empty if it was no speech.
    pub text: String,
    /// With times, where the recogniser knows them.
    pub words: Vec<Word>,
    /// First voiced sample.
    pub start: MediaTime,
    /// Last voiced sample.
    pub end: MediaTime,
    /// Where the silence had lasted long enough.
    pub decided: MediaTime,
    /// Where the final words arrived.
    pub recognised: MediaTime,
    /// Whether the recogniser owed us the final words and never gave them; `text` is then its last partial.
    pub stalled: bool,
}

impl Utterance {
    /// Whether it holds nothing but a listener's noises.
    #[must_use]
    pub fn is_backchannel(&self) -> bool {
        is_backchannel(&self.text)
    }
}

/// What the turn machine decides.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The recogniser shall listen from here.
    ListenFrom {
        /// The utterance.
        utterance: u32,
        /// First voiced sample.
        at: MediaTime,
    },
    /// The recogniser shall give final words up to here.
    ListenUntil {
        /// The utterance.
        utterance: u32,
        /// Last voiced sample.
        at: MediaTime,
    },
    /// The utterance goes on: the final words are not wanted yet.
    ListenCancel {
        /// The utterance.
        utterance: u32,
    },
    /// Words so far of a turn that is not over.
    Partial {
        /// All words of the turn so far.
        text: String,
        /// First voiced sample of the turn.
        start: MediaTime,
    },
    /// The paused utterance, and all that would follow it, is over.
    Cut {
        /// The utterance that was playing.
        utterance: u32,
    },
    /// The paused utterance goes on.
    Resume {
        /// The utterance.
        utterance: u32,
    },
    /// A pause of our voice was decided about.
    BargeIn {
        /// First voiced sample of the callee.
        at: MediaTime,
        /// First silent sample of ours.
        silent: MediaTime,
        /// Whether our voice goes on.
        resumed: bool,
    },
    /// The callee's turn is over.
    Turn(Utterance),
}

/// The callee's turn in progress.
#[derive(Debug)]
struct Speech {
    utterance: u32,
    start: MediaTime,
    end: MediaTime,
    voiced: bool,
    /// Words of earlier pieces of the turn.
    text: String,
    words: Vec<Word>,
    partial: String,
    /// Final words of the current piece, and where they arrived.
    finals: Option<(String, Vec<Word>)>,
    recognised: MediaTime,
    /// Whether final words were asked for and have not come.
    asked: bool,
    piece_due: Instant,
    silence_due: Option<Instant>,
    decided: Option<MediaTime>,
    give_up: Option<Instant>,
}

impl Speech {
    fn text_so_far(&self) -> String {
        let piece = self.finals.as_ref().map_or(self.partial.as_str(), |(text, _)| text.as_str());
        join(&self.text, piece)
    }
}

/// Our voice, stopped by the leg and waiting for a decision.
#[derive(Debug)]
struct Pause {
    utterance: u32,
    speech: MediaTime,
    silent: MediaTime,
    /// When speech that still lasts is long enough to cut.
    long: Instant,
    limit: Instant,
}

/// The turn machine of one call. See the module's head.
#[derive(Debug)]
pub struct Machine {
    config: TurnConfig,
    next_utterance: u32,
    speech: Option<Speech>,
    pause: Option<Pause>,
    starved: bool,
    /// The rest of the silence window that starvation holds back, and when it is let go regardless.
    frozen: Option<(Duration, Instant)>,
    out: VecDeque<Output>,
}

impl Machine {
    /// A machine before anyone spoke.
    #[must_use]
    pub const fn new(config: TurnConfig) -> Self {
        Self {
            config,
            next_utterance: 1,
            speech: None,
            pause: None,
            starved: false,
            frozen: None,
            out: VecDeque::new(),
        }
    }

    /// Takes a detector's finding; kinds that do not concern the floor are ignored.
    pub fn handle_signal(&mut self, now: Instant, line: MediaTime, signal: &Signal) {
        match signal.kind {
            SignalKind::SpeechStart => self.speech_started(now, line, signal.at),
            SignalKind::SpeechEnd => self.speech_ended(now, line, signal.at),
            SignalKind::Starved => self.starve(now),
            SignalKind::Flowing => self.flow(now),
            _ => {}
        }
        self.judge_pause(now);
    }

    /// Takes words so far.
    pub fn handle_partial(&mut self, now: Instant, utterance: u32, text: &str) {
        let Some(speech) = self.speech.as_mut().filter(|s| s.utterance == utterance) else { return };
        if speech.finals.is_some() {
            return;
        }
        text.trim().clone_into(&mut speech.partial);
        let (text, start) = (speech.text_so_far(), speech.start);
        if !text.is_empty() {
            self.out.push_back(Output::Partial { text, start });
        }
        self.judge_pause(now);
    }

    /// Takes final words. Ones that were not asked for, or were taken back, are ignored.
    pub fn handle_final(
        &mut self,
        now: Instant,
        line: MediaTime,
        utterance: u32,
        text: &str,
        words: Vec<Word>,
    ) {
        let Some(speech) = self.speech.as_mut().filter(|s| s.utterance == utterance && s.asked) else {
            return;
        };
        speech.asked = false;
        speech.recognised = line;
        speech.finals = Some((text.trim().to_owned(), words));
        if speech.voiced {
            // The piece was asked for because speech lasted too long for one utterance.
            let at = speech.end;
            self.next_piece(now, at);
        } else if speech.decided.is_some() {
            self.finish(false);
        } else {
            let window = window_for(&self.config, &speech.text_so_far());
            let due = now + window.saturating_sub(span(line, speech.end));
            match &mut self.frozen {
                Some((rest, _)) => *rest = due.since(now),
                None => speech.silence_due = Some(due),
            }
        }
        self.judge_pause(now);
        self.handle_timeout(now, line);
    }

    /// The leg paused `utterance` because of speech from `speech` on; `silent` is our first silent sample.
    pub fn handle_paused(
        &mut self,
        now: Instant,
        line: MediaTime,
        utterance: u32,
        speech: MediaTime,
        silent: MediaTime,
    ) {
        let wait = self.config.cut_after + self.config.detector_hangover;
        let long = now + wait.saturating_sub(span(line, speech));
        self.pause = Some(Pause { utterance, speech, silent, long, limit: now + self.config.pause_limit });
        self.judge_pause(now);
    }

    /// The paused utterance ended for another reason; nothing is left to decide.
    pub fn handle_playout_over(&mut self) {
        self.pause = None;
    }

    /// The call ends: whatever the callee was saying is asked for now and waited for briefly.
    pub fn handle_call_over(&mut self, now: Instant, line: MediaTime) {
        self.pause = None;
        self.frozen = None;
        let Some(speech) = &mut self.speech else { return };
        if speech.voiced {
            speech.voiced = false;
            speech.end = line.max(speech.start);
            speech.asked = true;
            self.out.push_back(Output::ListenUntil { utterance: speech.utterance, at: speech.end });
        }
        speech.silence_due = None;
        speech.decided = speech.decided.or(Some(line));
        if speech.finals.is_some() {
            self.finish(false);
        } else {
            speech.give_up = Some(now + self.config.pause_limit);
        }
    }

    /// Acts on every wait that is over at `now`.
    pub fn handle_timeout(&mut self, now: Instant, line: MediaTime) {
        if let Some((rest, limit)) = self.frozen
            && limit <= now
        {
            self.frozen = None;
            if let Some(speech) = &mut self.speech
                && !speech.voiced
            {
                speech.silence_due = Some(now + rest);
            }
        }
        if let Some(speech) = &mut self.speech {
            if speech.voiced && !speech.asked && speech.piece_due <= now {
                speech.asked = true;
                speech.end = line;
                speech.piece_due = now + self.config.recognition_limit;
                self.out.push_back(Output::ListenUntil { utterance: speech.utterance, at: line });
            } else if speech.voiced && speech.asked && speech.piece_due <= now {
                // The recogniser owes a piece of endless speech: go on with the next one.
                speech.finals = Some((std::mem::take(&mut speech.partial), Vec::new()));
                speech.asked = false;
                self.next_piece(now, line);
            } else if speech.silence_due.is_some_and(|due| due <= now) {
                speech.silence_due = None;
                speech.decided = Some(line);
                if speech.finals.is_some() {
                    self.finish(false);
                } else {
                    speech.give_up = Some(now + self.config.recognition_limit);
                }
            } else if speech.give_up.is_some_and(|due| due <= now) {
                speech.recognised = line;
                self.out.push_back(Output::ListenCancel { utterance: speech.utterance });
                self.finish(true);
            }
        }
        self.judge_pause(now);
    }

    /// The next decision, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Self::handle_timeout`] is wanted next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let speech = self.speech.iter().flat_map(|s| {
            let piece = s.voiced.then_some(s.piece_due);
            [s.silence_due, s.give_up, piece]
        });
        let pause = self.pause.iter().flat_map(|p| {
            let long = self.speech.as_ref().is_some_and(|s| s.voiced) && !self.only_backchannel();
            [Some(p.limit), long.then_some(p.long)]
        });
        speech.chain(pause).flatten().chain(self.frozen.map(|(_, limit)| limit)).min()
    }

    /// Whether the callee is speaking right now, as far as packets tell.
    #[must_use]
    pub fn callee_speaks(&self) -> bool {
        !self.starved && self.speech.as_ref().is_some_and(|s| s.voiced)
    }

    /// Whether a turn of the callee is in progress or waits for its end.
    #[must_use]
    pub const fn in_turn(&self) -> bool {
        self.speech.is_some()
    }

    /// Whether no packets arrive.
    #[must_use]
    pub const fn is_starved(&self) -> bool {
        self.starved
    }

    /// Whether our voice is paused and undecided.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    fn speech_started(&mut self, now: Instant, line: MediaTime, at: MediaTime) {
        self.frozen = None;
        let Some(speech) = &mut self.speech else {
            let utterance = self.next_utterance;
            self.next_utterance += 1;
            self.out.push_back(Output::ListenFrom { utterance, at });
            self.speech = Some(Speech {
                utterance,
                start: at,
                end: at,
                voiced: true,
                text: String::new(),
                words: Vec::new(),
                partial: String::new(),
                finals: None,
                recognised: line,
                asked: false,
                piece_due: now + self.config.utterance_limit,
                silence_due: None,
                decided: None,
                give_up: None,
            });
            return;
        };
        speech.voiced = true;
        speech.silence_due = None;
        speech.decided = None;
        speech.give_up = None;
        if std::mem::take(&mut speech.asked) {
            self.out.push_back(Output::ListenCancel { utterance: speech.utterance });
        }
        if speech.finals.is_some() {
            self.next_piece(now, at);
        }
    }

    fn speech_ended(&mut self, now: Instant, line: MediaTime, at: MediaTime) {
        let Some(speech) = self.speech.as_mut().filter(|s| s.voiced) else { return };
        if std::mem::take(&mut speech.asked) {
            self.out.push_back(Output::ListenCancel { utterance: speech.utterance });
        }
        speech.voiced = false;
        speech.end = at.max(speech.start);
        speech.asked = true;
        let due = now + self.config.silence.saturating_sub(span(line, at));
        speech.silence_due = Some(due);
        self.out.push_back(Output::ListenUntil { utterance: speech.utterance, at: speech.end });
        if self.starved {
            self.freeze(now);
        }
    }

    fn starve(&mut self, now: Instant) {
        self.starved = true;
        self.freeze(now);
    }

    fn freeze(&mut self, now: Instant) {
        if let Some(due) = self.speech.as_mut().and_then(|s| s.silence_due.take()) {
            self.frozen = Some((due.since(now), now + self.config.starvation_limit));
        }
    }

    fn flow(&mut self, now: Instant) {
        self.starved = false;
        if let (Some((rest, _)), Some(speech)) = (self.frozen.take(), &mut self.speech)
            && !speech.voiced
        {
            speech.silence_due = Some(now + rest);
        }
    }

    /// Keeps the final words of the current piece and listens on from `at` under a new number.
    fn next_piece(&mut self, now: Instant, at: MediaTime) {
        let utterance = self.next_utterance;
        let Some(speech) = &mut self.speech else { return };
        self.next_utterance += 1;
        if let Some((text, words)) = speech.finals.take() {
            speech.text = join(&speech.text, &text);
            speech.words.extend(words);
        }
        speech.partial.clear();
        speech.utterance = utterance;
        speech.piece_due = now + self.config.utterance_limit;
        self.out.push_back(Output::ListenFrom { utterance, at });
    }

    fn finish(&mut self, stalled: bool) {
        let Some(mut speech) = self.speech.take() else { return };
        self.frozen = None;
        let text = speech.text_so_far();
        if let Some((_, words)) = speech.finals.take() {
            speech.words.extend(words);
        }
        if self.pause.is_some() {
            self.decide_pause(!text.is_empty() && !is_backchannel(&text));
        }
        self.out.push_back(Output::Turn(Utterance {
            text,
            words: speech.words,
            start: speech.start,
            end: speech.end,
            decided: speech.decided.unwrap_or(speech.end),
            recognised: speech.recognised,
            stalled,
        }));
    }

    fn only_backchannel(&self) -> bool {
        self.speech.as_ref().is_some_and(|s| is_backchannel(&s.text_so_far()))
    }

    /// Resumes or cuts a paused voice once that is clear.
    fn judge_pause(&mut self, now: Instant) {
        let Some(pause) = &self.pause else { return };
        let over = pause.limit <= now;
        let Some(speech) = &self.speech else {
            // The pause may be told before the speech it is for.
            if over {
                self.decide_pause(false);
            }
            return;
        };
        let text = speech.text_so_far();
        let backchannel = is_backchannel(&text);
        let cut = if !text.is_empty() && !backchannel {
            Some(true)
        } else if speech.voiced {
            ((pause.long <= now && !backchannel) || over).then_some(true)
        } else if span(speech.end, pause.speech) < self.config.cut_after {
            Some(false)
        } else if speech.finals.is_some() || (backchannel && over) {
            // Long enough, but the words are none, or a listener's.
            Some(false)
        } else {
            over.then_some(true)
        };
        if let Some(cut) = cut {
            self.decide_pause(cut);
        }
    }

    fn decide_pause(&mut self, cut: bool) {
        let Some(Pause { utterance, speech, silent, .. }) = self.pause.take() else { return };
        self.out.push_back(if cut { Output::Cut { utterance } } else { Output::Resume { utterance } });
        self.out.push_back(Output::BargeIn { at: speech, silent, resumed: !cut });
    }
}

fn window_for(config: &TurnConfig, text: &str) -> Duration {
    if looks_unfinished(text) {
        config.silence_unfinished
    } else if looks_complete(text) {
        config.silence_complete
    } else {
        config.silence
    }
}

fn span(to: MediaTime, from: MediaTime) -> Duration {
    MediaTime::from_samples(to.since(from)).as_duration()
}

fn join(a: &str, b: &str) -> String {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b.to_owned(),
        (_, true) => a.to_owned(),
        _ => format!("{a} {b}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose wall clock and media clock both count milliseconds from zero.
    struct Bench(Machine);

    impl Bench {
        fn new() -> Self {
            Self(Machine::new(TurnConfig::default()))
        }

        fn signal(&mut self, ms: u64, at: u64, kind: SignalKind) -> Vec<Output> {
            let signal = Signal { at: MediaTime::from_ms(at), decided: MediaTime::from_ms(ms), kind };
            self.0.handle_signal(Instant::from_millis(ms), MediaTime::from_ms(ms), &signal);
            self.drain()
        }

        fn start(&mut self, ms: u64) -> Vec<Output> {
            self.signal(ms, ms, SignalKind::SpeechStart)
        }

        /// The detector reports the end 100 ms late.
        fn end(&mut self, ms: u64) -> Vec<Output> {
            self.signal(ms + 100, ms, SignalKind::SpeechEnd)
        }

        fn words(&mut self, ms: u64, utterance: u32, text: &str) -> Vec<Output> {
            let (now, line) = (Instant::from_millis(ms), MediaTime::from_ms(ms));
            self.0.handle_final(now, line, utterance, text, Vec::new());
            self.drain()
        }

        fn partial(&mut self, ms: u64, utterance: u32, text: &str) -> Vec<Output> {
            self.0.handle_partial(Instant::from_millis(ms), utterance, text);
            self.drain()
        }

        fn pause(&mut self, ms: u64, speech: u64) -> Vec<Output> {
            let (now, line) = (Instant::from_millis(ms), MediaTime::from_ms(ms));
            self.0.handle_paused(now, line, 9, MediaTime::from_ms(speech), line);
            self.drain()
        }

        /// Lets time pass to `ms`, waking only when the machine asks to be woken.
        fn until(&mut self, ms: u64) -> Vec<(u64, Output)> {
            let mut out = Vec::new();
            while let Some(at) = self.0.poll_timeout().filter(|at| at.as_millis() <= ms) {
                self.0.handle_timeout(at, MediaTime::from_ms(at.as_millis()));
                out.extend(self.drain().into_iter().map(|o| (at.as_millis(), o)));
                assert_ne!(self.0.poll_timeout(), Some(at), "a wait that never ends");
            }
            out
        }

        fn drain(&mut self) -> Vec<Output> {
            std::iter::from_fn(|| self.0.poll_output()).collect()
        }
    }

    fn turn(out: &[(u64, Output)]) -> (u64, &Utterance) {
        match out {
            [(at, Output::Turn(turn))] => (*at, turn),
            other => panic!("not one turn: {other:?}"),
        }
    }

    const AT: fn(u64) -> MediaTime = MediaTime::from_ms;

    #[test]
    fn a_turn_ends_600_ms_after_its_last_voiced_sample_and_the_words_are_asked_for_at_once() {
        let mut b = Bench::new();
        assert_eq!(b.start(1000), [Output::ListenFrom { utterance: 1, at: AT(1000) }]);
        assert_eq!(b.end(2000), [Output::ListenUntil { utterance: 1, at: AT(2000) }]);
        assert_eq!(b.words(2250, 1, "We open at nine."), []);
        let out = b.until(9000);
        let (at, turn) = turn(&out);
        assert_eq!(at, 2600);
        assert_eq!((turn.text.as_str(), turn.start, turn.end), ("We open at nine.", AT(1000), AT(2000)));
        assert_eq!((turn.decided, turn.recognised, turn.stalled), (AT(2600), AT(2250), false));
        assert!(!b.0.in_turn());
    }

    #[test]
    fn the_words_shorten_or_lengthen_the_silence() {
        for (text, at) in
            [("May I ask who is calling?", 2420), ("Hello.", 2420), ("We have a table at", 3100)]
        {
            let mut b = Bench::new();
            b.start(1000);
            b.end(2000);
            b.words(2250, 1, text);
            assert_eq!(turn(&b.until(9000)).0, at, "{text}");
        }
    }

    #[test]
    fn words_that_come_after_the_silence_end_the_turn_when_they_come() {
        let mut b = Bench::new();
        b.start(1000);
        b.end(2000);
        assert_eq!(b.until(2900), []);
        let out: Vec<_> = b.words(2950, 1, "Yes.").into_iter().map(|o| (2950, o)).collect();
        assert_eq!((turn(&out).1.decided, turn(&out).1.recognised), (AT(2600), AT(2950)));
    }

    #[test]
    fn words_that_never_come_end_the_turn_with_the_partial() {
        let mut b = Bench::new();
        b.start(1000);
        b.partial(1500, 1, "I think");
        b.end(2000);
        let out = b.until(20_000);
        assert_eq!(out[0], (6600, Output::ListenCancel { utterance: 1 }));
        let (_, turn) = turn(&out[1..]);
        assert_eq!((turn.text.as_str(), turn.stalled), ("I think", true));
    }

    #[test]
    fn speech_in_the_silence_takes_the_question_back_and_goes_on() {
        let mut b = Bench::new();
        b.start(1000);
        b.end(2000);
        assert_eq!(b.start(2400), [Output::ListenCancel { utterance: 1 }]);
        assert_eq!(b.words(2450, 1, "late words of the first part"), [], "they were taken back");
        assert_eq!(b.end(3000), [Output::ListenUntil { utterance: 1, at: AT(3000) }]);
        b.words(3200, 1, "All of it.");
        let out = b.until(9000);
        let (at, turn) = turn(&out);
        assert_eq!((at, turn.text.as_str(), turn.start, turn.end), (3600, "All of it.", AT(1000), AT(3000)));
    }

    #[test]
    fn speech_after_the_words_came_adds_a_piece_to_the_same_turn() {
        let mut b = Bench::new();
        b.start(1000);
        b.end(2000);
        b.words(2200, 1, "First part,");
        assert_eq!(b.start(2400), [Output::ListenFrom { utterance: 2, at: AT(2400) }]);
        b.end(3000);
        b.words(3200, 2, "second part.");
        assert_eq!(turn(&b.until(9000)).1.text, "First part, second part.");
    }

    #[test]
    fn endless_speech_is_recognised_in_pieces() {
        let mut b = Bench::new();
        b.start(0);
        assert_eq!(b.until(25_000), [(25_000, Output::ListenUntil { utterance: 1, at: AT(25_000) })]);
        assert_eq!(b.words(25_500, 1, "piece one"), [Output::ListenFrom { utterance: 2, at: AT(25_000) }]);
        b.end(26_000);
        b.words(26_200, 2, "piece two");
        assert_eq!(turn(&b.until(40_000)).1.text, "piece one piece two");
    }

    #[test]
    fn missing_packets_freeze_the_silence_for_a_bounded_time() {
        let mut b = Bench::new();
        b.start(1000);
        b.end(2000);
        b.words(2200, 1, "Let me see.");
        b.signal(2300, 2300, SignalKind::Starved);
        assert_eq!(b.until(4000), []);
        b.signal(4000, 4000, SignalKind::Flowing);
        assert_eq!(turn(&b.until(9000)).0, 4300, "300 ms were left");

        let mut b = Bench::new();
        b.start(1000);
        b.end(2000);
        b.words(2200, 1, "Let me see.");
        b.signal(2300, 2300, SignalKind::Starved);
        assert_eq!(turn(&b.until(9000)).0, 5600, "3 s, and the 300 ms that were left");
    }

    #[test]
    fn a_cough_resumes_and_long_speech_cuts() {
        let mut b = Bench::new();
        b.start(1000);
        b.pause(1020, 1000);
        let out = b.end(1200);
        assert!(out.contains(&Output::Resume { utterance: 9 }), "{out:?}");
        assert!(out.contains(&Output::BargeIn { at: AT(1000), silent: AT(1020), resumed: true }));

        let mut b = Bench::new();
        b.start(1000);
        b.pause(1020, 1000);
        let out = b.until(3000);
        assert_eq!(out[0], (1640, Output::Cut { utterance: 9 }), "380 ms and the detector's 260");
        assert_eq!(out[1].1, Output::BargeIn { at: AT(1000), silent: AT(1020), resumed: false });
    }

    #[test]
    fn words_cut_at_once_and_backchannel_does_not() {
        let mut b = Bench::new();
        b.start(1000);
        b.pause(1020, 1000);
        assert!(b.partial(1300, 1, "Wait a").contains(&Output::Cut { utterance: 9 }));

        let mut b = Bench::new();
        b.start(1000);
        b.pause(1020, 1000);
        b.partial(1400, 1, "Uh-huh");
        assert_eq!(b.until(1700), [], "longer than a cough, but only a listener");
        b.end(1700);
        assert!(b.words(1850, 1, "Uh-huh.").contains(&Output::Resume { utterance: 9 }));
    }

    #[test]
    fn our_voice_is_never_left_paused() {
        // Paused without any speech that could be told about; paused with words that never come.
        let mut b = Bench::new();
        b.pause(1020, 1000);
        assert_eq!(b.until(5000)[0], (2020, Output::Resume { utterance: 9 }));

        let mut b = Bench::new();
        b.start(1000);
        b.pause(1020, 1000);
        b.end(1450);
        assert_eq!(b.until(2030), [(2020, Output::Cut { utterance: 9 }), (2020, barge_in())]);
    }

    fn barge_in() -> Output {
        Output::BargeIn { at: AT(1000), silent: AT(1020), resumed: false }
    }
}
