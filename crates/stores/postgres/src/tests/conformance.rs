//! The suite on a server that all checks share, each in a schema of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use onlyonce_conformance::{Check, ExactTime, Harness, Reopen, all, in_real_time};
use onlyonce_core::ManualClock;
use onlyonce_servers::postgres::{Postgres, start_pgbouncer, start_postgres_with};

use crate::PostgresStore;

/// How a subject has its time.
trait Time: Send + Sync + 'static {
    const TICK: Duration;
    fn clock() -> Option<Arc<ManualClock>>;
    fn url() -> &'static OnceLock<String>;
}

macro_rules! time {
    ($name:ident, $tick:expr, $clock:expr) => {
        struct $name;

        impl Time for $name {
            const TICK: Duration = $tick;

            fn clock() -> Option<Arc<ManualClock>> {
                $clock
            }

            fn url() -> &'static OnceLock<String> {
                static URL: OnceLock<String> = OnceLock::new();
                &URL
            }
        }
    };
}

time!(Exact, Duration::from_secs(1), Some(Arc::default()));
time!(Deaf, Duration::from_secs(1), Some(Arc::default()));
time!(Real, Duration::from_millis(200), None);

struct Subject<T> {
    schema: String,
    clock: Option<Arc<ManualClock>>,
    store: Arc<PostgresStore>,
    time: std::marker::PhantomData<T>,
}

impl<T: Time> Subject<T> {
    async fn open(schema: String, clock: Option<Arc<ManualClock>>) -> Self {
        let url = T::url().get().expect("the server runs");
        let mut builder = PostgresStore::builder(url)
            .schema(schema.as_str())
            .connections(4)
            .timeout(Duration::from_secs(20))
            .migrate(true);
        builder.clock.clone_from(&clock);
        Self {
            schema,
            clock,
            store: Arc::new(builder.connect().await.expect("the server takes us")),
            time: std::marker::PhantomData,
        }
    }
}

impl<T: Time> Harness for Subject<T> {
    type Store = PostgresStore;
    const TICK: Duration = T::TICK;
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn fresh() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        Self::open(format!("test_{number}"), T::clock()).await
    }

    fn store(&self) -> Arc<PostgresStore> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(by),
            None => tokio::time::sleep(by).await,
        }
    }

    fn open_watches(&self) -> usize {
        self.store.open_watches()
    }
}

impl<T: Time> ExactTime for Subject<T> {}

impl<T: Time> Reopen for Subject<T> {
    async fn reopen(self) -> Self {
        let Self {
            schema,
            clock,
            store,
            ..
        } = self;
        drop(store);
        Self::open(schema, clock).await
    }
}

/// Runs `checks`, so many at once; gives those that failed. All are run, whatever fails.
fn failing(checks: Vec<Check>, at_once: usize) -> Vec<Check> {
    let left = Mutex::new(checks);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let Some(check) = left.lock().unwrap().pop() else {
                        return;
                    };
                    if catch_unwind(AssertUnwindSafe(check.run)).is_err() {
                        failed.lock().unwrap().push(check);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

/// The time comes from the test here, and is not the later the later a step is done.
const NEEDS_ONE_CLOCK: &str = "histories::concurrent_histories_in_time_are_linearizable";

fn with_a_clock<T: Time>() -> Vec<Check> {
    let checks = all::<Subject<T>>();
    let count = checks.len();
    let checks: Vec<Check> = checks
        .into_iter()
        .filter(|check| check.name != NEEDS_ONE_CLOCK)
        .collect();
    assert_eq!(checks.len(), count - 1);
    checks
}

/// Nothing here asks what survives a crash.
fn fast() -> Postgres {
    start_postgres_with(&["fsync=off", "max_connections=300"])
}

#[test]
fn keeps_the_contract() {
    let server = fast();
    Exact::url().set(server.url()).unwrap();
    let failed = failing(with_a_clock::<Exact>(), 4);
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Behind a pooler that gives a session for a transaction alone, where nobody can listen: what this
/// process does is heard of all the same.
#[test]
fn hazard_45_keeps_the_contract_behind_a_pooler_in_transaction_mode() {
    let server = fast();
    let pooler = start_pgbouncer(&server);
    Deaf::url()
        .set(format!("{}?listen=off", server.url_by(&pooler.address())))
        .unwrap();
    let failed = failing(with_a_clock::<Deaf>(), 4);
    assert!(failed.is_empty(), "{failed:#?}");
}

/// On the server's own clock.
#[test]
fn keeps_the_contract_in_real_time() {
    // Each of the checks has a store, and each store its connections.
    let server = start_postgres_with(&["max_connections=300"]);
    Real::url().set(server.url()).unwrap();
    // Where time really passes, a machine that stands still for a moment breaks a check that counts
    // on it: what fails among many is tried once more, alone.
    let again = failing(in_real_time::<Subject<Real>>(), 8);
    let failed = failing(again, 1);
    assert!(failed.is_empty(), "{failed:#?}");
}
