//! A long request body: hashed while the handler reads it, in constant memory.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use onlyonce_core::{BoxError, Fingerprint};
use tokio::sync::oneshot;
use tokio::time::timeout;

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
    /// Nobody has read of it for long: the client sends nothing, or somebody holds the body
    /// without reading it.
    Stalled,
    /// It is longer than allowed.
    TooLong,
}

/// A body that is partly read, and the hash so far. Boxed, for a hasher takes two kilobytes.
pub(crate) struct Rest<B> {
    hasher: BodyHasher,
    /// Where the body does not count.
    settled: Option<Fingerprint>,
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

    /// The fingerprint, where it is known without the rest: the body does not count.
    pub(crate) const fn settled(&self) -> Option<Fingerprint> {
        self.settled
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
            settled: hasher.settled(),
            hasher,
            chunks,
            body,
            length,
            most,
        })
    }

    /// Reads on to the end, throwing the bytes away; not at all where they do not count.
    ///
    /// # Cancellation safety
    /// Dropping it closes the body where it is.
    pub(crate) async fn finish(mut self: Box<Self>) -> Hashed<B> {
        loop {
            if let Some(ended) = self.skip_chunk().await {
                return ended;
            }
        }
    }

    /// As [`finish`](Self::finish), giving up when nothing comes for as long as `patience`.
    async fn finish_within(mut self: Box<Self>, patience: Duration) -> Hashed<B> {
        loop {
            match timeout(patience, self.skip_chunk()).await {
                Ok(Some(ended)) => return ended,
                Ok(None) => {}
                Err(_) => return Hashed::Stalled,
            }
        }
    }

    /// Hashes the next chunk and throws it away; says how it ended, when it has.
    async fn skip_chunk(&mut self) -> Option<Hashed<B>> {
        if let Some(fingerprint) = self.settled {
            return Some(Hashed::Done(fingerprint));
        }
        // A body that is always ready still lets others run.
        tokio::task::consume_budget().await;
        match poll_fn(|cx| self.poll_chunk(cx)).await {
            None => Some(Hashed::Done(self.hasher.finish())),
            Some(Ok(_)) => None,
            Some(Err(error)) if error.is_too_long() => Some(Hashed::TooLong),
            Some(Err(_)) => Some(Hashed::Cut),
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

/// Where a [`HashingBody`] reports.
pub(crate) struct Hashing<B> {
    reported: oneshot::Receiver<Hashed<B>>,
    /// Chunks that were read, so that a slow reader can be told from one that has stopped.
    read: Arc<AtomicU64>,
}

impl<B> Hashing<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// How the body ended; what the handler left unread is read here.
    ///
    /// Gives up when nothing is read for as long as `patience`: the handler may have put the
    /// body where nobody reads or drops it, and the client may have stopped sending.
    pub(crate) async fn finish(mut self, patience: Duration) -> Hashed<B> {
        let mut seen = self.read.load(Ordering::Relaxed);
        loop {
            match timeout(patience, &mut self.reported).await {
                Ok(Ok(Hashed::Rest(rest))) => return rest.finish_within(patience).await,
                Ok(Ok(hashed)) => return hashed,
                // The body reports when it is dropped, at the latest.
                Ok(Err(_)) => return Hashed::Cut,
                Err(_) => {
                    let read = self.read.load(Ordering::Relaxed);
                    if read == seen {
                        return Hashed::Stalled;
                    }
                    seen = read;
                }
            }
        }
    }
}

/// The body that the handler reads. At its end, or when the handler drops it, it reports how
/// far the hash has come.
pub(crate) struct HashingBody<B> {
    rest: Option<Box<Rest<B>>>,
    report: Option<oneshot::Sender<Hashed<B>>>,
    read: Arc<AtomicU64>,
    learned: Box<dyn Fn(Fingerprint) + Send + Sync>,
}

impl<B> HashingBody<B> {
    /// A body that reports to the other end, and calls `learned` as soon as the fingerprint is
    /// known.
    pub(crate) fn new(
        rest: Box<Rest<B>>,
        learned: impl Fn(Fingerprint) + Send + Sync + 'static,
    ) -> (Self, Hashing<B>) {
        let (report, reported) = oneshot::channel();
        let read = Arc::new(AtomicU64::new(0));
        let body = Self {
            rest: Some(rest),
            report: Some(report),
            read: Arc::clone(&read),
            learned: Box::new(learned),
        };
        (body, Hashing { reported, read })
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
        let this = &mut *self;
        let Some(rest) = &mut this.rest else {
            return Poll::Ready(None);
        };
        let frame = ready!(rest.poll_chunk(cx));
        this.read.fetch_add(1, Ordering::Relaxed);
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
