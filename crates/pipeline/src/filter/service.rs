//! The service of the layer form.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use garde::Validate;
use http::{Request, Response};
use http_body::Body;
use onlyonce::{Control, EffectiveStatus};
use onlyonce_core::BoxError;
use serde::de::DeserializeOwned;
use tower_service::Service;

use super::body::{self, FilterBody};
use super::extract::{Filter, filtered, validated};
use super::future::ResponseFuture;
use super::refusal;
use super::rejection::FilterRejection;
use crate::{Answers, Asked, PipelineBody, StatusMode};

/// A service that gets its input as a `T`. Made by [`FilterLayer`](super::FilterLayer).
pub struct FilterService<S, T> {
    pub(super) inner: S,
    pub(super) answers: Answers,
    pub(super) max_body: usize,
    pub(super) filtered: PhantomData<fn() -> T>,
}

impl<S, T, B, R> Service<Request<B>> for FilterService<S, T>
where
    S: Service<Request<FilterBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    T: DeserializeOwned + Validate<Context: Default> + Filter<()> + Send + Sync + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Send + 'static,
{
    type Response = Response<PipelineBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone takes the place of the service that was made ready.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let (answers, max_body) = (self.answers.clone(), self.max_body);
        let asked = answers.asked(&request);
        ResponseFuture::boxed(async move {
            let (mut parts, body) = request.into_parts();
            let whole = match body::read(body, max_body).await {
                Ok(whole) => whole,
                Err(why) => {
                    let refusal = refusal::unread(&why, max_body);
                    let answer = answers.refuse_asked(&refusal, &asked);
                    return Ok(answer.map(PipelineBody::whole));
                }
            };
            let value: Result<T, FilterRejection> = async {
                let mut value: T = validated(&mut parts, &whole.data).await?;
                filtered(&mut value, &parts, &()).await?;
                Ok(value)
            }
            .await;
            match value {
                Err(rejection) => Ok(answer(rejection, &answers, &asked)),
                Ok(value) => {
                    parts.extensions.insert(Arc::new(value));
                    let request = Request::from_parts(parts, FilterBody::read(whole));
                    Ok(inner.call(request).await?.map(PipelineBody::inner))
                }
            }
        })
    }
}

fn answer<R>(
    rejection: FilterRejection,
    answers: &Answers,
    asked: &Asked,
) -> Response<PipelineBody<R>> {
    let (error, status) = rejection.into_parts();
    let mut response = answers.error(&Arc::new(error), asked, None);
    if let Some(status) = status {
        match answers.status_mode() {
            StatusMode::Mapped => *response.status_mut() = status,
            StatusMode::Always200 => {
                response.extensions_mut().insert(EffectiveStatus(status));
            }
        }
    }
    response.extensions_mut().insert(Control::NotExecuted);
    response.map(PipelineBody::whole)
}

impl<S: Clone, T> Clone for FilterService<S, T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            answers: self.answers.clone(),
            max_body: self.max_body,
            filtered: PhantomData,
        }
    }
}

impl<S: fmt::Debug, T> fmt::Debug for FilterService<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
