//! The simulated world: scripted phones, a virtual network, and whole calls on a virtual clock.
pub mod net;
mod phone;
mod scenario;
pub mod voice;
mod world;
pub use phone::{Action, Phone};
pub use scenario::{Answer, Beep, Listen, Menu, Record, Scenario, ScenarioError, Step};
pub use world::{Delays, Run, World, WorldConfig};
