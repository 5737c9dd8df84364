//! How the blocklist keeps up with its store.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Clock, SystemClock};

/// How a [`Blocklist`](super::Blocklist) keeps up with its store.
///
/// # Example
/// ```
/// use onlyonce_pipeline::blocklist::{Blocklist, BlocklistOptions, MemoryBlocklist};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = BlocklistOptions::new()
///     .with_poll(Duration::from_secs(5))
///     .with_flush(Duration::from_secs(60));
/// let blocklist = Blocklist::load_with(MemoryBlocklist::new(), options).await?;
/// # let _ = blocklist; Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BlocklistOptions {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) poll: Duration,
    pub(super) flush: Duration,
    pub(super) most_prefixes: usize,
}

impl BlocklistOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            poll: Duration::from_secs(30),
            flush: Duration::from_secs(10),
            most_prefixes: 4_000_000,
        }
    }

    /// How often the store is looked at though it said nothing, at least 10 ms. Default: 30 s.
    pub fn with_poll(mut self, interval: Duration) -> Self {
        self.poll = interval.max(SHORTEST);
        self
    }

    /// How often hits are given to the store, at least 10 ms. Default: 10 s.
    pub fn with_flush(mut self, interval: Duration) -> Self {
        self.flush = interval.max(SHORTEST);
        self
    }

    /// How many prefixes there is room for: an address or a network takes one, a range some.
    /// Default: 4,000,000, for which some 500 MB are needed.
    pub fn with_capacity(mut self, prefixes: usize) -> Self {
        self.most_prefixes = prefixes;
        self
    }

    /// The clock by which entries expire. Default: the machine's.
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl Default for BlocklistOptions {
    fn default() -> Self {
        Self::new()
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
