//! The engine: claims keys, runs the work detached, keeps its lease, records, waits.

mod admit;
mod limits;
mod owner;
mod run;
mod store;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Clock, RecordId, Scope, Secret, SharedStore, SystemClock};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub(crate) use admit::{Admission, Admittance};
pub(crate) use limits::Place;
use limits::Tally;
pub(crate) use owner::{Owner, Settled};
pub use run::{Ran, RunError, ScopedKey};

/// The engine: one store, and all that is at work on it in this process.
///
/// Cloning is cheap and gives the same engine. Layers for several routes with policies of their
/// own share one engine.
///
/// # Example
/// ```
/// use onlyonce::{Engine, Secret};
/// use onlyonce_memory::MemoryStore;
///
/// let engine = Engine::builder(MemoryStore::new())
///     .secret(Secret::from_passphrase("correct horse battery staple"))
///     .build();
/// # let _ = engine;
/// ```
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    store: SharedStore,
    secret: Secret,
    clock: Arc<dyn Clock>,
    /// Work that must end before the process does.
    tasks: TaskTracker,
    closing: CancellationToken,
    waiters: Arc<Tally>,
    in_progress: Arc<Tally>,
    disowning: Arc<Semaphore>,
}

/// Builds an [`Engine`].
#[derive(Debug)]
pub struct EngineBuilder {
    store: SharedStore,
    secret: Option<Secret>,
    clock: Arc<dyn Clock>,
}

impl EngineBuilder {
    /// Sets the secret under which scopes and keys are hashed before they reach the store.
    ///
    /// Default: [`Secret::well_known`]. All processes that share a store share the secret.
    #[must_use]
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Sets the clock that `Idempotency-Expires` is told by; nothing else hangs on it. Leases and
    /// lifetimes are counted by the store, on a clock of its own.
    ///
    /// Default: [`SystemClock`].
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The engine.
    #[must_use]
    pub fn build(self) -> Engine {
        Engine(Arc::new(Inner {
            store: self.store,
            secret: self.secret.unwrap_or_else(Secret::well_known),
            clock: self.clock,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            waiters: Arc::default(),
            in_progress: Arc::default(),
            disowning: Arc::new(Semaphore::new(store::MOST_DISOWNED)),
        }))
    }
}

impl Engine {
    /// An engine on `store` with the defaults of [`Engine::builder`].
    #[must_use]
    pub fn new(store: impl Into<SharedStore>) -> Self {
        Self::builder(store).build()
    }

    /// Begins an engine on `store`.
    #[must_use]
    pub fn builder(store: impl Into<SharedStore>) -> EngineBuilder {
        EngineBuilder {
            store: store.into(),
            secret: None,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Shuts down: takes no new claims from now on, and waits up to `drain` for the work that is
    /// running. Returns whether all of it ended.
    ///
    /// What has not ended is left as it is: its records stay in progress, their leases run out,
    /// and their outcome then counts as unknown, not as lost. Refused requests get 503 with
    /// `Retry-After`.
    ///
    /// # Cancellation safety
    /// Dropping the future ends the waiting alone; the engine stays shut.
    pub async fn shutdown(&self, drain: Duration) -> bool {
        self.0.closing.cancel();
        self.0.tasks.close();
        tokio::time::timeout(drain, self.0.tasks.wait())
            .await
            .is_ok()
    }

    /// How many requests ask for their key, wait for it, or are at work under it, and streams
    /// still being recorded: what [`shutdown`](Self::shutdown) waits for.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.tasks.len()
    }

    /// The secret under which scopes and keys are hashed.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0.secret
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.0.closing.is_cancelled()
    }

    /// Lets a request in, and shutdown wait for it while it holds the token; `None` when the
    /// engine is shutting down.
    pub(crate) fn enter(&self) -> Option<TaskTrackerToken> {
        // The token first: either shutdown sees it, or this sees the shutdown.
        let token = self.0.tasks.token();
        (!self.is_closing()).then_some(token)
    }

    /// A place among the `most` requests that one scope may have at work on this node.
    pub(crate) fn place(&self, scope: &Scope, most: usize) -> Option<Place> {
        self.0
            .in_progress
            .take(RecordId::of_scope(self.secret(), scope), most)
    }

    /// Spawns work that shutdown waits for.
    pub(crate) fn spawn<F>(&self, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.tasks.spawn(work)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("running", &self.running())
            .finish_non_exhaustive()
    }
}
