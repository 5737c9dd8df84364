//! The suite, with a clock that the tests set: to the millisecond, and without waiting.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_conformance::{ExactTime, Harness, Reopen, conformance};
use onlyonce_servers::redis::{Redis, start_redis};

use super::TestClock;
use super::support::connect;
use crate::RedisStore;

struct Single {
    server: Redis,
    clock: TestClock,
    store: Arc<RedisStore>,
}

impl Harness for Single {
    type Store = RedisStore;
    const TICK: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn fresh() -> Self {
        let server = start_redis();
        let clock = TestClock::there(server.client());
        let store = connect(&server.url(), "oo:", &clock).await;
        Self {
            server,
            clock,
            store: Arc::new(store),
        }
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
    /// The server is killed and started again as well.
    async fn reopen(self) -> Self {
        let Self {
            mut server, store, ..
        } = self;
        drop(store);
        server.kill();
        server.start();
        let clock = TestClock::there(server.client());
        let store = connect(&server.url(), "oo:", &clock).await;
        Self {
            server,
            clock,
            store: Arc::new(store),
        }
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
