//! What the store's handle and its threads have in common.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onlyonce_core::{InvalidationHub, Watchers};

use crate::disk::Disk;
use crate::readers::Readers;
use crate::state::State;

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    work: Condvar,
    upkeep: Condvar,
    pub(crate) watchers: Watchers,
    pub(crate) invalidations: InvalidationHub,
    pub(crate) readers: Readers,
    pub(crate) disk: Arc<dyn Disk>,
    /// The folder's name, for messages.
    pub(crate) folder: Box<str>,
}

impl Shared {
    pub(crate) fn new(state: State, disk: Arc<dyn Disk>, folder: Box<str>) -> Self {
        let readers = Readers::new(disk.clone(), state.store);
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            upkeep: Condvar::new(),
            watchers: Watchers::new(),
            invalidations: InvalidationHub::in_process(),
            readers,
            disk,
            folder,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|panicked| {
            // A step was left half-way. What the log holds is whole; what memory holds may not be.
            let mut state = panicked.into_inner();
            if state.poison.is_none() {
                let _ = state.poison("a step panicked: this is a bug in Onlyonce");
            }
            state
        })
    }

    /// Takes a step under the lock, and wakes those who have something to do then.
    pub(crate) fn step<T>(&self, step: impl FnOnce(&mut State) -> T) -> T {
        // Before the lock, so that a step that panics has given it back.
        let _guard = PoisonOnPanic::new(self);
        let mut state = self.lock();
        let came_to = step(&mut state);
        let writer = state.writer_idle && !state.queue.is_empty();
        state.writer_idle &= !writer;
        let upkeep = state.upkeep_idle && state.upkeep_due;
        state.upkeep_idle &= !upkeep;
        drop(state);
        if writer {
            self.work.notify_one();
        }
        if upkeep {
            self.upkeep.notify_one();
        }
        came_to
    }

    /// Waits until there may be work for the writer.
    pub(crate) fn wait_for_work<'a>(
        &self,
        state: MutexGuard<'a, State>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        wait(&self.work, state, timeout)
    }

    /// Waits until there may be work for the upkeep.
    pub(crate) fn wait_for_upkeep<'a>(
        &self,
        state: MutexGuard<'a, State>,
        timeout: Duration,
    ) -> MutexGuard<'a, State> {
        wait(&self.upkeep, state, Some(timeout))
    }

    /// Takes no more steps; those that were taken are made durable.
    pub(crate) fn begin_closing(&self) {
        let space = {
            let mut state = self.lock();
            state.closing = true;
            state.space()
        };
        self.work.notify_one();
        self.upkeep.notify_one();
        // Who waits for room learns that there will be none.
        space.fire(false);
    }

    /// Takes no more steps at all, and fails all that wait.
    pub(crate) fn poison(&self, reason: impl Into<Arc<str>>) {
        let reason = reason.into();
        tracing::error!(folder = %self.folder, %reason, "the disk store stops");
        let waiting = self.lock().poison(reason);
        self.work.notify_one();
        self.upkeep.notify_one();
        for event in waiting {
            event.fire(false);
        }
    }
}

fn wait<'a>(
    condvar: &Condvar,
    state: MutexGuard<'a, State>,
    timeout: Option<Duration>,
) -> MutexGuard<'a, State> {
    match timeout {
        None => condvar.wait(state).unwrap_or_else(PoisonError::into_inner),
        Some(timeout) => {
            condvar
                .wait_timeout(state, timeout)
                .unwrap_or_else(PoisonError::into_inner)
                .0
        }
    }
}

/// Poisons the store when a step or a thread that holds this panics: nobody is to wait for it
/// for ever.
#[derive(Debug)]
pub(crate) struct PoisonOnPanic<'a> {
    shared: &'a Shared,
    /// Already when it was made: then it is not this one's panic.
    panicking: bool,
}

impl<'a> PoisonOnPanic<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        let panicking = std::thread::panicking();
        Self { shared, panicking }
    }
}

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.panicking {
            self.shared
                .poison("a step or a thread of the store panicked: this is a bug in Onlyonce");
        }
    }
}
