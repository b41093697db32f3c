//! Carries synthesised speech to the leg: utterances in order, cut into frames, with back-pressure towards the
//! synthesiser and never towards the leg.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::audio::Frame;
use crate::backend::{BackendError, SpeechChunk, TextToSpeech, TtsStream, Voice};
use crate::call::io::Voiced;
use crate::call::port::Spoken;
use crate::ring::Producer;
use crate::time::{MediaTime, Rate};

/// Frames synthesised ahead of the playout ring: ten seconds.
const MAX_AHEAD: usize = 500;
/// Utterances that may wait at once; the agent speaks one or two clauses ahead.
const MAX_QUEUED: usize = 16;
const FRAME: usize = Rate::Hz8000.frame_samples();

struct Utterance {
    number: u32,
    protected: bool,
    /// Present while text may still come; dropping it tells the synthesiser that none does.
    text: Option<mpsc::Sender<String>>,
    audio: mpsc::Receiver<Result<SpeechChunk, BackendError>>,
    /// Less than a frame and one whole frame held back, because only the last one is marked.
    held: Vec<i16>,
    samples: u64,
    framed: u64,
}

/// The queue between the synthesiser and one leg's playout ring.
pub(super) struct VoiceQueue {
    tts: Arc<dyn TextToSpeech>,
    voice: Voice,
    utterances: VecDeque<Utterance>,
    frames: VecDeque<Spoken>,
}

impl VoiceQueue {
    pub(super) fn new(tts: Arc<dyn TextToSpeech>, voice: Voice) -> Self {
        Self { tts, voice, utterances: VecDeque::new(), frames: VecDeque::new() }
    }

    /// Adds a clause to utterance `number`, which is opened if it is new.
    pub(super) fn speak(
        &mut self,
        number: u32,
        text: String,
        protected: bool,
        last: bool,
    ) -> Result<(), BackendError> {
        let overrun =
            |reason: &str| BackendError::Unavailable { backend: "synthesis", reason: reason.into() };
        if self.utterances.back().is_none_or(|u| u.number != number) {
            if self.utterances.len() >= MAX_QUEUED {
                return Err(overrun("too many utterances wait to be voiced"));
            }
            let TtsStream { text, audio } = self.tts.speak(&self.voice)?;
            let held = Vec::with_capacity(2 * FRAME);
            let text = Some(text);
            self.utterances.push_back(Utterance {
                number,
                protected,
                text,
                audio,
                held,
                samples: 0,
                framed: 0,
            });
        }
        let utterance = self.utterances.back_mut().expect("one was just found or added");
        let Some(sender) = &utterance.text else {
            return Err(overrun("text for an utterance that was already complete"));
        };
        if !text.is_empty() && sender.try_send(text).is_err() {
            return Err(overrun("the synthesiser does not take text"));
        }
        if last {
            utterance.text = None;
        }
        Ok(())
    }

    /// Plays ready-made samples (8 kHz) as utterance `number`.
    pub(super) fn play(&mut self, number: u32, samples: Vec<i16>) {
        let (sender, audio) = mpsc::channel(1);
        let chunk = SpeechChunk { samples, words: Vec::new() };
        sender.try_send(Ok(chunk)).expect("the channel is new and empty");
        let held = Vec::with_capacity(2 * FRAME);
        let new = Utterance { number, protected: true, text: None, audio, held, samples: 0, framed: 0 };
        self.utterances.push_back(new);
    }

    /// Forgets utterance `number`: dropping its stream cancels the work.
    pub(super) fn cancel(&mut self, number: u32) {
        self.utterances.retain(|u| u.number != number);
        self.frames.retain(|f| f.utterance != number);
    }

    /// Whether more audio is wanted now.
    pub(super) fn wants_audio(&self) -> bool {
        !self.utterances.is_empty() && self.frames.len() < MAX_AHEAD
    }

    /// The next piece of the utterance at the front; call only while [`VoiceQueue::wants_audio`]. Cancel-safe.
    pub(super) async fn next_chunk(&mut self) -> Option<Result<SpeechChunk, BackendError>> {
        match self.utterances.front_mut() {
            Some(utterance) => utterance.audio.recv().await,
            None => std::future::pending().await,
        }
    }

    /// Takes what [`VoiceQueue::next_chunk`] gave and says what it means for the call.
    pub(super) fn handle_chunk(
        &mut self,
        chunk: Option<Result<SpeechChunk, BackendError>>,
    ) -> Option<Voiced> {
        match chunk {
            Some(Ok(chunk)) => {
                let utterance = self.utterances.front_mut()?;
                utterance.samples += chunk.samples.len() as u64;
                utterance.held.extend_from_slice(&chunk.samples);
                let (number, samples) = (utterance.number, utterance.samples);
                self.cut_frames();
                Some(Voiced::Progress { utterance: number, samples, words: chunk.words })
            }
            Some(Err(error)) => {
                let number = self.finish_front()?.number;
                Some(Voiced::Failed { utterance: number, reason: error.to_string() })
            }
            None => {
                let utterance = self.finish_front()?;
                Some(Voiced::Finished { utterance: utterance.number, samples: utterance.samples })
            }
        }
    }

    /// Moves frames into the playout ring as far as it has room; true when any went in.
    pub(super) fn pump(&mut self, playout: &mut Producer<Spoken>) -> bool {
        let mut moved = false;
        while !playout.is_full()
            && let Some(frame) = self.frames.pop_front()
        {
            // Room was just seen, and only this side fills the ring.
            moved |= playout.push(frame).is_ok();
        }
        moved
    }

    fn cut_frames(&mut self) {
        let Some(utterance) = self.utterances.front_mut() else { return };
        let whole = utterance.held.len().saturating_sub(1) / FRAME;
        for samples in utterance.held[..whole * FRAME].chunks_exact(FRAME) {
            self.frames.push_back(frame(
                utterance.number,
                utterance.protected,
                utterance.framed,
                samples,
                false,
            ));
            utterance.framed += FRAME as u64;
        }
        utterance.held.drain(..whole * FRAME);
    }

    fn finish_front(&mut self) -> Option<Utterance> {
        self.cut_frames();
        let utterance = self.utterances.pop_front()?;
        // An utterance without a single sample still needs its end to be marked.
        self.frames.push_back(frame(
            utterance.number,
            utterance.protected,
            utterance.framed,
            &utterance.held,
            true,
        ));
        Some(utterance)
    }
}

fn frame(utterance: u32, protected: bool, offset: u64, samples: &[i16], last: bool) -> Spoken {
    let frame = Frame::from_samples(MediaTime::from_samples(offset), Rate::Hz8000, samples);
    Spoken { utterance, protected, last, frame }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::ring;
    use tokio::sync::mpsc;

    /// Voices each byte of text as 100 samples of its value.
    struct Letters;

    impl TextToSpeech for Letters {
        fn speak(&self, _voice: &Voice) -> Result<TtsStream, BackendError> {
            let (text, mut text_rx) = mpsc::channel::<String>(8);
            let (audio_tx, audio) = mpsc::channel(8);
            tokio::spawn(async move {
                while let Some(text) = text_rx.recv().await {
                    let samples = text.bytes().flat_map(|b| [i16::from(b); 100]).collect();
                    if audio_tx.send(Ok(SpeechChunk { samples, words: Vec::new() })).await.is_err() {
                        return;
                    }
                }
            });
            Ok(TtsStream { text, audio })
        }
    }

    async fn voice_all(queue: &mut VoiceQueue) -> Vec<Voiced> {
        let mut all = Vec::new();
        while queue.wants_audio() {
            let chunk = queue.next_chunk().await;
            all.extend(queue.handle_chunk(chunk));
        }
        all
    }

    #[tokio::test]
    async fn utterances_come_out_in_order_in_frames_with_the_last_one_marked() {
        let mut queue = VoiceQueue::new(Arc::new(Letters), Voice::default());
        queue.speak(1, "ab".into(), false, false).expect("room");
        queue.speak(1, "c".into(), false, true).expect("room");
        queue.speak(2, "d".into(), true, true).expect("room");
        let voiced = voice_all(&mut queue).await;
        assert!(voiced.contains(&Voiced::Finished { utterance: 1, samples: 300 }));
        assert!(voiced.contains(&Voiced::Finished { utterance: 2, samples: 100 }));
        let (mut tx, mut rx) = ring(10);
        assert!(queue.pump(&mut tx));
        let frames: Vec<_> = std::iter::from_fn(|| rx.pop()).collect();
        let marks: Vec<_> =
            frames.iter().map(|f| (f.utterance, f.last, f.protected, f.frame.at.samples())).collect();
        assert_eq!(marks, [(1, false, false, 0), (1, true, false, 160), (2, true, true, 0)]);
        assert_eq!(
            frames[1].frame.samples()[139..142],
            [99, 0, 0],
            "padded with silence after the 300th sample"
        );
    }

    #[tokio::test]
    async fn a_full_ring_holds_frames_back_and_loses_none() {
        let mut queue = VoiceQueue::new(Arc::new(Letters), Voice::default());
        queue.speak(1, "abcdefgh".into(), false, true).expect("room");
        voice_all(&mut queue).await;
        let (mut tx, mut rx) = ring(2);
        let mut count = 0;
        while queue.pump(&mut tx) {
            while rx.pop().is_some() {
                count += 1;
            }
        }
        assert_eq!(count, 5);
    }

    #[tokio::test]
    async fn cancelling_drops_what_waits_of_that_utterance_only() {
        let mut queue = VoiceQueue::new(Arc::new(Letters), Voice::default());
        queue.speak(1, "abcd".into(), false, true).expect("room");
        queue.speak(2, "e".into(), false, true).expect("room");
        voice_all(&mut queue).await;
        queue.cancel(1);
        let (mut tx, mut rx) = ring(10);
        queue.pump(&mut tx);
        assert!(std::iter::from_fn(|| rx.pop()).all(|f| f.utterance == 2));
    }
}
