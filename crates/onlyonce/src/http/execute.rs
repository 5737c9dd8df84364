//! The execution of a claimed request, detached from its connection.

use std::any::Any;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode, response};
use http_body::{Body, Frame, SizeHint};
use onlyonce_core::{BoxError, Done, Policy};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use super::body::{BodyError, Hashed, Hashing, RequestBody, ResponseBody, channel, poll_inner};
use super::control::Control;
use super::keyed::ExecutionContext;
use super::replay;
use super::stream::{Client, Recorder};
use super::{EffectiveStatus, Problem, ProblemKind};
use crate::engine::{Owner, Settled};
use crate::{Outcome, Verdict, telemetry};

/// What the connection's side gets.
#[expect(clippy::large_enum_variant, reason = "the large one is the common one")]
pub(super) enum Answer<R, E> {
    Response(Response<ResponseBody<R>>),
    Error(E),
    Panic(Box<dyn Any + Send>),
}

/// Why the service has no response.
enum Failure<E> {
    Error(E),
    Panic(Box<dyn Any + Send>),
}

/// A claimed request at work.
pub(super) struct Execution<B> {
    pub(super) keyed: ExecutionContext,
    pub(super) owner: Owner,
    /// How far the body's hash has come, where it is hashed while it streams.
    pub(super) hashed: Option<Hashing<B>>,
}

/// What a service says of its response, by which its claim ends.
#[derive(Clone, Copy)]
struct Word {
    /// What the response means; it may be sent with another status.
    status: StatusCode,
    control: Option<Control>,
}

impl Word {
    fn take<R>(response: &mut Response<R>) -> Self {
        let control = Control::take(response);
        // What is recorded must be what the client gets: a handler's own answer is nobody's
        // refusal, now or when it is replayed.
        if control.is_none() {
            response.extensions_mut().remove::<Problem>();
        }
        let effective = response.extensions_mut().remove::<EffectiveStatus>();
        Self {
            status: effective.map_or(response.status(), |EffectiveStatus(status)| status),
            control,
        }
    }
}

/// How a claim is to end.
enum Ending {
    Keep {
        done: Done,
        lifetime: Duration,
    },
    Release,
    Unknown,
    /// Held, whatever the policy says of unknown outcomes.
    Hold,
    /// What was done is taken back: it went with a record that is not to be.
    Undo,
}

impl<B> Execution<B>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Runs the service to its end and settles the claim, whether anybody listens or not.
    pub(super) async fn run<S, R>(
        self,
        mut inner: S,
        request: Request<RequestBody<B>>,
        answer: oneshot::Sender<Answer<R, S::Error>>,
    ) where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        R: Body,
        R::Error: Into<BoxError>,
    {
        // `call` itself may panic, not only its future.
        let call = AssertUnwindSafe(async move { inner.call(request).await });
        match call.catch_unwind().await {
            Ok(Ok(response)) => self.respond(response, answer).await,
            Ok(Err(error)) => self.fail(Failure::Error(error), answer).await,
            Err(panic) => self.fail(Failure::Panic(panic), answer).await,
        }
    }

    async fn respond<R, E>(
        mut self,
        mut response: Response<R>,
        answer: oneshot::Sender<Answer<R, E>>,
    ) where
        R: Body,
        R::Error: Into<BoxError>,
    {
        let word = Word::take(&mut response);
        let (head, body) = response.into_parts();
        let most = self.keyed.policy.max_response_body;
        let is_stream = is_event_stream(&head.headers) || body.size_hint().lower() > most as u64;
        let hint = body.size_hint();
        // In an option, to be dropped as soon as it has ended: it may hold the request's body.
        let mut body = pin!(Some(body));
        let mut recorder = Recorder::new(most);
        if is_stream {
            return self.stream(head, word, body, recorder, hint, answer).await;
        }
        let read = loop {
            match next_frame(body.as_mut()).await {
                None => break Ok(()),
                Some(Ok(frame)) => {
                    recorder.add(&frame);
                    if recorder.is_over() {
                        return self.stream(head, word, body, recorder, hint, answer).await;
                    }
                }
                Some(Err(error)) => break Err(error),
            }
        };
        body.set(None);
        let (data, trailers) = recorder.into_body();
        let hashed = self.finish_hash().await;
        match read {
            Ok(()) => {
                let keep = |policy: &Policy| {
                    let result = replay::encode(
                        head.status,
                        &head.headers,
                        data.clone(),
                        trailers.as_ref(),
                        policy,
                    );
                    Done::Kept {
                        status: head.status.as_u16(),
                        result,
                    }
                };
                let ending = self.ending(word, hashed, keep);
                let settled = self.settle(ending).await;
                let response = if hashed == Hash::TooLong {
                    settled.too_large()
                } else {
                    let body = ResponseBody::whole(data.clone(), trailers.clone());
                    settled.answer(Response::from_parts(head, body))
                };
                let _ = answer.send(Answer::Response(response));
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "response cut short"
                );
                let ending = self.broken(word, hashed);
                let settled = self.settle(ending).await;
                let response = settled.instead().unwrap_or_else(|| {
                    let mut problem = replay::unknown(&settled.keyed.policy);
                    problem.status = StatusCode::BAD_GATEWAY;
                    settled.refuse(problem)
                });
                let _ = answer.send(Answer::Response(response));
            }
        }
    }

    /// A long response, or an event stream: the client gets it as it comes, the record follows
    /// at its end.
    async fn stream<R, E>(
        mut self,
        head: response::Parts,
        word: Word,
        mut body: Pin<&mut Option<R>>,
        mut recorder: Recorder,
        hint: SizeHint,
        answer: oneshot::Sender<Answer<R, E>>,
    ) where
        R: Body,
        R::Error: Into<BoxError>,
    {
        let (frames, channel) = channel(hint);
        let mut client = Client::new(frames, self.keyed.policy.abandoned_stream_timeout);
        let mut shown = Response::new(ResponseBody::channel(channel));
        *shown.status_mut() = head.status;
        *shown.version_mut() = head.version;
        *shown.headers_mut() = head.headers.clone();
        *shown.extensions_mut() = head.extensions;
        let verdict = Verdict {
            attempt: Some(self.owner.lease().attempt),
            ..Verdict::new(Outcome::Executed)
        };
        self.keyed.about().mark(&mut shown, verdict);
        if answer.send(Answer::Response(shown)).is_err() {
            client.gone();
        }
        for frame in recorder.begin_stream() {
            client.send(Ok(frame)).await;
        }

        let ended = loop {
            let next = timeout_at(client.patience(), next_frame(body.as_mut()));
            let frame = tokio::select! {
                frame = next => frame,
                () = client.closed() => {
                    client.gone();
                    continue;
                }
            };
            let Ok(frame) = frame else {
                // Nobody listens any more, and it does not end by itself.
                break None;
            };
            match frame {
                None => break Some(Ok(())),
                Some(Ok(frame)) => {
                    recorder.add(&frame);
                    client.send(Ok(frame)).await;
                    // A stream that always has more to give would never let the timer speak.
                    if Instant::now() >= client.patience() {
                        break None;
                    }
                }
                Some(Err(error)) => break Some(Err(error)),
            }
        };
        body.set(None);
        let status = head.status;
        let hashed = self.finish_hash().await;
        let ending = match &ended {
            Some(Ok(())) => self.ending(word, hashed, |policy| {
                if recorder.is_over() {
                    Done::NotKept {
                        status: status.as_u16(),
                    }
                } else {
                    let (data, trailers) = recorder.into_body();
                    let result =
                        replay::encode(status, &head.headers, data, trailers.as_ref(), policy);
                    Done::Kept {
                        status: status.as_u16(),
                        result,
                    }
                }
            }),
            Some(Err(error)) => {
                tracing::error!(error = error as &dyn std::error::Error, "stream cut short");
                self.broken(word, hashed)
            }
            None => {
                tracing::warn!("stream abandoned by its client");
                self.ending(word, hashed, |_| Done::NotKept {
                    status: status.as_u16(),
                })
            }
        };
        // The client sees the end of the stream only when the record is there.
        let settled = self.settle(ending).await;
        match ended {
            // Cut short: what it tells of has no effect.
            Some(Ok(())) if settled.is_uncommitted() => {}
            Some(Ok(())) => client.end(),
            Some(Err(error)) => client.send(Err(error)).await,
            // It shows as cut short: the sender is dropped without a word.
            None => {}
        }
    }

    /// A service that failed counts as a 500.
    async fn fail<R, E>(mut self, failure: Failure<E>, answer: oneshot::Sender<Answer<R, E>>) {
        let hashed = self.finish_hash().await;
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let counts = self.keyed.policy.store_service_errors;
        let ending = if counts {
            let word = Word {
                status,
                control: None,
            };
            self.ending(word, hashed, |policy| {
                let result = replay::encode(status, &HeaderMap::new(), Bytes::new(), None, policy);
                Done::Kept {
                    status: status.as_u16(),
                    result,
                }
            })
        } else {
            Ending::Release
        };
        let settled = self.settle(ending).await;
        let _ = match settled.instead() {
            Some(response) => answer.send(Answer::Response(response)),
            None => {
                telemetry::request(Outcome::Executed, &settled.keyed.route.0);
                answer.send(match failure {
                    Failure::Error(error) => Answer::Error(error),
                    Failure::Panic(panic) => Answer::Panic(panic),
                })
            }
        };
    }

    /// How a claim ends whose service has given its word.
    fn ending(&self, word: Word, hashed: Hash, keep: impl FnOnce(&Policy) -> Done) -> Ending {
        let Word { status, control } = word;
        let policy = &self.keyed.policy;
        let lifetime = match control {
            // The service's own word wins, whatever became of the request's body.
            Some(Control::NoStore | Control::NotExecuted) => return Ending::Release,
            Some(Control::Hold) => return Ending::Hold,
            Some(Control::Ambiguous) => return Ending::Unknown,
            Some(Control::Failed) if !policy.store_service_errors => return Ending::Release,
            Some(Control::Lifetime(lifetime)) => Some(lifetime),
            Some(Control::Failed) | None => None,
        };
        if hashed != Hash::Known {
            return self.unseen(status);
        }
        if let Some(lifetime) = lifetime {
            return Ending::Keep {
                done: keep(policy),
                lifetime,
            };
        }
        if policy.store.contains(status.as_u16()) {
            Ending::Keep {
                done: keep(policy),
                lifetime: policy.lifetime,
            }
        } else if status.as_u16() < 400 && self.owner.binds_effects() {
            // Not stored means not done, which must not be told as a success.
            Ending::Undo
        } else {
            Ending::Release
        }
    }

    /// How a claim ends whose response broke off behind its head.
    fn broken(&self, word: Word, hashed: Hash) -> Ending {
        match (word.control, hashed) {
            (None | Some(Control::Lifetime(_) | Control::Failed), Hash::Known) => Ending::Unknown,
            (None | Some(Control::Lifetime(_) | Control::Failed), _) => self.unseen(word.status),
            (Some(_), _) => self.ending(word, hashed, |_| Done::Unknown),
        }
    }

    /// How a claim ends whose request nobody has seen whole: there is no fingerprint to record
    /// a response under.
    fn unseen(&self, status: StatusCode) -> Ending {
        let refused = status.is_client_error();
        let failed = status.is_server_error() && !self.keyed.policy.store.contains(status.as_u16());
        if refused || failed {
            Ending::Release
        } else {
            // It says that it succeeded, or failed in a way that counts as final.
            Ending::Unknown
        }
    }

    /// How far the request's hash has come; what the handler left unread is read now, for a
    /// record without a whole fingerprint could not tell a retry from another request.
    async fn finish_hash(&mut self) -> Hash {
        let Some(hashed) = self.hashed.take() else {
            return Hash::Known;
        };
        let patience = self.keyed.policy.abandoned_stream_timeout;
        match hashed.finish(patience).await {
            Hashed::Done(fingerprint) => {
                self.owner.learner()(fingerprint);
                Hash::Known
            }
            Hashed::TooLong => Hash::TooLong,
            Hashed::Stalled => {
                tracing::warn!("answered, but the request's body was never read to its end");
                Hash::Cut
            }
            Hashed::Cut | Hashed::Rest(_) => Hash::Cut,
        }
    }

    async fn settle(self, ending: Ending) -> SettledExecution {
        let Self { keyed, owner, .. } = self;
        let attempt = owner.lease().attempt;
        let held = keyed.policy.lifetime;
        let (settled, kept_for) = match ending {
            Ending::Keep { done, lifetime } => {
                (owner.complete(done, lifetime).await, Some(lifetime))
            }
            Ending::Release => (owner.release().await, None),
            Ending::Unknown => (owner.unknown().await, None),
            Ending::Hold => (owner.complete(Done::Unknown, held).await, Some(held)),
            Ending::Undo => {
                let why = "the policy does not store this success";
                (owner.undo(why).await, None)
            }
        };
        SettledExecution {
            keyed,
            settled,
            attempt,
            kept_for,
        }
    }
}

/// A claim that has ended, and what its client is to be told.
struct SettledExecution {
    keyed: ExecutionContext,
    settled: Settled,
    attempt: u32,
    kept_for: Option<Duration>,
}

impl SettledExecution {
    /// The service's response, unless another owner's record has the word.
    fn answer<R>(&self, mut response: Response<ResponseBody<R>>) -> Response<ResponseBody<R>> {
        if let Some(other) = self.instead() {
            return other;
        }
        let recorded = matches!(self.settled, Settled::Recorded);
        let verdict = Verdict {
            recorded,
            attempt: Some(self.attempt),
            expires_in: self.kept_for.filter(|_| recorded),
            ..Verdict::new(Outcome::Executed)
        };
        self.keyed.about().mark(&mut response, verdict);
        if matches!(self.settled, Settled::Unrecorded) {
            replay::mark_unrecorded(&mut response);
        }
        response
    }

    /// What the client gets instead of the service's response: when another owner took over in
    /// the meantime, or when what the service did was not committed.
    fn instead<R>(&self) -> Option<Response<ResponseBody<R>>> {
        match &self.settled {
            Settled::Superseded(Some((decision, record))) if decision.is_final() => {
                Some(replay::held(*decision, record, &self.keyed.about()))
            }
            Settled::Superseded(_) => Some(self.refuse(replay::unknown(&self.keyed.policy))),
            Settled::Uncommitted(_) => Some(self.refuse(replay::uncommitted(&self.keyed.policy))),
            Settled::Recorded | Settled::Released | Settled::Unknown | Settled::Unrecorded => None,
        }
    }

    fn is_uncommitted(&self) -> bool {
        matches!(self.settled, Settled::Uncommitted(_))
    }

    fn too_large<R>(&self) -> Response<ResponseBody<R>> {
        let policy = &self.keyed.policy;
        let most = policy.max_request_body;
        let detail = format!("the request's body is longer than {most} bytes");
        self.refuse(Problem::new(ProblemKind::BodyTooLarge, policy, detail))
    }

    fn refuse<R>(&self, problem: Problem) -> Response<ResponseBody<R>> {
        self.keyed.about().refuse(problem, None)
    }
}

/// How far the hash of a request's body has come when its response is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    /// All of it, or all that counts.
    Known,
    /// The client broke off, or nobody has read it to its end.
    Cut,
    /// It was longer than allowed.
    TooLong,
}

/// # Cancellation safety
/// Dropping it loses no frame.
///
/// A body that is always ready still lets others run: it is not the runtime that makes it wait.
async fn next_frame<R>(mut body: Pin<&mut Option<R>>) -> Option<Result<Frame<Bytes>, BodyError>>
where
    R: Body,
    R::Error: Into<BoxError>,
{
    tokio::task::consume_budget().await;
    let next = poll_fn(|cx| match body.as_mut().as_pin_mut() {
        Some(body) => poll_inner(body, cx),
        None => Poll::Ready(None),
    });
    // A body that panics has broken off: the claim must be settled all the same.
    let next = AssertUnwindSafe(next).catch_unwind().await;
    next.unwrap_or_else(|_| Some(Err(BodyError::panicked())))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/event-stream"))
}
