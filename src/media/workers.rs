//! The worker threads and how legs are spread over them.

use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use super::clock::Clock;
use super::handle::{LegHandle, MediaError, WorkerHandle};
use super::reaper::Reaper;
use super::worker::{Worker, WorkerStats, worker};
use crate::call::Leg;

/// How to run media.
#[derive(Clone, Copy, Debug)]
pub struct MediaConfig {
    /// Worker threads; at least one is started.
    pub workers: usize,
    /// Legs each worker takes at most.
    pub legs_per_worker: usize,
    /// The clock all of them read.
    pub clock: Clock,
}

impl Default for MediaConfig {
    /// One worker, 512 legs, a clock that starts now.
    fn default() -> Self {
        Self { workers: 1, legs_per_worker: 512, clock: Clock::new() }
    }
}

/// Running media threads. Dropping it stops them: legs say goodbye, threads are joined.
pub struct Workers {
    clock: Clock,
    handles: Vec<WorkerHandle>,
    threads: Vec<JoinHandle<()>>,
    // After the threads: what they retire last is buried, too.
    _reaper: Reaper,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system refuses a thread or a file descriptor.
    pub fn start(config: MediaConfig) -> io::Result<Self> {
        let mut made = Vec::new();
        let mut retired = Vec::new();
        for _ in 0..config.workers.max(1) {
            let (worker, handle, dead) = worker(config.legs_per_worker.max(1))?;
            made.push((worker, handle));
            retired.push(dead);
        }
        let reaper = Reaper::start(retired)?;
        let mut workers =
            Self { clock: config.clock, handles: Vec::new(), threads: Vec::new(), _reaper: reaper };
        for (i, (mut worker, handle)) in made.into_iter().enumerate() {
            worker.set_reaper(workers._reaper.thread());
            let clock = config.clock;
            let name = format!("patchcord-media-{i}");
            workers.handles.push(handle);
            workers.threads.push(thread::Builder::new().name(name).spawn(move || run(worker, clock))?);
        }
        Ok(workers)
    }

    /// Runs `leg` on the worker with the fewest legs. RTCP shares the RTP port unless it has a socket of its own.
    ///
    /// # Errors
    /// [`MediaError::Full`] if no worker has room, [`MediaError::Socket`] if a socket cannot be used.
    pub fn add_leg(
        &self,
        rtp: UdpSocket,
        rtcp: Option<UdpSocket>,
        leg: Leg,
    ) -> Result<LegHandle, MediaError> {
        let least = self.handles.iter().min_by_key(|h| h.legs()).expect("at least one worker");
        least.add_leg(rtp, rtcp, leg)
    }

    /// The clock the workers read.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// One stream per worker that becomes readable when some leg of it has news ([`LegHandle::take_rung`] says which).
    /// Non-blocking; read it empty before looking at the legs. Clones share what is to be read.
    ///
    /// # Errors
    /// When the system has no file descriptor left.
    pub fn doorbells(&self) -> io::Result<Vec<UnixStream>> {
        self.handles.iter().map(WorkerHandle::doorbell).collect()
    }

    /// Legs on all workers.
    #[must_use]
    pub fn legs(&self) -> usize {
        self.handles.iter().map(WorkerHandle::legs).sum()
    }

    /// What each worker has done so far.
    #[must_use]
    pub fn stats(&self) -> Vec<WorkerStats> {
        self.handles.iter().map(WorkerHandle::stats).collect()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.handles.iter().for_each(WorkerHandle::stop);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(mut worker: Worker, clock: Clock) {
    while !worker.is_stopping() {
        worker.wait(clock.now());
        worker.run_once(clock.now());
    }
    worker.close(clock.now());
}
