//! `patchcord call`: place a call through a running service.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::client::{Client, follow};
use super::{Failure, asked_to_stop, report};

#[derive(Args)]
pub(super) struct CallArgs {
    /// Number to call, E.164, e.g. +12025550101.
    number: String,
    /// What the agent should do, in plain words.
    #[arg(long)]
    task: String,
    /// The service.
    #[arg(long, env = "PATCHCORD_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,
    /// API key; without one the call is anonymous, where the service allows it.
    #[arg(long, env = "PATCHCORD_API_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// Voice of the agent.
    #[arg(long)]
    voice: Option<String>,
    /// Spoken after the disclosure.
    #[arg(long)]
    greeting: Option<String>,
    /// Print the conversation until the call is over; Ctrl-C hangs up.
    #[arg(long)]
    follow: bool,
}

pub(super) async fn run(args: CallArgs) -> Result<ExitCode, Failure> {
    let mut client = Client::new(&args.url, args.key)?;
    let mut body = json!({"to": args.number, "task": args.task});
    for (field, value) in [("voice", args.voice), ("greeting", args.greeting)] {
        if let Some(value) = value {
            body[field] = value.into();
        }
    }
    let id = client.place(&body).await?;
    println!("call {id}");
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    let call = tokio::select! {
        call = follow(&client, &id, false) => call?,
        () = asked_to_stop() => {
            client.hang_up(&id).await?;
            follow(&client, &id, true).await?
        }
    };
    report::print_outcome(&call);
    Ok(if call["outcome"] == "completed" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
