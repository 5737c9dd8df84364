//! Threads that read completed records, so that no runtime's thread waits for the disk.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use onlyonce_core::Entry;
use onlyonce_core::codec::DecodeError;
use tokio::sync::oneshot;

use crate::disk::{Disk, DiskFile};
use crate::log::frame::{self, HEADER, Header, Kind};
use crate::log::{segment, segment_name};
use crate::steps::Load;

/// Two are enough to let one wait for the disk while the other finds its page in memory.
pub(crate) const THREADS: usize = 2;
/// How many segments stay open.
const HANDLES: usize = 64;

pub(crate) struct Readers {
    disk: Arc<dyn Disk>,
    store: [u8; 16],
    tasks: Mutex<Tasks>,
    ready: Condvar,
    handles: Mutex<HashMap<u32, Arc<dyn DiskFile>>>,
}

type Task = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Tasks {
    queue: VecDeque<Task>,
    idle: usize,
    closed: bool,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Its segment has been dropped meanwhile: the record was moved or has gone.
    #[error("its segment has been dropped")]
    Gone,
    #[error("{0}")]
    Io(#[source] io::Error),
    #[error("its checksum is wrong")]
    Checksum,
    #[error("{0}")]
    Decode(#[source] DecodeError),
}

/// How much of a record is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// All but its result, which then reads as empty.
    Meta,
}

impl Readers {
    pub(crate) fn new(disk: Arc<dyn Disk>, store: [u8; 16]) -> Self {
        Self {
            disk,
            store,
            tasks: Mutex::default(),
            ready: Condvar::new(),
            handles: Mutex::default(),
        }
    }

    /// Runs `task` on one of the threads. `None` when the store is closed.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (send, receive) = oneshot::channel();
        {
            let mut tasks = self.lock();
            if tasks.closed {
                return None;
            }
            tasks.queue.push_back(Box::new(move || {
                // Nobody waits any more: spare the disk.
                if !send.is_closed() {
                    let _ = send.send(task());
                }
            }));
            if tasks.idle > 0 {
                self.ready.notify_one();
            }
        }
        receive.await.ok()
    }

    /// What each thread does until the store is closed.
    pub(crate) fn work(&self) {
        let mut tasks = self.lock();
        loop {
            if let Some(task) = tasks.queue.pop_front() {
                drop(tasks);
                task();
                tasks = self.lock();
            } else if tasks.closed {
                return;
            } else {
                tasks.idle += 1;
                tasks = self
                    .ready
                    .wait(tasks)
                    .unwrap_or_else(PoisonError::into_inner);
                tasks.idle -= 1;
            }
        }
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// Reads a record. Blocks on the disk.
    pub(crate) fn read(&self, load: &Load, part: Part) -> Result<Entry, ReadError> {
        let file = self.handle(load.at.segment).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                ReadError::Gone
            } else {
                ReadError::Io(error)
            }
        })?;
        let offset = load.at.offset;
        // The meta part fits the first piece nearly always.
        let first = match part {
            Part::Whole => load.size as usize,
            Part::Meta => (load.size as usize).min(512),
        };
        let bytes = read(&*file, offset, first)?;
        let seed = segment::seed(&self.store, load.at.segment);
        let header = Header::decode(&bytes, seed).ok_or(ReadError::Checksum)?;
        if header.kind != Kind::Put || header.id != load.id || header.size() != load.size as usize {
            return Err(ReadError::Checksum);
        }
        let meta_end = HEADER + header.meta_len as usize;
        let bytes = if bytes.len() < meta_end {
            read(&*file, offset, meta_end)?
        } else {
            bytes
        };
        let meta = bytes.slice(HEADER..meta_end);
        let body = match part {
            Part::Whole => bytes.slice(meta_end..meta_end + header.body_len as usize),
            Part::Meta => Bytes::new(),
        };
        if !header.is_meta(&meta) || (part == Part::Whole && !header.is_body(&body)) {
            return Err(ReadError::Checksum);
        }
        frame::join(meta, body).map_err(ReadError::Decode)
    }

    /// Closes a segment that has been dropped.
    pub(crate) fn forget(&self, segment: u32) {
        self.handles().remove(&segment);
    }

    fn handle(&self, segment: u32) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.handles().get(&segment) {
            return Ok(file.clone());
        }
        let file: Arc<dyn DiskFile> = self.disk.open(&segment_name(segment))?.into();
        let mut handles = self.handles();
        if handles.len() >= HANDLES
            && let Some(oldest) = handles.keys().min().copied()
        {
            handles.remove(&oldest);
        }
        handles.insert(segment, file.clone());
        Ok(file)
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<u32, Arc<dyn DiskFile>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Readers")
    }
}

fn read(file: &dyn DiskFile, offset: u32, length: usize) -> Result<Bytes, ReadError> {
    let mut bytes = vec![0; length];
    let read = file
        .read_full(&mut bytes, offset.into())
        .map_err(ReadError::Io)?;
    if read < length {
        return Err(ReadError::Checksum);
    }
    Ok(bytes.into())
}
