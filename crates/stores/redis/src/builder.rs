//! How a store is made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{StoreError, Watchers};
use tokio::sync::Notify;

use crate::RedisStore;
use crate::announce::Announcements;
use crate::attend::Attendant;
use crate::call::Caller;
use crate::dial::Dialler;
use crate::examine::{Examined, Examiner};
use crate::node::Node;
use crate::pepper::Keeping;
use crate::place::Places;
use crate::route::{ClusterRoutes, Routes, SentinelRoute};
use crate::scripts::Scripts;
use crate::store::Inner;
use crate::subscriber::Subscribing;
use crate::url::{Address, Topology, Url};

/// Makes a [`RedisStore`] with settings of one's own.
///
/// # Example
/// ```no_run
/// use onlyonce_redis::RedisStore;
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), onlyonce_core::StoreError> {
/// let store = RedisStore::builder("redis+sentinel://10.0.0.1,10.0.0.2,10.0.0.3/payments")
///     .prefix("billing:")
///     .replicas(1)
///     .timeout(Duration::from_millis(500))
///     .connect()
///     .await?;
/// for warning in store.warnings() {
///     eprintln!("{warning}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder makes nothing until `connect` is called"]
pub struct Builder {
    url: Box<str>,
    prefix: Option<Box<str>>,
    replicas: Option<usize>,
    timeout: Option<Duration>,
    #[cfg(test)]
    clock: Option<crate::tests::TestClock>,
}

const PREFIX: &str = "oo:";
const LONGEST_PREFIX: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(1);
/// Connections to a server when each request on one waits for replicas.
const LANES: usize = 8;
/// Nobody has more, and a typo should not refuse every claim.
const MOST_REPLICAS: usize = 64;

impl Builder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            prefix: None,
            replicas: None,
            timeout: None,
            #[cfg(test)]
            clock: None,
        }
    }

    /// What the names of all keys and channels begin with: stores with different prefixes may
    /// share a server. Printable ASCII without braces and `*?[]\`, 64 characters at most.
    /// Default: `oo:`, or `prefix` in the URL.
    pub fn prefix(mut self, prefix: impl Into<Box<str>>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// How many replicas must have a claim, a renewal or a record before it counts, 64 at most.
    /// With fewer the step fails as [`Unavailable`](onlyonce_core::StoreErrorKind::Unavailable),
    /// though it may have happened. Default: 0, or `replicas` in the URL.
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = Some(count);
        self
    }

    /// How long a step may take in all, with connecting, redirections and repetitions: 10 ms to
    /// 60 s. Default: 1 s, or `timeout_ms` in the URL.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Counts time on this clock in place of the server's. The server then doesn't know when keys
    /// expire, and keeps them.
    #[cfg(test)]
    pub(crate) fn clock(mut self, clock: crate::tests::TestClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// All settings, if they can work.
    pub(crate) fn check(&self) -> Result<(Url, Box<str>, usize, Duration), StoreError> {
        let url = Url::parse(&self.url)?;
        let prefix = match (&self.prefix, &url.prefix) {
            (Some(prefix), _) => prefix.clone(),
            (None, Some(prefix)) => prefix.as_str().into(),
            (None, None) => PREFIX.into(),
        };
        check_prefix(&prefix)?;
        let limit = self.timeout.or(url.timeout).unwrap_or(TIMEOUT);
        if !(Duration::from_millis(10)..=Duration::from_secs(60)).contains(&limit) {
            let message = format!("`timeout` is {limit:?}; it must be from 10 ms to 60 s");
            return Err(RedisStore::misconfigured(message));
        }
        let replicas = self.replicas.or(url.replicas).unwrap_or(0);
        if replicas > MOST_REPLICAS {
            let message = format!("`replicas` is {replicas}; it must be at most {MOST_REPLICAS}");
            return Err(RedisStore::misconfigured(message));
        }
        Ok((url, prefix, replicas, limit))
    }

    /// Connects, looks at the servers, and loads the scripts.
    ///
    /// # Errors
    /// [`Misconfigured`](onlyonce_core::StoreErrorKind::Misconfigured), with the remedy, for a URL
    /// that can't be read, a wrong password or database, an ACL that lacks something, a server
    /// that is too old, a replica, or not the kind of server that the URL says;
    /// [`Unavailable`](onlyonce_core::StoreErrorKind::Unavailable) or
    /// [`Timeout`](onlyonce_core::StoreErrorKind::Timeout) when no server can be reached. No
    /// message shows a password.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(self) -> Result<RedisStore, StoreError> {
        let (url, prefix, replicas, limit) = self.check()?;
        let clustered = matches!(url.topology, Topology::Cluster(_));
        let places = Places::new(&prefix, clustered);
        let watchers = Watchers::new();
        let dialler = Dialler::new(url.credentials, url.database, url.tls.as_ref(), limit)?;
        let for_sentinels = dialler.for_sentinels(url.sentinel_credentials);
        let dialler = Arc::new(dialler);
        let lanes = if replicas > 0 { LANES } else { 1 };
        // A Cluster announces by shard, unless it turns out to be too old for it.
        let attention = Arc::new(Notify::new());
        let make_node = |sharded: bool| {
            let (dialler, watchers) = (Arc::clone(&dialler), watchers.clone());
            let attention = Arc::clone(&attention);
            let places = places.clone();
            move |address: Address| {
                let subscribing = Subscribing {
                    watchers: watchers.clone(),
                    places: places.clone(),
                    sharded,
                    limit,
                };
                let (dialler, attention) = (Arc::clone(&dialler), Arc::clone(&attention));
                Node::new(address, dialler, lanes, limit, subscribing, attention)
            }
        };
        let routes = |sharded: bool| match &url.topology {
            Topology::Single(address) => Routes::Single(make_node(sharded)(address.clone())),
            Topology::Sentinel { sentinels, service } => {
                Routes::Sentinel(Box::new(SentinelRoute::new(
                    sentinels.clone(),
                    service.clone(),
                    for_sentinels.clone(),
                    Box::new(make_node(sharded)),
                    limit,
                )))
            }
            Topology::Cluster(seeds) => Routes::Cluster(ClusterRoutes::new(
                seeds.clone(),
                Box::new(make_node(sharded)),
                limit,
            )),
        };
        let mut found = routes(clustered);
        let examiner = Examiner {
            routes: &found,
            places: &places,
            clustered,
            replicas,
            limit,
        };
        let Examined { sharded, warnings } = examiner.examine().await?;
        if clustered && !sharded {
            found = routes(false);
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        for node in found.known() {
            // Just now.
            node.take_fresh();
        }
        let inner = Arc::new(Inner {
            caller: Caller {
                routes: found,
                places,
                replicas,
                limit,
            },
            scripts: Scripts::new(),
            watchers,
            announcements: Announcements::default(),
            sharded,
            keeping: Keeping::default(),
            attendant: Attendant::new(warnings),
            #[cfg(test)]
            clock: self.clock,
        });
        Attendant::start(&inner, attention);
        Ok(RedisStore(inner))
    }
}

fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    let fits = |c: char| c.is_ascii_graphic() && !"{}*?[]\\".contains(c);
    if prefix.len() > LONGEST_PREFIX || !prefix.chars().all(fits) {
        let message = format!(
            "`prefix` must be at most {LONGEST_PREFIX} characters of printable ASCII, without \
             braces and `*?[]\\`"
        );
        return Err(RedisStore::misconfigured(message));
    }
    Ok(())
}

impl fmt::Debug for Builder {
    /// Without the URL: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("prefix", &self.prefix)
            .field("replicas", &self.replicas)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
