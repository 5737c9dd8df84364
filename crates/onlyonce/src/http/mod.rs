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
//! | [`RouteLabel`] | a router outside | the route's name in metrics |
//! | [`TraceId`] | a tracing layer outside | the `instance` of problem documents |
//!
//! # What it adds
//! [`Claimed`](crate::Claimed) to the request of a claimed execution, and
//! [`Verdict`](crate::Verdict) to every response.
//!
//! # Where to put it
//! - **Behind authentication**, so that a [`Principal`] is there and replays are authorised, too.
//! - **Outside nested routers**, or with
//!   [`with_target`](IdempotencyLayer::with_target): a router that shortens the URI hides which
//!   of its branches was asked for.
//! - **Once for each record**: of two layers on one store with one secret, the inner one leaves
//!   the request to the outer one. Behind a gateway of another process it cannot know: give each
//!   of them a store or a [`Secret`](crate::Secret) of its own, or the inner one meets the outer
//!   one's claim and refuses.
//! - **Around limits on concurrency**, not within them: what was claimed goes on when its client
//!   hangs up, and a limit outside would count it no more.
//!   [`Policy::max_in_progress`](crate::Policy::max_in_progress) limits by caller.
//!
//! # Bodies
//! A body that is read before the claim is as slow as its client; cutting off slow ones is the
//! server's part. A refusal or replay that needs no body leaves it unread, and the server drains
//! it or closes the connection, as hyper does.
//!
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
mod stream;

pub use body::{BodyError, RequestBody, ResponseBody};
pub use control::Control;
pub use extensions::{EffectiveStatus, Principal, RouteLabel, RoutePolicy, TraceId};
pub use future::ResponseFuture;
pub use layer::IdempotencyLayer;
pub use problem::{Problem, ProblemKind};
pub use service::Idempotency;
