//! Time that stands still until a test moves it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use onlyonce_core::{Clock as _, ManualClock};
use onlyonce_servers::redis::{Client, Reply};

/// Where a store has its time from, if not from its servers.
#[derive(Clone, Debug)]
pub(crate) enum TestClock {
    /// From the test. A step counts from when it was called, not from when it reached the server:
    /// of two at once the later one may have the earlier time, which no server's clock does.
    Here(Arc<ManualClock>),
    /// From a key of the one server that all records lie on.
    There(Arc<Mutex<Client>>),
}

const KEY: &str = "test-clock";

impl TestClock {
    pub(crate) fn here() -> Self {
        Self::Here(Arc::new(ManualClock::new()))
    }

    /// A clock on the server behind `client`; if there is one already, it goes on.
    pub(crate) fn there(mut client: Client) -> Self {
        let start = ManualClock::new().now().as_millis().to_string();
        client.command(&["SETNX", KEY, &start]);
        Self::There(Arc::new(Mutex::new(client)))
    }

    pub(crate) fn advance(&self, by: Duration) {
        match self {
            Self::Here(clock) => clock.advance(by),
            Self::There(client) => {
                let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
                let moved = client.command(&["INCRBY", KEY, &by.as_millis().to_string()]);
                assert!(matches!(moved, Reply::Number(_)), "{moved:?}");
            }
        }
    }

    /// What the scripts are given.
    pub(crate) fn argument(&self) -> String {
        match self {
            Self::Here(clock) => clock.now().as_millis().to_string(),
            Self::There(_) => KEY.to_owned(),
        }
    }
}
