//! Refusals as the API contract has them: `{"error": {"code", "message", "action"?, "quota"?}}`.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::store::StoreError;

/// A refusal, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
    /// Boxed: refusals travel in results, and hardly any has it.
    quota: Option<Box<Quota>>,
}

/// What ran out, and what a person can do about it.
#[derive(Debug, Clone, PartialEq)]
struct Quota {
    used: Value,
    action: Value,
}

impl ApiError {
    /// A refusal with `status`, `code` and a message for the client's developer.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, quota: None }
    }

    /// 400 with `code`.
    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 422 `invalid_body`: the JSON is there, but not what the contract says.
    pub(super) fn invalid_body(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", message)
    }

    /// 401 with `code`.
    pub(super) fn unauthorized(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message)
    }

    /// 404 `not_found`: unknown, or not the caller's; the two are never told apart.
    pub(super) fn no_such_call() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "no such call")
    }

    /// 429 with `code`.
    pub(super) fn too_many(code: &'static str, message: impl Into<String>, retry: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, message).retry_after(retry)
    }

    /// 503 with `code`.
    pub(super) fn unavailable(code: &'static str, message: impl Into<String>, retry: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(retry)
    }

    /// 500 `internal`. The cause belongs in the log, not in the answer.
    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something broke on our side; try again")
    }

    /// Adds `Retry-After`, rounded up to whole seconds and at least one.
    pub(super) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds what a person can do about it, and the quota that ran out.
    pub(super) fn quota(mut self, quota: Value, action: Value) -> Self {
        self.quota = Some(Box::new(Quota { used: quota, action }));
        self
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> (u16, &'static str, &str) {
        (self.status.as_u16(), self.code, &self.message)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        Self::internal()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(quota) = self.quota {
            error["quota"] = quota.used;
            error["action"] = quota.action;
        }
        let mut response = (self.status, Json(json!({"error": error}))).into_response();
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_whole_seconds_rounded_up_and_never_zero() {
        for (after, header) in [(0, "1"), (1, "1"), (1001, "2"), (60_000, "60")] {
            let error = ApiError::too_many("rate_limited", "slow down", Duration::from_millis(after));
            let response = error.into_response();
            assert_eq!(response.headers()["retry-after"], header);
        }
    }
}
