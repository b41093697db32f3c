//! One call: leg, playout, recording tap, events, outcome.
pub mod event;
pub mod io;
mod machine;
pub mod outcome;
pub mod port;
pub use event::{CallEvent, Lifecycle};
pub use machine::{CallConfig, Machine};
pub use outcome::{CallReport, HangupSource, Outcome};
