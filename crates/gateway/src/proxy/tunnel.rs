//! Bytes both ways, after an upgrade.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until, timeout};

use crate::front::Held;

/// How long either side may take to hand its connection over once the 101 is there.
const HANDOVER: Duration = Duration::from_secs(30);

/// Copies until both sides have ended, nothing has moved for `idle`, or the front cuts.
pub(crate) async fn run(
    client: OnUpgrade,
    upstream: OnUpgrade,
    held: Option<Held>,
    idle: Duration,
) {
    let both = async { tokio::try_join!(client, upstream) };
    let (client, upstream) = match timeout(HANDOVER, both).await {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => {
            tracing::debug!(%error, "upgrade was given up");
            return;
        }
        Err(_) => {
            tracing::debug!("upgrade was not finished in time");
            return;
        }
    };
    let activity = Arc::new(Activity::new());
    let mut client = Watched(TokioIo::new(client), Arc::clone(&activity));
    let mut upstream = TokioIo::new(upstream);
    let closed = async {
        match &held {
            Some(held) => held.closed().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        copied = copy_bidirectional(&mut client, &mut upstream) => match copied {
            Ok((up, down)) => tracing::debug!(up, down, "tunnel ended"),
            Err(error) => tracing::debug!(%error, "tunnel broke"),
        },
        () = activity.idle_for(idle) => tracing::debug!("tunnel was idle for too long"),
        () = closed => tracing::debug!("tunnel cut at shutdown"),
    }
}

/// When something was last moved.
#[derive(Debug)]
struct Activity {
    base: Instant,
    millis: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self {
            base: Instant::now(),
            millis: AtomicU64::new(0),
        }
    }

    fn note(&self) {
        let millis = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    async fn idle_for(&self, limit: Duration) {
        loop {
            let last = self.base + Duration::from_millis(self.millis.load(Ordering::Relaxed));
            let due = last + limit;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

/// Notes every byte that moves: what is read from one side is written to the other, so that
/// watching one side is enough.
struct Watched<IO>(IO, Arc<Activity>);

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.0).poll_read(cx, buf);
        if result.is_ready() {
            self.1.note();
        }
        result
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.0).poll_write(cx, bytes);
        if result.is_ready() {
            self.1.note();
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
