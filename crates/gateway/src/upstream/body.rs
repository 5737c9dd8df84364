//! Bodies between the proxy and an upstream.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use onlyonce_core::BoxError;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::error::{FailureKind, ForwardError, Sent, kind_of};
use super::pool::Lease;

/// How far the upload has come, for those who wait for the response.
#[derive(Debug)]
pub(crate) struct Progress {
    base: Instant,
    /// Milliseconds from `base` to the last frame.
    last: AtomicU64,
    waits_for_client: AtomicBool,
    ended: AtomicBool,
    error: Mutex<Option<BoxError>>,
}

impl Progress {
    /// When the response's time began to run, as far as is known now; `None` while it stands
    /// still because the client keeps the upload waiting.
    pub(crate) fn last(&self) -> Option<Instant> {
        (!self.waits_for_client.load(Ordering::Acquire))
            .then(|| self.base + Duration::from_millis(self.last.load(Ordering::Acquire)))
    }

    /// Whether the whole body has been taken.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// What the client's body failed with.
    pub(crate) fn take_error(&self) -> Option<BoxError> {
        self.error().take()
    }

    fn error(&self) -> std::sync::MutexGuard<'_, Option<BoxError>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) {
        let millis = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Release);
    }
}

/// A request's body as hyper takes it.
#[derive(Debug)]
pub(crate) struct UploadBody {
    inner: Option<UnsyncBoxBody<Bytes, BoxError>>,
    /// Bytes to come, where that is known: hyper does not ask for the end behind the last.
    left: Option<u64>,
    progress: Arc<Progress>,
}

impl UploadBody {
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let empty = body.is_end_stream();
        Self {
            left: body.size_hint().exact(),
            inner: (!empty).then(|| body.map_err(Into::into).boxed_unsync()),
            progress: Arc::new(Progress {
                base: Instant::now(),
                last: AtomicU64::new(0),
                waits_for_client: AtomicBool::new(false),
                ended: AtomicBool::new(empty),
                error: Mutex::new(None),
            }),
        }
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the client's body failed")]
pub(crate) struct ClientBodyFailed;

impl Body for UploadBody {
    type Data = Bytes;
    type Error = ClientBodyFailed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyFailed>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(&mut *inner).poll_frame(cx);
        let progress = &*this.progress;
        progress
            .waits_for_client
            .store(frame.is_pending(), Ordering::Release);
        let frame = ready!(frame);
        progress.step();
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                this.left = this.left.map(|left| left.saturating_sub(length));
                // Behind trailers nobody asks for more either.
                if inner.is_end_stream() || this.left == Some(0) || frame.is_trailers() {
                    progress.ended.store(true, Ordering::Release);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                // Behind the last byte that was announced, the upstream has a whole request.
                if !progress.has_ended() {
                    *progress.error() = Some(error);
                }
                this.inner = None;
                Some(Err(ClientBodyFailed))
            }
            None => {
                progress.ended.store(true, Ordering::Release);
                this.inner = None;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

pin_project! {
    /// A response's body as it comes from an upstream.
    ///
    /// It ends in an error, never in a clean end, when the upstream cuts it off or is too slow.
    /// At its end the connection goes back to the pool; dropped before, the connection is closed
    /// (HTTP/2: the stream is reset).
    #[derive(Debug)]
    pub struct UpstreamBody {
        #[pin]
        inner: Incoming,
        lease: Option<Lease>,
        upstream: Arc<str>,
        #[pin]
        idle: Option<Sleep>,
        waiting: bool,
        timeout: Duration,
        deadline: Option<Instant>,
        #[pin]
        total: Option<Sleep>,
        failed: bool,
    }
}

impl UpstreamBody {
    pub(crate) fn new(
        inner: Incoming,
        mut lease: Lease,
        upstream: Arc<str>,
        timeout: Duration,
        deadline: Option<Instant>,
    ) -> Self {
        let ended = inner.is_end_stream();
        if ended {
            lease.give_back();
        }
        Self {
            inner,
            lease: (!ended).then_some(lease),
            upstream,
            idle: None,
            waiting: false,
            timeout,
            deadline,
            total: deadline.filter(|_| !ended).map(sleep_until),
            failed: false,
        }
    }
}

impl UpstreamBody {
    pub(crate) fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        let mut this = self.project();
        if *this.failed {
            return Poll::Ready(None);
        }
        let fail = |kind| ForwardError::new(kind, Sent::Maybe, this.upstream);
        let error = match this.inner.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                *this.waiting = false;
                // Behind trailers nobody asks for more.
                if (this.inner.is_end_stream() || frame.is_trailers())
                    && let Some(mut lease) = this.lease.take()
                {
                    lease.give_back();
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(None) => {
                if let Some(mut lease) = this.lease.take() {
                    lease.give_back();
                }
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => fail(kind_of(&error, true)).with_source(error),
            Poll::Pending => {
                if let Some(total) = this.total.as_mut().as_pin_mut()
                    && total.poll(cx).is_ready()
                {
                    fail(FailureKind::TotalTimeout)
                } else {
                    if this.idle.is_none() {
                        this.idle.set(Some(sleep(*this.timeout)));
                    }
                    let Some(mut idle) = this.idle.as_mut().as_pin_mut() else {
                        return Poll::Pending;
                    };
                    if !*this.waiting {
                        idle.as_mut().reset(Instant::now() + *this.timeout);
                        *this.waiting = true;
                    }
                    ready!(idle.poll(cx));
                    fail(FailureKind::IdleTimeout)
                }
            }
        };
        *this.failed = true;
        *this.lease = None;
        Poll::Ready(Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        !self.failed && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
