//! Bad input from outside, while the real program runs.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use super::support::{PATCHCORD, Service, channels, free_udp_port, models, simulated, skip, turns, wait_for};

/// Datagrams that no SIP stack should trip over.
fn garbage(n: u64) -> Vec<u8> {
    // A small linear congruential generator (Knuth's MMIX constants): noise that is the same every time.
    let mut state = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let mut noise = |len: usize| -> Vec<u8> {
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..len).map(|_| byte()).collect()
    };
    match n % 8 {
        0 => noise((n * 37 % 1400) as usize),
        1 => b"INVITE".to_vec(),
        2 => b"INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP\r\nContent-Length: 99999999999\r\n\r\n".to_vec(),
        3 => format!("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK{n}\r\nCSeq: 1 INVITE\r\n\r\n").into(),
        4 => [b"BYE sip:a@b SIP/2.0\r\nX: ".to_vec(), noise(60_000)].concat(),
        5 => b"\r\n\r\n".to_vec(),
        6 => format!(
            "BYE sip:patchcord@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK{n}\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>;tag=2\r\nCall-ID: nobody{n}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
        )
        .into(),
        _ => [b"OPTIONS sip:a SIP/2.0\r\n".to_vec(), b"A: b\r\n".repeat(9000)].concat(),
    }
}

/// An RTP packet as loud as can be: full-scale PCMU (ITU-T G.711), 20 ms.
fn loud_rtp(n: u64) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend((n as u16).to_be_bytes());
    packet.extend(((n * 160) as u32).to_be_bytes());
    packet.extend(0xdead_beef_u32.to_be_bytes());
    packet.extend((0..160).map(|i| if i % 8 < 4 { 0x00 } else { 0x80 }));
    packet
}

#[test]
fn garbage_and_a_strangers_voice_do_not_disturb_a_call() {
    if !models() {
        return skip("local models: run `patchcord models pull`");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (_sim, trunk) = simulated(dir.path(), &["--scenario", "receptionist"]);
    let sip = free_udp_port();
    // A narrow range of ports, so that a stranger can find the call's; below the system's own.
    let rtp = (20_000..30_000).step_by(10).find(|&first| free(first..first + 8)).expect("free ports");
    let settings = format!("[sip]\nbind = \"127.0.0.1:{sip}\"\nrtp_ports = [{rtp}, {}]\n", rtp + 7);
    let service = Service::start(dir.path(), &trunk, &settings);
    let task = "Ask whether they have an appointment free on Tuesday afternoon.";
    let (id, key) = service.place(None, "+12025550101", task);
    let key = key.expect("the first call is given a key");
    wait_for("the callee speaks", Duration::from_secs(60), || {
        Some(service.call(&key, &id)).filter(|call| !turns(call, "user").is_empty())
    });

    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let mut n = 0;
    let call = wait_for("the call ends", Duration::from_secs(120), || {
        for _ in 0..3 {
            n += 1;
            // What cannot be sent any more (the port is closed once the call is over) is no matter.
            let _ = stranger.send_to(&garbage(n), ("127.0.0.1", sip));
            for port in rtp..rtp + 8 {
                let _ = stranger.send_to(&loud_rtp(n), ("127.0.0.1", port));
            }
            let _ = stranger.send_to(&garbage(8 * n), ("127.0.0.1", rtp));
        }
        Some(service.call(&key, &id)).filter(|call| call["lifecycle"] == "finalized")
    });
    println!("garbage: {n} datagrams to SIP, {} packets to RTP", n * 8);
    assert_eq!(call["outcome"], "completed", "{call:#}");
    assert_eq!(call["task_result"]["status"], "achieved", "{call:#}");
    assert!(turns(&call, "user").len() >= 3 && turns(&call, "assistant").len() >= 3, "{call:#}");
    let (far, _) = channels(&service.recording(&key, &id));
    let stranger = far.iter().filter(|s| s.unsigned_abs() > 31_000).count();
    assert!(stranger < 160, "{stranger} samples of the stranger's are in the recording");
}

fn free(mut ports: std::ops::Range<u16>) -> bool {
    ports.all(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok())
}

fn patchcord(arguments: &[&str]) -> Output {
    Command::new(PATCHCORD).args(arguments).output().expect("the program starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

#[test]
fn a_file_that_is_no_recording_is_named_and_the_others_are_analysed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (bad, good, odd) =
        (dir.path().join("notes.wav"), dir.path().join("beep.wav"), dir.path().join("hifi.wav"));
    std::fs::write(&bad, "This is not a recording.").expect("written");
    let spec = |rate| hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&good, spec(8000)).expect("a file");
    for i in 0..24_000 {
        let tone = if (8000..12_000).contains(&i) { 8000.0 } else { 0.0 };
        let sample = tone * (std::f64::consts::TAU * 1000.0 * f64::from(i) / 8000.0).sin();
        writer.write_sample(sample as i16).expect("written");
    }
    writer.finalize().expect("written");
    hound::WavWriter::create(&odd, spec(44_100)).and_then(hound::WavWriter::finalize).expect("a file");

    let output = patchcord(&["analyze", "--json", text(&bad), text(&odd), "/nowhere.wav", text(&good)]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    for named in ["notes.wav: not a WAV file", "hifi.wav: 44100 Hz: expected 8000 or 16000", "/nowhere.wav: "]
    {
        assert!(errors.contains(named), "{named} is missing: {errors}");
    }
    let events: Vec<serde_json::Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON on every line"))
        .collect();
    let beep = events.iter().find(|e| e["event"] == "beep").unwrap_or_else(|| panic!("{events:?}"));
    assert_eq!(beep["file"], text(&good));
    assert!((beep["start_s"].as_f64().expect("a time") - 1.0).abs() < 0.1, "{beep}");
    assert!((beep["freq_hz"].as_f64().expect("a frequency") - 1000.0).abs() < 20.0, "{beep}");
    // A file alone that is well ends well.
    assert!(patchcord(&["analyze", text(&good)]).status.success());
}

#[test]
fn a_mistake_in_a_configuration_or_a_scenario_is_named_with_its_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("mine.toml");
    let scenario = dir.path().join("callee.toml");
    let shipped = include_str!("../../scenarios/receptionist.toml");
    let refused = |arguments: &[&str], named: &[&str]| {
        let output = patchcord(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?} is taken");
        for word in named {
            assert!(errors.contains(word), "`{word}` is not in: {errors}");
        }
        assert!(!errors.contains("panicked"), "{errors}");
    };
    for (settings, named) in [
        ("[server]\nbnid = \"127.0.0.1:0\"\n", ["mine.toml", "bnid", "bind"]),
        ("[sip]\nring_seconds = \"long\"\n", ["mine.toml", "ring_seconds", "expected"]),
        ("[limits]\nmax_call_seconds = 0\n", ["mine.toml", "limits.max_call_seconds", "expected"]),
        ("[server\n", ["mine.toml", "server", "expected"]),
    ] {
        std::fs::write(&config, settings).expect("written");
        refused(&["serve", "--config", text(&config)], &named);
    }
    refused(&["serve", "--config", "/nowhere/patchcord.toml"], &["/nowhere/patchcord.toml"]);
    for (right, wrong, named) in [
        ("say = \"Good", "sya = \"Good", ["callee.toml", "sya", "expected"]),
        ("timeout_ms = 15000", "timeout_ms = \"soon\"", ["callee.toml", "timeout_ms", "soon"]),
        ("after_ms = 1200", "reject = 200", ["callee.toml", "receptionist", "reject"]),
    ] {
        std::fs::write(&scenario, shipped.replacen(right, wrong, 1)).expect("written");
        refused(&["sim", "--listen", "127.0.0.1:0", "--file", text(&scenario)], &named);
    }
    refused(&["sim", "--scenario", "martian"], &["martian", "receptionist"]);
}
