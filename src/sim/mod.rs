//! The simulated world: scripted phones, a virtual network, and whole calls on a virtual clock.
mod ears;
mod fakes;
pub mod net;
mod phone;
mod scenario;
pub mod voice;
mod world;
pub use fakes::{Calls, Delays, Failure, Fault, Faults};
pub use phone::{Action, Phone};
pub use scenario::{Answer, Beep, Listen, Menu, Record, Scenario, ScenarioError, Step};
pub use world::{Model, Run, Uttered, World, WorldConfig};
