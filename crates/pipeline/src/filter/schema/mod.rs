//! Bodies that fit a JSON Schema.
//!
//! [`SchemaLayer`] reads a body up to a limit, checks it, and hands it on byte for byte, trailers
//! and all. What does not fit is refused with code 51 and the first rule that it breaks.
//!
//! ```
//! use axum::{Router, routing::post};
//! use onlyonce_pipeline::Answers;
//! use onlyonce_pipeline::filter::schema::{Schema, SchemaLayer};
//!
//! # fn main() -> Result<(), onlyonce_pipeline::filter::schema::SchemaError> {
//! let schema = Schema::parse(br#"{
//!     "type": "object",
//!     "required": ["amount"],
//!     "properties": { "amount": { "type": "integer", "minimum": 1 } }
//! }"#)?;
//! let app: Router = Router::new()
//!     .route("/charges", post(async || "charged"))
//!     .layer(SchemaLayer::new(schema, Answers::new()));
//! # let _ = app;
//! # Ok(())
//! # }
//! ```
//!
//! # Which requests
//! POST, PUT and PATCH, and every other one that has a body. There a body must be JSON in UTF-8,
//! not compressed, and name no field of an object twice: what this layer would read in another way
//! than the service goes no further. Otherwise 415 or 400, with code 66; too long is 413.
//!
//! # What it needs of the layers outside
//! Nothing. Stand it inside the idempotency layer: a refusal says
//! [`NotExecuted`](onlyonce::Control::NotExecuted), so the key is free for the corrected request.

mod layer;
#[expect(clippy::module_inception, reason = "it is what the module is about")]
mod schema;
mod service;
#[cfg(test)]
mod tests;

pub use super::future::ResponseFuture;
pub use layer::{RouteSchema, SchemaLayer};
pub use schema::{Schema, SchemaError};
pub use service::SchemaService;
