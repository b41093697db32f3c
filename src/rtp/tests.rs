//! Captured calls through session, reorder stage, event receiver and decoder, as a leg runs them.
//!
//! The captures are not part of the package; a test whose capture is absent says so and passes.

use std::path::Path;

use super::dtmf::EventReceiver;
use super::{Received, Released, Reorder, Session, SessionConfig};
use crate::audio::g711::Law;
use crate::audio::level::rms_dbov;
use crate::signal::Digit;
use crate::time::Instant;

/// UDP payloads of a classic pcap file over IPv4, with their arrival; Ethernet and Linux-cooked captures.
fn read_pcap(name: &str) -> Option<Vec<(Instant, Vec<u8>)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/audio/dev/pcap").join(name);
    let Ok(bytes) = std::fs::read(&path) else {
        println!("skipped: {name} is not here");
        return None;
    };
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four octets"));
    assert_eq!(word(0), 0xa1b2_c3d4, "little-endian, microseconds");
    let link_len = match word(20) {
        1 => 14,
        113 => 16,
        other => panic!("link type {other}"),
    };
    let (mut at, mut datagrams) = (24, Vec::new());
    while at + 16 <= bytes.len() {
        let arrival = Instant::from_nanos((u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4))) * 1000);
        let captured = word(at + 8) as usize;
        let frame = &bytes[at + 16..at + 16 + captured];
        at += 16 + captured;
        let (ethertype, packet) = (&frame[link_len - 2..link_len], &frame[link_len..]);
        if ethertype == [8, 0] && packet[9] == 17 {
            let udp = &packet[usize::from(packet[0] & 15) * 4..];
            let len = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
            datagrams.push((arrival, udp[8..len].to_vec()));
        }
    }
    Some(datagrams)
}

/// What a leg makes of the datagrams: keys, decoded samples, and the session's counters.
fn run(
    datagrams: &[(Instant, Vec<u8>)],
    law: Law,
    audio: u8,
    events: u8,
) -> (String, Vec<i16>, super::Stats) {
    let mut session = Session::new(SessionConfig {
        ssrc: 1,
        sequence: 0,
        timestamp: 0,
        clock_hz: 8000,
        cname: [b'x'; 16],
        ntp_epoch: 0,
    });
    let (mut reorder, mut keys, mut digits, mut samples) =
        (Reorder::default(), EventReceiver::new(), Vec::new(), Vec::new());
    for (now, datagram) in datagrams {
        let Received::Packet { sequence, packet: p, .. } = session.handle_rtp(*now, datagram) else {
            continue;
        };
        reorder.push(*now, sequence, p.timestamp(), p.marker(), p.payload_type(), p.payload());
        while let Some(released) = reorder.pop(*now) {
            let Released::Packet { timestamp, marker, payload_type, payload } = released else { continue };
            if payload_type == events {
                digits.extend(keys.handle(timestamp, marker, payload));
            } else if payload_type == audio {
                let mut pcm = [0; 512];
                let n = law.decode_into(payload, &mut pcm);
                samples.extend_from_slice(&pcm[..n]);
            }
        }
    }
    (digits.into_iter().map(Digit::as_char).collect(), samples, session.stats())
}

#[test]
fn each_captured_key_is_pressed_exactly_once() {
    for (name, key) in "0123456789"
        .chars()
        .map(|c| (c.to_string(), c))
        .chain([("star".to_owned(), '*'), ("pound".to_owned(), '#')])
    {
        let Some(datagrams) = read_pcap(&format!("dtmf_2833_{name}.pcap")) else { continue };
        assert_eq!(run(&datagrams, Law::Mu, 0, 101).0, key.to_string(), "dtmf_2833_{name}.pcap");
        // The press must survive whichever one packet is lost, and any packet coming twice, later.
        for i in 0..datagrams.len() {
            let mut damaged = datagrams.clone();
            let lost = damaged.remove(i);
            assert_eq!(run(&damaged, Law::Mu, 0, 101).0, key.to_string(), "without packet {i}");
            damaged.insert(i, lost.clone());
            damaged.push(lost);
            assert_eq!(run(&damaged, Law::Mu, 0, 101).0, key.to_string(), "packet {i} twice");
        }
    }
}

#[test]
fn a_captured_call_gives_the_number_that_was_dialled() {
    let Some(datagrams) = read_pcap("ulaw-2013785496.pcap") else { return };
    let (digits, samples, stats) = run(&datagrams, Law::Mu, 0, 101);
    assert_eq!(digits, "2013785496");
    assert_eq!((stats.received, stats.lost, stats.malformed, stats.unconfirmed), (974, 0, 0, 0));
    assert_eq!(samples.len(), 854 * 160);
    assert!(stats.jitter_ms < 20.0, "{}", stats.jitter_ms);
}

#[test]
fn a_captured_a_law_call_decodes_to_speech() {
    let Some(datagrams) = read_pcap("g711a.pcap") else { return };
    let (digits, samples, stats) = run(&datagrams, Law::A, 8, 101);
    assert_eq!((digits.as_str(), samples.len()), ("", 236 * 240));
    assert_eq!((stats.received, stats.lost), (236, 0));
    let level = rms_dbov(&samples);
    assert!((-40.0..-10.0).contains(&level), "{level} dBov");
    // Decoded by the wrong law, neighbouring samples jump; speech at 8 kHz is smooth.
    let roughness = |pcm: &[i16]| {
        let jumps: Vec<i16> = pcm.windows(2).map(|w| w[1].saturating_sub(w[0])).collect();
        rms_dbov(&jumps) - rms_dbov(pcm)
    };
    let wrong = run(&datagrams, Law::Mu, 8, 101).1;
    assert!(roughness(&samples) < -3.0, "{}", roughness(&samples));
    assert!(roughness(&wrong) > roughness(&samples) + 3.0, "{}", roughness(&wrong));
}
