//! What an engine and a simulated callee have in common: a SIP socket, media workers, free ports, and the bells that
//! wake async tasks when their leg has news.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, mpsc};

use crate::call::port::{LegCommand, RemoteMedia};
use crate::call::{LegConfig, LegPort, leg};
use crate::detect::{Chain, ChainConfig, VadModel};
use crate::engine::signalling::{Incoming, Signalling};
use crate::engine::{EngineError, PlaceError};
use crate::media::{Clock, LegHandle, MediaConfig, MediaError, Workers};
use crate::rtp::{SessionConfig, rtcp};
use crate::sdp::{Codec, LocalMedia, Negotiated};
use crate::seed::Ids;
use crate::time::{Instant, MediaTime};

/// Payload type we offer for telephone-events (RFC 4733), the customary one.
const EVENT_PAYLOAD_TYPE: u8 = 101;
/// Times a port from the configured range is tried before giving up.
const PORT_TRIES: u32 = 64;

pub(super) struct StationConfig {
    pub(super) sip_bind: SocketAddr,
    pub(super) public_ip: Option<IpAddr>,
    pub(super) rtp_ports: Option<(u16, u16)>,
    pub(super) media_workers: usize,
    pub(super) vad: VadModel,
    pub(super) seed: Option<[u8; 32]>,
}

pub(super) struct Station {
    pub(super) clock: Clock,
    pub(super) signalling: Signalling,
    workers: Workers,
    bells: Bells,
    ids: Mutex<Ids>,
    bind_ip: IpAddr,
    rtp_ports: Option<(u16, u16)>,
    next_port: AtomicU16,
    vad: VadModel,
    /// NTP time of the clock's zero, for sender reports.
    ntp_epoch: u64,
}

impl Station {
    pub(super) async fn start(
        config: StationConfig,
    ) -> Result<(Arc<Self>, mpsc::Receiver<Incoming>), EngineError> {
        if let Some((first, last)) = config.rtp_ports
            && (first % 2 != 0 || last <= first)
        {
            let problem = format!("{first}-{last}: expected an even first port and a higher last one");
            return Err(EngineError::Config { key: "sip.rtp_ports", problem });
        }
        if config.media_workers == 0 || config.media_workers > 256 {
            let problem = format!("{}: expected 1 to 256", config.media_workers);
            return Err(EngineError::Config { key: "media.workers", problem });
        }
        let mut ids = Ids::from_seed(config.seed.unwrap_or_else(system_seed));
        let clock = Clock::new();
        let ntp_epoch = rtcp::ntp_from_unix_nanos(unix_nanos());
        let bind = config.sip_bind;
        let (signalling, incoming) = Signalling::start(bind, config.public_ip, clock, ids.fork()).await?;
        let workers =
            Workers::start(MediaConfig { workers: config.media_workers, clock, ..MediaConfig::default() })
                .map_err(|source| EngineError::Thread { what: "the media workers", source })?;
        let bells = Bells::default();
        for doorbell in
            workers.doorbells().map_err(|source| EngineError::Thread { what: "a doorbell", source })?
        {
            bells.listen(doorbell).map_err(|source| EngineError::Thread { what: "a doorbell", source })?;
        }
        let next_port = AtomicU16::new(config.rtp_ports.map_or(0, |(first, _)| first));
        let (bind_ip, rtp_ports, vad) = (bind.ip(), config.rtp_ports, config.vad);
        let station = Self {
            clock,
            signalling,
            workers,
            bells,
            ids: Mutex::new(ids),
            bind_ip,
            rtp_ports,
            next_port,
            vad,
            ntp_epoch,
        };
        Ok((Arc::new(station), incoming))
    }

    /// Opens a leg: sockets bound, detectors ready, running on a worker, no remote yet.
    pub(super) fn open_leg(&self) -> Result<Media, PlaceError> {
        let (rtp, rtcp) = self.bind_pair().ok_or(PlaceError::NoMediaPort)?;
        let port = rtp.local_addr().map_err(|_| PlaceError::NoMediaPort)?.port();
        let epoch = self.clock.now();
        let (session, session_id) = {
            let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
            (session_config(&mut ids, self.ntp_epoch), ids.next_u64() >> 2)
        };
        let chain = Chain::new(&ChainConfig { vad: self.vad.clone() });
        let (leg, legport) = leg(LegConfig {
            epoch,
            session,
            codec: Codec::Pcmu,
            payload_type: 0,
            event_payload_type: Some(EVENT_PAYLOAD_TYPE),
            remote: None,
            remote_rtcp: None,
            listener: Box::new(chain),
            tap: true,
        });
        let handle = self.workers.add_leg(rtp, rtcp, leg).map_err(|_| PlaceError::NoMediaPort)?;
        let bell = self.bells.register(handle.clone());
        let local = LocalMedia {
            address: self.signalling.address().ip(),
            port,
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            telephone_event: Some(EVENT_PAYLOAD_TYPE),
            session_id,
            ptime_ms: 20,
        };
        Ok(Media { epoch, clock: self.clock, handle, port: legport, bell, local })
    }

    /// An RTP socket and, where its neighbour is free, the RTCP socket on the next port.
    fn bind_pair(&self) -> Option<(UdpSocket, Option<UdpSocket>)> {
        let Some((first, last)) = self.rtp_ports else {
            let rtp = UdpSocket::bind((self.bind_ip, 0)).ok()?;
            let next = rtp.local_addr().ok()?.port().checked_add(1)?;
            return Some((rtp, UdpSocket::bind((self.bind_ip, next)).ok()));
        };
        let pairs = (last - first) / 2 + 1;
        (0..PORT_TRIES.min(u32::from(pairs))).find_map(|_| {
            let n = self.next_port.fetch_add(2, Ordering::Relaxed).wrapping_sub(first) / 2 % pairs;
            let port = first + 2 * n;
            let rtp = UdpSocket::bind((self.bind_ip, port)).ok()?;
            Some((rtp, UdpSocket::bind((self.bind_ip, port + 1)).ok()))
        })
    }
}

/// One leg as its call holds it.
pub(super) struct Media {
    pub(super) epoch: Instant,
    clock: Clock,
    pub(super) handle: LegHandle,
    pub(super) port: LegPort,
    pub(super) bell: Arc<Notify>,
    pub(super) local: LocalMedia,
}

impl Media {
    /// Now, on the leg's timeline.
    pub(super) fn line(&self) -> MediaTime {
        MediaTime::from_duration(self.clock.now().since(self.epoch))
    }

    /// Tells the leg something. A leg that is over needs telling nothing.
    pub(super) fn tell(&self, command: LegCommand) {
        if let Err(error @ MediaError::CommandsFull) = self.handle.command(command) {
            tracing::error!(%error, "a media worker is stuck");
        }
    }

    /// Tells the leg what the session descriptions agreed on.
    pub(super) fn set_remote(&self, agreed: &Negotiated) {
        self.tell(LegCommand::SetRemote(RemoteMedia {
            addr: agreed.remote,
            rtcp: Some(agreed.remote_rtcp),
            codec: agreed.codec,
            payload_type: agreed.payload_type,
            event_payload_type: agreed.event_payload_type,
        }));
    }
}

/// Wakes each leg's task when its worker rang and the leg has news.
#[derive(Clone, Default)]
struct Bells {
    legs: Arc<Mutex<Vec<Listed>>>,
}

/// A leg, and the task that waits for its news.
struct Listed {
    leg: LegHandle,
    bell: Weak<Notify>,
}

impl Bells {
    fn register(&self, leg: LegHandle) -> Arc<Notify> {
        let bell = Arc::new(Notify::new());
        self.legs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Listed { leg, bell: Arc::downgrade(&bell) });
        bell
    }

    /// One task per worker: each byte from its doorbell means that some leg has news.
    fn listen(&self, doorbell: UnixStream) -> std::io::Result<()> {
        doorbell.set_nonblocking(true)?;
        let doorbell = tokio::net::UnixStream::from_std(doorbell)?;
        let bells = self.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            loop {
                if doorbell.readable().await.is_err() {
                    return;
                }
                match doorbell.try_read(&mut buffer) {
                    Ok(0) => return,
                    Ok(_) => bells.ring(),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        });
        Ok(())
    }

    fn ring(&self) {
        let mut legs = self.legs.lock().unwrap_or_else(PoisonError::into_inner);
        legs.retain(|Listed { leg, bell }| match bell.upgrade() {
            Some(bell) => {
                if leg.take_rung() {
                    bell.notify_one();
                }
                true
            }
            None => false,
        });
    }
}

/// 256 bits from the operating system: where every identifier of a process begins.
#[expect(clippy::disallowed_methods, reason = "the edge where randomness enters")]
fn system_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the operating system has randomness");
    seed
}

/// Wall-clock time, once, to date sender reports [ns since 1970].
#[expect(clippy::disallowed_methods, reason = "the edge where wall-clock time enters")]
fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Random numbers for a new RTP session (RFC 3550 §5.1, RFC 7022 §4.2).
fn session_config(ids: &mut Ids, ntp_epoch: u64) -> SessionConfig {
    let mut cname = [0; 16];
    cname.copy_from_slice(ids.token().as_bytes());
    SessionConfig {
        ssrc: ids.next_u32(),
        sequence: ids.next_u32() as u16,
        timestamp: ids.next_u32(),
        clock_hz: 8000,
        cname,
        ntp_epoch,
    }
}
