//! Why a request's framing was refused.

/// A fault in a request's framing, after which nothing on the connection can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A line that ends in LF alone.
    #[error("a line ends in a bare LF")]
    BareLf,
    /// NUL, a bare CR or another control character.
    #[error("a control character in the head, a chunk line or a trailer")]
    ControlCharacter,
    /// Not `METHOD SP target SP HTTP/1.0` or `HTTP/1.1`.
    #[error("the request line is malformed")]
    RequestLine,
    /// A field line without colon, with an empty name, or a name that is no token (white space
    /// before the colon, for one).
    #[error("a field name is malformed")]
    FieldName,
    /// A field continued on the next line.
    #[error("a field is folded over two lines")]
    ObsFold,
    /// More fields than allowed.
    #[error("too many fields")]
    TooManyFields,
    /// A head or trailer section longer than allowed.
    #[error("the head or the trailer section is too long")]
    HeadTooLarge,
    /// Not a plain decimal number, or too large for one.
    #[error("the content-length is not a number")]
    ContentLength,
    /// More than one, even when they agree.
    #[error("more than one content-length")]
    DuplicateContentLength,
    /// Content-Length and Transfer-Encoding together.
    #[error("content-length and transfer-encoding together")]
    LengthAndEncoding,
    /// Anything but a single `chunked`.
    #[error("a transfer-encoding other than `chunked`")]
    TransferEncoding,
    /// HTTP/1.0 knows no transfer codings.
    #[error("a transfer-encoding on HTTP/1.0")]
    EncodingOnHttp10,
    /// HTTP/1.1 without Host.
    #[error("no host field")]
    MissingHost,
    /// More than one Host.
    #[error("more than one host field")]
    DuplicateHost,
    /// A Host that is no `host[:port]`.
    #[error("the host field is malformed")]
    Host,
    /// A chunk size that is not plain hexadecimal, or too large.
    #[error("a chunk size is malformed")]
    ChunkSize,
    /// Chunk extensions without end.
    #[error("the chunk extensions are malformed or too long")]
    ChunkExtension,
    /// A chunk longer than its size says.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
}

impl Violation {
    /// Whether the fault is one of size, to be answered with 431 instead of 400.
    #[must_use]
    pub const fn is_too_large(self) -> bool {
        matches!(self, Self::HeadTooLarge | Self::TooManyFields)
    }
}
