//! What the parts of one connection tell each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::time::Instant;

/// Shared by a connection's reader ([`Guard`](super::guard::Guard)), its requests and its task.
#[derive(Debug)]
pub(crate) struct ConnState {
    counts: Mutex<Counts>,
    upgraded: AtomicBool,
    cut_short: AtomicBool,
}

#[derive(Debug)]
struct Counts {
    active: u64,
    finished: u64,
    last_finished: Instant,
    /// Who waits for the next response to be finished.
    waiter: Option<Waker>,
}

impl ConnState {
    pub(crate) fn new() -> Self {
        Self {
            counts: Mutex::new(Counts {
                active: 0,
                finished: 0,
                last_finished: Instant::now(),
                waiter: None,
            }),
            upgraded: AtomicBool::new(false),
            cut_short: AtomicBool::new(false),
        }
    }

    /// Counts a request as active until the returned guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Active {
        self.counts().active += 1;
        Active(Arc::clone(self))
    }

    /// Requests whose response has not been sent to its end.
    pub(crate) fn active(&self) -> u64 {
        self.counts().active
    }

    /// Requests whose response has been sent (or given up).
    pub(crate) fn finished(&self) -> u64 {
        self.counts().finished
    }

    /// When a response was last finished; at first, when the connection was made.
    pub(crate) fn last_finished(&self) -> Instant {
        self.counts().last_finished
    }

    /// Has the reader woken when the next response is finished.
    pub(crate) fn wake_when_finished(&self, waker: &Waker) {
        let mut counts = self.counts();
        match &mut counts.waiter {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// A 101 has been given to hyper: behind this request the connection is not HTTP any more.
    pub(crate) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Release);
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Acquire)
    }

    /// A response that only the connection's end delimits has failed half-way: the end must not
    /// look like a clean one.
    pub(crate) fn cut_short(&self) {
        self.cut_short.store(true, Ordering::Release);
    }

    pub(crate) fn is_cut_short(&self) -> bool {
        self.cut_short.load(Ordering::Acquire)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Active(Arc<ConnState>);

impl Active {
    pub(crate) fn state(&self) -> &ConnState {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut counts = self.0.counts();
        counts.active -= 1;
        counts.finished += 1;
        counts.last_finished = Instant::now();
        let waiter = counts.waiter.take();
        drop(counts);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}
