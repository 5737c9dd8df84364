//! The answer's body: when it ends, the request is over.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Ending;
use super::pending::Pending;

pin_project! {
    /// The answer's body. Its request is logged when it ends, fails or is dropped.
    pub struct LoggedBody<B>
    where
        B: Body,
    {
        #[pin]
        inner: B,
        pending: Option<Pending>,
        // Bytes until all is sent, where that is known: a server that has sent them does not ask
        // for the end.
        left: Option<u64>,
    }

    impl<B: Body> PinnedDrop for LoggedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let sent = *this.left == Some(0) || this.inner.is_end_stream();
            if let Some(pending) = this.pending
                && sent
            {
                pending.end(Ending::Complete);
            }
        }
    }
}

impl<B: Body> LoggedBody<B> {
    /// `bodyless`: the server sends nothing of it, and may not even look at it.
    pub(super) fn new(inner: B, pending: Option<Pending>, bodyless: bool) -> Self {
        let left = if bodyless {
            Some(0)
        } else {
            inner.size_hint().exact()
        };
        Self {
            inner,
            pending,
            left,
        }
    }
}

impl<B: Body> Body for LoggedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        let ending = match &frame {
            None => Some(Ending::Complete),
            Some(Err(_)) => Some(Ending::Failed),
            Some(Ok(frame)) => {
                if let (Some(left), Some(data)) = (this.left.as_mut(), frame.data_ref()) {
                    *left = left.saturating_sub(data.remaining() as u64);
                }
                if frame.is_trailers() {
                    *this.left = Some(0);
                }
                None
            }
        };
        if let Some(ending) = ending
            && let Some(mut pending) = this.pending.take()
        {
            pending.end(ending);
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

impl<B: Body> fmt::Debug for LoggedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoggedBody")
    }
}
