//! Cross-origin requests (CORS, HotGo's `CORS`): which pages of other origins may use the
//! service.
//!
//! A browser asks before it lets a page of another origin send more than a form could (a
//! *preflight*), and asks the answer whether the page may read it. [`CorsLayer`] answers both by
//! the settings in [`Cors`]; [`tower_http::cors`] does the work.
//!
//! ```
//! use axum::{Router, routing::post};
//! use onlyonce_pipeline::cors::{Cors, CorsLayer};
//!
//! # fn main() -> Result<(), onlyonce_pipeline::cors::CorsError> {
//! let cors = Cors::new().with_origins(["https://shop.example", "https://*.shop.example"])?;
//! let app: Router = Router::new()
//!     .route("/charges", post(async || "charged"))
//!     .layer(CorsLayer::new(&cors)?);
//! # let _ = app;
//! # Ok(())
//! # }
//! ```
//!
//! # What it adds to tower-http's
//! - Settings that cannot work are an error where they are made, not a panic at the first request.
//! - Only a preflight is answered here: an OPTIONS request with `Origin` and
//!   `Access-Control-Request-Method`. Every other one goes on to the service.
//! - Patterns of origins that end at the dot ([`OriginPattern`]).
//! - An origin that is not allowed gets no CORS header at all; `Vary: Origin` says to caches that
//!   it depends on it, also for requests that have no origin.
//! - The layer has the last word: CORS headers of the service inside are removed, so that a
//!   service with a generous default does not overrule it.
//! - Rules by route: [`RouteCors`].
//!
//! # What it needs of the layers outside
//! Nothing. Stand it outside authentication: a preflight carries no credentials.
//!
//! # What it does not do
//! CORS keeps browsers from showing answers to pages. It does not keep anybody from sending
//! requests.

mod future;
mod inner;
mod layer;
mod origin;
mod service;
mod settings;
#[cfg(test)]
mod tests;

pub use future::ResponseFuture;
pub use layer::{CorsLayer, RouteCors};
pub use origin::{OriginError, OriginPattern};
pub use service::{CorsService, requested_method};
pub use settings::{Cors, CorsError};
