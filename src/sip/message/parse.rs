//! One datagram to one [`Message`]. Total: any bytes give a message or a [`Malformed`], never a panic.
//!
//! Bounds: [`MAX_MESSAGE_BYTES`], [`MAX_HEADERS`]. Source: RFC 3261 §7, §18.3; RFC 4475 for what to forgive.

use super::header::{Address, CSeq, Header, Headers, Name, Via, split_list};
use super::uri::Uri;
use super::{Message, Method, Start};

/// The largest message read (bytes): what fits a UDP datagram.
pub const MAX_MESSAGE_BYTES: usize = 65_535;
/// The most header lines read.
pub const MAX_HEADERS: usize = 256;

/// What is wrong with a message; always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// More than [`MAX_MESSAGE_BYTES`].
    #[error("message too large")]
    TooLarge,
    /// More than [`MAX_HEADERS`].
    #[error("too many headers")]
    TooManyHeaders,
    /// The header section never ends.
    #[error("message cut short")]
    Truncated,
    /// The first line is neither a request nor a status line.
    #[error("bad start line")]
    StartLine,
    /// Another protocol version than SIP/2.0.
    #[error("unknown protocol version")]
    Version,
    /// A header line without a proper name.
    #[error("bad header line")]
    HeaderLine,
    /// Via, From, To, Call-ID or CSeq is missing.
    #[error("missing {0} header")]
    Missing(&'static str),
    /// A header that may stand once stands twice.
    #[error("duplicate {0} header")]
    Duplicate(&'static str),
    /// A Via that cannot be read.
    #[error("bad Via header")]
    Via,
    /// A From, To or Contact that cannot be read.
    #[error("bad address")]
    Address,
    /// A URI that cannot be read.
    #[error("bad URI")]
    Uri,
    /// Parameters that cannot be read.
    #[error("bad parameters")]
    Params,
    /// A CSeq that cannot be read.
    #[error("bad CSeq header")]
    CSeq,
    /// The CSeq's method is not the request's.
    #[error("CSeq method differs from request method")]
    CSeqMismatch,
    /// A Content-Length that is no number, or larger than what came.
    #[error("bad Content-Length")]
    ContentLength,
    /// A Max-Forwards that is no number.
    #[error("bad Max-Forwards header")]
    MaxForwards,
}

impl ParseError {
    /// The status a request with this fault is answered with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Version => 505,
            Self::TooLarge => 513,
            _ => 400,
        }
    }
}

/// A message that could not be read, and what is needed to say so to its sender.
#[derive(Debug)]
pub struct Malformed {
    /// The first fault found.
    pub error: ParseError,
    /// The request as far as it could be read, if it is one and its top Via says where a response goes.
    pub request: Option<Box<RawRequest>>,
}

/// A request that is too broken to act on but not to answer.
#[derive(Debug)]
pub struct RawRequest {
    /// The method as far as it could be read.
    pub method: Method,
    /// The headers that could be read.
    pub headers: Headers,
    /// The top Via.
    pub via: Via,
}

impl From<ParseError> for Malformed {
    fn from(error: ParseError) -> Self {
        Self { error, request: None }
    }
}

/// Reads a datagram. Bytes after the body are ignored (RFC 4475 §3.1.1.8), leading line ends too.
///
/// # Errors
/// [`Malformed`] with the first fault; see [`ParseError`].
pub fn parse(datagram: &[u8]) -> Result<Message, Malformed> {
    if datagram.len() > MAX_MESSAGE_BYTES {
        return Err(ParseError::TooLarge.into());
    }
    let skip = datagram.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let mut lines = Lines(&datagram[skip..]);
    let first = lines.next_line().ok_or(ParseError::StartLine)?;
    let (first, _) = decode(first);
    let (method_hint, start) = parse_start(&first);
    let (headers, fault) = read_headers(&mut lines);
    let rest = lines.0;
    let result = match (start, fault) {
        (Err(error), _) | (Ok(_), Some(error)) => Err(error),
        (Ok(start), None) => assemble(start, headers.clone(), rest),
    };
    result.map_err(|error| {
        let via = headers.list(&Name::Via).next().and_then(|v| Via::parse(v).ok());
        let request = match (method_hint, via) {
            (Some(method), Some(via)) => Some(Box::new(RawRequest { method, headers, via })),
            _ => None,
        };
        Malformed { error, request }
    })
}

/// Splits lines off the front; CRLF or a bare LF ends one.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    fn next_line(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|b| *b == b'\n')?;
        let line = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn continues(&self) -> bool {
        matches!(self.0.first(), Some(b' ' | b'\t'))
    }
}

/// Text of a line: UTF-8, else Latin-1 (and whether it was that).
fn decode(bytes: &[u8]) -> (String, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (bytes.iter().map(|b| char::from(*b)).collect(), true),
    }
}

pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

/// The start line, and the method if the line is a request's, however broken.
fn parse_start(line: &str) -> (Option<Method>, Result<Start, ParseError>) {
    if line.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("SIP/")) {
        return (None, parse_status(line));
    }
    let line = line.trim_end();
    let parts: Vec<&str> = line.splitn(4, ' ').collect();
    let method = parts.first().filter(|m| is_token(m)).map(|m| Method::from_token(m));
    let hint = method.clone().filter(|_| line.contains("SIP/"));
    let (Some(method), [_, uri, version]) = (method, parts.as_slice()) else {
        return (hint, Err(ParseError::StartLine));
    };
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        let other = version.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("SIP/"));
        return (hint, Err(if other { ParseError::Version } else { ParseError::StartLine }));
    }
    let start = match Uri::parse(uri) {
        Ok(uri) if !uri.has_headers() => Ok(Start::Request { method, uri: uri.as_str().to_owned() }),
        _ => Err(ParseError::Uri),
    };
    (hint, start)
}

fn parse_status(line: &str) -> Result<Start, ParseError> {
    let (version, rest) = line.split_once(' ').ok_or(ParseError::StartLine)?;
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(ParseError::Version);
    }
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = match code.parse::<u16>() {
        Ok(status @ 100..=699) if code.len() == 3 => status,
        _ => return Err(ParseError::StartLine),
    };
    Ok(Start::Response { status, reason: reason.trim().to_owned() })
}

/// All header lines up to the empty one; reading goes on after a fault so that Via can still be found.
fn read_headers(lines: &mut Lines<'_>) -> (Headers, Option<ParseError>) {
    let (mut headers, mut fault) = (Headers::default(), None);
    loop {
        let Some(line) = lines.next_line() else {
            return (headers, fault.or(Some(ParseError::Truncated)));
        };
        if line.is_empty() {
            return (headers, fault);
        }
        let mut folded;
        let mut whole = line;
        if lines.continues() {
            folded = line.to_vec();
            while lines.continues() {
                let Some(more) = lines.next_line() else { break };
                folded.push(b' ');
                folded.extend_from_slice(more.trim_ascii());
            }
            whole = &folded;
        }
        if headers.len() >= MAX_HEADERS {
            return (headers, Some(ParseError::TooManyHeaders));
        }
        match read_header(whole) {
            Some(header) => headers.push(header),
            None => fault = fault.or(Some(ParseError::HeaderLine)),
        }
    }
}

fn read_header(line: &[u8]) -> Option<Header> {
    let colon = line.iter().position(|b| *b == b':')?;
    let name = std::str::from_utf8(&line[..colon]).ok()?.trim_end();
    if !is_token(name) {
        return None;
    }
    let (value, latin1) = decode(line[colon + 1..].trim_ascii());
    // A lone CR cannot end a line here, and must not end one when the value is written again.
    let value = if value.contains('\r') { value.replace('\r', " ") } else { value };
    Some(Header { name: Name::from_token(name), value, latin1 })
}

/// The value of a header that must stand exactly once.
fn single<'a>(headers: &'a Headers, name: &Name, label: &'static str) -> Result<&'a str, ParseError> {
    at_most_one(headers, name, label)?.ok_or(ParseError::Missing(label))
}

fn at_most_one<'a>(
    headers: &'a Headers,
    name: &Name,
    label: &'static str,
) -> Result<Option<&'a str>, ParseError> {
    if headers.iter().filter(|h| h.name == *name).count() > 1 {
        return Err(ParseError::Duplicate(label));
    }
    Ok(headers.get(name))
}

fn assemble(start: Start, headers: Headers, rest: &[u8]) -> Result<Message, ParseError> {
    let vias = headers.get(&Name::Via).ok_or(ParseError::Missing("Via"))?;
    let vias = split_list(vias);
    let via = Via::parse(vias.first().copied().unwrap_or_default())?;
    if vias[1..].iter().any(|v| Via::parse(v).is_err()) {
        return Err(ParseError::Via);
    }
    let from = Address::parse(single(&headers, &Name::From, "From")?)?;
    let to = Address::parse(single(&headers, &Name::To, "To")?)?;
    let call_id = single(&headers, &Name::CallId, "Call-ID")?.to_owned();
    if call_id.is_empty() {
        return Err(ParseError::Missing("Call-ID"));
    }
    let cseq = CSeq::parse(single(&headers, &Name::CSeq, "CSeq")?)?;
    if let Some(hops) = at_most_one(&headers, &Name::MaxForwards, "Max-Forwards")?
        && (hops.is_empty() || !hops.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(ParseError::MaxForwards);
    }
    at_most_one(&headers, &Name::ContentType, "Content-Type")?;
    let body = match at_most_one(&headers, &Name::ContentLength, "Content-Length")? {
        None => rest,
        Some(text) => {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let length = text.parse::<usize>().ok().filter(|_| digits).ok_or(ParseError::ContentLength)?;
            rest.get(..length).ok_or(ParseError::ContentLength)?
        }
    };
    if let Start::Request { method, .. } = &start {
        if cseq.method != *method {
            return Err(ParseError::CSeqMismatch);
        }
        for contact in headers.list(&Name::Contact) {
            if contact != "*" {
                Address::parse(contact)?;
            }
        }
    }
    let body = body.to_vec();
    Ok(Message { start, headers, body, via, from, to, call_id, cseq })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "OPTIONS sip:u@h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\n\
        From: <sip:a@b>;tag=1\r\nTo: <sip:u@h>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";

    #[test]
    fn without_content_length_the_body_is_the_rest_of_the_datagram() {
        let message =
            parse(format!("{BASE}Content-Type: application/sdp\r\n\r\nv=0\r\n").as_bytes()).expect("ok");
        assert_eq!(message.sdp(), Some(&b"v=0\r\n"[..]));
    }

    #[test]
    fn latin1_bytes_are_read_and_remembered() {
        let mut bytes = BASE.replace("From: <", "From: J\u{fc}rg <").into_bytes();
        let at = bytes.iter().position(|b| *b == 0xc3).expect("utf-8 lead byte");
        bytes.splice(at..at + 2, [0xfc]);
        bytes.extend_from_slice(b"\r\n");
        let message = parse(&bytes).expect("ok");
        assert_eq!(message.from.display.as_deref(), Some("J\u{fc}rg"));
        assert!(message.headers.iter().any(|h| h.name == Name::From && h.latin1));
    }

    #[test]
    fn bounds_hold() {
        let many = format!("{BASE}{}\r\n", "X: y\r\n".repeat(MAX_HEADERS));
        assert_eq!(parse(many.as_bytes()).expect_err("too many").error, ParseError::TooManyHeaders);
        assert_eq!(parse(&vec![b'a'; 70_000]).expect_err("too large").error, ParseError::TooLarge);
        assert_eq!(parse(BASE.as_bytes()).expect_err("no end").error, ParseError::Truncated);
    }

    #[test]
    fn bare_line_feeds_are_forgiven() {
        let text = format!("\r\n\r\n{BASE}\r\n").replace("\r\n", "\n");
        assert_eq!(parse(text.as_bytes()).expect("ok").call_id, "c");
    }
}
