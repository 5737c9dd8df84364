//! A body that was read ahead, and goes on as it came.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A body that passes, or what was read of it and then the rest.
    pub struct AheadBody<R>
    where
        R: Body,
    {
        #[pin]
        kind: Kind<R>,
    }
}

pin_project! {
    #[project = Projected]
    enum Kind<R>
    where
        R: Body,
    {
        Passed { #[pin] body: R },
        Resumed { read: Read<R>, rest: Option<Pin<Box<R>>> },
    }
}

/// What was read of a body, in order.
pub(super) type Read<R> = VecDeque<Result<Frame<Bytes>, <R as Body>::Error>>;

impl<R: Body> AheadBody<R> {
    pub(super) const fn passed(body: R) -> Self {
        Self {
            kind: Kind::Passed { body },
        }
    }

    pub(super) const fn resumed(read: Read<R>, rest: Option<Pin<Box<R>>>) -> Self {
        Self {
            kind: Kind::Resumed { read, rest },
        }
    }
}

impl<R: Body<Data = Bytes>> Body for AheadBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        match self.project().kind.project() {
            Projected::Passed { body } => body.poll_frame(cx),
            Projected::Resumed { read, rest } => match (read.pop_front(), rest) {
                (Some(frame), _) => Poll::Ready(Some(frame)),
                (None, Some(rest)) => rest.as_mut().poll_frame(cx),
                (None, None) => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passed { body } => body.is_end_stream(),
            Kind::Resumed { read, rest } => {
                read.is_empty() && rest.as_ref().is_none_or(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let (read, rest) = match &self.kind {
            Kind::Passed { body } => return body.size_hint(),
            Kind::Resumed { read, rest } => (read, rest),
        };
        let data = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len) as u64;
        let known: u64 = read.iter().flatten().map(data).sum();
        let rest = rest
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(known + rest.lower());
        // What breaks off was to be longer: nobody is to take it for whole.
        if let Some(upper) = rest.upper().filter(|_| read.iter().all(Result::is_ok)) {
            hint.set_upper(known.saturating_add(upper));
        }
        hint
    }
}
