//! Something that happens once, and those who wait for it: on any runtime, or on a thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

const PENDING: u8 = 0;
const DONE: u8 = 1;
const FAILED: u8 = 2;

/// Fires once, as done or as failed, and wakes all who wait.
#[derive(Debug, Default)]
pub(crate) struct Event {
    outcome: AtomicU8,
    wakers: Mutex<Vec<Option<Waker>>>,
}

impl Event {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Wakes everybody. The first call decides; later ones change nothing.
    pub(crate) fn fire(&self, done: bool) {
        let wakers = {
            let mut wakers = self.lock();
            let outcome = if done { DONE } else { FAILED };
            let _ = self.outcome.compare_exchange(
                PENDING,
                outcome,
                Ordering::Release,
                Ordering::Relaxed,
            );
            std::mem::take(&mut *wakers)
        };
        // Wakers run foreign code: outside the lock.
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
    }

    /// Whether it was done (not failed), once it has fired.
    pub(crate) fn wait(self: Arc<Self>) -> Wait {
        Wait {
            event: self,
            slot: None,
        }
    }

    /// [`wait`](Self::wait) for a thread of our own.
    pub(crate) fn wait_blocking(self: Arc<Self>) -> bool {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut wait = self.wait();
        loop {
            match Pin::new(&mut wait).poll(&mut context) {
                Poll::Ready(done) => return done,
                Poll::Pending => thread::park(),
            }
        }
    }

    fn outcome(&self) -> Option<bool> {
        match self.outcome.load(Ordering::Acquire) {
            PENDING => None,
            outcome => Some(outcome == DONE),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Waker>>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for an [`Event`]. Dropping it stops waiting.
#[derive(Debug)]
pub(crate) struct Wait {
    event: Arc<Event>,
    slot: Option<usize>,
}

impl Future for Wait {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        if let Some(done) = self.event.outcome() {
            return Poll::Ready(done);
        }
        let this = &mut *self;
        let waker = Some(context.waker().clone());
        let mut wakers = this.event.lock();
        // `fire` sets the outcome under this lock: looked at again, no wake-up is lost.
        if let Some(done) = this.event.outcome() {
            return Poll::Ready(done);
        }
        let older = match this.slot {
            Some(slot) => std::mem::replace(&mut wakers[slot], waker),
            None => {
                this.slot = Some(wakers.len());
                wakers.push(waker);
                None
            }
        };
        drop(wakers);
        // Dropping a waker runs foreign code too: it may drop a task, and with it another wait.
        drop(older);
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let waker = self.event.lock().get_mut(slot).and_then(Option::take);
            // Outside the lock, as above.
            drop(waker);
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A waker that owns another who waits: as that of an executor which drops a task with its
    /// last waker.
    struct Owner(#[expect(dead_code, reason = "held to be dropped")] Mutex<Wait>);

    impl Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }

    fn waits(wait: &mut Wait, waker: &Waker) -> bool {
        Pin::new(wait)
            .poll(&mut Context::from_waker(waker))
            .is_pending()
    }

    #[test]
    fn a_waker_that_owns_another_who_waits_can_be_dropped() {
        let event = Event::new();
        let owner = || {
            let mut owned = event.clone().wait();
            assert!(waits(&mut owned, Waker::noop()));
            Waker::from(Arc::new(Owner(Mutex::new(owned))))
        };
        let mut wait = event.clone().wait();
        // The second replaces the first, whose last handle this is.
        assert!(waits(&mut wait, &owner()));
        assert!(waits(&mut wait, &owner()));
        drop(wait);
    }
}
