//! Processes, HTTP and waiting, for tests of the whole program.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The program under test.
pub(super) const PATCHCORD: &str = env!("CARGO_BIN_EXE_patchcord");
/// The first words of every call.
pub(super) const DISCLOSURE: &str = "Hello, this is an AI assistant calling. This call is recorded.";

/// Says why a test cannot run; a failure where every peer is required.
pub(super) fn skip(why: &str) {
    assert!(std::env::var_os("PATCHCORD_REQUIRE_PEERS").is_none(), "a peer is missing: {why}");
    println!("skipped: {why}");
}

/// Whether the local models are in the cache, whole.
pub(super) fn models() -> bool {
    static MODELS: OnceLock<bool> = OnceLock::new();
    *MODELS.get_or_init(|| {
        let check = Command::new(PATCHCORD).args(["models", "check"]).output().expect("the program starts");
        check.status.success()
    })
}

/// Whether a program can be started.
pub(super) fn installed(program: &str, argument: &str) -> bool {
    let quiet = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok()
}

/// A file of this package's tests.
pub(super) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// A UDP port that is free now.
pub(super) fn free_udp_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("bound").port()
}

/// Waits until `ready` gives something; fails with `what` after `limit`.
pub(super) fn wait_for<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(it) = ready() {
            return it;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A child process whose output goes to files; killed when dropped.
pub(super) struct Process {
    child: Child,
    name: &'static str,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    pub(super) fn start(name: &'static str, dir: &Path, command: &mut Command) -> Self {
        let (stdout, stderr) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).expect("a file"))
            .stderr(File::create(&stderr).expect("a file"))
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Self { child, name, stdout, stderr }
    }

    pub(super) fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    pub(super) fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// What follows `prefix` on its first line of output.
    pub(super) fn address(&mut self, prefix: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            if let Some(line) = self.stdout().split_inclusive('\n').next().filter(|l| l.ends_with('\n')) {
                let address = line.trim().strip_prefix(prefix);
                return address.unwrap_or_else(|| panic!("{}: {line}", self.name)).to_owned();
            }
            let ended = self.child.try_wait().expect("it is ours");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{} did not start: {}",
                self.name,
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is ours")
    }

    /// Waits for its end.
    pub(super) fn finish(&mut self, limit: Duration) -> ExitStatus {
        wait_for(self.name, limit, || self.child.try_wait().expect("it is ours"))
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("── {} said:\n{}\n{}", self.name, self.stdout(), self.stderr());
        }
    }
}

/// `patchcord serve` on free ports, with limits that do not get in the way.
pub(super) struct Service {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
}

impl Service {
    /// Starts it in `dir`, where its data stay; `trunk` is where calls go; `more` are further settings, as
    /// TOML that begins inside `[trunk]`.
    pub(super) fn start(dir: &Path, trunk: &str, more: &str) -> Self {
        let config = dir.join("patchcord.toml");
        let data = dir.join("data");
        let text = format!(
            "[server]\nbind = \"127.0.0.1:0\"\ndata_dir = {data:?}\n\
             [limits]\nconcurrent_calls = 1000\nconcurrent_calls_per_key = 1000\ntrial_calls = 100000\n\
             anonymous_calls_per_hour = 100000\ncalls_per_number_per_hour = 100000\n\
             [trunk]\naddress = \"{trunk}\"\n{more}"
        );
        std::fs::write(&config, text).expect("written");
        let mut command = Command::new(PATCHCORD);
        command.arg("serve").arg("--config").arg(&config);
        let mut process = Process::start("serve", dir, &mut command);
        let address = process.address("listening on http://").parse().expect("an address");
        Self { process, address }
    }

    /// Places a call; its identifier, and the key the first answer issued.
    pub(super) fn place(&self, key: Option<&str>, to: &str, task: &str) -> (String, Option<String>) {
        let (status, placed) = self.json("POST", "/call", key, Some(&json!({"to": to, "task": task})));
        assert_eq!(status, 201, "{placed}");
        let key = placed["api_key"].as_str().map(str::to_owned);
        (placed["id"].as_str().expect("an id").to_owned(), key)
    }

    pub(super) fn call(&self, key: &str, id: &str) -> Value {
        let (status, call) = self.json("GET", &format!("/call/{id}"), Some(key), None);
        assert_eq!(status, 200, "{call}");
        call
    }

    /// The recording, through the redirect to its signed link.
    pub(super) fn recording(&self, key: &str, id: &str) -> Vec<u8> {
        let redirect = http(self.address, "GET", &format!("/call/{id}/recording"), Some(key), None);
        assert_eq!(redirect.status, 302);
        let link = redirect.location.expect("a location");
        assert!(link.starts_with("/recordings/"), "{link}");
        let answer = http(self.address, "GET", &link, None, None);
        assert_eq!(answer.status, 200);
        answer.body
    }

    fn json(&self, method: &str, path: &str, key: Option<&str>, body: Option<&Value>) -> (u16, Value) {
        let answer = http(self.address, method, path, key, body);
        (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
    }
}

/// `patchcord sim` with these arguments; its address.
pub(super) fn simulated(dir: &Path, arguments: &[&str]) -> (Process, String) {
    let mut command = Command::new(PATCHCORD);
    command.args(["sim", "--listen", "127.0.0.1:0", "--mailbox"]).arg(dir.join("mailbox")).args(arguments);
    let mut process = Process::start("sim", dir, &mut command);
    let address = process.address("listening on ");
    (process, address)
}

struct Answer {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
}

/// One request on a connection of its own: plain HTTP/1.1, as written on the wire.
fn http(to: SocketAddr, method: &str, path: &str, key: Option<&str>, body: Option<&Value>) -> Answer {
    let key = key.map(|k| format!("X-Api-Key: {k}\r\n")).unwrap_or_default();
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Type: application/json\r\n{key}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(to).expect("the service listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let field = |name: &str| {
        let line = head.lines().find(|l| l.to_lowercase().starts_with(&format!("{name}:")));
        line.map(|l| l[name.len() + 1..].trim().to_owned())
    };
    assert!(field("transfer-encoding").is_none(), "a length is given: {head}");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    Answer { status, location: field("location"), body: answer[end + 4..].to_vec() }
}

/// The turns of a role.
pub(super) fn turns<'a>(call: &'a Value, role: &'a str) -> Vec<&'a Value> {
    call["transcript"].as_array().into_iter().flatten().filter(|t| t["role"] == role).collect()
}

/// The words of a turn.
pub(super) fn words(turn: &Value) -> &str {
    turn["text"].as_str().expect("a text")
}

/// A recording's two channels: the far end, and what we sent.
pub(super) fn channels(wav: &[u8]) -> (Vec<i16>, Vec<i16>) {
    let reader = hound::WavReader::new(wav).expect("a WAV file");
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 8000, 16));
    let samples: Vec<i16> = reader.into_samples::<i16>().map(|s| s.expect("a sample")).collect();
    let channel = |n: usize| samples.iter().skip(n).step_by(2).copied().collect();
    (channel(0), channel(1))
}
