//! `patchcord demo`: service and callee on free loopback ports, a call placed by HTTP, and everything it left behind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use patchcord::backend::local::models::ModelCache;
use patchcord::engine::JournalEntry;
use patchcord::server::config::{LlmKind, OpenAiSettings};
use patchcord::server::{Config, RunError};
use patchcord::sim::Scenario;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::client::{Client, follow};
use super::report::{Latencies, print_outcome};
use super::{Failure, journal, local, scenarios, serve, timeline};

/// How long the far end may take to voice its lines and listen.
const CALLEE_START: Duration = Duration::from_secs(120);
/// The longest a demo call rings before nobody answers (s); people's phones ring longer.
const DEMO_RING_SECONDS: u64 = 8;

#[derive(Args)]
pub(super) struct DemoArgs {
    /// Scenario to call, or `all`: receptionist, voicemail, voicemail-silent, menu, busy, no-answer, declined,
    /// invalid-number.
    #[arg(long, default_value = "receptionist", value_name = "NAME")]
    scenario: String,
    /// Place the call so many times and print percentiles.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Folder for recordings, JSON and pictures.
    #[arg(long, default_value = "patchcord-demo", value_name = "DIR")]
    out: PathBuf,
    /// Use an OpenAI-compatible server instead of the scripted dialogue, e.g. http://127.0.0.1:8000/v1.
    #[arg(long, value_name = "URL")]
    llm_url: Option<String>,
    /// Model name for --llm-url.
    #[arg(long, default_value = "default", value_name = "NAME")]
    llm_model: String,
    /// Environment variable that holds the key for --llm-url.
    #[arg(long, value_name = "VARIABLE")]
    llm_key_env: Option<String>,
    /// Another task for the agent than the scenario's.
    #[arg(long)]
    task: Option<String>,
}

pub(super) async fn run(args: DemoArgs) -> Result<ExitCode, Failure> {
    let chosen = scenarios::shipped(&args.scenario)?;
    std::fs::create_dir_all(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?;
    let out = args.out.canonicalize()?;
    local::ensure_models(&ModelCache::open(None))?;
    let (callee, callee_address) = start_callee(&args.scenario, &out).await?;
    let service = Service::start(config(&args, callee_address, &out)).await?;
    println!("service on http://{}, callee on sip:{callee_address}", service.address);

    let mut demo = Demo {
        client: Client::new(&format!("http://{}", service.address), None)?,
        out,
        task: args.task,
        latencies: Latencies::default(),
        checks: Checks::default(),
    };
    let single = args.repeat == 1;
    for scenario in &chosen {
        for n in 1..=args.repeat {
            demo.call(scenario, n, single).await?;
        }
    }
    if !single {
        demo.latencies.print(false);
    }
    service.stop().await?;
    drop(callee);
    Ok(demo.checks.conclude())
}

fn config(args: &DemoArgs, callee: SocketAddr, out: &Path) -> Config {
    let mut config = Config::default();
    config.server.bind = SocketAddr::from(([127, 0, 0, 1], 0));
    config.server.data_dir = out.join("service");
    config.server.drain_seconds = 0;
    config.trunk.address = callee.to_string();
    config.sip.ring_seconds = DEMO_RING_SECONDS;
    // A demo may be repeated more often than a stranger may call.
    config.limits.trial_calls = 100_000;
    config.limits.anonymous_calls_per_hour = 100_000;
    config.limits.calls_per_number_per_hour = 100_000;
    if let Some(url) = &args.llm_url {
        config.backends.llm = LlmKind::Openai;
        config.backends.openai = Some(OpenAiSettings {
            base_url: url.clone(),
            model: args.llm_model.clone(),
            api_key_env: args.llm_key_env.clone(),
        });
    }
    config
}

/// Starts the far end as a process of its own, which ends when this one does.
async fn start_callee(scenario: &str, out: &Path) -> Result<(Child, SocketAddr), Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["sim", "--exit-with-stdin", "--listen", "127.0.0.1:0", "--scenario", scenario, "--mailbox"])
        .arg(mailbox(out))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut lines = BufReader::new(stdout).lines();
    let first = tokio::time::timeout(CALLEE_START, lines.next_line())
        .await
        .map_err(|_| "the callee did not start within two minutes")??;
    let address = first
        .as_deref()
        .and_then(|line| line.rsplit(' ').next())
        .and_then(|address| address.parse().ok())
        .ok_or("the callee did not say where it listens")?;
    // Nobody reads the rest; keep the pipe drained so that the child never blocks on it.
    tokio::spawn(async move { while matches!(lines.next_line().await, Ok(Some(_))) {} });
    Ok((child, address))
}

fn mailbox(out: &Path) -> PathBuf {
    out.join("mailbox")
}

/// The service in this process, reached only by HTTP.
struct Service {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), RunError>>,
}

impl Service {
    async fn start(config: Config) -> Result<Self, Failure> {
        let server = serve::bind(config).await?;
        let address = server.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        Ok(Self { address, stop, task })
    }

    async fn stop(self) -> Result<(), Failure> {
        let _ = self.stop.send(());
        Ok(self.task.await??)
    }
}

struct Demo {
    client: Client,
    out: PathBuf,
    task: Option<String>,
    latencies: Latencies,
    checks: Checks,
}

impl Demo {
    async fn call(&mut self, scenario: &Scenario, n: u32, single: bool) -> Result<(), Failure> {
        let task = self.task.as_ref().unwrap_or(&scenario.task);
        if single {
            println!("\n── {}: {}", scenario.name, scenario.summary);
            println!("   task: {task}\n");
        }
        let id = self.client.place(&json!({"to": scenario.number, "task": task})).await?;
        let call = follow(&self.client, &id, !single).await?;
        let dir = self.out.join(format!("{}-{n}", scenario.name));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("call.json"), serde_json::to_string_pretty(&call)?)?;
        let recording = self.save_recording(&id, &call, &dir).await?;
        let far_end = self.far_end(scenario, &call).await?;
        let verdict = self.checks.judge(scenario, &call, recording, far_end.as_ref());
        if single {
            print_outcome(&call);
            if let Some(entry) = &far_end {
                print_far_end(entry, &call);
            }
            let mut latencies = Latencies::default();
            latencies.add(&call);
            latencies.print(true);
            println!("\nrecording, JSON and timeline picture: {}", dir.display());
            verdict.iter().for_each(|problem| println!("NOT AS EXPECTED: {problem}"));
        } else {
            let problems = if verdict.is_empty() { "ok".to_owned() } else { verdict.join("; ") };
            println!("{} {n}: {} in {} s, {problems}", scenario.name, call["outcome"], call["talk_seconds"]);
        }
        self.latencies.add(&call);
        Ok(())
    }

    /// Seconds of the stereo recording, which is drawn too; `None` when the call has none.
    async fn save_recording(&self, id: &str, call: &Value, dir: &Path) -> Result<Option<f64>, Failure> {
        let path = dir.join("recording.wav");
        if call["recording_url"].is_null() || !self.client.recording(id, &path).await? {
            return Ok(None);
        }
        let mut reader = hound::WavReader::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let samples: Vec<i16> = reader.samples::<i16>().collect::<Result<_, _>>()?;
        let channel = |n: usize| samples.iter().skip(n).step_by(2).copied().collect::<Vec<i16>>();
        let (left, right) = (channel(0), channel(1));
        std::fs::write(dir.join("timeline.svg"), timeline::draw(call, &left, &right))?;
        Ok(Some(left.len() as f64 / 8000.0))
    }

    /// The far end's own account; it closes its books a moment after we hang up.
    async fn far_end(&self, scenario: &Scenario, call: &Value) -> Result<Option<JournalEntry>, Failure> {
        if call["timestamps"]["answered_at"].is_null() {
            return Ok(None);
        }
        for _ in 0..50 {
            if let Some(entry) = journal::newest(&mailbox(&self.out), &scenario.name)? {
                // Moved aside so that the next call of this scenario finds only its own.
                let _ = std::fs::remove_file(mailbox(&self.out).join("journal.jsonl"));
                return Ok(Some(entry));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(None)
    }
}

fn print_far_end(entry: &JournalEntry, call: &Value) {
    if let Some(rate) = error_rate(entry, call) {
        println!("heard:        the callee's words with {:.0} % word error rate", rate * 100.0);
    }
    if !entry.digits.is_empty() {
        println!("keys:         the callee received {}", entry.digits);
    }
    if let Some(path) = &entry.mailbox {
        println!("mailbox:      {}", path.display());
    }
    if let Some(ms) = entry.message_after_beep_ms {
        println!("message:      began {ms} ms after the beep");
    }
}

/// Word error rate of our transcript against what the far end said; `None` when it said nothing.
fn error_rate(entry: &JournalEntry, call: &Value) -> Option<f64> {
    let said = entry.said.join(" ");
    let turns = call["transcript"].as_array()?;
    let heard: Vec<&str> =
        turns.iter().filter(|t| t["role"] == "user").filter_map(|t| t["text"].as_str()).collect();
    (!said.is_empty() && !heard.is_empty()).then(|| journal::word_error_rate(&said, &heard.join(" ")))
}

/// What the demo promises, checked on every call.
#[derive(Default)]
struct Checks {
    calls: u32,
    failed: u32,
}

impl Checks {
    fn judge(
        &mut self,
        scenario: &Scenario,
        call: &Value,
        recording: Option<f64>,
        far_end: Option<&JournalEntry>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        if call["outcome"] != scenario.expect.as_str() {
            problems.push(format!("outcome {} instead of {}", call["outcome"], scenario.expect));
        }
        let talk = call["talk_seconds"].as_f64().unwrap_or_default();
        if talk > 0.0 {
            match recording {
                Some(seconds) if (seconds - talk).abs() <= 1.0 => {}
                Some(seconds) => {
                    problems.push(format!("the recording has {seconds:.1} s of {talk} s of talk"))
                }
                None => problems.push("there is no recording".into()),
            }
        }
        if let Some(ms) = far_end.and_then(|e| e.message_after_beep_ms)
            && !(200..=1000).contains(&ms)
        {
            problems.push(format!("the message began {ms} ms after the beep instead of 200 to 1000"));
        }
        self.calls += 1;
        self.failed += u32::from(!problems.is_empty());
        problems
    }

    fn conclude(&self) -> ExitCode {
        if self.calls > 1 {
            println!("\n{} of {} calls went as expected", self.calls - self.failed, self.calls);
        }
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
