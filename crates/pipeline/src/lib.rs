//! The request pipeline around the idempotency core, as tower layers.
//!
//! Each layer is a module with a feature of its own and works alone on any tower service; what
//! they share is always there: an answer's [`Code`], the chain of an [`Error`], how both are
//! shown to clients ([`Answers`]), and what is known of a request ([`context`]).
//!
//! # Order
//! From the outside in: access log, [`catch_panic`], [`context`], CORS, blocklist, read-only
//! mode, auth, idempotency, input filter, envelope, handler. Auth stands before the filter, so
//! that strangers can't probe what is valid; idempotency inside auth, as keys belong to a
//! caller, and outside of the envelope, so that it records what clients really get. A request
//! that a layer refuses goes no further in. [`Pipeline`] keeps that order:
//!
//! ```
//! # #[cfg(all(feature = "envelope", feature = "cors", feature = "axum"))]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, routing::post};
//! use onlyonce::IdempotencyLayer;
//! use onlyonce_memory::MemoryStore;
//! use onlyonce_pipeline::cors::{Cors, CorsLayer};
//! use onlyonce_pipeline::envelope::{Envelope, EnvelopeLayer};
//! use onlyonce_pipeline::{Answers, Code, Error, Pipeline};
//!
//! async fn order() -> Result<Envelope<u64>, Error> {
//!     let in_stock = 7;
//!     if in_stock == 0 {
//!         return Err(Error::new(Code::new(30001), "out of stock"));
//!     }
//!     Ok(Envelope::new(in_stock))
//! }
//!
//! let answers = Answers::new();
//! let cors = Cors::new().with_origins(["https://shop.example"])?;
//! let app: Router = Router::new().route("/orders", post(order)).layer(
//!     Pipeline::new(answers.clone())
//!         .with_envelope(EnvelopeLayer::new(answers))
//!         .with_cors(CorsLayer::new(&cors)?)
//!         .with_idempotency(IdempotencyLayer::new(MemoryStore::new())),
//! );
//! # let _ = app;
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "envelope", feature = "cors", feature = "axum")))]
//! # fn main() {}
//! ```
//!
//! # Features
//! | feature | module |
//! |---|---|
//! | `access-log` | `access_log`: a line and a row for each request |
//! | `client-addr` | `client_addr`: the client's address behind proxies |
//! | `cors` | `cors`: which pages of other origins may use the service |
//! | `blocklist` | `blocklist`: who is refused, and who alone is let in |
//! | `read-only` | `read_only`: a system that can be looked at, and not changed |
//! | `auth` | `auth`: who calls, and what they may do |
//! | `filter`, `schema` | `filter`: input that is sound, by types or by JSON Schema |
//! | `envelope` | `envelope`: one form for every answer |
//! | `axum` | answers as axum's responses |
//! | `full` | all of these |
//!
//! None is on by default. Machines that share a blocklist or sessions use
//! `onlyonce-pipeline-redis` or `onlyonce-pipeline-postgres`, and `onlyonce-access-log-sqlx` keeps
//! rows of the access log.

#[cfg(feature = "access-log")]
pub mod access_log;
mod answers;
#[cfg(feature = "auth")]
pub mod auth;
#[cfg(feature = "blocklist")]
pub mod blocklist;
mod body;
pub mod catch_panic;
#[cfg(feature = "client-addr")]
pub mod client_addr;
mod code;
pub mod context;
#[cfg(feature = "cors")]
pub mod cors;
#[cfg(feature = "envelope")]
pub mod envelope;
mod error;
#[cfg(any(feature = "filter", feature = "schema"))]
pub mod filter;
mod kind;
mod language;
#[cfg(any(feature = "auth", feature = "blocklist", feature = "read-only"))]
#[cfg_attr(
    not(feature = "auth"),
    expect(
        dead_code,
        unreachable_pub,
        reason = "the others need but a part of it"
    )
)]
mod path;
mod pattern;
mod pipeline;
mod problems;
#[cfg(feature = "read-only")]
pub mod read_only;
mod refusal;
#[cfg(any(feature = "blocklist", feature = "read-only"))]
mod refused;
mod telemetry;
mod text;

pub use answers::{AnswerNote, Answers, Asked, RoutePatternError, StatusMode, TemplateError};
pub use body::PipelineBody;
pub use code::Code;
pub use error::{Error, Frame, Wrap};
pub use kind::ContentKind;
pub use language::Language;
pub use pattern::foreign_pattern;
pub use pipeline::Pipeline;
pub use problems::{Problems, ProblemsFuture, ProblemsLayer};
pub use refusal::Refusal;
pub use telemetry::describe_metrics;
pub use text::Text;
