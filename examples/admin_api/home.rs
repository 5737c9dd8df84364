//! `/home`: for everybody.

use std::convert::Infallible;

use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use futures_util::stream::{self, Stream};
use onlyonce_pipeline::Error;
use onlyonce_pipeline::context::Context;
use serde::Deserialize;

use crate::app::App;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/fails", get(fails))
        .route("/custom", get(custom))
        .route("/events", get(events))
}

/// A page: it passes as it is.
pub(crate) async fn page() -> Html<String> {
    let module = Context::current().map(|context| context.module().to_owned());
    Html(format!(
        "<h1>Welcome to {}</h1>",
        module.unwrap_or_default()
    ))
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    name: String,
}

/// Its error is a page, too.
async fn fails(Query(said): Query<Said>) -> Error {
    Error::plain(format!("no such page: {}", said.name))
}

/// An answer of its own kind: nobody touches it.
async fn custom() -> impl IntoResponse {
    (
        StatusCode::ACCEPTED,
        [("x-kind", "custom")],
        "自定义响应内容",
    )
}

async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = ["one", "two"].map(|data| Ok(Event::default().data(data)));
    Sse::new(stream::iter(events))
}
