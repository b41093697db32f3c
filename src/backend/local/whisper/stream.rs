//! One call's recognition stream: which stretch of audio is recognised when.
//!
//! In: frames and turn marks ([`SttInput`]), and what the pool's jobs report. Out: jobs for the pool and
//! [`SttEvent`]s. Time is the audio's own. While an utterance lasts, it is recognised again about every half second
//! (a partial), one job at a time and only when the pool has a thread free; its end cancels that and asks for the
//! final words at once. An utterance of many seconds is committed piece by piece, so that each job stays short.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::history::History;
use super::model::Transcript;
use crate::backend::local::inference::{InferencePool, Priority};
use crate::backend::{BackendError, SttEvent, SttInput};
use crate::time::MediaTime;

/// The backend's name in errors.
pub(super) const NAME: &str = "whisper";

/// Audio taken before the first and after the last voiced sample [samples]: 0.2 s.
const MARGIN: u64 = MediaTime::HZ / 5;
/// Audio between two partials [samples]: 0.5 s.
const PARTIAL_EVERY: u64 = MediaTime::HZ / 2;
/// The pause between partials doubles while they say nothing new, this many times at most.
const MAX_DOUBLINGS: u32 = 3;
/// The end of an utterance must be at least this loud against its peak for another partial: -20 dB.
const QUIET: u16 = 10;
/// Audio kept while nobody speaks, and how long an ended utterance can still be taken up again [samples]: 5 s.
const LOOK_BACK: u64 = 5 * MediaTime::HZ;
/// An utterance of this length is committed up to a pause in the last quarter [samples]: 24 s.
const COMMIT_AT: u64 = 24 * MediaTime::HZ;
/// Jobs one call may have in the pool, cancelled ones that wait for their turn to be dropped included.
const MAX_JOBS: usize = 32;

/// What a stream needs of a recogniser; 8 kHz samples in. `None` when `cancel` said so.
pub(super) trait Recognise: Send + Sync {
    fn recognise(&self, samples: &[i16], cancel: &dyn Fn() -> bool) -> Option<Transcript>;
}

/// What a job's words are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Want {
    Partial,
    /// Final words up to the position; the utterance goes on from there.
    Commit(MediaTime),
    Final,
}

struct Running {
    id: u64,
    utterance: u32,
    want: Want,
    cancel: Arc<AtomicBool>,
    /// What the utterance said before the job's audio.
    before: String,
}

/// How a job ended.
enum Ended {
    Heard(Transcript),
    Cancelled,
    /// It panicked, or the pool closed.
    Lost,
}

struct Done {
    id: u64,
    ended: Ended,
}

/// Reports a job's end however it ends.
struct Reporter {
    id: u64,
    to: mpsc::Sender<Done>,
    ended: Ended,
}

impl Reporter {
    fn ended(mut self, heard: Option<Transcript>) {
        self.ended = heard.map_or(Ended::Cancelled, Ended::Heard);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let ended = std::mem::replace(&mut self.ended, Ended::Lost);
        // The channel holds as many as there can be jobs; a closed one means that the call is over.
        let _ = self.to.try_send(Done { id: self.id, ended });
    }
}

struct Utterance {
    number: u32,
    /// First sample not yet committed.
    from: MediaTime,
    committed: String,
    /// Last partial, to tell a new one.
    partial: String,
    /// End of the audio of the last partial.
    seen: MediaTime,
    /// Partials in a row that said nothing new.
    unchanged: u32,
    /// Loudest sample so far.
    peak: u16,
    /// Its last voiced sample, once `Finish` was given.
    finished: Option<MediaTime>,
}

/// One call's stream without its channels.
pub(super) struct Session {
    recogniser: Arc<dyn Recognise>,
    pool: InferencePool,
    history: History,
    utterance: Option<Utterance>,
    running: Vec<Running>,
    next_id: u64,
    done: mpsc::Sender<Done>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.cancel(|_| true);
    }
}

/// Serves a call until its input closes and its last final words are out, or nobody listens any more.
pub(super) async fn serve(
    recogniser: Arc<dyn Recognise>,
    pool: InferencePool,
    mut input: mpsc::Receiver<SttInput>,
    events: mpsc::Sender<Result<SttEvent, BackendError>>,
) {
    let (done, mut dones) = mpsc::channel(MAX_JOBS);
    let mut session = Session::new(recogniser, pool, done);
    let mut open = true;
    while open || session.owes_a_final() {
        let step = tokio::select! {
            biased;
            () = events.closed() => return,
            Some(done) = dones.recv() => session.handle_done(done),
            given = input.recv(), if open => match given {
                Some(given) => session.handle_input(given),
                None => {
                    open = false;
                    session.cancel(|job| job.want != Want::Final);
                    Ok(None)
                }
            },
        };
        match step {
            Ok(None) => {}
            // A partial that finds no room is soon replaced by a better one.
            Ok(Some(event @ SttEvent::Partial { .. })) => drop(events.try_send(Ok(event))),
            Ok(Some(event)) => drop(events.send(Ok(event)).await),
            Err(error) => {
                let _ = events.send(Err(error)).await;
                return;
            }
        }
    }
}

impl Session {
    fn new(recogniser: Arc<dyn Recognise>, pool: InferencePool, done: mpsc::Sender<Done>) -> Self {
        let history = History::default();
        Self { recogniser, pool, history, utterance: None, running: Vec::new(), next_id: 0, done }
    }

    fn owes_a_final(&self) -> bool {
        self.running.iter().any(|job| job.want == Want::Final && !job.cancel.load(Ordering::Relaxed))
    }

    fn handle_input(&mut self, input: SttInput) -> Result<Option<SttEvent>, BackendError> {
        match input {
            SttInput::Audio(frame) => {
                self.history.push(&frame);
                let loudest = frame.samples().iter().map(|s| s.unsigned_abs()).max().unwrap_or(0);
                self.handle_audio(loudest);
            }
            SttInput::Start { utterance, at } => {
                self.cancel(|job| job.want != Want::Final);
                self.utterance = Some(Utterance {
                    number: utterance,
                    from: at.minus(MARGIN),
                    committed: String::new(),
                    partial: String::new(),
                    seen: at,
                    unchanged: 0,
                    peak: 0,
                    finished: None,
                });
            }
            SttInput::Finish { utterance, at } => return self.finish(utterance, at),
            SttInput::Cancel { utterance } => {
                self.cancel(|job| job.utterance == utterance);
                let end = self.history.end();
                if let Some(open) = self.utterance.as_mut().filter(|u| u.number == utterance) {
                    open.finished = None;
                    open.seen = end;
                }
            }
        }
        Ok(None)
    }

    fn handle_audio(&mut self, loudest: u16) {
        let end = self.history.end();
        let over =
            |u: &mut Utterance| u.finished.is_some_and(|finished| end.since(finished) > LOOK_BACK + MARGIN);
        if self.running.is_empty() {
            self.utterance.take_if(over);
        }
        let Some(utterance) = &mut self.utterance else {
            self.history.forget_before(end.minus(LOOK_BACK));
            return;
        };
        utterance.peak = utterance.peak.max(loudest);
        self.history.forget_before(utterance.from);
        if utterance.finished.is_some() || !self.running.is_empty() {
            return;
        }
        let (number, from) = (utterance.number, utterance.from);
        if end.since(from) >= COMMIT_AT {
            let cut = self.quietest(from.plus(COMMIT_AT * 3 / 4), from.plus(COMMIT_AT));
            self.submit(number, Want::Commit(cut), from, cut);
            return;
        }
        let wait = PARTIAL_EVERY << utterance.unchanged.min(MAX_DOUBLINGS);
        if end.since(utterance.seen) < wait || self.pool.is_busy() {
            return;
        }
        let lately = self.history.between(end.minus(PARTIAL_EVERY), end);
        let lately = lately.iter().map(|s| s.unsigned_abs()).max().unwrap_or(0);
        if lately >= utterance.peak / QUIET {
            utterance.seen = end;
            self.submit(number, Want::Partial, from, end);
        }
    }

    /// The middle of the quietest 100 ms between two positions.
    fn quietest(&self, from: MediaTime, to: MediaTime) -> MediaTime {
        const STEP: usize = MediaTime::HZ as usize / 10;
        let samples = self.history.between(from, to);
        let energy = |step: &[i16]| step.iter().map(|s| i64::from(*s).pow(2)).sum::<i64>();
        let steps = samples.chunks_exact(STEP).enumerate();
        let best = steps.min_by_key(|(_, step)| energy(step)).map_or(0, |(i, _)| i);
        from.plus((best * STEP + STEP / 2) as u64)
    }

    fn finish(&mut self, number: u32, at: MediaTime) -> Result<Option<SttEvent>, BackendError> {
        self.cancel(|job| job.utterance == number);
        let Some(utterance) = self.utterance.as_mut().filter(|u| u.number == number) else {
            // Never begun, or so long ago that its audio is gone: nothing is known to have been said.
            let (text, words) = (String::new(), Vec::new());
            return Ok(Some(SttEvent::Final { utterance: number, text, words }));
        };
        utterance.finished = Some(at);
        let from = utterance.from;
        if self.submit(number, Want::Final, from, at.plus(MARGIN)) {
            return Ok(None);
        }
        Err(BackendError::Unavailable { backend: NAME, reason: "too many recognitions wait".into() })
    }

    /// Hands a stretch of audio to the pool; `false` when too much waits there.
    fn submit(&mut self, utterance: u32, want: Want, from: MediaTime, to: MediaTime) -> bool {
        if self.running.len() >= MAX_JOBS {
            return false;
        }
        let id = self.next_id;
        self.next_id += 1;
        let cancel = Arc::new(AtomicBool::new(false));
        let samples = self.history.between(from, to);
        let reporter = Reporter { id, to: self.done.clone(), ended: Ended::Lost };
        let (recogniser, flag) = (Arc::clone(&self.recogniser), Arc::clone(&cancel));
        let job = move || {
            let cancelled = || flag.load(Ordering::Relaxed);
            let heard = if cancelled() { None } else { recogniser.recognise(&samples, &cancelled) };
            reporter.ended(heard);
        };
        let priority = if want == Want::Final { Priority::Urgent } else { Priority::Idle };
        // Recorded first: a refused job reports its loss like any other.
        let before = self.utterance.as_ref().map_or_else(String::new, |u| u.committed.clone());
        self.running.push(Running { id, utterance, want, cancel, before });
        let taken = self.pool.submit(priority, Box::new(job)).is_ok();
        if !taken {
            self.cancel(|job| job.id == id);
        }
        taken
    }

    fn cancel(&self, which: impl Fn(&Running) -> bool) {
        for job in self.running.iter().filter(|job| which(job)) {
            job.cancel.store(true, Ordering::Relaxed);
        }
    }

    fn handle_done(&mut self, done: Done) -> Result<Option<SttEvent>, BackendError> {
        let Some(index) = self.running.iter().position(|job| job.id == done.id) else { return Ok(None) };
        let job = self.running.swap_remove(index);
        if job.cancel.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let heard = match done.ended {
            Ended::Heard(transcript) => transcript,
            Ended::Cancelled => return Ok(None),
            Ended::Lost if job.want == Want::Final => {
                let reason = "the recognition of an utterance was lost (a bug in it, or the pool closed)";
                return Err(BackendError::Unavailable { backend: NAME, reason: reason.into() });
            }
            Ended::Lost => return Ok(None),
        };
        let text = joined(&job.before, &heard.text);
        if job.want == Want::Final {
            // Times are not known word by word.
            return Ok(Some(SttEvent::Final { utterance: job.utterance, text, words: Vec::new() }));
        }
        let Some(utterance) = self.utterance.as_mut().filter(|u| u.number == job.utterance) else {
            return Ok(None);
        };
        if let Want::Commit(cut) = job.want {
            utterance.from = cut;
            utterance.committed.clone_from(&text);
        }
        if text == utterance.partial {
            utterance.unchanged = utterance.unchanged.saturating_add(1);
            return Ok(None);
        }
        utterance.unchanged = 0;
        utterance.partial.clone_from(&text);
        Ok(Some(SttEvent::Partial { utterance: job.utterance, text }))
    }
}

fn joined(a: &str, b: &str) -> String {
    if a.is_empty() || b.is_empty() { format!("{a}{b}") } else { format!("{a} {b}") }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::audio::Frame;
    use crate::time::Rate;

    /// Hears the number of samples and the first one; what it is told to hold it holds until cancelled.
    #[derive(Default)]
    struct Fake {
        hold: AtomicBool,
        panic: AtomicBool,
        given: Mutex<Vec<(i16, usize)>>,
        cancelled: AtomicBool,
    }

    impl Recognise for Fake {
        #[allow(clippy::disallowed_methods)]
        fn recognise(&self, samples: &[i16], cancel: &dyn Fn() -> bool) -> Option<Transcript> {
            assert!(!self.panic.load(Ordering::SeqCst), "on purpose");
            self.given.lock().expect("unpoisoned").push((samples[0], samples.len()));
            while self.hold.load(Ordering::SeqCst) {
                if cancel() {
                    self.cancelled.store(true, Ordering::SeqCst);
                    return None;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Some(Transcript { text: format!("{}+{}", samples[0], samples.len()), no_speech: 0.0 })
        }
    }

    struct Call {
        fake: Arc<Fake>,
        input: mpsc::Sender<SttInput>,
        events: mpsc::Receiver<Result<SttEvent, BackendError>>,
        frames: u64,
    }

    impl Call {
        fn new() -> Self {
            let fake = Arc::new(Fake::default());
            let (input, given) = mpsc::channel(64);
            let (said, events) = mpsc::channel(64);
            let recogniser: Arc<dyn Recognise> = Arc::<Fake>::clone(&fake);
            tokio::spawn(serve(recogniser, InferencePool::with_threads(1), given, said));
            Self { fake, input, events, frames: 0 }
        }

        async fn give(&self, input: SttInput) {
            self.input.send(input).await.expect("the stream lives");
        }

        /// Frames whose samples are all their number, at most 10 000.
        async fn audio(&mut self, frames: u64) {
            for _ in 0..frames {
                let at = MediaTime::from_samples(self.frames * 160);
                let value = (self.frames % 10_000) as i16 + 1;
                let frame = Frame::from_samples(at, Rate::Hz8000, &[value; 160]);
                self.give(SttInput::Audio(frame)).await;
                self.frames += 1;
            }
        }

        async fn start(&self, utterance: u32, ms: u64) {
            self.give(SttInput::Start { utterance, at: MediaTime::from_ms(ms) }).await;
        }

        async fn finish(&self, utterance: u32, ms: u64) {
            self.give(SttInput::Finish { utterance, at: MediaTime::from_ms(ms) }).await;
        }

        async fn next(&mut self) -> Option<Result<SttEvent, BackendError>> {
            tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await.expect("in time")
        }

        async fn next_final(&mut self) -> (u32, String) {
            loop {
                match self.next().await.expect("an event").expect("no error") {
                    SttEvent::Final { utterance, text, words } => {
                        assert!(words.is_empty());
                        return (utterance, text);
                    }
                    SttEvent::Partial { .. } => {}
                }
            }
        }

        async fn until(&self, mut condition: impl FnMut(&Fake) -> bool) {
            tokio::time::timeout(Duration::from_secs(20), async {
                while !condition(&self.fake) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await
            .expect("in time");
        }
    }

    #[tokio::test]
    async fn the_final_words_are_those_of_the_utterance_and_its_margins() {
        let mut call = Call::new();
        call.audio(100).await;
        call.start(1, 1000).await;
        call.finish(1, 1300).await;
        // 800 ms is frame 40, whose samples are 41; to 1500 ms are 5600 samples.
        assert_eq!(call.next_final().await, (1, "41+5600".into()));
    }

    #[tokio::test]
    async fn partials_come_while_speech_lasts() {
        let mut call = Call::new();
        call.audio(20).await;
        call.start(3, 400).await;
        call.audio(24).await;
        call.audio(1).await;
        let Some(Ok(SttEvent::Partial { utterance: 3, text })) = call.next().await else {
            panic!("a partial")
        };
        assert_eq!(text, "11+5600", "from 200 ms to 900 ms");
        // More audio until the pool's thread is free again and took it up.
        let text = loop {
            call.audio(5).await;
            let event = tokio::time::timeout(Duration::from_millis(5), call.events.recv()).await;
            if let Ok(Some(Ok(SttEvent::Partial { text, .. }))) = event {
                break text;
            }
            assert!(call.frames < 1000, "another partial comes");
        };
        assert!(text.starts_with("11+"), "{text}");
    }

    #[tokio::test]
    async fn the_end_cancels_a_running_partial() {
        let mut call = Call::new();
        call.fake.hold.store(true, Ordering::SeqCst);
        call.start(1, 0).await;
        call.audio(100).await;
        call.until(|fake| !fake.given.lock().expect("unpoisoned").is_empty()).await;
        call.finish(1, 2000).await;
        call.until(|fake| fake.cancelled.load(Ordering::SeqCst)).await;
        call.fake.hold.store(false, Ordering::SeqCst);
        assert_eq!(call.next_final().await, (1, "1+16000".into()));
    }

    #[tokio::test]
    async fn a_cancelled_end_gives_nothing_and_the_next_one_covers_the_whole() {
        let mut call = Call::new();
        call.audio(50).await;
        call.fake.hold.store(true, Ordering::SeqCst);
        call.start(1, 200).await;
        call.finish(1, 500).await;
        call.until(|fake| !fake.given.lock().expect("unpoisoned").is_empty()).await;
        call.give(SttInput::Cancel { utterance: 1 }).await;
        call.until(|fake| fake.cancelled.load(Ordering::SeqCst)).await;
        call.fake.hold.store(false, Ordering::SeqCst);
        call.finish(1, 800).await;
        assert_eq!(call.next_final().await, (1, "1+8000".into()));
        drop(call.input);
        assert_eq!(call.events.recv().await, None, "one final, not two");
    }

    #[tokio::test]
    async fn final_words_still_come_after_the_input_closed() {
        let mut call = Call::new();
        call.audio(50).await;
        call.start(1, 200).await;
        call.finish(1, 600).await;
        let (closed, _) = mpsc::channel(1);
        call.input = closed;
        assert_eq!(call.next_final().await, (1, "1+6400".into()));
        assert_eq!(call.next().await, None);
    }

    #[tokio::test]
    async fn nobody_listening_cancels_the_work() {
        let mut call = Call::new();
        call.fake.hold.store(true, Ordering::SeqCst);
        call.audio(50).await;
        call.start(1, 200).await;
        call.finish(1, 600).await;
        call.until(|fake| !fake.given.lock().expect("unpoisoned").is_empty()).await;
        call.events.close();
        call.until(|fake| fake.cancelled.load(Ordering::SeqCst)).await;
        assert!(call.input.send(SttInput::Cancel { utterance: 1 }).await.is_err() || call.input.is_closed());
    }

    #[tokio::test]
    async fn an_end_without_a_beginning_is_an_empty_final() {
        let mut call = Call::new();
        call.finish(7, 100).await;
        assert_eq!(call.next_final().await, (7, String::new()));
    }

    #[tokio::test]
    async fn a_panic_in_the_recogniser_is_one_error_and_the_end() {
        let mut call = Call::new();
        call.fake.panic.store(true, Ordering::SeqCst);
        call.audio(20).await;
        call.start(1, 0).await;
        call.finish(1, 400).await;
        assert!(matches!(call.next().await, Some(Err(BackendError::Unavailable { backend: "whisper", .. }))));
        assert_eq!(call.next().await, None);
    }

    #[tokio::test]
    async fn a_long_utterance_is_committed_in_pieces() {
        let mut call = Call::new();
        call.start(1, 0).await;
        // Until something beyond the first cut was recognised: audio comes faster than life here.
        while !call.fake.given.lock().expect("unpoisoned").iter().any(|(first, _)| *first > 800) {
            call.audio(10).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert!(call.frames < 2900, "a piece is committed within a minute");
        }
        call.finish(1, call.frames * 20).await;
        let (_, text) = call.next_final().await;
        let parts: Vec<&str> = text.split(' ').collect();
        assert!(parts.len() >= 2, "{text}");
        let lengths: Vec<usize> = parts
            .iter()
            .map(|p| p.split_once('+').expect("fake's form").1.parse().expect("a number"))
            .collect();
        assert!(parts[0].starts_with("1+") && lengths[0] < 24 * 8000, "{text}");
        assert_eq!(
            lengths.iter().sum::<usize>() as u64,
            call.frames * 160,
            "no sample is lost or heard twice"
        );
    }

    #[tokio::test]
    async fn silence_after_a_cancelled_utterance_is_not_recognised_for_ever() {
        let mut call = Call::new();
        call.audio(50).await;
        call.start(1, 0).await;
        call.audio(1).await;
        call.give(SttInput::Cancel { utterance: 1 }).await;
        for _ in 0..400 {
            let at = MediaTime::from_samples(call.frames * 160);
            call.give(SttInput::Audio(Frame::silence(at, Rate::Hz8000))).await;
            call.frames += 1;
            tokio::task::yield_now().await;
        }
        call.finish(1, 5000).await;
        call.next_final().await;
        let given = call.fake.given.lock().expect("unpoisoned").len();
        assert!(given <= 3, "{given} recognitions of silence");
    }
}
