//! What the parts of one connection tell each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Shared by a connection's reader ([`Guard`](super::guard::Guard)), its requests and its task.
#[derive(Debug)]
pub(crate) struct ConnState {
    counts: Mutex<Counts>,
    upgraded: AtomicBool,
    cut_short: AtomicBool,
    flooded: Notify,
}

/// Requests that may be given up on a connection before any is answered.
const CANCELLED: u64 = 100;

#[derive(Debug)]
struct Counts {
    active: u64,
    finished: u64,
    last_finished: Instant,
    /// Of the finished ones, how many were given up before there was an answer.
    cancelled: u64,
    /// Since when a stream's last frame waits to be written (HTTP/2).
    unwritten: Vec<(u64, Instant)>,
    next_id: u64,
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
                cancelled: 0,
                unwritten: Vec::new(),
                next_id: 0,
                waiter: None,
            }),
            upgraded: AtomicBool::new(false),
            cut_short: AtomicBool::new(false),
            flooded: Notify::new(),
        }
    }

    /// Counts a request as active until the returned guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Active {
        let mut counts = self.counts();
        counts.active += 1;
        counts.next_id += 1;
        Active {
            id: counts.next_id,
            answered: false,
            state: Arc::clone(self),
        }
    }

    /// Resolves when the client gives up far more requests than it lets be answered. h2 itself
    /// counts only those that are reset before they are accepted (CVE-2023-44487).
    pub(crate) async fn flooded(&self) {
        self.flooded.notified().await;
    }

    /// Since when the client has let the stream wait that it lets wait longest.
    pub(crate) fn longest_unwritten(&self) -> Option<Instant> {
        let counts = self.counts();
        counts.unwritten.iter().map(|(_, since)| *since).min()
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
pub(crate) struct Active {
    id: u64,
    answered: bool,
    state: Arc<ConnState>,
}

impl Active {
    pub(crate) fn state(&self) -> &ConnState {
        &self.state
    }

    /// There is an answer: what happens from now on is no cancellation.
    pub(crate) fn answered(&mut self) {
        self.answered = true;
    }

    /// A frame has been handed over to be written; nobody asks for the next before it is.
    pub(crate) fn handed_over(&self) {
        self.state
            .counts()
            .unwritten
            .push((self.id, Instant::now()));
    }

    /// The frame before has been written.
    pub(crate) fn written(&self) {
        self.state.counts().forget(self.id);
    }
}

impl Counts {
    fn forget(&mut self, id: u64) {
        if let Some(index) = self.unwritten.iter().position(|(known, _)| *known == id) {
            self.unwritten.swap_remove(index);
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut counts = self.state.counts();
        counts.active -= 1;
        counts.finished += 1;
        counts.last_finished = Instant::now();
        counts.cancelled += u64::from(!self.answered);
        counts.forget(self.id);
        let answered = counts.finished - counts.cancelled;
        let flooded = counts.cancelled > CANCELLED + 2 * answered;
        let waiter = counts.waiter.take();
        drop(counts);
        if flooded {
            self.state.flooded.notify_one();
        }
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}
