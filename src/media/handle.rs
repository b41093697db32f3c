//! The async side's handles to a worker and its legs.

use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mio::Waker;

use super::worker::{Seat, WorkerCounters, WorkerStats};
use crate::call::Leg;
use crate::call::port::LegCommand;
use crate::ring::{Producer, ring};

/// Commands that may wait for a leg; the worker empties them at every wake.
const COMMANDS: usize = 64;

/// Why a leg cannot be run, or not be told something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// Every place is taken.
    #[error("no media worker has room for another leg")]
    Full,
    /// A socket cannot be used.
    #[error("cannot use the leg's socket: {0}")]
    Socket(#[from] io::Error),
    /// Too many commands wait: the worker does not run.
    #[error("the leg takes no more commands")]
    CommandsFull,
    /// The leg is over.
    #[error("the leg is over")]
    LegOver,
}

/// What a leg's seat and its handle share.
#[derive(Default)]
pub(super) struct LegFlags {
    /// Something is in the leg's rings for the async side.
    pub(super) rung: AtomicBool,
    /// Something is in the leg's rings for the worker.
    pub(super) poked: AtomicBool,
    /// The seat is empty.
    pub(super) over: AtomicBool,
}

/// A leg on a worker. Cheap to clone; dropping the last clone stops the leg.
#[derive(Clone)]
pub struct LegHandle {
    inner: Arc<Inner>,
}

struct Inner {
    // Locked on the async side only: the worker holds the ring's other end.
    commands: Mutex<Producer<LegCommand>>,
    flags: Arc<LegFlags>,
    waker: Arc<Waker>,
}

impl LegHandle {
    /// Tells the leg; it acts at once. Never waits for the media thread.
    ///
    /// # Errors
    /// [`MediaError::LegOver`], and [`MediaError::CommandsFull`] if 64 commands wait.
    pub fn command(&self, command: LegCommand) -> Result<(), MediaError> {
        if self.is_over() {
            return Err(MediaError::LegOver);
        }
        let mut commands = self.inner.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.push(command).map_err(|_| MediaError::CommandsFull)?;
        drop(commands);
        self.wake();
        Ok(())
    }

    /// Makes the worker look at the leg's rings now; to be called after frames were pushed for playout.
    pub fn wake(&self) {
        self.inner.wake();
    }

    /// Whether the leg has put something into its rings since this was last asked.
    #[must_use]
    pub fn take_rung(&self) -> bool {
        self.inner.flags.rung.swap(false, Ordering::AcqRel)
    }

    /// Whether the leg has left its worker: stopped, or dead of a bug (then without a last
    /// [`Closed`](crate::call::port::LegEvent::Closed)).
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.inner.flags.over.load(Ordering::Acquire)
    }
}

impl Inner {
    fn wake(&self) {
        if !self.flags.poked.swap(true, Ordering::AcqRel) {
            // It fails only if the worker's poll is gone; then there is nobody to wake.
            let _ = self.waker.wake();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.wake();
    }
}

/// The async side of one worker.
pub struct WorkerHandle {
    inbox: Mutex<Producer<Box<Seat>>>,
    waker: Arc<Waker>,
    seats: usize,
    taken: Arc<AtomicUsize>,
    doorbell: UnixStream,
    counters: Arc<WorkerCounters>,
    stop: Arc<AtomicBool>,
}

impl WorkerHandle {
    pub(super) fn new(
        inbox: Producer<Box<Seat>>,
        waker: Arc<Waker>,
        seats: usize,
        taken: Arc<AtomicUsize>,
        doorbell: UnixStream,
        counters: Arc<WorkerCounters>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self { inbox: Mutex::new(inbox), waker, seats, taken, doorbell, counters, stop }
    }

    /// Gives the worker a leg to run on `rtp`, and on `rtcp` if RTCP has a port of its own.
    ///
    /// # Errors
    /// [`MediaError::Full`], and [`MediaError::Socket`] if a socket cannot be made non-blocking.
    pub fn add_leg(
        &self,
        rtp: UdpSocket,
        rtcp: Option<UdpSocket>,
        leg: Leg,
    ) -> Result<LegHandle, MediaError> {
        rtp.set_nonblocking(true)?;
        if let Some(rtcp) = &rtcp {
            rtcp.set_nonblocking(true)?;
        }
        let (commands, waiting) = ring(COMMANDS);
        let flags = Arc::new(LegFlags::default());
        let seat = Seat::new(leg, rtp, rtcp, waiting, Arc::clone(&flags));
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if self.taken.load(Ordering::Acquire) >= self.seats {
            return Err(MediaError::Full);
        }
        self.taken.fetch_add(1, Ordering::AcqRel);
        if inbox.push(Box::new(seat)).is_err() {
            self.taken.fetch_sub(1, Ordering::AcqRel);
            return Err(MediaError::Full);
        }
        drop(inbox);
        self.waker.wake()?;
        let waker = Arc::clone(&self.waker);
        Ok(LegHandle { inner: Arc::new(Inner { commands: Mutex::new(commands), flags, waker }) })
    }

    /// Legs on the worker or on their way to it.
    #[must_use]
    pub fn legs(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// The stream that gets a byte whenever some leg of the worker has news; non-blocking.
    ///
    /// # Errors
    /// When the system has no file descriptor left.
    pub fn doorbell(&self) -> io::Result<UnixStream> {
        self.doorbell.try_clone()
    }

    /// What the worker has done so far.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        self.counters.stats()
    }

    /// Stops the worker: legs say goodbye and retire.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.waker.wake();
    }
}
