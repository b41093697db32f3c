//! The media path allocates and frees nothing: counted, not promised.
#![cfg(feature = "engine")]
#![allow(unsafe_code, reason = "an allocator that counts can only be written with `unsafe impl GlobalAlloc`")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use patchcord::audio::Frame;
use patchcord::call::port::{Digits, LegCommand, LegEvent, Spoken};
use patchcord::call::{Leg, LegConfig, LegPort, Listener, leg};
use patchcord::detect::{Chain, ChainConfig};
use patchcord::media::worker;
use patchcord::rtp::{PacketHeader, SessionConfig};
use patchcord::sdp::Codec;
use patchcord::seed::Ids;
use patchcord::signal::{Signal, SignalKind, Signals};
use patchcord::time::{Instant, MediaTime, Rate};

thread_local! {
    static COUNTED: Cell<Option<Counts>> = const { Cell::new(None) };
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Counts {
    allocations: u64,
    frees: u64,
}

struct Counting;

fn count(f: impl FnOnce(&mut Counts)) {
    COUNTED.with(|cell| {
        if let Some(mut counts) = cell.get() {
            f(&mut counts);
            cell.set(Some(counts));
        }
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches a thread-local `Cell` without
// a destructor, which itself never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|c| c.allocations += 1);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(|c| c.frees += 1);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts what `f` allocates and frees on this thread, into `counts`.
fn counted<T>(counts: &mut Counts, f: impl FnOnce() -> T) -> T {
    COUNTED.set(Some(*counts));
    let result = f();
    *counts = COUNTED.take().expect("set above");
    result
}

struct LoudIsSpeech(bool);

impl Listener for LoudIsSpeech {
    fn observe(&mut self, frame: &Frame, out: &mut Signals) {
        let loud = frame.samples().iter().any(|s| s.unsigned_abs() > 4000);
        if loud != self.0 {
            self.0 = loud;
            let kind = if loud { SignalKind::SpeechStart } else { SignalKind::SpeechEnd };
            out.push(Signal { at: frame.at, decided: frame.end(), kind });
        }
    }

    fn handle_gap(&mut self, _at: MediaTime, _out: &mut Signals) {}
}

fn real_ears() -> Box<dyn Listener> {
    Box::new(Chain::new(&ChainConfig::default()))
}

fn make_leg(remote: SocketAddr, seed: u64, listener: Box<dyn Listener>) -> (Leg, LegPort) {
    let mut ids = Ids::from_number(seed);
    leg(LegConfig {
        epoch: Instant::ZERO,
        session: SessionConfig {
            ssrc: ids.next_u32(),
            sequence: ids.next_u32() as u16,
            timestamp: ids.next_u32(),
            clock_hz: 8000,
            cname: *b"0123456789abcdef",
            ntp_epoch: 0,
        },
        codec: Codec::Pcmu,
        payload_type: 0,
        event_payload_type: Some(101),
        remote: Some(remote),
        remote_rtcp: None,
        listener,
        tap: true,
    })
}

/// Twenty frames of an utterance; an even utterance is loud enough to barge in.
fn speak(port: &mut LegPort, utterance: u32) {
    let value = if utterance.is_multiple_of(2) { 9000 } else { 900 };
    for i in 0..20 {
        let frame = Frame::from_samples(MediaTime::from_samples(i * 160), Rate::Hz8000, &[value; 160]);
        let spoken = Spoken { utterance, protected: utterance.is_multiple_of(5), last: i == 19, frame };
        if port.playout.push(spoken).is_err() {
            return;
        }
    }
}

#[derive(Default)]
struct Seen {
    heard: u64,
    digits: u64,
    paused: u64,
    cut: u64,
    finished: u64,
    starved: u64,
}

fn drain(port: &mut LegPort, seen: &mut Seen) {
    while port.heard.pop().is_some() {
        seen.heard += 1;
    }
    while port.tap.as_mut().is_some_and(|tap| tap.pop().is_some()) {}
    while let Some(event) = port.events.pop() {
        match event {
            LegEvent::Signal(Signal { kind: SignalKind::Digit(_), .. }) => seen.digits += 1,
            LegEvent::Signal(Signal { kind: SignalKind::Starved, .. }) => seen.starved += 1,
            LegEvent::PlayoutPaused { .. } => seen.paused += 1,
            LegEvent::PlayoutCut { .. } => seen.cut += 1,
            LegEvent::PlayoutFinished { .. } => seen.finished += 1,
            _ => {}
        }
    }
}

/// What a call does to its leg, with a throw of the dice each tick.
fn command(ids: &mut Ids, utterance: u32) -> Option<LegCommand> {
    match ids.next_u32() % 160 {
        0 => Some(LegCommand::Cut { through: utterance }),
        1..=6 => Some(LegCommand::Resume),
        7 => Some(LegCommand::SendDigits(Digits::parse("42#").expect("keys"))),
        8 => Some(LegCommand::PauseOnSpeech(true)),
        _ => None,
    }
}

#[test]
fn a_leg_allocates_and_frees_nothing() {
    let addresses = [SocketAddr::from(([192, 0, 2, 1], 4000)), SocketAddr::from(([192, 0, 2, 2], 4000))];
    // One side has ears that are sure to be barged in on, the other those of every real call.
    let mut legs =
        [make_leg(addresses[1], 1, Box::new(LoudIsSpeech(false))), make_leg(addresses[0], 2, real_ears())];
    let mut ids = Ids::from_number(3);
    let (mut counts, mut seen) = (Counts::default(), Seen::default());
    let mut out = [0; Leg::MAX_DATAGRAM];
    let mut utterance = 0;
    for tick in 0..8_000u64 {
        let now = Instant::from_millis(tick * 10);
        if tick % 60 == 0 {
            utterance += 1;
            // The loud ones, of even number, are spoken to the side that hears them as speech.
            speak(&mut legs[1 - (utterance % 2) as usize].1, utterance);
        }
        // Every 50 s the network is gone for 2 s.
        let outage = tick % 5000 < 200;
        for side in 0..2 {
            let command = command(&mut ids, utterance);
            counted(&mut counts, || {
                if let Some(command) = command {
                    legs[side].0.handle_command(now, command);
                }
                legs[side].0.handle_timeout(now);
            });
            while let Some((len, _)) = counted(&mut counts, || legs[side].0.poll_transmit(&mut out)) {
                if outage || ids.next_unit() < 0.03 {
                    continue;
                }
                if ids.next_unit() < 0.01 {
                    out[ids.next_u32() as usize % len] ^= 0x55;
                }
                let twice = 1 + u32::from(ids.next_unit() < 0.01);
                for _ in 0..twice {
                    let from = addresses[side];
                    counted(&mut counts, || legs[1 - side].0.handle_datagram(now, from, &out[..len]));
                }
            }
            drain(&mut legs[side].1, &mut seen);
        }
    }
    assert_eq!(counts, Counts::default(), "in 8 000 ticks of two legs");
    for (what, n) in [
        ("heard", seen.heard),
        ("digits", seen.digits),
        ("paused", seen.paused),
        ("cut", seen.cut),
        ("finished", seen.finished),
        ("starved", seen.starved),
        ("concealed", legs[0].0.stats().concealed),
    ] {
        println!("{what}: {n}");
        assert!(n > 2, "the run exercised `{what}`");
    }
}

#[test]
fn the_counter_counts() {
    let mut counts = Counts::default();
    counted(&mut counts, || drop(std::hint::black_box(Box::new(1))));
    assert_eq!(counts, Counts { allocations: 1, frees: 1 });
}

/// A far end on a socket of its own.
struct Far {
    socket: UdpSocket,
    sequence: u16,
}

impl Far {
    fn send(&mut self, to: SocketAddr) {
        let mut bytes = [0xff; 172];
        let timestamp = u32::from(self.sequence) * 160;
        PacketHeader { payload_type: 0, marker: false, sequence: self.sequence, timestamp, ssrc: 9 }
            .write(&mut bytes);
        self.sequence += 1;
        self.socket.send_to(&bytes, to).expect("loopback takes it");
    }
}

fn loopback() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback port");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
}

#[test]
fn a_worker_allocates_and_frees_nothing_while_legs_come_speak_and_go() {
    let (mut worker, handle, mut retired) = worker(8).expect("file descriptors");
    let mut counts = Counts::default();
    let mut now = Instant::ZERO;
    let (mut buried, mut heard) = (0, 0);
    let mut step = |now: &mut Instant, counts: &mut Counts| {
        *now += Duration::from_millis(20);
        counted(counts, || {
            // Without a leg it would sleep for a second.
            if handle.legs() > 0 {
                worker.wait(*now);
            }
            worker.run_once(*now);
        });
    };
    for round in 0..30 {
        let mut far = Far { socket: loopback(), sequence: 0 };
        let socket = loopback();
        let ours = socket.local_addr().expect("bound");
        let (leg, mut port) = make_leg(far.socket.local_addr().expect("bound"), round, real_ears());
        let control = handle.add_leg(socket, Some(loopback()), leg).expect("a free seat");
        let mut seen = Seen::default();
        for tick in 0..50 {
            far.send(ours);
            if tick == 5 {
                speak(&mut port, 1);
                control.wake();
            }
            if tick == 15 {
                control.command(LegCommand::Cut { through: 1 }).expect("a living leg");
            }
            step(&mut now, &mut counts);
            drain(&mut port, &mut seen);
        }
        heard += seen.heard;
        assert_eq!(seen.cut, 1, "round {round}");
        if round % 2 == 0 {
            control.command(LegCommand::Stop).expect("a living leg");
            step(&mut now, &mut counts);
            assert!(control.is_over());
        }
        drop(control);
        // A dropped handle is noticed at the wake its drop causes, or at the leg's next deadline.
        step(&mut now, &mut counts);
        step(&mut now, &mut counts);
        buried += retired.bury();
        assert_eq!(buried as u64, round + 1);
        assert_eq!(handle.legs(), 0);
    }
    assert_eq!(counts, Counts::default());
    assert!(heard > 30 * 45, "{heard} frames were heard");
}
