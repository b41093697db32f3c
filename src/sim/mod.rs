//! The simulated world: scripted phones and a virtual network.
pub mod net;
mod phone;
mod scenario;
pub use phone::{Action, Phone};
pub use scenario::{Answer, Beep, Listen, Menu, Record, Scenario, ScenarioError, Step};
