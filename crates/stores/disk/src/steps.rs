//! The steps of the contract, each decided in one go under the lock.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{
    Attempt, Claim, ClaimStep, CompleteStep, Completion, Entry, Fence, Fenced, Lease, RecordId,
    Renewal, Resolution, ResolveStep, Resolved, Timestamp,
};

use crate::event::Event;
use crate::index::Slot;
use crate::log::Position;
use crate::state::{Need, Refusal, State};

/// What a step came to.
#[derive(Debug)]
pub(crate) enum Step<T> {
    /// Give this answer once the event has fired (at once, if there is none).
    Answer(T, Option<Arc<Event>>),
    /// The answer hangs on a completed record, which lies on the disk.
    Load(Load),
}

/// A completed record to be read.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) id: RecordId,
    pub(crate) at: Position,
    pub(crate) size: u32,
    /// When it was found, on the store's clock.
    pub(crate) now: Timestamp,
    /// Fires when the record is durable.
    pub(crate) settled: Option<Arc<Event>>,
}

type Result<T> = std::result::Result<T, Refusal>;

impl State {
    pub(crate) fn claim(&mut self, attempt: &Attempt) -> Result<Step<Claim>> {
        self.check()?;
        let now = self.now();
        let next = self.fence + 1;
        let slot = live(self.index.find(&attempt.id), now);
        let current = match slot {
            None => None,
            Some(slot) => match &slot.open {
                Some(entry) => Some((entry, slot.at)),
                // A completed record is never taken over: all there is to do is to show it.
                None => return Ok(Step::Load(self.load(attempt.id, slot, now))),
            },
        };
        match Entry::claim(current.map(|(entry, _)| &**entry), attempt, now, || {
            Fence::new(next)
        }) {
            ClaimStep::Held(record) => {
                let settled = current.and_then(|(_, at)| self.settled(at));
                Ok(Step::Answer(Claim::Held(record), settled))
            }
            ClaimStep::Write(entry) => {
                // A claim that is sent again is work under way, not a new one.
                let new = entry.fence.get() == next;
                let need = if new { Need::Claim } else { Need::Work };
                let lease = entry.lease(attempt.id);
                let at = self.put(need, attempt.id, entry, false)?;
                Ok(Step::Answer(Claim::Won(lease), self.settled(at)))
            }
        }
    }

    pub(crate) fn renew(&mut self, lease: &Lease, renewal: &Renewal) -> Result<Step<Fenced>> {
        self.check()?;
        let now = self.now();
        let Some(slot) = live(self.index.find(&lease.id), now) else {
            return Ok(self.superseded(&lease.id, None));
        };
        let renewed = slot
            .open
            .as_ref()
            .and_then(|entry| entry.renew(lease, renewal, now));
        match renewed {
            None => Ok(self.superseded(&lease.id, Some(slot.at))),
            Some(entry) => {
                let at = self.put(Need::Work, lease.id, Box::new(entry), false)?;
                Ok(Step::Answer(Fenced::Applied, self.settled(at)))
            }
        }
    }

    pub(crate) fn complete(
        &mut self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Step<Fenced>> {
        self.check()?;
        let now = self.now();
        let Some(slot) = live(self.index.find(&lease.id), now) else {
            return Ok(self.superseded(&lease.id, None));
        };
        let Some(entry) = &slot.open else {
            // Only the record itself says whose it is.
            return Ok(Step::Load(self.load(lease.id, slot, now)));
        };
        let before = slot.at;
        match entry.complete(lease, completion, keep, now) {
            CompleteStep::Write(entry) => {
                let at = self.put(Need::Work, lease.id, entry, true)?;
                Ok(Step::Answer(Fenced::Applied, self.settled(at)))
            }
            CompleteStep::Already => Ok(Step::Answer(Fenced::Applied, self.settled(before))),
            CompleteStep::Superseded => Ok(self.superseded(&lease.id, Some(before))),
        }
    }

    pub(crate) fn release(&mut self, lease: &Lease) -> Result<Step<Fenced>> {
        self.check()?;
        let now = self.now();
        let Some(slot) = live(self.index.find(&lease.id), now) else {
            return Ok(self.superseded(&lease.id, None));
        };
        let mine = slot
            .open
            .as_ref()
            .is_some_and(|entry| entry.may_release(lease, now));
        if !mine {
            return Ok(self.superseded(&lease.id, Some(slot.at)));
        }
        let at = self.remove(lease.id)?;
        Ok(Step::Answer(Fenced::Applied, self.settled(at)))
    }

    pub(crate) fn resolve(
        &mut self,
        id: &RecordId,
        resolution: &Resolution,
    ) -> Result<Step<Resolved>> {
        self.check()?;
        let now = self.now();
        let next = self.fence + 1;
        let Some(slot) = live(self.index.find(id), now) else {
            return Ok(Step::Answer(Resolved::NotFound, self.settled_absence(id)));
        };
        let before = slot.at;
        let step = match &slot.open {
            Some(entry) => entry.resolve(resolution, now, || Fence::new(next)),
            // Completed: settled already.
            None => ResolveStep::Refused,
        };
        let at = match step {
            ResolveStep::Refused => {
                return Ok(Step::Answer(Resolved::Refused, self.settled(before)));
            }
            ResolveStep::Remove => self.remove(*id)?,
            ResolveStep::Write(entry) => self.put(Need::Work, *id, entry, true)?,
        };
        Ok(Step::Answer(Resolved::Applied, self.settled(at)))
    }

    pub(crate) fn forget(&mut self, id: &RecordId) -> Result<Step<Resolved>> {
        self.check()?;
        let now = self.now();
        let Some(slot) = live(self.index.find(id), now) else {
            return Ok(Step::Answer(Resolved::NotFound, self.settled_absence(id)));
        };
        // A completed record has no owner at work on it.
        let may = slot.open.as_ref().is_none_or(|entry| entry.may_forget(now));
        if !may {
            return Ok(Step::Answer(Resolved::Refused, self.settled(slot.at)));
        }
        let at = self.remove(*id)?;
        Ok(Step::Answer(Resolved::Applied, self.settled(at)))
    }

    pub(crate) fn show(&mut self, id: &RecordId) -> Result<Step<Option<onlyonce_core::Record>>> {
        self.check()?;
        let now = self.now();
        let Some(slot) = live(self.index.find(id), now) else {
            return Ok(Step::Answer(None, self.settled_absence(id)));
        };
        match &slot.open {
            Some(entry) => Ok(Step::Answer(entry.view(now), self.settled(slot.at))),
            None => Ok(Step::Load(self.load(*id, slot, now))),
        }
    }

    pub(crate) fn load(&self, id: RecordId, slot: &Slot, now: Timestamp) -> Load {
        Load {
            id,
            at: slot.at,
            size: slot.size,
            now,
            settled: self.settled(slot.at),
        }
    }

    fn superseded(&self, id: &RecordId, by: Option<Position>) -> Step<Fenced> {
        let settled = match by {
            Some(at) => self.settled(at),
            None => self.settled_absence(id),
        };
        Step::Answer(Fenced::Superseded, settled)
    }
}

fn live(slot: Option<&Slot>, now: Timestamp) -> Option<&Slot> {
    slot.filter(|slot| !slot.is_expired(now))
}
