//! Whole calls, end to end: the real program in processes of its own, over loopback, against its own far end and
//! against other people's software (SIPp, stubllm, Python).
//!
//! A peer that is not installed skips its test with a printed line; with `PATCHCORD_REQUIRE_PEERS=1` (`tests/run`) that
//! is a failure. `PATCHCORD_SIPP_CALLS` sets how many calls each SIPp test places.
#![cfg(all(feature = "server", feature = "local-models"))]
#![allow(clippy::disallowed_methods, reason = "these tests watch other processes in real time")]

#[path = "calls/demo.rs"]
mod demo;
#[path = "calls/edges.rs"]
mod edges;
#[path = "calls/service.rs"]
mod service;
#[path = "calls/sipp.rs"]
mod sipp;
#[path = "calls/support.rs"]
mod support;
