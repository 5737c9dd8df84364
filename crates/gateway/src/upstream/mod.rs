//! The way to the upstreams: connections, health, and one exchange after another.
//!
//! A request is sent once. It goes to another connection or another upstream only when no byte
//! of it has left this process; every failure says so ([`ForwardError::sent`]).

mod body;
mod error;
mod exchange;
mod health;
mod options;
mod pool;
mod target;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use onlyonce_core::BoxError;
use tokio::time::Instant;

use crate::tls::{self, TlsError};
use body::UploadBody;
use exchange::Exchange;
use target::Target;

pub use body::UpstreamBody;
pub use error::{FailureKind, ForwardError, Sent};
pub use options::UpstreamOptions;

/// One or more upstreams that serve the same thing. Cloning gives the same ones.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    targets: Vec<Arc<Target>>,
    next: AtomicUsize,
    options: UpstreamOptions,
}

/// Upstreams that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// None was named.
    #[error("no upstream is named: give at least one, such as http://127.0.0.1:3000")]
    None,
    /// An address can't be used.
    #[error("upstream `{uri}` {problem}; an address looks like http://127.0.0.1:3000")]
    Address {
        /// The address.
        uri: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// TLS can't be set up.
    #[error("https:// upstreams cannot be used")]
    Tls(#[source] TlsError),
}

/// What becomes of the request's Host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostRule {
    /// The upstream sees the client's.
    #[default]
    Preserve,
    /// The upstream sees its own.
    Upstream,
}

impl Upstream {
    /// The upstreams at these addresses. Nothing is connected yet.
    ///
    /// # Errors
    /// When there is none, an address is malformed or carries a path, or TLS is needed and can't
    /// be set up.
    pub fn new(
        addresses: impl IntoIterator<Item = Uri>,
        options: UpstreamOptions,
    ) -> Result<Self, UpstreamError> {
        let options = options.within_bounds();
        let addresses: Vec<Uri> = addresses.into_iter().collect();
        let https = addresses
            .iter()
            .any(|uri| uri.scheme_str() == Some("https"));
        let tls = if https {
            let config = tls::client_config(&options.trust).map_err(UpstreamError::Tls)?;
            Some(Arc::new(config))
        } else {
            None
        };
        let targets = addresses
            .iter()
            .map(|uri| Target::new(uri, &options, tls.as_ref()).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        if targets.is_empty() {
            return Err(UpstreamError::None);
        }
        Ok(Self(Arc::new(Inner {
            targets,
            next: AtomicUsize::new(0),
            options,
        })))
    }

    /// Whether an upgrade can be passed on.
    #[must_use]
    pub fn can_upgrade(&self) -> bool {
        self.0.targets.iter().any(|target| target.can_upgrade())
    }

    /// Sends `request` and gives the response's head; its body follows.
    ///
    /// The request's target must be in origin form (or `*`). With `upgrade` the connection is
    /// an HTTP/1 one, and a 101 carries hyper's `OnUpgrade`.
    ///
    /// # Errors
    /// See [`FailureKind`].
    ///
    /// # Cancellation safety
    /// Dropping the future gives the request up: its connection is closed, or its stream reset.
    pub async fn send<B>(
        &self,
        request: Request<B>,
        host: HostRule,
        upgrade: bool,
    ) -> Result<Response<UpstreamBody>, ForwardError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut exchange = Exchange::new(request.map(UploadBody::new), host, upgrade);
        exchange.set_deadline(self.0.options.total_timeout);
        let mut failure = None;
        // First those in good health, in turn; then, rather than give up, the others.
        let (first, count) = (
            self.0.next.fetch_add(1, Ordering::Relaxed),
            self.0.targets.len(),
        );
        let mut passed_over = Vec::new();
        for anyway in [false, true] {
            let turns: Vec<usize> = if anyway {
                std::mem::take(&mut passed_over)
            } else {
                (0..count)
                    .map(|turn| first.wrapping_add(turn) % count)
                    .collect()
            };
            for index in turns {
                let target = &self.0.targets[index];
                if upgrade && !target.can_upgrade() {
                    continue;
                }
                let admission = match target.health.admit(Instant::now()) {
                    Some(admission) => admission,
                    None if anyway => target.health.admit_anyway(),
                    None => {
                        passed_over.push(index);
                        continue;
                    }
                };
                match exchange.run(target, &admission, &self.0.options).await {
                    Ok(response) => return Ok(response),
                    Err(error) if exchange.is_unsent() => {
                        tracing::debug!(error = &error as &dyn std::error::Error, "next upstream");
                        failure = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Err(failure.unwrap_or_else(|| {
            let name = &self.0.targets[first % count].name;
            ForwardError::new(FailureKind::Connect, Sent::No, name)
        }))
    }
}
