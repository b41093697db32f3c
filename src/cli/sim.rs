//! `patchcord sim`: the far end in a process of its own.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use patchcord::backend::local::inference::InferencePool;
use patchcord::backend::local::models::ModelCache;
use patchcord::engine::{Callee, CalleeConfig};
use tokio::io::AsyncReadExt as _;

use super::{Failure, asked_to_stop, local, scenarios};

#[derive(Args)]
pub(super) struct SimArgs {
    /// Shipped scenario to play (repeatable), or `all`; each answers at its own number, the first at every other.
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// Scenario of your own (repeatable); copy a shipped one and change it.
    #[arg(long = "file", value_name = "FILE.toml")]
    files: Vec<PathBuf>,
    /// Where to listen for SIP over UDP.
    #[arg(long, default_value = "127.0.0.1:5070", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Folder for mailbox recordings and the journal.
    #[arg(long, default_value = "patchcord-mailbox", value_name = "DIR")]
    mailbox: PathBuf,
    /// End when standard input closes: for a parent process.
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

pub(super) async fn run(args: SimArgs) -> Result<ExitCode, Failure> {
    let mut chosen = Vec::new();
    for name in &args.scenarios {
        chosen.extend(scenarios::shipped(name)?);
    }
    for file in &args.files {
        chosen.push(scenarios::from_file(file)?);
    }
    if chosen.is_empty() {
        chosen = scenarios::shipped("all")?;
    }
    let cache = ModelCache::open(None);
    local::ensure_models(&cache)?;
    let pool = InferencePool::new();
    let config = CalleeConfig {
        sip_bind: args.listen,
        scenarios: chosen.clone(),
        tts: local::voice(&cache, &pool)?,
        vad_model: local::vad_weights(&cache),
        mailbox: args.mailbox,
    };
    let bar = indicatif::ProgressBar::new(0).with_message("voicing the callee's lines");
    let callee = Callee::start(config, |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })
    .await?;
    bar.finish_and_clear();
    // The first line of output is for programs: it ends with the address.
    println!("listening on {}", callee.address());
    for scenario in &chosen {
        println!("  {:<14} {:<18} {}", scenario.number, scenario.name, scenario.summary);
    }
    std::io::stdout().flush()?;
    tokio::select! {
        () = callee.run() => {}
        () = asked_to_stop() => {}
        () = stdin_closed(), if args.exit_with_stdin => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    while matches!(stdin.read(&mut buffer).await, Ok(n) if n > 0) {}
}
