//! The routes of the contract: from HTTP to the service and back.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Extension, MatchedPath, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, body::Bytes};
use serde_json::{Value, json};
use tower_http::services::ServeFile;

use super::address;
use super::body::CallBody;
use super::error::ApiError;
use super::place::{Accepted, Caller};
use super::recordings::is_identifier;
use super::secrets;
use super::service::Service;
use super::store::{CallRecord, Key, lifecycle_name};
use super::view;
use crate::call::{HangupSource, Lifecycle};

/// The longest `?wait=` (s).
const MAX_WAIT_SECONDS: f64 = 30.0;

/// How long a client may take to send a body.
const BODY_PATIENCE: Duration = Duration::from_secs(15);

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const ISSUED_KEY: HeaderName = HeaderName::from_static("x-clawcall-api-key");
const BALANCE_SECONDS: HeaderName = HeaderName::from_static("x-clawcall-balance-seconds");
const BALANCE_MINUTES: HeaderName = HeaderName::from_static("x-clawcall-balance-minutes");
const TIER: HeaderName = HeaderName::from_static("x-clawcall-tier");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

type Shared = State<Arc<Service>>;
type Params = Result<Query<HashMap<String, String>>, axum::extract::rejection::QueryRejection>;
type Segment = Result<Path<String>, axum::extract::rejection::PathRejection>;

/// On a response: whose balance its headers tell.
#[derive(Clone, Copy)]
struct Balance(i64);

/// The call API over `service`. Serve it with connect info (`SocketAddr`), or every client counts as one.
pub fn app(service: Arc<Service>) -> Router {
    let calls = Router::new()
        .route("/call", post(place))
        .route("/call/{id}", get(read))
        .route("/call/{id}/hangup", post(hang_up))
        .route("/call/{id}/recording", get(recording))
        .layer(DefaultBodyLimit::max(service.config.limits.body_bytes))
        .route_layer(middleware::from_fn_with_state(service.clone(), authenticate));
    Router::new()
        .merge(calls)
        .route("/recordings/{file}", get(recording_file))
        .route("/healthz", get(healthz))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(log))
        .with_state(service)
}

async fn unknown_path() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "no such path")
}

async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path has other methods")
}

async fn healthz(State(service): Shared) -> Json<Value> {
    Json(json!({"status": if service.is_draining() { "draining" } else { "ok" }}))
}

/// Method, route and status; never a query, which may hold a signature, nor a body.
async fn log(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned());
    let response = next.run(request).await;
    let path = path.as_deref().unwrap_or("(none)");
    tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
    response
}

/// Finds out who asks, and tells them their balance with every answer.
async fn authenticate(State(service): Shared, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let caller = match caller(&service, &parts).await {
        Ok(caller) => caller,
        Err(refusal) => return refusal.into_response(),
    };
    let mut balance = caller.key.map(|key| Balance(key.id));
    parts.extensions.insert(caller);
    let mut response = next.run(Request::from_parts(parts, body)).await;
    balance = balance.or_else(|| response.extensions().get::<Balance>().copied());
    if let Some(Balance(key)) = balance
        && let Ok(usage) = service.store.usage(key).await
    {
        let seconds = service.allowance_seconds().saturating_sub(usage.seconds);
        let headers = response.headers_mut();
        headers.insert(BALANCE_SECONDS, HeaderValue::from(seconds));
        headers.insert(BALANCE_MINUTES, HeaderValue::from(seconds / 60));
        headers.insert(TIER, HeaderValue::from_static("trial"));
    }
    response
}

async fn caller(service: &Service, parts: &Parts) -> Result<Caller, ApiError> {
    let headers = &parts.headers;
    let peer = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip());
    let forwarded = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let address = address::client(peer, forwarded, &service.config.server.trusted_proxies);
    let client = service.client_name(address);
    let Some(given) = headers.get(API_KEY) else {
        if headers.contains_key(header::AUTHORIZATION) {
            let message = "sessions are not accepted here; use an API key in X-Api-Key";
            return Err(ApiError::unauthorized("invalid_token", message));
        }
        let may_go_on = service.config.anonymous() && parts.uri.path() == "/call";
        return may_go_on.then_some(Caller { key: None, client }).ok_or_else(|| {
            ApiError::unauthorized("auth_required", "an API key in the header X-Api-Key is needed here")
        });
    };
    let hash = given.to_str().ok().and_then(secrets::key_hash);
    let key = match hash {
        Some(hash) => service.store.key(&hash).await?,
        None => None,
    };
    let key = key.ok_or_else(|| ApiError::unauthorized("invalid_api_key", "unknown or revoked API key"))?;
    Ok(Caller { key: Some(key), client })
}

/// The key of a route that a stranger does not get to.
fn key(caller: &Caller) -> Result<Key, ApiError> {
    caller.key.ok_or_else(|| ApiError::unauthorized("auth_required", "an API key is needed here"))
}

async fn place(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    let bytes = body(request, &headers).await?;
    let body = CallBody::parse(&bytes, &service.config)?;
    let name = idempotency_key(&headers)?;
    // In a task of its own: a client that goes away must not leave a call half placed.
    let placing = tokio::spawn(service.place(caller, body, name));
    let accepted = placing.await.map_err(|_| ApiError::internal())??;
    Ok(queued(accepted))
}

async fn body(request: Request, headers: &HeaderMap) -> Result<Bytes, ApiError> {
    use axum::extract::FromRequest as _;

    let media_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence != "application/json" && !(essence.starts_with("application/") && essence.ends_with("+json")) {
        let message = "the body must be JSON, with Content-Type: application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    match tokio::time::timeout(BODY_PATIENCE, Bytes::from_request(request, &())).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(rejection)) => Err(body_refusal(&rejection)),
        Err(_) => {
            let message = "the body did not arrive in time";
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message))
        }
    }
}

fn body_refusal(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "the body is too large")
    } else {
        ApiError::invalid_body("the body did not arrive whole")
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().ok().map(str::trim).filter(|t| (1..=255).contains(&t.len()));
    text.map(|t| Some(t.to_owned())).ok_or_else(|| {
        ApiError::bad_request("invalid_query", "Idempotency-Key must be 1 to 255 printable ASCII characters")
    })
}

fn queued(accepted: Accepted) -> Response {
    let mut view = json!({
        "id": accepted.id,
        "call_id": accepted.id,
        "status": "queued",
        "lifecycle": "queued",
        "message": format!("The call is queued. Follow it with GET /call/{}.", accepted.id),
    });
    if let Some(api_key) = &accepted.api_key {
        view["api_key"] = json!(api_key);
    }
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    if let Some(value) = accepted.api_key.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(ISSUED_KEY, value);
    }
    if accepted.replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response.extensions_mut().insert(Balance(accepted.key));
    response
}

async fn read(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    id: Segment,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let key = key(&caller)?;
    let wait = wait(params)?;
    let id = identifier(id)?;
    let mut record = find(&service, &id, key).await?;
    if !wait.is_zero()
        && let Some(live) = service.live(&id)
    {
        live.wait_for_change(wait).await;
        record = live.record().clone();
    } else if !wait.is_zero() && record.lifecycle != Lifecycle::Finalized {
        // It ended between the two looks.
        record = find(&service, &id, key).await?;
    }
    Ok(Json(view::call(&record, &service.base_url)))
}

fn wait(params: Params) -> Result<Duration, ApiError> {
    let params = query(params)?;
    let Some(text) = params.get("wait") else { return Ok(Duration::ZERO) };
    let seconds: Option<f64> = text.parse().ok().filter(|s: &f64| s.is_finite() && *s >= 0.0);
    let seconds =
        seconds.ok_or_else(|| ApiError::bad_request("invalid_query", "`wait` must be seconds, 0 or more"))?;
    Ok(Duration::from_secs_f64(seconds.min(MAX_WAIT_SECONDS)))
}

fn query(params: Params) -> Result<HashMap<String, String>, ApiError> {
    let refused = |_| ApiError::bad_request("invalid_query", "the query cannot be read");
    params.map(|Query(params)| params).map_err(refused)
}

fn identifier(segment: Segment) -> Result<String, ApiError> {
    let id = segment.map(|Path(id)| id).ok().filter(|id| is_identifier(id));
    id.ok_or_else(ApiError::no_such_call)
}

async fn find(service: &Service, id: &str, key: Key) -> Result<CallRecord, ApiError> {
    service.find(id, key.id).await?.ok_or_else(ApiError::no_such_call)
}

async fn hang_up(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    id: Segment,
) -> Result<Json<Value>, ApiError> {
    let key = key(&caller)?;
    let id = identifier(id)?;
    let record = find(&service, &id, key).await?;
    let over = record.lifecycle == Lifecycle::Finalized;
    if !over && let Some(live) = service.live(&id) {
        live.control.hang_up(HangupSource::User);
        tracing::info!(call = %id, "hang-up asked for");
    }
    Ok(Json(json!({
        "success": true,
        "call_id": id,
        "status": lifecycle_name(record.lifecycle),
        "message": if over { "The call was over already." } else { "The call is being ended." },
    })))
}

async fn recording(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    id: Segment,
    params: Params,
) -> Result<Response, ApiError> {
    let key = key(&caller)?;
    let format = query(params)?.remove("format").unwrap_or_else(|| "wav".into());
    if !["wav", "ogg"].contains(&format.as_str()) {
        return Err(ApiError::bad_request("invalid_query", "`format` must be wav or ogg"));
    }
    let id = identifier(id)?;
    let record = find(&service, &id, key).await?;
    if format != "wav" || !record.has_recording || !service.recordings.exists(&id) {
        return Err(no_recording());
    }
    // Without a name given for us, a path is right wherever the client found us.
    let base = service.config.server.public_url.as_deref().unwrap_or_default();
    let link = format!("{base}{}", service.recordings.link(&id, service.now()));
    let headers = [(header::LOCATION, link), (header::CACHE_CONTROL, "no-store".into())];
    Ok((StatusCode::FOUND, headers).into_response())
}

fn no_recording() -> ApiError {
    let message = "there is no recording in this format, or not yet";
    ApiError::new(StatusCode::NOT_FOUND, "recording_not_available", message)
}

async fn recording_file(
    State(service): Shared,
    file: Segment,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    let file = file.map(|Path(file)| file).unwrap_or_default();
    let path = service.recordings.open(&file, &query(params)?, service.now()).ok_or_else(|| {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", "this link is not valid, or no longer")
    })?;
    if !path.is_file() {
        return Err(no_recording());
    }
    let wav = HeaderValue::from_static("audio/wav");
    let served = ServeFile::new(&path).try_call(request).await.map_err(|error| {
        tracing::error!(%error, "a recording cannot be read");
        ApiError::internal()
    })?;
    let mut response = served.map(axum::body::Body::new);
    if response.status().is_success() {
        response.headers_mut().insert(header::CONTENT_TYPE, wav);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waited(text: &str) -> Result<Duration, ApiError> {
        wait(Ok(Query([("wait".to_owned(), text.to_owned())].into())))
    }

    #[test]
    fn a_wait_is_clamped_to_thirty_seconds() {
        assert_eq!(waited("31"), Ok(Duration::from_secs(30)));
        assert_eq!(waited("1e300"), Ok(Duration::from_secs(30)));
        assert_eq!(waited("2.5"), Ok(Duration::from_millis(2500)));
        assert_eq!(waited("0"), Ok(Duration::ZERO));
        for wrong in ["", "-1", "soon", "NaN", "inf"] {
            assert_eq!(waited(wrong).expect_err("refused").parts().1, "invalid_query", "{wrong}");
        }
    }
}
