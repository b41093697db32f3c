//! One media thread's loop: sleep, read, run legs, send, ring the doorbell.
//!
//! [`Worker::wait`] sleeps, [`Worker::run_once`] does everything else for one wake; the caller passes `now`. Neither
//! allocates, frees or locks, also while legs come and go (a leg that panics is the exception: unwinding allocates).

use std::any::Any;
use std::io::{self, ErrorKind, Write as _};
use std::net::UdpSocket as StdSocket;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::handle::{LegFlags, WorkerHandle};
use super::reaper::Retired;
use crate::call::Leg;
use crate::call::port::LegCommand;
use crate::ring::{Consumer, Producer, ring};
use crate::rtp::Session;
use crate::time::Instant;

const WAKER: Token = Token(usize::MAX);
/// Datagrams read from one socket in one wake; the rest comes in the next, which follows at once: more than
/// a 20 ms stream that was held up for a second.
const READS: usize = 64;
/// Larger than any packet of speech; what is longer is cut by the system and then malformed.
const DATAGRAM: usize = 2048;
/// The longest sleep, so that a clock oddity cannot stop a worker.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What a worker has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WorkerStats {
    /// Wakes.
    pub wakes: u64,
    /// Datagrams read.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams the system would not take or give.
    pub socket_errors: u64,
    /// Legs that died of a bug.
    pub panics: u64,
    /// The latest any leg was run after its deadline (µs).
    pub latest_us: u64,
}

#[derive(Default)]
pub(super) struct WorkerCounters {
    wakes: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    socket_errors: AtomicU64,
    panics: AtomicU64,
    latest_us: AtomicU64,
}

impl WorkerCounters {
    fn publish(&self, stats: &WorkerStats) {
        self.wakes.store(stats.wakes, Ordering::Relaxed);
        self.received.store(stats.received, Ordering::Relaxed);
        self.sent.store(stats.sent, Ordering::Relaxed);
        self.socket_errors.store(stats.socket_errors, Ordering::Relaxed);
        self.panics.store(stats.panics, Ordering::Relaxed);
        self.latest_us.store(stats.latest_us, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> WorkerStats {
        WorkerStats {
            wakes: self.wakes.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            socket_errors: self.socket_errors.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
            latest_us: self.latest_us.load(Ordering::Relaxed),
        }
    }
}

/// A leg with all it needs on a worker.
pub(super) struct Seat {
    leg: Leg,
    rtp: UdpSocket,
    rtcp: Option<UdpSocket>,
    /// Which of the two sockets may have something to read.
    readable: [bool; 2],
    commands: Consumer<LegCommand>,
    flags: Arc<LegFlags>,
    pub(super) panic: Option<Box<dyn Any + Send>>,
}

impl Seat {
    pub(super) fn new(
        leg: Leg,
        rtp: StdSocket,
        rtcp: Option<StdSocket>,
        commands: Consumer<LegCommand>,
        flags: Arc<LegFlags>,
    ) -> Self {
        Self {
            leg,
            rtp: UdpSocket::from_std(rtp),
            rtcp: rtcp.map(UdpSocket::from_std),
            readable: [true; 2],
            commands,
            flags,
            panic: None,
        }
    }

    fn register(&mut self, registry: &Registry, seat: usize) -> io::Result<()> {
        registry.register(&mut self.rtp, Token(seat * 2), Interest::READABLE)?;
        match &mut self.rtcp {
            Some(rtcp) => registry.register(rtcp, Token(seat * 2 + 1), Interest::READABLE),
            None => Ok(()),
        }
    }

    fn deregister(&mut self, registry: &Registry) {
        // Fails only for a socket that was never registered.
        let _ = registry.deregister(&mut self.rtp);
        if let Some(rtcp) = &mut self.rtcp {
            let _ = registry.deregister(rtcp);
        }
    }

    /// Runs the leg for one wake.
    fn run(&mut self, now: Instant, scratch: &mut Scratch, stats: &mut WorkerStats) {
        while let Some(command) = self.commands.pop() {
            self.leg.handle_command(now, command);
        }
        if self.commands.is_abandoned() {
            self.leg.handle_command(now, LegCommand::Stop);
        }
        for port in 0..2 {
            if self.readable[port] {
                self.readable[port] = self.read(port, now, scratch, stats);
            }
        }
        self.leg.handle_timeout(now);
        while let Some((len, to)) = self.leg.poll_transmit(&mut scratch.transmit) {
            let datagram = &scratch.transmit[..len];
            let socket = match &self.rtcp {
                Some(rtcp) if Session::is_rtcp(datagram) => rtcp,
                _ => &self.rtp,
            };
            match socket.send_to(datagram, to) {
                Ok(_) => stats.sent += 1,
                // Sound is not worth repeating: the next packet comes in 20 ms.
                Err(_) => stats.socket_errors += 1,
            }
        }
    }

    /// Reads a socket; whether it may have more.
    fn read(&mut self, port: usize, now: Instant, scratch: &mut Scratch, stats: &mut WorkerStats) -> bool {
        let socket = match (port, &self.rtcp) {
            (0, _) => &self.rtp,
            (_, Some(rtcp)) => rtcp,
            (_, None) => return false,
        };
        for _ in 0..READS {
            match socket.recv_from(&mut scratch.receive) {
                Ok((len, from)) => {
                    stats.received += 1;
                    self.leg.handle_datagram(now, from, &scratch.receive[..len]);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => stats.socket_errors += 1,
            }
        }
        true
    }
}

struct Scratch {
    receive: [u8; DATAGRAM],
    transmit: [u8; Leg::MAX_DATAGRAM],
}

/// The state of one media thread.
pub struct Worker {
    poll: Poll,
    events: Events,
    inbox: Consumer<Box<Seat>>,
    retired: Producer<Box<Seat>>,
    reaper: Option<Thread>,
    seats: Vec<Option<Box<Seat>>>,
    /// Per seat, apart so that looking for the earliest touches little memory.
    deadlines: Vec<Instant>,
    taken: Arc<AtomicUsize>,
    doorbell: UnixStream,
    counters: Arc<WorkerCounters>,
    stop: Arc<AtomicBool>,
    scratch: Box<Scratch>,
    stats: WorkerStats,
    /// A socket was not read to its end.
    more: bool,
}

/// Makes a worker for up to `seats` legs, the async side's handle to it, and the ring its dead legs leave by. Nothing
/// runs until someone calls [`Worker::wait`] and [`Worker::run_once`] in turn.
///
/// # Errors
/// When the system has no file descriptors left.
pub fn worker(seats: usize) -> io::Result<(Worker, WorkerHandle, Retired)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let (bell_tx, bell_rx) = UnixStream::pair()?;
    bell_tx.set_nonblocking(true)?;
    bell_rx.set_nonblocking(true)?;
    let (inbox_tx, inbox) = ring(seats);
    let (retired, retired_rx) = ring(seats);
    let taken = Arc::new(AtomicUsize::new(0));
    let counters = Arc::new(WorkerCounters::default());
    let stop = Arc::new(AtomicBool::new(false));
    let worker = Worker {
        poll,
        events: Events::with_capacity(256),
        inbox,
        retired,
        reaper: None,
        seats: std::iter::repeat_with(|| None).take(seats).collect(),
        deadlines: vec![Instant::ZERO; seats],
        taken: Arc::clone(&taken),
        doorbell: bell_tx,
        counters: Arc::clone(&counters),
        stop: Arc::clone(&stop),
        scratch: Box::new(Scratch { receive: [0; DATAGRAM], transmit: [0; Leg::MAX_DATAGRAM] }),
        stats: WorkerStats::default(),
        more: false,
    };
    let handle = WorkerHandle::new(inbox_tx, waker, seats, taken, bell_rx, counters, stop);
    Ok((worker, handle, Retired::new(retired_rx)))
}

impl Worker {
    /// Whom to wake when a leg was retired.
    pub(super) fn set_reaper(&mut self, reaper: Thread) {
        self.reaper = Some(reaper);
    }

    /// Whether someone asked the worker to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Sleeps until a socket is readable, someone pokes, or the earliest deadline has come, at most a second.
    pub fn wait(&mut self, now: Instant) {
        let timeout = if self.more { Duration::ZERO } else { self.until_deadline(now) };
        if self.poll.poll(&mut self.events, Some(timeout)).is_err() {
            // Interrupted by a signal: whatever is ready is reported again.
            return;
        }
        for event in &self.events {
            if event.token() == WAKER {
                continue;
            }
            let (seat, port) = (event.token().0 / 2, event.token().0 % 2);
            if let Some(seat) = self.seats.get_mut(seat).and_then(Option::as_mut) {
                seat.readable[port] = true;
            }
        }
    }

    /// Runs every leg that has something to do, takes in new legs, lets go of dead ones, rings the doorbell.
    pub fn run_once(&mut self, now: Instant) {
        self.stats.wakes += 1;
        self.seat_newcomers(now);
        let mut rung = false;
        self.more = false;
        for at in 0..self.seats.len() {
            rung |= self.run_seat(at, now);
        }
        self.counters.publish(&self.stats);
        if rung {
            // Full means that it rings already.
            let _ = self.doorbell.write(&[1]);
        }
    }

    /// Ends all legs, with a goodbye to the far ends.
    pub fn close(&mut self, now: Instant) {
        self.seat_newcomers(now);
        for seat in self.seats.iter_mut().flatten() {
            let Scratch { transmit, .. } = &mut *self.scratch;
            let last_words = catch_unwind(AssertUnwindSafe(|| {
                seat.leg.handle_command(now, LegCommand::Stop);
                while let Some((len, to)) = seat.leg.poll_transmit(transmit) {
                    let _ = seat.rtcp.as_ref().unwrap_or(&seat.rtp).send_to(&transmit[..len], to);
                }
            }));
            seat.panic = last_words.err();
            seat.flags.rung.store(true, Ordering::Release);
        }
        for at in 0..self.seats.len() {
            self.retire(at);
        }
        let _ = self.doorbell.write(&[1]);
    }

    fn until_deadline(&self, now: Instant) -> Duration {
        let seats = self.seats.iter().zip(&self.deadlines);
        let next = seats.filter(|(seat, _)| seat.is_some()).map(|(_, &deadline)| deadline).min();
        next.map_or(LONGEST_SLEEP, |next| next.since(now).min(LONGEST_SLEEP))
    }

    fn seat_newcomers(&mut self, now: Instant) {
        while let Some(at) = self.seats.iter().position(Option::is_none) {
            let Some(mut newcomer) = self.inbox.pop() else { return };
            // Phases of neighbours in the table lie far apart whatever the number of legs (golden ratio).
            let phase = (at as f64 * 0.618_033_988_75).fract() * 20.0e6;
            newcomer.leg.stagger(Duration::from_nanos(phase as u64));
            let registered = newcomer.register(self.poll.registry(), at);
            self.deadlines[at] = now;
            self.seats[at] = Some(newcomer);
            if registered.is_err() {
                self.stats.socket_errors += 1;
                self.retire(at);
            }
        }
    }

    /// Runs the leg in seat `at` if it has something to do; whether it put news into its rings.
    fn run_seat(&mut self, at: usize, now: Instant) -> bool {
        let Some(seat) = &mut self.seats[at] else { return false };
        if seat.flags.over.load(Ordering::Relaxed) {
            self.retire(at);
            return false;
        }
        let late = now.since(self.deadlines[at]);
        let due = self.deadlines[at] <= now;
        let poked = seat.flags.poked.swap(false, Ordering::AcqRel);
        if !due && !poked && !seat.readable.contains(&true) {
            return false;
        }
        let (scratch, stats) = (&mut *self.scratch, &mut self.stats);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            seat.run(now, scratch, stats);
            (seat.leg.next_deadline(), seat.leg.is_over(), seat.leg.rung())
        }));
        if due {
            stats.latest_us = stats.latest_us.max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
        }
        let (deadline, over, rung) = outcome.unwrap_or_else(|panic| {
            stats.panics += 1;
            seat.panic = Some(panic);
            (now, true, true)
        });
        self.more |= seat.readable.contains(&true);
        self.deadlines[at] = deadline;
        if rung {
            seat.flags.rung.store(true, Ordering::Release);
        }
        if over {
            self.retire(at);
        }
        rung
    }

    fn retire(&mut self, at: usize) {
        let Some(mut seat) = self.seats[at].take() else { return };
        seat.deregister(self.poll.registry());
        seat.flags.rung.store(true, Ordering::Release);
        seat.flags.over.store(true, Ordering::Release);
        if let Err(seat) = self.retired.push(seat) {
            // The reaper is behind by as many legs as there are seats: the dead one keeps its seat until there is room.
            self.seats[at] = Some(seat);
            return;
        }
        self.taken.fetch_sub(1, Ordering::AcqRel);
        if let Some(reaper) = &self.reaper {
            reaper.unpark();
        }
    }
}
