//! The store itself.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use onlyonce_core::{
    Attempt, Changes, Claim, CompleteStep, Completion, Entry, Fenced, Lease, Operation, RecordId,
    Renewal, Store, StoreError, StoreErrorKind, Timestamp,
};

use crate::builder::{Builder, Durability};
use crate::disk::{Disk, Lock};
use crate::event::Event;
use crate::log::segment;
use crate::log::writer::Writer;
use crate::readers::{self, Part, ReadError};
use crate::recover::{self, Recovered};
use crate::shared::{PoisonOnPanic, Shared};
use crate::state::{Refusal, Settings, State};
use crate::stats::Stats;
use crate::steps::{Load, Step};
use crate::upkeep::Upkeep;

/// Records in a folder of this machine: durable, for one process at a time.
///
/// Every claim and every result lies on the disk before it is acknowledged. See the
/// [crate documentation](crate) for what that costs and what it survives.
///
/// Dropping it closes it, as [`close`](Self::close) does, and loses the error if there is one.
#[derive(Debug)]
pub struct DiskStore {
    pub(crate) shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

#[derive(Debug)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// Given back last: until then somebody still works in the folder.
    #[expect(dead_code, reason = "held for its drop")]
    lock: Lock,
}

/// What a step came to, once it may be told.
pub(crate) enum Told<T> {
    Answer(T),
    /// The completed record it hangs on, and when that was found.
    Loaded(Box<Entry>, Timestamp),
}

impl DiskStore {
    /// Opens the store in this folder with the default settings; makes the folder if it does
    /// not exist. **Blocks**; see [`Builder::open`].
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::builder(path).open()
    }

    /// Settings for a store in this folder.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(path.as_ref())
    }

    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        folder: &str,
        builder: &Builder,
        segment_bytes: u32,
    ) -> Result<Self, StoreError> {
        let lock = recover::lock(&*disk, folder)?;
        let now = builder.clock.now();
        let Recovered { start, active } = recover::recover(&*disk, folder, now, segment_bytes)?;
        let (seed, tail) = (segment::seed(&start.store, start.tail.segment), start.tail);
        let relaxed = match builder.durability {
            Durability::Record => None,
            Durability::Relaxed { every } => Some(every),
        };
        let settings = Settings {
            clock: builder.clock.clone(),
            segment_bytes,
            max_bytes: builder.max_bytes,
            relaxed: relaxed.is_some(),
        };
        let shared = Arc::new(Shared::new(
            State::new(start, settings),
            disk,
            folder.into(),
        ));
        let writer = Writer::new(shared.clone(), active, seed, tail.offset, relaxed);
        let upkeep = Upkeep::new(shared.clone());
        #[cfg(not(test))]
        let manual_upkeep = false;
        #[cfg(test)]
        let manual_upkeep = builder.manual_upkeep;

        // Built first, so that a thread that can't be started ends those that were.
        let store = Self {
            shared: shared.clone(),
            threads: Mutex::new(Some(Threads {
                handles: Vec::new(),
                lock,
            })),
        };
        store.spawn("onlyonce-log", move |_| writer.run())?;
        if !manual_upkeep {
            store.spawn("onlyonce-upkeep", move |_| upkeep.run())?;
        }
        for _ in 0..readers::THREADS {
            store.spawn("onlyonce-read", |shared| shared.readers.work())?;
        }
        Ok(store)
    }

    /// Makes what is under way durable, ends the store's threads and gives the folder back.
    ///
    /// Later calls to the store fail. **Blocks** for about the length of a flush, at worst for
    /// that of making a segment. A second call changes nothing.
    ///
    /// # Errors
    /// [`Poisoned`](StoreErrorKind::Poisoned) when the store had stopped, or the last flush
    /// failed: what was not acknowledged may be lost.
    pub fn close(&self) -> Result<(), StoreError> {
        let threads = self
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(threads) = threads {
            self.shared.begin_closing();
            self.shared.readers.close();
            for thread in threads.handles {
                // A thread that panicked has poisoned the store, which is told below.
                let _ = thread.join();
            }
        }
        match self.shared.lock().poison.clone() {
            None => Ok(()),
            Some(reason) => Err(self.error(Operation::Open, Refusal::Poisoned(reason))),
        }
    }

    /// What the store has done and holds, for metrics. Takes no time worth mentioning.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = self.shared.lock();
        let counters = state.counters;
        Stats {
            records: state.index.len() as u64,
            in_progress: state.index.in_progress() as u64,
            live_bytes: state.index.live(),
            allocated_bytes: state.index.allocated() + state.spare.map_or(0, u64::from),
            segments: state.index.segments().len() as u64,
            batches: counters.batches,
            writes: counters.frames,
            flushes: counters.syncs,
            segments_begun: counters.segments_begun,
            segments_dropped: counters.segments_dropped,
            copied_bytes: counters.copied_bytes,
            watches: self.shared.watchers.len() as u64,
            full: state.full.is_some() || state.stalled,
            poisoned: state.poison.is_some(),
        }
    }

    /// Takes a step, and waits until what it came to may be told.
    pub(crate) async fn take<T>(
        &self,
        operation: Operation,
        part: Part,
        mut step: impl FnMut(&mut State) -> Result<Step<T>, Refusal>,
    ) -> Result<Told<T>, StoreError> {
        let mut gone = None;
        loop {
            match self.shared.step(&mut step) {
                Ok(Step::Answer(answer, settled)) => {
                    self.settle(operation, settled).await?;
                    return Ok(Told::Answer(answer));
                }
                Ok(Step::Load(load)) => {
                    let (now, at) = (load.now, load.at);
                    if let Some(entry) = self.load(operation, load, part).await? {
                        return Ok(Told::Loaded(Box::new(entry), now));
                    }
                    // Moved meanwhile, so the next step finds it elsewhere.
                    if gone.replace(at) == Some(at) {
                        let name = crate::log::segment_name(at.segment);
                        let message = format!("{}/{name} is missing", self.shared.folder);
                        let kind = StoreErrorKind::Corrupt;
                        return Err(StoreError::new(operation, kind, message));
                    }
                }
                Err(Refusal::Later(event)) => {
                    // If it failed, the next step says why.
                    event.wait().await;
                }
                Err(refusal) => return Err(self.error(operation, refusal)),
            }
        }
    }

    /// Waits until what was read or written is durable.
    pub(crate) async fn settle(
        &self,
        operation: Operation,
        settled: Option<Arc<Event>>,
    ) -> Result<(), StoreError> {
        match settled {
            Some(event) if !event.clone().wait().await => {
                let poison = self.shared.lock().poison.clone();
                let refusal = poison.map_or(Refusal::Closed, Refusal::Poisoned);
                Err(self.error(operation, refusal))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Reads a completed record; `None` when it is not there any more.
    pub(crate) async fn load(
        &self,
        operation: Operation,
        load: Load,
        part: Part,
    ) -> Result<Option<Entry>, StoreError> {
        self.settle(operation, load.settled.clone()).await?;
        let (shared, at) = (self.shared.clone(), load.at);
        let read = self
            .shared
            .readers
            .run(move || shared.readers.read(&load, part))
            .await;
        match read {
            None => Err(self.error(operation, Refusal::Closed)),
            Some(Ok(entry)) => Ok(Some(entry)),
            Some(Err(ReadError::Gone)) => Ok(None),
            Some(Err(error)) => {
                let kind = match error {
                    ReadError::Io(_) => StoreErrorKind::Unavailable,
                    ReadError::Gone | ReadError::Checksum | ReadError::Decode(_) => {
                        StoreErrorKind::Corrupt
                    }
                };
                let message = format!(
                    "a record in {}/{} at offset {} can't be read: {error}",
                    self.shared.folder,
                    crate::log::segment_name(at.segment),
                    at.offset,
                );
                Err(StoreError::new(operation, kind, message).with_source(error))
            }
        }
    }

    fn spawn(
        &self,
        name: &str,
        work: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _guard = PoisonOnPanic::new(&shared);
                work(&shared);
            })
            .map_err(|error| recover::io_error(&format!("starting the thread {name}"), error))?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(threads) = threads.as_mut() {
            threads.handles.push(handle);
        }
        Ok(())
    }

    pub(crate) fn error(&self, operation: Operation, refusal: Refusal) -> StoreError {
        let folder = &self.shared.folder;
        let (kind, message) = match refusal {
            Refusal::Full(reason) => (StoreErrorKind::Full, format!("{folder}: {reason}")),
            Refusal::Poisoned(reason) => (
                StoreErrorKind::Poisoned,
                format!("{folder} takes no more work until it is opened anew: {reason}"),
            ),
            Refusal::Closed => (
                StoreErrorKind::Unavailable,
                format!("{folder} has been closed"),
            ),
            Refusal::TooLong(size) => (
                StoreErrorKind::Full,
                format!(
                    "{folder}: a record of {size} bytes is longer than this store takes, {}: \
                     lower the length up to which responses are kept",
                    crate::log::frame::MAX_SIZE,
                ),
            ),
            // `take` waits for it.
            Refusal::Later(_) => (StoreErrorKind::Unavailable, format!("{folder} is busy")),
        };
        StoreError::new(operation, kind, message)
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the disk store was closed after a failure");
        }
    }
}

impl Store for DiskStore {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        loop {
            let step = |state: &mut State| state.claim(attempt);
            match self.take(Operation::Claim, Part::Whole, step).await? {
                Told::Answer(claim) => return Ok(claim),
                Told::Loaded(entry, now) => {
                    if let Some(record) = entry.view(now) {
                        return Ok(Claim::Held(record));
                    }
                }
            }
        }
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        let step = |state: &mut State| state.renew(lease, renewal);
        match self.take(Operation::Renew, Part::Meta, step).await? {
            Told::Answer(fenced) => Ok(fenced),
            Told::Loaded(..) => Ok(Fenced::Superseded),
        }
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        let step = |state: &mut State| state.complete(lease, completion, keep);
        match self.take(Operation::Complete, Part::Meta, step).await? {
            Told::Answer(fenced) => Ok(fenced),
            Told::Loaded(entry, now) => Ok(match entry.complete(lease, completion, keep, now) {
                CompleteStep::Already => Fenced::Applied,
                // A completed record is never written over.
                CompleteStep::Write(_) | CompleteStep::Superseded => Fenced::Superseded,
            }),
        }
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        let step = |state: &mut State| state.release(lease);
        match self.take(Operation::Release, Part::Meta, step).await? {
            Told::Answer(fenced) => Ok(fenced),
            Told::Loaded(..) => Ok(Fenced::Superseded),
        }
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        let checked = self.shared.lock().check();
        match checked {
            Ok(()) => Ok(self.shared.watchers.watch(id)),
            Err(refusal) => Err(self.error(Operation::Watch, refusal)),
        }
    }
}
