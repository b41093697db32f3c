//! Ears of a simulated phone: voice activity by level alone, for lines without noise.
//!
//! 8 kHz frames flow in, `SpeechStart` and `SpeechEnd` flow out; time is the frames' own position. It costs next to
//! nothing, so that a long simulated call stays short; a call that is under test hears with the real detectors.

use crate::audio::{Frame, level};
use crate::call::Listener;
use crate::signal::{Signal, SignalKind, Signals};
use crate::time::MediaTime;

/// Louder than this is a voice (dBov).
const VOICE_DBOV: f32 = -45.0;
/// Loud frames in a row that start speech: 60 ms.
const LOUD_FRAMES: u32 = 3;
/// Quiet frames in a row that end it: 220 ms.
const QUIET_FRAMES: u32 = 11;

/// Voice activity by level.
#[derive(Debug, Default)]
pub(super) struct LevelEars {
    speaking: bool,
    /// Frames in a row that speak against the present state.
    run: u32,
    last_voiced: MediaTime,
}

impl Listener for LevelEars {
    fn observe(&mut self, frame: &Frame, out: &mut Signals) {
        let loud = level::rms_dbov(frame.samples()) > VOICE_DBOV;
        if loud {
            self.last_voiced = frame.end();
        }
        self.run = if loud == self.speaking { 0 } else { self.run + 1 };
        let decided = frame.end();
        if !self.speaking && self.run >= LOUD_FRAMES {
            (self.speaking, self.run) = (true, 0);
            let at = frame.end().minus(u64::from(LOUD_FRAMES) * Frame::SPAN);
            out.push(Signal { at, decided, kind: SignalKind::SpeechStart });
        } else if self.speaking && self.run >= QUIET_FRAMES {
            (self.speaking, self.run) = (false, 0);
            out.push(Signal { at: self.last_voiced, decided, kind: SignalKind::SpeechEnd });
        }
    }

    fn handle_gap(&mut self, at: MediaTime, out: &mut Signals) {
        self.run = 0;
        if std::mem::take(&mut self.speaking) {
            out.push(Signal { at: self.last_voiced.min(at), decided: at, kind: SignalKind::SpeechEnd });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::voice;
    use crate::time::Rate;

    #[test]
    fn a_sentence_is_one_piece_of_speech_and_silence_none() {
        let mut pcm = vec![0; 8000];
        pcm.extend(voice::speak("Good morning, how can I help you?", 190.0));
        let end = pcm.len() as u64 / 8;
        pcm.resize(pcm.len() + 8000, 0);
        let (mut ears, mut out) = (LevelEars::default(), Signals::new());
        for (i, samples) in pcm.as_chunks::<160>().0.iter().enumerate() {
            let at = MediaTime::from_samples(160 * i as u64);
            ears.observe(&Frame::from_samples(at, Rate::Hz8000, samples), &mut out);
        }
        let found: Vec<_> = out.iter().map(|s| (s.kind, s.at.as_ms())).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].0 == SignalKind::SpeechStart && found[0].1.abs_diff(1000) < 60, "{found:?}");
        assert!(found[1].0 == SignalKind::SpeechEnd && found[1].1.abs_diff(end) < 120, "{found:?}");
    }
}
