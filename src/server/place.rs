//! Placing a call: idempotency, limits, the row, then the dialer, one request at a time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use super::address;
use super::body::CallBody;
use super::error::ApiError;
use super::secrets;
use super::service::{LiveCall, Service};
use super::store::{CallRecord, Key, Owner, Remembered};
use super::tracker;
use crate::call::Lifecycle;
use crate::engine::{CallRequest, PlaceError};

/// Limits by the hour look back this far.
const WINDOW: TimeDelta = TimeDelta::hours(1);

/// When to try again after a limit on living calls; calls last minutes, hang-ups are sudden.
const BUSY_RETRY: Duration = Duration::from_secs(10);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// Their key, if they gave one.
    pub(super) key: Option<Key>,
    /// A keyed hash of their network, for counting.
    pub(super) client: String,
}

/// A call that was queued, now or by an earlier request with the same `Idempotency-Key`.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) id: String,
    pub(super) key: i64,
    /// A new key, for a caller who had none.
    pub(super) api_key: Option<String>,
    pub(super) replayed: bool,
}

impl Service {
    /// What an address counts under: never the address itself.
    pub(super) fn client_name(&self, address: IpAddr) -> String {
        let block = address::counted_block(address).to_string();
        secrets::hex(&secrets::hmac(&self.secret, &[b"client\n", block.as_bytes()]))
    }

    /// Queues the call, or says why not.
    pub(super) async fn place(
        self: Arc<Self>,
        caller: Caller,
        body: CallBody,
        name: Option<String>,
    ) -> Result<Accepted, ApiError> {
        let _one_at_a_time = self.placing.lock().await;
        let now = self.now();
        let scope = match caller.key {
            Some(key) => format!("key {}", key.id),
            None => format!("client {}", caller.client),
        };
        if let Some(name) = &name
            && let Some(remembered) = self.store.remembered(&scope, name, now).await?
        {
            return self.replay(&caller, &body, remembered).await;
        }
        if self.is_draining() {
            return Err(draining(self.config.server.drain_seconds));
        }
        self.check_limits(&caller, &body, now).await?;

        let nonce = secrets::random();
        let api_key =
            caller.key.is_none().then(|| self.proto_key(&nonce, name.as_deref().unwrap_or_default()));
        let owner = match (&caller.key, &api_key) {
            (Some(key), _) => Owner::Key(key.id),
            (None, Some(text)) => {
                Owner::NewAnonymous(secrets::key_hash(text).expect("a new key has a key's form"))
            }
            (None, None) => return Err(ApiError::internal()),
        };
        let mut record = self.record(&body, now);
        let remembered =
            name.map(|name| Remembered { scope, name, body_hash: body.hash, call: record.id.clone(), nonce });
        record.key = self.store.insert_call(&record, &caller.client, owner, remembered.as_ref()).await?;
        let (id, key) = (record.id.clone(), record.key);
        if let Err(refusal) = self.dial(&body, record) {
            self.store.remove_call(&id, owner).await?;
            return Err(refusal);
        }
        tracing::info!(call = %id, "call queued");
        Ok(Accepted { id, key, api_key, replayed: false })
    }

    fn dial(self: &Arc<Self>, body: &CallBody, record: CallRecord) -> Result<(), ApiError> {
        let id = record.id.clone();
        let request = CallRequest {
            id: id.clone(),
            to: body.to.clone(),
            task: body.task.clone(),
            voice: self.config.voice(&body.voice).unwrap_or_default(),
            personality: body.personality.clone(),
            greeting: body.greeting.clone(),
            language: body.language.clone().or_else(|| self.config.agent.languages.first().cloned()),
            max_duration: Some(Duration::from_secs(body.max_duration_seconds)),
            recording: Some(self.recordings.path(&id)),
        };
        let placed = self.dialer.place(request).map_err(|e| self.refusal(&e))?;
        let live = Arc::new(LiveCall::new(record, placed.control));
        self.add_live(id, live.clone());
        tokio::spawn(tracker::follow(self.clone(), live, placed.events));
        Ok(())
    }

    fn record(&self, body: &CallBody, now: DateTime<Utc>) -> CallRecord {
        CallRecord {
            id: Uuid::now_v7().to_string(),
            key: 0,
            to: body.to.clone(),
            from: self.config.outbound_number().to_owned(),
            task: body.task.clone(),
            voice: body.voice.clone(),
            personality: body.personality.clone(),
            greeting: body.greeting.clone(),
            language: body.language.clone(),
            max_duration_seconds: body.max_duration_seconds,
            metadata: body.metadata.clone(),
            lifecycle: Lifecycle::Queued,
            queued_at: now,
            dialing_at: None,
            answered_at: None,
            finalized_at: None,
            turns: Vec::new(),
            report: None,
            has_recording: false,
            balance_seconds: None,
        }
    }

    async fn replay(
        &self,
        caller: &Caller,
        body: &CallBody,
        earlier: Remembered,
    ) -> Result<Accepted, ApiError> {
        if earlier.body_hash != body.hash {
            let message = "this Idempotency-Key was used with another body in the last 24 hours";
            return Err(ApiError::new(StatusCode::CONFLICT, "conflict", message));
        }
        let api_key = caller.key.is_none().then(|| self.proto_key(&earlier.nonce, &earlier.name));
        let key = match (&caller.key, api_key.as_deref().and_then(secrets::key_hash)) {
            (Some(key), _) => Some(*key),
            (None, Some(hash)) => self.store.key(&hash).await?,
            (None, None) => None,
        };
        let key = key.ok_or_else(ApiError::no_such_call)?.id;
        Ok(Accepted { id: earlier.call, key, api_key, replayed: true })
    }

    /// The key for a caller who has none. It is made from what is remembered of their request and from our secret,
    /// so that a retry gets the same one although nobody keeps it.
    fn proto_key(&self, nonce: &[u8; 32], name: &str) -> String {
        secrets::api_key(&secrets::hmac(&self.secret, &[b"proto-key\n", nonce, name.as_bytes()]))
    }

    async fn check_limits(
        &self,
        caller: &Caller,
        body: &CallBody,
        now: DateTime<Utc>,
    ) -> Result<(), ApiError> {
        let limits = &self.config.limits;
        if let Some(key) = caller.key {
            self.check_trial(key.id).await?;
            let living = self.living(|call| call.key == key.id);
            if living >= limits.concurrent_calls_per_key {
                let message = format!("{living} calls of this key are running, which is the limit");
                return Err(ApiError::too_many("concurrency_exceeded", message, BUSY_RETRY));
            }
        }
        if caller.key.is_none_or(|key| key.anonymous) {
            let limit = limits.anonymous_calls_per_hour;
            let nth = self.store.nth_call_from(&caller.client, limit, now - WINDOW).await?;
            within_window(nth, now, || {
                format!("anonymous calls from one network address are limited to {limit} an hour")
            })?;
        }
        let limit = limits.calls_per_number_per_hour;
        let nth = self.store.nth_call_to(body.to.reveal(), limit, now - WINDOW).await?;
        within_window(nth, now, || format!("calls to one number are limited to {limit} an hour"))?;
        if self.active_calls() >= limits.concurrent_calls {
            let message = "every outbound number is in use";
            return Err(ApiError::unavailable("number_pool_exhausted", message, BUSY_RETRY));
        }
        Ok(())
    }

    /// The trial lasts until both its calls and its minutes are used up.
    async fn check_trial(&self, key: i64) -> Result<(), ApiError> {
        let limits = &self.config.limits;
        let used = self.store.usage(key).await?;
        if used.calls < limits.trial_calls || used.seconds < self.allowance_seconds() {
            return Ok(());
        }
        let quota = json!({
            "tier": "trial",
            "calls_used": used.calls,
            "calls_limit": limits.trial_calls,
            "seconds_used": used.seconds,
            "seconds_limit": self.allowance_seconds(),
        });
        let url = limits.trial_action_url.clone().unwrap_or_else(|| format!("{}/", self.base_url));
        let action = json!({"url": url, "label": "Ask for more calls"});
        let message = "the trial of this key is used up";
        Err(ApiError::new(StatusCode::PAYMENT_REQUIRED, "trial_exhausted", message).quota(quota, action))
    }

    fn refusal(&self, error: &PlaceError) -> ApiError {
        match error {
            PlaceError::NoTrunk => ApiError::new(StatusCode::BAD_GATEWAY, "dial_failed", error.to_string()),
            PlaceError::InvalidDestination => {
                ApiError::bad_request("invalid_phone", format!("`to`: {error}"))
            }
            PlaceError::ShuttingDown => draining(self.config.server.drain_seconds),
            PlaceError::NoMediaPort => {
                ApiError::unavailable("number_pool_exhausted", error.to_string(), BUSY_RETRY)
            }
            PlaceError::DuplicateId => {
                tracing::error!(%error, "the engine refused a new identifier");
                ApiError::internal()
            }
        }
    }
}

fn draining(seconds: u64) -> ApiError {
    let message = "the service is shutting down and takes no new calls";
    ApiError::unavailable("draining", message, Duration::from_secs(seconds))
}

/// A limit of n an hour is reached while the nth newest call is less than an hour old.
fn within_window(
    nth: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    message: impl FnOnce() -> String,
) -> Result<(), ApiError> {
    let Some(nth) = nth else { return Ok(()) };
    let retry = (nth + WINDOW - now).to_std().unwrap_or_default();
    Err(ApiError::too_many("rate_limited", message(), retry))
}
