//! The second listener: health, metrics and the keys API. Never reachable through the public one.

mod api;
mod auth;
mod blocklist;
mod guard;
mod health;
mod metrics;
mod read_only;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use onlyonce_pipeline::blocklist::Blocklist;
use onlyonce_pipeline::read_only::ReadOnly;
use tokio_util::sync::CancellationToken;

use crate::console::{self, Console};
use crate::logins::Logins;
use crate::records::Records;
use crate::reload::Reloader;

pub(crate) use api::{Found, KeyEntry, KeyList, Resolve, ScopeSpec, Sought};
pub(crate) use blocklist::{BlockDraft, BlockEntry, BlockList};
use guard::Hosts;
pub(crate) use guard::{ADMIN_HEADER, OPERATOR_HEADER};
pub(crate) use metrics::{Tally, describe as describe_metrics};

/// What the admin listener works on.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) records: Records,
    pub(crate) blocklist: Option<Blocklist>,
    /// Each module's tokens.
    pub(crate) logins: Logins,
    /// Where a layer follows it.
    pub(crate) read_only: Option<ReadOnly>,
    /// The access log's pages, where rows are kept.
    pub(crate) console: Option<Console>,
    pub(crate) prometheus: PrometheusHandle,
    pub(crate) tally: Tally,
    pub(crate) reloader: Arc<Reloader>,
    /// The names by which it is called.
    pub(crate) hosts: Hosts,
    /// Cancelled once the shutdown has begun.
    pub(crate) closing: CancellationToken,
}

/// The admin listener's service.
pub(crate) fn router(admin: Admin) -> Router {
    let guard = from_fn_with_state(Arc::clone(&admin.hosts), guard::refuse_foreign_pages);
    let guarded = Router::new()
        .route("/api/keys", get(api::list))
        .route("/api/keys/count", get(api::count))
        .route("/api/keys/find", post(api::find))
        .route("/api/keys/{id}", get(api::show).delete(api::forget))
        .route("/api/keys/{id}/resolve", post(api::resolve))
        .route("/-/reload", post(api::reload))
        .merge(blocklist::router(admin.blocklist.clone()))
        .merge(read_only::router(admin.read_only.clone()))
        .merge(auth::router(admin.logins.clone()))
        .layer(guard.clone());
    let console = admin.console.clone().map(console::router);
    let console = console.unwrap_or_default();
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::render))
        .merge(guarded)
        .with_state(admin)
        .merge(console.layer(guard))
}
