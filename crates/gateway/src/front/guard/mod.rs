//! Stands between the socket and hyper's HTTP/1 parser, and lets through only what nobody can
//! read in two ways.
//!
//! hyper parses leniently (a bare LF ends a line, `Transfer-Encoding` silently wins over
//! `Content-Length`, equal `Content-Length`s are merged). Behind another proxy each leniency is
//! a way to smuggle a request. [`Guard`] follows the framing itself ([`Framer`]); at the first
//! fault in a head it gives hyper bytes that hyper answers with 400 (or 431) and closes, so that
//! nothing behind the fault is ever read as a request. In a body the fault becomes a read error.
//!
//! It also keeps the two time-outs that need to know the framing: idle between requests, and
//! from a head's first byte to its last.

mod framer;
mod head;
#[cfg(test)]
mod tests;
mod violation;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

pub use framer::{FrameLimits, Framer, Step};
pub(crate) use head::is_host_byte;
pub use violation::Violation;

use super::patient::Reset;
use super::state::ConnState;

/// Time limits of a [`Guard`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuardTimes {
    /// From a head's first byte to its last.
    pub(crate) head: Duration,
    /// Between a response's end and the next request's first byte.
    pub(crate) idle: Duration,
    /// How long a connection that is closed with unread input lingers, reading that input away.
    pub(crate) linger: Duration,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Guard<IO: Reset> {
    io: IO,
    framer: Framer,
    state: Arc<ConnState>,
    /// Read, but not passed on yet.
    held: BytesMut,
    /// How much of `held` may be passed on.
    approved: usize,
    /// What hyper reads instead of the rest of the connection.
    refusal: Option<Refusal>,
    /// The framing is followed no more.
    raw: bool,
    eof: bool,
    times: GuardTimes,
    phase: Phase,
    since: Instant,
    timer: Pin<Box<Sleep>>,
    closing: Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Head,
    Other,
}

#[derive(Clone, Debug)]
enum Refusal {
    /// A fault in a head: bytes that hyper's parser answers.
    Bytes(Bytes),
    /// A fault in a body, which no parser can answer any more.
    Error(Violation),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// Our side is shut; the peer's rest, up to `left` bytes, is read away.
    Lingering {
        left: usize,
    },
    Done,
}

/// Read at a time while a head is incomplete.
const READ: usize = 4096;
/// Held at most while it is undecided whether an upgrade takes place.
const UNDECIDED: usize = 64 * 1024;
/// Read away at most while lingering.
const LINGER: usize = 512 * 1024;

impl<IO: AsyncRead + AsyncWrite + Reset + Unpin> Guard<IO> {
    /// Guards `io`, of which `first` has been read already. The first head's time counts from
    /// the connection's start, which `state` knows.
    pub(crate) fn new(
        io: IO,
        first: BytesMut,
        limits: FrameLimits,
        times: GuardTimes,
        state: Arc<ConnState>,
    ) -> Self {
        let since = state.last_finished();
        Self {
            io,
            framer: Framer::new(limits),
            state,
            held: first,
            approved: 0,
            refusal: None,
            raw: false,
            eof: false,
            times,
            phase: Phase::Other,
            since,
            timer: Box::pin(sleep_until(since + times.head.min(times.idle))),
            closing: Closing::No,
        }
    }

    /// Judges what is held; true when there is something to give to hyper now.
    fn judge(&mut self) -> bool {
        loop {
            if self.raw {
                self.approved = self.held.len();
            }
            if self.approved > 0 || self.refusal.is_some() {
                return true;
            }
            if self.held.is_empty() {
                return false;
            }
            match self.framer.step(&self.held) {
                Step::Pass(length) => self.approved = length,
                Step::Wait => return false,
                Step::Undecided if self.decide() => {}
                Step::Undecided => return false,
                Step::Refuse(violation) => self.refuse(violation),
            }
        }
    }

    /// Asks what became of the offered upgrade; false while that is open.
    fn decide(&mut self) -> bool {
        if self.state.is_upgraded() {
            self.framer.pass_all();
            self.raw = true;
            true
        } else if self.state.finished() >= self.framer.heads() {
            self.framer.resume();
            true
        } else {
            false
        }
    }

    fn refuse(&mut self, violation: Violation) {
        tracing::debug!(%violation, "request refused");
        self.held.clear();
        self.refusal = Some(if self.framer.in_body() {
            Refusal::Error(violation)
        } else if violation.is_too_large() {
            Refusal::Bytes(TOO_LARGE.clone())
        } else {
            Refusal::Bytes(Bytes::from_static(MALFORMED))
        });
    }

    /// Reads from the socket: straight into hyper's buffer when nothing is held.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            let start = buf.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            let fresh = &buf.filled()[start..];
            self.eof = fresh.is_empty();
            if self.raw {
                return Poll::Ready(Ok(()));
            }
            let mut passed = 0;
            while let Step::Pass(length) = self.framer.step(&fresh[passed..]) {
                passed += length;
                if passed == fresh.len() {
                    return Poll::Ready(Ok(()));
                }
            }
            self.held.extend_from_slice(&fresh[passed..]);
            buf.set_filled(start + passed);
        } else {
            self.held.reserve(READ);
            let length = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.held))?;
            self.eof = length == 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Called when the socket has nothing: whether the client has used up its time.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let phase = match (self.raw, self.framer.between_messages()) {
            (false, true) if self.framer.is_undecided() => Phase::Other,
            (false, true) if self.held.is_empty() => Phase::Idle,
            (false, true) => Phase::Head,
            _ => Phase::Other,
        };
        if phase == Phase::Other {
            self.phase = phase;
            return Poll::Pending;
        }
        if phase != self.phase {
            // The very first head counts from the connection's start.
            if self.framer.heads() > 0 || phase == Phase::Idle {
                self.since = Instant::now();
            }
            self.phase = phase;
            let due = self.due();
            if self.timer.deadline() > due {
                self.timer.as_mut().reset(due);
            }
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            // While a response is under way, the next request may take its time.
            let due = if self.state.active() > 0 {
                self.since = now;
                now + self.times.head.min(self.times.idle)
            } else {
                self.due()
            };
            if due <= now {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
    }

    fn due(&self) -> Instant {
        match self.phase {
            Phase::Head => self.since + self.times.head,
            Phase::Idle | Phase::Other => {
                self.since.max(self.state.last_finished()) + self.times.idle
            }
        }
    }

    /// Whether bytes may still come that nobody will read.
    fn has_unread_input(&self) -> bool {
        !self.raw
            && !self.eof
            && (self.refusal.is_some() || self.framer.in_body() || !self.held.is_empty())
    }
}

/// No method begins with NUL, so hyper answers 400 to this and closes.
const MALFORMED: &[u8] = b"\0\r\n\r\n";

/// More fields than hyper takes by default or by our setting, so hyper answers 431 and closes.
static TOO_LARGE: std::sync::LazyLock<Bytes> = std::sync::LazyLock::new(|| {
    let mut head = Vec::from(&b"GET / HTTP/1.1\r\n"[..]);
    for _ in 0..=super::options::MOST_FIELDS {
        head.extend_from_slice(b"a:\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Bytes::from(head)
});

impl<IO: AsyncRead + AsyncWrite + Reset + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.judge() {
                if this.approved > 0 {
                    let length = this.approved.min(buf.remaining());
                    buf.put_slice(&this.held[..length]);
                    this.held.advance(length);
                    this.approved -= length;
                } else if let Some(Refusal::Error(violation)) = this.refusal {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)));
                } else if let Some(Refusal::Bytes(refusal)) = &mut this.refusal {
                    let length = refusal.len().min(buf.remaining());
                    buf.put_slice(&refusal.split_to(length));
                }
                return Poll::Ready(Ok(()));
            }
            if this.framer.is_undecided() {
                // Nobody else tells hyper then that there is something to read.
                this.state.wake_when_finished(cx.waker());
                if this.decide() {
                    continue;
                }
                if this.held.len() >= UNDECIDED {
                    return Poll::Pending;
                }
            }
            let before = buf.filled().len();
            match this.poll_fill(cx, buf) {
                Poll::Ready(result) => {
                    result?;
                    if this.eof || buf.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending => {
                    ready!(this.poll_timeout(cx));
                    tracing::debug!(phase = ?this.phase, "client timed out");
                    this.eof = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Reset + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Shuts our side, then reads away (bounded) what the client was still sending: closing a
    /// socket with unread input resets it, and the reset can overtake the answer.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing == Closing::No {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            let until = Instant::now() + this.times.linger;
            this.closing = if this.has_unread_input() {
                this.timer.as_mut().reset(until);
                Closing::Lingering { left: LINGER }
            } else {
                Closing::Done
            };
        }
        while let Closing::Lingering { left } = &mut this.closing {
            if this.timer.as_mut().poll(cx).is_ready() {
                this.closing = Closing::Done;
                break;
            }
            let mut waste = [std::mem::MaybeUninit::uninit(); READ];
            let mut waste = ReadBuf::uninit(&mut waste);
            match ready!(Pin::new(&mut this.io).poll_read(cx, &mut waste)) {
                Ok(()) if !waste.filled().is_empty() && *left > waste.filled().len() => {
                    *left -= waste.filled().len();
                }
                _ => this.closing = Closing::Done,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: Reset> Drop for Guard<IO> {
    fn drop(&mut self) {
        if self.state.is_cut_short() {
            self.io.reset_on_close();
        }
    }
}
