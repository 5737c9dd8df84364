//! Opening a store.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Clock, StoreError, SystemClock};

use crate::DiskStore;
use crate::disk::{Disk, RealDisk};
use crate::recover::{io_error, misconfigured};

const MIB: u64 = 1 << 20;
/// Small enough to be made in an instant, large enough that beginning one is rare.
const SEGMENT: u64 = 32 * MIB;
const SEGMENT_LEAST: u64 = MIB;
const SEGMENT_MOST: u64 = 1 << 30;
/// A limit must hold the segment being written, the next one, and some to give back.
const SEGMENTS_LEAST: u64 = 4;

/// When an answer may be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the claim or the record lies on the disk: it survives `kill -9` and the loss of
    /// power. Requests that arrive together share one flush.
    #[default]
    Record,
    /// When it has been handed to the operating system, and flushed at most `every` later.
    ///
    /// Weaker: it survives `kill -9`, but when the machine loses power or its system crashes,
    /// the claims and records of the last `every` may be gone, and with them the knowledge that
    /// something was executed: its retry executes again. Fences still never go back.
    Relaxed {
        /// Longest time that an answer goes ahead of its flush.
        every: Duration,
    },
}

/// Settings of a [`DiskStore`].
///
/// # Example
/// ```no_run
/// use onlyonce_disk::DiskStore;
///
/// # fn main() -> Result<(), onlyonce_core::StoreError> {
/// let store = DiskStore::builder("./onlyonce-data")
///     .max_bytes(10 << 30)
///     .open()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `open`"]
pub struct Builder {
    path: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Leaves the upkeep to the test.
    #[cfg(test)]
    pub(crate) manual_upkeep: bool,
}

impl Builder {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            durability: Durability::default(),
            max_bytes: None,
            segment_bytes: None,
            clock: Arc::new(SystemClock::new()),
            #[cfg(test)]
            manual_upkeep: false,
        }
    }

    /// When an answer may be given. Default: [`Durability::Record`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Longest that the log may get on the disk, in bytes. Default: no limit but the disk.
    ///
    /// A store that has reached it refuses new claims until records expire; what is under way
    /// still lands, in room that is kept back for it. At least 4 MiB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Length of the log's files in bytes, 1 MiB to 1 GiB. Default: 32 MiB, or a sixteenth of
    /// [`max_bytes`](Self::max_bytes) where that is less.
    ///
    /// Room is given back a file at a time. The least that a store takes on the disk is one
    /// file, and soon two.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    /// The clock that leases and lifetimes are counted on. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens the store; makes the folder if it does not exist (its parent must).
    ///
    /// **Blocks** while it reads the log: about a second for a million records. On an
    /// asynchronous runtime, open before serving or on a thread for blocking work.
    ///
    /// # Errors
    /// - [`Misconfigured`](onlyonce_core::StoreErrorKind::Misconfigured): the path is no folder,
    ///   may not be written, is another program's, is open already, was written by another
    ///   version, or a setting is out of range;
    /// - [`Corrupt`](onlyonce_core::StoreErrorKind::Corrupt): something that was acknowledged
    ///   once is damaged; the message names the file and the offset;
    /// - [`Full`](onlyonce_core::StoreErrorKind::Full): there is no room for a first segment.
    pub fn open(self) -> Result<DiskStore, StoreError> {
        let segment_bytes = self.check()?;
        let folder = self.path.display().to_string();
        let created = match DirBuilder::new().mode(0o700).create(&self.path) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(io_error(&format!("creating the folder {folder}"), error)),
        };
        if !self.path.is_dir() {
            return Err(misconfigured(format!(
                "{folder} is a file: a store is a folder, name one that exists or can be created"
            )));
        }
        let opened = RealDisk::open(&self.path);
        let disk =
            opened.map_err(|error| io_error(&format!("opening the folder {folder}"), error))?;
        if created {
            let parent = match self.path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            RealDisk::open(parent)
                .and_then(|parent| parent.sync_folder())
                .map_err(|error| io_error(&format!("flushing {}", parent.display()), error))?;
        }
        DiskStore::start(Arc::new(disk), &folder, &self, segment_bytes)
    }

    fn check(&self) -> Result<u32, StoreError> {
        let derived = self
            .max_bytes
            .map_or(SEGMENT, |most| (most / 16).clamp(SEGMENT_LEAST, SEGMENT));
        let segment = self.segment_bytes.unwrap_or(derived);
        if !(SEGMENT_LEAST..=SEGMENT_MOST).contains(&segment) {
            return Err(misconfigured(format!(
                "`segment_bytes` is {segment}: it must be between {SEGMENT_LEAST} (1 MiB) and \
                 {SEGMENT_MOST} (1 GiB)"
            )));
        }
        if let Some(most) = self.max_bytes
            && most < segment * SEGMENTS_LEAST
        {
            return Err(misconfigured(format!(
                "`max_bytes` is {most}: it must be at least {}, {SEGMENTS_LEAST} segments of \
                 {segment} bytes",
                segment * SEGMENTS_LEAST,
            )));
        }
        if let Durability::Relaxed { every } = self.durability
            && !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&every)
        {
            return Err(misconfigured(format!(
                "`durability` flushes every {every:?}: it must be between 1 ms and 60 s"
            )));
        }
        // Segments are whole pages; the range above fits 32 bits.
        Ok(u32::try_from(segment.next_multiple_of(4096)).unwrap_or(1 << 30))
    }
}
