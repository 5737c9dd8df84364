//! Whether the gateway lives, and whether it should get requests.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use onlyonce_core::RecordId;
use serde_json::{Value, json};

use super::Admin;

const STORE_LIMIT: Duration = Duration::from_secs(1);

/// 200 as long as the process can answer at all.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// 200 when keyed requests can be served: the store answers, and no shutdown has begun.
pub(super) async fn ready(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    let draining = admin.closing.is_cancelled();
    // No key has this identifier: the store looks, and finds nothing.
    let nowhere = RecordId::from_bytes([0; 32]);
    let looked = tokio::time::timeout(STORE_LIMIT, admin.records.inspect.show(&nowhere)).await;
    let store = match looked {
        Ok(Ok(_)) => "ok".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {STORE_LIMIT:?}"),
    };
    let is_ready = !draining && store == "ok";
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({ "ready": is_ready, "draining": draining, "store": store });
    (status, Json(body))
}
