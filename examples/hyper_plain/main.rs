//! A bare hyper service, without a framework: the layer goes around any tower service.
//!
//! ```text
//! cargo run -p onlyonce-examples --example hyper_plain
//! curl -i http://127.0.0.1:3001/ -H 'idempotency-key: a' -d 'hello'
//! ```

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use onlyonce::IdempotencyLayer;
use onlyonce::http::RequestBody;
use onlyonce_memory::MemoryStore;
use tokio::net::TcpListener;
use tower::{Layer as _, service_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:3001").await?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener).await?;
    Ok(())
}

async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let layer = IdempotencyLayer::new(MemoryStore::new());
    let executions = Arc::new(AtomicU64::new(0));
    // The body that arrives here is the layer's: it may have been read already.
    let service = layer.layer(service_fn(
        move |request: Request<RequestBody<Incoming>>| {
            let number = executions.fetch_add(1, Ordering::SeqCst) + 1;
            async move { Ok::<_, Infallible>(answer(number, request).await) }
        },
    ));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            // Without a timer, hyper's time limits do nothing.
            server.http1().timer(TokioTimer::new());
            server.http2().timer(TokioTimer::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(number: u64, request: Request<RequestBody<Incoming>>) -> Response<Full<Bytes>> {
    match request.into_body().collect().await {
        Ok(body) => {
            let length = body.to_bytes().len();
            let text = format!("execution {number} of {length} bytes\n");
            Response::new(Full::new(text.into()))
        }
        Err(_) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            response
        }
    }
}
