//! What the engine hears in a recording: the same detectors as on a call, without a call.
//!
//! 8 kHz frames flow in one at a time, [`AnalysisEvent`]s flow out as soon as a live call would have known them; the
//! time is the frames' own position, and memory is constant. Used by `patchcord analyze`; of use to an embedder who
//! wants to judge the detectors on recordings of their own.

use std::collections::VecDeque;

use serde::Serialize;

use crate::answer::{AnswerOutput, Machine, Verdict};
use crate::audio::Frame;
use crate::detect::{Chain, ChainConfig};
use crate::signal::{Signal, SignalKind, Signals};
use crate::time::MediaTime;

/// Something heard. Times are seconds from the recording's start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnalysisEvent {
    /// `speech`, `beep` or `answered_by`.
    pub event: &'static str,
    /// Where it began.
    pub start_s: f64,
    /// Where it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_s: Option<f64>,
    /// When the streaming detector knew: that speech had begun, that a tone was a beep, who answered.
    pub decided_s: f64,
    /// A beep's frequency (Hz).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freq_hz: Option<f32>,
    /// A verdict's class, as in the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    /// A verdict's confidence, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// Whether a call would act on the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<bool>,
}

impl AnalysisEvent {
    fn new(event: &'static str, start: MediaTime, end: Option<MediaTime>, decided: MediaTime) -> Self {
        Self {
            event,
            start_s: start.as_secs_f64(),
            end_s: end.map(MediaTime::as_secs_f64),
            decided_s: decided.as_secs_f64(),
            freq_hz: None,
            class: None,
            confidence: None,
            act: None,
        }
    }

    fn verdict(verdict: &Verdict) -> Self {
        Self {
            class: Some(verdict.class.as_str()),
            confidence: Some(verdict.confidence),
            act: Some(verdict.act),
            ..Self::new("answered_by", verdict.decided, None, verdict.decided)
        }
    }
}

/// Detectors and the answer machine over one recording.
#[derive(Debug)]
pub struct Analyzer {
    chain: Chain,
    answer: Machine,
    signals: Signals,
    speech: Option<Signal>,
    end: MediaTime,
    events: VecDeque<AnalysisEvent>,
}

impl Analyzer {
    /// An analyzer at the start of a recording.
    #[must_use]
    pub fn new(config: &ChainConfig) -> Self {
        Self {
            chain: Chain::new(config),
            answer: Machine::new(),
            signals: Signals::new(),
            speech: None,
            end: MediaTime::ZERO,
            events: VecDeque::with_capacity(Signals::CAPACITY),
        }
    }

    /// Hears the next 20 ms.
    pub fn push(&mut self, frame: &Frame) {
        self.signals.clear();
        self.chain.observe(frame, &mut self.signals);
        self.end = frame.end();
        self.take_signals();
        self.answer.tick(self.end);
        self.take_verdicts();
    }

    /// Takes words recognised in the recording, for who answered.
    pub fn handle_words(&mut self, text: &str, is_final: bool, start: MediaTime, end: MediaTime) {
        self.answer.handle_words(text, is_final, start, end);
        self.take_verdicts();
    }

    /// The recording is over: speech under way ends.
    pub fn finish(&mut self) {
        self.signals.clear();
        self.chain.handle_gap(self.end, &mut self.signals);
        self.take_signals();
        self.take_verdicts();
    }

    /// The next event, in the order in which they were known.
    pub fn poll_event(&mut self) -> Option<AnalysisEvent> {
        self.events.pop_front()
    }

    fn take_signals(&mut self) {
        for signal in self.signals.iter() {
            self.answer.handle_signal(&signal);
            match signal.kind {
                SignalKind::SpeechStart => self.speech = Some(signal),
                SignalKind::SpeechEnd => {
                    if let Some(start) = self.speech.take() {
                        let event = AnalysisEvent::new("speech", start.at, Some(signal.at), start.decided);
                        self.events.push_back(event);
                    }
                }
                SignalKind::BeepEnd { freq_hz, start } => self.events.push_back(AnalysisEvent {
                    freq_hz: Some(freq_hz),
                    ..AnalysisEvent::new("beep", start, Some(signal.at), signal.decided)
                }),
                _ => {}
            }
        }
    }

    fn take_verdicts(&mut self) {
        while let Some(output) = self.answer.poll_output() {
            if let AnswerOutput::Verdict(verdict) = output {
                self.events.push_back(AnalysisEvent::verdict(&verdict));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{VadModel, testing};
    use crate::time::Rate;

    fn analyze(config: &ChainConfig, pcm: &[i16]) -> Vec<AnalysisEvent> {
        let mut analyzer = Analyzer::new(config);
        let mut events = Vec::new();
        for (i, samples) in pcm.chunks(160).enumerate() {
            let at = MediaTime::from_samples(160 * i as u64);
            analyzer.push(&Frame::from_samples(at, Rate::Hz8000, samples));
            events.extend(std::iter::from_fn(|| analyzer.poll_event()));
        }
        analyzer.finish();
        events.extend(std::iter::from_fn(|| analyzer.poll_event()));
        events
    }

    #[test]
    fn a_recorded_mailbox_is_heard_as_speech_then_beep_then_voicemail() {
        let Some(weights) = testing::weights() else { return };
        let Some(pcm) = testing::dev_audio("calls/vm_003.wav") else { return };
        let events = analyze(&ChainConfig { vad: VadModel::Silero(weights) }, &pcm);
        let beep = events.iter().find(|e| e.event == "beep").expect("the beep");
        assert!(
            (beep.start_s - 8.176).abs() < 0.03 && (beep.freq_hz.unwrap_or(0.0) - 1000.0).abs() < 5.0,
            "{beep:?}"
        );
        let last = events.iter().rfind(|e| e.event == "answered_by").expect("a verdict");
        assert_eq!((last.class, last.act), (Some("voicemail"), Some(true)), "{events:?}");
        assert!(events.iter().any(|e| e.event == "speech" && (e.start_s - 0.81).abs() < 0.1), "{events:?}");
    }

    #[test]
    fn silence_holds_no_events() {
        assert_eq!(analyze(&ChainConfig::default(), &[0; 80_000]), []);
    }

    /// `PATCHCORD_ANALYZE=DIR` with WAV files; prints the events that `tools/score.py` reads.
    #[cfg(feature = "engine")]
    #[test]
    #[ignore = "prints the events of a folder of recordings"]
    fn events_of_a_folder() {
        let Some(dir) = std::env::var_os("PATCHCORD_ANALYZE").map(std::path::PathBuf::from) else { return };
        let vad = match std::env::var("PATCHCORD_ANALYZE_VAD").as_deref() {
            Ok("earshot") => VadModel::Earshot,
            _ => VadModel::Silero(testing::weights().expect("weights")),
        };
        let mut names: Vec<_> =
            std::fs::read_dir(dir).expect("dir").map(|e| e.expect("entry").path()).collect();
        names.sort();
        for path in names.iter().filter(|p| p.extension().is_some_and(|e| e == "wav")) {
            let pcm = testing::wav(&std::fs::read(path).expect("readable"));
            let file = path.file_name().expect("a name").to_string_lossy();
            for event in analyze(&ChainConfig { vad: vad.clone() }, &pcm) {
                let json = serde_json::to_string(&event).expect("json");
                println!("EVENT {{\"file\":\"{file}\",{}", &json[1..]);
            }
        }
    }
}
