//! The realtime loop: worker threads that carry many legs each.
//!
//! In: UDP sockets and [`Leg`](crate::call::Leg)s ([`Workers::add_leg`]), commands and spoken audio through rings
//! ([`LegHandle`]). Out: datagrams, and a doorbell byte per worker and wake when some leg has put news into its
//! rings. Each worker sleeps in `mio` until a socket is readable, someone pokes it, or the earliest leg's deadline.
//! `mio` counts milliseconds and rounds up: a packet leaves at most 1 ms (plus the scheduler's delay) after it was
//! due and never before; all deadlines within a millisecond share one wake. Due times themselves do not move, so
//! lateness never adds up. What must be quicker than that, speech that begins and barge-in, is not timed: it wakes
//! the worker.
//!
//! A worker allocates nothing, frees nothing, locks nothing and logs nothing while it runs: legs arrive boxed through
//! a ring and leave through another to a reaper thread. A panic inside a leg ends that leg alone.
//!
//! This is an edge: the only clock of the media path is [`Clock`].

mod clock;
mod handle;
mod reaper;
mod worker;
mod workers;

pub use clock::Clock;
pub use handle::{LegHandle, MediaError, WorkerHandle};
pub use reaper::Retired;
pub use worker::{Worker, WorkerStats, worker};
pub use workers::{MediaConfig, Workers};
