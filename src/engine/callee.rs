//! The far end as a SIP endpoint: answers calls by scenario, speaks with a local voice, records its mailbox.
//!
//! It runs on the same stack as the engine (user agent, legs, detectors) and follows the pure [`Phone`]; it hears by
//! voice activity and digits, never by a recogniser. What it said and heard is appended to `journal.jsonl` in its
//! mailbox folder, one JSON object per call, so that a test can compare both ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};

use crate::audio::{Frame, Tone};
use crate::backend::{BackendError, TextToSpeech, Voice};
use crate::call::io::Voiced;
use crate::call::port::{LegCommand, LegEvent};
use crate::engine::EngineError;
use crate::engine::handle::load_vad;
use crate::engine::signalling::Incoming;
use crate::engine::station::{Media, Station, StationConfig};
use crate::engine::voice::VoiceQueue;
use crate::sdp;
use crate::signal::{Signal, SignalKind};
use crate::sim::{Action, Answer, Phone, Scenario};
use crate::sip;
use crate::time::{MediaTime, Rate};

/// Calls answered at once; more are busy.
const MAX_CALLS: usize = 64;
/// The longest any simulated call lasts, whatever its scenario says.
const MAX_CALL: Duration = Duration::from_secs(15 * 60);

/// What a simulated callee needs.
#[derive(Clone)]
pub struct CalleeConfig {
    /// Where its SIP socket binds.
    pub sip_bind: SocketAddr,
    /// What it can play; a call picks one by the number it dials. The first serves every other number.
    pub scenarios: Vec<Scenario>,
    /// Its voice.
    pub tts: Arc<dyn TextToSpeech>,
    /// Weights of the voice-activity network; without them a built-in detector is used.
    pub vad_model: Option<PathBuf>,
    /// Folder for mailbox recordings and the journal.
    pub mailbox: PathBuf,
}

/// One line of the journal: what the far end said and heard in one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The scenario that was played.
    pub scenario: String,
    /// The lines it spoke, in order.
    pub said: Vec<String>,
    /// The keys it received.
    pub digits: String,
    /// How long it was spoken to, in all (ms).
    pub heard_ms: u64,
    /// The mailbox recording, if one was made.
    pub mailbox: Option<PathBuf>,
    /// From the end of the beep to the first voiced sample of the message (ms).
    pub message_after_beep_ms: Option<u64>,
}

/// A running simulated callee.
pub struct Callee {
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Incoming>,
}

struct Shared {
    station: Arc<Station>,
    scenarios: Vec<Scenario>,
    /// Every line of every scenario, synthesised once at start: (pitch in thousandths, text) → 8 kHz samples.
    lines: HashMap<(u32, String), Vec<i16>>,
    tts: Arc<dyn TextToSpeech>,
    mailbox: PathBuf,
    recordings: AtomicU64,
}

impl Callee {
    /// Binds its socket and synthesises all lines; `progress` is told (done, all) after each.
    ///
    /// # Errors
    /// When a scenario is wrong, a socket cannot be bound, or a line cannot be synthesised.
    pub async fn start(
        config: CalleeConfig,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self, EngineError> {
        let invalid = |problem: String| EngineError::Config { key: "scenario", problem };
        if config.scenarios.is_empty() {
            return Err(invalid("expected at least one scenario".into()));
        }
        for scenario in &config.scenarios {
            scenario.check().map_err(|e| invalid(e.to_string()))?;
        }
        std::fs::create_dir_all(&config.mailbox).map_err(|e| EngineError::Config {
            key: "mailbox",
            problem: format!("{}: {e}", config.mailbox.display()),
        })?;
        let vad = load_vad(config.vad_model.as_deref())?;
        let station = StationConfig {
            sip_bind: config.sip_bind,
            public_ip: None,
            rtp_ports: None,
            media_workers: 1,
            vad,
            seed: None,
        };
        let (station, incoming) = Station::start(station).await?;
        let wanted: Vec<(u32, String)> = config
            .scenarios
            .iter()
            .flat_map(|s| s.steps.iter().filter_map(|step| Some(line_key(s.pitch, step.say.as_ref()?))))
            .collect();
        let mut lines = HashMap::new();
        for (done, key) in wanted.iter().enumerate() {
            if !lines.contains_key(key) {
                let samples = synthesise(config.tts.as_ref(), key)
                    .await
                    .map_err(|e| EngineError::Config { key: "callee voice", problem: e.to_string() })?;
                lines.insert(key.clone(), samples);
            }
            progress(done + 1, wanted.len());
        }
        let CalleeConfig { scenarios, tts, mailbox, .. } = config;
        let shared = Shared { station, scenarios, lines, tts, mailbox, recordings: AtomicU64::new(0) };
        Ok(Self { shared: Arc::new(shared), incoming })
    }

    /// Where it can be called.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.station.signalling.address()
    }

    /// Answers calls until the future is dropped.
    pub async fn run(mut self) {
        let places = Arc::new(Semaphore::new(MAX_CALLS));
        while let Some(incoming) = self.incoming.recv().await {
            let shared = Arc::clone(&self.shared);
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                shared.station.signalling.reject(incoming.session, 486).await;
                continue;
            };
            tokio::spawn(async move {
                if tokio::time::timeout(MAX_CALL, shared.take(incoming)).await.is_err() {
                    tracing::warn!("a simulated call ran into its longest duration");
                }
                drop(place);
            });
        }
    }
}

fn line_key(pitch: f32, text: &str) -> (u32, String) {
    ((pitch * 1000.0) as u32, text.to_owned())
}

async fn synthesise(tts: &dyn TextToSpeech, (pitch, text): &(u32, String)) -> Result<Vec<i16>, BackendError> {
    let voice = Voice { pitch: *pitch as f32 / 1000.0, ..Voice::default() };
    let mut stream = tts.speak(&voice)?;
    if stream.text.send(text.clone()).await.is_err() {
        return Err(BackendError::Unavailable {
            backend: "synthesis",
            reason: "it does not take text".into(),
        });
    }
    drop(stream.text);
    let mut samples = Vec::new();
    while let Some(chunk) = stream.audio.recv().await {
        samples.extend(chunk?.samples);
    }
    Ok(samples)
}

impl Shared {
    fn scenario(&self, target: &str) -> &Scenario {
        let user = target.trim_start_matches("sip:").split(['@', ';']).next().unwrap_or_default();
        self.scenarios.iter().find(|s| s.number == user).unwrap_or(&self.scenarios[0])
    }

    async fn take(&self, mut call: Incoming) {
        let scenario = self.scenario(&call.target).clone();
        tracing::info!(scenario = scenario.name, "a call comes in");
        let signalling = &self.station.signalling;
        match scenario.answer {
            Answer::Reject(status) => signalling.reject(call.session, status).await,
            Answer::Never(_) => {
                signalling.ring(call.session).await;
                while !call.events.recv().await.is_none_or(|e| is_over(&e)) {}
            }
            Answer::AfterMs(ms) => {
                signalling.ring(call.session).await;
                let ringing = tokio::time::sleep(Duration::from_millis(ms));
                tokio::select! {
                    () = ringing => self.answer(call, scenario).await,
                    () = until_over(&mut call.events) => {}
                }
            }
        }
    }

    async fn answer(&self, call: Incoming, scenario: Scenario) {
        let signalling = &self.station.signalling;
        let Ok(media) = self.station.open_leg() else {
            signalling.reject(call.session, 503).await;
            return;
        };
        let Some(Ok((answer, agreed))) = call.sdp.as_deref().map(|offer| sdp::answer(&media.local, offer))
        else {
            media.tell(LegCommand::Stop);
            signalling.reject(call.session, 488).await;
            return;
        };
        media.set_remote(&agreed);
        media.tell(LegCommand::PauseOnSpeech(false));
        signalling.answer(call.session, answer).await;
        let voice = VoiceQueue::new(Arc::clone(&self.tts), Voice::default());
        let entry = JournalEntry {
            scenario: scenario.name.clone(),
            said: Vec::new(),
            digits: String::new(),
            heard_ms: 0,
            mailbox: None,
            message_after_beep_ms: None,
        };
        let ears = Ears { entry, speech_since: None, beep: None, beep_ended: None, recording: None };
        let line = SimulatedCall {
            shared: self,
            scenario: &scenario,
            media,
            voice,
            phone: Phone::new(scenario.clone()),
            ears,
        };
        let entry = line.run(call).await;
        if let Err(error) = append(&self.mailbox.join("journal.jsonl"), &entry) {
            tracing::error!(%error, "the journal cannot be written");
        }
    }
}

async fn until_over(events: &mut mpsc::Receiver<sip::Event>) {
    while !events.recv().await.is_none_or(|e| is_over(&e)) {}
}

const fn is_over(event: &sip::Event) -> bool {
    matches!(event, sip::Event::Cancelled { .. } | sip::Event::Ended { .. } | sip::Event::Rejected { .. })
}

fn append(path: &Path, entry: &JournalEntry) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    let line = serde_json::to_string(entry)?;
    writeln!(file, "{line}")
}

/// What the far end hears.
struct Ears {
    entry: JournalEntry,
    speech_since: Option<MediaTime>,
    /// The utterance that was a beep, while it sounds.
    beep: Option<u32>,
    beep_ended: Option<MediaTime>,
    recording: Option<Vec<i16>>,
}

impl Ears {
    fn hear(&mut self, signal: &Signal) {
        match signal.kind {
            SignalKind::SpeechStart => {
                self.speech_since = Some(signal.at);
                if let Some(beep) = self.beep_ended
                    && self.entry.message_after_beep_ms.is_none()
                {
                    self.entry.message_after_beep_ms = Some(signal.at.ms_since(beep));
                }
            }
            SignalKind::SpeechEnd => {
                if let Some(since) = self.speech_since.take() {
                    self.entry.heard_ms += signal.at.ms_since(since);
                }
            }
            SignalKind::Digit(digit) => self.entry.digits.push(digit.as_char()),
            _ => {}
        }
    }

    fn keep(&mut self, frame: &Frame) {
        if let Some(samples) = &mut self.recording
            && samples.len() < 10 * 60 * 8000
        {
            samples.extend_from_slice(frame.samples());
        }
    }
}

struct SimulatedCall<'a> {
    shared: &'a Shared,
    scenario: &'a Scenario,
    media: Media,
    voice: VoiceQueue,
    phone: Phone,
    ears: Ears,
}

impl SimulatedCall<'_> {
    async fn run(mut self, mut call: Incoming) -> JournalEntry {
        let clock = self.shared.station.clock;
        let mut up = false;
        loop {
            let wait = self.phone.poll_timeout().map_or(Duration::from_secs(1), |at| at.since(clock.now()));
            tokio::select! {
                event = call.events.recv() => match event {
                    Some(sip::Event::Acked { .. }) if !up => {
                        up = true;
                        self.phone.start(clock.now());
                    }
                    Some(event) if !is_over(&event) => {}
                    _ => break,
                },
                () = self.media.bell.notified() => self.drain_leg(up),
                chunk = self.voice.next_chunk(), if self.voice.wants_audio() => {
                    if let Some(Voiced::Failed { reason, .. }) = self.voice.handle_chunk(chunk) {
                        tracing::error!(%reason, "the simulated callee lost its voice");
                        break;
                    }
                }
                () = tokio::time::sleep(wait), if up => self.phone.handle_timeout(clock.now()),
            }
            let hung_up = self.carry_out();
            if self.voice.pump(&mut self.media.port.playout) {
                self.media.handle.wake();
            }
            if hung_up {
                break;
            }
        }
        self.shared.station.signalling.hang_up(call.session).await;
        self.drain_leg(up);
        self.media.tell(LegCommand::Stop);
        self.close_mailbox();
        self.ears.entry.said = self.phone.said().to_vec();
        if let Some(since) = self.ears.speech_since.take() {
            self.ears.entry.heard_ms += self.media.line().ms_since(since);
        }
        self.ears.entry
    }

    fn drain_leg(&mut self, up: bool) {
        let now = self.shared.station.clock.now();
        while let Some(frame) = self.media.port.heard.pop() {
            self.ears.keep(&frame);
        }
        // The simulated callee keeps no stereo recording.
        if let Some(tap) = &mut self.media.port.tap {
            while tap.pop().is_some() {}
        }
        while let Some(event) = self.media.port.events.pop() {
            match event {
                LegEvent::Signal(signal) => {
                    self.ears.hear(&signal);
                    if up {
                        self.phone.handle_signal(now, &signal);
                    }
                }
                LegEvent::PlayoutFinished { utterance, at, .. } => {
                    if self.ears.beep == Some(utterance) {
                        self.ears.beep_ended = Some(at);
                    }
                    self.phone.handle_said(now, utterance);
                }
                _ => {}
            }
        }
    }

    /// Does what the phone wants done; true when it hangs up.
    fn carry_out(&mut self) -> bool {
        while let Some(action) = self.phone.poll_action() {
            match action {
                Action::Say { utterance, text } => {
                    let samples = self.shared.lines.get(&line_key(self.scenario.pitch, &text)).cloned();
                    self.voice.play(utterance, samples.unwrap_or_default());
                }
                Action::Beep { utterance, freq_hz, ms } => {
                    let mut samples = vec![0; (ms * MediaTime::HZ / 1000) as usize];
                    Tone::new(freq_hz, -12.0, Rate::Hz8000).fill(&mut samples);
                    self.ears.beep = Some(utterance);
                    self.voice.play(utterance, samples);
                }
                Action::StopSaying { through } => {
                    self.voice.cancel(through);
                    self.media.tell(LegCommand::Cut { through });
                }
                Action::StartRecording => self.ears.recording = Some(Vec::new()),
                Action::StopRecording => self.close_mailbox(),
                Action::HangUp => return true,
            }
        }
        false
    }

    fn close_mailbox(&mut self) {
        let Some(samples) = self.ears.recording.take() else { return };
        let number = self.shared.recordings.fetch_add(1, Ordering::Relaxed) + 1;
        let path = self.shared.mailbox.join(format!("{}-{number}.wav", self.scenario.name));
        match write_wav(&path, &samples) {
            Ok(()) => self.ears.entry.mailbox = Some(path),
            Err(error) => tracing::error!(%error, "the mailbox cannot be written"),
        }
    }
}

fn write_wav(path: &Path, samples: &[i16]) -> Result<(), hound::Error> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec)?;
    samples.iter().try_for_each(|&s| writer.write_sample(s))?;
    writer.finalize()
}
