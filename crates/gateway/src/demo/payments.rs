//! A sample payments API, as careless as most: every POST is a charge.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Longest work that can be asked for, in seconds.
const LONGEST: f64 = 30.0;

#[derive(Clone, Debug, Serialize)]
struct Charge {
    id: String,
    amount: u64,
    currency: String,
}

#[derive(Debug, Deserialize)]
struct Order {
    amount: u64,
    #[serde(default = "euro")]
    currency: String,
}

fn euro() -> String {
    "EUR".to_owned()
}

#[derive(Debug, Deserialize)]
struct Work {
    /// How long the work takes, in seconds.
    #[serde(default)]
    delay: f64,
}

type Charges = Arc<Mutex<Vec<Charge>>>;

/// `POST /charges` makes one, `GET /charges` lists them.
pub(super) fn router() -> Router {
    Router::new()
        .route("/charges", get(list).post(charge))
        .with_state(Charges::default())
}

async fn charge(
    State(charges): State<Charges>,
    Query(work): Query<Work>,
    Json(order): Json<Order>,
) -> (StatusCode, Json<Charge>) {
    let delay = if work.delay.is_finite() {
        work.delay.clamp(0.0, LONGEST)
    } else {
        0.0
    };
    tokio::time::sleep(Duration::from_secs_f64(delay)).await;
    let mut charges = charges.lock().unwrap_or_else(PoisonError::into_inner);
    let id = format!("ch_{}", charges.len() + 1);
    let charge = Charge {
        id,
        amount: order.amount,
        currency: order.currency,
    };
    charges.push(charge.clone());
    (StatusCode::CREATED, Json(charge))
}

async fn list(State(charges): State<Charges>) -> Json<Value> {
    let charges = charges.lock().unwrap_or_else(PoisonError::into_inner);
    Json(json!({ "count": charges.len(), "charges": *charges }))
}
