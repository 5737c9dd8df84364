//! A response as it is kept.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

/// A whole HTTP response: what is recorded once and replayed ever after.
///
/// Header fields keep their order and their repeats, values keep every byte. The HTTP version is
/// not part of it: a response recorded over one version is replayed over any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredResponse {
    /// The status code, 100 to 999.
    pub status: u16,
    /// Header fields in the order in which they were sent.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body's bytes, as they went over the wire (a content coding is left as it is).
    pub body: Bytes,
    /// Trailer fields, in order.
    pub trailers: Vec<(HeaderName, HeaderValue)>,
}
