//! A store in this process's memory.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onlyonce_core::{Clock, SystemClock, Timestamp};

use super::table::{Change, Table};
use super::{Look, SessionKey, TokenKey, TokenStore, TokenStoreError, UserKey};

/// Keeps sessions in this process's memory: they end with it, and no other process sees them.
///
/// It holds 1,000,000 sessions and tickets together unless told otherwise, about 300 bytes each.
/// When it is full, logins fail; nobody who is logged in loses a session.
///
/// # Example
/// ```
/// use onlyonce_pipeline::auth::MemoryTokenStore;
///
/// let store = MemoryTokenStore::new().with_capacity(10_000);
/// # let _ = store;
/// ```
pub struct MemoryTokenStore {
    table: Mutex<Table>,
    clock: Arc<dyn Clock>,
}

pub(super) const DEFAULT_CAPACITY: usize = 1_000_000;

impl MemoryTokenStore {
    /// An empty store on the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self {
            table: Mutex::new(Table::new(DEFAULT_CAPACITY)),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Holds this many sessions and tickets at most.
    #[must_use]
    pub fn with_capacity(mut self, capacity: usize) -> Self {
        self.table = Mutex::new(Table::new(capacity));
        self
    }

    /// Takes its time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    fn table(&self) -> (MutexGuard<'_, Table>, Timestamp) {
        // Each change is whole before the next begins, so a panic leaves nothing half done.
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        (table, self.clock.now())
    }

    fn change(&self, decide: impl FnOnce(&mut Table, Timestamp) -> Option<Vec<Change>>) -> bool {
        let (mut table, now) = self.table();
        let changes = decide(&mut table, now);
        for change in changes.iter().flatten() {
            table.apply(change);
        }
        changes.is_some()
    }
}

impl Default for MemoryTokenStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryTokenStore({})", self.table().0.len())
    }
}

impl TokenStore for MemoryTokenStore {
    async fn begin(
        &self,
        session: &SessionKey,
        keep: Duration,
        at_most: usize,
    ) -> Result<(), TokenStoreError> {
        let (mut table, now) = self.table();
        for change in table.begin(session, keep, at_most, now)? {
            table.apply(&change);
        }
        Ok(())
    }

    async fn look(&self, session: &SessionKey) -> Result<Look, TokenStoreError> {
        let (table, now) = self.table();
        Ok(table.look(session, now))
    }

    async fn extend(
        &self,
        session: &SessionKey,
        refreshes: u32,
        keep: Duration,
    ) -> Result<bool, TokenStoreError> {
        Ok(self.change(|table, now| table.extend(session, refreshes, keep, now)))
    }

    async fn replace(
        &self,
        session: &SessionKey,
        token: &TokenKey,
        refreshes: u32,
        keep: Duration,
    ) -> Result<bool, TokenStoreError> {
        Ok(self.change(|table, now| table.replace(session, token, refreshes, keep, now)))
    }

    async fn end(&self, session: &SessionKey) -> Result<bool, TokenStoreError> {
        Ok(self.change(|table, now| table.end(session, now)))
    }

    async fn end_all(&self, user: &UserKey) -> Result<(), TokenStoreError> {
        self.change(|table, _| Some(table.end_all(user)));
        Ok(())
    }

    async fn put_ticket(
        &self,
        ticket: &TokenKey,
        grant: &[u8],
        keep: Duration,
    ) -> Result<(), TokenStoreError> {
        let (mut table, now) = self.table();
        table.put_ticket(ticket, grant, keep, now)
    }

    async fn take_ticket(&self, ticket: &TokenKey) -> Result<Option<Vec<u8>>, TokenStoreError> {
        let (mut table, now) = self.table();
        Ok(table.take_ticket(ticket, now))
    }
}
