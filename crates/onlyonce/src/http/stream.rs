//! Where a response goes while it is read: to its record, and to its client.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::time::{Instant, timeout_at};

use super::body::{BodyError, FrameSender};

/// Keeps a response up to its limit.
pub(super) struct Recorder {
    chunks: Vec<Bytes>,
    length: usize,
    trailers: Option<HeaderMap>,
    most: usize,
    over: bool,
    /// The client has seen all but the next frame.
    streams: bool,
}

impl Recorder {
    pub(super) fn new(most: usize) -> Self {
        let (chunks, trailers) = (Vec::new(), None);
        Self {
            chunks,
            length: 0,
            trailers,
            most,
            over: false,
            streams: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn add(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) else {
            return;
        };
        self.length = self.length.saturating_add(data.len());
        self.over |= self.length > self.most;
        if self.over && self.streams {
            self.chunks = Vec::new();
        } else {
            self.chunks.push(data.clone());
        }
    }

    /// What has been read, for a client who has seen nothing of it; from now on the client sees
    /// each frame when it comes.
    pub(super) fn begin_stream(&mut self) -> Vec<Frame<Bytes>> {
        self.streams = true;
        let chunks = self.chunks.clone();
        if self.over {
            self.chunks = Vec::new();
        }
        chunks.into_iter().map(Frame::data).collect()
    }

    /// The whole body, without a copy where it came in one piece.
    pub(super) fn into_body(mut self) -> (Bytes, Option<HeaderMap>) {
        let body = if self.chunks.len() == 1 {
            self.chunks.remove(0)
        } else {
            self.chunks.concat().into()
        };
        (body, self.trailers)
    }
}

/// The client of a stream, who may go away.
pub(super) struct Client {
    frames: Option<FrameSender>,
    /// How long a stream is followed that nobody reads.
    linger: Duration,
    until: Option<Instant>,
}

impl Client {
    pub(super) fn new(frames: FrameSender, linger: Duration) -> Self {
        Self {
            frames: Some(frames),
            linger,
            until: None,
        }
    }

    pub(super) fn gone(&mut self) {
        self.frames = None;
        self.until
            .get_or_insert_with(|| Instant::now() + self.linger);
    }

    /// Hands a frame on. A client that does not read for as long as `linger` counts as gone.
    pub(super) async fn send(&mut self, frame: Result<Frame<Bytes>, BodyError>) {
        let Some(frames) = &self.frames else {
            return;
        };
        match timeout_at(Instant::now() + self.linger, frames.send(frame)).await {
            Ok(true) => {}
            Ok(false) | Err(_) => self.gone(),
        }
    }

    /// Ends the stream as it should.
    pub(super) fn end(self) {
        if let Some(frames) = self.frames {
            frames.end();
        }
    }

    /// Until when the stream is followed.
    pub(super) fn patience(&self) -> Instant {
        // "For ever" in a form that timers take.
        self.until
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(365 * 24 * 3600))
    }

    /// Resolves when the client has gone away; never, once that is known.
    pub(super) async fn closed(&self) {
        match &self.frames {
            Some(frames) => frames.closed().await,
            None => std::future::pending().await,
        }
    }
}
