//! A payments API in axum whose charges can be sent again, with a policy for each route.
//!
//! ```text
//! cargo run -p onlyonce-examples --example axum_charges
//!
//! curl -i http://127.0.0.1:3000/charges -H 'authorization: Bearer alices-token' \
//!   -H 'idempotency-key: 8e03978e-40d5-43dd-bc93-6894a57f9324' \
//!   -H 'content-type: application/json' -d '{"amount": 500}'
//! ```
//! Send it twice: one charge, and the second answer says `idempotent-replayed: true`. Stop the
//! server and start it again: still one, for the records lie on the disk.

mod provider;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use onlyonce::{Claimed, Engine, IdempotencyLayer, Policy, PolicyError, Principal, Profile};
use onlyonce_disk::DiskStore;
use provider::Provider;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::new(DiskStore::open("./charges-data")?);
    let app = app(&engine, Provider::default())?;
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    // Handlers run detached from their connections: give them time to be recorded.
    engine.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

fn app(engine: &Engine, provider: Provider) -> Result<Router, PolicyError> {
    // Money: every request needs a key, and every answer is final.
    let payments = IdempotencyLayer::from_engine(engine.clone())
        .with_policy(Policy::new(Profile::Payments))?;
    // Notes: a key is welcome, and forgotten after an hour.
    let notes = Policy::new(Profile::Standard).with_lifetime(Duration::from_secs(3600));
    let notes = IdempotencyLayer::from_engine(engine.clone()).with_policy(notes)?;

    Ok(Router::new()
        .route("/charges", post(charge).layer(payments))
        .route("/charges/count", get(count))
        .route("/notes", post(note).layer(notes))
        // Outside of the others: a replay, too, is only for its own caller.
        .layer(from_fn(authenticate))
        .with_state(provider))
}

#[derive(Deserialize)]
struct Charge {
    amount: u64,
}

#[derive(Serialize)]
struct Charged {
    id: String,
    amount: u64,
    attempt: u32,
}

/// Charges by way of a provider, which has idempotency keys of its own.
async fn charge(
    State(provider): State<Provider>,
    Extension(claimed): Extension<Claimed>,
    Json(charge): Json<Charge>,
) -> (StatusCode, Json<Charged>) {
    // The same on every attempt: should this one die half-way and be taken over by the next,
    // the provider sees one charge.
    let key = claimed.derive(&["provider", "charge"]);
    let id = provider.charge(&key, charge.amount).await;
    let charged = Charged {
        id,
        amount: charge.amount,
        attempt: claimed.attempt(),
    };
    (StatusCode::CREATED, Json(charged))
}

async fn count(State(provider): State<Provider>) -> String {
    provider.charges().to_string()
}

async fn note(Extension(caller): Extension<Principal>, text: String) -> String {
    format!("{} notes: {text}", caller.as_str())
}

/// Stands for your authentication. What it says of the caller becomes the scope of the keys.
async fn authenticate(mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let token = request.headers().get("authorization");
    let name = match token.map(HeaderValue::as_bytes) {
        Some(b"Bearer alices-token") => "alice",
        Some(b"Bearer bobs-token") => "bob",
        _ => return Err(StatusCode::UNAUTHORIZED),
    };
    request.extensions_mut().insert(Principal::new(name));
    Ok(next.run(request).await)
}
