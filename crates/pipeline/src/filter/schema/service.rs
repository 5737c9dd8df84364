//! The service.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use onlyonce_core::BoxError;
use tower_service::Service;

use super::layer::Rules;
use super::{ResponseFuture, RouteSchema, Schema};
use crate::filter::body::{self, FilterBody};
use crate::filter::json::{self, Media};
use crate::filter::refusal;
use crate::{Code, PipelineBody, Refusal, Text};

/// A service that gets only bodies that fit a schema. Made by
/// [`SchemaLayer`](super::SchemaLayer).
#[derive(Clone)]
pub struct SchemaService<S> {
    pub(super) inner: S,
    pub(super) rules: Arc<Rules>,
}

impl<S, B, R> Service<Request<B>> for SchemaService<S>
where
    S: Service<Request<FilterBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
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
        let own = request.extensions().get::<RouteSchema>();
        let schema = match own {
            None => self.rules.schema.as_ref(),
            Some(RouteSchema(own)) => own.as_ref(),
        };
        let Some(schema) = schema.filter(|_| is_due(&request)).cloned() else {
            let request = request.map(FilterBody::passed);
            return ResponseFuture::passed(self.inner.call(request));
        };
        // The clone takes the place of the service that was made ready.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let rules = Arc::clone(&self.rules);
        let asked = rules.answers.asked(&request);
        ResponseFuture::boxed(async move {
            match checked(request, &schema, rules.max_body).await {
                Ok(request) => Ok(inner.call(request).await?.map(PipelineBody::inner)),
                Err(refusal) => {
                    let answer = rules.answers.refuse_asked(&refusal, &asked);
                    Ok(answer.map(PipelineBody::whole))
                }
            }
        })
    }
}

/// Whether there is, or should be, a body.
fn is_due<B: Body>(request: &Request<B>) -> bool {
    let sends = [Method::POST, Method::PUT, Method::PATCH];
    sends.contains(request.method()) || !request.body().is_end_stream()
}

async fn checked<B>(
    request: Request<B>,
    schema: &Schema,
    max_body: usize,
) -> Result<Request<FilterBody<B>>, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if Media::of(request.headers()) != Media::Json {
        return Err(Refusal::new(Code::INVALID_REQUEST)
            .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            .with_text(Text::both(
                "The body must be JSON, in UTF-8 and not compressed (Content-Type: application/json)",
                "请求体必须是未压缩的UTF-8 JSON（Content-Type: application/json）",
            )));
    }
    let (head, body) = request.into_parts();
    let whole = body::read(body, max_body)
        .await
        .map_err(|why| refusal::unread(&why, max_body))?;
    let value = json::from_slice(&whole.data).map_err(|error| {
        Refusal::new(Code::INVALID_REQUEST).with_text(refusal::not_json(&error))
    })?;
    schema.check(&value)?;
    Ok(Request::from_parts(head, FilterBody::read(whole)))
}

impl<S: fmt::Debug> fmt::Debug for SchemaService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
