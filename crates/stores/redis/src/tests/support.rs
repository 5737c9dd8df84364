//! Stores for the tests.

use std::error::Error as _;
use std::time::Duration;

use super::TestClock;
use crate::RedisStore;

/// A store that counts time on `clock`.
pub(crate) async fn connect(url: &str, prefix: &str, clock: &TestClock) -> RedisStore {
    let builder = RedisStore::builder(url)
        .prefix(prefix)
        // Test machines are slow, and a check that times out says nothing.
        .timeout(Duration::from_secs(20))
        .clock(clock.clone());
    let connected = builder.connect().await;
    connected.unwrap_or_else(|error| panic!("{error}: {:?}", error.source()))
}
