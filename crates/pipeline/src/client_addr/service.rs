//! The service.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{self, Poll};

use http::Request;
use tower_service::Service;

use super::AddrRule;
use super::layer::PeerFn;
use crate::context::Context;

/// The client's address, in the extensions of a request that passed
/// [`ClientAddrLayer`](super::ClientAddrLayer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

/// A service that is told the client's address. Made by
/// [`ClientAddrLayer`](super::ClientAddrLayer).
#[derive(Clone)]
pub struct ClientAddrService<S> {
    pub(super) inner: S,
    pub(super) rule: Arc<AddrRule>,
    pub(super) peer: Arc<PeerFn>,
}

impl<S, B> Service<Request<B>> for ClientAddrService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let peer = (self.peer)(request.extensions());
        let client = peer.map(|peer| self.rule.client_addr(peer, request.headers()));
        match client {
            Some(client) => {
                if let Some(context) = Context::of(request.extensions()) {
                    context.set_client_addr(client);
                }
                request.extensions_mut().insert(ClientAddr(client));
            }
            None => {
                request.extensions_mut().remove::<ClientAddr>();
            }
        }
        self.inner.call(request)
    }
}

impl<S> fmt::Debug for ClientAddrService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAddrService")
            .field("rule", &self.rule)
            .finish_non_exhaustive()
    }
}
