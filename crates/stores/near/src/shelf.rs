//! The copies, and whether they can be trusted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onlyonce_core::{
    Clock, Fence, Fingerprint, InvalidationListener, Nonce, Record, RecordId, State, Timestamp,
};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Locks that void and keep copies. Reading takes none of them.
const GATES: usize = 64;
/// What a copy takes besides its response and its label, roughly.
const OVERHEAD: u64 = 320;
/// Room for claims that were won and not completed yet, as a part of the whole.
const FOR_CLAIMS: u64 = 16;
/// By how much a copy ends before its record: the part of its time that clocks may go apart by.
const MARGIN: u32 = 1_000;

pub(crate) struct Shelf {
    clock: Arc<dyn Clock>,
    copies: Cache<RecordId, Arc<Copied>, Weights>,
    /// What must be known of a claim to make a copy of its completion.
    claims: Cache<RecordId, Note, Weights>,
    /// Claims that were sent, and whether they were sent again. Of one that was, nobody here knows
    /// which sending made the record, and when.
    sent: Cache<Nonce, Arc<AtomicBool>, Weights>,
    /// Each counts how often copies of its records became void, so that an answer which was under
    /// way meanwhile is not kept.
    gates: Box<[Mutex<u64>]>,
    /// Milliseconds on the clock; zero while announcements may be missed.
    trusted_until: AtomicU64,
    /// Counts the losses. A copy of an earlier generation is void.
    generation: AtomicU64,
}

/// A completed record as it was when the request for it was sent, or later.
pub(crate) struct Copied {
    record: Record,
    sent: Timestamp,
    /// It is not used from here on.
    until: Timestamp,
    generation: u64,
}

/// A claim that was won here, as attempt 1.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) fence: Fence,
    /// The record's fingerprint, as long as that is certain.
    pub(crate) fingerprint: Option<Option<Fingerprint>>,
    pub(crate) label: Box<str>,
    pub(crate) sent: Timestamp,
    pub(crate) again: Arc<AtomicBool>,
}

/// What is known of a claim that is being completed.
#[derive(Clone, Debug)]
enum Note {
    Open(Arc<Claimed>),
    /// It has been completed, or it was tried: of a second completion it is not known whether it
    /// is the one that stands.
    Spent(Fence),
}

/// Taken before a request is sent; the answer is kept only if nothing became void since.
#[derive(Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) sent: Timestamp,
    voids: u64,
    generation: u64,
}

/// A claim that is being sent: see [`Claimed`].
pub(crate) type Sending = Arc<AtomicBool>;

#[derive(Clone, Copy)]
pub(crate) struct Weights;

impl Weighter<Nonce, Sending> for Weights {
    fn weight(&self, _: &Nonce, _: &Sending) -> u64 {
        OVERHEAD / 2
    }
}

impl Weighter<RecordId, Arc<Copied>> for Weights {
    fn weight(&self, _: &RecordId, copied: &Arc<Copied>) -> u64 {
        let kept = match &copied.record.state {
            State::Completed {
                kept: Some(kept), ..
            } => kept.len(),
            _ => 0,
        };
        OVERHEAD + (kept + copied.record.label.len()) as u64
    }
}

impl Weighter<RecordId, Note> for Weights {
    fn weight(&self, _: &RecordId, note: &Note) -> u64 {
        match note {
            Note::Open(claimed) => OVERHEAD + claimed.label.len() as u64,
            Note::Spent(_) => OVERHEAD,
        }
    }
}

impl Note {
    fn fence(&self) -> Fence {
        match self {
            Self::Open(claimed) => claimed.fence,
            Self::Spent(fence) => *fence,
        }
    }
}

impl Shelf {
    pub(crate) fn new(bytes: u64, clock: Arc<dyn Clock>) -> Self {
        let for_claims = bytes / FOR_CLAIMS;
        Self {
            clock,
            copies: Cache::with_weighter(items(bytes, 4_096), bytes - for_claims, Weights),
            claims: Cache::with_weighter(items(for_claims, OVERHEAD), for_claims / 2, Weights),
            sent: Cache::with_weighter(items(for_claims, OVERHEAD), for_claims / 2, Weights),
            gates: (0..GATES).map(|_| Mutex::new(0)).collect(),
            trusted_until: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.copies.weight() + self.claims.weight() + self.sent.weight()
    }

    pub(crate) fn is_trusted(&self) -> bool {
        self.clock.now().as_millis() < self.trusted_until.load(Ordering::SeqCst)
    }

    /// The record, from its copy, as it is now.
    pub(crate) fn find(&self, id: &RecordId) -> Option<Record> {
        let copied = self.copies.get(id)?;
        // Looked at after the copy was found: it was not void when this was read.
        let generation = self.generation.load(Ordering::SeqCst);
        let now = self.clock.now();
        if copied.generation != generation || now >= copied.until {
            self.copies.remove(id);
            return None;
        }
        if now.as_millis() >= self.trusted_until.load(Ordering::SeqCst) {
            return None;
        }
        let since = now.since(copied.sent);
        let mut record = copied.record.clone();
        record.age = record.age.saturating_add(since);
        record.expires_in = record.expires_in.saturating_sub(since);
        Some(record)
    }

    /// To be called before a request is sent. `None` while its answer could not be trusted.
    pub(crate) fn ticket(&self, id: &RecordId) -> Option<Ticket> {
        let generation = self.generation.load(Ordering::SeqCst);
        let voids = *self.gate(id);
        self.is_trusted().then(|| Ticket {
            sent: self.clock.now(),
            voids,
            generation,
        })
    }

    /// Keeps a copy of a completed record, unless it may be void.
    pub(crate) fn keep(&self, id: RecordId, record: Record, ticket: Ticket) {
        let whole = record.expires_in;
        let life = whole.saturating_sub(whole / MARGIN);
        let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let copied = Arc::new(Copied {
            record,
            sent: ticket.sent,
            until: Timestamp::from_millis(ticket.sent.as_millis().saturating_add(life)),
            generation: ticket.generation,
        });
        let voids = self.gate(&id);
        if *voids == ticket.voids && self.generation.load(Ordering::SeqCst) == ticket.generation {
            self.copies.insert(id, copied);
        }
    }

    /// To be called before a claim is sent.
    pub(crate) fn sending(&self, id: &RecordId, nonce: Nonce) -> Sending {
        let _gate = self.gate(id);
        if let Some(again) = self.sent.get(&nonce) {
            again.store(true, Ordering::SeqCst);
            return again;
        }
        let sending = Sending::default();
        self.sent.insert(nonce, Arc::clone(&sending));
        sending
    }

    /// Remembers a claim that was won. The first word on it stands, as it does in the store when
    /// a claim is sent again.
    pub(crate) fn note(&self, id: RecordId, claimed: Claimed) {
        let _gate = self.gate(&id);
        let noted = self.claims.get(&id);
        if noted.is_none_or(|note| note.fence() != claimed.fence) {
            self.claims.insert(id, Note::Open(Arc::new(claimed)));
        }
    }

    /// The record's fingerprint is about to change, and nobody here will know when.
    pub(crate) fn doubt_fingerprint(&self, id: &RecordId, fence: Fence) {
        let _gate = self.gate(id);
        if let Some(Note::Open(claimed)) = self.claims.get(id)
            && claimed.fence == fence
        {
            let doubtful = Claimed {
                fingerprint: None,
                label: claimed.label.clone(),
                again: Arc::clone(&claimed.again),
                ..*claimed
            };
            self.claims.insert(*id, Note::Open(Arc::new(doubtful)));
        }
    }

    /// What was noted of the claim, once.
    pub(crate) fn take_note(&self, id: &RecordId, fence: Fence) -> Option<Arc<Claimed>> {
        let _gate = self.gate(id);
        match self.claims.get(id)? {
            Note::Open(claimed) if claimed.fence == fence => {
                self.claims.insert(*id, Note::Spent(fence));
                (!claimed.again.load(Ordering::SeqCst)).then_some(claimed)
            }
            _ => None,
        }
    }

    fn gate(&self, id: &RecordId) -> MutexGuard<'_, u64> {
        let gate = &self.gates[usize::from(id.as_bytes()[0]) % GATES];
        gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InvalidationListener for Shelf {
    fn connected(&self, trust: Duration) {
        let trust = u64::try_from(trust.as_millis()).unwrap_or(u64::MAX);
        let until = self.clock.now().as_millis().saturating_add(trust);
        self.trusted_until.store(until, Ordering::SeqCst);
    }

    fn lost(&self) {
        self.trusted_until.store(0, Ordering::SeqCst);
        // Void from here on, whenever they are removed.
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.copies.clear();
    }

    fn void(&self, id: &RecordId) {
        let mut voids = self.gate(id);
        *voids += 1;
        self.copies.remove(id);
    }
}

fn items(bytes: u64, each: u64) -> usize {
    usize::try_from(bytes / each).unwrap_or(usize::MAX).max(16)
}

#[cfg(test)]
mod tests {
    use onlyonce_core::ManualClock;

    use super::*;

    const ID: RecordId = RecordId::from_bytes([1; 32]);

    fn record() -> Record {
        Record {
            fingerprint: None,
            attempt: 1,
            fence: Fence::new(1),
            state: State::Completed {
                status: 200,
                kept: None,
            },
            age: Duration::ZERO,
            expires_in: Duration::from_secs(60),
            label: "POST /".into(),
        }
    }

    /// A copy that came in beside the loss, behind the removal of all others.
    #[test]
    fn a_copy_from_before_a_loss_is_void_even_where_it_was_not_removed() {
        let shelf = Shelf::new(1 << 20, Arc::new(ManualClock::new()));
        shelf.connected(Duration::MAX);
        let ticket = shelf.ticket(&ID).expect("it is connected");
        shelf.keep(ID, record(), ticket);
        assert!(shelf.find(&ID).is_some());
        let copied = shelf.copies.get(&ID).expect("it was found");
        shelf.lost();
        shelf.copies.insert(ID, copied);
        shelf.connected(Duration::MAX);
        assert!(shelf.find(&ID).is_none());
    }
}
