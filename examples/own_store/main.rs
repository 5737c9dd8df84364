//! A store of your own: in [`store`], a hundred lines around the transitions of `Entry`.
//!
//! The suite that every store passes runs on it in `tests.rs`. Here it stands behind an API:
//! ```text
//! cargo run -p onlyonce-examples --example own_store
//! curl -i http://127.0.0.1:3003/orders -H 'idempotency-key: a' -d 'one pizza'
//! ```

mod inspect;
mod store;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::routing::post;
use onlyonce::IdempotencyLayer;
use onlyonce_core::SystemClock;
use store::OwnStore;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:3003").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app(OwnStore::new(SystemClock::new()))).await?;
    Ok(())
}

fn app(store: OwnStore) -> Router {
    let orders = Arc::new(AtomicU64::new(0));
    let order = move |what: String| {
        let number = orders.fetch_add(1, Ordering::SeqCst) + 1;
        async move { format!("order {number}: {what}\n") }
    };
    Router::new()
        .route("/orders", post(order))
        .layer(IdempotencyLayer::new(store))
}
