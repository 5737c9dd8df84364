//! A TCP connection that knows how much went over it.

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection's socket, shared by hyper, which reads and writes it, and the pool, which asks.
///
/// Only one task may read it and one write it.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    read: AtomicU64,
    written: AtomicU64,
    /// What had been written when the exchange began.
    begun: AtomicU64,
    deaf: AtomicBool,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            deaf: AtomicBool::new(false),
        }
    }

    /// A request is about to be sent.
    pub(crate) fn begin(&self) {
        self.begun.store(self.written(), Ordering::Release);
    }

    /// Whether anything of the request has been handed to the kernel.
    pub(crate) fn has_sent(&self) -> bool {
        self.written() != self.begun.load(Ordering::Acquire)
    }

    /// Whether the peer has stopped listening in the middle of a request.
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Acquire)
    }

    /// Bytes read so far.
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Acquire)
    }

    /// Bytes handed to the kernel so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Whether the peer has sent nothing, not even its end: asks the kernel, for the runtime may
    /// not have heard of it yet.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        matches!(
            SockRef::from(&self.stream).peek(&mut byte),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock
        )
    }
}

/// The reading and writing half of a [`Wire`].
#[derive(Debug)]
pub(crate) struct WireIo(pub(crate) Arc<Wire>);

impl AsyncRead for WireIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            match self.0.stream.try_read_buf(buf) {
                // Nobody can tell a peer's end from a reset that the write has already reported.
                Ok(0) if self.0.is_deaf() && buf.remaining() > 0 => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Ok(length) => {
                    self.0.read.fetch_add(length as u64, Ordering::Release);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl WireIo {
    /// Writes, `length` bytes if it can.
    ///
    /// A server may answer and close before it has read the whole request. The write then fails,
    /// while its answer still lies in the socket: what is left to write is thrown away, so that
    /// the reader, who decides, gets to it. If there is none, the read fails, too.
    fn poll_with(
        &self,
        cx: &mut Context<'_>,
        length: usize,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.0.is_deaf() {
                return Poll::Ready(Ok(length));
            }
            ready!(self.0.stream.poll_write_ready(cx))?;
            match write(&self.0.stream) {
                Ok(length) => {
                    self.0.written.fetch_add(length as u64, Ordering::Release);
                    return Poll::Ready(Ok(length));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if self.0.has_sent() && is_hang_up(&error) => {
                    self.0.deaf.store(true, Ordering::Release);
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
    )
}

impl AsyncWrite for WireIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(cx, bytes.len(), |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        self.poll_with(cx, length, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            match SockRef::from(&self.0.stream).shutdown(Shutdown::Write) {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                result => result,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Both ends of a connection; the far one is outside of the runtime.
    async fn pair() -> (Wire, std::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().await.unwrap();
        (Wire::new(near), far)
    }

    #[tokio::test]
    async fn an_end_is_seen_before_the_runtime_hears_of_it() {
        // No await between the far side's act and the question: the runtime can't have heard.
        let (wire, far) = pair().await;
        assert!(wire.is_quiet());
        drop(far);
        assert!(!wire.is_quiet());

        let (wire, mut far) = pair().await;
        far.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
            .unwrap();
        assert!(!wire.is_quiet());
    }

    const ANSWER: &[u8] = b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\n\r\n";

    /// The far side answers and closes with a byte unread, which resets the connection.
    async fn answered_early() -> WireIo {
        let (wire, mut far) = pair().await;
        let mut io = WireIo(Arc::new(wire));
        io.0.begin();
        io.write_all(b"P").await.unwrap();
        // It has arrived: closing on it must reset.
        far.peek(&mut [0]).unwrap();
        far.write_all(ANSWER).unwrap();
        drop(far);
        io
    }

    #[tokio::test]
    async fn an_answer_given_before_the_request_was_read_is_read() {
        let mut io = answered_early().await;
        // Until the reset has come: the first writes may still go out.
        while !io.0.is_deaf() {
            io.write_all(b"OST /").await.unwrap();
        }
        io.write_all(&[0; 1 << 20]).await.unwrap();
        let mut answer = vec![0; ANSWER.len()];
        io.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, ANSWER);
        // Not an end that could be taken for the end of a body without a length.
        let end = io.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_request_of_which_nothing_went_out_fails() {
        let mut io = answered_early().await;
        while !io.0.is_deaf() {
            io.write_all(b"OST /").await.unwrap();
        }
        // The next request, on a connection that nobody has found dead.
        io.0.deaf.store(false, Ordering::Release);
        io.0.begin();
        io.write_all(b"POST /").await.unwrap_err();
        assert!(!io.0.has_sent());
    }
}
