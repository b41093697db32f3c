//! The embedder's API: start an [`Engine`], place a [`Call`], follow its events, fetch its report.
//!
//! Everything async that is not HTTP lives here: the SIP socket and its timers, the drivers that carry audio between
//! legs and backends, the recording writer. Decisions are made by the pure machines below.

mod callee;
mod config;
mod driver;
mod handle;
mod recorder;
mod signalling;
mod station;
mod voice;

pub use callee::{Callee, CalleeConfig, JournalEntry};
pub use config::{
    Backends, CallRequest, DigestCredentials, EngineConfig, EngineError, PlaceError, TrunkConfig,
};
pub use handle::{Call, CallControl, Engine};
