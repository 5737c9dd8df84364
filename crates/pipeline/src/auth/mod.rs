//! Who calls, and what they may do.
//!
//! [`AuthLayer`] divides an application into [`Module`]s, each with a prefix and rules of its own:
//!
//! | module | default prefix | a request passes |
//! |---|---|---|
//! | [`admin`](Module::admin) | `/admin` | with a login whose role is allowed to do it |
//! | [`api`](Module::api) | `/api` | with a login |
//! | [`websocket`](Module::websocket) | `/socket` | with a login, shown by token or ticket |
//! | [`home`](Module::home) | `/home` | always; a login is noted where there is one |
//! | [`new`](Module::new) | none | by the [`Steps`] that are chosen |
//!
//! Routes can be exempt from login, and in modules with roles from those. A login is a token of
//! [`Tokens`], sent as `Authorization: Bearer`; who may do what is decided by [`Roles`].
//!
//! # Example
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use onlyonce_pipeline::auth::{AuthLayer, MemoryTokenStore, Module, TokenKeys, Tokens};
//! use onlyonce_pipeline::context::Identity;
//! use tower::{ServiceBuilder, ServiceExt as _, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = TokenKeys::hs256(b"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge")?;
//! let tokens = Tokens::builder("api", keys).with_store(MemoryTokenStore::new()).build()?;
//! let api = Module::api(tokens.clone()).with_login_exempt(["POST /api/login"])?;
//! let service = ServiceBuilder::new()
//!     .layer(AuthLayer::new([api])?)
//!     .service(service_fn(async |_: Request<()>| {
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     }));
//!
//! let anonymous = Request::get("/api/orders").body(())?;
//! assert_eq!(service.clone().oneshot(anonymous).await?.status(), 401);
//!
//! let token = tokens.login(&Identity::new("7", "api")).await?.token;
//! let known = Request::get("/api/orders")
//!     .header("Authorization", format!("Bearer {token}"))
//!     .body(())?;
//! assert_eq!(service.oneshot(known).await?.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! # What it adds to a request with a login
//! The [`Identity`](crate::context::Identity) to the [`Context`](crate::context::Context) where
//! there is one, and as an `Arc<Identity>` to the extensions; the
//! [`Principal`](onlyonce::Principal), by which the idempotency layer inside knows whose a key is.
//! A refusal has an `Arc<`[`AuthRejection`]`>` in its response's extensions.
//!
//! # Order
//! It needs nothing of the layers outside. It stands outside of idempotency, so that replays are
//! authorised too, and outside of routers that shorten the path
//! (see [`with_target`](AuthLayer::with_target)).
//!
//! # Paths
//! What a path means is decided once and strictly, since what reads it after this layer may read
//! it otherwise. Within a module, a path with `//`, `.` or `..`, `;`, `\`, control characters, or
//! escapes that hide a slash, a percent sign or a plain character is refused with code 53, plainly
//! written or escaped; so is one that is in a module only if letter case doesn't count. Outside of
//! the modules a path passes if no reading of it leads into one. A slash at the end counts:
//! `/admin/login/` is not exempt because `/admin/login` is.

mod credential;
mod future;
mod layer;
mod module;
mod roles;
mod routes;
mod service;
pub mod store;
mod texts;
mod tokens;

pub use crate::path::AmbiguousPath;
pub use future::ResponseFuture;
pub use layer::AuthLayer;
pub use module::{Module, ModuleError, PolicyPaths, Steps};
pub use roles::{RolePolicy, RolePolicyError, Roles};
pub use routes::{RoutePattern, RouteSyntaxError};
pub use service::{Auth, is_name_of_identity};
pub use store::{DiskTokenStore, MemoryTokenStore, SharedTokenStore, TokenStore, TokenStoreError};
pub use texts::AuthRejection;
pub use tokens::{
    Algorithm, IssuedTicket, IssuedToken, Jwks, KeyError, KeySource, TokenError, TokenKeys, Tokens,
    TokensBuilder, TokensError,
};

#[cfg(test)]
mod tests;
