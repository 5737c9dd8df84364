//! How many of something there are, by identifier, and never more than so many.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onlyonce_core::RecordId;

/// Counts by identifier; what falls to zero takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<HashMap<RecordId, usize>>);

/// One counted place, given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    tally: Arc<Tally>,
    id: RecordId,
}

impl Tally {
    /// Takes a place under `id`, if fewer than `most` are taken.
    pub(crate) fn take(self: &Arc<Self>, id: RecordId, most: usize) -> Option<Place> {
        let mut counts = self.lock();
        let taken = counts.get(&id).copied().unwrap_or_default();
        if taken >= most {
            return None;
        }
        counts.insert(id, taken + 1);
        Some(Place {
            tally: Arc::clone(self),
            id,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RecordId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.tally.lock().entry(self.id) {
            if *count.get() > 1 {
                *count.get_mut() -= 1;
            } else {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_40_places_are_bounded_and_come_back() {
        let tally = Arc::new(Tally::default());
        let (one, two) = (RecordId::from_bytes([1; 32]), RecordId::from_bytes([2; 32]));
        let first = tally.take(one, 2);
        let second = tally.take(one, 2);
        assert!(first.is_some() && second.is_some());
        assert!(tally.take(one, 2).is_none());
        assert!(tally.take(two, 2).is_some());
        drop(first);
        assert!(tally.take(one, 2).is_some());
        drop(second);
        assert!(tally.lock().is_empty());
    }
}
