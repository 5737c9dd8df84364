//! The request's body, recorded on its way to whoever reads it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Extensions, Request};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Records what is read of request bodies, for the rows of the access log outside.
///
/// It may stand anywhere inside of [`AccessLogLayer`](super::AccessLogLayer); further out it sees
/// more. Requests that the access log keeps no body of pass untouched, and so do all where there
/// is no access log.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordBodyLayer(());

impl RecordBodyLayer {
    /// The layer.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for RecordBodyLayer {
    type Service = RecordBody<S>;

    fn layer(&self, inner: S) -> RecordBody<S> {
        RecordBody { inner }
    }
}

/// A service whose requests' bodies are recorded. Made by [`RecordBodyLayer`].
#[derive(Clone, Debug)]
pub struct RecordBody<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for RecordBody<S>
where
    S: Service<Request<RecordedBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let recorder = BodyRecorder::of(request.extensions()).cloned();
        self.inner
            .call(request.map(|inner| RecordedBody { inner, recorder }))
    }
}

pin_project! {
    /// A body whose beginning is recorded as it is read.
    pub struct RecordedBody<B> {
        #[pin]
        inner: B,
        recorder: Option<BodyRecorder>,
    }
}

impl<B: Body<Data = Bytes>> Body for RecordedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let Some(recorder) = this.recorder
            && let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            recorder.record(data);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: fmt::Debug> fmt::Debug for RecordedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Where the beginning of a request's body is recorded: in the extensions of a request whose body
/// the access log keeps. Services with bodies of their own can feed it without
/// [`RecordBodyLayer`].
#[derive(Clone)]
pub struct BodyRecorder(Arc<Mutex<Recorded>>);

#[derive(Default)]
pub(super) struct Recorded {
    pub(super) bytes: Vec<u8>,
    pub(super) total: u64,
    most: usize,
}

impl BodyRecorder {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Recorded {
            most,
            ..Recorded::default()
        })))
    }

    /// The request's, where the access log keeps its body.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// Takes the next piece: what is beyond the limit is only counted.
    pub fn record(&self, data: &[u8]) {
        let mut recorded = self.recorded();
        let room = recorded.most - recorded.bytes.len();
        recorded
            .bytes
            .extend_from_slice(&data[..data.len().min(room)]);
        recorded.total = recorded.total.saturating_add(data.len() as u64);
    }

    /// What there is; the recorder is empty afterwards, and takes nothing more.
    pub(super) fn take(&self) -> Recorded {
        std::mem::take(&mut *self.recorded())
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for BodyRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyRecorder")
    }
}
