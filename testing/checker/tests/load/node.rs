//! One engine in its tower layer, around a handler that writes down what it does.

use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use onlyonce::http::RequestBody;
use onlyonce::{Claimed, Engine, IdempotencyLayer, Policy, Scope, Secret, Verdict};
use onlyonce_checker::{Digest, Finish, History, Outcome, Recorder, Refusal, RequestId, Running};
use onlyonce_core::{Clock, RecordId, Store, SystemClock};
use tower::{Layer as _, ServiceExt as _};

/// Whose key it is.
pub(crate) const SCOPE: &str = "x-scope";
/// The request's name in the log.
pub(crate) const REQUEST: &str = "x-request";
/// How long the handler works, in milliseconds.
pub(crate) const WORK: &str = "x-work";
/// The key's first execution fails.
pub(crate) const FAILS: &str = "x-fails";

/// One of several that share a store.
#[derive(Clone)]
pub(crate) struct Node {
    call: Arc<dyn Fn(Request<Full<Bytes>>) -> Calling + Send + Sync>,
    pub(crate) engine: Engine,
}

type Calling = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// What a client gets.
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    pub(crate) status: u16,
    pub(crate) digest: Digest,
    /// When its record goes, by its node's clock.
    pub(crate) expires: Option<SystemTime>,
}

/// What both nodes' handlers work on.
#[derive(Clone)]
pub(crate) struct Handler {
    history: History,
    failed: Arc<Mutex<HashSet<RecordId>>>,
}

pub(crate) fn secret() -> Secret {
    Secret::from_passphrase("the secret of those who share a store")
}

impl Handler {
    pub(crate) fn new(history: &History) -> Self {
        Self {
            history: history.clone(),
            failed: Arc::default(),
        }
    }

    async fn handle(self, request: Request<RequestBody<Full<Bytes>>>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap());
        let number = |name| header(name).map_or(0, |value| value.parse::<usize>().unwrap());
        let claimed: &Claimed = head.extensions.get().unwrap();
        let record = *claimed.id();
        let execution = self.history.started(Running {
            request: RequestId(number(REQUEST)),
            record,
            attempt: claimed.attempt(),
            fence: claimed.fence().get(),
        });
        let work = u64::try_from(number(WORK)).unwrap();
        tokio::time::sleep(Duration::from_millis(work)).await;
        let fails = number(FAILS) == 1 && self.failed.lock().unwrap().insert(record);
        let status = if fails { 500 } else { 201 };
        let said = Bytes::from(format!("{execution:?} of {record}: {body:?}"));
        let finish = Finish {
            status,
            digest: Digest::of(&said),
            kept: !fails,
        };
        self.history.finished(execution, finish);
        let response = Response::builder().status(status);
        response.body(Full::new(said)).unwrap()
    }
}

impl Node {
    /// An engine on `store`, called `name` in the log.
    pub(crate) fn new(store: impl Store, name: &str, handler: &Handler, policy: Policy) -> Self {
        Self::on(SystemClock::new(), store, name, handler, policy)
    }

    /// The same by another clock.
    pub(crate) fn on(
        clock: impl Clock,
        store: impl Store,
        name: &str,
        handler: &Handler,
        policy: Policy,
    ) -> Self {
        let store = Recorder::new(store, &handler.history, name);
        let engine = Engine::builder(store).secret(secret()).clock(clock).build();
        let layer = IdempotencyLayer::from_engine(engine.clone())
            .with_policy(policy)
            .unwrap()
            .with_scope(|head| Some(Scope::custom(head.headers.get(SCOPE)?.as_bytes())));
        let handler = handler.clone();
        let service = layer.layer(tower::service_fn(
            move |request: Request<RequestBody<Full<Bytes>>>| {
                let response = handler.clone().handle(request);
                async move { Ok::<_, Infallible>(response.await) }
            },
        ));
        let service = Mutex::new(service);
        let call = move |request| -> Calling {
            let service = service.lock().unwrap().clone();
            Box::pin(async move {
                let response = service.oneshot(request).await;
                let response = response.unwrap_or_else(|never| match never {});
                let outcome = outcome(response.extensions().get().unwrap());
                let status = response.status().as_u16();
                let expires = response.headers().get("idempotency-expires");
                let expires = expires.map(|value| value.to_str().unwrap());
                let expires = expires.map(|value| httpdate::parse_http_date(value).unwrap());
                let body = response.into_body().collect().await.unwrap().to_bytes();
                let digest = Digest::of(&body);
                Reply {
                    outcome,
                    status,
                    digest,
                    expires,
                }
            })
        };
        Self {
            call: Arc::new(call),
            engine,
        }
    }

    pub(crate) fn send(&self, request: Request<Full<Bytes>>) -> Calling {
        (self.call)(request)
    }
}

fn outcome(verdict: &Verdict) -> Outcome {
    Outcome::Refused(match verdict.outcome() {
        onlyonce::Outcome::Executed => {
            let recorded = verdict.was_recorded();
            return Outcome::Executed { recorded };
        }
        onlyonce::Outcome::Replayed => return Outcome::Replayed,
        onlyonce::Outcome::InProgress => Refusal::InProgress,
        onlyonce::Outcome::Mismatch => Refusal::Mismatch,
        onlyonce::Outcome::Unknown => Refusal::Unknown,
        onlyonce::Outcome::NotKept => Refusal::NotKept,
        onlyonce::Outcome::Rejected => Refusal::Unavailable,
        other => panic!("no request here is {other}"),
    })
}
