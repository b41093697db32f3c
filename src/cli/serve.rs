//! `patchcord serve`: the call API.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use patchcord::backend::local::models::ModelCache;
use patchcord::engine::Engine;
use patchcord::server::{Config, Server};

use super::{Failure, asked_to_stop, local};

#[derive(Args)]
pub(super) struct ServeArgs {
    /// Settings; without a file every setting has its default: loopback only, simulated trunk.
    #[arg(long, value_name = "patchcord.toml")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    start(config, asked_to_stop(), |address| println!("listening on http://{address}")).await?;
    Ok(ExitCode::SUCCESS)
}

/// Brings up models, engine and service, and serves until `stop`. `ready` is told the bound address.
pub(super) async fn start(
    config: Config,
    stop: impl Future<Output = ()> + Send + 'static,
    ready: impl FnOnce(std::net::SocketAddr),
) -> Result<(), Failure> {
    let cache = ModelCache::open(config.models.dir.clone());
    local::ensure_models(&cache)?;
    let b = &config.backends;
    let backends = local::backends(&cache, b.stt, b.tts, b.llm, b.openai.as_ref())?;
    let engine = Engine::start(config.engine(backends, local::vad_weights(&cache))?).await?;
    let server = Server::bind(config, Arc::new(engine)).await?;
    ready(server.local_addr()?);
    server.serve(stop).await?;
    Ok(())
}
