//! The layer.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Extensions;
use onlyonce_core::{Clock, SystemClock};
use tower_layer::Layer;

use super::{AccessLog, Lines, RowQueue, Rules};

/// Logs each request, when its answer's body has ended: a line, and a row.
///
/// It stands outside of everything. See the [module](super) for the whole picture.
#[derive(Clone)]
#[must_use]
pub struct AccessLogLayer {
    shared: Arc<Shared>,
}

/// What all clones of a layer, and all its services, share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) lines: Option<Lines>,
    pub(super) rows: Option<RowQueue>,
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) peer: Option<Arc<PeerFn>>,
}

type PeerFn = dyn Fn(&Extensions) -> Peer + Send + Sync;

/// Who is at the other end of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address: logged where no layer inside finds out the client's.
    pub addr: Option<IpAddr>,
    /// Whether the connection is under TLS.
    pub secure: bool,
}

impl AccessLogLayer {
    /// A layer that logs nowhere yet.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                lines: None,
                rows: None,
                rules: Arc::new(ArcSwap::from_pointee(Rules::new())),
                clock: Arc::new(SystemClock::new()),
                peer: None,
            }),
        }
    }

    /// Writes lines.
    pub fn with_lines(self, lines: Lines) -> Self {
        self.with(|shared| shared.lines = Some(lines))
    }

    /// Keeps rows.
    pub fn with_rows(self, rows: RowQueue) -> Self {
        self.with(|shared| shared.rows = Some(rows))
    }

    /// Follows these rules.
    pub fn with_rules(self, rules: Rules) -> Self {
        self.with_shared_rules(Arc::new(ArcSwap::from_pointee(rules)))
    }

    /// Follows these rules, which can be replaced while it is at work: requests that come later
    /// follow the new ones.
    pub fn with_shared_rules(self, rules: Arc<ArcSwap<Rules>>) -> Self {
        self.with(|shared| shared.rules = rules)
    }

    /// Takes the time of day from `clock`; from the machine's by default.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        self.with(|shared| shared.clock = clock)
    }

    /// Finds the other end of the connection in a request's extensions, where the server puts it.
    ///
    /// # Example
    /// ```
    /// use onlyonce_pipeline::access_log::{AccessLogLayer, Peer};
    /// use std::net::SocketAddr;
    ///
    /// let layer = AccessLogLayer::new().with_peer(|extensions| Peer {
    ///     addr: extensions.get::<SocketAddr>().map(|addr| addr.ip()),
    ///     secure: true,
    /// });
    /// # let _ = layer;
    /// ```
    pub fn with_peer(self, peer: impl Fn(&Extensions) -> Peer + Send + Sync + 'static) -> Self {
        self.with(|shared| shared.peer = Some(Arc::new(peer)))
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::make_mut(&mut self.shared));
        self
    }
}

impl Default for AccessLogLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for AccessLogLayer {
    type Service = AccessLog<S>;

    fn layer(&self, inner: S) -> AccessLog<S> {
        AccessLog {
            inner,
            shared: Arc::clone(&self.shared),
        }
    }
}

impl fmt::Debug for AccessLogLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLogLayer")
            .field("lines", &self.shared.lines)
            .field("rows", &self.shared.rows)
            .field("rules", &self.shared.rules.load())
            .finish_non_exhaustive()
    }
}
