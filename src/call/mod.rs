//! One call: leg, playout, recording tap, events, outcome.
pub mod analyze;
pub mod event;
pub mod io;
pub mod leg;
mod machine;
pub mod outcome;
mod playout;
pub mod port;
pub mod tap;
pub use event::{CallEvent, Lifecycle};
pub use leg::{Leg, LegConfig, LegPort, Listener, leg};
pub use machine::{CallConfig, Machine};
pub use outcome::{CallReport, HangupSource, Outcome};
