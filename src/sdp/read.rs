//! Reading what real far ends write: tolerant about everything that does not matter, exact about what does.

use std::net::{IpAddr, SocketAddr};

use sdp_types::{Attribute, Media, ParserError, Session};

use super::{Codec, Direction, SdpError};

/// Longest description read: ten times what a telephone writes.
const MAX_LEN: usize = 16 * 1024;
/// Frame lengths that a far end may ask for (ms).
const PTIME_MS: std::ops::RangeInclusive<u32> = 10..=200;

/// Parses a description after reducing it to the lines that matter (`v c m a`): other lines may be missing,
/// repeated, misplaced or wrong without harm. Accepts bare LF, blank lines, stray spaces, and octets that are not UTF-8.
pub(super) fn parse(octets: &[u8]) -> Result<Session, SdpError> {
    if octets.len() > MAX_LEN {
        return Err(SdpError::TooLong(octets.len()));
    }
    let mut text = String::with_capacity(octets.len());
    let mut numbers = Vec::new();
    for (i, line) in octets.split(|&b| b == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        match line.as_bytes() {
            [] => continue,
            [b'v' | b'c' | b'a', b'=', ..] => text.push_str(line),
            [b'm', b'=', ..] => text.extend(line.split(' ').filter(|w| !w.is_empty()).flat_map(|w| [w, " "])),
            [key, b'=', ..] if key.is_ascii_lowercase() => continue,
            _ => return Err(malformed(i + 1, "is not of the form <letter>=<value>")),
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push_str("\r\n");
        numbers.push(i + 1);
    }
    Session::parse(text.as_bytes()).map_err(|error| {
        let (line, what) = explain(&error);
        malformed(line.checked_sub(1).and_then(|i| numbers.get(i)).copied().unwrap_or(1), what)
    })
}

fn malformed(line: usize, what: impl Into<String>) -> SdpError {
    SdpError::Malformed { line, what: what.into() }
}

fn explain(error: &ParserError) -> (usize, String) {
    match *error {
        ParserError::InvalidLineFormat(line, what) => (line, what.to_owned()),
        ParserError::InvalidFieldEncoding(line, field) => (line, format!("{field} has a bad encoding")),
        ParserError::InvalidFieldFormat(line, field) => (line, format!("{field} has a bad format")),
        ParserError::MissingField(line, field) => (line, format!("{field} is missing")),
        ParserError::FieldTrailingData(line, field) => (line, format!("{field} is followed by something")),
        ParserError::InvalidVersion(line, _) => (line, "the version is not 0".to_owned()),
        ParserError::MultipleConnections(line) => (line, "a second c= line for the session".to_owned()),
        _ => (1, "the first line is not v=0".to_owned()),
    }
}

/// One media description with the session's defaults.
#[derive(Clone, Copy)]
pub(super) struct Stream<'a> {
    session: &'a Session,
    media: &'a Media,
}

impl<'a> Stream<'a> {
    pub(super) fn all(session: &'a Session) -> impl Iterator<Item = Self> + 'a {
        session.medias.iter().map(move |media| Self { session, media })
    }

    pub(super) fn is_audio_over_rtp(&self) -> bool {
        let proto = &self.media.proto;
        self.media.media.eq_ignore_ascii_case("audio")
            && (proto.eq_ignore_ascii_case("RTP/AVP") || proto.eq_ignore_ascii_case("RTP/AVPF"))
    }

    pub(super) fn is_rejected(&self) -> bool {
        self.media.port == 0
    }

    /// The first of the stream's payload types whose codec is among `ours`.
    pub(super) fn codec(&self, ours: &[Codec]) -> Option<(Codec, u8)> {
        self.payload_types().find_map(|pt| {
            let codec = match self.rtpmap(pt) {
                Some(map) => codec_of(map),
                None => [Codec::Pcmu, Codec::Pcma].into_iter().find(|c| c.payload_type() == pt),
            };
            codec.filter(|c| ours.contains(c)).map(|c| (c, pt))
        })
    }

    /// The payload type of telephone events at our clock rate.
    pub(super) fn telephone_event(&self) -> Option<u8> {
        self.payload_types().find(|&pt| {
            self.rtpmap(pt).is_some_and(|map| {
                let (name, clock_hz, _) = split_map(map);
                name.eq_ignore_ascii_case("telephone-event") && clock_hz == Some("8000")
            })
        })
    }

    pub(super) fn direction(&self) -> Result<Direction, SdpError> {
        let of = |attributes: &[Attribute]| attributes.iter().find_map(|a| direction_of(&a.attribute));
        let theirs = of(&self.media.attributes).or_else(|| of(&self.session.attributes));
        // Before RFC 3264 a far end put a call on hold with the address 0.0.0.0: do not send, whatever else it says.
        let held = self.address()?.is_unspecified();
        Ok(match (theirs.unwrap_or_default(), held) {
            (Direction::SendRecv, false) => Direction::SendRecv,
            (Direction::RecvOnly, false) => Direction::SendOnly,
            (Direction::SendRecv, true) | (Direction::SendOnly, _) => Direction::RecvOnly,
            (Direction::Inactive, _) | (Direction::RecvOnly, true) => Direction::Inactive,
        })
    }

    pub(super) fn remote(&self) -> Result<SocketAddr, SdpError> {
        Ok(SocketAddr::new(self.address()?, self.media.port))
    }

    pub(super) fn remote_rtcp(&self) -> Result<SocketAddr, SdpError> {
        let remote = self.remote()?;
        if self.wants_mux() {
            return Ok(remote);
        }
        let port = remote.port().saturating_add(1);
        let default = SocketAddr::new(remote.ip(), port);
        let mut words = self.value("rtcp").unwrap_or_default().split(' ');
        let Some(port) = words.next().and_then(|p| p.parse().ok()) else { return Ok(default) };
        let ip = words.nth(2).and_then(|a| a.parse().ok()).filter(|a| !IpAddr::is_multicast(a));
        Ok(SocketAddr::new(ip.unwrap_or_else(|| remote.ip()), port))
    }

    pub(super) fn wants_mux(&self) -> bool {
        self.media.attributes.iter().any(|a| a.attribute == "rtcp-mux")
    }

    /// The frame length it asks for (ms).
    pub(super) fn ptime_ms(&self) -> Option<u32> {
        let number = |name| {
            // Some write fractions ("20.0"), which RFC 8866 does not know.
            let value = self.value(name)?.split('.').next()?;
            value.trim().parse().ok().filter(|ms| PTIME_MS.contains(ms))
        };
        match (number("ptime"), number("maxptime")) {
            (Some(ptime), Some(max)) => Some(ptime.min(max)),
            (ptime, _) => ptime,
        }
    }

    /// The stream as an answer rejects it: same kind, same formats, port 0.
    pub(super) fn rejection(&self) -> Media {
        Media {
            port: 0,
            num_ports: None,
            media_title: None,
            connections: Vec::new(),
            bandwidths: Vec::new(),
            key: None,
            attributes: Vec::new(),
            ..self.media.clone()
        }
    }

    pub(super) fn proto(&self) -> &'a str {
        &self.media.proto
    }

    fn address(&self) -> Result<IpAddr, SdpError> {
        let connection = self.media.connections.first().or(self.session.connection.as_ref());
        // What follows a slash belongs to multicast.
        let address = connection.and_then(|c| c.connection_address.split('/').next()?.parse().ok());
        address.filter(|&a| !is_one_to_many(a)).ok_or(SdpError::NoAddress)
    }

    fn payload_types(&self) -> impl Iterator<Item = u8> + 'a {
        self.media.fmt.split(' ').filter_map(|f| f.parse().ok()).filter(|&pt| pt < 128)
    }

    /// `PCMU/8000` for the payload type, if the description maps it.
    fn rtpmap(&self, payload_type: u8) -> Option<&'a str> {
        let maps = self.media.attributes.iter().filter(|a| a.attribute == "rtpmap");
        maps.filter_map(|a| a.value.as_deref()?.trim().split_once(' '))
            .find(|(pt, _)| pt.parse() == Ok(payload_type))
            .map(|(_, map)| map.trim())
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        let of = |attributes: &'a [Attribute]| {
            attributes.iter().find(|a| a.attribute == name).and_then(|a| a.value.as_deref())
        };
        of(&self.media.attributes).or_else(|| of(&self.session.attributes)).map(str::trim)
    }
}

fn is_one_to_many(address: IpAddr) -> bool {
    address.is_multicast() || matches!(address, IpAddr::V4(a) if a.is_broadcast())
}

fn codec_of(map: &str) -> Option<Codec> {
    let (name, clock_hz, channels) = split_map(map);
    let plain = clock_hz == Some("8000") && channels.is_none_or(|c| c == "1");
    [Codec::Pcmu, Codec::Pcma].into_iter().find(|c| plain && c.name().eq_ignore_ascii_case(name))
}

fn split_map(map: &str) -> (&str, Option<&str>, Option<&str>) {
    let mut parts = map.split('/').map(str::trim);
    (parts.next().unwrap_or_default(), parts.next(), parts.next())
}

/// The direction an attribute states, seen from whoever wrote it.
fn direction_of(attribute: &str) -> Option<Direction> {
    Some(match attribute {
        "sendrecv" => Direction::SendRecv,
        "sendonly" => Direction::SendOnly,
        "recvonly" => Direction::RecvOnly,
        "inactive" => Direction::Inactive,
        _ => return None,
    })
}
