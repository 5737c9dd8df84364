//! What goes wrong in other implementations, by the numbers of `docs/hazards.md`: what the other
//! files of this folder do not hold yet.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use onlyonce::{
    Claimed, Concurrent, Engine, Fingerprint, IdempotencyLayer, Key, OnUnknown, Outcome, Policy,
    Profile, RunError, StatusSet,
};
use onlyonce_core::{
    Attempt, Changes, Claim, Completion, EntryState, Fenced, Lease, Operation, RecordId, Renewal,
    Store, StoreError, StoreErrorKind, Timestamp,
};
use onlyonce_memory::MemoryStore;
use support::{App, Fault, TestStore, full, post, until};
use tokio::sync::Notify;

fn standard() -> Policy {
    Policy::new(Profile::Standard)
}

fn waiting() -> Policy {
    standard().with_concurrent(Concurrent::Wait)
}

fn layer_with(store: &TestStore, policy: Policy) -> IdempotencyLayer {
    IdempotencyLayer::new(store.clone())
        .with_policy(policy)
        .unwrap()
}

/// As after `kill -9`: in progress, and nobody renews; the lease ends in `left`.
fn crash(store: &TestStore, left: Duration) {
    let lease_until = store.now().plus(left);
    store.meddle(|entry| {
        let keep = Duration::from_secs(24 * 3600);
        entry.state = EntryState::InProgress { lease_until, keep };
        entry.expires = lease_until.plus(keep);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hazard_01_of_many_at_once_one_executes() {
    let layer = IdempotencyLayer::new(MemoryStore::new())
        .with_policy(waiting().with_max_waiters(200))
        .unwrap();
    let app = App::counting(&layer);
    for round in 0..20 {
        let calls = (0..64).map(|_| tokio::spawn(app.start(post(&round.to_string(), "x"))));
        for call in join_all(calls).await {
            let answer = support::read(call.unwrap()).await;
            assert_eq!(answer.text(), (round + 1).to_string());
        }
    }
    assert_eq!(app.executions(), 20);
}

#[tokio::test(start_paused = true)]
async fn hazard_02_replicas_on_one_store_execute_once() {
    let store = TestStore::new();
    let gate = Arc::new(Notify::new());
    let executions = Arc::new(AtomicUsize::new(0));
    // Two processes have nothing in common but the store: two engines.
    let replica = || {
        let (gate, executions) = (Arc::clone(&gate), Arc::clone(&executions));
        App::new(&layer_with(&store, standard()), move |_, _| {
            executions.fetch_add(1, Ordering::SeqCst);
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Response::new(full("1"))
            }
        })
    };
    let (one, two) = (replica(), replica());
    let first = tokio::spawn(one.start(post("k", "x")));
    until("it is claimed", || !store.entries().is_empty()).await;
    assert_eq!(
        two.send(post("k", "x")).await.outcome(),
        Outcome::InProgress
    );
    gate.notify_one();
    first.await.unwrap();
    assert_eq!(two.send(post("k", "x")).await.outcome(), Outcome::Replayed);
    assert_eq!(executions.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn hazard_04_a_record_that_goes_while_one_waits_for_it_is_claimed_anew() {
    let store = TestStore::new();
    let seen = store.clone();
    let gate = Arc::new(Notify::new());
    let app = App::new(&layer_with(&store, waiting()), {
        let gate = Arc::clone(&gate);
        move |number, request| {
            let claimed = request
                .extensions()
                .get::<Claimed>()
                .expect("a claim")
                .clone();
            assert_eq!(
                seen.only_entry().fence,
                claimed.fence(),
                "the record is its own"
            );
            assert!(seen.only_entry().in_progress());
            let gate = Arc::clone(&gate);
            async move {
                if number == 1 {
                    gate.notified().await;
                }
                Response::new(full(number.to_string()))
            }
        }
    });
    let first = tokio::spawn(app.start(post("k", "x")));
    until("it is claimed", || !store.entries().is_empty()).await;
    let waiter = tokio::spawn(app.start(post("k", "x")));
    until("it waits", || store.calls(Operation::Watch) == 1).await;
    store.meddle(|entry| entry.expires = Timestamp::from_millis(0));
    let second = support::read(waiter.await.unwrap()).await;
    assert_eq!((second.outcome(), second.text()), (Outcome::Executed, "2"));
    gate.notify_one();
    // The first finds its record gone and replaced: the answer is the record's.
    assert_eq!(support::read(first.await.unwrap()).await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn hazard_06_an_expired_record_is_claimed_though_nobody_swept_it() {
    let store = TestStore::new();
    let policy = standard().with_lifetime(Duration::from_secs(5));
    let app = App::counting(&layer_with(&store, policy));
    app.send(post("k", "x")).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(store.entries().len(), 1, "it still lies there");
    let again = app.send(post("k", "x")).await;
    assert_eq!((again.text(), again.verdict.attempt()), ("2", Some(1)));
}

#[tokio::test(start_paused = true)]
async fn hazard_13_the_store_s_clock_alone_says_when_a_lease_has_run_out() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(
        &store,
        standard().with_on_unknown(OnUnknown::Retry),
    ));
    app.send(post("k", "x")).await;
    // The store says an hour, whatever this process's timers say of a lease of ten seconds.
    crash(&store, Duration::from_secs(3600));
    tokio::time::advance(Duration::from_secs(1800)).await;
    assert_eq!(
        app.send(post("k", "x")).await.outcome(),
        Outcome::InProgress
    );
    tokio::time::advance(Duration::from_secs(1800)).await;
    assert_eq!(app.send(post("k", "x")).await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn hazard_14_a_crash_blocks_the_key_for_a_lease_and_not_for_a_lifetime() {
    let store = TestStore::new();
    let policy = standard().with_on_unknown(OnUnknown::Retry);
    let app = App::new(&layer_with(&store, policy), |number, _| async move {
        if number == 1 {
            std::future::pending::<()>().await;
        }
        Response::new(full(number.to_string()))
    });
    // Its owner gets through to the store no more: to all others it has crashed.
    let _crashed = tokio::spawn(app.start(post("k", "x")));
    until("it is claimed", || app.executions() == 1).await;
    let fails = Fault::Fails(StoreErrorKind::Unavailable);
    store.order_times(Operation::Renew, fails, 1000);
    assert_eq!(
        app.send(post("k", "x")).await.outcome(),
        Outcome::InProgress
    );
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = app.send(post("k", "x")).await;
    assert_eq!((after.text(), after.verdict.attempt()), ("2", Some(2)));
}

#[tokio::test(start_paused = true)]
async fn hazard_16_a_client_that_goes_before_it_reads_leaves_a_finished_record() {
    for length in [1, 2_000_000] {
        let store = TestStore::new();
        let app = App::new(&layer_with(&store, standard()), move |_, _| async move {
            Response::new(full("x".repeat(length)))
        });
        drop(app.start(post("k", "")).await);
        until("the record is written", || {
            !store.only_entry().in_progress()
        })
        .await;
        let retry = app.send(post("k", "")).await;
        assert_ne!(retry.outcome(), Outcome::InProgress);
        assert_eq!(app.executions(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn hazard_22_the_key_is_held_until_the_record_is_there() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, standard()));
    store.order(Operation::Complete, Fault::Late(Duration::from_millis(900)));
    let first = tokio::spawn(app.start(post("k", "x")));
    until("it is being recorded", || {
        store.calls(Operation::Complete) == 1
    })
    .await;
    assert!(!first.is_finished(), "record first, then answer");
    assert_eq!(
        app.send(post("k", "x")).await.outcome(),
        Outcome::InProgress
    );
    assert_eq!(first.await.unwrap().status(), 200);
    assert_eq!(app.send(post("k", "x")).await.outcome(), Outcome::Replayed);
    assert_eq!(store.calls(Operation::Release), 0);
}

#[tokio::test(start_paused = true)]
async fn hazard_26_the_fingerprint_outlives_completion_however_it_ends() {
    let bodies = ["short".to_owned(), "long".repeat(50_000)];
    for (body, length) in bodies
        .iter()
        .flat_map(|body| [(body, 1), (body, 2_000_000)])
    {
        let store = TestStore::new();
        let app = App::new(
            &layer_with(&store, standard()),
            move |_, request| async move {
                request.into_body().collect().await.unwrap();
                Response::new(full("x".repeat(length)))
            },
        );
        app.send(post("k", body.clone())).await;
        let same = app.send(post("k", body.clone())).await.outcome();
        assert_ne!(same, Outcome::Mismatch);
        let other = app.send(post("k", format!("{body}!"))).await.outcome();
        assert_eq!(other, Outcome::Mismatch);
        assert_eq!(app.executions(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn hazard_35_a_kept_result_is_read_as_what_is_asked_for_or_not_at_all() {
    let engine = Engine::new(TestStore::new());
    let key = || Key::new("k").unwrap();
    let work = async { Ok::<_, String>("text".to_owned()) };
    let run = engine.run(key(), Fingerprint::OFF, &standard(), work).await;
    assert!(run.is_ok());
    let work = async { Ok::<u64, String>(1) };
    let run = engine.run(key(), Fingerprint::OFF, &standard(), work).await;
    assert!(matches!(run, Err(RunError::Decode(_))), "{run:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hazard_37_locks_under_load_never_wait_for_each_other() {
    let engine = Engine::new(MemoryStore::new());
    let policy = waiting()
        .with_max_in_progress(Some(40))
        .with_store(StatusSet::EMPTY);
    let layer = IdempotencyLayer::from_engine(engine.clone())
        .with_policy(policy)
        .unwrap();
    let app = App::counting(&layer);
    let load = (0..8).map(|worker| {
        let app = app.clone();
        tokio::spawn(async move {
            for round in 0..200 {
                let mut request = post(&(round % 3).to_string(), "x");
                let caller = HeaderValue::from(worker % 2);
                request.headers_mut().insert("authorization", caller);
                let call = app.start(request);
                // Some hang up in the middle.
                if round % 5 == 0 {
                    tokio::select! {
                        biased;
                        () = tokio::task::yield_now() => {}
                        _ = call => {}
                    }
                } else {
                    call.await;
                }
            }
        })
    });
    let load = tokio::time::timeout(Duration::from_secs(60), join_all(load)).await;
    for worker in load.expect("no deadlock") {
        worker.unwrap();
    }
    assert!(engine.shutdown(Duration::from_secs(60)).await);
}

#[tokio::test(start_paused = true)]
async fn hazard_38_nothing_is_left_in_memory_when_all_have_their_answers() {
    let store = TestStore::new();
    let policy = waiting()
        .with_max_in_progress(Some(1000))
        .with_store(StatusSet::EMPTY);
    let layer = layer_with(&store, policy);
    let app = App::new(&layer, |_, _| async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Response::new(full("1"))
    });
    let calls = (0..500).map(|n| tokio::spawn(app.start(post(&(n % 50).to_string(), "x"))));
    join_all(calls).await;
    until("all is at rest", || layer.engine().running() == 0).await;
    assert!(store.entries().is_empty());
    assert_eq!(store.watching(), 0);
}

/// Counts the calls that have begun and not ended.
#[derive(Clone)]
struct Busy(TestStore, Arc<AtomicUsize>);

impl Busy {
    async fn during<T>(&self, call: impl Future<Output = T>) -> T {
        self.1.fetch_add(1, Ordering::SeqCst);
        let done = call.await;
        self.1.fetch_sub(1, Ordering::SeqCst);
        done
    }
}

impl Store for Busy {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.during(self.0.claim(attempt)).await
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        self.during(self.0.renew(lease, renewal)).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        self.during(self.0.complete(lease, completion, keep)).await
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        self.during(self.0.release(lease)).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.during(self.0.watch(id)).await
    }
}

#[tokio::test(start_paused = true)]
async fn hazard_39_no_call_to_the_store_is_open_while_the_handler_runs_or_others_wait() {
    let busy = Busy(TestStore::new(), Arc::default());
    let layer = IdempotencyLayer::new(busy.clone())
        .with_policy(waiting())
        .unwrap();
    let gate = Arc::new(Notify::new());
    let app = App::new(&layer, {
        let gate = Arc::clone(&gate);
        move |_, _| {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Response::new(full("1"))
            }
        }
    });
    let calls: Vec<_> = (0..10)
        .map(|_| tokio::spawn(app.start(post("k", "x"))))
        .collect();
    until("nine wait", || busy.0.watching() == 9).await;
    assert_eq!(busy.1.load(Ordering::SeqCst), 0);
    gate.notify_one();
    join_all(calls).await;
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn hazard_43_a_lease_that_ran_out_leaves_the_evidence() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, standard()));
    app.send(post("k", "x")).await;
    crash(&store, Duration::from_secs(10));
    for _ in 0..23 {
        tokio::time::advance(Duration::from_secs(3600)).await;
        let answer = app.send(post("k", "x")).await;
        assert_eq!(answer.problem_kind(), "outcome-unknown");
        assert_eq!(answer.verdict.attempt(), Some(1));
    }
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn hazard_48_a_guess_does_the_same_work_whether_the_key_exists_or_not() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, standard()));
    let by = |caller: &'static str, key: &str| {
        let mut request = post(key, "x");
        let caller = HeaderValue::from_static(caller);
        request.headers_mut().insert("authorization", caller);
        request
    };
    app.send(by("victim", "guessed")).await;
    let mut work = Vec::new();
    for key in ["guessed", "other"] {
        let before = store.all_calls();
        let answer = app.send(by("thief", key)).await;
        let mut headers = answer.headers.clone();
        headers.remove("date");
        work.push((
            answer.status,
            answer.outcome(),
            headers,
            store.all_calls() - before,
        ));
    }
    assert_eq!(work[0], work[1]);
    assert_eq!(app.send(by("victim", "guessed")).await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn hazard_52_what_connection_names_is_not_recorded_and_our_own_fields_stay() {
    let store = TestStore::new();
    let policy = standard().with_verdict_headers(true);
    let app = App::new(&layer_with(&store, policy), |_, _| async {
        let mut response = Response::new(full("1"));
        let named = "close, idempotent-replayed, idempotency-outcome, x-private";
        let headers = response.headers_mut();
        headers.insert("connection", HeaderValue::from_static(named));
        headers.insert("x-private", HeaderValue::from_static("hop"));
        response
    });
    app.send(post("k", "")).await;
    let replay = app.send(post("k", "")).await;
    assert_eq!(replay.header("idempotent-replayed"), Some("true"));
    assert_eq!(replay.header("idempotency-outcome"), Some("replayed"));
    assert_eq!(replay.header("connection"), None);
    assert_eq!(replay.header("x-private"), None);
}

#[tokio::test(start_paused = true)]
async fn hazard_53_an_upgrade_is_refused_before_it_and_replays_are_not_cached() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, standard()));
    let mut upgrade = post("k", "");
    let headers = upgrade.headers_mut();
    headers.insert("connection", HeaderValue::from_static("upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    let refused = app.send(upgrade).await;
    assert_eq!((refused.status, app.executions()), (400, 0));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    app.send(post("k", "")).await;
    let replay = app.send(post("k", "")).await;
    assert_eq!(replay.header("cache-control"), Some("no-store"));
}

#[tokio::test(start_paused = true)]
async fn hazard_54_a_hostile_key_is_written_nowhere() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, standard()));
    let hostile = "${jndi:ldap://x}<script>\\u001b[2J%0d%0aX: y";
    app.send(post(hostile, "x")).await;
    let request = Request::post("/charges")
        .header("idempotency-key", hostile)
        .body(Full::from("other"))
        .unwrap();
    let refused = app.send(request).await;
    assert_eq!(refused.outcome(), Outcome::Mismatch);
    let all = format!("{:?}{:?}", refused.headers, refused.text());
    assert!(!all.contains("jndi") && !all.contains("script"), "{all}");
}

#[tokio::test(start_paused = true)]
async fn hazard_55_a_request_is_given_to_the_service_once_and_never_again() {
    for control in [onlyonce::Control::Ambiguous, onlyonce::Control::NotExecuted] {
        let store = TestStore::new();
        let app = App::new(&layer_with(&store, standard()), move |_, _| async move {
            let mut response = Response::new(full("failed"));
            *response.status_mut() = http::StatusCode::BAD_GATEWAY;
            response.extensions_mut().insert(control);
            response
        });
        let fails = Fault::Fails(StoreErrorKind::Unavailable);
        store.order_times(Operation::Complete, fails, 3);
        store.order_times(Operation::Release, fails, 3);
        app.send(post("k", "")).await;
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(app.executions(), 1, "{control:?}");
    }
}
