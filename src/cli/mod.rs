//! The command line: thin commands over the library.

mod analyze;
mod call;
mod client;
mod demo;
mod journal;
mod local;
mod models;
mod report;
mod scenarios;
mod serve;
mod sim;
mod timeline;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Puts an AI agent on the phone.
///
/// `patchcord demo` shows a whole call on this machine, without any key. `patchcord serve` runs the call API.
#[derive(Parser)]
#[command(version, about, propagate_version = true)]
struct Cli {
    /// Log more: info, debug, trace (also through PATCHCORD_LOG, e.g. `patchcord=debug`).
    #[arg(long, global = true, env = "PATCHCORD_LOG", default_value = "warn", value_name = "FILTER")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a whole AI phone call on this machine: local models, real SIP and RTP, no key.
    Demo(demo::DemoArgs),
    /// Run the call API.
    Serve(serve::ServeArgs),
    /// Place a call through a running service.
    Call(call::CallArgs),
    /// Be the far end: a SIP endpoint that answers by scenario.
    Sim(sim::SimArgs),
    /// Fetch, list and check the local models.
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Run the live detectors over recordings.
    Analyze(analyze::AnalyzeArgs),
}

/// What went wrong, in words for a person.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Parses the arguments, runs the command, and says how it went: 0 fine, 1 it did not work out (2 for arguments that
/// make no sense, and for recordings that cannot be analysed).
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    init_logging(&cli.log);
    let result = match cli.command {
        Command::Models(command) => models::run(&command),
        Command::Analyze(args) => return analyze::run(&args),
        Command::Demo(args) => on_runtime(demo::run(args)),
        Command::Serve(args) => on_runtime(serve::run(args)),
        Command::Call(args) => on_runtime(call::run(args)),
        Command::Sim(args) => on_runtime(sim::run(args)),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("patchcord: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn on_runtime(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn init_logging(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_else(|error| {
        eprintln!("patchcord: --log {filter}: {error}; logging warnings");
        tracing_subscriber::EnvFilter::new("warn")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// Resolves when the process is asked to stop: Ctrl-C or SIGTERM.
async fn asked_to_stop() {
    let mut term = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(term) => term,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be watched");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}
