//! Read-only mode (HotGo's `DemoLimit`): a system that can be looked at, and not changed.
//!
//! While the switch is on, unsafe methods are refused with code 59 and status 403, but on routes
//! that stay open, such as the login of a demonstration. The switch is [`ReadOnly`]; it can be
//! turned while requests come in: for a demonstration, a migration, or an incident.
//!
//! ```
//! use axum::{Router, routing::post};
//! use onlyonce_pipeline::Answers;
//! use onlyonce_pipeline::read_only::{ReadOnly, ReadOnlyLayer};
//!
//! # fn main() -> Result<(), onlyonce_pipeline::read_only::ExemptError> {
//! let switch = ReadOnly::off();
//! let layer = ReadOnlyLayer::new(switch.clone(), Answers::new()).with_exempt(["/login"])?;
//! let app: Router = Router::new()
//!     .route("/login", post(async || "welcome"))
//!     .route("/orders", post(async || "ordered"))
//!     .layer(layer);
//!
//! switch.set(true); // From now on nothing can be ordered.
//! # let _ = app;
//! # Ok(())
//! # }
//! ```
//!
//! # What it needs of the layers outside
//! Nothing. It sees the path as it is: inside a nested router, patterns are of the shortened path.
//!
//! # What it does not do
//! Requests that were let in before the switch was turned go on. And a service that changes
//! something at a GET changes it still.

mod exempt;
mod layer;
mod service;
mod switch;
#[cfg(test)]
mod tests;

pub use crate::refused::ResponseFuture;
pub use exempt::{Exempt, ExemptError};
pub use layer::{ReadOnlyLayer, Refused};
pub use service::ReadOnlyService;
pub use switch::ReadOnly;
