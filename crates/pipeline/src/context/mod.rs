//! What is known of a request, at any depth of its handling.
//!
//! [`ContextLayer`] gives each request a trace ID, a module and a place for what other layers
//! find out: who calls, and from where. The handler reaches it as [`Context`] in the request's
//! extensions, or from any depth by [`Context::current`].
//!
//! # Example
//! ```
//! use http::{Request, Response};
//! use onlyonce_pipeline::context::{Context, ContextLayer};
//! use tower::{ServiceBuilder, ServiceExt as _, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new()
//!     .layer(ContextLayer::new())
//!     .service(service_fn(async |_: Request<()>| {
//!         let context = Context::current().expect("the layer stands outside");
//!         Ok::<_, std::convert::Infallible>(Response::new(context.module().to_owned()))
//!     }));
//! let request = Request::get("/admin/users").body(()).unwrap();
//! let response = service.oneshot(request).await.unwrap();
//! assert_eq!(response.headers()["trace-id"].len(), 32);
//! assert_eq!(response.into_body(), "admin");
//! # }
//! ```
//!
//! # Order
//! It needs nothing of the layers outside. Layers outside that want to see the context once it is
//! made (the access log, the catcher of panics) put a [`ContextSlot`] into the request.
//!
//! A task that the handler spawns is outside of [`Context::current`]; so is a handler that the
//! idempotency layer runs detached, unless a second `ContextLayer` stands inside of that:
//! it takes up the context that it finds. [`Pipeline`](crate::Pipeline) puts one there.

mod future;
mod identity;
mod layer;
mod service;
mod slot;
mod trace_context;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use http::Extensions;
use onlyonce::TraceId;
use onlyonce_core::Timestamp;
use serde_json::{Map, Value};

pub use future::ResponseFuture;
pub use identity::Identity;
pub use layer::ContextLayer;
pub use service::ContextService;
pub use slot::ContextSlot;
pub use trace_context::{TraceContext, random_trace_id};

tokio::task_local! {
    static CURRENT: Context;
}

/// What is known of a request: cheap to clone, and all clones are one.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    trace_id: TraceId,
    module: Box<str>,
    started: Timestamp,
    client_addr: OnceLock<IpAddr>,
    identity: OnceLock<Arc<Identity>>,
    data: RwLock<Map<String, Value>>,
}

impl Context {
    /// The context of a request with this path that came in now.
    #[must_use]
    pub fn new(trace_id: TraceId, path: &str, started: Timestamp) -> Self {
        let first = path.trim_start_matches('/').split('/').next();
        let module = first.filter(|first| !first.is_empty()).unwrap_or("default");
        Self(Arc::new(Inner {
            trace_id,
            module: module.into(),
            started,
            client_addr: OnceLock::new(),
            identity: OnceLock::new(),
            data: RwLock::default(),
        }))
    }

    /// The request's context, where a [`ContextLayer`] stands outside.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// The context of the request that this task handles, where a [`ContextLayer`] stands outside.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Which request it is in logs: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &TraceId {
        &self.0.trace_id
    }

    /// The first segment of the path; `default` where there is none.
    #[must_use]
    pub fn module(&self) -> &str {
        &self.0.module
    }

    /// When it came in, on the layer's clock.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.0.started
    }

    /// The client's address, where a layer has found it out.
    #[must_use]
    pub fn client_addr(&self) -> Option<IpAddr> {
        self.0.client_addr.get().copied()
    }

    /// Says what the client's address is. The first word holds: it returns whether this was it.
    pub fn set_client_addr(&self, addr: IpAddr) -> bool {
        self.0.client_addr.set(addr.to_canonical()).is_ok()
    }

    /// Who calls, where an authentication layer knows.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.0.identity.get()
    }

    /// Says who calls. The first word holds: it returns whether this was it.
    pub fn set_identity(&self, identity: Arc<Identity>) -> bool {
        self.0.identity.set(identity).is_ok()
    }

    /// What somebody has put under this name.
    #[must_use]
    pub fn data(&self, name: &str) -> Option<Value> {
        let data = self.0.data.read().unwrap_or_else(PoisonError::into_inner);
        data.get(name).cloned()
    }

    /// Puts something under a name, and returns what was there.
    pub fn set_data(&self, name: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        let mut data = self.0.data.write().unwrap_or_else(PoisonError::into_inner);
        data.insert(name.into(), value.into())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("trace_id", &self.0.trace_id)
            .field("module", &self.0.module)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
