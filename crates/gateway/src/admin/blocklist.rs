//! The blocklist for operators, over HTTP and JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use onlyonce_core::Timestamp;
use onlyonce_pipeline::blocklist::{
    Blocklist, BlocklistError, Draft, Entry, EntryId, Expiry, Status,
};
use serde::{Deserialize, Serialize};

use super::api::{Refusal, refusal};
use super::guard::OPERATOR_HEADER;
use crate::front::Peer;

/// Most entries in one listing.
const MOST: usize = 1000;

/// The routes of a blocklist; without one, all of them say so.
pub(super) fn router<S>(blocklist: Option<Blocklist>) -> Router<S> {
    Router::new()
        .route("/api/blocklist", get(list).post(add))
        .route("/api/blocklist/{id}", put(update).delete(remove))
        .with_state(Listed(blocklist))
}

#[derive(Clone)]
struct Listed(Option<Blocklist>);

impl Listed {
    fn blocklist(&self) -> Result<&Blocklist, Refusal> {
        self.0.as_ref().ok_or_else(|| {
            let detail = "the blocklist is off: write `enabled = true` in [blocklist]";
            refusal(StatusCode::NOT_FOUND, detail)
        })
    }
}

/// An entry as the API shows it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BlockEntry {
    pub(crate) id: EntryId,
    pub(crate) ip: String,
    pub(crate) remark: String,
    /// `on` or `off`.
    pub(crate) status: String,
    /// RFC 3339, as all times.
    pub(crate) created: String,
    pub(crate) updated: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) expires: Option<String>,
    pub(crate) hits: u64,
}

impl From<Entry> for BlockEntry {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            ip: entry.ip,
            remark: entry.remark,
            status: match entry.status {
                Status::On => "on".to_owned(),
                Status::Off => "off".to_owned(),
            },
            created: shown(entry.created),
            updated: shown(entry.updated),
            expires: entry.expires.map(shown),
            hits: entry.hits,
        }
    }
}

/// What is said of an entry that is to be saved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlockDraft {
    pub(crate) ip: String,
    #[serde(default)]
    pub(crate) remark: String,
    /// `on` or `off`.
    #[serde(default = "on")]
    pub(crate) status: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) expires_in_seconds: Option<u64>,
}

fn on() -> String {
    "on".to_owned()
}

impl BlockDraft {
    fn draft(self) -> Result<Draft, Refusal> {
        let bad = |detail: &str| refusal(StatusCode::BAD_REQUEST, detail);
        let status = match self.status.as_str() {
            "on" => Status::On,
            "off" => Status::Off,
            _ => return Err(bad("`status` is `on` or `off`")),
        };
        let expiry = match (&self.expires, self.expires_in_seconds) {
            (None, None) => Expiry::Never,
            (None, Some(seconds)) => Expiry::After(Duration::from_secs(seconds)),
            (Some(time), None) => Expiry::At(time_of(time).ok_or_else(|| {
                bad("`expires` is no time such as 2026-12-31T23:59:59Z (RFC 3339, in UTC)")
            })?),
            (Some(_), Some(_)) => {
                return Err(bad("`expires` and `expires_in_seconds` exclude each other"));
            }
        };
        let draft = Draft::new(self.ip).with_remark(self.remark);
        Ok(draft.with_status(status).with_expiry(expiry))
    }
}

/// A page of entries.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BlockList {
    pub(crate) entries: Vec<BlockEntry>,
    /// Entries that nobody understands, and what is wrong with them: with the first page only.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) unreadable: Vec<String>,
    /// Where the next page begins; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) next: Option<EntryId>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    after: Option<u64>,
    limit: Option<usize>,
}

async fn list(
    State(listed): State<Listed>,
    Query(query): Query<ListQuery>,
) -> Result<Json<BlockList>, Refusal> {
    let blocklist = listed.blocklist()?;
    let limit = query.limit.unwrap_or(100).clamp(1, MOST);
    let after = query.after.map(EntryId);
    let entries = blocklist.entries(after, limit).await?;
    let next = entries.last().map(|last| last.id);
    let unreadable = match after {
        None => blocklist.unreadable(),
        Some(_) => Vec::new(),
    };
    Ok(Json(BlockList {
        next: next.filter(|_| entries.len() == limit),
        entries: entries.into_iter().map(BlockEntry::from).collect(),
        unreadable: unreadable.into_iter().map(|one| one.reason).collect(),
    }))
}

async fn add(
    State(listed): State<Listed>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    Json(draft): Json<BlockDraft>,
) -> Result<(StatusCode, Json<BlockEntry>), Refusal> {
    let blocklist = listed.blocklist()?;
    let entry = blocklist.add(&draft.draft()?).await?;
    audit("block", entry.id, &entry.ip, peer.as_deref(), &headers);
    Ok((StatusCode::CREATED, Json(entry.into())))
}

async fn update(
    State(listed): State<Listed>,
    Path(id): Path<u64>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    Json(draft): Json<BlockDraft>,
) -> Result<Json<BlockEntry>, Refusal> {
    let blocklist = listed.blocklist()?;
    let updated = blocklist.update(EntryId(id), &draft.draft()?).await?;
    let entry = updated.ok_or_else(no_entry)?;
    audit(
        "change block",
        entry.id,
        &entry.ip,
        peer.as_deref(),
        &headers,
    );
    Ok(Json(entry.into()))
}

async fn remove(
    State(listed): State<Listed>,
    Path(id): Path<u64>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let blocklist = listed.blocklist()?;
    // Who is let in again, for the log: afterwards nobody knows any more.
    let found = match id.checked_sub(1) {
        Some(before) => blocklist.entries(Some(EntryId(before)), 1).await?,
        None => Vec::new(),
    };
    let entry = found.first().filter(|entry| entry.id == EntryId(id));
    let ip = entry.map(|entry| entry.ip.clone()).unwrap_or_default();
    if !blocklist.remove(EntryId(id)).await? {
        return Err(no_entry());
    }
    audit("unblock", EntryId(id), &ip, peer.as_deref(), &headers);
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn no_entry() -> Refusal {
    refusal(StatusCode::NOT_FOUND, "there is no entry with this ID")
}

/// Each change, in the log under its own target.
fn audit(what: &str, id: EntryId, ip: &str, peer: Option<&Peer>, headers: &HeaderMap) {
    let operator = headers
        .get(OPERATOR_HEADER)
        .and_then(|value| value.to_str().ok());
    tracing::info!(
        target: "onlyonce::audit",
        operator = operator.unwrap_or("-"),
        peer = peer.map(|peer| tracing::field::display(peer.addr)),
        entry = %id,
        ip,
        "{what}"
    );
}

impl From<BlocklistError> for Refusal {
    fn from(error: BlocklistError) -> Self {
        let status = match &error {
            BlocklistError::Draft(_) => StatusCode::UNPROCESSABLE_ENTITY,
            BlocklistError::Full => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the admin API's call failed"
            );
        }
        match std::error::Error::source(&error) {
            Some(source) if status == StatusCode::SERVICE_UNAVAILABLE => {
                refusal(status, &format!("{error}: {source}"))
            }
            _ => refusal(status, &error.to_string()),
        }
    }
}

/// The last second that RFC 3339 can write.
const LAST_SECOND: u64 = 253_402_300_799;

fn shown(time: Timestamp) -> String {
    let seconds = (time.as_millis() / 1000).min(LAST_SECOND);
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

fn time_of(text: &str) -> Option<Timestamp> {
    let time: SystemTime = humantime::parse_rfc3339(text).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis())
        .ok()
        .map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, Request};
    use http_body_util::BodyExt as _;
    use onlyonce_pipeline::blocklist::MemoryBlocklist;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;

    async fn call(
        list: Option<&Blocklist>,
        method: Method,
        path: &str,
        body: &Value,
    ) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/json");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answered = router::<()>(list.cloned()).oneshot(request).await;
        let response = answered.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn blocklist() -> Blocklist {
        Blocklist::load(MemoryBlocklist::new()).await.unwrap()
    }

    #[tokio::test]
    async fn entries_are_added_changed_listed_and_removed() {
        let list = blocklist().await;
        let list = Some(&list);
        let new = json!({"ip": "203.0.113.0/24", "remark": "probes", "expires_in_seconds": 60});
        let (status, added) = call(list, Method::POST, "/api/blocklist", &new).await;
        assert_eq!(
            (status, &added["id"], &added["status"]),
            (201, &1.into(), &"on".into())
        );
        assert!(
            added["expires"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z'))
        );
        let until =
            json!({"ip": "203.0.113.9", "status": "off", "expires": "2999-12-31T23:59:59Z"});
        let (status, changed) = call(list, Method::PUT, "/api/blocklist/1", &until).await;
        assert_eq!((status, &changed["status"]), (200, &"off".into()));
        assert_eq!(
            (&changed["expires"], &changed["created"]),
            (&until["expires"], &added["created"])
        );
        for _ in 0..2 {
            call(list, Method::POST, "/api/blocklist", &json!({"ip": "*"})).await;
        }
        let (_, page) = call(list, Method::GET, "/api/blocklist?limit=2", &Value::Null).await;
        assert_eq!(
            (page["entries"].as_array().unwrap().len(), &page["next"]),
            (2, &2.into())
        );
        let (_, page) = call(list, Method::GET, "/api/blocklist?after=2", &Value::Null).await;
        assert_eq!(
            (&page["entries"][0]["id"], &page["next"]),
            (&3.into(), &Value::Null)
        );
        let gone = call(list, Method::DELETE, "/api/blocklist/1", &Value::Null).await;
        assert_eq!(gone.0, 204);
        for method in [Method::DELETE, Method::PUT] {
            let (status, said) = call(list, method, "/api/blocklist/1", &until).await;
            assert_eq!(
                (status, &said["detail"]),
                (404, &"there is no entry with this ID".into())
            );
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let list = blocklist().await;
        let cases = [
            (
                json!({"ip": "10.0.0.300"}),
                422,
                "`ip`: item 1 (from character 1), `10.0.0.300`",
            ),
            (
                json!({"ip": "*", "status": "1"}),
                400,
                "`status` is `on` or `off`",
            ),
            (
                json!({"ip": "*", "expires": "tomorrow"}),
                400,
                "`expires` is no time such as",
            ),
            (
                json!({"ip": "*", "expires": "2026-12-31T23:59:59Z", "expires_in_seconds": 1}),
                400,
                "exclude each other",
            ),
        ];
        for (body, status, said) in cases {
            let answer = call(Some(&list), Method::POST, "/api/blocklist", &body).await;
            let detail = answer.1["detail"].as_str().unwrap_or_default();
            assert_eq!(answer.0, status, "{detail}");
            assert!(detail.contains(said), "{detail}");
        }
        let (status, said) = call(None, Method::GET, "/api/blocklist", &Value::Null).await;
        assert_eq!(status, 404);
        assert!(
            said["detail"]
                .as_str()
                .unwrap()
                .contains("`enabled = true`")
        );
        assert_eq!(list.stats().entries, 0);
    }
}
