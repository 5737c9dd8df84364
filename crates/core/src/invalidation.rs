//! When a copy of a record must not be used any more: for caches in front of a shared store.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::RecordId;

/// A store that announces which copies of its records are void.
///
/// A completed record changes in two ways only: it expires, which whoever has a copy sees on its
/// own clock, or an operator forgets it, which is announced here, on every node. Resolving a
/// record is announced too.
///
/// # Contract
/// - **No gap.** Between a call of [`connected`](InvalidationListener::connected) and the next
///   of [`lost`](InvalidationListener::lost), every record that was forgotten or resolved by
///   anybody is [announced](InvalidationListener::void), to each listener. A subscription says
///   `connected` only when that has begun to hold, and `lost` as soon as it may not.
/// - **A limit.** Trust runs out by itself. `connected` is repeated while all is well, each time
///   with the span for which copies may be used from then on. So a listener that was paused, or
///   whose peer is silently gone, uses no copy for longer than the span it was given last.
/// - **Order.** Calls to one listener come one after another, never two at a time.
pub trait Invalidations: Send + Sync + 'static {
    /// Tells `listener` of every void copy until the returned [`Subscription`] is dropped.
    ///
    /// Returns at once; a remote store connects, and connects again, in the background. Until the
    /// first `connected` nothing is promised. Must be called within a tokio runtime where the
    /// store needs one.
    fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription;
}

impl<T: Invalidations + ?Sized> Invalidations for Arc<T> {
    fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription {
        (**self).subscribe(listener)
    }
}

/// What a cache does with the announcements. No method may block, nor call the store.
pub trait InvalidationListener: Send + Sync + 'static {
    /// All is announced from the first of these calls on. Copies of what the store answers to
    /// requests **sent** from now on may be used for `trust` from now; each further call renews
    /// that.
    fn connected(&self, trust: Duration);

    /// Announcements may have been missed: all copies are void, and so are those of answers that
    /// are under way. Nothing may be used or kept until [`connected`](Self::connected) comes.
    fn lost(&self);

    /// Copies of this record are void, and so are those of answers that are under way.
    fn void(&self, id: &RecordId);
}

/// Ends a subscription when it is dropped.
#[must_use = "dropping it ends the subscription"]
pub struct Subscription(#[expect(dead_code, reason = "held to be dropped")] Box<dyn Send + Sync>);

impl Subscription {
    /// A subscription that ends with the drop of `guard`.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}

/// All listeners of one store: what a store hands its announcements to.
///
/// A store within one process makes one with [`in_process`](Self::in_process), returns
/// [`subscribe`](Self::subscribe) and calls [`void`](Self::void) after the change is made and
/// before it is acknowledged. A remote store starts with [`new`](Self::new) and says how its
/// connection fares.
///
/// # Example
/// ```
/// use onlyonce_core::{InvalidationHub, InvalidationListener, RecordId};
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
///
/// #[derive(Default)]
/// struct Void(Mutex<Vec<RecordId>>);
/// impl InvalidationListener for Void {
///     fn connected(&self, _: Duration) {}
///     fn lost(&self) {}
///     fn void(&self, id: &RecordId) {
///         self.0.lock().unwrap().push(*id);
///     }
/// }
///
/// let (hub, listener) = (InvalidationHub::in_process(), Arc::new(Void::default()));
/// let subscription = hub.subscribe(listener.clone());
/// let id = RecordId::from_bytes([1; 32]);
/// hub.void(&id);
/// drop(subscription);
/// hub.void(&RecordId::from_bytes([2; 32]));
/// assert_eq!(*listener.0.lock().unwrap(), [id]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct InvalidationHub(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    listeners: Vec<(u64, Arc<dyn InvalidationListener>)>,
    /// Never reused.
    next: u64,
    in_process: bool,
}

impl InvalidationHub {
    /// For a remote store: nothing is promised until [`connected`](Self::connected).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For a store whose every change is made in this process: connected from the start, for ever.
    #[must_use]
    pub fn in_process() -> Self {
        let hub = Self::default();
        hub.lock().in_process = true;
        hub
    }

    /// Adds a listener. One that joins while the store is connected hears of it with the next
    /// [`connected`](Self::connected).
    pub fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        if state.in_process {
            listener.connected(Duration::MAX);
        }
        state.listeners.push((number, listener));
        drop(state);
        Subscription::new(Place {
            hub: self.clone(),
            number,
        })
    }

    /// Whether nobody listens: then a remote store needs no connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().listeners.is_empty()
    }

    /// Tells all listeners; see [`InvalidationListener::connected`].
    pub fn connected(&self, trust: Duration) {
        self.each(|listener| listener.connected(trust));
    }

    /// Tells all listeners; see [`InvalidationListener::lost`].
    pub fn lost(&self) {
        self.each(InvalidationListener::lost);
    }

    /// Tells all listeners; see [`InvalidationListener::void`].
    pub fn void(&self, id: &RecordId) {
        self.each(|listener| listener.void(id));
    }

    /// Under the lock, so that calls come in order and one after another.
    fn each(&self, tell: impl Fn(&dyn InvalidationListener)) {
        for (_, listener) in &self.lock().listeners {
            tell(listener.as_ref());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("listeners", &self.listeners.len())
            .field("in_process", &self.in_process)
            .finish()
    }
}

struct Place {
    hub: InvalidationHub,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        let place = state
            .listeners
            .iter()
            .position(|(number, _)| *number == self.number);
        let listener = place.map(|place| state.listeners.remove(place));
        // Dropping a listener runs foreign code: outside the lock.
        drop(state);
        drop(listener);
    }
}
