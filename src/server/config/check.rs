//! What the settings must satisfy together, above all: closed until told otherwise.

use std::net::{IpAddr, ToSocketAddrs as _};

use super::settings::{Config, LlmKind};
use super::{ConfigError, locate};
use crate::server::phone;

/// What `server.acknowledge_anonymous` must say.
pub const ACKNOWLEDGEMENT: &str = "strangers may place calls through my trunk";

/// The longest a call may be allowed to last (s).
const MAX_CALL_SECONDS: u64 = 4 * 3600;

impl Config {
    /// Checks everything that the file's form does not.
    ///
    /// # Errors
    /// The first setting that is wrong or missing.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_server()?;
        self.check_sip()?;
        self.check_trunk()?;
        self.check_destinations()?;
        self.check_limits()?;
        self.check_agent()?;
        self.check_exposure()
    }

    /// Whether a request without a key may place a call.
    #[must_use]
    pub fn anonymous(&self) -> bool {
        self.server.anonymous.unwrap_or_else(|| !self.is_public() && !self.has_real_trunk())
    }

    /// Whether strangers can reach the service: by its own socket, through a proxy, or under a public name.
    fn is_public(&self) -> bool {
        let loopback_name = |url: &str| host_of(url).is_some_and(is_loopback_host);
        !self.server.bind.ip().to_canonical().is_loopback()
            || !self.server.trusted_proxies.is_empty()
            || self.server.public_url.as_deref().is_some_and(|url| !loopback_name(url))
    }

    /// Whether calls leave this machine.
    fn has_real_trunk(&self) -> bool {
        let host = self.trunk.address.rsplit_once(':').map_or(self.trunk.address.as_str(), |(host, _)| host);
        !is_loopback_host(host)
    }

    fn check_server(&self) -> Result<(), ConfigError> {
        if let Some(url) = &self.server.public_url
            && (host_of(url).is_none() || url.ends_with('/'))
        {
            let problem = "expected `http://` or `https://`, a host and no slash at the end";
            return Err(ConfigError::new("server.public_url", problem));
        }
        within("server.recording_link_seconds", self.server.recording_link_seconds, 1, 7 * 86_400)?;
        within("server.drain_seconds", self.server.drain_seconds, 0, 3600)
    }

    fn check_sip(&self) -> Result<(), ConfigError> {
        if let Some([first, last]) = self.sip.rtp_ports
            && (first < 1024 || last < first.saturating_add(3))
        {
            let problem = "expected a first port of 1024 or above and a last port at least 3 above it";
            return Err(ConfigError::new("sip.rtp_ports", problem));
        }
        if self.sip.bind.ip().is_loopback() && self.has_real_trunk() {
            let problem = "is loopback, from where the trunk cannot be reached; expected an outside address, \
                           e.g. `0.0.0.0:5060`";
            return Err(ConfigError::new("sip.bind", problem));
        }
        within("sip.media_workers", self.sip.media_workers as u64, 1, 256)?;
        within("sip.ring_seconds", self.sip.ring_seconds, 1, 300)
    }

    fn check_trunk(&self) -> Result<(), ConfigError> {
        let trunk = &self.trunk;
        let port = trunk.address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|p| p == 0) {
            let problem = "expected a host and a port such as `sip.example.com:5060`";
            return Err(ConfigError::new("trunk.address", problem));
        }
        match &trunk.from {
            None if self.has_real_trunk() => {
                let problem = "is missing; expected the number your provider gave you, in E.164";
                return Err(ConfigError::new("trunk.from", problem));
            }
            Some(from) => {
                phone::valid(from).map_err(|e| ConfigError::new("trunk.from", format!("{e}")))?;
            }
            None => {}
        }
        let password = trunk.password.is_some() || trunk.password_env.is_some();
        match (&trunk.username, password) {
            (Some(_), false) => {
                Err(ConfigError::new("trunk.password_env", "is missing; expected it beside `trunk.username`"))
            }
            (None, true) => {
                Err(ConfigError::new("trunk.username", "is missing; expected it beside the password"))
            }
            _ if trunk.password.is_some() && trunk.password_env.is_some() => {
                Err(ConfigError::new("trunk.password", "expected either this or `trunk.password_env`"))
            }
            _ => Ok(()),
        }
    }

    fn check_destinations(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, value: &str| {
            let form = locate::expected(key).unwrap_or_default();
            ConfigError::new(key, format!("`{value}` is not one; expected {form}"))
        };
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        for prefix in &self.destinations.allowed_prefixes {
            if !prefix.strip_prefix('+').is_some_and(digits) {
                return Err(wrong("destinations.allowed_prefixes", prefix));
            }
        }
        for code in &self.destinations.blocked_area_codes {
            if code.len() != 3 || !digits(code) {
                return Err(wrong("destinations.blocked_area_codes", code));
            }
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        within("limits.concurrent_calls", limits.concurrent_calls as u64, 1, 100_000)?;
        within("limits.concurrent_calls_per_key", limits.concurrent_calls_per_key as u64, 1, 100_000)?;
        for (key, calls) in [
            ("limits.anonymous_calls_per_hour", limits.anonymous_calls_per_hour),
            ("limits.calls_per_number_per_hour", limits.calls_per_number_per_hour),
        ] {
            within(key, calls.into(), 1, 1_000_000)?;
        }
        within("limits.max_call_seconds", limits.max_call_seconds, 1, MAX_CALL_SECONDS)?;
        within("limits.body_bytes", limits.body_bytes as u64, 1024, 16 << 20)
    }

    fn check_agent(&self) -> Result<(), ConfigError> {
        let names = || self.voices.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        if !self.voices.contains_key(&self.agent.default_voice) {
            let problem = format!("is no configured voice; expected one of {}", names());
            return Err(ConfigError::new("agent.default_voice", problem));
        }
        if self.agent.languages.is_empty() {
            return Err(ConfigError::new("agent.languages", "expected at least one tag such as `en`"));
        }
        for (name, voice) in &self.voices {
            for (key, factor) in [("pitch", voice.pitch), ("speed", voice.speed)] {
                if !(0.5..=2.0).contains(&factor) {
                    let problem = format!("{factor} is too far from 1; expected 0.5 to 2");
                    return Err(ConfigError::new(format!("voices.{name}.{key}"), problem));
                }
            }
        }
        match (&self.backends.openai, self.backends.llm) {
            (None, LlmKind::Openai) => {
                let problem = "is missing; expected `base_url` and `model`, since `backends.llm` is `openai`";
                Err(ConfigError::new("backends.openai", problem))
            }
            (Some(openai), _) if host_of(&openai.base_url).is_none() => {
                let problem = "expected a URL such as `http://127.0.0.1:8000/v1`";
                Err(ConfigError::new("backends.openai.base_url", problem))
            }
            _ => Ok(()),
        }
    }

    fn check_exposure(&self) -> Result<(), ConfigError> {
        let exposed = self.anonymous() && self.is_public() && self.has_real_trunk();
        if !exposed || self.server.acknowledge_anonymous.as_deref() == Some(ACKNOWLEDGEMENT) {
            return Ok(());
        }
        let problem = format!(
            "anonymous calls are on, the service has a public address, and the trunk is real: anyone could \
             dial at your expense. Expected `anonymous = false`, or, in so many words, \
             `acknowledge_anonymous = \"{ACKNOWLEDGEMENT}\"`"
        );
        Err(ConfigError::new("server.anonymous", problem))
    }
}

fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(key, format!("{value} is out of range; expected {least} to {most}")))
}

/// The host of an HTTP URL.
fn host_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let authority = rest.split(['/', '?', '#']).next().filter(|a| !a.is_empty() && !a.contains('@'))?;
    match authority.rfind(']') {
        Some(end) => Some(&authority[..=end]),
        None => authority.split(':').next(),
    }
}

/// Whether a host is this machine. A name counts only if every address it resolves to does.
fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return ip.to_canonical().is_loopback();
    }
    bare.eq_ignore_ascii_case("localhost")
        && (bare, 0)
            .to_socket_addrs()
            .is_ok_and(|mut all| all.all(|address| address.ip().to_canonical().is_loopback()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const REAL_TRUNK: &str = "[sip]\nbind = \"0.0.0.0:5060\"\n[trunk]\naddress = \"203.0.113.5:5060\"\n\
                              from = \"+12025550100\"\n";

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("patchcord.toml"))
    }

    fn wrong_key(text: &str) -> String {
        parse(text).expect_err("refused").key
    }

    #[test]
    fn anonymous_calls_need_an_acknowledgement_on_a_public_address_with_a_real_trunk() {
        let public = [
            "bind = \"0.0.0.0:80\"",
            "trusted_proxies = [\"127.0.0.1\"]",
            "public_url = \"https://a.example\"",
        ];
        for line in public {
            let text = format!("{REAL_TRUNK}[server]\n{line}\nanonymous = true\n");
            assert_eq!(wrong_key(&text), "server.anonymous", "{line}");
            assert_eq!(wrong_key(&format!("{text}acknowledge_anonymous = \"yes\"\n")), "server.anonymous");
            let text = format!("{text}acknowledge_anonymous = \"{ACKNOWLEDGEMENT}\"\n");
            assert!(parse(&text).expect("acknowledged").anonymous());
        }
    }

    #[test]
    fn anonymous_calls_are_on_by_default_only_where_they_reach_nobody() {
        assert!(parse("").expect("defaults").anonymous());
        assert!(!parse(REAL_TRUNK).expect("valid").anonymous());
        assert!(!parse("[server]\nbind = \"0.0.0.0:80\"\n").expect("valid").anonymous());
        assert!(!parse("[server]\nbind = \"[::]:80\"\n").expect("valid").anonymous());
        assert!(!parse("[server]\nanonymous = false\n").expect("valid").anonymous());
        let text = "[server]\nbind = \"0.0.0.0:80\"\nanonymous = true\n";
        assert!(parse(text).expect("the trunk is simulated").anonymous());
        let text = format!("{REAL_TRUNK}[server]\nanonymous = true\n");
        assert!(parse(&text).expect("the address is loopback").anonymous());
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let cases = [
            ("[server]\npublic_url = \"a.example\"", "server.public_url"),
            ("[server]\npublic_url = \"https://a.example/\"", "server.public_url"),
            ("[server]\nrecording_link_seconds = 0", "server.recording_link_seconds"),
            ("[server]\ndrain_seconds = 9999", "server.drain_seconds"),
            ("[sip]\nrtp_ports = [20000, 10000]", "sip.rtp_ports"),
            ("[sip]\nmedia_workers = 0", "sip.media_workers"),
            ("[sip]\nring_seconds = 0", "sip.ring_seconds"),
            ("[trunk]\naddress = \"localhost\"", "trunk.address"),
            ("[trunk]\naddress = \"203.0.113.5:5060\"\nfrom = \"+12025550100\"", "sip.bind"),
            ("[sip]\nbind = \"0.0.0.0:0\"\n[trunk]\naddress = \"203.0.113.5:5060\"", "trunk.from"),
            ("[trunk]\nfrom = \"me\"", "trunk.from"),
            ("[trunk]\nusername = \"u\"", "trunk.password_env"),
            ("[trunk]\npassword = \"p\"", "trunk.username"),
            ("[trunk]\nusername = \"u\"\npassword = \"p\"\npassword_env = \"P\"", "trunk.password"),
            ("[destinations]\nallowed_prefixes = [\"1\"]", "destinations.allowed_prefixes"),
            ("[destinations]\nblocked_area_codes = [\"90\"]", "destinations.blocked_area_codes"),
            ("[limits]\nconcurrent_calls = 0", "limits.concurrent_calls"),
            ("[limits]\nconcurrent_calls_per_key = 0", "limits.concurrent_calls_per_key"),
            ("[limits]\nanonymous_calls_per_hour = 0", "limits.anonymous_calls_per_hour"),
            ("[limits]\ncalls_per_number_per_hour = 0", "limits.calls_per_number_per_hour"),
            ("[limits]\nmax_call_seconds = 0", "limits.max_call_seconds"),
            ("[limits]\nbody_bytes = 1", "limits.body_bytes"),
            ("[agent]\ndefault_voice = \"nobody\"", "agent.default_voice"),
            ("[agent]\nlanguages = []", "agent.languages"),
            ("[voices.jessica]\npitch = 9.0", "voices.jessica.pitch"),
            ("[backends]\nllm = \"openai\"", "backends.openai"),
            ("[backends.openai]\nbase_url = \"here\"\nmodel = \"m\"", "backends.openai.base_url"),
        ];
        for (text, key) in cases {
            assert_eq!(wrong_key(text), key, "{text}");
        }
    }
}
