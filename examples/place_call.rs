//! Places one call with an embedded engine and prints what happens.
//!
//! Start somebody to call first: `patchcord sim --scenario receptionist`, then
//! `cargo run --release --example place_call -- sip:+12025550101@127.0.0.1:5070 "Ask whether they are open on Sunday."`

use std::sync::Arc;
use std::time::Duration;

use patchcord::backend::Voice;
use patchcord::backend::local::inference::InferencePool;
use patchcord::backend::local::models::{Model, ModelCache};
use patchcord::backend::local::piper::{LocalPiper, Piper};
use patchcord::backend::local::whisper::{LocalWhisper, Whisper};
use patchcord::backend::scripted::Scripted;
use patchcord::call::CallEvent;
use patchcord::engine::{Backends, CallRequest, Engine, EngineConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(to), Some(task)) = (arguments.next(), arguments.next()) else {
        return Err("usage: place_call sip:USER@HOST:PORT \"TASK\"".into());
    };

    // Recognition and synthesis in this process; one pool keeps them off the media threads.
    let cache = ModelCache::open(None);
    let pool = InferencePool::new();
    let whisper = Whisper::load(&cache.require(Model::WhisperTinyEn)?)?;
    let piper = Piper::from_cache(&cache)?;
    let backends = Backends {
        stt: Arc::new(LocalWhisper::new(Arc::new(whisper), pool.clone())),
        tts: Arc::new(LocalPiper::new(Arc::new(piper), pool)),
        llm: Arc::new(Scripted),
    };

    let engine = Engine::start(EngineConfig {
        sip_bind: "127.0.0.1:0".parse()?,
        public_ip: None,
        rtp_ports: None,
        media_workers: 1,
        trunk: None,
        backends,
        vad_model: Some(cache.require(Model::Silero)?.join("silero_vad.onnx")),
        ring_timeout: Duration::from_secs(30),
        max_call_duration: Duration::from_secs(300),
        seed: None,
    })
    .await?;

    let mut call = engine.place(CallRequest {
        id: "example".into(),
        to: to.into(),
        task: task.into(),
        voice: Voice::default(),
        personality: None,
        greeting: None,
        language: None,
        max_duration: None,
        recording: Some("place_call.wav".into()),
    })?;
    while let Some(event) = call.next_event().await {
        match event {
            CallEvent::Turn(turn) => {
                println!("{:6.2} s  {:?}: {}", turn.start.as_secs_f64(), turn.role, turn.text)
            }
            CallEvent::Finalized(report) => println!("{:?}; recording in place_call.wav", report.outcome),
            other => println!("          {other:?}"),
        }
    }
    engine.shutdown().await;
    Ok(())
}
