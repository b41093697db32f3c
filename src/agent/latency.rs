//! Where the time of a response went, on the media timeline.
//!
//! In: marks as they happen, each a position on the leg's timeline. Out: the parts, once the first sample of the reply
//! is on the wire. The parts that belong to a model or to the endpointing wait are what lies between two marks; the
//! rest is ours.

use crate::time::MediaTime;

/// The marks of one response in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ResponseMarks {
    /// The callee's last voiced sample.
    pub heard: MediaTime,
    /// The turn machine's decision that the turn is over.
    pub decided: MediaTime,
    /// Final words.
    pub recognised: MediaTime,
    /// First clause handed to the synthesiser.
    pub clause: Option<MediaTime>,
    /// First audio of it.
    pub audio: Option<MediaTime>,
}

/// The parts of one response (ms).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Response {
    /// Last voiced sample → the decision that the turn is over.
    pub endpointing_ms: u32,
    /// The decision → final words; zero if the words were there first.
    pub recognition_ms: u32,
    /// Final words → first clause.
    pub language_ms: u32,
    /// First clause → first audio.
    pub synthesis_ms: u32,
    /// First audio → wire: rings, queues, the wait for a tick.
    pub engine_ms: u32,
    /// Last voiced sample → first sample on the wire.
    pub total_ms: u32,
}

impl ResponseMarks {
    /// The parts, now that the first sample went out at `wire`. The parts add up to the total.
    #[must_use]
    pub fn sent(&self, wire: MediaTime) -> Response {
        let ms = |from: MediaTime, to: MediaTime| u32::try_from(to.ms_since(from)).unwrap_or(u32::MAX);
        // A mark that is missing or out of order takes no time of its own.
        let decided = self.decided.clamp(self.heard, wire.max(self.heard));
        let recognised = self.recognised.clamp(decided, wire.max(decided));
        let clause = self.clause.unwrap_or(recognised).clamp(recognised, wire.max(recognised));
        let audio = self.audio.unwrap_or(wire).clamp(clause, wire.max(clause));
        let total_ms = ms(self.heard, wire);
        let [endpointing_ms, recognition_ms, language_ms, synthesis_ms] =
            [ms(self.heard, decided), ms(decided, recognised), ms(recognised, clause), ms(clause, audio)];
        let spent = endpointing_ms + recognition_ms + language_ms + synthesis_ms;
        let engine_ms = total_ms.saturating_sub(spent);
        Response { endpointing_ms, recognition_ms, language_ms, synthesis_ms, engine_ms, total_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_words_that_came_during_the_silence_cost_nothing() {
        let marks = ResponseMarks {
            heard: MediaTime::from_ms(1000),
            decided: MediaTime::from_ms(1600),
            recognised: MediaTime::from_ms(1300),
            clause: Some(MediaTime::from_ms(1900)),
            audio: Some(MediaTime::from_ms(2000)),
        };
        let parts = marks.sent(MediaTime::from_ms(2005));
        let expected = Response {
            endpointing_ms: 600,
            recognition_ms: 0,
            language_ms: 300,
            synthesis_ms: 100,
            engine_ms: 5,
            total_ms: 1005,
        };
        assert_eq!(parts, expected);
    }

    #[test]
    fn marks_out_of_order_never_underflow() {
        let marks = ResponseMarks { heard: MediaTime::from_ms(5000), ..ResponseMarks::default() };
        assert_eq!(marks.sent(MediaTime::from_ms(10)), Response::default());
    }
}
