#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod agent;
pub mod answer;
pub mod audio;
pub mod call;
pub mod detect;
pub mod pii;
pub mod ring;
pub mod rtp;
pub mod sdp;
pub mod seed;
pub mod signal;
pub mod sim;
pub mod sip;
pub mod time;
pub mod turn;

#[cfg(feature = "engine")]
pub mod backend;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod media;
#[cfg(feature = "server")]
pub mod server;
