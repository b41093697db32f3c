//! A client of the call API, for `call` and `demo`: it uses nothing but HTTP.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::Failure;

/// How long one long-poll may take on the server's side (s).
const WAIT_SECONDS: u64 = 10;

/// A service, and the key it gave us.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

impl Client {
    pub(super) fn new(base: &str, key: Option<String>) -> Result<Self, Failure> {
        // reqwest is built without a TLS provider of its own; the first caller installs ring, later ones find it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), key })
    }

    /// Places a call; remembers the key that an anonymous first call is given.
    pub(super) async fn place(&mut self, body: &Value) -> Result<String, Failure> {
        let answer = self.send(self.http.post(format!("{}/call", self.base)).json(body)).await?;
        if let Some(key) = answer["api_key"].as_str() {
            self.key = Some(key.to_owned());
        }
        answer["call_id"].as_str().map(str::to_owned).ok_or_else(|| "the service gave no call_id".into())
    }

    /// The call as it is now, or as soon as its lifecycle changes.
    pub(super) async fn get(&self, id: &str, wait: bool) -> Result<Value, Failure> {
        let wait = if wait { format!("?wait={WAIT_SECONDS}") } else { String::new() };
        self.send(self.http.get(format!("{}/call/{id}{wait}", self.base))).await
    }

    pub(super) async fn hang_up(&self, id: &str) -> Result<Value, Failure> {
        self.send(self.http.post(format!("{}/call/{id}/hangup", self.base))).await
    }

    /// Saves the recording; false when the call has none.
    pub(super) async fn recording(&self, id: &str, path: &Path) -> Result<bool, Failure> {
        let answer =
            self.authorised(self.http.get(format!("{}/call/{id}/recording", self.base))).send().await?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(false);
        }
        std::fs::write(path, answer.error_for_status()?.bytes().await?)?;
        Ok(true)
    }

    fn authorised(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.key {
            Some(key) => request.header("X-Api-Key", key),
            None => request,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let answer = self.authorised(request).send().await.map_err(|e| format!("{}: {e}", self.base))?;
        let status = answer.status();
        let body: Value =
            answer.json().await.map_err(|e| format!("{}: the answer is not JSON: {e}", self.base))?;
        if status.is_success() {
            return Ok(body);
        }
        let error = &body["error"];
        let text = error["message"].as_str().unwrap_or("no reason given");
        Err(format!(
            "the service refused ({} {}): {text}",
            status.as_u16(),
            error["code"].as_str().unwrap_or("?")
        )
        .into())
    }
}

/// Prints a call's life as it happens and returns it once it is finalized.
pub(super) async fn follow(client: &Client, id: &str, quiet: bool) -> Result<Value, Failure> {
    let mut shown = 0;
    let mut lifecycle = String::new();
    loop {
        let call = client.get(id, false).await?;
        let now = call["lifecycle"].as_str().unwrap_or_default().to_owned();
        let turns = call["transcript"].as_array().cloned().unwrap_or_default();
        if now != lifecycle && !quiet {
            println!("          · {now}");
        }
        lifecycle = now;
        for turn in turns.iter().skip(shown).filter(|_| !quiet) {
            println!("{}", turn_line(turn));
        }
        shown = shown.max(turns.len());
        if lifecycle == "finalized" {
            return Ok(call);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// One turn as a line: when, who, what.
pub(super) fn turn_line(turn: &Value) -> String {
    let at = turn["start_ms"].as_f64().unwrap_or_default() / 1000.0;
    let who = match turn["role"].as_str() {
        Some("assistant") => "agent ",
        Some("user") => "callee",
        _ => "system",
    };
    let text = match turn["tool"].as_str() {
        Some(tool) => format!("[{tool} {}]", turn["toolArgs"]),
        None => turn["text"].as_str().unwrap_or_default().to_owned(),
    };
    let cut = if turn["interrupted"] == true { " —" } else { "" };
    format!("{at:7.2} s  {who}  {text}{cut}")
}
