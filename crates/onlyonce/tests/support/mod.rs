//! What the tests of the layer share: a store with faults to order, and a service that counts.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::allow_attributes,
    missing_docs,
    unreachable_pub,
    reason = "each test binary uses its own part"
)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use onlyonce::http::{RequestBody, ResponseBody};
use onlyonce::{IdempotencyLayer, Outcome, StoreError, Verdict};
use onlyonce_core::{
    Attempt, Changes, Claim, ClaimStep, CompleteStep, Completion, Effects, Entry, Fence, Fenced,
    Lease, Operation, RecordId, Renewal, Store, StoreErrorKind, Timestamp, Watchers,
};
use tokio::sync::Notify;
use tokio::time::Instant;
use tower::{Layer as _, Service as _, ServiceExt as _};

/// What goes wrong with the next call of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and has had no effect.
    Fails(StoreErrorKind),
    /// It takes effect, but its answer is lost.
    ReplyLost,
    /// It takes effect, but never answers.
    NeverAnswers,
    /// Its answer comes late.
    Late(Duration),
}

/// A store on tokio's clock, which tests can pause, with faults to order.
#[derive(Clone)]
pub struct TestStore(Arc<Inner>);

struct Inner {
    entries: Mutex<HashMap<RecordId, Entry>>,
    fence: AtomicUsize,
    started: Instant,
    watchers: Watchers,
    faults: Mutex<Vec<(Operation, Fault)>>,
    calls: Mutex<Vec<Operation>>,
    effects: Effects,
    pub called: Notify,
}

impl TestStore {
    pub fn new() -> Self {
        Self::with_effects(Effects::Apart)
    }

    /// A store that says so of what is done under its claims.
    pub fn with_effects(effects: Effects) -> Self {
        Self(Arc::new(Inner {
            effects,
            entries: Mutex::default(),
            fence: AtomicUsize::new(1),
            started: Instant::now(),
            watchers: Watchers::new(),
            faults: Mutex::default(),
            calls: Mutex::default(),
            called: Notify::new(),
        }))
    }

    /// Orders a fault for the next call of `operation` that has none ordered yet.
    pub fn order(&self, operation: Operation, fault: Fault) {
        self.0.faults.lock().unwrap().push((operation, fault));
    }

    pub fn order_times(&self, operation: Operation, fault: Fault, times: usize) {
        (0..times).for_each(|_| self.order(operation, fault));
    }

    pub fn clear_faults(&self) {
        self.0.faults.lock().unwrap().clear();
    }

    pub fn calls(&self, operation: Operation) -> usize {
        self.0
            .calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| **call == operation)
            .count()
    }

    /// Watches that are open.
    pub fn watching(&self) -> usize {
        self.0.watchers.len()
    }

    pub fn all_calls(&self) -> usize {
        self.0.calls.lock().unwrap().len()
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.0.entries.lock().unwrap().values().cloned().collect()
    }

    pub fn only_entry(&self) -> Entry {
        let mut entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.remove(0)
    }

    /// Changes the only entry behind everybody's back.
    pub fn meddle(&self, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.0.entries.lock().unwrap();
        assert_eq!(entries.len(), 1);
        change(entries.values_mut().next().unwrap());
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000).plus(self.0.started.elapsed())
    }

    fn next_fence(&self) -> Fence {
        Fence::new(self.0.fence.fetch_add(1, Ordering::SeqCst) as u64)
    }

    async fn act<T>(
        &self,
        operation: Operation,
        act: impl FnOnce() -> T + Send,
    ) -> Result<T, StoreError> {
        self.0.calls.lock().unwrap().push(operation);
        self.0.called.notify_waiters();
        let fault = {
            let mut faults = self.0.faults.lock().unwrap();
            let at = faults.iter().position(|(of, _)| *of == operation);
            at.map(|at| faults.remove(at).1)
        };
        match fault {
            None => Ok(act()),
            Some(Fault::Fails(kind)) => Err(StoreError::new(operation, kind, "ordered")),
            Some(Fault::ReplyLost) => {
                act();
                Err(StoreError::new(
                    operation,
                    StoreErrorKind::Unavailable,
                    "reply lost",
                ))
            }
            Some(Fault::NeverAnswers) => {
                act();
                std::future::pending().await
            }
            Some(Fault::Late(by)) => {
                tokio::time::sleep(by).await;
                Ok(act())
            }
        }
    }
}

impl Store for TestStore {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        let act = || {
            let mut entries = self.0.entries.lock().unwrap();
            let current = entries.get(&attempt.id);
            match Entry::claim(current, attempt, self.now(), || self.next_fence()) {
                ClaimStep::Write(entry) => {
                    let mut lease = entry.lease(attempt.id);
                    lease.effects = self.0.effects;
                    entries.insert(attempt.id, *entry);
                    Claim::Won(lease)
                }
                ClaimStep::Held(record) => Claim::Held(record),
            }
        };
        self.act(Operation::Claim, act).await
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        let act = || {
            let mut entries = self.0.entries.lock().unwrap();
            let renewed = entries
                .get(&lease.id)
                .and_then(|e| e.renew(lease, renewal, self.now()));
            match renewed {
                Some(entry) => {
                    entries.insert(lease.id, entry);
                    Fenced::Applied
                }
                None => Fenced::Superseded,
            }
        };
        self.act(Operation::Renew, act).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let act = || {
            let mut entries = self.0.entries.lock().unwrap();
            let Some(entry) = entries.get(&lease.id) else {
                return Fenced::Superseded;
            };
            match entry.complete(lease, completion, keep, self.now()) {
                CompleteStep::Write(entry) => {
                    entries.insert(lease.id, *entry);
                    drop(entries);
                    self.0.watchers.notify(&lease.id);
                    Fenced::Applied
                }
                CompleteStep::Already => Fenced::Applied,
                CompleteStep::Superseded => Fenced::Superseded,
            }
        };
        self.act(Operation::Complete, act).await
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        let act = || {
            let mut entries = self.0.entries.lock().unwrap();
            let may = entries
                .get(&lease.id)
                .is_some_and(|e| e.may_release(lease, self.now()));
            if !may {
                return Fenced::Superseded;
            }
            entries.remove(&lease.id);
            drop(entries);
            self.0.watchers.notify(&lease.id);
            Fenced::Applied
        };
        self.act(Operation::Release, act).await
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        self.act(Operation::Watch, || self.0.watchers.watch(id))
            .await
    }
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    pub verdict: Verdict,
}

impl Answer {
    pub fn outcome(&self) -> Outcome {
        self.verdict.outcome()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn problem(&self) -> serde_json::Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The last part of the problem's type.
    pub fn problem_kind(&self) -> String {
        let problem = self.problem();
        problem["type"]
            .as_str()
            .unwrap()
            .rsplit('#')
            .next()
            .unwrap()
            .to_owned()
    }
}

pub async fn read<R>(response: Response<ResponseBody<R>>) -> Answer
where
    R: http_body::Body,
    R::Error: Into<onlyonce_core::BoxError>,
{
    let (head, body) = response.into_parts();
    let verdict = head
        .extensions
        .get::<Verdict>()
        .cloned()
        .expect("every response has a verdict");
    let collected = body.collect().await.expect("the body comes to its end");
    let trailers = collected.trailers().cloned();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: collected.to_bytes(),
        trailers,
        verdict,
    }
}

pub type HandlerRequest = Request<RequestBody<Full<Bytes>>>;

/// A layer around a handler, callable with requests.
#[derive(Clone)]
pub struct App {
    call: Arc<dyn Fn(Request<Full<Bytes>>) -> Calling + Send + Sync>,
    executions: Arc<AtomicUsize>,
}

pub type Calling = std::pin::Pin<Box<dyn Future<Output = Response<ResponseBody<TestBody>>> + Send>>;
pub type TestBody = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

pub fn full(body: impl Into<Bytes>) -> TestBody {
    Full::new(body.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

impl App {
    /// `handler` gets the number of the execution, from 1.
    pub fn new<F>(
        layer: &IdempotencyLayer,
        handler: impl Fn(usize, HandlerRequest) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<TestBody>> + Send + 'static,
    {
        let executions = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&executions);
        let service = layer.layer(tower::service_fn(move |request: HandlerRequest| {
            let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
            let response = handler(number, request);
            async move { Ok::<_, Infallible>(response.await) }
        }));
        let service = Arc::new(Mutex::new(service));
        let call = move |request| -> Calling {
            let mut service = service.lock().unwrap().clone();
            Box::pin(async move {
                let response = service.ready().await.unwrap().call(request).await;
                response.unwrap_or_else(|never| match never {})
            })
        };
        Self {
            call: Arc::new(call),
            executions,
        }
    }

    /// Answers `200 n`, where n is the number of the execution.
    pub fn counting(layer: &IdempotencyLayer) -> Self {
        Self::new(layer, |number, _| async move {
            Response::new(full(number.to_string()))
        })
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        read((self.call)(request).await).await
    }

    pub fn start(&self, request: Request<Full<Bytes>>) -> Calling {
        (self.call)(request)
    }

    pub fn executions(&self) -> usize {
        self.executions.load(Ordering::SeqCst)
    }
}

/// `POST /charges` with this key and body.
pub fn post(key: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("/charges")
        .header("idempotency-key", key)
        .body(Full::new(body.into()))
        .unwrap()
}

/// Lets everything else run until `done`, on the paused clock at most for five minutes.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..300_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never came to pass: {what}");
}
