//! An administration's API with the whole pipeline: what HotGo's guide to middleware shows, in
//! axum.
//!
//! ```text
//! cargo run -p onlyonce-examples --example admin_api
//!
//! curl -s http://127.0.0.1:3000/api/hello?name=you
//! curl -s http://127.0.0.1:3000/admin/login -d 'name=boss&password=open-sesame'
//! TOKEN=…what it answered under data.token…
//! curl -s http://127.0.0.1:3000/admin/members -H "authorization: Bearer $TOKEN" \
//!   -H 'idempotency-key: 8e03978e-40d5-43dd-bc93-6894a57f9324' -d 'name=Li&age=30'
//! ```
//! Send the last one twice: one member, and the second answer says `idempotent-replayed: true`.
//! Every request stands as a line on standard output.

mod admin;
mod api;
mod app;
mod home;
mod socket;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use onlyonce_core::SystemClock;
use onlyonce_pipeline::Answers;
use onlyonce_pipeline::access_log::{AccessLogLayer, LineFormat, Lines};
use tokio::net::TcpListener;

use app::{Parts, app};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let log = AccessLogLayer::new().with_lines(Lines::stdout(LineFormat::Text)?);
    let parts = Parts {
        // Never for strangers' eyes: HOTGO_DEBUG shows the whole chain of each error.
        answers: Answers::new().with_debug(std::env::var_os("HOTGO_DEBUG").is_some()),
        clock: Arc::new(SystemClock::new()),
        log,
    };
    let app = app(parts).await?;
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).await?;
    Ok(())
}
