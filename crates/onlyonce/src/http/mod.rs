//! The tower layer.
//!
//! [`IdempotencyLayer`] wraps any `Service<Request<_>, Response = Response<_>>` that can be
//! cloned. It works on axum routers, tonic servers and bare hyper services alike.
//!
//! # What the layer reads from a request's extensions
//! | extension | from | meaning |
//! |---|---|---|
//! | [`Principal`] | an authentication layer outside | whose key it is |
//! | [`RoutePolicy`] | a router outside | this route's policy, or none |
//! | [`RouteLabel`] | a router outside | the route's name in metrics and listings |
//! | [`TraceId`] | a tracing layer outside | the `instance` of problem documents |
//!
//! # What it adds
//! [`Claimed`](crate::Claimed) to the request of a claimed execution, and
//! [`Verdict`](crate::Verdict) to every response.
//!
//! # Bodies
//! The inner service gets a [`RequestBody`], the outer one a [`ResponseBody`]; both are plain
//! [`http_body::Body`]s over [`bytes::Bytes`].

mod body;
mod control;
mod execute;
mod extensions;
mod extract;
mod fingerprint;
mod future;
mod keyed;
mod layer;
mod problem;
mod replay;
mod service;

pub use body::{BodyError, RequestBody, ResponseBody};
pub use control::Control;
pub use extensions::{Principal, RouteLabel, RoutePolicy, TraceId};
pub use future::ResponseFuture;
pub use layer::IdempotencyLayer;
pub use problem::{Problem, ProblemKind};
pub use service::Idempotency;
