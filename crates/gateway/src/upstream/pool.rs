//! Connections that wait for their next request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::body::{Progress, UploadBody};
use super::wire::Wire;

/// An HTTP/1 connection between requests. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) sender: http1::SendRequest<UploadBody>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) task: TaskGuard,
}

/// Ends a connection's task when dropped.
#[derive(Debug)]
pub(crate) struct TaskGuard(pub(crate) Option<AbortHandle>);

impl TaskGuard {
    /// Lets the task go on by itself.
    pub(crate) fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// The unused connections of one upstream, the last used first.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Idle>>,
    most: usize,
    keep: Duration,
}

#[derive(Debug)]
struct Idle {
    conn: Conn,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(most: usize, keep: Duration) -> Self {
        Self {
            idle: Mutex::default(),
            most,
            keep,
        }
    }

    /// A connection that looks alive.
    pub(crate) fn take(&self) -> Option<Conn> {
        let now = Instant::now();
        loop {
            let Idle { conn, since } = self.lock().pop()?;
            let fresh = now.saturating_duration_since(since) < self.keep;
            if fresh && !conn.sender.is_closed() && conn.wire.is_quiet() {
                return Some(conn);
            }
        }
    }

    /// Closes what has waited for too long; true while any is left.
    pub(crate) fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut idle = self.lock();
        // In the order of their return, so the oldest come first.
        let stale =
            idle.partition_point(|idle| now.saturating_duration_since(idle.since) >= self.keep);
        let gone: Vec<Idle> = idle.drain(..stale).collect();
        let left = !idle.is_empty();
        drop(idle);
        drop(gone);
        left
    }

    pub(crate) fn keep(&self) -> Duration {
        self.keep
    }

    fn put(&self, conn: Conn) {
        if conn.sender.is_closed() || conn.wire.is_deaf() {
            return;
        }
        let since = Instant::now();
        let mut idle = self.lock();
        if idle.len() < self.most {
            idle.push(Idle { conn, since });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use by one exchange. Dropped before the exchange's end, it is closed.
#[derive(Debug)]
pub(crate) struct Lease {
    conn: Option<Conn>,
    progress: Arc<Progress>,
    target: Arc<super::target::Target>,
}

impl Lease {
    pub(crate) fn new(
        conn: Option<Conn>,
        progress: Arc<Progress>,
        target: Arc<super::target::Target>,
    ) -> Self {
        Self {
            conn,
            progress,
            target,
        }
    }

    /// The response has ended. An upload that has not ended yet is given up with its connection.
    pub(crate) fn give_back(&mut self) {
        if let Some(conn) = self.conn.take()
            && self.progress.has_ended()
        {
            self.target.pool.put(conn);
            super::target::Target::keep_swept(&self.target);
        }
    }

    /// The connection has become something else: nobody ends it from here.
    pub(crate) fn detach(&mut self) {
        if let Some(mut conn) = self.conn.take() {
            conn.task.release();
        }
    }
}
