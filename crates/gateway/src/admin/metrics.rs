//! The metrics, in Prometheus' text format.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use onlyonce_core::{Counts, StateKind};

use super::Admin;

pub(super) async fn render(State(admin): State<Admin>) -> impl IntoResponse {
    admin.records.report();
    match admin.records.inspect.count().await {
        Ok(counts) => report(&counts),
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "not counted"),
    }
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        admin.prometheus.render(),
    )
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn report(counts: &Counts) {
    for (state, count) in [
        (StateKind::InProgress, counts.in_progress),
        (StateKind::Unknown, counts.unknown),
        (StateKind::Completed, counts.completed),
        (StateKind::NotKept, counts.not_kept),
    ] {
        metrics::gauge!("onlyonce_records", "state" => state.as_str()).set(count as f64);
    }
    metrics::gauge!("onlyonce_store_bytes").set(counts.bytes as f64);
}
