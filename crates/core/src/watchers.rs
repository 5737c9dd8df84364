//! Who waits for which record: for stores that notify within one process.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::{Changes, RecordId};

/// The watchers of a store's records.
///
/// A store calls [`watch`](Self::watch) for each watcher, and [`notify`](Self::notify) after a
/// record's change has become visible. With nobody watching, `notify` costs one uncontended lock.
#[derive(Clone, Debug, Default)]
pub struct Watchers(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    slots: HashMap<RecordId, Vec<Slot>>,
    /// Never reused, so that a watch that was notified is not taken for a later one.
    next: u64,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    waker: Option<Waker>,
}

impl Watchers {
    /// No watchers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches `id` from now on: sees every [`notify`](Self::notify) that comes after this call.
    pub fn watch(&self, id: &RecordId) -> Changes {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.slots.entry(*id).or_default().push(Slot {
            number,
            waker: None,
        });
        drop(state);
        Changes::new(Watch {
            watchers: self.clone(),
            id: *id,
            number,
        })
    }

    /// Wakes all who watch `id`.
    pub fn notify(&self, id: &RecordId) {
        let slots = self.lock().slots.remove(id);
        // Wakers run foreign code: outside the lock.
        for waker in slots.into_iter().flatten().filter_map(|slot| slot.waker) {
            waker.wake();
        }
    }

    /// Wakes all who watch anything: when changes may have been missed.
    pub fn notify_all(&self) {
        let slots = std::mem::take(&mut self.lock().slots);
        for waker in slots.into_values().flatten().filter_map(|slot| slot.waker) {
            waker.wake();
        }
    }

    /// How many watches are open, over all records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().slots.values().map(Vec::len).sum()
    }

    /// Whether nobody watches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().slots.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watch {
    watchers: Watchers,
    id: RecordId,
    number: u64,
}

impl Future for Watch {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.watchers.lock();
        let slot = state
            .slots
            .get_mut(&self.id)
            .and_then(|slots| slots.iter_mut().find(|slot| slot.number == self.number));
        let Some(slot) = slot else {
            return Poll::Ready(());
        };
        let newer = match &slot.waker {
            Some(waker) if waker.will_wake(cx.waker()) => return Poll::Pending,
            _ => cx.waker().clone(),
        };
        let older = slot.waker.replace(newer);
        drop(state);
        // Dropping a waker runs foreign code too: it may drop a task, and with it another watch.
        drop(older);
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.watchers.lock();
        let Some(slots) = state.slots.get_mut(&self.id) else {
            return;
        };
        let place = slots.iter().position(|slot| slot.number == self.number);
        let slot = place.map(|place| slots.remove(place));
        if slots.is_empty() {
            state.slots.remove(&self.id);
        }
        drop(state);
        drop(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(changes: &mut Changes) -> Poll<()> {
        Pin::new(changes).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_watch_sees_what_comes_after_it_even_before_its_first_poll() {
        let (watchers, id) = (Watchers::new(), RecordId::from_bytes([1; 32]));
        watchers.notify(&id);
        let mut watch = watchers.watch(&id);
        assert_eq!(poll(&mut watch), Poll::Pending);
        watchers.notify(&RecordId::from_bytes([2; 32]));
        assert_eq!(poll(&mut watch), Poll::Pending);
        watchers.notify(&id);
        assert_eq!(poll(&mut watch), Poll::Ready(()));
        let mut unpolled = watchers.watch(&id);
        watchers.notify(&id);
        assert_eq!(poll(&mut unpolled), Poll::Ready(()));
    }

    #[test]
    fn a_notified_watch_is_not_taken_for_a_later_one() {
        let (watchers, id) = (Watchers::new(), RecordId::from_bytes([1; 32]));
        let mut first = watchers.watch(&id);
        watchers.notify(&id);
        let mut second = watchers.watch(&id);
        assert_eq!(poll(&mut first), Poll::Ready(()));
        drop(first);
        assert_eq!(poll(&mut second), Poll::Pending);
        watchers.notify(&id);
        assert_eq!(poll(&mut second), Poll::Ready(()));
    }

    /// A waker that owns a watch: as that of an executor which drops a task with its last waker.
    struct Owner(#[expect(dead_code, reason = "held to be dropped")] Mutex<Changes>);

    impl std::task::Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn a_waker_that_owns_a_watch_can_be_dropped() {
        let (watchers, id) = (Watchers::new(), RecordId::from_bytes([1; 32]));
        let owner = || Waker::from(Arc::new(Owner(Mutex::new(watchers.watch(&id)))));
        let mut watch = watchers.watch(&id);
        for waker in [owner(), owner()] {
            // The second replaces the first, whose last handle this is.
            let polled = Pin::new(&mut watch).poll(&mut Context::from_waker(&waker));
            assert_eq!(polled, Poll::Pending);
        }
        assert_eq!(watchers.len(), 2);
        drop(watch);
        assert!(watchers.is_empty());
    }

    #[test]
    fn hazard_38_a_dropped_watch_leaves_nothing() {
        let (watchers, id) = (Watchers::new(), RecordId::from_bytes([1; 32]));
        let (one, two) = (watchers.watch(&id), watchers.watch(&id));
        assert_eq!(watchers.len(), 2);
        drop(one);
        assert_eq!(watchers.len(), 1);
        drop(two);
        assert!(watchers.is_empty());
    }
}
