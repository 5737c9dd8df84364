//! The suite, with a clock that the tests set: to the millisecond, and without waiting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onlyonce_conformance::{ExactTime, Harness, Reopen, conformance};
use onlyonce_servers::redis::{Redis, start_redis};

use super::TestClock;
use super::support::connect;
use crate::RedisStore;

/// Servers that no check uses just now. Checks that need many stores need not start as many.
static SPARE: Mutex<Vec<Redis>> = Mutex::new(Vec::new());

struct Single {
    server: Option<Redis>,
    clock: TestClock,
    store: Arc<RedisStore>,
}

impl Harness for Single {
    type Store = RedisStore;
    const TICK: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn fresh() -> Self {
        let spare = SPARE.lock().unwrap().pop();
        let server = spare.unwrap_or_else(start_redis);
        server.client().expect_ok(&["FLUSHALL"]);
        Self::on(server).await
    }

    fn store(&self) -> Arc<RedisStore> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn open_watches(&self) -> usize {
        self.store.open_watches()
    }
}

impl ExactTime for Single {}

impl Reopen for Single {
    /// The server is killed and started again as well: at first each time, then now and then, as
    /// that takes a while.
    async fn reopen(mut self) -> Self {
        static TIMES: AtomicUsize = AtomicUsize::new(0);
        let times = TIMES.fetch_add(1, Ordering::SeqCst);
        let mut server = self.server.take().expect("it is given back at the end");
        drop(self);
        if times < 10 || times.is_multiple_of(10) {
            server.kill();
            server.start();
        }
        Self::on(server).await
    }
}

impl Single {
    async fn on(server: Redis) -> Self {
        let clock = TestClock::there(server.client());
        let store = connect(&server.url(), "oo:", &clock).await;
        Self {
            server: Some(server),
            clock,
            store: Arc::new(store),
        }
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        SPARE.lock().unwrap().extend(self.server.take());
    }
}

mod single {
    use super::*;

    conformance! {
        harness: Single,
        exact_time: yes,
        reopen: yes,
    }
}
