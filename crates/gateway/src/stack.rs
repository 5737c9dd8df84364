//! The pipeline, from the client to the upstream.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderName, Request};
use onlyonce::{Engine, IdempotencyLayer};
use tower::ServiceBuilder;

use crate::config::{RouteTable, Settings};
use crate::front::FrontBody;
use crate::proxy::Proxy;
use crate::rescue::Origin;
use crate::routing::{Routing, prepare};
use crate::upstream::{Upstream, UpstreamError};

/// What a reload replaces; everything else stays as it was at the start.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    routing: Arc<ArcSwap<Routing>>,
    proxy: Arc<ArcSwap<Proxy>>,
}

impl Live {
    pub(crate) fn new(settings: &Settings) -> Result<Self, UpstreamError> {
        Ok(Self {
            routing: Arc::new(ArcSwap::from_pointee(routing(settings))),
            proxy: Arc::new(ArcSwap::from_pointee(proxy(settings)?)),
        })
    }

    /// Takes up what new settings were made into.
    pub(crate) fn replace(&self, next: Next) {
        self.routing.store(Arc::new(next.routing));
        self.proxy.store(Arc::new(next.proxy));
    }
}

/// What is to follow on a [`Live`]: made first, as that may fail.
pub(crate) struct Next {
    routing: Routing,
    proxy: Proxy,
}

impl Next {
    pub(crate) fn new(settings: &Settings) -> Result<Self, UpstreamError> {
        Ok(Self {
            routing: routing(settings),
            proxy: proxy(settings)?,
        })
    }
}

fn routing(settings: &Settings) -> Routing {
    let table: RouteTable = settings.routes.clone();
    let principal: Option<HeaderName> = settings.principal_header.clone();
    Routing::new(table, principal)
}

fn proxy(settings: &Settings) -> Result<Proxy, UpstreamError> {
    let upstream = Upstream::new(
        settings.upstreams.iter().cloned(),
        settings.proxy.upstream_options(),
    )?;
    Ok(Proxy::new(upstream, settings.proxy.proxy_options()))
}

/// The service that stands behind the public listener, from the outside in.
pub(crate) fn stack(
    live: &Live,
    engine: Engine,
) -> impl tower_service::Service<
    Request<FrontBody>,
    Response = http::Response<onlyonce::http::ResponseBody<crate::rescue::OriginBody>>,
    Error = std::convert::Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    ServiceBuilder::new()
        // Which route it is, and so which policy holds: before anything is decided.
        .map_request(prepare(Arc::clone(&live.routing)))
        // A keyed request is executed at most once from here on; the policy comes with it.
        .layer(IdempotencyLayer::from_engine(engine))
        // The upstream. It always answers: what could not be forwarded is said in a response.
        .service(Origin::new(Arc::clone(&live.proxy)))
}
