//! From settings to what the engine is given.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use super::{Config, ConfigError};
use crate::backend::Voice;
use crate::engine::{Backends, DigestCredentials, EngineConfig, TrunkConfig};
use crate::pii::Pii;

/// The number calls seem to come from while the trunk is simulated; 555-01XX is reserved for fiction.
const SIMULATED_FROM: &str = "+12025550100";

impl Config {
    /// The engine's configuration, with these backends and these voice-activity weights.
    ///
    /// # Errors
    /// When the trunk's host does not resolve, or its password's environment variable is not set.
    pub fn engine(
        &self,
        backends: Backends,
        vad_model: Option<PathBuf>,
    ) -> Result<EngineConfig, ConfigError> {
        Ok(EngineConfig {
            sip_bind: self.sip.bind,
            public_ip: self.sip.public_ip,
            rtp_ports: self.sip.rtp_ports.map(|[first, last]| (first, last)),
            media_workers: self.sip.media_workers,
            trunk: Some(self.trunk()?),
            backends,
            vad_model,
            ring_timeout: Duration::from_secs(self.sip.ring_seconds),
            max_call_duration: Duration::from_secs(self.limits.max_call_seconds),
            seed: None,
        })
    }

    /// The trunk, its host resolved and its password fetched.
    ///
    /// # Errors
    /// When the host does not resolve, or the password's environment variable is not set.
    pub fn trunk(&self) -> Result<TrunkConfig, ConfigError> {
        let settings = &self.trunk;
        let address = resolve(&settings.address)?;
        let host = settings.address.rsplit_once(':').map(|(host, _)| host);
        let named = host.filter(|_| settings.address.parse::<SocketAddr>().is_err());
        let password = match (&settings.password, &settings.password_env) {
            (Some(password), _) => Some(password.clone()),
            (None, Some(variable)) => Some(Pii::new(std::env::var(variable).map_err(|_| {
                let problem =
                    format!("the environment variable `{variable}` is not set; expected the password");
                ConfigError::new("trunk.password_env", problem)
            })?)),
            (None, None) => None,
        };
        let credentials = settings
            .username
            .clone()
            .zip(password)
            .map(|(username, password)| DigestCredentials { username, password });
        Ok(TrunkConfig {
            address,
            domain: settings.domain.clone().or_else(|| named.map(str::to_owned)),
            from: self.outbound_number().to_owned(),
            credentials,
        })
    }

    /// The number calls come from.
    pub(in crate::server) fn outbound_number(&self) -> &str {
        self.trunk.from.as_deref().unwrap_or(SIMULATED_FROM)
    }

    /// The configured voice of this name.
    pub(in crate::server) fn voice(&self, name: &str) -> Option<Voice> {
        let voice = self.voices.get(name)?;
        Some(Voice { name: name.to_owned(), pitch: voice.pitch, speed: voice.speed })
    }
}

fn resolve(address: &str) -> Result<SocketAddr, ConfigError> {
    let mut found = address.to_socket_addrs().map_err(|e| {
        ConfigError::new(
            "trunk.address",
            format!("`{address}` does not resolve: {e}; expected a host and port"),
        )
    })?;
    found.next().ok_or_else(|| ConfigError::new("trunk.address", format!("`{address}` has no address")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::agent::{Delta, Request};
    use crate::backend::{BackendError, LanguageModel, SpeechToText, SttStream, TextToSpeech, TtsStream};

    struct Nothing;

    const NOTHING: BackendError = BackendError::Unavailable { backend: "nothing", reason: String::new() };

    impl SpeechToText for Nothing {
        fn open(&self, _: Option<&str>) -> Result<SttStream, BackendError> {
            Err(NOTHING)
        }
    }

    impl TextToSpeech for Nothing {
        fn speak(&self, _: &Voice) -> Result<TtsStream, BackendError> {
            Err(NOTHING)
        }
    }

    impl LanguageModel for Nothing {
        fn complete(&self, _: Request) -> Result<mpsc::Receiver<Result<Delta, BackendError>>, BackendError> {
            Err(NOTHING)
        }
    }

    fn engine(text: &str) -> Result<EngineConfig, ConfigError> {
        let nothing = Arc::new(Nothing);
        let backends = Backends { stt: nothing.clone(), tts: nothing.clone(), llm: nothing };
        Config::parse(text, Path::new("patchcord.toml"))?.engine(backends, None)
    }

    #[test]
    fn every_setting_of_the_engine_arrives() {
        let config = engine(
            "[sip]\nbind = \"0.0.0.0:5060\"\npublic_ip = \"198.51.100.1\"\nrtp_ports = [10000, 10100]\n\
             media_workers = 3\nring_seconds = 20\n[limits]\nmax_call_seconds = 77\n\
             [trunk]\naddress = \"203.0.113.5:5066\"\ndomain = \"sip.example\"\nfrom = \"+12025550111\"\n\
             username = \"u\"\npassword = \"p\"\n",
        )
        .expect("valid");
        assert_eq!(config.sip_bind.to_string(), "0.0.0.0:5060");
        assert_eq!(config.public_ip, Some("198.51.100.1".parse().expect("an address")));
        assert_eq!(config.rtp_ports, Some((10000, 10100)));
        assert_eq!(config.media_workers, 3);
        assert_eq!(config.ring_timeout, Duration::from_secs(20));
        assert_eq!(config.max_call_duration, Duration::from_secs(77));
        let trunk = config.trunk.expect("a trunk");
        assert_eq!(trunk.address.to_string(), "203.0.113.5:5066");
        assert_eq!(trunk.domain.as_deref(), Some("sip.example"));
        assert_eq!(trunk.from, "+12025550111");
        let credentials = trunk.credentials.expect("credentials");
        assert_eq!((credentials.username.as_str(), credentials.password.reveal().as_str()), ("u", "p"));
    }

    #[test]
    fn a_named_trunk_gives_its_name_to_request_uris() {
        let trunk = engine("[trunk]\naddress = \"localhost:5070\"\n").expect("valid").trunk.expect("a trunk");
        assert_eq!(trunk.domain.as_deref(), Some("localhost"));
        assert!(trunk.address.ip().is_loopback());
        assert_eq!(engine("").expect("valid").trunk.expect("a trunk").domain, None);
    }

    #[test]
    fn a_password_comes_from_the_environment_or_is_missed_by_name() {
        let text = "[trunk]\nusername = \"u\"\npassword_env = \"PATH\"\n";
        let credentials =
            engine(text).expect("valid").trunk.and_then(|t| t.credentials).expect("credentials");
        assert_eq!(Some(credentials.password.reveal().clone()), std::env::var("PATH").ok());
        let text = "[trunk]\nusername = \"u\"\npassword_env = \"NO_SUCH_VARIABLE_HERE\"\n";
        let Err(error) = engine(text) else { panic!("refused") };
        assert_eq!(error.key, "trunk.password_env");
        assert!(error.problem.contains("NO_SUCH_VARIABLE_HERE"));
    }

    #[test]
    fn a_voice_has_its_configured_pitch_and_speed() {
        let text = "[agent]\ndefault_voice = \"anna\"\n[voices.anna]\npitch = 1.2\nspeed = 0.9\n";
        let config = Config::parse(text, Path::new("patchcord.toml")).expect("valid");
        let anna = Voice { name: "anna".into(), pitch: 1.2, speed: 0.9 };
        assert_eq!(config.voice("anna"), Some(anna));
        assert_eq!(config.voice("jessica"), None, "a written list replaces the default one");
    }
}
