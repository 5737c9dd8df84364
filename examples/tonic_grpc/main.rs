//! A gRPC service whose calls can be retried: statuses travel in trailers, which are recorded and
//! replayed like the rest.
//!
//! No `protoc` is needed: the messages are derived, and [`charges`] holds by hand what would be
//! generated. The key travels as metadata, `idempotency-key`.
//! ```text
//! cargo run -p onlyonce-examples --example tonic_grpc
//! ```

mod charges;
#[cfg(test)]
mod tests;

use std::error::Error;

use bytes::Bytes;
use charges::Charges;
use http::Response;
use onlyonce::{IdempotencyLayer, Problem, ProblemKind};
use onlyonce_memory::MemoryStore;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Status};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:3004").await?;
    println!("listening on {}", listener.local_addr()?);
    serve(listener, Charges::default()).await?;
    Ok(())
}

async fn serve(listener: TcpListener, charges: Charges) -> Result<(), tonic::transport::Error> {
    let layer = IdempotencyLayer::new(MemoryStore::new()).with_renderer(refusal);
    Server::builder()
        .layer(layer)
        .add_service(charges)
        .serve_with_incoming(TcpIncoming::from(listener))
        .await
}

/// Refusals as gRPC clients understand them: always HTTP 200, with a status of their own.
fn refusal(problem: &Problem) -> Response<Bytes> {
    let code = match problem.kind {
        ProblemKind::KeyMissing | ProblemKind::KeyInvalid => Code::InvalidArgument,
        ProblemKind::KeyUnscoped => Code::Unauthenticated,
        ProblemKind::KeyReused => Code::FailedPrecondition,
        // "Try the whole call again": the first one is at work.
        ProblemKind::InProgress => Code::Aborted,
        ProblemKind::OutcomeUnknown => Code::Unknown,
        ProblemKind::ResponseNotKept => Code::DataLoss,
        ProblemKind::TooManyInProgress | ProblemKind::BodyTooLarge => Code::ResourceExhausted,
        _ => Code::Unavailable,
    };
    Status::new(code, problem.detail.as_ref()).into_http()
}
