//! The future of an answer in its envelope.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{Response, StatusCode, response};
use http_body::Body;
use onlyonce::EffectiveStatus;
use pin_project_lite::pin_project;

use super::{EnvelopeBody, Typed};
use crate::{Answers, Asked, Code, ContentKind, Error, Refusal, StatusMode, Text};

pin_project! {
    /// The future of an answer in its envelope.
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        about: About,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(inner: F, about: About) -> Self {
        Self { inner, about }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<EnvelopeBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        Poll::Ready(Ok(this.about.enveloped(response)))
    }
}

/// How the answer is to be put.
pub(super) struct About {
    pub(super) asked: Asked,
    pub(super) answers: Answers,
    pub(super) is_head: bool,
}

impl About {
    fn enveloped<R: Body<Data = Bytes>>(&self, response: Response<R>) -> Response<EnvelopeBody<R>> {
        let (mut head, body) = response.into_parts();
        let content_type = head.headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let own_kind = content_type.and_then(ContentKind::of);
        let answer = match head.extensions.remove::<Typed>() {
            Some(typed) => Some(self.typed(&typed, own_kind, head.status)),
            None if self.is_head || has_body(&body) => None,
            None => self.bodyless(&head),
        };
        let Some(answer) = answer else {
            let body = if own_kind == Some(ContentKind::EventStream) {
                EnvelopeBody::stream(body, &self.asked)
            } else {
                EnvelopeBody::inner(body)
            };
            return Response::from_parts(head, body);
        };
        let (said, body) = answer.into_parts();
        head.status = said.status;
        for stale in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(stale);
        }
        head.headers.extend(said.headers);
        head.extensions.extend(said.extensions);
        Response::from_parts(head, EnvelopeBody::whole(body))
    }

    fn typed(
        &self,
        typed: &Typed,
        kind: Option<ContentKind>,
        meant: StatusCode,
    ) -> Response<Bytes> {
        let (answers, asked) = (&self.answers, &self.asked);
        let mut answer = match typed {
            Typed::Error(error) => {
                self.log(error);
                answers.error(error, asked, kind)
            }
            Typed::Result { data, message } => {
                let message = message
                    .as_ref()
                    .map(|text| text.in_language(asked.language()));
                answers.result(Some(data), message, asked, kind)
            }
        };
        // The handler may have chosen a status of its own.
        match answers.status_mode() {
            StatusMode::Mapped => *answer.status_mut() = meant,
            StatusMode::Always200 => {
                answer.extensions_mut().insert(EffectiveStatus(meant));
            }
        }
        answer
    }

    /// What stands for a response without a body, if anything does.
    fn bodyless(&self, head: &response::Parts) -> Option<Response<Bytes>> {
        let refusal = match head.status {
            StatusCode::OK if !head.headers.contains_key(CONTENT_TYPE) => {
                return Some(self.answers.result(None, None, &self.asked, None));
            }
            StatusCode::FORBIDDEN => Refusal::new(Code::SECURITY_REASON).with_text(Text::both(
                "403 - This page is not shown to you",
                "403 - 网站拒绝显示此网页",
            )),
            StatusCode::NOT_FOUND => Refusal::new(Code::NOT_FOUND).with_text(Text::both(
                "404 - You have come to a place where nothing is",
                "404 - 你似乎来到了没有知识存在的荒原…",
            )),
            _ => return None,
        };
        Some(self.answers.refuse_asked(&refusal, &self.asked))
    }

    /// An error without a code is the business's everyday; any other is worth its stack.
    fn log(&self, error: &Arc<Error>) {
        let language = self.asked.language();
        let (code, trace_id) = (error.code(), self.asked.trace_id());
        let message = error.message(language);
        if code == Code::NONE {
            let chain = format_args!("{error:?}");
            tracing::info!(trace_id, code = code.number(), message, %chain, "request failed");
        } else {
            let stack = error.lines(language).join("\n");
            tracing::error!(
                trace_id,
                code = code.number(),
                message,
                stack,
                "request failed"
            );
        }
    }
}

fn has_body<R: Body>(body: &R) -> bool {
    !body.is_end_stream() && body.size_hint().exact() != Some(0)
}
