//! Header fields: names with their compact forms, and the few values whose structure we need (RFC 3261 §20, §25.1).

use std::net::IpAddr;

use super::Method;
use super::parse::ParseError;
use super::uri::{Uri, split_host_port};

macro_rules! names {
    ($($variant:ident $long:literal $($short:literal)?),+ $(,)?) => {
        /// A header name, compact forms expanded, case ignored.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Name {
            $(#[doc = concat!("`", $long, "`")] $variant,)+
            /// Any other token, as sent.
            Other(String),
        }

        impl Name {
            /// The name a token stands for.
            #[must_use]
            pub fn from_token(token: &str) -> Self {
                $(if token.eq_ignore_ascii_case($long) $(|| token.eq_ignore_ascii_case($short))? {
                    return Self::$variant;
                })+
                Self::Other(token.to_owned())
            }

            /// The long form on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $long,)+
                    Self::Other(token) => token,
                }
            }
        }
    };
}

names! {
    Via "Via" "v",
    From "From" "f",
    To "To" "t",
    CallId "Call-ID" "i",
    CSeq "CSeq",
    MaxForwards "Max-Forwards",
    Contact "Contact" "m",
    ContentLength "Content-Length" "l",
    ContentType "Content-Type" "c",
    ContentEncoding "Content-Encoding" "e",
    ContentDisposition "Content-Disposition",
    Route "Route",
    RecordRoute "Record-Route",
    Require "Require",
    ProxyRequire "Proxy-Require",
    Supported "Supported" "k",
    Unsupported "Unsupported",
    Allow "Allow",
    Accept "Accept",
    Authorization "Authorization",
    ProxyAuthorization "Proxy-Authorization",
    WwwAuthenticate "WWW-Authenticate",
    ProxyAuthenticate "Proxy-Authenticate",
    UserAgent "User-Agent",
    Server "Server",
    Subject "Subject" "s",
    ReferTo "Refer-To" "r",
    ReferredBy "Referred-By" "b",
    Event "Event" "o",
    AllowEvents "Allow-Events" "u",
    SessionExpires "Session-Expires" "x",
    Expires "Expires",
    RetryAfter "Retry-After",
    Warning "Warning",
    Reason "Reason",
    Date "Date",
}

/// One header line after unfolding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: Name,
    /// The value, trimmed. Bytes that are not UTF-8 are read as Latin-1.
    pub value: String,
    /// Whether the value was read as Latin-1, so that an echo writes the very bytes that came.
    pub latin1: bool,
}

/// The headers of a message in order.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<Header>);

impl Headers {
    pub(crate) fn push(&mut self, header: Header) {
        self.0.push(header);
    }

    pub(crate) fn first_mut(&mut self, name: &Name) -> Option<&mut Header> {
        self.0.iter_mut().find(|h| h.name == *name)
    }

    /// How many header lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no header at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All headers in order.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter()
    }

    /// The first value under a name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&str> {
        self.0.iter().find(|h| h.name == *name).map(|h| h.value.as_str())
    }

    /// The lines under a name, in order.
    pub fn lines<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |h| h.name == *name).map(|h| h.value.as_str())
    }

    /// The values under a name whether they stand on one line or on many; commas in quotes or `<>` do not split.
    pub fn list<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a str> {
        self.lines(name).flat_map(split_list)
    }
}

/// The parts of a value that `separator` divides, outside quoted strings and angle brackets.
fn split_outside(text: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    for (i, byte) in text.bytes().enumerate() {
        if escaped {
            escaped = false;
        } else if quoted {
            match byte {
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
        } else if byte == separator && !angle {
            parts.push(text[start..i].trim());
            start = i + 1;
        } else {
            match byte {
                b'"' => quoted = true,
                b'<' => angle = true,
                b'>' => angle = false,
                _ => {}
            }
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// The comma-separated values of one line; empty ones (RFC 3261 allows none, the wild sends some) are kept.
pub(crate) fn split_list(text: &str) -> Vec<&str> {
    split_outside(text, b',')
}

/// Header or URI parameters: `;name=value`, `;name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, Option<String>)>);

impl Params {
    /// Reads what follows a value: empty, or `;`-led parameters with any spacing.
    ///
    /// # Errors
    /// [`ParseError::Params`] for an empty name (as in `;;`), an unclosed quote or text before the first `;`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Some(rest) = text.strip_prefix(';') else { return Err(ParseError::Params) };
        if !quotes_balance(rest) {
            return Err(ParseError::Params);
        }
        let mut params = Vec::new();
        for part in split_outside(rest, b';') {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().to_owned())),
                None => (part, None),
            };
            if name.is_empty() || name.contains([' ', '\t', '"', ',', '<', '>']) {
                return Err(ParseError::Params);
            }
            params.push((name.to_owned(), value));
        }
        Ok(Self(params))
    }

    /// Whether a parameter is there, with or without value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    /// The value of a parameter, `None` if it is absent or a bare flag.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).and_then(|(_, v)| v.as_deref())
    }

    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some(slot) => slot.1 = Some(value),
            None => self.0.push((name.to_owned(), Some(value))),
        }
    }
}

impl std::fmt::Display for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in &self.0 {
            match value {
                Some(value) => write!(f, ";{name}={value}")?,
                None => write!(f, ";{name}")?,
            }
        }
        Ok(())
    }
}

fn quotes_balance(text: &str) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}

/// One Via value: how the message travelled and where its response goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// The transport token, for example `UDP`; unknown ones are kept.
    pub transport: String,
    /// The host of sent-by, IPv6 with its brackets.
    pub host: String,
    /// The port of sent-by, if given.
    pub port: Option<u16>,
    /// `branch`, `received`, `rport` and others.
    pub params: Params,
}

impl Via {
    /// Reads one value; spaces may stand around every separator (RFC 4475 §3.1.1.1).
    ///
    /// # Errors
    /// [`ParseError::Via`] if protocol, transport, host or port cannot be read, [`ParseError::Params`] likewise.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut parts = text.splitn(3, '/');
        let (Some(protocol), Some(_version), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ParseError::Via);
        };
        if !protocol.trim().eq_ignore_ascii_case("SIP") {
            return Err(ParseError::Via);
        }
        let (transport, rest) = rest.trim().split_once([' ', '\t']).ok_or(ParseError::Via)?;
        let (sent_by, params) = rest.find(';').map_or((rest, ""), |i| rest.split_at(i));
        let sent_by: String = sent_by.chars().filter(|c| !matches!(c, ' ' | '\t')).collect();
        let (host, port) = split_host_port(&sent_by).ok_or(ParseError::Via)?;
        Ok(Self {
            transport: transport.to_owned(),
            host: host.to_owned(),
            port,
            params: Params::parse(params)?,
        })
    }

    /// The branch, empty if there is none.
    #[must_use]
    pub fn branch(&self) -> &str {
        self.params.get("branch").unwrap_or_default()
    }

    /// Notes where the request really came from: `received` always when it differs or `rport` is asked for, `rport`
    /// only when asked for (RFC 3261 §18.2.1, RFC 3581 §4).
    pub(crate) fn note_source(&mut self, ip: IpAddr, port: u16) {
        let asks = self.params.has("rport");
        let literal = self.host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if asks || literal != Ok(ip) {
            self.params.set("received", ip.to_string());
        }
        if asks {
            self.params.set("rport", port.to_string());
        }
    }
}

impl std::fmt::Display for Via {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)
    }
}

/// A name-addr or addr-spec: From, To, Contact, Route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The display name without quotes and escapes.
    pub display: Option<String>,
    /// The address.
    pub uri: Uri,
    /// Header parameters; in the form without `<>` everything after `;` is here (RFC 3261 §20.10).
    pub params: Params,
}

impl Address {
    /// Reads one value. Liberal: an unquoted display name may hold any characters but quotes, and spaces inside `<>`
    /// are trimmed (RFC 4475 §3.1.2.14, §3.1.2.15 allow both).
    ///
    /// # Errors
    /// [`ParseError::Address`] for an unbalanced quote or a missing `>`, [`ParseError::Uri`] and
    /// [`ParseError::Params`] for their parts; a `?` or `,` in an address without `<>` is a [`ParseError::Address`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let (display, rest) = match text.strip_prefix('"') {
            Some(rest) => {
                let (name, rest) = unquote(rest).ok_or(ParseError::Address)?;
                (Some(name), rest.trim_start())
            }
            None => match text.find('<') {
                Some(i) => (Some(text[..i].trim()).filter(|d| !d.is_empty()).map(str::to_owned), &text[i..]),
                None => (None, text),
            },
        };
        if let Some(inner) = rest.strip_prefix('<') {
            if display.as_ref().is_some_and(|d| !text.starts_with('"') && d.contains('"')) {
                return Err(ParseError::Address);
            }
            let (uri, params) = inner.split_once('>').ok_or(ParseError::Address)?;
            return Ok(Self { display, uri: Uri::parse(uri.trim())?, params: Params::parse(params)? });
        }
        if display.is_some() {
            return Err(ParseError::Address);
        }
        let (uri, params) = rest.find(';').map_or((rest, ""), |i| rest.split_at(i));
        if uri.contains(['?', ',']) {
            return Err(ParseError::Address);
        }
        Ok(Self { display: None, uri: Uri::parse(uri.trim())?, params: Params::parse(params)? })
    }

    /// The tag, empty if there is none (RFC 2543 peers).
    #[must_use]
    pub fn tag(&self) -> &str {
        self.params.get("tag").unwrap_or_default()
    }
}

/// The text of a quoted string whose opening quote is gone, and what follows its closing quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => {
                name.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((name, &text[i + 1..])),
            _ => name.push(c),
        }
    }
    None
}

/// A CSeq value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    /// The sequence number.
    pub number: u32,
    /// The method.
    pub method: Method,
}

impl CSeq {
    /// Reads a value.
    ///
    /// # Errors
    /// [`ParseError::CSeq`] unless it is a number below 2^32, a space and a method.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut words = text.split_ascii_whitespace();
        let (Some(number), Some(method), None) = (words.next(), words.next(), words.next()) else {
            return Err(ParseError::CSeq);
        };
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseError::CSeq);
        }
        let number = number.parse().map_err(|_| ParseError::CSeq)?;
        Ok(Self { number, method: Method::from_token(method) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_quotes_or_brackets_does_not_split() {
        assert_eq!(
            split_list(r#""a, \"b" <sip:x,y@z>, <sip:b>;p=1"#),
            [r#""a, \"b" <sip:x,y@z>"#, "<sip:b>;p=1"]
        );
    }

    #[test]
    fn via_reads_ipv6_and_notes_the_source() {
        let mut via =
            Via::parse("SIP / 2.0 /UDP [2001:db8::9:1]:5070 ;rport; branch=z9hG4bKas3-111").expect("via");
        assert_eq!((via.host.as_str(), via.port), ("[2001:db8::9:1]", Some(5070)));
        via.note_source("192.0.2.7".parse().expect("ip"), 61000);
        assert_eq!(
            via.to_string(),
            "SIP/2.0/UDP [2001:db8::9:1]:5070;rport=61000;branch=z9hG4bKas3-111;received=192.0.2.7"
        );
    }

    #[test]
    fn a_matching_source_without_rport_changes_nothing() {
        let text = "SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK1";
        let mut via = Via::parse(text).expect("via");
        via.note_source("192.0.2.7".parse().expect("ip"), 61000);
        assert_eq!(via.to_string(), text);
    }

    #[test]
    fn addresses_in_every_form() {
        let a = Address::parse(r#""Q \"x\"" <sip:a;b@c;lr>;tag=1"#).expect("quoted");
        assert_eq!((a.display.as_deref(), a.uri.as_str(), a.tag()), (Some(r#"Q "x""#), "sip:a;b@c;lr", "1"));
        let a = Address::parse("sip:a@c;tag=2").expect("addr-spec");
        assert_eq!((a.uri.as_str(), a.tag()), ("sip:a@c", "2"));
        assert!(Address::parse("sip:a@c?x=y").is_err());
        assert!(Address::parse(r#""open <sip:a@c>"#).is_err());
        assert!(Address::parse("<sip:a@c>;;").is_err());
    }
}
