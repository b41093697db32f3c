//! The 49 messages of RFC 4475 through the parser: what must be read right, and what must be refused with what.

use std::path::PathBuf;

use super::{Message, Method, Name, ParseError, Start, parse};

pub(crate) fn torture_messages() -> Vec<(String, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/sip/rfc4475");
    let Ok(entries) = std::fs::read_dir(&dir) else {
        println!("skipped: no RFC 4475 messages at {}", dir.display());
        return Vec::new();
    };
    let mut all: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|e| {
            let name = e.path().file_stem().expect("name").to_string_lossy().into_owned();
            (name, std::fs::read(e.path()).expect("readable"))
        })
        .collect();
    all.sort();
    all
}

fn accepted() -> Vec<(String, Message)> {
    torture_messages().into_iter().filter_map(|(n, b)| parse(&b).ok().map(|m| (n, m))).collect()
}

/// Refused messages, the fault, and whether a response can be addressed.
const REFUSED: &[(&str, u16, bool)] = &[
    ("badinv01", 400, false),
    ("badvers", 505, true),
    ("bigcode", 400, false),
    ("clerr", 400, true),
    ("escruri", 400, true),
    ("insuf", 400, true),
    ("ltgtruri", 400, true),
    ("lwsruri", 400, true),
    ("lwsstart", 400, true),
    ("mcl01", 400, true),
    ("mismatch01", 400, true),
    ("mismatch02", 400, true),
    ("multi01", 400, true),
    ("ncl", 400, true),
    ("quotbal", 400, true),
    ("regbadct", 400, true),
    ("scalar02", 400, true),
    ("scalarlg", 400, false),
];

#[test]
fn every_message_is_accepted_or_refused_as_rfc_4475_says() {
    let mut seen = 0;
    for (name, bytes) in torture_messages() {
        seen += 1;
        let expected = REFUSED.iter().find(|(n, ..)| *n == name);
        match (parse(&bytes), expected) {
            (Ok(_), None) => {}
            (Err(m), Some((_, status, answerable))) => {
                assert_eq!(m.error.status(), *status, "{name}: {}", m.error);
                assert_eq!(m.request.is_some(), *answerable, "{name}");
            }
            (Ok(_), Some(_)) => panic!("{name} must be refused"),
            (Err(m), None) => panic!("{name} must be accepted: {}", m.error),
        }
    }
    assert!(seen == 0 || seen == 49, "{seen}");
}

#[test]
fn typed_fields_of_the_valid_ones_are_right() {
    for (name, m) in accepted() {
        match name.as_str() {
            "wsinv" => {
                assert_eq!(m.to.tag(), "1918181833n");
                assert_eq!(m.from.display.as_deref(), Some(r#"J Rosenberg \""#));
                assert_eq!(m.from.tag(), "98asjd8");
                assert_eq!((m.cseq.number, &m.cseq.method), (9, &Method::Invite));
                assert_eq!(m.via.branch(), "390skdjuw");
                let vias: Vec<_> =
                    m.headers.list(&Name::Via).map(|v| super::Via::parse(v).expect("via")).collect();
                assert_eq!(vias.len(), 3);
                assert_eq!(
                    (vias[1].transport.as_str(), vias[1].host.as_str()),
                    ("TCP", "spindle.example.com")
                );
                assert_eq!(vias[2].branch(), "z9hG4bK30239");
                assert_eq!(m.headers.get(&Name::Subject), Some(""));
                assert_eq!(m.headers.get(&Name::MaxForwards), Some("0068"));
                assert_eq!(m.contact().expect("contact").as_str(), "sip:jdrosen@example.com");
                assert_eq!(m.body.len(), 150);
            }
            "intmeth" => {
                assert_eq!(m.method().as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
                assert_eq!(m.from.uri.as_str(), "sip:mundane@example.com");
                assert_eq!(m.from.tag(), "_token~1'+`*%!-.");
                assert_eq!(m.to.display.as_deref(), Some("BEL:\u{7} NUL:\0 DEL:\u{7f}"));
                assert_eq!(super::Uri::parse(m.request_uri()).expect("uri").host(), "example.com");
                assert_eq!(m.call_id, r#"intmeth.word%ZK-!.*_+'@word`~)(><:\/"][?}{"#);
            }
            "esc01" => {
                assert_eq!(m.request_uri(), "sip:sips%3Auser%40example.com@example.net");
                let contact = m.contact().expect("contact");
                assert_eq!((contact.user(), contact.params().has("%6C%72")), (Some("cal%6Cer"), true));
            }
            "esc02" => {
                assert_eq!(m.method(), &Method::Other("RE%47IST%45R".into()));
                assert_eq!(m.headers.lines(&Name::Contact).count(), 2);
                assert_eq!(m.via.branch(), "z9hG4bK209%fzsnel234");
            }
            "escnull" => assert_eq!(m.from.uri.user(), Some("null-%00-null")),
            "longreq" => {
                assert_eq!(m.headers.list(&Name::Via).count(), 34);
                assert_eq!(m.from.tag().len(), 155);
                assert_eq!(m.body.len(), 150);
            }
            "dblreq" => {
                assert_eq!(m.method(), &Method::Register);
                assert_eq!(m.call_id, "dblreq.0ha0isndaksdj99sdfafnl3lk233412");
                assert!(m.body.is_empty());
            }
            "semiuri" => {
                let uri = super::Uri::parse(m.request_uri()).expect("uri");
                assert_eq!(uri.user(), Some("user;par=u%40example.net"));
                assert_eq!(m.headers.list(&Name::Accept).count(), 6);
            }
            "transports" => assert_eq!(m.headers.list(&Name::Via).count(), 5),
            "unreason" => {
                let Start::Response { status, reason } = &m.start else { panic!("a response") };
                assert_eq!((*status, reason.starts_with("= 2**3 * 5**2 но")), (200, true));
            }
            "noreason" => {
                assert_eq!(m.start, Start::Response { status: 100, reason: String::new() });
            }
            "lwsdisp" => assert_eq!(m.from.display.as_deref(), Some("caller")),
            "mpart01" => assert_eq!(m.body.len(), 553),
            "cparam01" => assert!(!m.contact().expect("contact").params().has("unknownparam")),
            "cparam02" => assert!(m.contact().expect("contact").params().has("unknownparam")),
            "baddn" => assert_eq!(m.from.display.as_deref(), Some("Bell, Alexander")),
            "badaspec" => assert_eq!(m.to.uri.as_str(), "sip:t.watson@example.org"),
            "unksm2" => assert_eq!(m.from.uri.as_str(), "http://www.example.com"),
            "inv2543" => assert_eq!((m.from.tag(), m.sdp().is_some()), ("", true)),
            _ => {}
        }
    }
}

#[test]
fn faults_are_named() {
    for (name, bytes) in torture_messages() {
        let want = match name.as_str() {
            "clerr" | "ncl" => ParseError::ContentLength,
            "mcl01" => ParseError::Duplicate("Content-Length"),
            "mismatch01" => ParseError::CSeqMismatch,
            "scalar02" | "scalarlg" => ParseError::CSeq,
            "insuf" => ParseError::Missing("From"),
            "quotbal" | "regbadct" => ParseError::Address,
            "escruri" | "ltgtruri" => ParseError::Uri,
            _ => continue,
        };
        assert_eq!(parse(&bytes).expect_err("refused").error, want, "{name}");
    }
}
