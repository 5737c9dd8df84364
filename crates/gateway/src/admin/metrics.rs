//! The metrics, in Prometheus' text format.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use onlyonce_core::{Counts, Inspect, StateKind};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Admin;

/// A page waits so long for a count that is under way, and shows the last one otherwise.
const PATIENCE: Duration = Duration::from_secs(1);
/// Counting takes up to this part of the time: it may have to read a whole table.
const SHARE: u32 = 20;

/// The numbers of records by state, counted now and then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<Option<Instant>>>);

impl Tally {
    /// Counts anew, unless somebody is at it, or it would take more than its share of the time.
    async fn refresh(&self, inspect: &Arc<dyn Inspect>) {
        // Held while counting: the next page does not wait for it.
        let Ok(mut next) = Arc::clone(&self.0).try_lock_owned() else {
            return;
        };
        if next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let inspect = Arc::clone(inspect);
        let counting = tokio::spawn(async move {
            let begun = Instant::now();
            match inspect.count().await {
                Ok(counts) => report(&counts),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "not counted");
                }
            }
            *next = Some(Instant::now() + begun.elapsed() * SHARE);
        });
        let _ = tokio::time::timeout(PATIENCE, counting).await;
    }
}

/// Help texts of what the gateway itself measures.
pub(crate) fn describe() {
    use metrics::{describe_counter, describe_gauge};
    describe_gauge!("onlyonce_records", "Live records, by state");
    describe_gauge!(
        "onlyonce_store_bytes",
        "Bytes that the records take in the store, by its own reckoning"
    );
    describe_gauge!(
        "onlyonce_store_live_bytes",
        "Disk store: bytes of live records"
    );
    describe_gauge!(
        "onlyonce_store_allocated_bytes",
        "Disk store: bytes of its files"
    );
    describe_gauge!("onlyonce_store_segments", "Disk store: files of the log");
    describe_gauge!(
        "onlyonce_store_full",
        "Disk store: 1 when it takes no new keys"
    );
    describe_gauge!(
        "onlyonce_store_poisoned",
        "Disk store: 1 when it has to be opened anew"
    );
    describe_counter!(
        "onlyonce_store_flushes_total",
        "Disk store: flushes to the disk"
    );
    describe_counter!(
        "onlyonce_store_writes_total",
        "Disk store: writes to its files"
    );
    describe_counter!(
        "onlyonce_upstream_failures_total",
        "Requests that were not forwarded to the end, by kind"
    );
}

pub(super) async fn render(State(admin): State<Admin>) -> impl IntoResponse {
    admin.records.report();
    admin.tally.refresh(&admin.records.inspect).await;
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        admin.prometheus.render(),
    )
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn report(counts: &Counts) {
    for (state, count) in [
        (StateKind::InProgress, counts.in_progress),
        (StateKind::Unknown, counts.unknown),
        (StateKind::Completed, counts.completed),
        (StateKind::NotKept, counts.not_kept),
    ] {
        metrics::gauge!("onlyonce_records", "state" => state.as_str()).set(count as f64);
    }
    metrics::gauge!("onlyonce_store_bytes").set(counts.bytes as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use onlyonce_core::{InspectFuture, Listed, Page, Record, RecordId, Resolution, Resolved};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Takes a second to count.
    #[derive(Default)]
    struct Slow(AtomicU32);

    impl Inspect for Slow {
        fn list<'a>(&'a self, _: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
            unreachable!()
        }

        fn show<'a>(&'a self, _: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
            unreachable!()
        }

        fn resolve<'a>(
            &'a self,
            _: &'a RecordId,
            _: &'a Resolution,
        ) -> InspectFuture<'a, Resolved> {
            unreachable!()
        }

        fn forget<'a>(&'a self, _: &'a RecordId) -> InspectFuture<'a, Resolved> {
            unreachable!()
        }

        fn count(&self) -> InspectFuture<'_, Counts> {
            Box::pin(async {
                self.0.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(10)).await;
                Ok(Counts::default())
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_count_neither_holds_up_the_page_nor_takes_all_the_time() {
        let slow = Arc::new(Slow::default());
        let (tally, inspect) = (Tally::default(), Arc::clone(&slow) as Arc<dyn Inspect>);
        let begun = Instant::now();
        tally.refresh(&inspect).await;
        assert_eq!(begun.elapsed(), PATIENCE);
        // A scrape every five seconds: counted once in the two hundred seconds behind it.
        for _ in 0..40 {
            tally.refresh(&inspect).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(slow.0.load(Ordering::SeqCst), 1);
        for _ in 0..3 {
            tally.refresh(&inspect).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(slow.0.load(Ordering::SeqCst), 2);
    }
}
