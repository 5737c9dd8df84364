//! A long request body: hashed while the handler reads it, in constant memory.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use onlyonce_core::{BoxError, Fingerprint};
use tokio::sync::oneshot;

use super::BodyError;
use super::request::{plus, poll_inner};
use crate::http::fingerprint::BodyHasher;

/// What became of the hashing of a body.
pub(crate) enum Hashed<B> {
    /// It was read to its end.
    Done(Fingerprint),
    /// The handler left the rest unread.
    Rest(Box<Rest<B>>),
    /// It broke off: the client hung up, or sent something that is no body.
    Cut,
    /// It is longer than allowed.
    TooLong,
}

/// A body that is partly read, and the hash so far. Boxed, for a hasher takes two kilobytes.
pub(crate) struct Rest<B> {
    hasher: BodyHasher,
    /// Read ahead, hashed, not handed on yet.
    chunks: VecDeque<Bytes>,
    body: Pin<Box<B>>,
    length: u64,
    most: u64,
}

impl<B> Rest<B> {
    /// Into a body for the handler, unhashed: for a request that goes on without protection.
    pub(crate) fn into_parts(self: Box<Self>) -> (VecDeque<Bytes>, Pin<Box<B>>) {
        (self.chunks, self.body)
    }
}

impl<B> Rest<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    pub(crate) fn new(
        mut hasher: BodyHasher,
        chunks: VecDeque<Bytes>,
        body: Pin<Box<B>>,
        most: u64,
    ) -> Box<Self> {
        chunks.iter().for_each(|chunk| hasher.update(chunk));
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Box::new(Self {
            hasher,
            chunks,
            body,
            length,
            most,
        })
    }

    /// Reads on to the end, throwing the bytes away.
    ///
    /// # Cancellation safety
    /// Dropping it closes the body where it is.
    pub(crate) async fn finish(mut self: Box<Self>) -> Hashed<B> {
        loop {
            match poll_fn(|cx| self.poll_chunk(cx)).await {
                None => return Hashed::Done(self.hasher.finish()),
                Some(Ok(_)) => {}
                Some(Err(error)) if error.is_too_long() => return Hashed::TooLong,
                Some(Err(_)) => return Hashed::Cut,
            }
        }
    }

    fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        let frame = ready!(poll_inner(self.body.as_mut(), cx));
        if let Some(data) = frame
            .as_ref()
            .and_then(|f| f.as_ref().ok())
            .and_then(Frame::data_ref)
        {
            self.length = self.length.saturating_add(data.len() as u64);
            if self.length > self.most {
                return Poll::Ready(Some(Err(BodyError::too_long(self.most))));
            }
            self.hasher.update(data);
        }
        Poll::Ready(frame)
    }
}

/// The body that the handler reads. At its end, or when the handler drops it, it reports how
/// far the hash has come.
pub(crate) struct HashingBody<B> {
    rest: Option<Box<Rest<B>>>,
    report: Option<oneshot::Sender<Hashed<B>>>,
    learned: Box<dyn Fn(Fingerprint) + Send + Sync>,
}

impl<B> HashingBody<B> {
    /// A body that reports to the receiver, and calls `learned` as soon as the fingerprint is
    /// known.
    pub(crate) fn new(
        rest: Box<Rest<B>>,
        learned: impl Fn(Fingerprint) + Send + Sync + 'static,
    ) -> (Self, oneshot::Receiver<Hashed<B>>) {
        let (report, reported) = oneshot::channel();
        let body = Self {
            rest: Some(rest),
            report: Some(report),
            learned: Box::new(learned),
        };
        (body, reported)
    }

    fn report(&mut self, hashed: Hashed<B>) {
        if let Hashed::Done(fingerprint) = &hashed {
            (self.learned)(*fingerprint);
        }
        if let Some(report) = self.report.take() {
            // Nobody listens when the engine has given up on the request.
            let _ = report.send(hashed);
        }
    }
}

impl<B> Body for HashingBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let frame = ready!(rest.poll_chunk(cx));
        let ended = match &frame {
            None => Some(Hashed::Done(rest.hasher.finish())),
            Some(Err(error)) if error.is_too_long() => Some(Hashed::TooLong),
            Some(Err(_)) => Some(Hashed::Cut),
            Some(Ok(_)) => None,
        };
        if let Some(ended) = ended {
            self.rest = None;
            self.report(ended);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // Not the inner body's word: the end must be seen by `poll_frame`, which reports it.
        self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            None => SizeHint::with_exact(0),
            Some(rest) => {
                let ahead = rest.chunks.iter().map(|chunk| chunk.len() as u64).sum();
                plus(rest.body.size_hint(), ahead)
            }
        }
    }
}

impl<B> Drop for HashingBody<B> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.report(Hashed::Rest(rest));
        }
    }
}

impl<B> fmt::Debug for HashingBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashingBody")
            .field("ended", &self.rest.is_none())
            .finish_non_exhaustive()
    }
}
