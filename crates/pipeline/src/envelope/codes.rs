//! Codes in the answers of a service that makes its envelopes itself.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use onlyonce::{Claimed, EffectiveStatus};
use serde::Deserialize;
use serde_json::Value;
use tower_layer::Layer;
use tower_service::Service;

use super::AheadBody;
use crate::{AnswerNote, Code, ContentKind};

/// Reads the code in the answers of a service that makes its envelopes itself, such as a HotGo
/// application behind a gateway, so that the idempotency layer judges by what they mean and not
/// by the 200 that they are sent with.
///
/// Answers in JSON up to a limit are looked into; they pass on unchanged. All others pass
/// untouched, and so does, without a key, what comes in pieces of no known length: nobody is to
/// wait for its end.
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
    R::Error: Send,
{
    type Response = Response<AheadBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The idempotency layer reads it as far before it lets anything go.
        let is_held = request.extensions().get::<Claimed>().is_some();
        let (limit, answer) = (self.limit, self.inner.call(request));
        Box::pin(async move {
            let response = answer.await?;
            let length = response.body().size_hint();
            let short = match length.exact() {
                Some(length) => (1..=limit).contains(&length),
                None => is_held && length.lower() <= limit,
            };
            Ok(if short && is_plain_json(&response) {
                read(response, limit).await
            } else {
                response.map(AheadBody::passed)
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
    /// Of whatever type: what it says changes nothing of what the code means.
    #[serde(default)]
    message: Value,
}

async fn read<R: Body<Data = Bytes>>(response: Response<R>, limit: u64) -> Response<AheadBody<R>> {
    let (mut head, body) = response.into_parts();
    let mut body = Box::pin(body);
    let mut data = BytesMut::new();
    // Trailers, or an error: they follow what was read.
    let (last, rest) = loop {
        match body.frame().await {
            None => break (None, None),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(part) => {
                    data.extend_from_slice(&part);
                    if data.len() as u64 > limit {
                        break (None, Some(body));
                    }
                }
                Err(frame) => break (Some(Ok(frame)), Some(body)),
            },
            Some(Err(error)) => break (Some(Err(error)), None),
        }
    };
    let is_whole = match &last {
        None => rest.is_none(),
        Some(last) => last.is_ok(),
    };
    if is_whole
        // An array would pass for a struct.
        && data.trim_ascii_start().starts_with(b"{")
        && let Ok(Envelope { code, message }) = serde_json::from_slice(&data)
    {
        if code != Code::OK && head.status.is_success() {
            head.extensions.insert(EffectiveStatus(code.status()));
        }
        head.extensions.insert(AnswerNote {
            code,
            message: message.as_str().unwrap_or_default().into(),
            error: None,
        });
    }
    let data = (!data.is_empty()).then(|| Ok(Frame::data(data.freeze())));
    let read = data.into_iter().chain(last).collect();
    Response::from_parts(head, AheadBody::resumed(read, rest))
}
