//! Answering 401 and 407: once per nonce, and again for the same realm only if the server says `stale` (RFC 3261 §22).

use crate::sip::digest::{Challenge, Credentials};
use crate::sip::message::{Message, Name};

/// Challenges of different realms one call answers at most (proxies on its way, and the callee).
const MAX_REALMS: usize = 4;
/// Nonces one request tries at most.
const MAX_NONCES: usize = 6;

#[derive(Debug)]
struct Active {
    proxy: bool,
    challenge: Challenge,
    count: u32,
}

/// A call's credentials and the challenges they answer.
#[derive(Debug)]
pub(crate) struct Authenticator {
    credentials: Credentials,
    active: Vec<Active>,
}

/// What one request has tried already.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    nonces: Vec<String>,
    realms: Vec<(bool, String)>,
}

impl Authenticator {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, active: Vec::new() }
    }

    /// Takes a 401 or 407; true if the request should be sent again with [`Self::lines`].
    pub(crate) fn handle_challenge(&mut self, response: &Message, attempts: &mut Attempts) -> bool {
        let proxy = response.status() == Some(407);
        let name = if proxy { Name::ProxyAuthenticate } else { Name::WwwAuthenticate };
        let mut best: Vec<Challenge> = Vec::new();
        for challenge in response.headers.lines(&name).flat_map(Challenge::parse_all) {
            match best.iter_mut().find(|b| b.realm == challenge.realm) {
                Some(b) if b.algorithm < challenge.algorithm => *b = challenge,
                Some(_) => {}
                None => best.push(challenge),
            }
        }
        best.truncate(MAX_REALMS);
        let refused = |c: &Challenge| {
            let seen = attempts.realms.iter().any(|(p, r)| *p == proxy && *r == c.realm);
            attempts.nonces.contains(&c.nonce) || seen && !c.stale
        };
        if best.is_empty() || best.iter().any(refused) || attempts.nonces.len() + best.len() > MAX_NONCES {
            return false;
        }
        for challenge in best {
            attempts.nonces.push(challenge.nonce.clone());
            attempts.realms.push((proxy, challenge.realm.clone()));
            self.active.retain(|a| a.proxy != proxy || a.challenge.realm != challenge.realm);
            self.active.push(Active { proxy, challenge, count: 0 });
        }
        let surplus = self.active.len().saturating_sub(MAX_REALMS);
        self.active.drain(..surplus);
        true
    }

    /// Marks the nonces in use as tried by a request that carries them unasked.
    pub(crate) fn preempt(&self, attempts: &mut Attempts) {
        attempts.nonces.extend(self.active.iter().map(|a| a.challenge.nonce.clone()));
    }

    /// The header lines that answer every challenge so far, for a request to `uri`.
    pub(crate) fn lines(&mut self, method: &str, uri: &str, cnonce: &str) -> Vec<(&'static str, String)> {
        let credentials = &self.credentials;
        self.active
            .iter_mut()
            .map(|a| {
                a.count += 1;
                let name = if a.proxy { "Proxy-Authorization" } else { "Authorization" };
                (name, a.challenge.answer(credentials, method, uri, a.count, cnonce))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::parse;

    fn challenge(status: u16, header: &str, value: &str) -> Message {
        let text = format!(
            "SIP/2.0 {status} x\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:u@h>;tag=2\r\nCall-ID: c\r\nCSeq: 5 INVITE\r\n{header}: {value}\r\n\r\n"
        );
        parse(text.as_bytes()).expect("response")
    }

    fn authenticator() -> Authenticator {
        Authenticator::new(Credentials { username: "u".into(), password: "p".into() })
    }

    #[test]
    fn once_per_nonce_and_again_only_when_stale() {
        let (mut a, mut tried) = (authenticator(), Attempts::default());
        let first = challenge(401, "WWW-Authenticate", "Digest realm=\"r\", nonce=\"1\"");
        assert!(a.handle_challenge(&first, &mut tried));
        assert!(!a.handle_challenge(&first, &mut tried), "the same nonce again: wrong password");
        let second = challenge(401, "WWW-Authenticate", "Digest realm=\"r\", nonce=\"2\"");
        assert!(!a.handle_challenge(&second, &mut tried), "another nonce, not stale: wrong password");
        let stale = challenge(401, "WWW-Authenticate", "Digest realm=\"r\", nonce=\"2\", stale=true");
        assert!(a.handle_challenge(&stale, &mut tried));
        assert!(!a.handle_challenge(&stale, &mut tried));
    }

    #[test]
    fn proxy_and_callee_are_both_answered_and_the_stronger_algorithm_wins() {
        let (mut a, mut tried) = (authenticator(), Attempts::default());
        let proxy = challenge(
            407,
            "Proxy-Authenticate",
            "Digest realm=\"p\", nonce=\"1\", algorithm=MD5, Digest realm=\"p\", nonce=\"1\", algorithm=SHA-256",
        );
        assert!(a.handle_challenge(&proxy, &mut tried));
        assert!(a.handle_challenge(
            &challenge(401, "WWW-Authenticate", "Digest realm=\"p\", nonce=\"3\""),
            &mut tried
        ));
        let lines = a.lines("INVITE", "sip:u@h", "c");
        assert_eq!(lines.iter().map(|l| l.0).collect::<Vec<_>>(), ["Proxy-Authorization", "Authorization"]);
        assert!(lines[0].1.contains("algorithm=SHA-256"));
    }

    #[test]
    fn an_endless_stale_server_is_left_alone() {
        let (mut a, mut tried) = (authenticator(), Attempts::default());
        let retries = (0..50)
            .take_while(|n| {
                let value = format!("Digest realm=\"r\", nonce=\"{n}\", stale=true");
                a.handle_challenge(&challenge(401, "WWW-Authenticate", &value), &mut tried)
            })
            .count();
        assert_eq!(retries, MAX_NONCES);
    }
}
