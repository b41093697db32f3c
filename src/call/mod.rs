//! One call: leg, playout, recording tap, events, outcome.
pub mod analyze;
pub mod event;
pub mod io;
pub mod outcome;
pub mod port;
pub use event::{CallEvent, Lifecycle};
pub use outcome::{CallReport, HangupSource, Outcome};
