//! The settings and their defaults. Field documentation is the short form of `docs/configuration.md`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::Network;
use crate::pii::Pii;

/// Where calls go until told otherwise: the simulated far end (`patchcord sim`) on this machine.
pub const SIMULATED_TRUNK: &str = "127.0.0.1:5070";

/// The whole of `patchcord.toml`. Every section and every key is optional.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP side.
    pub server: ServerSettings,
    /// Our SIP and RTP sockets.
    pub sip: SipSettings,
    /// Where calls go out.
    pub trunk: TrunkSettings,
    /// Which numbers may be dialled.
    pub destinations: DestinationSettings,
    /// How much may be used.
    pub limits: LimitSettings,
    /// What a caller of the API may choose.
    pub agent: AgentSettings,
    /// Recognition, synthesis, language.
    pub backends: BackendSettings,
    /// Where the local models are.
    pub models: ModelSettings,
    /// The voices a call may ask for, by name.
    pub voices: BTreeMap<String, VoiceSettings>,
}

impl Default for Config {
    fn default() -> Self {
        let voice = |pitch| VoiceSettings { pitch, speed: 1.0 };
        let voices = [("jessica", 1.0), ("sarah", 1.08), ("chris", 0.94), ("eric", 0.88)];
        Self {
            server: ServerSettings::default(),
            sip: SipSettings::default(),
            trunk: TrunkSettings::default(),
            destinations: DestinationSettings::default(),
            limits: LimitSettings::default(),
            agent: AgentSettings::default(),
            backends: BackendSettings::default(),
            models: ModelSettings::default(),
            voices: voices.map(|(name, pitch)| (name.to_owned(), voice(pitch))).into(),
        }
    }
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Where HTTP is served.
    pub bind: SocketAddr,
    /// How clients reach the service; links in answers begin with it.
    pub public_url: Option<String>,
    /// Whether a request without a key may place a call; unset: only while bind and trunk are both loopback.
    pub anonymous: Option<bool>,
    /// Must hold [`super::ACKNOWLEDGEMENT`] to run anonymous calls with a real trunk and a public address.
    pub acknowledge_anonymous: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Database, recordings and the service's secret.
    pub data_dir: PathBuf,
    /// How long living calls may go on after the service was told to stop.
    pub drain_seconds: u64,
    /// How long a signed link to a recording holds.
    pub recording_link_seconds: u64,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            public_url: None,
            anonymous: None,
            acknowledge_anonymous: None,
            trusted_proxies: Vec::new(),
            data_dir: "patchcord-data".into(),
            drain_seconds: 30,
            recording_link_seconds: 900,
        }
    }
}

/// `[sip]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SipSettings {
    /// Where the SIP socket binds.
    pub bind: SocketAddr,
    /// Our address as the far end sees it.
    pub public_ip: Option<IpAddr>,
    /// First and last UDP port for RTP; unset: the system chooses.
    pub rtp_ports: Option<[u16; 2]>,
    /// Media worker threads.
    pub media_workers: usize,
    /// How long an unanswered call rings.
    pub ring_seconds: u64,
}

impl Default for SipSettings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            public_ip: None,
            rtp_ports: None,
            media_workers: 1,
            ring_seconds: 45,
        }
    }
}

/// `[trunk]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrunkSettings {
    /// Host and port of the trunk.
    pub address: String,
    /// Host part of request URIs.
    pub domain: Option<String>,
    /// The number calls come from.
    pub from: Option<String>,
    /// Digest user.
    pub username: Option<String>,
    /// Digest password.
    pub password: Option<Pii<String>>,
    /// Environment variable that holds the digest password.
    pub password_env: Option<String>,
}

impl Default for TrunkSettings {
    fn default() -> Self {
        Self {
            address: SIMULATED_TRUNK.into(),
            domain: None,
            from: None,
            username: None,
            password: None,
            password_env: None,
        }
    }
}

/// `[destinations]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DestinationSettings {
    /// Numbers must begin with one of these.
    pub allowed_prefixes: Vec<String>,
    /// NANP area codes that are never dialled.
    pub blocked_area_codes: Vec<String>,
}

impl Default for DestinationSettings {
    fn default() -> Self {
        Self { allowed_prefixes: vec!["+1".into()], blocked_area_codes: vec!["900".into(), "976".into()] }
    }
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Living calls of the whole service.
    pub concurrent_calls: usize,
    /// Living calls of one key.
    pub concurrent_calls_per_key: usize,
    /// Calls a key may make on trial.
    pub trial_calls: u32,
    /// Minutes a key may talk on trial; the trial ends when both are used up.
    pub trial_minutes: u32,
    /// Where a person can do something about a used-up trial.
    pub trial_action_url: Option<String>,
    /// Calls an hour by anonymous keys from one network address.
    pub anonymous_calls_per_hour: u32,
    /// Calls an hour to one number, by whomever.
    pub calls_per_number_per_hour: u32,
    /// The longest a call may last from its answer.
    pub max_call_seconds: u64,
    /// The largest request body.
    pub body_bytes: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            concurrent_calls: 20,
            concurrent_calls_per_key: 3,
            trial_calls: 30,
            trial_minutes: 30,
            trial_action_url: None,
            anonymous_calls_per_hour: 10,
            calls_per_number_per_hour: 6,
            max_call_seconds: 1800,
            body_bytes: 65_536,
        }
    }
}

/// `[agent]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentSettings {
    /// The voice of a call that does not ask for one.
    pub default_voice: String,
    /// Languages the recogniser and the voices can do, as primary tags; the first is the default.
    pub languages: Vec<String>,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self { default_voice: "jessica".into(), languages: vec!["en".into()] }
    }
}

/// `[backends]`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackendSettings {
    /// Recogniser.
    pub stt: SttKind,
    /// Synthesiser.
    pub tts: TtsKind,
    /// Language model.
    pub llm: LlmKind,
    /// Needed when `llm` is `openai`.
    pub openai: Option<OpenAiSettings>,
}

/// Which recogniser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SttKind {
    /// Whisper tiny.en in this process.
    #[default]
    Local,
}

/// Which synthesiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TtsKind {
    /// Piper en_US-joe in this process.
    #[default]
    Local,
}

/// Which language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LlmKind {
    /// A small fixed dialogue policy; no model at all.
    #[default]
    Scripted,
    /// Any server that speaks OpenAI's chat completions.
    Openai,
}

/// `[backends.openai]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAiSettings {
    /// Up to and including `/v1`.
    pub base_url: String,
    /// The model's name.
    pub model: String,
    /// Environment variable that holds the API key; unset: no key is sent.
    pub api_key_env: Option<String>,
}

/// `[models]`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// Folder of the local models; unset: the user's cache folder.
    pub dir: Option<PathBuf>,
    /// Folder with the recogniser's files instead of the cache's.
    pub whisper: Option<PathBuf>,
    /// Folder with the voice's files instead of the cache's.
    pub piper: Option<PathBuf>,
    /// Folder with the pronouncing dictionary instead of the cache's.
    pub cmudict: Option<PathBuf>,
    /// Folder with the voice-activity weights instead of the cache's.
    pub silero: Option<PathBuf>,
}

/// `[voices.NAME]`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VoiceSettings {
    /// Pitch factor, 1 for the voice as it is.
    pub pitch: f32,
    /// Speed factor, 1 for the voice as it is.
    pub speed: f32,
}

impl Default for VoiceSettings {
    fn default() -> Self {
        Self { pitch: 1.0, speed: 1.0 }
    }
}
