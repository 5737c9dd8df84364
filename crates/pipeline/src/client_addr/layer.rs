//! The layer.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::Extensions;
use tower_layer::Layer;

use super::{AddrRule, ClientAddrService};

/// Who made the connection, as a listener says it in the extensions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// Finds who made a request's connection.
pub(super) type PeerFn = dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync;

/// Tells the layers inside the client's address. See the [module](super).
///
/// # Example
/// The peer as axum tells it:
/// ```
/// use std::net::SocketAddr;
///
/// use axum::extract::ConnectInfo;
/// use axum::{Extension, Router, routing::get};
/// use onlyonce_pipeline::client_addr::{
///     AddrHeader, AddrRule, ClientAddr, ClientAddrLayer, TrustedProxies,
/// };
///
/// let rule = AddrRule::new(TrustedProxies::parse(["10.0.0.0/8"])?, AddrHeader::XForwardedFor);
/// let app: Router = Router::new()
///     .route("/", get(async |Extension(ClientAddr(addr))| format!("{addr}")))
///     .layer(ClientAddrLayer::new(rule).with_peer(|extensions| {
///         let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
///         Some(peer.ip())
///     }));
/// let service = app.into_make_service_with_connect_info::<SocketAddr>();
/// # let _ = service;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ClientAddrLayer {
    rule: Arc<AddrRule>,
    peer: Arc<PeerFn>,
}

impl ClientAddrLayer {
    /// A layer that finds the client by `rule`, and the peer as a [`PeerAddr`] extension.
    #[must_use]
    pub fn new(rule: AddrRule) -> Self {
        Self {
            rule: Arc::new(rule),
            peer: Arc::new(|extensions| extensions.get().map(|PeerAddr(peer)| peer.ip())),
        }
    }

    /// Finds the peer's address by `peer`. A request for which it gives none has no client
    /// address: no header is believed when nobody knows who sent it.
    #[must_use]
    pub fn with_peer(
        mut self,
        peer: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.peer = Arc::new(peer);
        self
    }
}

impl<S> Layer<S> for ClientAddrLayer {
    type Service = ClientAddrService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientAddrService {
            inner,
            rule: Arc::clone(&self.rule),
            peer: Arc::clone(&self.peer),
        }
    }
}

impl fmt::Debug for ClientAddrLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAddrLayer")
            .field("rule", &self.rule)
            .finish_non_exhaustive()
    }
}
