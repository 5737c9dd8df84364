//! Codes in the answers of a service that makes its envelopes itself.

use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use onlyonce::EffectiveStatus;
use serde::Deserialize;
use tower_layer::Layer;
use tower_service::Service;

use crate::{AnswerNote, Code, ContentKind, PipelineBody};

/// Reads the code in the answers of a service that makes its envelopes itself, such as a HotGo
/// application behind a gateway, so that the idempotency layer judges by what they mean and not
/// by the 200 that they are sent with.
///
/// Answers in JSON of a known length up to a limit are looked into; they pass on unchanged. All
/// others pass untouched.
///
/// # Order
/// Inside of the idempotency layer.
///
/// # Example
/// ```
/// use onlyonce_pipeline::envelope::ReadCodesLayer;
///
/// let layer = ReadCodesLayer::new().with_limit(16 * 1024);
/// # let _: ReadCodesLayer = layer;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ReadCodesLayer {
    limit: u64,
}

impl ReadCodesLayer {
    /// Looks into answers of up to 64 KiB.
    pub const fn new() -> Self {
        Self { limit: 64 * 1024 }
    }

    /// Looks into answers of up to `bytes`.
    pub const fn with_limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }
}

impl Default for ReadCodesLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ReadCodesLayer {
    type Service = ReadCodes<S>;

    fn layer(&self, inner: S) -> ReadCodes<S> {
        ReadCodes {
            inner,
            limit: self.limit,
        }
    }
}

/// A service whose codes are read. Made by [`ReadCodesLayer`].
#[derive(Clone, Copy, Debug)]
pub struct ReadCodes<S> {
    inner: S,
    limit: u64,
}

impl<S, B, R> Service<Request<B>> for ReadCodes<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<ReadBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (limit, answer) = (self.limit, self.inner.call(request));
        Box::pin(async move {
            let response = answer.await?;
            let length = response.body().size_hint().exact();
            let short = length.is_some_and(|length| (1..=limit).contains(&length));
            Ok(if short && is_plain_json(&response) {
                read(response).await
            } else {
                response.map(|body| ReadBody::new(PipelineBody::inner(body), None))
            })
        })
    }
}

fn is_plain_json<R>(response: &Response<R>) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    content_type.and_then(ContentKind::of) == Some(ContentKind::Json)
        && !response.headers().contains_key(CONTENT_ENCODING)
}

#[derive(Deserialize)]
struct Envelope {
    code: Code,
    #[serde(default)]
    message: String,
}

async fn read<R: Body<Data = Bytes>>(response: Response<R>) -> Response<ReadBody<R>> {
    let (mut head, body) = response.into_parts();
    let mut data = Vec::new();
    let mut body = pin!(body);
    let ended = loop {
        match body.frame().await {
            None => break None,
            // Trailers, or an error: they follow what was read.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(part) => data.extend_from_slice(&part),
                Err(frame) => break Some(Ok(frame)),
            },
            Some(Err(error)) => break Some(Err(error)),
        }
    };
    if !matches!(ended, Some(Err(_)))
        // An array would pass for a struct.
        && data.trim_ascii_start().starts_with(b"{")
        && let Ok(Envelope { code, message }) = serde_json::from_slice(&data)
    {
        if code != Code::OK && head.status.is_success() {
            head.extensions.insert(EffectiveStatus(code.status()));
        }
        head.extensions.insert(AnswerNote {
            code,
            message: message.into(),
            error: None,
        });
    }
    Response::from_parts(head, ReadBody::new(PipelineBody::whole(data), ended))
}

pin_project_lite::pin_project! {
    /// A body that was read, or passes; and how it ended.
    pub struct ReadBody<R: Body> {
        #[pin]
        data: PipelineBody<R>,
        ended: Option<Result<http_body::Frame<Bytes>, R::Error>>,
    }
}

impl<R: Body> ReadBody<R> {
    const fn new(
        data: PipelineBody<R>,
        ended: Option<Result<http_body::Frame<Bytes>, R::Error>>,
    ) -> Self {
        Self { data, ended }
    }
}

impl<R: Body<Data = Bytes>> Body for ReadBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, R::Error>>> {
        let this = self.project();
        match std::task::ready!(this.data.poll_frame(cx)) {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Poll::Ready(this.ended.take()),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended.is_none() && self.data.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.data.size_hint()
    }
}
