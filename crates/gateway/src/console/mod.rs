//! Pages for operators, and the same as JSON. Rendered here, without scripts and without files of
//! others.

mod api;
mod pages;
mod query;
mod shown;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use onlyonce_pipeline::access_log::RowSink;

/// What the console shows.
#[derive(Clone)]
pub(crate) struct Console {
    sink: Arc<dyn RowSink>,
    read_only: Arc<dyn Fn() -> bool + Send + Sync>,
    templates: Arc<pages::Templates>,
}

impl Console {
    /// Shows what `sink` holds; without request headers while `read_only` says so.
    pub(crate) fn new(
        sink: Arc<dyn RowSink>,
        read_only: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            sink,
            read_only: Arc::new(read_only),
            templates: Arc::new(pages::Templates::new()),
        }
    }
}

/// The console's pages and API. Who may see them is not asked here: nest it behind a guard.
pub(crate) fn router(console: Console) -> Router {
    Router::new()
        .route("/console/access-log", get(pages::list))
        .route("/console/access-log/{id}", get(pages::detail))
        .route("/console/style.css", get(pages::style))
        .route("/api/access-log", get(api::list))
        .route("/api/access-log/{id}", get(api::detail))
        .layer(map_response(protect))
        .with_state(console)
}

/// What browsers may do with it: show it, and keep it to themselves.
async fn protect(mut response: Response) -> Response {
    let policy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
                  frame-ancestors 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console")
    }
}

#[cfg(test)]
mod tests;
