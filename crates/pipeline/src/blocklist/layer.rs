//! The layer that refuses who is on the blocklist.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::Extensions;
use tower_layer::Layer;

use super::addr::{AddrFn, default_addr};
use super::list::Blocklist;
use super::service::BlocklistService;
use crate::Answers;

/// Refuses requests of addresses that are on a [`Blocklist`]: code 63, status 403. The response's
/// extensions say why ([`Blocked`](super::Blocked)).
///
/// It needs the client's address of a layer outside: see
/// [`with_client_addr`](Self::with_client_addr). A request of nobody knows whom passes, and the
/// first of them is logged.
///
/// # Example
/// ```
/// use http::{Request, Response};
/// use onlyonce_pipeline::Answers;
/// use onlyonce_pipeline::blocklist::{Blocklist, BlocklistLayer, Draft, MemoryBlocklist};
/// use std::net::SocketAddr;
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let blocklist = Blocklist::load(MemoryBlocklist::new()).await?;
/// blocklist.add(&Draft::new("203.0.113.0/24")).await?;
/// let service = BlocklistLayer::new(blocklist, Answers::new()).layer(service_fn(
///     async |_: Request<()>| {
///         Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Empty::<&[u8]>::new()))
///     },
/// ));
/// let peer: SocketAddr = "203.0.113.9:49152".parse()?;
/// let request = Request::builder().extension(peer).body(())?;
/// assert_eq!(service.oneshot(request).await?.status(), 403);
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct BlocklistLayer {
    blocklist: Blocklist,
    answers: Answers,
    address: AddrFn,
    told: Arc<AtomicBool>,
    open: bool,
}

impl BlocklistLayer {
    /// Refuses whom `blocklist` names, in the way of `answers`.
    pub fn new(blocklist: Blocklist, answers: Answers) -> Self {
        Self {
            blocklist,
            answers,
            address: default_addr(),
            told: Arc::default(),
            open: false,
        }
    }

    /// Lets everybody in whose request's path has one reading.
    ///
    /// For a router outside that has a layer of its own for each of its routes, on one that is to
    /// be open to all: who asks for `/hooks/..;/orders` would get more by it than `/hooks`.
    pub const fn on_open_route(mut self) -> Self {
        self.open = true;
        self
    }

    /// Finds the client's address by `address`. Default: that of the request's
    /// [`Context`](crate::context::Context); else what the layer `client_addr` found; else a
    /// [`SocketAddr`](std::net::SocketAddr) among the extensions, as the peer's. Axum's peer:
    ///
    /// ```
    /// # use onlyonce_pipeline::blocklist::BlocklistLayer;
    /// use axum::extract::ConnectInfo;
    /// use std::net::SocketAddr;
    ///
    /// # fn example(layer: BlocklistLayer) -> BlocklistLayer {
    /// layer.with_client_addr(|extensions| {
    ///     let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    ///     peer.map(|ConnectInfo(peer)| peer.ip())
    /// })
    /// # }
    /// ```
    pub fn with_client_addr(
        mut self,
        address: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.address = Arc::new(address);
        self
    }
}

impl<S> Layer<S> for BlocklistLayer {
    type Service = BlocklistService<S>;

    fn layer(&self, inner: S) -> BlocklistService<S> {
        BlocklistService {
            inner,
            blocklist: self.blocklist.clone(),
            answers: self.answers.clone(),
            address: Arc::clone(&self.address),
            told: Arc::clone(&self.told),
            open: self.open,
        }
    }
}

impl fmt::Debug for BlocklistLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlocklistLayer")
            .field("blocklist", &self.blocklist)
            .finish_non_exhaustive()
    }
}
