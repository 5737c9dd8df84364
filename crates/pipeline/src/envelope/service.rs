//! The service.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use tower_service::Service;

use super::future::About;
use super::{EnvelopeBody, ResponseFuture};
use crate::Answers;

/// A service whose answers all have one form. Made by [`EnvelopeLayer`](super::EnvelopeLayer).
#[derive(Clone, Debug)]
pub struct EnvelopeService<S> {
    pub(super) inner: S,
    pub(super) answers: Answers,
}

impl<S, B, R> Service<Request<B>> for EnvelopeService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Response = Response<EnvelopeBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let about = About {
            asked: self.answers.asked(&request),
            answers: self.answers.clone(),
            is_head: request.method() == Method::HEAD,
        };
        ResponseFuture::new(self.inner.call(request), about)
    }
}
