//! The future of an answer in its envelope.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, LAST_MODIFIED, TRANSFER_ENCODING,
};
use http::{HeaderName, Response, StatusCode, response};
use http_body::{Body, Frame};
use onlyonce::EffectiveStatus;
use pin_project_lite::pin_project;

use super::{AheadBody, EnvelopeBody, Typed};
use crate::{Answers, Asked, Code, ContentKind, Error, Refusal, StatusMode, Text};

pin_project! {
    /// The future of an answer in its envelope.
    ///
    /// # Cancellation safety
    /// As safe as the inner service's: dropping it drops that one, or its answer.
    pub struct ResponseFuture<F, R> {
        #[pin]
        inner: F,
        about: About,
        // An answer that may turn out to have no body.
        unsure: Option<(response::Parts, Pin<Box<R>>)>,
    }
}

impl<F, R> ResponseFuture<F, R> {
    pub(super) const fn new(inner: F, about: About) -> Self {
        Self {
            inner,
            about,
            unsure: None,
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<EnvelopeBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.unsure.is_none() {
            let (head, body) = ready!(this.inner.poll(cx))?.into_parts();
            if !this.about.is_unsure(&head, &body) {
                let has_body = has_body(&body);
                let body = AheadBody::passed(body);
                return Poll::Ready(Ok(this.about.enveloped(head, body, has_body)));
            }
            *this.unsure = Some((head, Box::pin(body)));
        }
        let frame = match this.unsure {
            Some((_, body)) => ready!(first_frame(body.as_mut(), cx)),
            None => None,
        };
        let (head, body) = this.unsure.take().expect("it was put there above");
        let has_body = frame.is_some();
        let rest = !matches!(frame, None | Some(Err(_)));
        let body = AheadBody::resumed(frame.into_iter().collect(), rest.then_some(body));
        Poll::Ready(Ok(this.about.enveloped(head, body, has_body)))
    }
}

/// The first frame that says something.
fn first_frame<R: Body<Data = Bytes>>(
    mut body: Pin<&mut R>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
    loop {
        let frame = ready!(body.as_mut().poll_frame(cx));
        let is_empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
        match &frame {
            Some(Ok(frame)) if is_empty(frame) => {}
            _ => return Poll::Ready(frame),
        }
    }
}

/// How the answer is to be put.
pub(super) struct About {
    pub(super) asked: Asked,
    pub(super) answers: Answers,
    pub(super) is_head: bool,
}

/// Fields that speak of the bytes that there were: none.
const OF_NO_BODY: [HeaderName; 8] = [
    ETAG,
    LAST_MODIFIED,
    CONTENT_RANGE,
    ACCEPT_RANGES,
    CONTENT_LANGUAGE,
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

impl About {
    /// Whether only its end tells that a body is none: in chunks, a server may announce one and
    /// send nothing.
    fn is_unsure<R: Body>(&self, head: &response::Parts, body: &R) -> bool {
        let pages = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
        pages.contains(&head.status)
            && !self.is_head
            && head.extensions.get::<Typed>().is_none()
            && has_body(body)
            && body.size_hint().lower() == 0
    }

    fn enveloped<R: Body<Data = Bytes>>(
        &self,
        mut head: response::Parts,
        body: AheadBody<R>,
        has_body: bool,
    ) -> Response<EnvelopeBody<R>> {
        let content_type = head.headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let own_kind = content_type.and_then(ContentKind::of);
        let answer = match head.extensions.remove::<Typed>() {
            Some(typed) => Some(self.typed(&typed, own_kind, head.status)),
            None if self.is_head || has_body => None,
            None => self.bodyless(&head, own_kind).inspect(|_| {
                for stale in OF_NO_BODY {
                    head.headers.remove(stale);
                }
            }),
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
        for stale in [CONTENT_LENGTH, TRANSFER_ENCODING, CONTENT_ENCODING] {
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
    fn bodyless(
        &self,
        head: &response::Parts,
        kind: Option<ContentKind>,
    ) -> Option<Response<Bytes>> {
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
        let kind = kind.unwrap_or(self.asked.kind());
        Some(self.answers.told(&refusal, &self.asked, kind))
    }

    /// An error without a code is the business's everyday; any other is worth its stack.
    fn log(&self, error: &Arc<Error>) {
        let language = self.asked.language();
        let (code, trace_id) = (error.code(), self.asked.trace_id());
        // As text and under a name of its own, which loggers escape: clients may have put line
        // breaks into it.
        let told = error.message(language);
        if code == Code::NONE {
            let chain = format!("{error:?}");
            tracing::info!(
                trace_id,
                code = code.number(),
                told,
                chain,
                "request failed"
            );
        } else {
            let stack = error.lines(language).join("\n");
            tracing::error!(
                trace_id,
                code = code.number(),
                told,
                stack,
                "request failed"
            );
        }
    }
}

fn has_body<R: Body>(body: &R) -> bool {
    !body.is_end_stream() && body.size_hint().exact() != Some(0)
}
