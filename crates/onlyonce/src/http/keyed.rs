//! A keyed request, from its head to its answer.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use onlyonce_core::{
    BoxError, Decision, Fingerprint, Key, OnStoreFailure, Policy, Record, RecordId, Scope,
    StoreError, StoreErrorKind, decide,
};
use tokio::sync::oneshot;
use tower_service::Service;
use tracing::Instrument as _;

use super::body::{
    Hashed, Hashing, HashingBody, Prefix, RequestBody, ResponseBody, Rest, read_prefix,
};
use super::control::Control;
use super::execute::{Answer, Execution};
use super::fingerprint::{BodyHasher, Target, of_whole, target};
use super::layer::Shared;
use super::replay::{self, About};
use super::{Problem, ProblemKind, RouteLabel, TraceId, extract};
use crate::engine::{Admission, Admittance, Owner};
use crate::{Claimed, Outcome, Verdict, telemetry};

/// Characters of the path that an operator sees in listings.
const LONGEST_LABEL: usize = 200;

/// What is read of a request's body before its claim.
enum Ahead<B> {
    Whole {
        data: Bytes,
        trailers: Option<HeaderMap>,
        fingerprint: Fingerprint,
    },
    Longer(Box<Rest<B>>),
}

impl<B> Ahead<B> {
    fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Self::Whole { fingerprint, .. } => Some(*fingerprint),
            Self::Longer(rest) => rest.settled(),
        }
    }

    /// A body for the handler, without protection.
    fn into_plain(self) -> RequestBody<B> {
        match self {
            Self::Whole { data, trailers, .. } => RequestBody::read(data, trailers),
            Self::Longer(rest) => {
                let (chunks, rest): (VecDeque<Bytes>, Pin<Box<B>>) = rest.into_parts();
                RequestBody::resumed(chunks, rest)
            }
        }
    }
}

/// The request, as far as it is known before its claim.
struct Keyed {
    shared: Arc<Shared>,
    policy: Arc<Policy>,
    key: Key,
    scope: Scope,
    id: RecordId,
    parts: Parts,
    trace: Option<TraceId>,
    route: RouteLabel,
}

pub(super) async fn handle<S, B, R>(
    shared: Arc<Shared>,
    mut inner: S,
    request: Request<B>,
    policy: Arc<Policy>,
    key: Key,
) -> Result<Response<ResponseBody<R>>, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Into<BoxError>,
{
    let (mut parts, body) = request.into_parts();
    if let Some(uri) = shared.target.as_ref().and_then(|target| target(&parts)) {
        parts.extensions.insert(Target(uri));
    }
    let trace = parts.extensions.get::<TraceId>().cloned();
    let route = parts.extensions.get::<RouteLabel>().cloned();
    let named = shared.scope.as_ref().and_then(|scope| scope(&parts));
    let scope = match named.map_or_else(
        || extract::scope(&parts, &policy, shared.engine.secret()),
        Ok,
    ) {
        Ok(scope) => scope,
        Err((kind, detail)) => {
            let problem = Problem::new(kind, &policy, detail).traced(trace.as_ref());
            telemetry::request(
                problem.outcome(),
                route.as_ref().map_or("-", |route| &route.0),
            );
            return Ok(replay::refusal(&problem, &shared, &policy));
        }
    };
    let id = RecordId::new(shared.engine.secret(), &scope, &key);
    if parts
        .extensions
        .get()
        .is_some_and(|outer: &Claimed| outer.id == id)
    {
        // A layer outside has claimed this very record for this very request: to refuse it as
        // in progress would make that refusal its final answer. What the service says to the
        // outer layer is left as it is.
        let request = Request::from_parts(parts, RequestBody::passed(body));
        let mut response = inner.call(request).await?;
        let verdict = Verdict::new(Outcome::Bypassed);
        response.extensions_mut().insert(verdict);
        return Ok(response.map(ResponseBody::passed));
    }
    let shown = if policy.reveal_keys {
        key.as_str().into()
    } else {
        id.tag()
    };
    let span = tracing::info_span!(
        "idempotency",
        key = shown,
        outcome = tracing::field::Empty,
        attempt = tracing::field::Empty,
    );
    let route = route.unwrap_or_else(|| RouteLabel::new("-"));
    let keyed = Keyed {
        shared,
        policy,
        key,
        scope,
        id,
        parts,
        trace,
        route,
    };
    keyed.answer(inner, body).instrument(span).await
}

impl Keyed {
    async fn answer<S, B, R>(
        mut self,
        mut inner: S,
        body: B,
    ) -> Result<Response<ResponseBody<R>>, S::Error>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Send + 'static,
        S::Future: Send,
        S::Error: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
        R: Body + Send + 'static,
        R::Data: Send,
        R::Error: Into<BoxError>,
    {
        if extract::is_upgrade(&self.parts) {
            let detail = "an upgrade can't carry an idempotency key: it has no response to record";
            return Ok(self.refuse(ProblemKind::KeyInvalid, detail, None));
        }
        let most = self.policy.max_request_body;
        if body.size_hint().lower() > most {
            return Ok(self.too_large());
        }
        let place = match self.place() {
            Ok(place) => place,
            Err(detail) => return Ok(self.refuse(ProblemKind::TooManyInProgress, detail, None)),
        };

        // A hang-up while the body is read ends the request here: nothing has happened yet.
        let ahead = match read_prefix(body, self.policy.buffer).await {
            Ok(Prefix::Whole { data, trailers }) => {
                let fingerprint = of_whole(&self.parts, &data, &self.policy.fingerprint);
                Ahead::Whole {
                    data,
                    trailers,
                    fingerprint,
                }
            }
            // The limit may be passed by what was read ahead alone.
            Ok(Prefix::Longer { chunks, .. })
                if chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>() > most =>
            {
                return Ok(self.too_large());
            }
            Ok(Prefix::Longer { chunks, rest }) => {
                let hasher = BodyHasher::new(&self.parts, &self.policy.fingerprint);
                Ahead::Longer(Rest::new(hasher, chunks, rest, most))
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "body unreadable");
                if error.is_beyond_a_limit() {
                    let detail = "the request's body is longer than allowed here";
                    return Ok(self.refuse(ProblemKind::BodyTooLarge, detail, None));
                }
                let detail = "the request's body broke off or is malformed; nothing was executed";
                return Ok(self.refuse(ProblemKind::BodyUnreadable, detail, None));
            }
        };

        let admittance = Admittance {
            engine: &self.shared.engine,
            policy: &self.policy,
            id: self.id,
            fingerprint: ahead.fingerprint(),
            label: self.label(),
        };
        match admittance.ask().await {
            Admission::Won(owner, entered) => {
                // From here on no await stands between the claim and the task that owns it.
                let (request, hashed) = self.request(&owner, ahead);
                let (send, receive) = oneshot::channel();
                let engine = self.shared.engine.clone();
                let execution = Execution {
                    keyed: ExecutionContext {
                        shared: self.shared,
                        policy: self.policy,
                        id: self.id,
                        trace: self.trace,
                        route: self.route,
                        _place: place,
                    },
                    owner,
                    hashed,
                };
                let task = execution.run(inner, request, send);
                engine.spawn(task.instrument(tracing::Span::current()));
                drop(entered);
                settle_answer(receive).await
            }
            Admission::Held(decision, record) => Ok(self.held(decision, &record, ahead).await),
            Admission::Closing => {
                let detail = "this server is shutting down; retry on another or later";
                Ok(self.refuse(ProblemKind::StoreUnavailable, detail, None))
            }
            Admission::Failed(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "claim failed");
                if error.kind() == StoreErrorKind::Full {
                    let detail = "the store is full of live records; retry later";
                    return Ok(self.refuse(ProblemKind::StoreFull, detail, None));
                }
                match self.policy.on_store_failure {
                    OnStoreFailure::Reject => Ok(self.store_failed(&error)),
                    OnStoreFailure::Bypass => {
                        telemetry::unprotected();
                        tracing::warn!("executing without protection");
                        let parts =
                            std::mem::replace(&mut self.parts, Request::new(()).into_parts().0);
                        let request = Request::from_parts(parts, ahead.into_plain());
                        let mut response = inner.call(request).await?;
                        let _ = Control::take(&mut response);
                        self.about()
                            .mark(&mut response, Verdict::new(Outcome::Bypassed));
                        Ok(response.map(ResponseBody::passed))
                    }
                }
            }
        }
    }

    /// What a request gets that does not own its key. A long one is hashed to its end first,
    /// where the answer depends on it.
    async fn held<B, R>(
        &self,
        decision: Decision,
        record: &Record,
        ahead: Ahead<B>,
    ) -> Response<ResponseBody<R>>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let rest = match ahead {
            Ahead::Longer(rest) if record.fingerprint.is_some() && rest.settled().is_none() => rest,
            Ahead::Longer(_) | Ahead::Whole { .. } => {
                return replay::held(decision, record, &self.about());
            }
        };
        match rest.finish().await {
            Hashed::Done(fingerprint) => {
                let on_unknown = self.policy.on_unknown;
                let decision = decide(Some(record), Some(&fingerprint), on_unknown);
                replay::held(decision, record, &self.about())
            }
            Hashed::TooLong => self.too_large(),
            Hashed::Cut | Hashed::Stalled | Hashed::Rest(_) => {
                let detail = "the request's body broke off; nothing was executed";
                self.refuse(ProblemKind::BodyUnreadable, detail, None)
            }
        }
    }

    /// The request as the handler gets it.
    fn request<B>(
        &mut self,
        owner: &Owner,
        ahead: Ahead<B>,
    ) -> (Request<RequestBody<B>>, Option<Hashing<B>>)
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let mut parts = std::mem::replace(&mut self.parts, Request::new(()).into_parts().0);
        let lease = owner.lease();
        parts.extensions.insert(Claimed {
            id: self.id,
            scope: self.scope.clone(),
            key: self.key.clone(),
            fence: lease.fence,
            attempt: lease.attempt,
        });
        match ahead {
            Ahead::Whole { data, trailers, .. } => (
                Request::from_parts(parts, RequestBody::read(data, trailers)),
                None,
            ),
            Ahead::Longer(rest) => {
                let (body, hashed) = HashingBody::new(rest, owner.learner());
                (
                    Request::from_parts(parts, RequestBody::hashing(body)),
                    Some(hashed),
                )
            }
        }
    }

    /// A place among the caller's requests at work, where they are limited.
    fn place(&self) -> Result<Option<crate::engine::Place>, String> {
        let Some(most) = self.policy.max_in_progress else {
            return Ok(None);
        };
        let place = self.shared.engine.place(&self.scope, most);
        place
            .map(Some)
            .ok_or_else(|| format!("{most} keyed requests of this caller are at work already"))
    }

    fn store_failed<R>(&self, error: &StoreError) -> Response<ResponseBody<R>> {
        let detail = match error.kind() {
            StoreErrorKind::Timeout => "the store does not answer in time; nothing was executed",
            _ => "the store that protects this request fails; nothing was executed",
        };
        let mut problem = Problem::new(ProblemKind::StoreUnavailable, &self.policy, detail);
        // Whole seconds, rounded up: a retry that comes too early is refused again.
        problem.retry_after = error.retry_after().or(problem.retry_after);
        self.about().refuse(problem, None)
    }

    fn too_large<R>(&self) -> Response<ResponseBody<R>> {
        let most = self.policy.max_request_body;
        let detail = format!("the request's body is longer than {most} bytes");
        self.refuse(ProblemKind::BodyTooLarge, detail, None)
    }

    fn refuse<R>(
        &self,
        kind: ProblemKind,
        detail: impl Into<Box<str>>,
        record: Option<&Record>,
    ) -> Response<ResponseBody<R>> {
        self.about()
            .refuse(Problem::new(kind, &self.policy, detail), record)
    }

    fn about(&self) -> About<'_> {
        About {
            shared: &self.shared,
            policy: &self.policy,
            id: &self.id,
            trace: self.trace.as_ref(),
            route: &self.route.0,
        }
    }

    /// Method and path, for operators; the query is left out, it may hold secrets.
    fn label(&self) -> Box<str> {
        let path: String = target(&self.parts)
            .path()
            .chars()
            .take(LONGEST_LABEL)
            .collect();
        format!("{} {path}", self.parts.method).into()
    }
}

/// What an execution needs of its request after the handler has got it.
pub(super) struct ExecutionContext {
    pub(super) shared: Arc<Shared>,
    pub(super) policy: Arc<Policy>,
    pub(super) id: RecordId,
    pub(super) trace: Option<TraceId>,
    pub(super) route: RouteLabel,
    pub(super) _place: Option<crate::engine::Place>,
}

impl ExecutionContext {
    pub(super) fn about(&self) -> About<'_> {
        About {
            shared: &self.shared,
            policy: &self.policy,
            id: &self.id,
            trace: self.trace.as_ref(),
            route: &self.route.0,
        }
    }
}

/// Waits for the detached execution's answer; dropping this changes nothing for it.
async fn settle_answer<R, E>(
    receive: oneshot::Receiver<Answer<R, E>>,
) -> Result<Response<ResponseBody<R>>, E> {
    match receive.await {
        Ok(Answer::Response(response)) => Ok(response),
        Ok(Answer::Error(error)) => Err(error),
        Ok(Answer::Panic(panic)) => resume_unwind(panic),
        // The task was aborted with its runtime: nobody is left to answer.
        Err(_) => resume_unwind(Box::new("the runtime was shut down") as Box<dyn Any + Send>),
    }
}
