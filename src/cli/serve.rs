//! `patchcord serve`: the call API.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use patchcord::agent::DISCLOSURE;
use patchcord::backend::Voice;
use patchcord::engine::{Backends, Engine};
use patchcord::server::{Config, Server};

use super::{Failure, asked_to_stop, local};

#[derive(Args)]
pub(super) struct ServeArgs {
    /// Settings; without a file every setting has its default: loopback only, simulated trunk.
    #[arg(long, value_name = "patchcord.toml")]
    config: Option<PathBuf>,
    /// Issue a new API key at start and print it; it is shown this once.
    #[arg(long)]
    issue_key: bool,
}

pub(super) async fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    let server = bind(config).await?;
    if args.issue_key {
        println!("API key: {}", server.service().issue_key().await?);
    }
    println!("listening on http://{}", server.local_addr()?);
    server.serve(asked_to_stop()).await?;
    Ok(ExitCode::SUCCESS)
}

/// Brings up models and engine, and binds the service.
pub(super) async fn bind(config: Config) -> Result<Server, Failure> {
    let cache = local::cache(&config.models);
    local::ensure_models(&cache)?;
    let b = &config.backends;
    let backends = local::backends(&cache, b.stt, b.tts, b.llm, b.openai.as_ref())?;
    rehearse(&backends, &config);
    let engine = Engine::start(config.engine(backends, local::vad_weights(&cache))?).await?;
    Ok(Server::bind(config, Arc::new(engine)).await?)
}

/// Voices what every call begins with, so that the first call starts as fast as the next ones.
fn rehearse(backends: &Backends, config: &Config) {
    let tts = Arc::clone(&backends.tts);
    let mut voices: Vec<Voice> = config
        .voices
        .iter()
        .map(|(name, voice)| Voice { name: name.clone(), pitch: voice.pitch, speed: voice.speed })
        .collect();
    voices.sort_by_key(|voice| voice.name != config.agent.default_voice);
    tokio::spawn(async move {
        for voice in voices {
            let Ok(mut stream) = tts.speak(&voice) else { return };
            // The first call will meet, and report, whatever is wrong.
            let _ = stream.text.send(DISCLOSURE.to_owned()).await;
            drop(stream.text);
            while stream.audio.recv().await.is_some() {}
        }
    });
}
