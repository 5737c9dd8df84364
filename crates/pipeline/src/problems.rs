//! The idempotency layer's refusals, in the envelope.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response};
use onlyonce::{Problem, ProblemKind};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Answers, Asked, Code, PipelineBody, Text};

/// Puts the refusals of an idempotency layer into the form and the language of all other answers;
/// the facts of the problem document stand in `error`.
///
/// Of refusals that its own renderer makes
/// ([`with_renderer`](onlyonce::IdempotencyLayer::with_renderer)), only those that come of
/// [`Problem::to_response`].
///
/// # Order
/// Right outside of the idempotency layer, inside of the context.
/// [`Pipeline`](crate::Pipeline) puts it there where it has an envelope.
///
/// # Example
/// ```
/// use onlyonce::IdempotencyLayer;
/// use onlyonce_memory::MemoryStore;
/// use onlyonce_pipeline::{Answers, ProblemsLayer};
/// use tower::ServiceBuilder;
///
/// let layers = ServiceBuilder::new()
///     .layer(ProblemsLayer::new(Answers::new()))
///     .layer(IdempotencyLayer::new(MemoryStore::new()));
/// # let _ = layers;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ProblemsLayer {
    answers: Answers,
}

impl ProblemsLayer {
    /// Answers as `answers` say.
    pub const fn new(answers: Answers) -> Self {
        Self { answers }
    }
}

impl<S> Layer<S> for ProblemsLayer {
    type Service = Problems<S>;

    fn layer(&self, inner: S) -> Problems<S> {
        Problems {
            inner,
            answers: self.answers.clone(),
        }
    }
}

/// A service whose idempotency layer's refusals are in the envelope. Made by [`ProblemsLayer`].
#[derive(Clone, Debug)]
pub struct Problems<S> {
    inner: S,
    answers: Answers,
}

impl<S, B, R> Service<Request<B>> for Problems<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<PipelineBody<R>>;
    type Error = S::Error;
    type Future = ProblemsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ProblemsFuture {
            asked: self.answers.asked(&request),
            answers: self.answers.clone(),
            inner: self.inner.call(request),
        }
    }
}

pin_project! {
    /// The future of an answer.
    ///
    /// # Cancellation safety
    /// As safe as the inner service's.
    pub struct ProblemsFuture<F> {
        #[pin]
        inner: F,
        answers: Answers,
        asked: Asked,
    }
}

impl<F, R, E> Future for ProblemsFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<PipelineBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        let Some(problem) = response.extensions_mut().remove::<Problem>() else {
            return Poll::Ready(Ok(response.map(PipelineBody::inner)));
        };
        let (mut head, _) = response.into_parts();
        let (said, body) = told(&problem, this.answers, this.asked).into_parts();
        head.status = said.status;
        for stale in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(stale);
        }
        head.headers.extend(said.headers);
        head.extensions.extend(said.extensions);
        Poll::Ready(Ok(Response::from_parts(head, PipelineBody::whole(body))))
    }
}

impl<F> fmt::Debug for ProblemsFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProblemsFuture")
    }
}

fn told(problem: &Problem, answers: &Answers, asked: &Asked) -> Response<bytes::Bytes> {
    let text = Text::both(problem.detail.to_string(), in_chinese(problem.kind));
    let message = text.in_language(asked.language());
    let facts = problem.to_json();
    answers.facts(code(problem.kind), message, problem.status, &facts, asked)
}

const fn code(kind: ProblemKind) -> Code {
    match kind {
        ProblemKind::KeyMissing => Code::MISSING_PARAMETER,
        ProblemKind::KeyInvalid => Code::INVALID_PARAMETER,
        ProblemKind::KeyUnscoped => Code::NOT_AUTHORIZED,
        ProblemKind::KeyReused => Code::BUSINESS_VALIDATION_FAILED,
        ProblemKind::StoreUnavailable | ProblemKind::StoreFull | ProblemKind::TooManyInProgress => {
            Code::SERVER_BUSY
        }
        ProblemKind::BodyTooLarge | ProblemKind::BodyUnreadable => Code::INVALID_REQUEST,
        // In progress, unknown, not kept, and what may come: not possible in the present state.
        _ => Code::INVALID_OPERATION,
    }
}

const fn in_chinese(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::KeyMissing => "此请求需要幂等键",
        ProblemKind::KeyInvalid => "幂等键无效",
        ProblemKind::KeyUnscoped => "匿名调用者不能使用幂等键",
        ProblemKind::KeyReused => "该幂等键已用于另一个请求，新的请求请使用新的键",
        ProblemKind::InProgress => "使用该幂等键的第一个请求仍在处理中，请稍后重试",
        ProblemKind::OutcomeUnknown => {
            "使用该幂等键的先前请求是否已执行尚不明确，该键将保留至确认或过期"
        }
        ProblemKind::ResponseNotKept => {
            "请求已执行，但其响应未被保留；核实之前请勿使用其他键重新发送"
        }
        ProblemKind::StoreUnavailable => "保护此请求的存储不可用，请稍后重试",
        ProblemKind::StoreFull => "存储已满，请稍后重试",
        ProblemKind::TooManyInProgress => "处理中的请求过多，请稍后重试",
        ProblemKind::BodyTooLarge => "请求体过大",
        ProblemKind::BodyUnreadable => "请求体不完整",
        _ => "操作无效",
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::header::ACCEPT_LANGUAGE;
    use http_body_util::{BodyExt as _, Empty, Full};
    use onlyonce::IdempotencyLayer;
    use onlyonce_memory::MemoryStore;
    use tower::{ServiceBuilder, ServiceExt as _, service_fn};

    use super::*;
    use crate::context::ContextLayer;
    use crate::{AnswerNote, ContentKind, StatusMode};

    async fn refused(answers: Answers) -> (http::response::Parts, String) {
        let service = ServiceBuilder::new()
            .layer(ContextLayer::new())
            .layer(ProblemsLayer::new(answers))
            .layer(IdempotencyLayer::new(MemoryStore::new()))
            .service(service_fn(async |_: Request<_>| {
                Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::new())))
            }));
        let request = Request::post("/").header("idempotency-key", "");
        let request = request.header(ACCEPT_LANGUAGE, "zh-CN");
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        let (head, body) = service.oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn refusals_come_in_the_envelope_in_the_clients_language() {
        let answers = Answers::new().with_status_mode(StatusMode::Always200);
        let (head, body) = refused(answers).await;
        assert_eq!(head.status, 200);
        assert_eq!(head.headers["content-type"], "application/json");
        assert!(head.headers.contains_key("link"));
        assert_eq!(
            head.extensions.get::<AnswerNote>().unwrap().code,
            Code::INVALID_PARAMETER
        );
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(document["code"], 53);
        assert_eq!(document["message"], "幂等键无效");
        assert_eq!(document["error"]["status"], 400);
        assert_eq!(document["error"]["instance"], document["traceID"]);
    }

    #[tokio::test]
    async fn a_problem_that_the_handler_tells_is_replayed_as_it_was() {
        let once = IdempotencyLayer::new(MemoryStore::new());
        let keyed = |key: &str| {
            let request = Request::post("/").header("idempotency-key", key);
            request.body(Empty::<bytes::Bytes>::new()).unwrap()
        };
        let inner = once.clone().layer(service_fn(async |_: Request<_>| {
            Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::new())))
        }));
        let refused = inner.oneshot(keyed("")).await.unwrap();
        let problem = refused.extensions().get::<Problem>().unwrap().clone();
        let service = ServiceBuilder::new()
            .layer(ProblemsLayer::new(Answers::new()))
            .layer(once)
            .service(service_fn(move |_: Request<_>| {
                let told = problem.to_response().map(Full::new);
                async { Ok::<_, Infallible>(told) }
            }));
        let mut told = Vec::new();
        for _ in 0..2 {
            let (head, body) = service
                .clone()
                .oneshot(keyed("k"))
                .await
                .unwrap()
                .into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            told.push((
                head.headers.contains_key("idempotent-replayed"),
                head.status,
                body,
            ));
        }
        assert!(!told[0].0 && told[1].0, "{told:?}");
        assert_eq!(told[0].1, told[1].1);
        assert_eq!(told[0].2, told[1].2);
    }

    #[tokio::test]
    async fn refusals_come_in_the_routes_type() {
        let kinds = [
            (ContentKind::Xml, "<doc><code>53</code><error><detail>"),
            (ContentKind::Text, "幂等键无效"),
            (ContentKind::Html, "<!DOCTYPE html>"),
        ];
        for (kind, expected) in kinds {
            let answers = Answers::new().with_kind("/", kind).unwrap();
            let (head, body) = refused(answers).await;
            assert_eq!(head.status, 400);
            assert_eq!(head.headers["content-type"], kind.content_type());
            assert!(body.starts_with(expected), "{body}");
        }
    }
}
