//! Rows in memory: the last so many.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use onlyonce_core::Timestamp;

use super::{AccessRow, RowId, RowQuery, RowSink, RowSummary, SinkFuture};

/// Keeps the newest rows in memory; they go with the process.
pub struct MemorySink {
    rows: Mutex<BTreeMap<RowId, AccessRow>>,
    most: usize,
}

impl MemorySink {
    /// Keeps the newest `most` rows.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            rows: Mutex::default(),
            most,
        }
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<RowId, AccessRow>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RowSink for MemorySink {
    fn write<'a>(&'a self, rows: &'a [AccessRow]) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            let mut kept = self.rows();
            for row in rows {
                kept.entry(row.id).or_insert_with(|| row.clone());
            }
            while kept.len() > self.most {
                kept.pop_first();
            }
            Ok(())
        })
    }

    fn list<'a>(&'a self, query: &'a RowQuery) -> SinkFuture<'a, Vec<RowSummary>> {
        Box::pin(async move {
            let rows = self.rows();
            let older = |id: &RowId| query.before.is_none_or(|before| *id < before);
            let found = rows
                .values()
                .rev()
                .filter(|row| older(&row.id) && query.filter.fits(row));
            Ok(found.take(query.rows()).map(RowSummary::from).collect())
        })
    }

    fn find(&self, id: RowId) -> SinkFuture<'_, Option<AccessRow>> {
        Box::pin(async move { Ok(self.rows().get(&id).cloned()) })
    }

    fn purge(&self, before: Timestamp, most: usize) -> SinkFuture<'_, u64> {
        Box::pin(async move {
            let mut rows = self.rows();
            let end = RowId::first_at(before);
            let old: Vec<_> = rows.range(..end).take(most).map(|(id, _)| *id).collect();
            for id in &old {
                rows.remove(id);
            }
            Ok(old.len() as u64)
        })
    }
}

impl fmt::Debug for MemorySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySink")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}
