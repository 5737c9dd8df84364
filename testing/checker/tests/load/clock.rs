//! Waiting for things, never for time.

use std::time::Duration;

use onlyonce_core::StoreError;

/// Longer than anything here takes, unless something hangs.
const DEADLINE: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Looks again and again until it is so; fails the test when that takes too long.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    };
    within(what, looking).await;
}

/// A store, once it can be reached: a slow machine may need more than one try.
pub(crate) async fn opened<S>(mut open: impl AsyncFnMut() -> Result<S, StoreError>) -> S {
    let opening = async {
        loop {
            match open().await {
                Ok(store) => return store,
                Err(error) if error.is_retryable() => tokio::time::sleep(BETWEEN_LOOKS).await,
                Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
            }
        }
    };
    within("the store can be reached", opening).await
}

/// What `future` gives; fails the test when it takes too long.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, future).await;
    done.unwrap_or_else(|_| panic!("took longer than {DEADLINE:?}: {what}"))
}
