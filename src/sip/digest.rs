//! HTTP digest as SIP uses it: reading challenges, answering them, and verifying an answer.
//!
//! MD5 and SHA-256, each also as `-sess`; `qop=auth` or the legacy form without qop; `auth-int` is not offered.
//! Pure: the client nonce comes from the caller. Source: RFC 7616, RFC 2617, RFC 3261 §22, RFC 8760.

use md5::Md5;
use sha2::{Digest as _, Sha256};

/// A user name and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// A digest algorithm; stronger ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// `MD5`, also when none is named.
    Md5,
    /// `MD5-sess`
    Md5Sess,
    /// `SHA-256`
    Sha256,
    /// `SHA-256-sess`
    Sha256Sess,
}

impl Algorithm {
    fn from_token(token: &str) -> Option<Self> {
        [Self::Md5, Self::Md5Sess, Self::Sha256, Self::Sha256Sess]
            .into_iter()
            .find(|a| a.as_str().eq_ignore_ascii_case(token))
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Sess => "SHA-256-sess",
        }
    }

    fn session(self) -> bool {
        matches!(self, Self::Md5Sess | Self::Sha256Sess)
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 | Self::Md5Sess => hex(&Md5::digest(text)),
            Self::Sha256 | Self::Sha256Sess => hex(&Sha256::digest(text)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A digest of `text` as lower-case hexadecimal, for tags that must repeat.
pub(crate) fn fingerprint(text: &str) -> String {
    hex(&Md5::digest(text)[..8])
}

/// A challenge we can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The realm, its escapes untouched.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// What to send back unchanged.
    pub opaque: Option<String>,
    /// The algorithm to use.
    pub algorithm: Algorithm,
    /// The `algorithm` parameter stood in the challenge and is sent back.
    pub algorithm_named: bool,
    /// `qop=auth` is offered; without it the legacy form is used.
    pub qop_auth: bool,
    /// The last answer was right but its nonce too old.
    pub stale: bool,
}

impl Challenge {
    /// The challenges of one header value that we can answer: other schemes, algorithms and `auth-int` are skipped.
    #[must_use]
    pub fn parse_all(value: &str) -> Vec<Self> {
        split_challenges(value)
            .into_iter()
            .filter_map(|(scheme, params)| Self::read(&scheme, &params))
            .collect()
    }

    fn read(scheme: &str, params: &[(String, String)]) -> Option<Self> {
        let get =
            |name: &str| params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let algorithm = get("algorithm").map_or(Some(Algorithm::Md5), Algorithm::from_token)?;
        let qop_auth = match get("qop") {
            None => false,
            Some(list) if list.split(',').any(|q| q.trim().eq_ignore_ascii_case("auth")) => true,
            Some(_) => return None,
        };
        Some(Self {
            realm: get("realm")?.to_owned(),
            nonce: get("nonce")?.to_owned(),
            opaque: get("opaque").map(str::to_owned),
            algorithm,
            algorithm_named: get("algorithm").is_some(),
            qop_auth,
            stale: get("stale").is_some_and(|s| s.eq_ignore_ascii_case("true")),
        })
    }

    /// The `Authorization` value for a request: `count` is the use count of this nonce, from 1.
    #[must_use]
    pub fn answer(
        &self,
        credentials: &Credentials,
        method: &str,
        uri: &str,
        count: u32,
        cnonce: &str,
    ) -> String {
        let nc = format!("{count:08x}");
        let qop = self.qop_auth.then_some((nc.as_str(), cnonce));
        let response = self.response(credentials, method, uri, qop, cnonce);
        let user = credentials.username.replace('\\', "\\\\").replace('"', "\\\"");
        let mut out = format!(
            "Digest username=\"{user}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\"",
            self.realm, self.nonce
        );
        if self.algorithm_named {
            out.push_str(&format!(", algorithm={}", self.algorithm.as_str()));
        }
        if self.qop_auth {
            out.push_str(&format!(", qop=auth, nc={nc}, cnonce=\"{cnonce}\""));
        } else if self.algorithm.session() {
            out.push_str(&format!(", cnonce=\"{cnonce}\""));
        }
        if let Some(opaque) = &self.opaque {
            out.push_str(&format!(", opaque=\"{opaque}\""));
        }
        out
    }

    /// RFC 7616 §3.4.1.
    fn response(
        &self,
        credentials: &Credentials,
        method: &str,
        uri: &str,
        qop: Option<(&str, &str)>,
        cnonce: &str,
    ) -> String {
        let hash = |text: &str| self.algorithm.hash(text);
        let mut a1 = hash(&format!("{}:{}:{}", credentials.username, self.realm, credentials.password));
        if self.algorithm.session() {
            a1 = hash(&format!("{a1}:{}:{cnonce}", self.nonce));
        }
        let a2 = hash(&format!("{method}:{uri}"));
        match qop {
            Some((nc, cnonce)) => hash(&format!("{a1}:{}:{nc}:{cnonce}:auth:{a2}", self.nonce)),
            None => hash(&format!("{a1}:{}:{a2}", self.nonce)),
        }
    }

    /// Whether an `Authorization` value answers this challenge with these credentials: the server's half, for
    /// simulated registrars and trunks.
    #[must_use]
    pub fn verify(&self, authorization: &str, credentials: &Credentials, method: &str) -> bool {
        let all = split_challenges(authorization);
        let Some((scheme, params)) = all.first() else { return false };
        let get = |name: &str| {
            params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, v)| v.as_str())
        };
        let qop = self.qop_auth.then(|| (get("nc"), get("cnonce")));
        scheme.eq_ignore_ascii_case("Digest")
            && get("username").replace("\\\"", "\"").replace("\\\\", "\\") == credentials.username
            && get("realm") == self.realm
            && get("nonce") == self.nonce
            && (!self.qop_auth || get("qop") == "auth")
            && get("response") == self.response(credentials, method, get("uri"), qop, get("cnonce"))
    }
}

/// `scheme name=value, name="value", scheme …` as schemes with their parameters; quoted values lose their quotes
/// and keep their escapes.
fn split_challenges(value: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut out: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for part in super::message::header::split_list(value) {
        let (name, text) = part.split_once('=').map_or((part, ""), |(n, v)| (n.trim(), v.trim()));
        let name = match name.split_once([' ', '\t']) {
            Some((scheme, name)) => {
                out.push((scheme.to_owned(), Vec::new()));
                name.trim()
            }
            None => name,
        };
        let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        if let Some((_, params)) = out.last_mut()
            && params.len() < 32
        {
            params.push((name.to_owned(), text.to_owned()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mufasa(password: &str) -> Credentials {
        Credentials { username: "Mufasa".into(), password: password.into() }
    }

    #[test]
    fn the_example_of_rfc_2617_section_3_5() {
        let value = r#"Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#;
        let challenge = &Challenge::parse_all(value)[0];
        let answer = challenge.answer(&mufasa("Circle Of Life"), "GET", "/dir/index.html", 1, "0a4f113b");
        assert!(answer.contains(r#"response="6629fae49393a05397450978507c4ef1""#), "{answer}");
        assert!(answer.contains(r#"opaque="5ccc069c403ebaf9f0171e9517f40e41""#));
        assert!(challenge.verify(&answer, &mufasa("Circle Of Life"), "GET"));
        assert!(!challenge.verify(&answer, &mufasa("Circle of Lies"), "GET"));
        assert!(!challenge.verify(&answer, &mufasa("Circle Of Life"), "POST"));
    }

    #[test]
    fn the_example_of_rfc_7616_section_3_9_1() {
        let value = r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS", Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#;
        let all = Challenge::parse_all(value);
        assert_eq!(all.len(), 2);
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let sha = all[0].answer(&mufasa("Circle of Life"), "GET", "/dir/index.html", 1, cnonce);
        assert!(sha.contains("753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"), "{sha}");
        let md5 = all[1].answer(&mufasa("Circle of Life"), "GET", "/dir/index.html", 1, cnonce);
        assert!(md5.contains("8ca523f5e9506fed4657c9700eebdbec"), "{md5}");
    }

    #[test]
    fn every_algorithm_and_the_legacy_form_verify_their_own_answers() {
        for algorithm in ["MD5", "MD5-sess", "SHA-256", "sha-256-sess"] {
            for qop in ["", ", qop=\"auth\""] {
                let value =
                    format!("Digest realm=\"r\", nonce=\"n\", algorithm={algorithm}{qop}, stale=TRUE");
                let challenge = &Challenge::parse_all(&value)[0];
                assert!(challenge.stale);
                let answer = challenge.answer(&mufasa("p"), "INVITE", "sip:a@b", 7, "c");
                assert_eq!(answer.contains("nc=00000007"), !qop.is_empty());
                assert!(challenge.verify(&answer, &mufasa("p"), "INVITE"), "{answer}");
                assert!(!challenge.verify(&answer, &mufasa("q"), "INVITE"));
            }
        }
    }

    #[test]
    fn what_we_cannot_answer_is_skipped() {
        for value in [
            "Basic realm=\"x\"",
            "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-512-256",
            "Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"",
            "Digest nonce=\"n\"",
            "",
            "Digest",
            "=,=,\"",
        ] {
            assert!(Challenge::parse_all(value).is_empty(), "{value}");
        }
    }

    #[test]
    fn a_password_never_shows_in_debug_output() {
        assert!(!format!("{:?}", mufasa("secret")).contains("secret"));
    }
}
