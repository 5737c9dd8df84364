//! Waiting for things, never for time.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Longer than anything here takes, unless something hangs.
pub const DEADLINE: Duration = Duration::from_secs(45);
const BETWEEN_LOOKS: Duration = Duration::from_millis(4);

/// What `future` gives; fails the test when it takes longer than [`DEADLINE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("took too long: {what}"),
    }
}

/// Looks again and again until there is something to see; fails the test after [`DEADLINE`].
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < until, "never happened: {what}");
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
