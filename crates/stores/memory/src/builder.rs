//! How a store is made.

use std::fmt;
use std::sync::Arc;

use onlyonce_core::{Clock, SystemClock};

use crate::MemoryStore;

/// Makes a [`MemoryStore`] with settings of one's own.
///
/// # Example
/// ```
/// use onlyonce_core::ManualClock;
/// use onlyonce_memory::MemoryStore;
/// use std::sync::Arc;
///
/// let clock = Arc::new(ManualClock::new());
/// let store = MemoryStore::builder()
///     .clock(Arc::clone(&clock))
///     .max_records(1_000)
///     .build();
/// # let _ = store;
/// ```
#[derive(Clone)]
#[must_use = "a builder makes nothing until `build` is called"]
pub struct Builder {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) max_records: usize,
    pub(crate) max_bytes: usize,
    pub(crate) shards: usize,
}

impl Builder {
    /// Most shards that a store can have.
    pub const MAX_SHARDS: usize = 1 << 10;

    pub(crate) fn new() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            max_records: 1_000_000,
            max_bytes: 1 << 30,
            shards: 64,
        }
    }

    /// The clock that leases and lifetimes are counted on. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How many records it holds at most; new claims beyond that are refused. Default: 1,000,000.
    pub fn max_records(mut self, most: usize) -> Self {
        self.max_records = most;
        self
    }

    /// How many bytes its records take at most; new claims beyond that are refused. Default: 1 GiB.
    ///
    /// Counted are results, labels, and about 400 bytes for each record: what a record takes in
    /// the store's own structures, estimated from above. Not counted are watchers, which their
    /// callers bound, and what a result drags along when it is a slice of a larger buffer.
    /// Results of claims under way land beyond the bound if they must.
    pub fn max_bytes(mut self, most: usize) -> Self {
        self.max_bytes = most;
        self
    }

    /// In how many parts, each with a lock of its own, the records are kept: rounded up to a power
    /// of two, 1 to [`MAX_SHARDS`](Self::MAX_SHARDS). Default: 64, fit for any number of cores.
    pub fn shards(mut self, count: usize) -> Self {
        self.shards = count.clamp(1, Self::MAX_SHARDS).next_power_of_two();
        self
    }

    /// Makes the store.
    #[must_use]
    pub fn build(self) -> MemoryStore {
        MemoryStore::from_builder(self)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            clock,
            max_records,
            max_bytes,
            shards,
        } = self;
        f.debug_struct("Builder")
            .field("clock", clock)
            .field("max_records", max_records)
            .field("max_bytes", max_bytes)
            .field("shards", shards)
            .finish()
    }
}
