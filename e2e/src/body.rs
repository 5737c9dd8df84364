//! Bodies of requests and responses.

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Any body.
pub type AnyBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// A body of known length.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// So many zeroes, made on the fly, without a length that is known before.
#[must_use]
pub fn zeroes(length: u64) -> AnyBody {
    const PIECE: &[u8] = &[0; 64 * 1024];
    let pieces = stream::unfold(length, |left| async move {
        let now = left.min(PIECE.len() as u64);
        let piece = Bytes::from_static(&PIECE[..usize::try_from(now).ok()?]);
        (now > 0).then(|| (Ok::<_, std::io::Error>(Frame::data(piece)), left - now))
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Reads a body to its end without keeping it; returns its length.
///
/// # Errors
/// When it breaks off.
pub async fn counted<B>(mut body: B) -> Result<u64, B::Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(length)
}
