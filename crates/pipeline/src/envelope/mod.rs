//! One form for every answer: code, message, data, timestamp, trace ID.
//!
//! Handlers return [`Envelope<T>`](Envelope) or an [`Error`]; [`EnvelopeLayer`] makes of it what
//! the route answers in: JSON, XML, a page, or text. The form is the one of the response's
//! `Content-Type`, where the handler set one; else the one that the route has by
//! [`Answers::with_kind`]; else JSON.
//!
//! What else passes through:
//! - A response with a body of its own is the handler's business: it passes untouched, event
//!   streams too (an error that ends one is logged).
//! - 403 and 404 without a body, as routers give them, get an envelope or a page; 200 without a
//!   body and without a `Content-Type` becomes an empty success.
//! - Everything else passes untouched, and answers to `HEAD` always.
//!
//! Errors are logged with their whole chain, whatever the client is told: those without a code at
//! `INFO`, all others at `ERROR`.
//!
//! # Order
//! Inside of the idempotency layer, which records what clients really get and judges by what the
//! code means ([`EffectiveStatus`](onlyonce::EffectiveStatus)); around the router. The trace ID
//! comes from a [`ContextLayer`](crate::context::ContextLayer) outside.
//!
//! # Example
//! ```
//! use axum::{Router, routing::get};
//! use onlyonce_pipeline::envelope::{Envelope, EnvelopeLayer};
//! use onlyonce_pipeline::{Answers, Code, Error};
//! # use http::Request;
//! # use http_body_util::BodyExt as _;
//! # use tower::ServiceExt as _;
//!
//! async fn stock() -> Result<Envelope<u32>, Error> {
//!     Err(Error::new(Code::new(30001), "out of stock"))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let app = Router::new()
//!     .route("/stock", get(stock))
//!     .layer(EnvelopeLayer::new(Answers::new()));
//! # let response = app.oneshot(Request::get("/stock").body(axum::body::Body::empty()).unwrap()).await.unwrap();
//! # let body = response.into_body().collect().await.unwrap().to_bytes();
//! # assert!(body.starts_with(br#"{"code":30001,"message":"out of stock","timestamp":"#));
//! # }
//! ```

mod ahead;
mod body;
mod codes;
mod future;
mod layer;
mod service;
mod typed;

pub use ahead::AheadBody;
pub use body::EnvelopeBody;
pub use codes::{ReadCodes, ReadCodesLayer};
pub use future::ResponseFuture;
pub use layer::EnvelopeLayer;
pub use service::EnvelopeService;
pub use typed::Envelope;
use typed::Typed;

#[cfg(doc)]
use crate::{Answers, Error};

#[cfg(test)]
#[cfg(feature = "axum")]
mod tests;
