//! The access log as JSON.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use onlyonce_pipeline::access_log::{SinkError, SinkFuture};
use serde::Serialize;
use serde_json::json;

use super::Console;
use super::query::Typed;
use super::shown::{ShownRow, ShownSummary};

/// A look for a part of a path goes through every row.
const PATIENCE: Duration = Duration::from_secs(15);

/// A page of rows, the newest first.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    pub(super) rows: Vec<ShownSummary>,
    /// The `before` of the next page; `None` on the last.
    pub(super) next: Option<String>,
}

/// Why something is not shown.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) detail: String,
}

pub(super) async fn list(
    State(console): State<Console>,
    typed: Result<Query<Typed>, QueryRejection>,
) -> Result<Json<Listing>, Refusal> {
    let Query(typed) = typed.map_err(|error| Refusal {
        status: StatusCode::BAD_REQUEST,
        detail: error.body_text(),
    })?;
    console.listing(&typed).await.map(Json)
}

pub(super) async fn detail(
    State(console): State<Console>,
    Path(id): Path<String>,
) -> Result<Json<ShownRow>, Refusal> {
    console.row(&id).await.map(Json)
}

impl Console {
    pub(super) async fn listing(&self, typed: &Typed) -> Result<Listing, Refusal> {
        let mut query = typed.query().map_err(|wrong| Refusal {
            status: StatusCode::BAD_REQUEST,
            detail: wrong.to_string(),
        })?;
        let limit = query.rows();
        // One more, to know whether there is a next page.
        query.limit = limit + 1;
        let mut rows = in_time(self.sink.list(&query)).await?;
        let more = rows.len() > limit || rows.len() == query.rows() && query.rows() == limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| row.id.to_string());
        Ok(Listing {
            rows: rows.into_iter().map(ShownSummary::from).collect(),
            next,
        })
    }

    pub(super) async fn row(&self, id: &str) -> Result<ShownRow, Refusal> {
        let unknown = || Refusal {
            status: StatusCode::NOT_FOUND,
            detail: "there is no such row; rows older than the retention are removed".to_owned(),
        };
        let id = id.parse().map_err(|_| unknown())?;
        let row = in_time(self.sink.find(id)).await?.ok_or_else(unknown)?;
        Ok(ShownRow::new(row, (self.read_only)()))
    }
}

async fn in_time<T>(found: SinkFuture<'_, T>) -> Result<T, Refusal> {
    match tokio::time::timeout(PATIENCE, found).await {
        Ok(found) => found.map_err(|error| unavailable(&error)),
        Err(_) => Err(Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            detail: format!(
                "the access log did not answer within {PATIENCE:?}; a shorter time from `from` to \
                 `until` is found sooner"
            ),
        }),
    }
}

/// What broke is for the log; it may name hosts and users of the database.
fn unavailable(error: &SinkError) -> Refusal {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "the console's access log"
    );
    Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        detail: format!("{error}; the gateway's log says why"),
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
        let content_type = (header::CONTENT_TYPE, "application/problem+json");
        (self.status, [content_type], document.to_string()).into_response()
    }
}
