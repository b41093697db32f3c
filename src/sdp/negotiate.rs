//! The two sides of RFC 3264, for one audio stream.

use sdp_types::{Attribute, Connection, Media, Origin, Session};

use super::read::{Stream, parse};
use super::{Codec, Direction, LocalMedia, Negotiated, SdpError};

/// Writes our offer: one audio stream, both ways.
#[must_use]
pub fn offer(local: &LocalMedia) -> Vec<u8> {
    let codecs: Vec<_> = local.codecs.iter().map(|&c| (c, c.payload_type())).collect();
    let stream = Audio {
        proto: "RTP/AVP",
        codecs: &codecs,
        telephone_event: local.telephone_event,
        direction: Direction::SendRecv,
        mux: true,
    };
    write(local, vec![stream.describe(local)])
}

/// Reads the answer to our offer.
///
/// # Errors
/// [`SdpError`]: malformed, or our stream rejected, or nothing in common; the call cannot have media then.
pub fn accept_answer(local: &LocalMedia, answer: &[u8]) -> Result<Negotiated, SdpError> {
    let session = parse(answer)?;
    let stream = Stream::all(&session).find(Stream::is_audio_over_rtp).ok_or(SdpError::NoAudio)?;
    if stream.is_rejected() {
        return Err(SdpError::Rejected);
    }
    negotiate(local, &stream)
}

/// Answers an offer: takes its first usable audio stream, with its first codec that is ours, and rejects the others.
///
/// # Errors
/// [`SdpError`]: malformed, or no stream usable; refuse the call with 488 then (400 if malformed).
pub fn answer(local: &LocalMedia, offer: &[u8]) -> Result<(Vec<u8>, Negotiated), SdpError> {
    let session = parse(offer)?;
    let mut chosen = Err(SdpError::NoAudio);
    let mut medias = Vec::with_capacity(session.medias.len());
    for stream in Stream::all(&session) {
        let usable = stream.is_audio_over_rtp() && !stream.is_rejected();
        if chosen.is_err() && usable {
            chosen = negotiate(local, &stream);
            if let Ok(agreed) = &chosen {
                medias.push(accepted(local, &stream, agreed));
                continue;
            }
        }
        medias.push(stream.rejection());
    }
    Ok((write(local, medias), chosen?))
}

fn negotiate(local: &LocalMedia, stream: &Stream<'_>) -> Result<Negotiated, SdpError> {
    let (codec, payload_type) = stream.codec(&local.codecs).ok_or(SdpError::NoCommonCodec)?;
    Ok(Negotiated {
        remote: stream.remote()?,
        remote_rtcp: stream.remote_rtcp()?,
        codec,
        payload_type,
        event_payload_type: local.telephone_event.and_then(|_| stream.telephone_event()),
        ptime_ms: stream.ptime_ms().unwrap_or(local.ptime_ms),
        direction: stream.direction()?,
    })
}

fn accepted(local: &LocalMedia, stream: &Stream<'_>, agreed: &Negotiated) -> Media {
    Audio {
        proto: stream.proto(),
        codecs: &[(agreed.codec, agreed.payload_type)],
        telephone_event: agreed.event_payload_type,
        direction: agreed.direction,
        mux: stream.wants_mux(),
    }
    .describe(local)
}

/// An audio stream of ours, to be written.
struct Audio<'a> {
    proto: &'a str,
    codecs: &'a [(Codec, u8)],
    telephone_event: Option<u8>,
    direction: Direction,
    mux: bool,
}

impl Audio<'_> {
    fn describe(&self, local: &LocalMedia) -> Media {
        let mut formats = Vec::new();
        let mut attributes = Vec::new();
        for (codec, pt) in self.codecs {
            formats.push(pt.to_string());
            attributes.push(Attribute::with_value("rtpmap", format!("{pt} {}/8000", codec.name())));
        }
        if let Some(pt) = self.telephone_event {
            formats.push(pt.to_string());
            attributes.push(Attribute::with_value("rtpmap", format!("{pt} telephone-event/8000")));
            attributes.push(Attribute::with_value("fmtp", format!("{pt} 0-15")));
        }
        attributes.push(Attribute::with_value("ptime", local.ptime_ms));
        attributes.push(Attribute::with_value("rtcp", local.port));
        if self.mux {
            attributes.push(Attribute::new("rtcp-mux"));
        }
        attributes.push(Attribute::new(match self.direction {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }));
        Media {
            media: "audio".to_owned(),
            port: local.port,
            num_ports: None,
            proto: self.proto.to_owned(),
            fmt: formats.join(" "),
            media_title: None,
            connections: Vec::new(),
            bandwidths: Vec::new(),
            key: None,
            attributes,
        }
    }
}

fn write(local: &LocalMedia, medias: Vec<Media>) -> Vec<u8> {
    let session = Session {
        origin: Origin::with_ip_addr(local.session_id, local.session_id, local.address),
        session_name: "-".to_owned(),
        session_description: None,
        uri: None,
        emails: Vec::new(),
        phones: Vec::new(),
        connection: Some(Connection::from_ip_addr(local.address)),
        bandwidths: Vec::new(),
        times: Vec::new(),
        time_zones: Vec::new(),
        key: None,
        attributes: Vec::new(),
        medias,
    };
    session.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn local() -> LocalMedia {
        LocalMedia {
            address: "192.0.2.1".parse().expect("an address"),
            port: 40_000,
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            telephone_event: Some(101),
            session_id: 17,
            ptime_ms: 20,
        }
    }

    /// A description with the given lines after the session part.
    fn sdp(lines: &str) -> Vec<u8> {
        let head = "v=0\no=- 1 1 IN IP4 198.51.100.9\ns=-\nc=IN IP4 198.51.100.9\nt=0 0\n";
        format!("{head}{lines}").replace('\n', "\r\n").into_bytes()
    }

    fn accept(lines: &str) -> Result<Negotiated, SdpError> {
        accept_answer(&local(), &sdp(lines))
    }

    fn answered(lines: &str) -> (String, Negotiated) {
        let (octets, agreed) = answer(&local(), &sdp(lines)).expect("usable");
        (String::from_utf8(octets).expect("ascii"), agreed)
    }

    #[test]
    fn our_offer_line_by_line() {
        let text = String::from_utf8(offer(&local())).expect("ascii");
        assert_eq!(
            text.replace("\r\n", "\n"),
            "v=0\no=- 17 17 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n\
             m=audio 40000 RTP/AVP 0 8 101\na=rtpmap:0 PCMU/8000\na=rtpmap:8 PCMA/8000\n\
             a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\na=ptime:20\na=rtcp:40000\na=rtcp-mux\n\
             a=sendrecv\n"
        );
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    }

    #[test]
    fn our_own_offer_and_answer_agree() {
        let mut far = local();
        far.address = "2001:db8::2".parse().expect("an address");
        far.codecs = vec![Codec::Pcma];
        far.telephone_event = Some(96);
        let (octets, theirs) = answer(&far, &offer(&local())).expect("usable");
        let ours = accept_answer(&local(), &octets).expect("usable");
        assert_eq!((ours.codec, theirs.codec), (Codec::Pcma, Codec::Pcma));
        assert_eq!((ours.payload_type, ours.event_payload_type), (8, Some(101)), "the offerer's numbers");
        assert_eq!(ours.remote, "[2001:db8::2]:40000".parse().expect("an address"));
        assert_eq!((ours.remote_rtcp, theirs.remote_rtcp), (ours.remote, theirs.remote), "multiplexed");
        assert_eq!((ours.direction, theirs.direction), (Direction::SendRecv, Direction::SendRecv));
    }

    #[test]
    fn an_answer_without_rtpmaps_is_understood() {
        let agreed = accept("m=audio 5004 RTP/AVP 8\n").expect("usable");
        assert_eq!((agreed.codec, agreed.payload_type), (Codec::Pcma, 8));
        assert_eq!(agreed.event_payload_type, None);
        assert_eq!(agreed.remote, "198.51.100.9:5004".parse().expect("an address"));
        assert_eq!(agreed.remote_rtcp.port(), 5005);
        assert_eq!(agreed.ptime_ms, 20);
    }

    #[test]
    fn the_first_codec_that_is_ours_counts_not_the_first_of_all() {
        let agreed = accept(
            "m=audio 5004 RTP/AVP 9 97 18 96 100 101\na=rtpmap:97 opus/48000/2\na=rtpmap:96 pcmu/8000/1\n\
             a=rtpmap:100 telephone-event/48000\na=rtpmap:101 TELEPHONE-EVENT/8000\na=ptime:30\na=maxptime:20\n",
        );
        let agreed = agreed.expect("usable");
        assert_eq!((agreed.codec, agreed.payload_type), (Codec::Pcmu, 96), "a dynamic payload type");
        assert_eq!((agreed.event_payload_type, agreed.ptime_ms), (Some(101), 20));
    }

    #[test]
    fn the_map_counts_where_it_contradicts_a_static_type() {
        assert_eq!(accept("m=audio 5004 RTP/AVP 0\na=rtpmap:0 PCMU/16000\n"), Err(SdpError::NoCommonCodec));
    }

    #[test]
    fn media_address_and_explicit_rtcp_address_win() {
        let agreed = accept("m=audio 5004 RTP/AVP 0\nc=IN IP6 2001:db8::7\na=rtcp:6000 IN IP6 2001:db8::8\n");
        let agreed = agreed.expect("usable");
        assert_eq!(agreed.remote, "[2001:db8::7]:5004".parse().expect("an address"));
        assert_eq!(agreed.remote_rtcp, "[2001:db8::8]:6000".parse().expect("an address"));
        let agreed = accept("m=audio 5004 RTP/AVP 0\na=rtcp:6000\n").expect("usable");
        assert_eq!(agreed.remote_rtcp, "198.51.100.9:6000".parse().expect("an address"));
    }

    #[test]
    fn directions_are_mirrored_and_media_level_wins() {
        for (theirs, ours) in [
            ("sendrecv", Direction::SendRecv),
            ("sendonly", Direction::RecvOnly),
            ("recvonly", Direction::SendOnly),
            ("inactive", Direction::Inactive),
        ] {
            let lines = format!("a=inactive\nm=audio 5004 RTP/AVP 0\na={theirs}\n");
            assert_eq!(accept(&lines).expect("usable").direction, ours);
        }
        assert_eq!(
            accept("a=sendonly\nm=audio 5004 RTP/AVP 0\n").expect("usable").direction,
            Direction::RecvOnly
        );
    }

    #[test]
    fn a_hold_by_null_address_forbids_sending_and_is_answered_so() {
        let (text, agreed) = answered("m=audio 5004 RTP/AVP 0\nc=IN IP4 0.0.0.0\n");
        assert_eq!(agreed.direction, Direction::RecvOnly);
        assert!(text.contains("a=recvonly\r\n"), "{text}");
    }

    #[test]
    fn other_streams_are_rejected_in_their_order() {
        let (text, agreed) = answered(
            "m=video 6000 RTP/AVP 31\na=rtpmap:31 H261/90000\nm=audio 0 RTP/AVP 0\nm=audio 7000 RTP/SAVP 0\n\
             m=audio 7002 RTP/AVP 18\nm=audio 7004 RTP/AVP 8 0 101\na=rtpmap:101 telephone-event/8000\n\
             m=audio 7006 RTP/AVP 0\nm=image 7008 udptl t38\n",
        );
        let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("m=")).collect();
        assert_eq!(
            lines,
            [
                "m=video 0 RTP/AVP 31",
                "m=audio 0 RTP/AVP 0",
                "m=audio 0 RTP/SAVP 0",
                "m=audio 0 RTP/AVP 18",
                "m=audio 40000 RTP/AVP 8 101",
                "m=audio 0 RTP/AVP 0",
                "m=image 0 udptl t38",
            ]
        );
        assert_eq!((agreed.codec, agreed.remote.port()), (Codec::Pcma, 7004), "the offerer's preference");
        assert!(!text.contains("rtcp-mux"), "not offered, so not answered");
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        assert_eq!(accept("m=audio 0 RTP/AVP 0\n"), Err(SdpError::Rejected));
        assert_eq!(accept("m=video 5004 RTP/AVP 31\n"), Err(SdpError::NoAudio));
        assert_eq!(accept(""), Err(SdpError::NoAudio));
        assert_eq!(accept("m=audio 5004 RTP/AVP 18\n"), Err(SdpError::NoCommonCodec));
        for address in ["IN IP4 example.org", "IN IP4 224.2.1.1/127", "IN IP4 255.255.255.255"] {
            let lines = format!("m=audio 5004 RTP/AVP 0\nc={address}\n");
            assert_eq!(accept(&lines), Err(SdpError::NoAddress), "{address}");
        }
        let error = answer(&local(), b"v=0\r\nm=audio 5004 RTP/AVP 0\r\n").expect_err("no address");
        assert_eq!(error, SdpError::NoAddress);
        assert_eq!(accept_answer(&local(), &[b'a'; 20_000]), Err(SdpError::TooLong(20_000)));
    }

    #[test]
    fn a_malformed_line_is_named_by_its_number() {
        let line = |octets: &[u8]| match accept_answer(&local(), octets) {
            Err(SdpError::Malformed { line, what }) => (line, what),
            other => panic!("{other:?}"),
        };
        assert_eq!(line(b"v=0\r\ns=x\r\n\r\nm=audio http RTP/AVP 0\r\n").0, 4);
        assert_eq!(line(b"v=0\r\nm=audio 5004\r\n").0, 2);
        assert_eq!(line(b"v=0\r\nhello\r\n").0, 2);
        assert_eq!(line(b"v=1\r\n"), (1, "the version is not 0".to_owned()));
        assert_eq!(line(b"").0, 1);
        assert_eq!(line(b"v=0\nc=IN IP4 1.2.3.4\nc=IN IP4 1.2.3.5\n").0, 3);
        assert_eq!(
            accept_answer(&local(), b"v=0\nm=audio x RTP/AVP 0\n").expect_err("bad port").to_string(),
            "sdp line 2: Media port has a bad format"
        );
    }

    #[test]
    fn careless_writers_are_understood() {
        // Bare LF, no o= s= t=, a Latin-1 session name, blank lines, double spaces, trailing blanks and NUL.
        let octets = b"v=0\ns=caf\xe9\nc=IN IP4 198.51.100.9 \n\nm=audio  5004 RTP/AVP  0 101 \n\
            a=rtpmap:101  telephone-event/8000 \na=ptime:20.0\n\n\0";
        let agreed = accept_answer(&local(), octets).expect("usable");
        assert_eq!((agreed.remote.port(), agreed.event_payload_type), (5004, Some(101)));
    }

    #[test]
    fn events_are_agreed_only_if_we_want_them() {
        let deaf = LocalMedia { telephone_event: None, ..local() };
        assert!(!String::from_utf8_lossy(&offer(&deaf)).contains("telephone-event"));
        let octets = sdp("m=audio 5004 RTP/AVP 0 101\na=rtpmap:101 telephone-event/8000\n");
        let (text, agreed) = answer(&deaf, &octets).expect("usable");
        assert_eq!(agreed.event_payload_type, None);
        assert!(!String::from_utf8_lossy(&text).contains("101"));
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = accept_answer(&local(), &octets);
            let _ = answer(&local(), &octets);
        }

        #[test]
        fn no_mutated_description_panics_and_what_is_answered_reads_back(
            changes in prop::collection::vec((0usize..400, any::<u8>()), 1..6),
        ) {
            let mut octets = sdp(
                "a=sendrecv\nm=audio 5004/2 RTP/AVP 0 8 101\nc=IN IP4 198.51.100.8\na=rtpmap:101 telephone-event/8000\n\
                 a=ptime:20\na=rtcp:5005 IN IP4 198.51.100.8\na=rtcp-mux\nm=video 6000 RTP/AVP 31\n",
            );
            for (at, value) in changes {
                let n = octets.len();
                octets[at % n] = value;
            }
            if let Ok((text, agreed)) = answer(&local(), &octets) {
                let back = accept_answer(&local(), &text).expect("our answers are valid");
                prop_assert_eq!(back.codec, agreed.codec);
            }
        }
    }
}
