//! Keeping up with the store, and telling it of hits.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::counter;
use tokio::time::sleep;

use super::list::Inner;

/// Between two tries after a failure, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Looks at the store when it says that there is something new, and seldom when it says nothing.
pub(super) async fn keep_up(blocklist: Weak<Inner>) {
    let mut pause = PAUSES.0;
    loop {
        let Some(inner) = blocklist.upgrade() else {
            return;
        };
        let poll = inner.options.poll;
        // Watching comes first: what changes while it is read is heard of.
        let watched = inner.store.watch().await;
        let reloaded = inner.reload().await;
        let failed = watched.is_err() || reloaded.is_err();
        if let Err(error) = &watched {
            tracing::debug!(
                error = error as &dyn std::error::Error,
                "the blocklist hears of no changes just now"
            );
        }
        if let Err(error) = &reloaded {
            inner.failures.fetch_add(1, Ordering::Relaxed);
            counter!("onlyonce_blocklist_reload_failures_total").increment(1);
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "the blocklist can't be read; its last good state stays in force"
            );
        }
        let next = async {
            match watched {
                Ok(changes) if !failed => changes.await,
                _ => sleep(pause).await,
            }
        };
        // Whoever waits must not keep the blocklist alive.
        let wake = Arc::clone(&inner.wake);
        drop(inner);
        tokio::select! {
            () = next => {}
            () = wake.notified() => {}
            () = sleep(poll) => {}
        }
        pause = if failed {
            (pause * 2).min(PAUSES.1)
        } else {
            PAUSES.0
        };
    }
}

/// Gives hits to the store, now and then.
pub(super) async fn flush(blocklist: Weak<Inner>) {
    loop {
        let Some(interval) = blocklist.upgrade().map(|inner| inner.options.flush) else {
            return;
        };
        sleep(interval).await;
        let Some(inner) = blocklist.upgrade() else {
            return;
        };
        if let Err(error) = inner.flush_hits().await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the blocklist's hits are not in its store yet"
            );
        }
    }
}
