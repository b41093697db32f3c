//! Models that run in this process, on one pool of threads.

pub mod inference;
pub mod models;
pub mod piper;
pub mod text;
pub mod whisper;
