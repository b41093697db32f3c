//! Messages to bytes. Every value passes through [`push_header`], which lets no line end through: whatever the
//! caller puts into a name, address or phrase, it cannot start a header of its own.

use super::header::{Header, Headers, Name};
use super::{Message, Method, RawRequest};

/// The fields that make a request one of a transaction and a dialog.
#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) uri: String,
    /// The whole top Via value.
    pub(crate) via: String,
    pub(crate) routes: Vec<String>,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
}

impl RequestHead {
    /// The request as bytes: head, `extra` headers, and a body with its type.
    pub(crate) fn write(&self, extra: &[(&str, &str)], body: Option<(&str, &[u8])>) -> Vec<u8> {
        let mut out = Vec::with_capacity(768);
        push_text(&mut out, self.method.as_str());
        out.push(b' ');
        push_text(&mut out, &self.uri);
        out.extend_from_slice(b" SIP/2.0\r\n");
        push_header(&mut out, "Via", &self.via);
        push_header(&mut out, "Max-Forwards", "70");
        for route in &self.routes {
            push_header(&mut out, "Route", route);
        }
        push_header(&mut out, "From", &self.from);
        push_header(&mut out, "To", &self.to);
        push_header(&mut out, "Call-ID", &self.call_id);
        push_header(&mut out, "CSeq", &format!("{} {}", self.cseq, self.method.as_str()));
        for (name, value) in extra {
            push_header(&mut out, name, value);
        }
        push_body(&mut out, body);
        out
    }
}

/// A response to a request, built from the request's own headers (RFC 3261 §8.2.6).
pub(crate) struct Response<'a> {
    headers: &'a Headers,
    pub(crate) status: u16,
    pub(crate) reason: &'a str,
    /// The tag to add to a To that has none.
    pub(crate) to_tag: &'a str,
    /// Whether Record-Route is echoed: 1xx and 2xx that make a dialog.
    pub(crate) record_route: bool,
}

impl<'a> Response<'a> {
    pub(crate) fn new(request: &'a Message, status: u16, reason: &'a str, to_tag: &'a str) -> Self {
        Self { headers: &request.headers, status, reason, to_tag, record_route: false }
    }

    pub(crate) fn to_raw(request: &'a RawRequest, status: u16, reason: &'a str, to_tag: &'a str) -> Self {
        Self { headers: &request.headers, status, reason, to_tag, record_route: false }
    }

    /// The response as bytes.
    pub(crate) fn write(&self, extra: &[(&str, &str)], body: Option<(&str, &[u8])>) -> Vec<u8> {
        let mut out = Vec::with_capacity(768);
        out.extend_from_slice(format!("SIP/2.0 {} ", self.status).as_bytes());
        push_text(&mut out, self.reason);
        out.extend_from_slice(b"\r\n");
        let (mut from, mut to, mut call_id, mut cseq) = (false, false, false, false);
        for header in self.headers.iter() {
            let echoed = match header.name {
                Name::Via => true,
                Name::From => !std::mem::replace(&mut from, true),
                Name::CallId => !std::mem::replace(&mut call_id, true),
                Name::CSeq => !std::mem::replace(&mut cseq, true),
                Name::RecordRoute => self.record_route,
                Name::To if !to => {
                    to = true;
                    self.push_to(&mut out, header);
                    false
                }
                _ => false,
            };
            if echoed {
                push_echo(&mut out, header, "");
            }
        }
        for (name, value) in extra {
            push_header(&mut out, name, value);
        }
        push_body(&mut out, body);
        out
    }

    fn push_to(&self, out: &mut Vec<u8>, header: &Header) {
        let tagged = super::Address::parse(&header.value).map_or(true, |a| a.params.has("tag"));
        let suffix = if tagged || self.to_tag.is_empty() || self.status == 100 {
            String::new()
        } else {
            format!(";tag={}", self.to_tag)
        };
        push_echo(out, header, &suffix);
    }
}

/// Text with every CR and LF made a space.
fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }));
}

fn push_header(out: &mut Vec<u8>, name: &str, value: &str) {
    push_text(out, name);
    out.extend_from_slice(b": ");
    push_text(out, value);
    out.extend_from_slice(b"\r\n");
}

/// A header as it came, in the bytes it came in.
fn push_echo(out: &mut Vec<u8>, header: &Header, suffix: &str) {
    out.extend_from_slice(header.name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    if header.latin1 {
        out.extend(header.value.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')));
    } else {
        push_text(out, &header.value);
    }
    push_text(out, suffix);
    out.extend_from_slice(b"\r\n");
}

fn push_body(out: &mut Vec<u8>, body: Option<(&str, &[u8])>) {
    let (kind, bytes) = body.unwrap_or(("", &[]));
    if !bytes.is_empty() {
        push_header(out, "Content-Type", kind);
    }
    push_header(out, "Content-Length", &bytes.len().to_string());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
}

/// A display name as a quoted string: quotes and backslashes escaped, control characters dropped.
pub(crate) fn quoted(display: &str) -> String {
    let mut out = String::with_capacity(display.len() + 2);
    out.push('"');
    for c in display.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A user part with everything but unreserved characters percent-escaped (RFC 3261 §25.1 `user`).
pub(crate) fn escaped_user(user: &str) -> String {
    let mut out = String::with_capacity(user.len());
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The registered reason phrase of a status we send (RFC 3261 §21).
pub(crate) fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        603 => "Decline",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn no_value_can_start_a_line_of_its_own() {
        let evil = "x\r\nEvil: 1\r\n\r\nbody";
        let head = RequestHead {
            method: Method::Invite,
            uri: format!("sip:u@h{evil}"),
            via: format!("SIP/2.0/UDP h;branch=z9hG4bK1{evil}"),
            routes: vec![evil.to_owned()],
            from: format!("{}<sip:a@b>;tag=1", quoted(evil)),
            to: evil.to_owned(),
            call_id: evil.to_owned(),
            cseq: 1,
        };
        let bytes = head.write(&[("Subject", evil), (evil, "v")], Some((evil, b"v=0\r\n")));
        let text = String::from_utf8(bytes).expect("ascii");
        let head = text.split("\r\n\r\n").next().expect("head");
        assert!(head.lines().all(|l| !l.starts_with("Evil")), "{head}");
        assert_eq!(head.lines().count(), 12);
    }

    #[test]
    fn a_response_echoes_latin1_bytes_unchanged() {
        let mut bytes = b"OPTIONS sip:u@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: J".to_vec();
        bytes.push(0xfc);
        bytes
            .extend_from_slice(b" <sip:a@b>;tag=1\r\nTo: <sip:u@h>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n");
        let request = parse(&bytes).expect("request");
        let out = Response::new(&request, 200, "OK", "t").write(&[], None);
        assert!(out.windows(4).any(|w| w == [b'J', 0xfc, b' ', b'<']));
        assert_eq!(parse(&out).expect("response").to.tag(), "t");
    }

    #[test]
    fn users_and_names_are_escaped() {
        assert_eq!(escaped_user("a b@c"), "a%20b%40c");
        assert_eq!(quoted("a \"b\" \\ \r\n"), r#""a \"b\" \\ ""#);
    }
}
