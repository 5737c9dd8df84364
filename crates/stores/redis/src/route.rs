//! Which server a request goes to.

mod cluster;
mod sentinel;

use std::sync::Arc;

use onlyonce_core::Operation;

use crate::error::Fault;
use crate::node::Node;
use crate::url::Address;

pub(crate) use cluster::ClusterRoutes;
pub(crate) use sentinel::SentinelRoute;

/// The servers of a store.
#[derive(Debug)]
pub(crate) enum Routes {
    Single(Arc<Node>),
    Sentinel(Box<SentinelRoute>),
    Cluster(ClusterRoutes),
}

impl Routes {
    /// The server that takes the writes of this slot.
    pub(crate) async fn node(&self, operation: Operation, slot: u16) -> Result<Arc<Node>, Fault> {
        match self {
            Self::Single(node) => Ok(Arc::clone(node)),
            Self::Sentinel(route) => route.master(operation).await,
            Self::Cluster(routes) => routes.node(operation, slot).await,
        }
    }

    /// All servers that take writes.
    pub(crate) async fn masters(&self, operation: Operation) -> Result<Vec<Arc<Node>>, Fault> {
        match self {
            Self::Single(node) => Ok(vec![Arc::clone(node)]),
            Self::Sentinel(route) => Ok(vec![route.master(operation).await?]),
            Self::Cluster(routes) => routes.masters(operation).await,
        }
    }

    /// The servers that take writes, as far as it is known without asking.
    pub(crate) fn known(&self) -> Vec<Arc<Node>> {
        match self {
            Self::Single(node) => vec![Arc::clone(node)],
            Self::Sentinel(route) => route.known().into_iter().collect(),
            Self::Cluster(routes) => routes.known(),
        }
    }

    /// The server that an answer of the Cluster named.
    pub(crate) fn named(&self, address: &Address) -> Option<Arc<Node>> {
        match self {
            Self::Single(_) | Self::Sentinel(_) => None,
            Self::Cluster(routes) => Some(routes.named(address)),
        }
    }

    /// The slot is served elsewhere now.
    pub(crate) fn moved(&self, slot: u16, address: &Address) {
        if let Self::Cluster(routes) = self {
            routes.moved(slot, address);
        }
    }

    /// Looks by and by whether other servers are the masters.
    pub(crate) fn look_again(&self) {
        if let Self::Cluster(routes) = self {
            routes.look_again();
        }
    }

    /// This server did not do what it is there for: look again who is.
    pub(crate) fn doubt(&self, node: &Arc<Node>) {
        match self {
            Self::Single(_) => {}
            Self::Sentinel(route) => route.doubt(node),
            Self::Cluster(routes) => routes.look_again(),
        }
    }
}
