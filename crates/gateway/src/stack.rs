//! The pipeline, from the client to the upstream.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use http::{Request, Response};
use http_body_util::Either;
use onlyonce::http::ResponseBody;
use onlyonce::{Engine, Idempotency, IdempotencyLayer};
use onlyonce_pipeline::Answers;
use pin_project_lite::pin_project;
use tower::Layer as _;
use tower_service::Service;

use crate::config::{Auth, Route, RouteLayers, Settings};
use crate::front::FrontBody;
use crate::pipeline::{RouteStack, Shared, StackBody, StackFuture};
use crate::proxy::Proxy;
use crate::rescue::{Origin, OriginBody};
use crate::routing::Routing;
use crate::upstream::{Upstream, UpstreamError};

/// What a reload replaces; everything else stays as it was at the start.
#[derive(Clone)]
pub(crate) struct Live {
    routing: Arc<ArcSwap<Routing>>,
    proxy: Arc<ArcSwap<Proxy>>,
    engine: Engine,
    shared: Shared,
}

impl Live {
    pub(crate) fn new(settings: &Settings, engine: Engine, shared: Shared) -> anyhow::Result<Self> {
        let proxy = Arc::new(ArcSwap::from_pointee(proxy(settings)?));
        let origin = Origin::new(Arc::clone(&proxy));
        let auth = auth(settings, &shared)?;
        let routing = routing(settings, &shared, auth.as_ref(), &engine, &origin);
        shared.logins.replace(auth);
        Ok(Self {
            routing: Arc::new(ArcSwap::from_pointee(routing)),
            proxy,
            engine,
            shared,
        })
    }

    /// What is to follow: made first, as that may fail.
    pub(crate) fn next(&self, settings: &Settings) -> anyhow::Result<Next> {
        let origin = Origin::new(Arc::clone(&self.proxy));
        let auth = auth(settings, &self.shared)?;
        Ok(Next {
            routing: routing(settings, &self.shared, auth.as_ref(), &self.engine, &origin),
            proxy: proxy(settings)?,
            auth,
        })
    }

    /// Takes up new settings, and what they were made into.
    pub(crate) fn replace(&self, settings: &Settings, next: Next) {
        self.shared.follow(settings);
        self.shared.logins.replace(next.auth);
        self.routing.store(Arc::new(next.routing));
        self.proxy.store(Arc::new(next.proxy));
    }

    /// The service that stands behind the public listener.
    pub(crate) fn service(&self) -> Gateway {
        let origin = Origin::new(Arc::clone(&self.proxy));
        Gateway {
            routing: Arc::clone(&self.routing),
            // A keyed request is executed at most once from here on; the policy comes with it.
            plain: IdempotencyLayer::from_engine(self.engine.clone())
                // The upstream. It always answers: what could not be forwarded is said in a
                // response.
                .layer(origin),
        }
    }
}

/// What is to follow on a [`Live`].
pub(crate) struct Next {
    routing: Routing,
    proxy: Proxy,
    auth: Option<Auth>,
}

/// Built once for all routes: a policy of roles may be long.
fn auth(settings: &Settings, shared: &Shared) -> anyhow::Result<Option<Auth>> {
    let (auth, sessions) = (&settings.auth, shared.sessions.as_ref());
    // Without its sessions a logout would count for nothing.
    if auth.is_on() && auth.state().is_some() && sessions.is_none() {
        anyhow::bail!(
            "`state` of [auth] is opened at the start alone: start the gateway anew to switch \
             auth on"
        );
    }
    Ok(auth.build(sessions, Answers::new())?)
}

fn routing(
    settings: &Settings,
    shared: &Shared,
    auth: Option<&Auth>,
    engine: &Engine,
    origin: &Origin,
) -> Routing {
    let auth = auth.map(|auth| &auth.layer);
    let elsewhere = RouteLayers::default();
    let layers = settings.routes.iter().map(Route::layers);
    let stacks = layers
        .chain([&elsewhere])
        .enumerate()
        .map(|(index, layers)| {
            let auth = auth.map(|auth| settings.auth.layer_of_route(auth, index));
            RouteStack::new(settings, layers, shared, auth.as_ref(), engine, origin)
        })
        .collect();
    Routing::new(
        settings.routes.clone(),
        settings.principal_header.clone(),
        stacks,
    )
}

fn proxy(settings: &Settings) -> Result<Proxy, UpstreamError> {
    let upstream = Upstream::new(
        settings.upstreams.iter().cloned(),
        settings.proxy.upstream_options(),
    )?;
    Ok(Proxy::new(upstream, settings.proxy.proxy_options()))
}

/// The service behind the public listener: finds out which route it is, and so which policy and
/// which layers hold, before anything is decided.
#[derive(Clone)]
pub(crate) struct Gateway {
    routing: Arc<ArcSwap<Routing>>,
    plain: Idempotency<Origin>,
}

type PlainFuture = <Idempotency<Origin> as Service<Request<FrontBody>>>::Future;

impl Service<Request<FrontBody>> for Gateway {
    type Response = Response<Either<ResponseBody<OriginBody>, StackBody>>;
    type Error = Infallible;
    type Future = GatewayFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<FrontBody>>::poll_ready(&mut self.plain, cx)
    }

    fn call(&mut self, mut request: Request<FrontBody>) -> GatewayFuture {
        let routing = self.routing.load();
        match routing.prepare(&mut request) {
            None => GatewayFuture::Plain {
                future: self.plain.call(request),
            },
            Some(stack) => GatewayFuture::Stacked {
                future: stack.call(request),
            },
        }
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gateway")
    }
}

pin_project! {
    #[project = Projected]
    pub(crate) enum GatewayFuture {
        Plain { #[pin] future: PlainFuture },
        Stacked { future: StackFuture },
    }
}

impl Future for GatewayFuture {
    type Output = Result<Response<Either<ResponseBody<OriginBody>, StackBody>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project() {
            Projected::Plain { future } => Ok(ready!(future.poll(cx))?.map(Either::Left)),
            Projected::Stacked { future } => {
                Ok(ready!(future.as_mut().poll(cx))?.map(Either::Right))
            }
        })
    }
}
