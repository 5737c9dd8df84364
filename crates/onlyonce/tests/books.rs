//! What is counted: once, and truly.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use http_body_util::Full;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use onlyonce::http::RequestBody;
use onlyonce::{IdempotencyLayer, Policy, Profile};
use onlyonce_core::{EntryState, Fence, Operation};
use support::{App, Fault, TestStore, full, post};
use tower::{Layer as _, ServiceExt as _};

/// Sums up counters by name, whatever their labels.
#[derive(Clone, Default)]
struct Sums(Arc<Mutex<HashMap<String, Arc<AtomicU64>>>>);

impl Sums {
    fn of(&self, name: &str) -> u64 {
        let sums = self.0.lock().unwrap();
        sums.get(name).map_or(0, |sum| sum.load(Ordering::SeqCst))
    }
}

impl Recorder for Sums {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut sums = self.0.lock().unwrap();
        Counter::from_arc(Arc::clone(sums.entry(key.name().to_owned()).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_counted_once_even_when_its_owner_failed_and_was_superseded() {
    let sums = Sums::default();
    let _guard = metrics::set_default_local_recorder(&sums);
    let store = TestStore::new();
    let policy = Policy::new(Profile::Stripe);
    let layer = IdempotencyLayer::new(store.clone())
        .with_policy(policy)
        .unwrap();
    let meddled = store.clone();
    let service = layer.layer(tower::service_fn(
        move |_: http::Request<RequestBody<Full<bytes::Bytes>>>| {
            meddled.meddle(|entry| {
                entry.fence = Fence::new(99);
                entry.state = EntryState::Unknown;
            });
            async { Err::<Response<support::TestBody>, _>(std::io::Error::other("failed")) }
        },
    ));
    let response = service.oneshot(post("k", "")).await.unwrap();
    assert_eq!(
        support::read(response).await.problem_kind(),
        "outcome-unknown"
    );
    assert_eq!(sums.of("onlyonce_requests_total"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_meets_the_finished_record_is_no_lost_lease() {
    let sums = Sums::default();
    let _guard = metrics::set_default_local_recorder(&sums);
    let store = TestStore::new();
    let policy = Policy::new(Profile::Standard).with_store_timeout(Duration::from_secs(3));
    let layer = IdempotencyLayer::new(store.clone())
        .with_policy(policy)
        .unwrap();
    let app = App::new(&layer, |_, _| async { Response::new(full("1")) });
    // It lands, but says so only when it is asked again; a renewal comes in between.
    store.order_times(Operation::Complete, Fault::NeverAnswers, 2);
    let answer = app.send(post("k", "")).await;
    assert!(answer.verdict.was_recorded());
    assert!(store.calls(Operation::Renew) > 0);
    assert_eq!(sums.of("onlyonce_renewals_lost_total"), 0);
    assert_eq!(sums.of("onlyonce_requests_total"), 1);
}
