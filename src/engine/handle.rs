//! Handles to the engine and its calls.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::call::{CallConfig, CallEvent, HangupSource, Machine};
use crate::detect::VadModel;
use crate::engine::driver::Driver;
use crate::engine::recorder::Recorder;
use crate::engine::station::{Station, StationConfig};
use crate::engine::voice::VoiceQueue;
use crate::engine::{CallRequest, EngineConfig, EngineError, PlaceError};
use crate::sdp;
use crate::sip::{Credentials, Invite};

/// Events of one call that may wait for their reader.
const EVENT_QUEUE: usize = 256;
/// How long [`Engine::shutdown`] waits for living calls to end.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

/// A running engine. Cheap to clone; every clone is the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    config: EngineConfig,
    station: Arc<Station>,
    recorder: Recorder,
    calls: Mutex<HashMap<String, CallControl>>,
    recordings: AtomicU64,
    closing: AtomicBool,
    /// Rings whenever a call is finalized.
    ended: Notify,
}

impl Engine {
    /// Binds sockets and starts the media workers. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When a socket cannot be bound, a thread not started, or a setting makes no sense.
    pub async fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let vad = load_vad(config.vad_model.as_deref())?;
        let (station, mut incoming) = Station::start(StationConfig {
            sip_bind: config.sip_bind,
            public_ip: config.public_ip,
            rtp_ports: config.rtp_ports,
            media_workers: config.media_workers,
            vad,
            seed: config.seed,
        })
        .await?;
        let recorder = Recorder::start()?;
        let signalling = station.signalling.clone();
        tokio::spawn(async move {
            // This engine only places calls; whoever calls it is told so at once.
            while let Some(call) = incoming.recv().await {
                signalling.reject(call.session, 488).await;
            }
        });
        let inner = Inner {
            config,
            station,
            recorder,
            calls: Mutex::default(),
            recordings: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            ended: Notify::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Queues a call and returns at once, before dialling.
    ///
    /// # Errors
    /// When the call cannot even be queued; whatever happens later is the call's outcome.
    pub fn place(&self, request: CallRequest) -> Result<Call, PlaceError> {
        if self.inner.closing.load(Ordering::Acquire) {
            return Err(PlaceError::ShuttingDown);
        }
        let route = Route::find(&self.inner.config, request.to.reveal())?;
        let (hangups, hangup_rx) = mpsc::channel(4);
        let control = CallControl { hangups };
        let (events_tx, events) = mpsc::channel(EVENT_QUEUE);
        {
            let mut calls = self.inner.calls();
            if calls.contains_key(&request.id) {
                return Err(PlaceError::DuplicateId);
            }
            calls.insert(request.id.clone(), control.clone());
        }
        let id = request.id.clone();
        match self.inner.prepare(request, route, events_tx) {
            Ok(call) => {
                let inner = Arc::clone(&self.inner);
                tokio::spawn(async move {
                    call.dial_and_run(&inner, hangup_rx).await;
                    inner.calls().remove(&id);
                    inner.ended.notify_waiters();
                });
                Ok(Call { control, events })
            }
            Err(error) => {
                self.inner.calls().remove(&id);
                Err(error)
            }
        }
    }

    /// Calls that are not finalized.
    #[must_use]
    pub fn active_calls(&self) -> usize {
        self.inner.calls().len()
    }

    /// The address of the SIP socket.
    #[must_use]
    pub fn sip_address(&self) -> SocketAddr {
        self.inner.station.signalling.address()
    }

    /// Refuses new calls, ends the living ones with a BYE, and returns when all are finalized (at most 10 s).
    pub async fn shutdown(&self) {
        self.inner.closing.store(true, Ordering::Release);
        let controls: Vec<_> = self.inner.calls().values().cloned().collect();
        for control in controls {
            control.hang_up(HangupSource::System);
        }
        let all_ended = async {
            loop {
                let ended = self.inner.ended.notified();
                if self.active_calls() == 0 {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout(SHUTDOWN_PATIENCE, all_ended).await.is_err() {
            tracing::warn!(calls = self.active_calls(), "calls still alive at shutdown");
        }
    }
}

/// Where a destination is reached.
struct Route {
    target: String,
    from: String,
    destination: SocketAddr,
    credentials: Option<Credentials>,
}

impl Route {
    fn find(config: &EngineConfig, to: &str) -> Result<Self, PlaceError> {
        if let Some(address) = to.strip_prefix("sip:") {
            let host = address.rsplit('@').next().unwrap_or_default();
            let destination = host
                .parse()
                .or_else(|_| host.parse().map(|ip| SocketAddr::new(ip, 5060)))
                .map_err(|_| PlaceError::InvalidDestination)?;
            let from = config.trunk.as_ref().map_or("patchcord", |t| t.from.as_str());
            let from = format!("sip:{from}@{}", config.sip_bind.ip());
            return Ok(Self { target: to.to_owned(), from, destination, credentials: None });
        }
        let digits = to.strip_prefix('+').unwrap_or_default();
        if !(7..=15).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PlaceError::InvalidDestination);
        }
        let trunk = config.trunk.as_ref().ok_or(PlaceError::NoTrunk)?;
        let domain = trunk.domain.clone().unwrap_or_else(|| trunk.address.to_string());
        let credentials = trunk
            .credentials
            .as_ref()
            .map(|c| Credentials { username: c.username.clone(), password: c.password.reveal().clone() });
        Ok(Self {
            target: format!("sip:{to}@{domain}"),
            from: format!("sip:{}@{domain}", trunk.from),
            destination: trunk.address,
            credentials,
        })
    }
}

/// A call that has its leg and waits for its INVITE.
struct Prepared {
    request: CallRequest,
    route: Route,
    media: crate::engine::station::Media,
    events: mpsc::Sender<CallEvent>,
}

impl Inner {
    fn calls(&self) -> MutexGuard<'_, HashMap<String, CallControl>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare(
        &self,
        request: CallRequest,
        route: Route,
        events: mpsc::Sender<CallEvent>,
    ) -> Result<Prepared, PlaceError> {
        let media = self.station.open_leg()?;
        Ok(Prepared { request, route, media, events })
    }

    fn machine(&self, request: &CallRequest) -> Machine {
        let longest = self.config.max_call_duration;
        Machine::new(CallConfig {
            personality: request.personality.clone(),
            greeting: request.greeting.clone(),
            ring_timeout: self.config.ring_timeout,
            max_duration: request.max_duration.map_or(longest, |d| d.min(longest)),
            ..CallConfig::new(request.task.clone())
        })
    }
}

impl Prepared {
    async fn dial_and_run(self, inner: &Inner, hangups: mpsc::Receiver<HangupSource>) {
        let Self { request, route, media, events } = self;
        let invite = Invite {
            target: route.target,
            from: route.from,
            from_display: None,
            destination: route.destination,
            sdp: sdp::offer(&media.local),
            credentials: route.credentials,
            extra_headers: Vec::new(),
        };
        let signalling = inner.station.signalling.clone();
        let Some((session, dialog)) = signalling.invite(invite).await else {
            tracing::error!("the signalling task is gone; a call could not be dialled");
            return;
        };
        let backends = inner.config.backends.clone();
        // Without a recogniser the call still has to come to a clean end: the machine is told once it runs.
        let stt = match backends.stt.open(request.language.as_deref()) {
            Ok(stt) => Some(stt),
            Err(error) => Some(failed_stream(error)),
        };
        let driver = Driver {
            clock: inner.station.clock,
            machine: inner.machine(&request),
            media,
            signalling,
            session,
            dialog,
            voice: VoiceQueue::new(Arc::clone(&backends.tts), request.voice.clone()),
            backends,
            stt,
            recorder: inner.recorder.clone(),
            recording_path: request.recording,
            recording_id: inner.recordings.fetch_add(1, Ordering::Relaxed),
            events,
        };
        driver.run(hangups).await;
    }
}

/// A recognition stream whose first and last word is `error`.
fn failed_stream(error: crate::backend::BackendError) -> crate::backend::SttStream {
    let (input, _) = mpsc::channel(1);
    let (events_tx, events) = mpsc::channel(1);
    events_tx.try_send(Err(error)).expect("the channel is new and empty");
    crate::backend::SttStream { input, events }
}

/// Reads the voice-activity weights, if any are configured.
pub(super) fn load_vad(path: Option<&std::path::Path>) -> Result<VadModel, EngineError> {
    let Some(path) = path else { return Ok(VadModel::Earshot) };
    let wrong = |problem: String| EngineError::Config {
        key: "models.vad",
        problem: format!("{}: {problem}", path.display()),
    };
    let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let weights = crate::detect::SileroWeights::from_onnx(&bytes).map_err(|e| wrong(e.to_string()))?;
    Ok(VadModel::Silero(Arc::new(weights)))
}

/// A call as its placer sees it: its events in order, ending with [`CallEvent::Finalized`].
/// Dropping it does not end the call.
pub struct Call {
    control: CallControl,
    events: mpsc::Receiver<CallEvent>,
}

impl Call {
    /// The next event; `None` after [`CallEvent::Finalized`].
    pub async fn next_event(&mut self) -> Option<CallEvent> {
        self.events.recv().await
    }

    /// A cloneable handle that can end the call.
    #[must_use]
    pub fn control(&self) -> CallControl {
        self.control.clone()
    }
}

/// Ends a call from anywhere. Cheap to clone.
#[derive(Clone)]
pub struct CallControl {
    hangups: mpsc::Sender<HangupSource>,
}

impl CallControl {
    /// Ends the call: CANCEL before the answer, BYE after. Idempotent, also after the end.
    pub fn hang_up(&self, source: HangupSource) {
        // Full means that a wish to end is already under way; closed means that the call is over.
        let _ = self.hangups.try_send(source);
    }
}
