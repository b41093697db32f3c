//! SIP URIs, and any other scheme as opaque text (RFC 3261 §19.1).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::header::Params;
use super::parse::ParseError;

/// The scheme of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Anything else; only its text is kept.
    Other,
}

/// An address, its text kept as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    text: String,
    scheme: Scheme,
    user: Option<String>,
    host: String,
    port: Option<u16>,
    params: Params,
    headers: bool,
}

impl Uri {
    /// Reads an address. The user part may hold `;`, `?` and escapes, which stay as they are.
    ///
    /// # Errors
    /// [`ParseError::Uri`] for a missing scheme, white space, control characters, `<>"`, or a SIP address whose host
    /// or port cannot be read; [`ParseError::Params`] for its parameters.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (scheme, rest) = text.split_once(':').ok_or(ParseError::Uri)?;
        let wellformed = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        let forbidden = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | '"');
        if !wellformed || rest.is_empty() || rest.contains(forbidden) {
            return Err(ParseError::Uri);
        }
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "sip" => Scheme::Sip,
            "sips" => Scheme::Sips,
            "tel" => Scheme::Tel,
            _ => Scheme::Other,
        };
        let mut uri = Self {
            text: text.to_owned(),
            scheme,
            user: None,
            host: String::new(),
            port: None,
            params: Params::default(),
            headers: false,
        };
        if matches!(scheme, Scheme::Sip | Scheme::Sips) {
            uri.read_sip(rest)?;
        }
        Ok(uri)
    }

    fn read_sip(&mut self, rest: &str) -> Result<(), ParseError> {
        let rest = match rest.split_once('@') {
            Some((userinfo, rest)) => {
                let user = userinfo.split(':').next().unwrap_or_default();
                if user.is_empty() {
                    return Err(ParseError::Uri);
                }
                self.user = Some(user.to_owned());
                rest
            }
            None => rest,
        };
        let (rest, headers) = rest.split_once('?').map_or((rest, None), |(r, h)| (r, Some(h)));
        self.headers = headers.is_some();
        let (host_port, params) = rest.find(';').map_or((rest, ""), |i| rest.split_at(i));
        let (host, port) = split_host_port(host_port).ok_or(ParseError::Uri)?;
        self.host = host.to_owned();
        self.port = port;
        self.params = Params::parse(params)?;
        Ok(())
    }

    /// The text as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether this is a `sip:` or `sips:` address.
    #[must_use]
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The user part as sent, escapes untouched, without password.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The host, IPv6 with its brackets; empty unless this is a SIP address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The URI parameters.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Whether the address carries embedded headers (`?…`), which a Request-URI must not (RFC 3261 §19.1.1).
    #[must_use]
    pub fn has_headers(&self) -> bool {
        self.headers
    }

    /// The socket address if the host is an IP literal; port 5060 unless given.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        Some(SocketAddr::new(ip, self.port.unwrap_or(5060)))
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`; `None` if either half is not one.
pub(crate) fn split_host_port(text: &str) -> Option<(&str, Option<u16>)> {
    let text = text.trim();
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let end = rest.find(']')?;
        rest[..end].parse::<Ipv6Addr>().ok()?;
        let (host, port) = text.split_at(end + 2);
        (host, port.strip_prefix(':').or(if port.is_empty() { None } else { Some("bad") }))
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let named = host.starts_with('[')
        || (!host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')));
    if !named {
        return None;
    }
    let port = match port {
        Some(p) if p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit()) => return None,
        Some(p) => Some(p.parse().ok()?),
        None => None,
    };
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_parts_keep_semicolons_and_escapes() {
        let uri = Uri::parse("sip:user;par=u%40example.net@example.com:5070;lr").expect("uri");
        assert_eq!(uri.user(), Some("user;par=u%40example.net"));
        assert_eq!((uri.host(), uri.port(), uri.params().has("LR")), ("example.com", Some(5070), true));
    }

    #[test]
    fn ipv6_is_read_with_and_without_port() {
        let uri = Uri::parse("sip:[2001:db8::10]:5070").expect("uri");
        assert_eq!(uri.socket_addr(), Some("[2001:db8::10]:5070".parse().expect("addr")));
        let uri = Uri::parse("sip:bob@[::1];transport=udp").expect("uri");
        assert_eq!(uri.socket_addr(), Some("[::1]:5060".parse().expect("addr")));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "sip",
            "sip:",
            "sip:@h",
            "sip:a@",
            "sip:a b@h",
            "<sip:a@h>",
            "sip:a@h:x",
            "sip:a@[::g]",
            "sip:a@h:",
        ] {
            assert!(Uri::parse(text).is_err(), "{text:?}");
        }
    }
}
