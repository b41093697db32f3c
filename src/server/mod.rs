//! The call API over HTTP (`docs/api.md` is the contract): routes, keys, limits and the store, on top of the library's
//! public API and nothing else.
//!
//! In: HTTP requests and a [`Dialer`] (an [`crate::engine::Engine`], or a fake in tests). Out: answers as the
//! contract has them, rows in SQLite, recordings served under signed paths. Time enters through the service's clock.
//!
//! ```text
//! routes ─ Caller (api key, client network) ─ Service::place ─ Dialer ─ events ─ tracker ─ store
//! ```

mod address;
mod body;
pub mod config;
mod dialer;
mod error;
mod phone;
mod place;
mod recordings;
mod routes;
mod run;
mod secrets;
mod service;
mod store;
mod tracker;
mod view;

pub use config::{Config, ConfigError};
pub use dialer::{Control, Dialer, Events, Placed};
pub use routes::app;
pub use run::{RunError, Server, run};
pub use service::{Clock, Service, StartError};
pub use store::StoreError;
