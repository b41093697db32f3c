//! OpenAI-compatible chat completions over server-sent events, with tools.
//!
//! One POST to `{base_url}/chat/completions` with `stream: true`; text deltas are passed on as they come, tool calls
//! once they are whole. Works against any server that speaks this dialect (llama.cpp, vLLM, Ollama, the vendor's own).

use std::time::Duration;

use eventsource_stream::Eventsource as _;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::agent::{Delta, Message, Request, ToolCall};
use crate::backend::{BackendError, LanguageModel};
use crate::pii::Pii;

const BACKEND: &str = "openai";
/// More text in one event than any server sends: such a stream is nonsense.
const MAX_EVENT_BYTES: usize = 256 * 1024;
/// More tool calls in one reply than any agent needs.
const MAX_TOOL_CALLS: usize = 8;
/// Replies are spoken: this many tokens are minutes of talk.
const MAX_TOKENS: u32 = 400;

/// Where and how to reach a chat-completions server.
#[derive(Clone, Debug)]
pub struct OpenAiConfig {
    /// E.g. `http://127.0.0.1:8080/v1`.
    pub base_url: String,
    /// Model name sent with each request.
    pub model: String,
    /// Bearer token, if the server wants one.
    pub api_key: Option<Pii<String>>,
    /// The longest silence on the stream, also before its first event.
    pub stall_timeout: Duration,
}

/// A language model behind an OpenAI-compatible HTTP API.
pub struct OpenAi {
    config: OpenAiConfig,
    http: reqwest::Client,
}

impl OpenAi {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the base URL is not one, or the TLS client cannot be set up.
    pub fn new(config: OpenAiConfig) -> Result<Self, BackendError> {
        let unavailable = |reason: String| BackendError::Unavailable { backend: BACKEND, reason };
        reqwest::Url::parse(&config.base_url).map_err(|e| unavailable(format!("base_url: {e}")))?;
        // reqwest is built without a TLS provider of its own; the first caller installs ring, later ones find it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|e| unavailable(e.to_string()))?;
        Ok(Self { config, http })
    }
}

impl LanguageModel for OpenAi {
    fn complete(
        &self,
        request: Request,
    ) -> Result<mpsc::Receiver<Result<Delta, BackendError>>, BackendError> {
        let (tx, rx) = mpsc::channel(64);
        let url = format!("{}/chat/completions", self.config.base_url.trim_end_matches('/'));
        let mut post = self.http.post(url).json(&request_body(&self.config.model, &request));
        if let Some(key) = &self.config.api_key {
            post = post.bearer_auth(key.reveal());
        }
        let stall = self.config.stall_timeout;
        tokio::spawn(async move {
            // The caller dropping the receiver ends the stream at its next event.
            if let Err(error) = stream_reply(post, stall, &tx).await {
                let _ = tx.send(Err(error)).await;
            }
        });
        Ok(rx)
    }
}

async fn stream_reply(
    post: reqwest::RequestBuilder,
    stall: Duration,
    tx: &mpsc::Sender<Result<Delta, BackendError>>,
) -> Result<(), BackendError> {
    let timed_out = || BackendError::TimedOut { backend: BACKEND, waited: stall };
    let response = tokio::time::timeout(stall, post.send())
        .await
        .map_err(|_| timed_out())?
        .map_err(|e| BackendError::Unavailable { backend: BACKEND, reason: e.without_url().to_string() })?;
    if !response.status().is_success() {
        let reason = format!("HTTP status {}", response.status().as_u16());
        return Err(BackendError::Unavailable { backend: BACKEND, reason });
    }
    let mut events = response.bytes_stream().eventsource();
    let mut calls = Vec::new();
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(stall, events.next()) => next.map_err(|_| timed_out())?,
            () = tx.closed() => return Ok(()),
        };
        let Some(event) = next else {
            return Err(malformed("the stream ended before [DONE]"));
        };
        let event = event.map_err(|e| malformed(&e.to_string()))?;
        if event.data.len() > MAX_EVENT_BYTES {
            return Err(malformed("an event of over 256 KiB"));
        }
        if event.data.trim() == "[DONE]" {
            break;
        }
        if let Some(text) = read_chunk(&event.data, &mut calls)?
            && tx.send(Ok(Delta::Text(text))).await.is_err()
        {
            return Ok(());
        }
    }
    for call in calls {
        if call.name.is_empty() {
            return Err(malformed("a tool call without a name"));
        }
        if tx.send(Ok(Delta::ToolCall(call))).await.is_err() {
            return Ok(());
        }
    }
    let _ = tx.send(Ok(Delta::Done)).await;
    Ok(())
}

fn malformed(reason: &str) -> BackendError {
    BackendError::Malformed { backend: BACKEND, reason: reason.to_owned() }
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: ChunkDelta,
}

#[derive(Deserialize, Default)]
struct ChunkDelta {
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ChunkCall>>,
}

#[derive(Deserialize)]
struct ChunkCall {
    #[serde(default)]
    index: usize,
    id: Option<String>,
    function: Option<ChunkFunction>,
}

#[derive(Deserialize)]
struct ChunkFunction {
    name: Option<String>,
    arguments: Option<String>,
}

/// Reads one event: text to say now, and pieces of tool calls into `calls`.
fn read_chunk(data: &str, calls: &mut Vec<ToolCall>) -> Result<Option<String>, BackendError> {
    let chunk: Chunk =
        serde_json::from_str(data).map_err(|e| malformed(&format!("event is not a chunk: {e}")))?;
    if chunk.error.is_some() {
        return Err(BackendError::Unavailable {
            backend: BACKEND,
            reason: "the server reported an error".into(),
        });
    }
    let Some(choice) = chunk.choices.into_iter().next() else { return Ok(None) };
    for piece in choice.delta.tool_calls.unwrap_or_default() {
        if piece.index >= MAX_TOOL_CALLS {
            return Err(malformed("more than 8 tool calls in one reply"));
        }
        while calls.len() <= piece.index {
            let id = format!("call_{}", calls.len());
            calls.push(ToolCall { id, name: String::new(), arguments: String::new() });
        }
        let call = &mut calls[piece.index];
        if let Some(id) = piece.id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        if let Some(function) = piece.function {
            call.name.push_str(&function.name.unwrap_or_default());
            call.arguments.push_str(&function.arguments.unwrap_or_default());
        }
        if call.arguments.len() > MAX_EVENT_BYTES {
            return Err(malformed("tool arguments of over 256 KiB"));
        }
    }
    Ok(choice.delta.content.filter(|text| !text.is_empty()))
}

fn request_body(model: &str, request: &Request) -> Value {
    let mut messages = vec![json!({"role": "system", "content": request.system})];
    messages.extend(request.messages.iter().map(message));
    let mut body = json!({"model": model, "stream": true, "messages": messages, "max_tokens": MAX_TOKENS});
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            // Our own schemas are constants; one that is not JSON is offered as free-form rather than not at all.
            let parameters: Value =
                serde_json::from_str(&tool.parameters).unwrap_or_else(|_| json!({"type": "object"}));
            json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": parameters}})
        });
        body["tools"] = tools.collect();
    }
    body
}

fn message(message: &Message) -> Value {
    match message {
        Message::User { text } => json!({"role": "user", "content": text}),
        // Not every server accepts a second system message; all accept a user's.
        Message::Note { text } => json!({"role": "user", "content": format!("[{text}]")}),
        Message::Tool { id, text } => json!({"role": "tool", "tool_call_id": id, "content": text}),
        Message::Assistant { text, tool_calls } if tool_calls.is_empty() => {
            json!({"role": "assistant", "content": text})
        }
        Message::Assistant { text, tool_calls } => {
            let calls: Value = tool_calls
                .iter()
                .map(|call| {
                    json!({"id": call.id, "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments}})
                })
                .collect();
            json!({"role": "assistant", "content": text, "tool_calls": calls})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A server for one request that answers with `response` and returns what it was sent.
    async fn serve_once(response: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a client");
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            // The request is complete when its JSON body closes.
            while !request.ends_with(b"}") {
                let n = socket.read(&mut buffer).await.expect("readable");
                assert!(n > 0, "the client closed early");
                request.extend_from_slice(&buffer[..n]);
            }
            socket.write_all(response.as_bytes()).await.expect("writable");
            if response.contains("stall") {
                std::future::pending::<()>().await;
            }
            String::from_utf8(request).expect("utf-8")
        });
        (url, server)
    }

    async fn collect(url: String, stall: Duration) -> Vec<Result<Delta, BackendError>> {
        let config = OpenAiConfig {
            base_url: url,
            model: "m".into(),
            api_key: Some(Pii::new("k".into())),
            stall_timeout: stall,
        };
        let request = Request {
            system: "be brief".into(),
            messages: vec![Message::User { text: "hello".into() }],
            tools: vec![crate::agent::Tool {
                name: "end_call".into(),
                description: "ends".into(),
                parameters: r#"{"type":"object"}"#.into(),
            }],
            briefing: crate::agent::Briefing::default(),
        };
        let mut rx = OpenAi::new(config).expect("a client").complete(request).expect("sent");
        let mut all = Vec::new();
        while let Some(item) = rx.recv().await {
            all.push(item);
        }
        all
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn text_and_a_tool_call_in_pieces_arrive_in_order() {
        let response: &'static str = Box::leak(
            format!(
                "{HEAD}data: {{\"choices\":[{{\"delta\":{{\"role\":\"assistant\",\"content\":\"Good\"}}}}]}}\n\n\
                 data: {{\"choices\":[{{\"delta\":{{\"content\":\"bye.\"}}}}]}}\n\n\
                 data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":0,\"id\":\"c1\",\"function\":{{\"name\":\"end_call\",\"arguments\":\"{{\\\"rea\"}}}}]}}}}]}}\n\n\
                 data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":\"son\\\":1}}\"}}}}]}}}}]}}\n\n\
                 data: [DONE]\n\n"
            )
            .into_boxed_str(),
        );
        let (url, server) = serve_once(response).await;
        let deltas: Vec<_> =
            collect(url, Duration::from_secs(5)).await.into_iter().map(|d| d.expect("no error")).collect();
        let call = ToolCall { id: "c1".into(), name: "end_call".into(), arguments: "{\"reason\":1}".into() };
        assert_eq!(
            deltas,
            [Delta::Text("Good".into()), Delta::Text("bye.".into()), Delta::ToolCall(call), Delta::Done]
        );
        let request = server.await.expect("served");
        assert!(request.contains("Bearer k") || request.contains("bearer k"), "{request}");
        assert!(
            request.contains("\"stream\":true") && request.contains("\"name\":\"end_call\""),
            "{request}"
        );
    }

    #[tokio::test]
    async fn nonsense_an_error_status_and_an_early_end_are_told_apart() {
        let (url, _server) =
            serve_once("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ndata: {nonsense\n\n").await;
        let all = collect(url, Duration::from_secs(5)).await;
        assert!(matches!(all.as_slice(), [Err(BackendError::Malformed { .. })]), "{all:?}");
        let (url, _server) =
            serve_once("HTTP/1.1 401 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        let all = collect(url, Duration::from_secs(5)).await;
        let [Err(BackendError::Unavailable { reason, .. })] = all.as_slice() else { panic!("{all:?}") };
        assert!(reason.contains("401"));
        let (url, _server) =
            serve_once("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ndata: {\"choices\":[]}\n\n").await;
        let all = collect(url, Duration::from_secs(5)).await;
        assert!(matches!(all.as_slice(), [Err(BackendError::Malformed { .. })]), "{all:?}");
    }

    #[tokio::test]
    async fn a_stalled_stream_times_out() {
        let (url, server) = serve_once("HTTP/1.1 200 OK\r\nx-note: stall\r\n\r\n").await;
        let all = collect(url, Duration::from_millis(200)).await;
        assert!(matches!(all.as_slice(), [Err(BackendError::TimedOut { .. })]), "{all:?}");
        server.abort();
    }
}
