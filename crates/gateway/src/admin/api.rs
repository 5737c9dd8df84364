//! Listing, showing, resolving and forgetting records, over HTTP and JSON.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use onlyonce_core::{
    Filter, Key, Page, Record, RecordId, Resolution, Resolved, Scope, Secret, State as RecordState,
    StateKind, StoreError, StoredResponse, codec,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Admin;
use super::guard::OPERATOR_HEADER;
use crate::front::Peer;

/// Most records in one listing.
const MOST: usize = 1000;

/// A record as the API shows it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyEntry {
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    /// `in-progress`, `unknown`, `completed` or `not-kept`.
    pub(crate) state: String,
    /// Method and path of the request.
    pub(crate) request: String,
    pub(crate) attempt: u32,
    pub(crate) fence: u64,
    /// The response's status, once there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) status: Option<u16>,
    pub(crate) age_seconds: u64,
    pub(crate) expires_in_seconds: u64,
    /// Time left on the owner's lease; 0 when it has vanished.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) lease_left_seconds: Option<u64>,
}

impl KeyEntry {
    fn new(id: &RecordId, record: &Record) -> Self {
        let (status, lease) = match &record.state {
            RecordState::InProgress { lease_left } => (None, Some(seconds_up(*lease_left))),
            RecordState::Unknown => (None, None),
            RecordState::Completed { status, .. } => (Some(*status), None),
        };
        Self {
            id: id.to_string(),
            state: StateKind::of(record).as_str().to_owned(),
            request: record.label.to_string(),
            attempt: record.attempt,
            fence: record.fence.get(),
            status,
            age_seconds: record.age.as_secs(),
            expires_in_seconds: seconds_up(record.expires_in),
            lease_left_seconds: lease,
        }
    }
}

fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// A page of records.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyList {
    pub(crate) keys: Vec<KeyEntry>,
    /// Where the next page begins; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) next: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    state: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Query(query): Query<ListQuery>,
) -> Result<Json<KeyList>, Refusal> {
    let state = query.state.as_deref().map(parse_state).transpose()?;
    let after = query.after.as_deref().map(parse_id).transpose()?;
    let limit = query.limit.unwrap_or(100).clamp(1, MOST);
    let page = Page {
        after,
        limit,
        filter: Filter { state },
    };
    let listed = admin.records.inspect.list(&page).await?;
    let next = listed
        .last()
        .filter(|_| listed.len() == limit)
        .map(|last| last.id.to_string());
    let keys = listed
        .iter()
        .map(|listed| KeyEntry::new(&listed.id, &listed.record))
        .collect();
    Ok(Json(KeyList { keys, next }))
}

fn parse_state(name: &str) -> Result<StateKind, Refusal> {
    StateKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == name)
        .ok_or_else(|| {
            let detail = format!(
                "`{name}` is no state; there are in-progress, unknown, completed and not-kept"
            );
            refusal(StatusCode::BAD_REQUEST, &detail)
        })
}

fn parse_id(text: &str) -> Result<RecordId, Refusal> {
    text.parse().map_err(|error: onlyonce_core::RecordIdError| {
        refusal(StatusCode::BAD_REQUEST, &error.to_string())
    })
}

pub(super) async fn count(State(admin): State<Admin>) -> Result<Response, Refusal> {
    let counts = admin.records.inspect.count().await?;
    Ok(Json(json!({
        "in-progress": counts.in_progress,
        "unknown": counts.unknown,
        "completed": counts.completed,
        "not-kept": counts.not_kept,
        "bytes": counts.bytes,
    }))
    .into_response())
}

/// Whose key is sought.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ScopeSpec {
    Shared,
    Anonymous,
    Principal(String),
    Header(String),
    /// The whole value of the `Authorization` header.
    Authorization(String),
}

impl ScopeSpec {
    fn scope(&self, secret: &Secret) -> Scope {
        match self {
            Self::Shared => Scope::shared(),
            Self::Anonymous => Scope::anonymous(),
            Self::Principal(name) => Scope::principal(name),
            Self::Header(value) => Scope::header(value),
            Self::Authorization(value) => Scope::credential(secret, value.as_bytes()),
        }
    }
}

/// A key as its client knows it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sought {
    pub(crate) key: String,
    pub(crate) scope: ScopeSpec,
}

/// Where its record would lie, whether there is one or not.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) id: String,
}

pub(super) async fn find(
    State(admin): State<Admin>,
    Json(sought): Json<Sought>,
) -> Result<Json<Found>, Refusal> {
    let key = Key::new(sought.key)
        .map_err(|error| refusal(StatusCode::BAD_REQUEST, &error.to_string()))?;
    let secret = &admin.records.secret;
    let id = RecordId::new(secret, &sought.scope.scope(secret), &key);
    Ok(Json(Found { id: id.to_string() }))
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<KeyEntry>, Refusal> {
    let id = parse_id(&id)?;
    match admin.records.inspect.show(&id).await? {
        Some(record) => Ok(Json(KeyEntry::new(&id, &record))),
        None => Err(refusal(
            StatusCode::NOT_FOUND,
            "there is no live record with this ID",
        )),
    }
}

/// How an unknown outcome is settled.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Resolve {
    /// It was executed. With a body, retries get it; without, 409 `response-not-kept`.
    Completed {
        #[serde(default = "ok")]
        status: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_type: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
    },
    /// It was not executed: the next request executes.
    NotExecuted,
}

const fn ok() -> u16 {
    200
}

impl Resolve {
    fn resolution(&self) -> Result<Resolution, Refusal> {
        let bad = |detail: &str| refusal(StatusCode::BAD_REQUEST, detail);
        match self {
            Self::NotExecuted => Ok(Resolution::NotExecuted),
            Self::Completed { status, .. } if !(200..=599).contains(status) => {
                Err(bad("`status` must be between 200 and 599"))
            }
            Self::Completed {
                status, body: None, ..
            } => Ok(Resolution::Completed {
                status: *status,
                result: None,
            }),
            Self::Completed {
                status,
                content_type,
                body: Some(body),
            } => {
                let content_type = content_type.as_deref().unwrap_or("application/json");
                let content_type = content_type
                    .parse()
                    .map_err(|_| bad("`content_type` is no header value"))?;
                let response = StoredResponse {
                    status: *status,
                    headers: vec![(http::header::CONTENT_TYPE, content_type)],
                    body: body.clone().into(),
                    trailers: Vec::new(),
                };
                let result = Some(codec::encode_response(&response));
                Ok(Resolution::Completed {
                    status: *status,
                    result,
                })
            }
        }
    }
}

pub(super) async fn resolve(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    Json(how): Json<Resolve>,
) -> Result<Response, Refusal> {
    let id = parse_id(&id)?;
    let resolution = how.resolution()?;
    let resolved = admin.records.inspect.resolve(&id, &resolution).await?;
    let what = match how {
        Resolve::Completed { .. } => "resolve completed",
        Resolve::NotExecuted => "resolve not-executed",
    };
    audit(
        what,
        &id,
        resolved,
        peer.map(|Extension(peer)| peer.addr),
        &headers,
    );
    settled(
        resolved,
        "only a record whose outcome is unknown can be resolved",
    )
}

pub(super) async fn forget(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = parse_id(&id)?;
    let resolved = admin.records.inspect.forget(&id).await?;
    audit(
        "forget",
        &id,
        resolved,
        peer.map(|Extension(peer)| peer.addr),
        &headers,
    );
    settled(resolved, "an owner is at work on it: wait for its end")
}

pub(super) async fn reload(State(admin): State<Admin>) -> Result<Response, Refusal> {
    match admin.reloader.reload().await {
        Ok(notes) => Ok(Json(json!({ "reloaded": true, "notes": notes })).into_response()),
        Err(error) => {
            let detail = format!("the old settings stay: {error:#}");
            Err(refusal(StatusCode::UNPROCESSABLE_ENTITY, &detail))
        }
    }
}

fn settled(resolved: Resolved, refused: &str) -> Result<Response, Refusal> {
    match resolved {
        Resolved::Applied => Ok(StatusCode::NO_CONTENT.into_response()),
        Resolved::NotFound => Err(refusal(
            StatusCode::NOT_FOUND,
            "there is no live record with this ID",
        )),
        Resolved::Refused => Err(refusal(StatusCode::CONFLICT, refused)),
    }
}

/// Each change, whoever made it and whatever came of it, in the log under its own target.
fn audit(
    what: &str,
    id: &RecordId,
    resolved: Resolved,
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
) {
    let operator = headers
        .get(OPERATOR_HEADER)
        .and_then(|value| value.to_str().ok());
    tracing::info!(
        target: "onlyonce::audit",
        operator = operator.unwrap_or("-"),
        peer = peer.map(tracing::field::display),
        record = %id,
        result = ?resolved,
        "{what}"
    );
}

/// A call that is not carried out, as a problem document.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    detail: String,
}

pub(super) fn refusal(status: StatusCode, detail: &str) -> Refusal {
    Refusal {
        status,
        detail: detail.to_owned(),
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the admin API's call failed"
        );
        refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let document = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let content_type = (http::header::CONTENT_TYPE, "application/problem+json");
        (self.status, [content_type], document.to_string()).into_response()
    }
}
