//! The suite on servers that all checks share: a Sentinel group, a Cluster, and one server on its
//! own clock. Each check has its own prefix.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use onlyonce_conformance::{Check, ExactTime, Harness, Reopen, all, in_real_time};
use onlyonce_servers::redis::{start_cluster, start_redis_with, start_sentinel_group};

use super::TestClock;
use super::support::connect;
use crate::RedisStore;

/// Where the servers of a test are, and how their stores have their time.
trait Servers: Send + Sync + 'static {
    const TICK: Duration;
    fn url() -> &'static OnceLock<String>;
    fn clock() -> Option<TestClock>;
}

macro_rules! servers {
    ($name:ident, $tick:expr, $clock:expr) => {
        struct $name;

        impl Servers for $name {
            const TICK: Duration = $tick;

            fn url() -> &'static OnceLock<String> {
                static URL: OnceLock<String> = OnceLock::new();
                &URL
            }

            fn clock() -> Option<TestClock> {
                $clock
            }
        }
    };
}

servers!(Group, Duration::from_secs(1), Some(TestClock::here()));
servers!(Cluster, Duration::from_secs(1), Some(TestClock::here()));
servers!(RealTime, Duration::from_millis(100), None);

struct Subject<S> {
    prefix: String,
    clock: Option<TestClock>,
    store: Arc<RedisStore>,
    servers: std::marker::PhantomData<S>,
}

impl<S: Servers> Subject<S> {
    async fn open(prefix: String, clock: Option<TestClock>) -> Self {
        let url = S::url().get().expect("the servers run");
        let store = match &clock {
            Some(clock) => connect(url, &prefix, clock).await,
            None => {
                let builder = RedisStore::builder(url).prefix(prefix.as_str());
                let builder = builder.timeout(Duration::from_secs(20));
                builder.connect().await.expect("the server takes us")
            }
        };
        Self {
            prefix,
            clock,
            store: Arc::new(store),
            servers: std::marker::PhantomData,
        }
    }
}

impl<S: Servers> Harness for Subject<S> {
    type Store = RedisStore;
    const TICK: Duration = S::TICK;
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn fresh() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        Self::open(format!("test-{number}:"), S::clock()).await
    }

    fn store(&self) -> Arc<RedisStore> {
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

impl<S: Servers> ExactTime for Subject<S> {}

impl<S: Servers> Reopen for Subject<S> {
    async fn reopen(self) -> Self {
        let Self {
            prefix,
            clock,
            store,
            ..
        } = self;
        drop(store);
        Self::open(prefix, clock).await
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

fn run(checks: Vec<Check>, at_once: usize) {
    let count = checks.len();
    let failed = failing(checks, at_once);
    assert!(failed.is_empty(), "of {count} checks failed: {failed:#?}");
}

/// All but those that ask for what these servers do not promise.
fn but(checks: Vec<Check>, left_out: &[&str]) -> Vec<Check> {
    let (out, rest): (Vec<Check>, Vec<Check>) = checks
        .into_iter()
        .partition(|check| left_out.contains(&check.name));
    assert_eq!(out.len(), left_out.len(), "each of {left_out:?} is a check");
    rest
}

/// The time comes from the test here, and is not the later the later a step is done: see
/// [`TestClock::Here`].
const NEEDS_ONE_CLOCK: &str = "histories::concurrent_histories_in_time_are_linearizable";

#[test]
fn sentinel_group_keeps_the_contract() {
    let group = start_sentinel_group();
    Group::url().set(group.url()).unwrap();
    run(but(all::<Subject<Group>>(), &[NEEDS_ONE_CLOCK]), 4);
}

/// A Cluster has no sequence of fences for all records: those of one record grow, but two records
/// may have the same.
#[test]
fn cluster_keeps_the_contract() {
    let cluster = start_cluster();
    Cluster::url().set(cluster.url()).unwrap();
    let left_out = [NEEDS_ONE_CLOCK, "concurrency::fences_follow_real_time"];
    run(but(all::<Subject<Cluster>>(), &left_out), 4);
}

/// On the server's own clock, with keys that it lets expire itself.
#[test]
fn single_server_keeps_the_contract_in_real_time() {
    let server = start_redis_with(&[]);
    RealTime::url().set(server.url()).unwrap();
    // Where time really passes, a machine that stands still for a moment breaks a check that counts
    // on it: what fails among many is tried once more, alone.
    let again = failing(in_real_time::<Subject<RealTime>>(), 32);
    run(again, 1);
}
