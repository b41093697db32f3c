//! The one pool of threads that runs models: recognition and synthesis share it, so that together they never take
//! more than all cores but one, and the media threads keep theirs.
//!
//! In: jobs, each with a [`Priority`]. Out: nothing; a job carries its own way to answer. Two bounded queues, the
//! urgent one always first. A job runs to its end: one that may become unwanted looks at a flag of its own now and
//! then (see the recogniser, whose partials give way to a final within a few milliseconds).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How soon a job is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// Somebody waits for it: final words, the next chunk of speech.
    Urgent,
    /// Good to have: words so far.
    Idle,
}

/// The queue for that priority is full; the job was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("inference pool: {limit} jobs wait already")]
pub struct PoolFull {
    /// How many jobs may wait.
    pub limit: usize,
}

/// A piece of work for the pool.
pub type Job = Box<dyn FnOnce() + Send>;

/// A handle on the pool; clones share it. When the last one is dropped the pool closes: waiting jobs are dropped,
/// running ones end, the threads go.
#[derive(Clone)]
pub struct InferencePool {
    inner: Arc<Closer>,
}

/// Closes the pool when the last handle goes. The workers hold [`Shared`] alone, so they do not keep it open.
struct Closer {
    shared: Arc<Shared>,
    threads: usize,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<Job>,
    idle: VecDeque<Job>,
    running: usize,
    panicked: u64,
    closed: bool,
}

impl Shared {
    /// Jobs run outside the lock, so a panic cannot leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InferencePool {
    /// Jobs that may wait in each queue.
    pub const MAX_WAITING: usize = 256;

    /// A pool of as many threads as there are cores but one, at least one.
    #[must_use]
    pub fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with_threads(cores.saturating_sub(1))
    }

    /// A pool of `threads` threads, at least one.
    ///
    /// # Panics
    /// When the system refuses to start a thread.
    #[must_use]
    pub fn with_threads(threads: usize) -> Self {
        let threads = threads.max(1);
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new() });
        for n in 0..threads {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("inference-{n}"))
                .spawn(move || work(&shared))
                .expect("the system can start a few threads at start-up");
        }
        Self { inner: Arc::new(Closer { shared, threads }) }
    }

    /// Queues a job. Never blocks for longer than a push.
    ///
    /// # Errors
    /// [`PoolFull`] when [`Self::MAX_WAITING`] jobs of this priority wait already; the job is dropped.
    pub fn submit(&self, priority: Priority, job: Job) -> Result<(), PoolFull> {
        let mut state = self.inner.shared.lock();
        let queue = match priority {
            Priority::Urgent => &mut state.urgent,
            Priority::Idle => &mut state.idle,
        };
        if queue.len() >= Self::MAX_WAITING {
            return Err(PoolFull { limit: Self::MAX_WAITING });
        }
        queue.push_back(job);
        drop(state);
        self.inner.shared.wake.notify_one();
        Ok(())
    }

    /// Whether an urgent job submitted now would have to wait: no thread is free.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let state = self.inner.shared.lock();
        state.running + state.urgent.len() + state.idle.len() >= self.inner.threads
    }

    /// Threads in the pool.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.threads
    }

    /// Jobs that ended in a panic since the pool began; their thread went on.
    #[must_use]
    pub fn panicked(&self) -> u64 {
        self.inner.shared.lock().panicked
    }
}

impl Default for InferencePool {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        // Dropped outside the lock: a job may own anything.
        let waiting = (std::mem::take(&mut state.urgent), std::mem::take(&mut state.idle));
        drop(state);
        drop(waiting);
        self.shared.wake.notify_all();
    }
}

fn work(shared: &Shared) {
    let mut state = shared.lock();
    loop {
        if let Some(job) = state.urgent.pop_front().or_else(|| state.idle.pop_front()) {
            state.running += 1;
            drop(state);
            // A bug in one call's inference must not take the pool from all others.
            let outcome = catch_unwind(AssertUnwindSafe(job));
            state = shared.lock();
            state.running -= 1;
            state.panicked += u64::from(outcome.is_err());
        } else if state.closed {
            return;
        } else {
            state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A pool of one thread that is held until the returned sender is dropped.
    fn held() -> (InferencePool, mpsc::Sender<()>) {
        let pool = InferencePool::with_threads(1);
        let (release, gate) = mpsc::channel::<()>();
        let (started, running) = mpsc::channel();
        pool.submit(
            Priority::Idle,
            Box::new(move || {
                started.send(()).expect("the test waits");
                let _ = gate.recv();
            }),
        )
        .expect("an empty queue");
        running.recv().expect("the job runs");
        (pool, release)
    }

    #[test]
    fn urgent_jobs_overtake_idle_ones() {
        let (pool, release) = held();
        let (said, heard) = mpsc::channel();
        for (priority, word) in
            [(Priority::Idle, 1), (Priority::Idle, 2), (Priority::Urgent, 3), (Priority::Urgent, 4)]
        {
            let said = said.clone();
            pool.submit(priority, Box::new(move || said.send(word).expect("open"))).expect("room");
        }
        drop((release, said));
        assert_eq!(heard.iter().collect::<Vec<_>>(), [3, 4, 1, 2]);
    }

    #[test]
    fn a_full_queue_refuses_and_the_other_one_still_takes() {
        let (pool, _release) = held();
        assert!(pool.is_busy());
        for _ in 0..InferencePool::MAX_WAITING {
            pool.submit(Priority::Idle, Box::new(|| ())).expect("room");
        }
        assert!(pool.submit(Priority::Idle, Box::new(|| ())).is_err());
        assert!(pool.submit(Priority::Urgent, Box::new(|| ())).is_ok());
    }

    #[test]
    fn a_panicking_job_costs_neither_thread_nor_pool() {
        let pool = InferencePool::with_threads(1);
        pool.submit(Priority::Urgent, Box::new(|| panic!("a bug, on purpose"))).expect("room");
        let (said, heard) = mpsc::channel();
        pool.submit(Priority::Urgent, Box::new(move || said.send(7).expect("open"))).expect("room");
        assert_eq!(heard.recv(), Ok(7));
        assert_eq!(pool.panicked(), 1);
    }

    #[test]
    fn dropping_the_last_handle_drops_the_waiting_jobs() {
        let (pool, release) = held();
        let (said, heard) = mpsc::channel::<()>();
        let other = pool.clone();
        pool.submit(Priority::Urgent, Box::new(move || said.send(()).expect("open"))).expect("room");
        drop(pool);
        assert_eq!(heard.try_recv(), Err(mpsc::TryRecvError::Empty), "one handle is left");
        drop(other);
        assert_eq!(heard.recv(), Err(mpsc::RecvError), "the job went unrun");
        drop(release);
    }
}
