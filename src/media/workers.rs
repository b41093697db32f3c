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

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::audio::Frame;
    use crate::call::port::{LegCommand, LegEvent, Spoken};
    use crate::call::{LegConfig, LegPort, Listener, leg};
    use crate::detect::{Chain, ChainConfig};
    use crate::rtp::SessionConfig;
    use crate::sdp::Codec;
    use crate::signal::Signals;
    use crate::time::{MediaTime, Rate};

    struct Trap;

    impl Listener for Trap {
        fn observe(&mut self, frame: &Frame, _out: &mut Signals) {
            assert!(
                frame.samples()[0].unsigned_abs() < 1000,
                "this test's detector cannot stand loud frames"
            );
        }

        fn handle_gap(&mut self, _at: MediaTime, _out: &mut Signals) {}
    }

    fn socket() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback port");
        let address = socket.local_addr().expect("bound");
        (socket, address)
    }

    fn make(workers: &Workers, ssrc: u32, remote: SocketAddr, trapped: bool) -> (Leg, LegPort) {
        let chain = Chain::new(&ChainConfig::default());
        let listener: Box<dyn Listener> = if trapped { Box::new(Trap) } else { Box::new(chain) };
        leg(LegConfig {
            epoch: workers.clock().now(),
            session: SessionConfig {
                ssrc,
                sequence: 0,
                timestamp: 0,
                clock_hz: 8000,
                cname: *b"0123456789abcdef",
                ntp_epoch: 0,
            },
            codec: Codec::Pcmu,
            payload_type: 0,
            event_payload_type: None,
            remote: Some(remote),
            remote_rtcp: None,
            listener,
            tap: false,
        })
    }

    fn say(port: &mut LegPort, handle: &LegHandle, value: i16) {
        for i in 0..5 {
            let frame = Frame::from_samples(MediaTime::ZERO, Rate::Hz8000, &[value; 160]);
            let spoken = Spoken { utterance: 1, protected: true, last: i == 4, frame };
            port.playout.push(spoken).expect("room");
        }
        handle.wake();
    }

    /// Waits for the doorbell until `done`; at most five seconds of silence.
    fn listen(bell: &mut UnixStream, mut done: impl FnMut() -> bool) {
        bell.set_nonblocking(false).expect("a stream");
        bell.set_read_timeout(Some(Duration::from_secs(5))).expect("a stream");
        while !done() {
            let rings = bell.read(&mut [0; 64]).expect("the doorbell rings within seconds");
            assert!(rings > 0);
        }
    }

    #[test]
    fn two_legs_hear_each_other_over_real_sockets() {
        let workers = Workers::start(MediaConfig::default()).expect("a thread");
        let mut bell = workers.doorbells().expect("descriptors").remove(0);
        let ((socket_a, at_a), (socket_b, at_b)) = (socket(), socket());
        let (leg_a, mut a) = make(&workers, 1, at_b, false);
        let (leg_b, mut b) = make(&workers, 2, at_a, false);
        let handle_a = workers.add_leg(socket_a, None, leg_a).expect("room");
        let handle_b = workers.add_leg(socket_b, None, leg_b).expect("room");
        say(&mut a, &handle_a, 3000);
        let (mut loud, mut finished, mut rang) = (0, false, false);
        listen(&mut bell, || {
            rang |= handle_a.take_rung();
            while let Some(frame) = b.heard.pop() {
                loud += frame.samples().iter().filter(|s| s.unsigned_abs() > 2000).count();
            }
            while let Some(event) = a.events.pop() {
                finished |= matches!(event, LegEvent::PlayoutFinished { samples: 800, .. });
            }
            finished && loud >= 800
        });
        assert_eq!(loud, 800, "every sample, once");
        assert!(rang);
        handle_a.command(LegCommand::Stop).expect("a living leg");
        listen(&mut bell, || handle_a.is_over());
        let last = std::iter::from_fn(|| a.events.pop()).last();
        assert!(matches!(last, Some(LegEvent::Closed { .. })));
        assert!(matches!(handle_a.command(LegCommand::Resume), Err(MediaError::LegOver)));
        drop(handle_b);
        listen(&mut bell, || workers.legs() == 0);
        let stats = workers.stats()[0];
        assert!(stats.sent > 5 && stats.received > 5 && stats.panics == 0, "{stats:?}");
        println!("{stats:?}");
    }

    #[test]
    fn a_leg_that_panics_dies_alone() {
        let workers = Workers::start(MediaConfig::default()).expect("a thread");
        let mut bell = workers.doorbells().expect("descriptors").remove(0);
        let ((socket_a, at_a), (socket_b, at_b)) = (socket(), socket());
        let (leg_a, mut a) = make(&workers, 1, at_b, false);
        let (leg_b, b) = make(&workers, 2, at_a, true);
        let handle_a = workers.add_leg(socket_a, None, leg_a).expect("room");
        let handle_b = workers.add_leg(socket_b, None, leg_b).expect("room");
        say(&mut a, &handle_a, 3000);
        listen(&mut bell, || handle_b.is_over());
        assert_eq!(workers.stats()[0].panics, 1);
        let mut finished = false;
        listen(&mut bell, || {
            finished |= std::iter::from_fn(|| a.events.pop())
                .any(|e| matches!(e, LegEvent::PlayoutFinished { samples: 800, .. }));
            finished
        });
        assert!(!handle_a.is_over(), "the other leg lives and speaks to the end");
        drop(workers);
        assert!(b.events.is_abandoned(), "the dead leg was freed");
        assert!(handle_a.is_over(), "stopping ends all legs");
    }

    #[test]
    fn a_full_worker_refuses() {
        let workers =
            Workers::start(MediaConfig { legs_per_worker: 1, ..MediaConfig::default() }).expect("a thread");
        let ((socket_a, at_a), (socket_b, at_b)) = (socket(), socket());
        let (leg_a, _a) = make(&workers, 1, at_b, false);
        let (leg_b, _b) = make(&workers, 2, at_a, false);
        let _handle = workers.add_leg(socket_a, None, leg_a).expect("room");
        assert!(matches!(workers.add_leg(socket_b, None, leg_b), Err(MediaError::Full)));
    }
}
