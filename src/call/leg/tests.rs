//! A leg on a virtual clock, against a hand-made far end.

use super::*;
use crate::audio::Origin;
use crate::call::port::{Channel, Digits};
use crate::rtp::{Packet, PacketHeader};
use crate::signal::{Digit, Signal, SignalKind, Signals};

const FAR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 4000);
const LOUD: i16 = 8000;

/// Loud is speech: the simplest ear that can be predicted to the sample.
#[derive(Default)]
struct LoudIsSpeech {
    speaking: bool,
}

impl Listener for LoudIsSpeech {
    fn observe(&mut self, frame: &Frame, out: &mut Signals) {
        let loud = frame.samples().iter().position(|s| s.unsigned_abs() > 4000);
        if loud.is_some() != self.speaking {
            self.speaking = loud.is_some();
            let kind = if self.speaking { SignalKind::SpeechStart } else { SignalKind::SpeechEnd };
            let at = frame.at.plus(loud.unwrap_or(0) as u64);
            out.push(Signal { at, decided: frame.end(), kind });
        }
    }

    fn handle_gap(&mut self, at: MediaTime, out: &mut Signals) {
        if std::mem::take(&mut self.speaking) {
            out.push(Signal { at, decided: at, kind: SignalKind::SpeechEnd });
        }
    }
}

fn config() -> LegConfig {
    LegConfig {
        epoch: Instant::ZERO,
        session: SessionConfig {
            ssrc: 0x1234,
            sequence: u16::MAX - 2,
            timestamp: u32::MAX - 500,
            clock_hz: 8000,
            cname: *b"0123456789abcdef",
            ntp_epoch: 0,
        },
        codec: Codec::Pcmu,
        payload_type: 0,
        event_payload_type: Some(101),
        remote: Some(FAR),
        remote_rtcp: None,
        listener: Box::new(LoudIsSpeech::default()),
        tap: true,
    }
}

/// One RTP packet the leg sent.
#[derive(Clone, PartialEq, Debug)]
struct Sent {
    at: Instant,
    to: SocketAddr,
    header: PacketHeader,
    pcm: Vec<i16>,
    payload: Vec<u8>,
}

impl Sent {
    fn is_speech(&self) -> bool {
        self.header.payload_type < 100 && self.pcm.iter().any(|&s| s != 0)
    }
}

struct Rig {
    leg: Leg,
    port: LegPort,
    now: Instant,
    sent: Vec<Sent>,
    rtcp: Vec<Vec<u8>>,
    heard: Vec<Frame>,
    told: Vec<LegEvent>,
    tapped: Vec<TapBlock>,
    /// The far end's next sequence number and timestamp.
    sequence: u16,
    timestamp: u32,
}

impl Rig {
    fn new(config: LegConfig) -> Self {
        let (leg, port) = leg(config);
        Self {
            leg,
            port,
            now: Instant::ZERO,
            sent: Vec::new(),
            rtcp: Vec::new(),
            heard: Vec::new(),
            told: Vec::new(),
            tapped: Vec::new(),
            sequence: u16::MAX - 1,
            timestamp: u32::MAX - 200,
        }
    }

    /// Everything the driver must do after each input.
    fn drain(&mut self) {
        let law = self.leg.types.law;
        let mut out = [0; Leg::MAX_DATAGRAM];
        while let Some((len, to)) = self.leg.poll_transmit(&mut out) {
            if Session::is_rtcp(&out[..len]) {
                self.rtcp.push(out[..len].to_vec());
                continue;
            }
            let packet = Packet::parse(&out[..len]).expect("a leg sends RTP");
            let mut pcm = vec![0; packet.payload().len()];
            law.decode_into(packet.payload(), &mut pcm);
            let (header, payload) = (packet.header(), packet.payload().to_vec());
            self.sent.push(Sent { at: self.now, to, header, pcm, payload });
        }
        self.heard.extend(std::iter::from_fn(|| self.port.heard.pop()));
        self.told.extend(std::iter::from_fn(|| self.port.events.pop()));
        let tap = self.port.tap.as_mut().expect("the rig taps");
        self.tapped.extend(std::iter::from_fn(|| tap.pop()));
    }

    fn run_until(&mut self, until: Instant) {
        loop {
            self.now = self.now.max(self.leg.next_deadline().min(until));
            self.leg.handle_timeout(self.now);
            self.drain();
            if self.now >= until {
                return;
            }
        }
    }

    fn run_ms(&mut self, until_ms: u64) {
        self.run_until(Instant::from_millis(until_ms));
    }

    fn datagram(&mut self, from: SocketAddr, payload_type: u8, payload: &[u8]) {
        let mut bytes = vec![0; 12 + payload.len()];
        let (sequence, timestamp) = (self.sequence, self.timestamp);
        PacketHeader { payload_type, marker: false, sequence, timestamp, ssrc: 99 }.write(&mut bytes);
        bytes[12..].copy_from_slice(payload);
        self.leg.handle_datagram(self.now, from, &bytes);
        self.drain();
    }

    fn skip(&mut self, samples: u32) {
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(samples);
    }

    /// The far end sends `samples` samples of `value`.
    fn far(&mut self, samples: usize, value: i16) {
        let mut payload = vec![0; samples];
        Law::Mu.encode_into(&vec![value; samples], &mut payload);
        self.datagram(FAR, 0, &payload);
        self.skip(samples as u32);
    }

    /// The far end sends 20 ms packets of `value` for so long, at their time.
    fn far_ms(&mut self, ms: u64, value: i16) {
        for _ in 0..ms / 20 {
            self.run_until(self.now + Duration::from_millis(20));
            self.far(160, value);
        }
    }

    fn speak(&mut self, utterance: u32, frames: usize, protected: bool) {
        for i in 0..frames {
            let at = MediaTime::from_samples(i as u64 * 160);
            let frame = Frame::from_samples(at, Rate::Hz8000, &[1000 + utterance as i16; 160]);
            let spoken = Spoken { utterance, protected, last: i + 1 == frames, frame };
            self.port.playout.push(spoken).expect("room to speak");
        }
        self.leg.handle_timeout(self.now);
        self.drain();
    }

    fn command(&mut self, command: LegCommand) {
        self.leg.handle_command(self.now, command);
        self.drain();
    }

    fn signals(&self) -> Vec<SignalKind> {
        let kinds = self.told.iter().filter_map(|e| match e {
            LegEvent::Signal(signal) => Some(signal.kind),
            _ => None,
        });
        kinds.collect()
    }

    fn playout_events(&self) -> Vec<LegEvent> {
        self.told.iter().filter(|e| !matches!(e, LegEvent::Signal(_))).copied().collect()
    }

    fn assert_timestamps_never_overlap(&self) {
        for pair in self.sent.windows(2) {
            let [a, b] = [&pair[0].header, &pair[1].header];
            assert_eq!(b.sequence, a.sequence.wrapping_add(1));
            if a.payload_type == 0 && b.payload_type == 0 {
                assert!(b.timestamp.wrapping_sub(a.timestamp).cast_signed() >= 160, "{a:?} {b:?}");
            }
        }
    }
}

fn at(samples: u64) -> MediaTime {
    MediaTime::from_samples(samples)
}

#[test]
fn a_listening_leg_sends_silence_every_20_ms() {
    let mut rig = Rig::new(config());
    rig.run_ms(1000);
    assert_eq!(rig.sent.len(), 51);
    assert!(rig.sent.iter().all(|s| s.to == FAR && !s.is_speech() && !s.header.marker));
    assert!(rig.sent.windows(2).all(|w| w[1].at.since(w[0].at) == Duration::from_millis(20)));
    rig.assert_timestamps_never_overlap();
    assert_eq!(rig.tapped.len(), 51);
    assert!(rig.tapped.iter().enumerate().all(|(i, t)| t.frame.at == at(i as u64 * 160)));
    assert!(rig.leg.rung() && !rig.leg.rung());
}

#[test]
fn nothing_is_sent_before_the_far_end_is_known_but_time_runs() {
    let mut rig = Rig::new(LegConfig { remote: None, ..config() });
    rig.run_ms(1005);
    assert_eq!((rig.sent.len(), rig.told.len()), (0, 0));
    rig.command(LegCommand::SetRemote(RemoteMedia {
        addr: FAR,
        rtcp: Some(FAR),
        codec: Codec::Pcma,
        payload_type: 8,
        event_payload_type: None,
    }));
    rig.run_ms(1100);
    assert_eq!(rig.sent[0].at, Instant::from_millis(1005));
    assert_eq!(rig.sent[1].at, Instant::from_millis(1020), "the phase stays");
    assert!(rig.sent.iter().all(|s| s.header.payload_type == 8 && s.payload == [0xd5; 160]));
    assert_eq!(rig.tapped[0].frame.at, at(8000));
}

#[test]
fn speech_begins_at_once_with_a_marker_and_gives_its_lead_back() {
    let mut rig = Rig::new(config());
    rig.run_ms(106);
    let silent = rig.sent.len();
    rig.speak(1, 5, false);
    assert_eq!(rig.sent[silent].at, Instant::from_millis(106), "sent in the call that brought it");
    rig.run_ms(300);
    let speech: Vec<_> = rig.sent.iter().filter(|s| s.is_speech()).collect();
    assert_eq!(speech.len(), 5);
    assert!(speech[0].header.marker && speech[1..].iter().all(|s| !s.header.marker));
    assert!(speech.windows(2).all(|w| w[1].at.since(w[0].at) == Duration::from_millis(20)));
    assert_eq!(rig.sent[silent + 5].at, Instant::from_millis(220), "34 ms after the last speech");
    rig.assert_timestamps_never_overlap();
    let first = rig.sent[0].header.timestamp;
    let last = rig.sent.last().expect("silence");
    assert_eq!(last.header.timestamp.wrapping_sub(first), 300 * 8, "no drift remains");
    assert_eq!(
        rig.playout_events(),
        [
            LegEvent::PlayoutStarted { utterance: 1, at: at(848) },
            LegEvent::PlayoutFinished { utterance: 1, samples: 800, at: at(1648) },
        ]
    );
    let near = rig.tapped.iter().find(|t| t.frame.samples()[0] != 0).expect("speech is tapped");
    assert_eq!((near.channel, near.frame.at), (Channel::Near, at(848)));
}

#[test]
fn a_hole_in_an_utterance_is_silence_and_counted() {
    let mut rig = Rig::new(config());
    rig.run_ms(100);
    let frame = Frame::from_samples(at(0), Rate::Hz8000, &[1000; 160]);
    let spoken = Spoken { utterance: 1, protected: false, last: false, frame };
    rig.port.playout.push(spoken).expect("room");
    rig.run_ms(190);
    assert_eq!(rig.leg.stats().underruns, 3);
    rig.port.playout.push(Spoken { last: true, ..spoken }).expect("room");
    rig.run_ms(400);
    assert_eq!(rig.leg.stats().underruns, 3);
    assert_eq!(rig.sent.iter().filter(|s| s.is_speech() && s.header.marker).count(), 2);
    rig.assert_timestamps_never_overlap();
}

#[test]
fn packets_of_any_length_become_20_ms_frames_that_follow_exactly() {
    for ptime_ms in [10, 20, 30, 60] {
        let mut rig = Rig::new(config());
        for _ in 0..600 / ptime_ms {
            rig.run_until(rig.now + Duration::from_millis(ptime_ms));
            rig.far(ptime_ms as usize * 8, 500);
        }
        assert_eq!(rig.heard.len(), 30, "{ptime_ms} ms");
        assert_eq!(rig.heard[0].at, at(0));
        assert!(rig.heard.windows(2).all(|w| w[1].at == w[0].end()));
        assert!(rig.heard.iter().all(|f| f.origin == Origin::Received && (f.samples()[7] - 500).abs() < 30));
        let far = rig.tapped.iter().filter(|t| t.channel == Channel::Far);
        assert_eq!(far.count(), 30);
    }
}

#[test]
fn a_law_is_decoded_by_its_payload_type_whatever_we_send() {
    let mut rig = Rig::new(config());
    rig.run_ms(20);
    let mut payload = [0; 160];
    Law::A.encode_into(&[-3000; 160], &mut payload);
    rig.datagram(FAR, 8, &payload);
    assert!((rig.heard[0].samples()[80] + 3000).abs() < 80);
}

#[test]
fn a_lost_packet_becomes_a_concealed_frame_and_time_goes_on() {
    let mut rig = Rig::new(config());
    rig.far_ms(200, 500);
    rig.run_ms(220);
    rig.skip(160);
    rig.far_ms(400, 500);
    assert_eq!(rig.heard.len(), 31);
    assert!(rig.heard.windows(2).all(|w| w[1].at == w[0].end()));
    let concealed: Vec<_> = (0..31).filter(|&i| rig.heard[i].origin == Origin::Concealed).collect();
    assert_eq!(concealed, [10]);
    let stats = rig.leg.stats();
    assert_eq!((stats.packets_received, stats.packets_lost, stats.concealed), (30, 1, 1));
}

#[test]
fn reordered_packets_are_heard_in_order_without_loss() {
    let mut rig = Rig::new(config());
    rig.far_ms(100, 500);
    let (sequence, timestamp) = (rig.sequence, rig.timestamp);
    rig.skip(160);
    rig.run_ms(140);
    rig.far(160, 2000);
    let heard = rig.heard.len();
    rig.run_ms(145);
    let (next_sequence, next_timestamp) = (rig.sequence, rig.timestamp);
    (rig.sequence, rig.timestamp) = (sequence, timestamp);
    rig.far(160, 1000);
    (rig.sequence, rig.timestamp) = (next_sequence, next_timestamp);
    let values: Vec<_> = rig.heard[heard..].iter().map(|f| f.samples()[50] / 100).collect();
    assert_eq!(values, [9, 19]);
    assert_eq!(rig.leg.stats().concealed, 0);
}

#[test]
fn no_packets_is_starvation_told_once_and_not_silence() {
    let mut rig = Rig::new(config());
    rig.far_ms(100, 0);
    rig.run_ms(1000);
    assert_eq!(rig.heard.len(), 5, "no frames while nothing comes");
    assert_eq!(rig.signals(), [SignalKind::Starved]);
    let Some(LegEvent::Signal(starved)) = rig.told.first() else { panic!("a signal") };
    assert_eq!((starved.at, starved.decided), (at(800), at(2400)));
    rig.timestamp = rig.timestamp.wrapping_add(900 * 8);
    rig.far_ms(100, 0);
    assert_eq!(rig.signals(), [SignalKind::Starved, SignalKind::Flowing]);
    assert_eq!(rig.heard[5].at, at(1000 * 8), "placed where it arrived");
    assert_eq!(rig.leg.stats().starvations, 1);
}

#[test]
fn speech_that_breaks_off_is_ended_before_starvation_is_told() {
    let mut rig = Rig::new(config());
    rig.far_ms(100, LOUD);
    rig.run_ms(1000);
    assert_eq!(rig.signals(), [SignalKind::SpeechStart, SignalKind::SpeechEnd, SignalKind::Starved]);
    let Some(LegEvent::Signal(end)) = rig.told.get(1) else { panic!("a signal") };
    assert_eq!(end.at, at(800));
}

#[test]
fn a_far_clock_that_drifts_moves_frames_but_breaks_no_speech() {
    let mut rig = Rig::new(config());
    let mut due = Instant::ZERO;
    for _ in 0..50 * 120 {
        // 200 ppm slow.
        due += Duration::from_nanos(20_004_000);
        rig.run_until(due);
        rig.far(160, LOUD);
        let end = rig.heard.last().expect("a frame").end().samples();
        let now = due.as_nanos() / 125_000;
        assert!(now.abs_diff(end) < 70, "{now} {end}");
    }
    assert_eq!(rig.signals(), [SignalKind::SpeechStart], "one stream, whatever the clock does");
    assert!(rig.heard.windows(2).any(|w| w[1].at != w[0].end()), "frames were moved");
}

#[test]
fn a_far_end_that_never_sends_is_starved_from_the_start() {
    let mut rig = Rig::new(config());
    rig.run_ms(2000);
    assert_eq!(rig.signals(), [SignalKind::Starved]);
    assert_eq!(rig.sent.len(), 101, "we speak all the same");
}

#[test]
fn silence_in_packets_is_not_starvation() {
    let mut rig = Rig::new(config());
    rig.far_ms(2000, 0);
    assert_eq!(rig.signals(), []);
    assert_eq!(rig.heard.len(), 100);
}

#[test]
fn a_restart_after_starvation_with_new_numbers_is_placed_by_its_arrival() {
    let mut rig = Rig::new(config());
    rig.far_ms(100, 0);
    rig.run_ms(3000);
    rig.timestamp = 77;
    rig.far_ms(60, 0);
    assert_eq!(rig.heard[5].at, at(3000 * 8));
}

#[test]
fn a_strangers_packets_are_dropped_and_counted() {
    let stranger = SocketAddr::from(([198, 51, 100, 1], 9));
    let mut rig = Rig::new(config());
    rig.far_ms(100, 0);
    for _ in 0..50 {
        rig.datagram(stranger, 0, &[0; 160]);
        rig.sequence = rig.sequence.wrapping_add(1);
    }
    assert_eq!((rig.heard.len(), rig.leg.stats().strangers), (5, 50));
    assert!(rig.sent.iter().all(|s| s.to == FAR));
}

#[test]
fn a_far_end_behind_nat_is_followed_after_probation() {
    let nat = SocketAddr::from(([203, 0, 113, 5], 61_000));
    let mut rig = Rig::new(config());
    for i in 1..10 {
        rig.run_ms(i * 20);
        rig.datagram(nat, 0, &[0xff; 160]);
        rig.skip(160);
    }
    rig.run_ms(300);
    assert_eq!(rig.heard.len(), 6, "three on probation are not heard");
    assert_eq!(rig.sent.last().map(|s| s.to), Some(nat));
}

#[test]
fn garbage_and_foreign_payload_types_are_counted_and_otherwise_ignored() {
    let mut rig = Rig::new(config());
    rig.far_ms(100, 0);
    rig.leg.handle_datagram(rig.now, FAR, b"");
    rig.leg.handle_datagram(rig.now, FAR, &[0x80]);
    rig.leg.handle_datagram(rig.now, FAR, b"GET / HTTP/1.1");
    rig.leg.handle_datagram(rig.now, FAR, &[0x81, 200, 0, 1, 0]);
    rig.datagram(FAR, 13, &[64]);
    rig.skip(0);
    rig.datagram(FAR, 96, &[1; 700]);
    rig.skip(0);
    rig.far_ms(100, 0);
    let stats = rig.leg.stats();
    assert_eq!((stats.ignored, stats.malformed, stats.concealed), (2, 4, 0));
    assert_eq!(rig.heard.len(), 10);
}

#[test]
fn speech_of_the_callee_pauses_playout_in_the_same_call() {
    let mut rig = Rig::new(config());
    rig.far_ms(100, 0);
    rig.speak(1, 20, false);
    rig.far_ms(60, 0);
    rig.run_ms(179);
    rig.told.clear();
    let before = rig.sent.iter().filter(|s| s.is_speech()).count() as u64;
    rig.now = Instant::from_millis(179);
    rig.far(160, LOUD);
    let Some(&LegEvent::PlayoutPaused { utterance: 1, samples, at: silent, speech }) =
        rig.told.iter().find(|e| matches!(e, LegEvent::PlayoutPaused { .. }))
    else {
        panic!("paused in the call that brought the voice: {:?}", rig.told)
    };
    assert_eq!(samples, before * 160);
    assert_eq!(silent, at(800 + samples));
    assert!(speech <= silent);
    rig.run_ms(400);
    assert_eq!(rig.sent.iter().filter(|s| s.is_speech()).count() as u64, before, "silence from then on");
    rig.command(LegCommand::Resume);
    assert!(rig.sent.last().is_some_and(|s| s.is_speech() && s.header.marker), "resumed at once");
    rig.run_ms(1500);
    assert_eq!(rig.sent.iter().filter(|s| s.is_speech()).count(), 20, "nothing was lost, nothing repeated");
    let events = rig.playout_events();
    assert!(matches!(events.last(), Some(LegEvent::PlayoutFinished { utterance: 1, samples: 3200, .. })));
    rig.assert_timestamps_never_overlap();
    assert_eq!(rig.leg.stats().underruns, 0, "a pause is no underrun");
}

#[test]
fn protected_speech_and_a_switched_off_policy_play_on() {
    for protected in [true, false] {
        let mut rig = Rig::new(config());
        rig.command(LegCommand::PauseOnSpeech(protected));
        rig.speak(1, 10, protected);
        rig.far_ms(400, LOUD);
        assert_eq!(rig.sent.iter().filter(|s| s.is_speech()).count(), 10);
        assert!(rig.signals().contains(&SignalKind::SpeechStart));
    }
}

#[test]
fn a_cut_says_exactly_what_was_sent() {
    let mut rig = Rig::new(config());
    rig.run_ms(30);
    rig.speak(3, 50, true);
    rig.run_ms(333);
    rig.command(LegCommand::Cut { through: 3 });
    rig.speak(3, 10, false);
    rig.run_ms(800);
    let sent = rig.sent.iter().filter(|s| s.is_speech()).count() as u64;
    assert_eq!(sent, 16);
    let cut = LegEvent::PlayoutCut { utterance: 3, samples: sent * 160, at: at(30 * 8 + sent * 160) };
    assert_eq!(rig.playout_events().last(), Some(&cut));
    rig.speak(4, 2, false);
    rig.run_ms(1000);
    assert_eq!(rig.sent.iter().filter(|s| s.is_speech()).count() as u64, sent + 2);
}

#[test]
fn digits_go_from_leg_to_leg_once_each() {
    let mut rig = Rig::new(config());
    let mut far = Rig::new(LegConfig {
        remote: None,
        session: SessionConfig { ssrc: 5, ..config().session },
        ..config()
    });
    rig.run_ms(50);
    rig.command(LegCommand::SendDigits(Digits::parse("159#").expect("keys")));
    rig.run_ms(1500);
    for sent in &rig.sent {
        far.run_until(sent.at + Duration::from_millis(10));
        let mut bytes = vec![0; 12 + sent.payload.len()];
        sent.header.write(&mut bytes);
        bytes[12..].copy_from_slice(&sent.payload);
        far.leg.handle_datagram(far.now, FAR, &bytes);
        far.drain();
    }
    let expected: Vec<_> = "159#".chars().filter_map(Digit::from_char).map(SignalKind::Digit).collect();
    let mut got = far.signals();
    got.retain(|kind| matches!(kind, SignalKind::Digit(_)));
    assert_eq!(got, expected);
    assert!(far.heard.windows(2).all(|w| w[1].at >= w[0].end()), "events do not upset the timeline");
    assert_eq!(far.leg.stats().concealed, 0, "events are not losses");
    assert_eq!(rig.told.iter().filter(|e| matches!(e, LegEvent::DigitsSent { .. })).count(), 1);
    assert!(rig.sent.iter().filter(|s| s.header.payload_type == 101).count() >= 4 * 5);
}

#[test]
fn digits_that_cannot_be_sent_are_refused() {
    let mut rig = Rig::new(LegConfig { event_payload_type: None, ..config() });
    rig.command(LegCommand::SendDigits(Digits::parse("1").expect("a key")));
    assert_eq!(rig.playout_events(), [LegEvent::DigitsRefused { at: at(0) }]);
}

#[test]
fn speech_waits_while_digits_go_out_and_loses_nothing() {
    let mut rig = Rig::new(config());
    rig.run_ms(10);
    rig.speak(1, 20, false);
    rig.run_ms(100);
    rig.command(LegCommand::SendDigits(Digits::parse("7").expect("a key")));
    rig.run_ms(1500);
    assert_eq!(rig.sent.iter().filter(|s| s.is_speech()).count(), 20);
    assert!(rig.sent.iter().any(|s| s.header.payload_type == 101));
    let finished = LegEvent::PlayoutFinished { utterance: 1, samples: 3200, at: at(0) };
    assert!(rig.told.iter().any(|e| std::mem::discriminant(e) == std::mem::discriminant(&finished)));
}

#[test]
fn reports_are_sent_to_the_rtcp_port_and_a_stop_says_goodbye() {
    let mut rig = Rig::new(config());
    rig.far_ms(10_000, 0);
    assert!(rig.rtcp.len() >= 2, "{} reports in 10 s", rig.rtcp.len());
    let sent = rig.sent.len() as u64;
    rig.command(LegCommand::Stop);
    let bye = rig.rtcp.last().expect("a goodbye");
    assert!(bye.windows(2).any(|w| w == [0x81, 203]), "RTCP BYE (RFC 3550 §6.6)");
    assert!(rig.leg.is_over());
    let [.., LegEvent::Stats(stats), LegEvent::Closed { at: closed }] = rig.told[..] else {
        panic!("statistics, then closed: {:?}", rig.told.last())
    };
    assert_eq!((stats.packets_received, stats.packets_sent, closed), (500, sent, at(80_000)));
    rig.run_ms(11_000);
    rig.far(160, LOUD);
    assert_eq!(rig.sent.len() as u64, sent, "nothing after the end");
}

#[test]
fn a_stop_before_any_remote_is_known_just_closes() {
    let mut rig = Rig::new(LegConfig { remote: None, ..config() });
    rig.command(LegCommand::Stop);
    assert!(matches!(rig.told[..], [LegEvent::Stats(_), LegEvent::Closed { .. }]));
    assert!(rig.leg.is_over() && rig.rtcp.is_empty());
}
