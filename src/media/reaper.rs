//! Where legs go when they die: memory is freed and sockets are closed away from the media threads.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use super::worker::Seat;
use crate::ring::Consumer;

/// The reading end of a worker's ring of dead legs. Whoever holds it must empty it now and then.
pub struct Retired {
    seats: Consumer<Box<Seat>>,
}

impl Retired {
    pub(super) fn new(seats: Consumer<Box<Seat>>) -> Self {
        Self { seats }
    }

    /// Frees the legs that died since the last call, and says how many.
    pub fn bury(&mut self) -> usize {
        let mut buried = 0;
        while let Some(mut seat) = self.seats.pop() {
            if let Some(panic) = seat.panic.take() {
                tracing::error!(bug = what(&*panic), "a media leg panicked; its call ends");
            }
            buried += 1;
        }
        buried
    }
}

fn what(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("not a message")
}

/// A thread that buries.
pub(super) struct Reaper {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Reaper {
    /// Starts the thread.
    pub(super) fn start(mut retired: Vec<Retired>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::Builder::new().name("patchcord-reaper".into()).spawn(move || {
            loop {
                let last = told.load(Ordering::Acquire);
                for retired in &mut retired {
                    retired.bury();
                }
                if last {
                    return;
                }
                // Workers unpark us; the time-out only bounds what a missed one could cost.
                thread::park_timeout(Duration::from_secs(1));
            }
        })?;
        Ok(Self { thread: Some(thread), stop })
    }

    /// Whom workers wake.
    pub(super) fn thread(&self) -> Thread {
        self.thread.as_ref().expect("the thread runs until the reaper is dropped").thread().clone()
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
