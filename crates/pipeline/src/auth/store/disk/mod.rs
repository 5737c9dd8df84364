//! A store in one file.

mod log;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use onlyonce_core::{Clock, StoreErrorKind, SystemClock, Timestamp};

use self::log::Log;
use super::memory::DEFAULT_CAPACITY;
use super::table::{Change, Table};
use super::{Look, SessionKey, TokenKey, TokenStore, TokenStoreError, UserKey};

/// Keeps sessions in memory and in one file, so that they survive a restart of this process.
///
/// Each login, logout and refresh is appended to the file and synced before it counts; looking a
/// session up reads memory alone. When the file has grown to four times what it needs, it is
/// written anew beside itself and renamed. One process at a time opens it.
///
/// # Limits
/// - Some hundred logins a second on a usual disk, since each one is synced; lookups have no such
///   limit. More than one process: Redis or PostgreSQL.
/// - All sessions are in memory as well: see [`MemoryTokenStore`](super::MemoryTokenStore).
/// - Tickets live for seconds and are not written: a restart ends them.
/// - After a failed write nothing more is written until the store is opened anew; lookups go on.
pub struct DiskTokenStore {
    inner: Arc<Inner>,
}

struct Inner {
    /// Held while a change is decided on, written and made. Taken before `table`.
    log: Mutex<Log>,
    table: RwLock<Table>,
    clock: Arc<dyn Clock>,
}

/// A file of sessions can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenDiskTokenStoreError {
    /// The system says no.
    #[error("can't open the token store {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the token store {0} is open in another process: stop that, or take another file")]
    Locked(PathBuf),
    /// It is another kind of file, or of a later version.
    #[error("{0} is no token store that this version knows; take another file")]
    Foreign(PathBuf),
    /// It is damaged, and not only at its end.
    #[error(
        "the token store {path} is damaged in line {line}: restore it from a copy, or remove it, \
         which logs everybody out"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
}

impl DiskTokenStore {
    /// Opens the file at `path`, or makes it: on the system's clock, for 1,000,000 sessions and
    /// tickets.
    ///
    /// This reads the whole file: do it at start, or on a thread that may block.
    ///
    /// # Errors
    /// When it can't be opened, is open elsewhere, or is damaged otherwise than by a write that
    /// was cut off.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenDiskTokenStoreError> {
        Self::open_with(path, DEFAULT_CAPACITY, SystemClock::new())
    }

    /// Opens the file at `path` for `capacity` sessions and tickets, with its time from `clock`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        path: impl Into<PathBuf>,
        capacity: usize,
        clock: impl Clock,
    ) -> Result<Self, OpenDiskTokenStoreError> {
        let mut table = Table::new(capacity);
        // Also what has expired: a later line may say that it lasts longer.
        let log = Log::open(path.into(), |change| table.apply(&change))?;
        table.sweep(clock.now());
        Ok(Self {
            inner: Arc::new(Inner {
                log: Mutex::new(log),
                table: RwLock::new(table),
                clock: Arc::new(clock),
            }),
        })
    }

    /// Writes on a thread that may block, to its end, also when nobody waits for it any more.
    async fn change<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Table, Timestamp) -> Result<(Vec<Change>, T), TokenStoreError>
        + Send
        + 'static,
    ) -> Result<T, TokenStoreError> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || inner.change(decide)).await;
        done.unwrap_or_else(|error| {
            Err(
                TokenStoreError::new(StoreErrorKind::Poisoned, "a write panicked")
                    .with_source(error),
            )
        })
    }
}

impl Inner {
    fn change<T>(
        &self,
        decide: impl FnOnce(&mut Table, Timestamp) -> Result<(Vec<Change>, T), TokenStoreError>,
    ) -> Result<T, TokenStoreError> {
        // A panic between writing and applying would leave memory behind the file.
        let mut log = self.log.lock().map_err(|_| {
            TokenStoreError::new(StoreErrorKind::Poisoned, "an earlier write panicked")
        })?;
        let now = self.clock.now();
        let decided = {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            decide(&mut table, now)
        };
        let (changes, outcome) = decided?;
        if changes.is_empty() {
            return Ok(outcome);
        }
        log.append(&changes)?;
        let is_large = {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            for change in &changes {
                table.apply(change);
            }
            log.is_large_for(table.len())
        };
        if is_large {
            let live: Vec<Change> = {
                let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
                table.snapshot(now).collect()
            };
            log.rewrite(&live);
        }
        Ok(outcome)
    }
}

impl TokenStore for DiskTokenStore {
    async fn begin(
        &self,
        session: &SessionKey,
        keep: Duration,
        at_most: usize,
    ) -> Result<(), TokenStoreError> {
        let session = *session;
        self.change(move |table, now| Ok((table.begin(&session, keep, at_most, now)?, ())))
            .await
    }

    async fn look(&self, session: &SessionKey) -> Result<Look, TokenStoreError> {
        let table = self
            .inner
            .table
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(table.look(session, self.inner.clock.now()))
    }

    async fn extend(
        &self,
        session: &SessionKey,
        refreshes: u32,
        keep: Duration,
    ) -> Result<bool, TokenStoreError> {
        let session = *session;
        self.change(move |table, now| Ok(decided(table.extend(&session, refreshes, keep, now))))
            .await
    }

    async fn replace(
        &self,
        session: &SessionKey,
        token: &TokenKey,
        refreshes: u32,
        keep: Duration,
    ) -> Result<bool, TokenStoreError> {
        let (session, token) = (*session, *token);
        self.change(move |table, now| {
            Ok(decided(
                table.replace(&session, &token, refreshes, keep, now),
            ))
        })
        .await
    }

    async fn end(&self, session: &SessionKey) -> Result<bool, TokenStoreError> {
        let session = *session;
        self.change(move |table, now| Ok(decided(table.end(&session, now))))
            .await
    }

    async fn end_all(&self, user: &UserKey) -> Result<(), TokenStoreError> {
        let user = *user;
        self.change(move |table, _| Ok((table.end_all(&user), ())))
            .await
    }

    async fn put_ticket(
        &self,
        ticket: &TokenKey,
        grant: &[u8],
        keep: Duration,
    ) -> Result<(), TokenStoreError> {
        let mut table = self
            .inner
            .table
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        table.put_ticket(ticket, grant, keep, self.inner.clock.now())
    }

    async fn take_ticket(&self, ticket: &TokenKey) -> Result<Option<Vec<u8>>, TokenStoreError> {
        let mut table = self
            .inner
            .table
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(table.take_ticket(ticket, self.inner.clock.now()))
    }
}

fn decided(changes: Option<Vec<Change>>) -> (Vec<Change>, bool) {
    let is_done = changes.is_some();
    (changes.unwrap_or_default(), is_done)
}

impl fmt::Debug for DiskTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskTokenStore")
    }
}

#[cfg(test)]
mod tests;
