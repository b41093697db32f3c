//! What an engine and a call are made of.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{LanguageModel, SpeechToText, TextToSpeech, Voice};
use crate::pii::Pii;

/// Everything an [`crate::engine::Engine`] needs to start.
#[derive(Clone)]
pub struct EngineConfig {
    /// Where the SIP socket binds, e.g. `127.0.0.1:0`.
    pub sip_bind: SocketAddr,
    /// Address put into Contact, Via and SDP; the bound address unless behind NAT.
    pub public_ip: Option<IpAddr>,
    /// First and last UDP port for RTP (even ports are used); `None` lets the system choose.
    pub rtp_ports: Option<(u16, u16)>,
    /// Media worker threads.
    pub media_workers: usize,
    /// Where calls go out.
    pub trunk: Option<TrunkConfig>,
    /// Speech and language.
    pub backends: Backends,
    /// Weights of the voice-activity network (`silero_vad.onnx`); without them a built-in detector is used.
    pub vad_model: Option<PathBuf>,
    /// How long an unanswered call rings.
    pub ring_timeout: Duration,
    /// The longest any call may last from its answer; a request may ask for less.
    pub max_call_duration: Duration,
    /// Seed for every identifier; `None` takes the system's randomness.
    pub seed: Option<[u8; 32]>,
}

/// The backends a call uses unless told otherwise.
#[derive(Clone)]
pub struct Backends {
    /// Recogniser.
    pub stt: Arc<dyn SpeechToText>,
    /// Synthesiser.
    pub tts: Arc<dyn TextToSpeech>,
    /// Language model.
    pub llm: Arc<dyn LanguageModel>,
}

/// A SIP trunk.
#[derive(Clone, Debug)]
pub struct TrunkConfig {
    /// Where requests are sent.
    pub address: SocketAddr,
    /// Host part of request URIs; the address unless told otherwise.
    pub domain: Option<String>,
    /// The number or user calls come from.
    pub from: String,
    /// Digest credentials, if the trunk challenges.
    pub credentials: Option<DigestCredentials>,
}

/// User and password for digest authentication (RFC 7616).
#[derive(Clone, Debug)]
pub struct DigestCredentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Pii<String>,
}

/// One call to place.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// The caller's identifier for the call; unique among living calls.
    pub id: String,
    /// An E.164 number (dialled through the trunk) or a `sip:` URI.
    pub to: Pii<String>,
    /// What the agent should do, in plain words.
    pub task: Pii<String>,
    /// Voice for the agent.
    pub voice: Voice,
    /// A style wish for the agent.
    pub personality: Option<String>,
    /// Spoken after the disclosure.
    pub greeting: Option<String>,
    /// Language of the call, e.g. `en`.
    pub language: Option<String>,
    /// The longest the call may last from its answer.
    pub max_duration: Option<Duration>,
    /// Where to write the stereo recording, if it is wanted.
    pub recording: Option<PathBuf>,
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A socket could not be bound.
    #[error("cannot bind {what} to {address}: {source}")]
    Bind {
        /// Which socket.
        what: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// The system's word.
        source: std::io::Error,
    },
    /// A setting makes no sense.
    #[error("setting `{key}`: {problem}")]
    Config {
        /// The setting.
        key: &'static str,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A thread could not be started.
    #[error("cannot start {what}: {source}")]
    Thread {
        /// Which thread.
        what: &'static str,
        /// The system's word.
        source: std::io::Error,
    },
}

/// Why a call could not even be queued.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaceError {
    /// No trunk is configured, and the destination is not a SIP URI.
    #[error("no trunk is configured, so a number cannot be dialled")]
    NoTrunk,
    /// The destination is neither a number nor a SIP URI.
    #[error("the destination is neither an E.164 number nor a sip: URI")]
    InvalidDestination,
    /// A living call has this identifier.
    #[error("a call with this identifier is already running")]
    DuplicateId,
    /// The engine is shutting down.
    #[error("the engine is shutting down")]
    ShuttingDown,
    /// Every media port is in use.
    #[error("no media port is free")]
    NoMediaPort,
}
