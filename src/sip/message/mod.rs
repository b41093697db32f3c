//! SIP messages: bytes to typed fields and back.
//!
//! [`parse`] takes one datagram and gives a [`Message`] whose routing fields (top Via, From, To, Call-ID, CSeq) are
//! typed and checked; every other header stays text until somebody asks. The parser is liberal where RFC 4475 allows
//! it (folding, odd spacing, compact names, Latin-1 bytes, unquoted display names) and strict where a guess would be
//! dangerous (lengths, duplicate singletons, CSeq). Time: none. Source: RFC 3261 §7, §20, §25.

pub mod header;
pub mod uri;

mod parse;
#[cfg(test)]
pub(crate) mod torture;
pub(crate) mod write;

pub use header::{Address, CSeq, Header, Headers, Name, Params, Via};
pub(crate) use parse::is_token;
pub use parse::{MAX_HEADERS, MAX_MESSAGE_BYTES, Malformed, ParseError, RawRequest, parse};
pub use uri::{Scheme, Uri};

/// A request method; names are case-sensitive (RFC 3261 §7.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Method {
    /// Begins a session or changes one.
    Invite,
    /// Confirms a final response to INVITE.
    Ack,
    /// Ends a session.
    Bye,
    /// Withdraws a pending INVITE.
    Cancel,
    /// Asks for capabilities.
    Options,
    /// Binds an address of record (RFC 3261 §10).
    Register,
    /// Carries application data inside a session (RFC 6086).
    Info,
    /// Confirms a reliable provisional response (RFC 3262).
    Prack,
    /// Changes a session before it is answered (RFC 3311).
    Update,
    /// Asks the peer to contact a third party (RFC 3515).
    Refer,
    /// Reports an event (RFC 6665).
    Notify,
    /// Asks for event reports (RFC 6665).
    Subscribe,
    /// Carries a page-mode text (RFC 3428).
    Message,
    /// Publishes event state (RFC 3903).
    Publish,
    /// Any other token.
    Other(String),
}

impl Method {
    /// The method a token names.
    #[must_use]
    pub fn from_token(token: &str) -> Self {
        match token {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "OPTIONS" => Self::Options,
            "REGISTER" => Self::Register,
            "INFO" => Self::Info,
            "PRACK" => Self::Prack,
            "UPDATE" => Self::Update,
            "REFER" => Self::Refer,
            "NOTIFY" => Self::Notify,
            "SUBSCRIBE" => Self::Subscribe,
            "MESSAGE" => Self::Message,
            "PUBLISH" => Self::Publish,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The token on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
            Self::Info => "INFO",
            Self::Prack => "PRACK",
            Self::Update => "UPDATE",
            Self::Refer => "REFER",
            Self::Notify => "NOTIFY",
            Self::Subscribe => "SUBSCRIBE",
            Self::Message => "MESSAGE",
            Self::Publish => "PUBLISH",
            Self::Other(token) => token,
        }
    }
}

/// The first line of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A request line.
    Request {
        /// What is asked.
        method: Method,
        /// The Request-URI as sent.
        uri: String,
    },
    /// A status line.
    Response {
        /// The status code, 100 to 699.
        status: u16,
        /// The reason phrase, possibly empty.
        reason: String,
    },
}

/// A well-formed message with its routing fields typed.
#[derive(Clone, Debug)]
pub struct Message {
    /// Request or status line.
    pub start: Start,
    /// All headers in order, unfolded, compact names expanded.
    pub headers: Headers,
    /// The body: `Content-Length` bytes, or the rest of the datagram.
    pub body: Vec<u8>,
    /// The topmost Via.
    pub via: Via,
    /// The From address with its tag.
    pub from: Address,
    /// The To address with its tag.
    pub to: Address,
    /// The Call-ID.
    pub call_id: String,
    /// The CSeq.
    pub cseq: CSeq,
}

impl Message {
    /// The method of a request, or of the request a response answers (from CSeq).
    #[must_use]
    pub fn method(&self) -> &Method {
        match &self.start {
            Start::Request { method, .. } => method,
            Start::Response { .. } => &self.cseq.method,
        }
    }

    /// The Request-URI, empty for a response.
    #[must_use]
    pub fn request_uri(&self) -> &str {
        match &self.start {
            Start::Request { uri, .. } => uri,
            Start::Response { .. } => "",
        }
    }

    /// The status code, `None` for a request.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.start {
            Start::Response { status, .. } => Some(status),
            Start::Request { .. } => None,
        }
    }

    /// The first Contact's URI, if there is a readable one.
    #[must_use]
    pub fn contact(&self) -> Option<Uri> {
        let value = self.headers.list(&Name::Contact).next()?;
        Address::parse(value).ok().map(|a| a.uri)
    }

    /// The Record-Route values in the order they stand.
    #[must_use]
    pub fn record_routes(&self) -> Vec<String> {
        self.headers.list(&Name::RecordRoute).map(str::to_owned).collect()
    }

    /// The body if it is a session description (`application/sdp`, or untyped and starting like one).
    #[must_use]
    pub fn sdp(&self) -> Option<&[u8]> {
        if self.body.is_empty() {
            return None;
        }
        let typed = match self.headers.get(&Name::ContentType) {
            Some(value) => is_sdp(value),
            None => self.body.starts_with(b"v="),
        };
        typed.then_some(&self.body[..])
    }
}

/// Whether a Content-Type value names a session description.
pub(crate) fn is_sdp(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/sdp"))
}
