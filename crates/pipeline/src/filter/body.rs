//! A request's body that may have been read, and is handed on as it was.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use onlyonce_core::BoxError;
use pin_project_lite::pin_project;

pin_project! {
    /// A request's body behind a layer that looks into it: as it came, or read and given again,
    /// byte for byte, with its trailers.
    pub struct FilterBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = Projected]
    enum Kind<B> {
        Passed { #[pin] body: B },
        Read { data: Option<Bytes>, trailers: Option<HeaderMap> },
    }
}

impl<B> FilterBody<B> {
    #[cfg(feature = "schema")]
    pub(super) const fn passed(body: B) -> Self {
        Self {
            kind: Kind::Passed { body },
        }
    }

    pub(super) fn read(whole: Whole) -> Self {
        Self {
            kind: Kind::Read {
                data: (!whole.data.is_empty()).then_some(whole.data),
                trailers: whole.trailers,
            },
        }
    }
}

/// A body, from its first byte to its last.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) data: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

/// Why a body could not be read to its end.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is longer than it may be.
    TooLarge,
    /// It broke off.
    Broken(BoxError),
}

/// Reads a body of at most `limit` bytes.
///
/// Dropping the future drops the body: nobody else waits for it.
pub(super) async fn read<B>(body: B, limit: usize) -> Result<Whole, Unread>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(Unread::TooLarge);
    }
    let mut body = std::pin::pin!(body);
    let mut data = BytesMut::new();
    let mut only = Bytes::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Unread::Broken(error.into()))?;
        match frame.into_data() {
            Ok(more) => {
                if more.len() > limit - data.len().max(only.len()) {
                    return Err(Unread::TooLarge);
                }
                // A body of one frame is not copied.
                if data.is_empty() && only.is_empty() {
                    only = more;
                } else {
                    data.extend_from_slice(&std::mem::take(&mut only));
                    data.extend_from_slice(&more);
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
        }
    }
    let data = if data.is_empty() { only } else { data.freeze() };
    Ok(Whole { data, trailers })
}

impl<B: Body<Data = Bytes>> Body for FilterBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            Projected::Passed { body } => body.poll_frame(cx),
            Projected::Read { data, trailers } => {
                let frame = data.take().map(Frame::data);
                let frame = frame.or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passed { body } => body.is_end_stream(),
            Kind::Read { data, trailers } => data.is_none() && trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passed { body } => body.size_hint(),
            Kind::Read { data, .. } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
        }
    }
}

impl<B> fmt::Debug for FilterBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Passed { .. } => "FilterBody::passed",
            Kind::Read { .. } => "FilterBody::read",
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::HeaderValue;
    use http_body_util::{Full, StreamBody};

    use super::*;

    type Frames = Vec<Result<Frame<Bytes>, &'static str>>;

    fn body(frames: Frames) -> impl Body<Data = Bytes, Error = &'static str> {
        StreamBody::new(stream::iter(frames))
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, &'static str> {
        Ok(Frame::data(Bytes::from(text)))
    }

    async fn text(frames: Frames, limit: usize) -> Result<String, Unread> {
        let whole = read(body(frames), limit).await?;
        Ok(String::from_utf8(whole.data.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn up_to_the_limit_and_no_further() {
        let frames = || vec![data("ab"), data(""), data("c"), data("de")];
        assert_eq!(text(frames(), 5).await.unwrap(), "abcde");
        for limit in 0..5 {
            let result = text(frames(), limit).await;
            assert!(matches!(result, Err(Unread::TooLarge)), "{limit}");
        }
        assert_eq!(text(vec![], 0).await.unwrap(), "");
        // Announced: refused before anything is read.
        let announced: Full<Bytes> = Full::from("abcdef");
        assert!(matches!(read(announced, 5).await, Err(Unread::TooLarge)));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_body() {
        let result = text(vec![data("ab"), Err("reset")], 9).await;
        let Err(Unread::Broken(error)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(error.to_string(), "reset");
    }

    #[tokio::test]
    async fn it_is_handed_on_as_it_was() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("x"))]);
        let frames = vec![data("ab"), data("c"), Ok(Frame::trailers(trailers.clone()))];
        let whole = read(body(frames), 9).await.unwrap();
        let given: FilterBody<Full<Bytes>> = FilterBody::read(whole);
        assert_eq!(given.size_hint().exact(), Some(3));
        assert!(!given.is_end_stream());
        let collected = given.collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes(), "abc");
        let empty = Whole {
            data: Bytes::new(),
            trailers: None,
        };
        assert!(FilterBody::<Full<Bytes>>::read(empty).is_end_stream());
    }
}
