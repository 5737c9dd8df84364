//! What a store's tests tell the suite about the store.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Inspect, Store};

/// A store under test, and the means to test it.
///
/// The checks count time in [`TICK`](Self::TICK)s: leases last ten, records are kept for some
/// tens. With an injected clock a tick may be anything (a second reads well). Where
/// [`advance`](Self::advance) really waits, a tick must dwarf the time that the store takes for
/// a dozen operations.
///
/// Failures of the harness itself should panic with a message that names the remedy ("start a
/// server on …"): a check that cannot run must not look like one that passed.
pub trait Harness: Sized + Send + Sync + 'static {
    /// The store.
    type Store: Store + Inspect;

    /// The unit in which the checks count time.
    const TICK: Duration;

    /// How long a check waits for what should come without delay, such as a notification,
    /// before it counts as lost. Passing checks never wait for it.
    const PATIENCE: Duration;

    /// A store with nothing in it, which no other test shares.
    fn fresh() -> impl Future<Output = Self> + Send;

    /// The store. All that is returned, until the next [`reopen`](Reopen::reopen), is the same one.
    fn store(&self) -> Arc<Self::Store>;

    /// Lets time pass on the store's clock: `by` at least and, under [`ExactTime`], exactly.
    fn advance(&self, by: Duration) -> impl Future<Output = ()> + Send;

    /// How many watches the store keeps a place for, over all records.
    fn open_watches(&self) -> usize;
}

/// The store's clock stands still unless it is [advanced](Harness::advance), and then moves by
/// exactly what was asked, to the millisecond.
///
/// Declare it wherever the clock is injected. Deadlines are checked to the millisecond then, and
/// random histories with time in them are held against the model.
pub trait ExactTime: Harness {}

/// The store keeps its records when it is closed and opened again.
pub trait Reopen: Harness {
    /// Closes the store and opens it anew, on the same data and the same clock.
    ///
    /// The checks have dropped every [`store`](Harness::store) before they call this.
    fn reopen(self) -> impl Future<Output = Self> + Send;
}

/// Runs one check on a runtime of its own with four workers.
///
/// The tests that [`conformance!`](crate::conformance) writes call it; so can a test that wants
/// one check alone.
///
/// # Panics
/// When the check fails, or has not ended after ten minutes.
pub fn run(check: impl Future<Output = ()>) {
    const LIMIT: Duration = Duration::from_secs(600);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime with four threads can be started");
    runtime.block_on(async {
        tokio::time::timeout(LIMIT, check)
            .await
            .expect("the check ends in time: some operation of the store never returned");
    });
}
