//! A small store around the shared transitions, with one fault in it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use onlyonce_core::{
    Attempt, Changes, Claim, ClaimStep, Clock, CompleteStep, Completion, Counts, Done, Entry,
    EntryState, Fence, Fenced, Fingerprint, Inspect, InspectFuture, Lease, Listed, ManualClock,
    Nonce, OnUnknown, Page, Record, RecordId, Renewal, Resolution, ResolveStep, Resolved, State,
    StateKind, Store, StoreError, Timestamp, Watchers,
};
use tokio::sync::Notify;

use crate::Fault;
use Fault as F;

pub(crate) struct FaultyStore {
    pub(crate) fault: Fault,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) kept: Mutex<Kept>,
    pub(crate) watchers: Watchers,
    leaked: Mutex<Vec<Changes>>,
    /// For [`F::OnlyOneIsTold`].
    bells: Mutex<BTreeMap<RecordId, Arc<Notify>>>,
    /// Keys with an operation under way, for [`F::DroppedFutureKeepsItsLock`].
    busy: Mutex<HashSet<RecordId>>,
}

#[derive(Clone, Default)]
pub(crate) struct Kept {
    pub(crate) entries: BTreeMap<RecordId, Entry>,
    pub(crate) next_fence: u64,
    /// What was removed, for [`F::ReopenResurrects`].
    pub(crate) removed: Vec<(RecordId, Entry)>,
}

impl FaultyStore {
    pub(crate) fn new(fault: Fault, clock: Arc<ManualClock>, kept: Kept) -> Self {
        Self {
            fault,
            clock,
            kept: Mutex::new(kept),
            watchers: Watchers::new(),
            leaked: Mutex::default(),
            bells: Mutex::default(),
            busy: Mutex::default(),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    /// The moment of a step, and a place where it can be dropped before it took effect.
    async fn begin(&self, id: &RecordId) {
        if self.is(F::DroppedFutureKeepsItsLock) {
            let mut turns = 0;
            while !lock(&self.busy).insert(*id) {
                turns += 1;
                assert!(turns < 20_000, "a lock that nobody will give back");
                tokio::task::yield_now().await;
            }
        }
        tokio::task::yield_now().await;
    }

    /// A place where it can be dropped after it took effect.
    async fn end(&self, id: &RecordId) {
        tokio::task::yield_now().await;
        lock(&self.busy).remove(id);
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Durations as this store takes them.
    fn span(&self, duration: Duration) -> Duration {
        match self.fault {
            F::FractionsAreDropped => {
                Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
            }
            F::LongDurationsWrap => {
                Duration::from_millis(u64::from(duration.as_millis() as u32)) // wraps on purpose
            }
            F::NoTimeMeansForever if duration.is_zero() => Duration::MAX,
            _ => duration,
        }
    }

    fn draw(&self, kept: &mut Kept) -> Fence {
        kept.next_fence += 1;
        Fence::new(kept.next_fence)
    }

    /// Entries as this store takes them in.
    fn polish(&self, mut entry: Entry) -> Entry {
        let deadline = entry.expires.as_millis();
        match self.fault {
            F::ExpiresLate => entry.expires = Timestamp::from_millis(deadline + 1),
            F::ExpiresEarly => entry.expires = Timestamp::from_millis(deadline - 1),
            F::LabelsAreCut => {
                let short: String = entry.label.chars().take(255).collect();
                entry.label = short.into();
            }
            F::LabelsAreCleaned => {
                let clean: String = entry.label.chars().filter(|c| !c.is_control()).collect();
                entry.label = clean.into();
            }
            _ => {}
        }
        if let EntryState::InProgress { lease_until, keep } = &mut entry.state {
            match self.fault {
                F::LeaseIsTheExpiry => entry.expires = *lease_until,
                F::LifetimeIsTheLease => *lease_until = lease_until.plus(*keep),
                _ => {}
            }
        }
        if let EntryState::Completed { kept, status } = &mut entry.state {
            if let Some(result) = kept {
                match self.fault {
                    F::ResultsAreText => {
                        *result = String::from_utf8_lossy(result).into_owned().into();
                    }
                    F::ResultsAreCut => result.truncate(1 << 20),
                    F::EmptyResultIsNone if result.is_empty() => *kept = None,
                    _ => {}
                }
            }
            if self.is(F::StatusIsMadeValid) {
                *status = (*status).clamp(100, 999);
            }
        }
        entry
    }

    fn bell(&self, id: &RecordId) -> Arc<Notify> {
        Arc::clone(lock(&self.bells).entry(*id).or_default())
    }

    fn notify(&self, id: &RecordId, silent: Fault) {
        if self.is(silent) {
            return;
        }
        if self.is(F::OnlyOneIsTold) {
            self.bell(id).notify_one();
        }
        if self.is(F::EverybodyIsTold) {
            let ids: Vec<_> = self.kept().entries.keys().copied().collect();
            ids.iter().for_each(|id| self.watchers.notify(id));
        }
        self.watchers.notify(id);
    }

    fn held(&self, kept: &mut Kept, attempt: &Attempt, record: Record) -> Claim {
        if self.is(F::LostClaimWrites)
            && let Some(entry) = kept.entries.get_mut(&attempt.id)
        {
            entry.label = attempt.label.clone();
        }
        if self.is(F::LostClaimDeletes) {
            kept.entries.remove(&attempt.id);
        }
        Claim::Held(record)
    }

    fn claim_now(
        &self,
        attempt: &Attempt,
        seen: Option<Option<Entry>>,
        now: Option<Timestamp>,
    ) -> Claim {
        let mut kept = self.kept();
        let now = now.unwrap_or_else(|| self.now());
        let current = seen.unwrap_or_else(|| kept.entries.get(&attempt.id).cloned());
        let mut attempt = Attempt {
            lease: self.span(attempt.lease),
            keep: self.span(attempt.keep),
            ..attempt.clone()
        };
        let asked = attempt.clone();
        let live = current.clone().filter(|entry| !entry.is_expired(now));
        if let (Some(entry), None) = (&current, &live)
            && self.is(F::ExpiredRowBlocks)
        {
            let before = Timestamp::from_millis(entry.expires.as_millis() - 1);
            let record = entry.view(before).expect("it was live then");
            return Claim::Held(record);
        }
        let mut shown = current.clone();
        if let (Some(entry), Some(shown)) = (&live, &mut shown) {
            let lapsed = matches!(entry.state, EntryState::InProgress { lease_until, .. } if lease_until <= now);
            let own = entry.nonce == attempt.nonce;
            match self.fault {
                F::NonceIsIgnored => attempt.nonce = Nonce::random(),
                F::ResentClaimIsNew if own && entry.in_progress() => {
                    shown.fence = self.draw(&mut kept);
                }
                F::ResentClaimOnlyWhileLive if own && lapsed => attempt.nonce = Nonce::random(),
                F::HoldIsIgnored => attempt.on_unknown = OnUnknown::Retry,
                F::RetryIsIgnored => attempt.on_unknown = OnUnknown::Hold,
                F::AnyoneTakesOver if lapsed => shown.fingerprint = attempt.fingerprint,
                F::UnverifiedTakesOver if lapsed && attempt.fingerprint.is_none() => {
                    shown.fingerprint = None;
                }
                F::UnknownIsTakenOver if entry.state == EntryState::Unknown => {
                    shown.state = EntryState::InProgress {
                        lease_until: now,
                        keep: attempt.keep,
                    };
                }
                F::ResentClaimReopens if own => {
                    shown.state = EntryState::InProgress {
                        lease_until: now,
                        keep: attempt.keep,
                    };
                }
                F::OffMatchesNothing => {
                    let off = Some(Fingerprint::OFF);
                    if (entry.fingerprint == off) != (attempt.fingerprint == off) {
                        attempt.on_unknown = OnUnknown::Hold;
                    }
                }
                F::LiveIsTakenForOrphan => {
                    if let EntryState::InProgress { lease_until, .. } = &mut shown.state {
                        *lease_until = now;
                    }
                }
                F::CompletedIsExecutedAgain => {
                    if matches!(entry.state, EntryState::Completed { kept: None, .. }) {
                        shown.expires = now;
                    }
                }
                F::EmptyIsAMiss => {
                    if matches!(&entry.state, EntryState::Completed { kept: Some(k), .. } if k.is_empty())
                    {
                        shown.expires = now;
                    }
                }
                _ => {}
            }
        }
        let step = Entry::claim(shown.as_ref(), &attempt, now, || self.draw(&mut kept));
        match step {
            ClaimStep::Held(record) => {
                let record = match &live {
                    Some(entry) => entry.view(now).expect("it is live"),
                    None => record,
                };
                self.held(&mut kept, &asked, record)
            }
            ClaimStep::Write(mut entry) => {
                if self.is(F::AttemptsBeginAtZero) && live.is_none() {
                    entry.attempt = 0;
                }
                if self.is(F::FencesCountPerRecord) {
                    entry.fence = Fence::new(u64::from(entry.attempt));
                }
                if self.is(F::FencesCountPerKey) {
                    let last = live.as_ref().map_or(0, |entry| entry.fence.get());
                    entry.fence = Fence::new(last + 1);
                }
                if let Some(old) = &live {
                    let resent = old.nonce == asked.nonce && old.in_progress();
                    match self.fault {
                        F::TakeOverKeepsTheFence => entry.fence = old.fence,
                        F::TakeOverKeepsTheAttempt => entry.attempt = old.attempt,
                        F::TakeOverKeepsTheNonce => entry.nonce = old.nonce,
                        F::TakeOverKeepsTheLabel => entry.label = old.label.clone(),
                        F::TakeOverRestartsTheAge => entry.created = now,
                        F::TakeOverDropsTheFingerprint if !resent => entry.fingerprint = None,
                        F::ResentClaimKeepsItsLease if resent => {
                            (entry.state, entry.expires) = (old.state.clone(), old.expires);
                        }
                        _ => {}
                    }
                } else if self.is(F::ExpiredLifeGoesOn)
                    && let Some(old) = &current
                {
                    entry.attempt = old.attempt + 1;
                }
                let lease = entry.lease(asked.id);
                kept.entries.insert(asked.id, self.polish(*entry));
                Claim::Won(lease)
            }
        }
    }

    fn complete_now(&self, lease: &Lease, completion: &Completion, keep: Duration) -> Fenced {
        let mut kept = self.kept();
        let (now, keep) = (self.now(), self.span(keep));
        let unfenced = match completion.done {
            Done::Unknown => F::UnknownIsUnfenced,
            Done::Kept { .. } | Done::NotKept { .. } => F::CompleteIsUnfenced,
        };
        let Some(mut entry) = kept.entries.get(&lease.id).cloned() else {
            if self.is(F::LateCompletionResurrects) {
                let entry = Entry {
                    fingerprint: None,
                    attempt: lease.attempt,
                    fence: lease.fence,
                    nonce: Nonce::random(),
                    created: now,
                    expires: now.plus(keep),
                    state: EntryState::Unknown,
                    label: "".into(),
                };
                kept.entries.insert(lease.id, entry);
                return Fenced::Applied;
            }
            return Fenced::Superseded;
        };
        if self.is(F::ExpiredOwnerWrites) && entry.is_expired(now) {
            entry.expires = now.plus(Duration::from_millis(1));
        }
        let own = entry.fence == lease.fence;
        let lapsed =
            matches!(entry.state, EntryState::InProgress { lease_until, .. } if lease_until <= now);
        let mut lease = lease.clone();
        match self.fault {
            fault if fault == unfenced && entry.in_progress() => lease.fence = entry.fence,
            F::LapsedOwnerIsRefused if lapsed => return Fenced::Superseded,
            F::RepeatIsRefused if !entry.in_progress() => return Fenced::Superseded,
            F::RepeatOverwrites if own && !entry.in_progress() => {
                entry.state = EntryState::InProgress {
                    lease_until: now,
                    keep,
                };
            }
            F::RepeatProlongs if own && !entry.in_progress() && !entry.is_expired(now) => {
                entry.expires = now.plus(keep);
                kept.entries.insert(lease.id, entry);
                return Fenced::Applied;
            }
            F::RepeatFitsAnyOwner if !entry.in_progress() => return Fenced::Applied,
            _ => {}
        }
        match entry.complete(&lease, completion, keep, now) {
            CompleteStep::Superseded => Fenced::Superseded,
            CompleteStep::Already => Fenced::Applied,
            CompleteStep::Write(mut done) => {
                match self.fault {
                    F::CompletionDropsTheFingerprint => done.fingerprint = completion.fingerprint,
                    F::CompletionLearnsNothing => done.fingerprint = entry.fingerprint,
                    F::CompletionKeepsTheExpiry => done.expires = entry.expires,
                    F::NotKeptIsUnknown => {
                        if matches!(completion.done, Done::NotKept { .. }) {
                            done.state = EntryState::Unknown;
                        }
                    }
                    _ => {}
                }
                kept.entries.insert(lease.id, self.polish(*done));
                drop(kept);
                self.notify(&lease.id, F::CompletionIsNotTold);
                Fenced::Applied
            }
        }
    }

    fn renew_now(&self, lease: &Lease, renewal: &Renewal) -> Fenced {
        let mut kept = self.kept();
        let now = self.now();
        let Some(entry) = kept.entries.get(&lease.id).cloned() else {
            return Fenced::Superseded;
        };
        let mut lease = lease.clone();
        let mut renewal = Renewal {
            extend: self.span(renewal.extend),
            ..*renewal
        };
        if let EntryState::InProgress { lease_until, .. } = entry.state {
            match self.fault {
                F::RenewIsUnfenced => lease.fence = entry.fence,
                F::LapsedOwnerIsRefused if lease_until <= now => return Fenced::Superseded,
                F::RenewalAdds => renewal.extend += lease_until.since(now),
                F::RenewalNeverShortens => {
                    renewal.extend = renewal.extend.max(lease_until.since(now));
                }
                F::RenewalLearnsNothing => renewal.fingerprint = None,
                _ => {}
            }
        } else if self.is(F::RenewalRevivesTheCompleted) && entry.fence == lease.fence {
            let mut entry = entry;
            entry.expires = now.plus(renewal.extend * 100);
            kept.entries.insert(lease.id, entry);
            return Fenced::Applied;
        }
        let Some(mut renewed) = entry.renew(&lease, &renewal, now) else {
            return Fenced::Superseded;
        };
        match self.fault {
            F::RenewalKeepsTheExpiry => renewed.expires = entry.expires,
            F::RenewalDropsTheFingerprint => renewed.fingerprint = renewal.fingerprint,
            F::RenewalDoesNothing => renewed = entry,
            _ => {}
        }
        kept.entries.insert(lease.id, self.polish(renewed));
        Fenced::Applied
    }

    fn release_now(&self, lease: &Lease) -> Fenced {
        let mut kept = self.kept();
        let now = self.now();
        let Some(entry) = kept.entries.get(&lease.id).cloned() else {
            return Fenced::Superseded;
        };
        let lapsed =
            matches!(entry.state, EntryState::InProgress { lease_until, .. } if lease_until <= now);
        let may = match self.fault {
            F::ReleaseIsUnfenced => entry.in_progress(),
            F::ReleaseRemovesTheCompleted => entry.fence == lease.fence,
            F::LapsedOwnerIsRefused if lapsed => false,
            _ => entry.may_release(lease, now),
        };
        if !may {
            return Fenced::Superseded;
        }
        self.remove(&mut kept, &lease.id);
        drop(kept);
        self.notify(&lease.id, F::ReleaseIsNotTold);
        Fenced::Applied
    }

    fn remove(&self, kept: &mut Kept, id: &RecordId) {
        if let Some(entry) = kept.entries.remove(id) {
            kept.removed.push((*id, entry));
        }
    }
}

impl Store for FaultyStore {
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, StoreError> {
        self.begin(&attempt.id).await;
        let seen = self.kept().entries.get(&attempt.id).cloned();
        let in_two_steps = match &seen {
            None => self.is(F::ClaimInTwoSteps),
            Some(entry) if entry.is_expired(self.now()) => self.is(F::ExpiredClaimInTwoSteps),
            Some(_) => self.is(F::TakeOverInTwoSteps),
        };
        if self.is(F::DroppedClaimIsNobodys) && seen.is_none() {
            let stranger = Attempt {
                nonce: Nonce::random(),
                ..attempt.clone()
            };
            let _ = self.claim_now(&stranger, None, None);
            tokio::task::yield_now().await;
            self.kept().entries.remove(&attempt.id);
        }
        let claim = if in_two_steps {
            tokio::task::yield_now().await;
            self.claim_now(attempt, Some(seen), None)
        } else if self.is(F::TimeIsReadTooEarly) {
            let now = self.now();
            tokio::task::yield_now().await;
            self.claim_now(attempt, None, Some(now))
        } else {
            self.claim_now(attempt, None, None)
        };
        self.end(&attempt.id).await;
        Ok(claim)
    }

    async fn renew(&self, lease: &Lease, renewal: &Renewal) -> Result<Fenced, StoreError> {
        self.begin(&lease.id).await;
        let fenced = if self.is(F::RenewalInTwoSteps) {
            let seen = self.kept().entries.get(&lease.id).cloned();
            tokio::task::yield_now().await;
            let renewed = seen.and_then(|entry| entry.renew(lease, renewal, self.now()));
            if let Some(entry) = renewed {
                self.kept().entries.insert(lease.id, entry);
                Fenced::Applied
            } else {
                Fenced::Superseded
            }
        } else {
            self.renew_now(lease, renewal)
        };
        if self.is(F::DroppedRenewalLosesTheRecord) {
            let entry = self.kept().entries.remove(&lease.id);
            tokio::task::yield_now().await;
            if let Some(entry) = entry {
                self.kept().entries.insert(lease.id, entry);
            }
        }
        self.end(&lease.id).await;
        Ok(fenced)
    }

    async fn complete(
        &self,
        lease: &Lease,
        completion: &Completion,
        keep: Duration,
    ) -> Result<Fenced, StoreError> {
        self.begin(&lease.id).await;
        if self.is(F::DroppedCompletionIsHalf) {
            let half = Completion {
                done: Done::Kept {
                    status: 0,
                    result: Bytes::new(),
                },
                ..completion.clone()
            };
            let before = self.kept().entries.get(&lease.id).cloned();
            let _ = self.complete_now(lease, &half, keep);
            tokio::task::yield_now().await;
            if let Some(before) = before {
                self.kept().entries.insert(lease.id, before);
            }
        }
        let fenced = if self.is(F::CompletionInTwoSteps) {
            let seen = self.kept().entries.get(&lease.id).cloned();
            tokio::task::yield_now().await;
            match seen.map(|entry| entry.complete(lease, completion, keep, self.now())) {
                Some(CompleteStep::Write(entry)) => {
                    self.kept().entries.insert(lease.id, *entry);
                    self.watchers.notify(&lease.id);
                    Fenced::Applied
                }
                Some(CompleteStep::Already) => Fenced::Applied,
                Some(CompleteStep::Superseded) | None => Fenced::Superseded,
            }
        } else {
            self.complete_now(lease, completion, keep)
        };
        self.end(&lease.id).await;
        Ok(fenced)
    }

    async fn release(&self, lease: &Lease) -> Result<Fenced, StoreError> {
        self.begin(&lease.id).await;
        let fenced = self.release_now(lease);
        self.end(&lease.id).await;
        Ok(fenced)
    }

    async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        if self.is(F::DroppedWatchCallLeaks) {
            let watch = self.watchers.watch(id);
            lock(&self.leaked).push(watch);
            self.begin(id).await;
            self.end(id).await;
            lock(&self.leaked).pop();
        } else {
            self.begin(id).await;
            self.end(id).await;
        }
        let (watchers, id) = (self.watchers.clone(), *id);
        Ok(match self.fault {
            F::WatchBeginsAtItsFirstPoll => Changes::new(async move { watchers.watch(&id).await }),
            F::WatchFiresAtOnce => Changes::new(async {}),
            F::WatchLeaks => {
                lock(&self.leaked).push(watchers.watch(&id));
                watchers.watch(&id)
            }
            F::OnlyOneIsTold => {
                let bell = self.bell(&id);
                Changes::new(async move { bell.notified().await })
            }
            _ => watchers.watch(&id),
        })
    }
}

impl Inspect for FaultyStore {
    fn list<'a>(&'a self, page: &'a Page) -> InspectFuture<'a, Vec<Listed>> {
        Box::pin(async move {
            let kept = self.kept();
            let now = self.now();
            let mut lines: Vec<_> = kept
                .entries
                .iter()
                .filter_map(|(id, entry)| {
                    let now = if self.is(F::ExpiredAreListed) {
                        now.min(Timestamp::from_millis(entry.expires.as_millis() - 1))
                    } else {
                        now
                    };
                    let mut record = entry.view(now)?;
                    if let State::Completed {
                        kept: kept @ Some(_),
                        ..
                    } = &mut record.state
                    {
                        *kept = match self.fault {
                            F::ResultsAreListed => kept.take(),
                            F::ResultsAreListedAsNotKept => None,
                            _ => Some(Bytes::new()),
                        };
                    }
                    Some(Listed { id: *id, record })
                })
                .collect();
            if self.is(F::ListingIsBackwards) {
                lines.reverse();
            }
            lines.retain(|line| match page.after {
                Some(after) if self.is(F::PagesOverlap) => line.id >= after,
                Some(after) => line.id > after,
                None => true,
            });
            if self.is(F::FilterComesAfterTheLimit) {
                lines.truncate(page.limit);
            }
            if !self.is(F::FilterIsIgnored) {
                lines.retain(|line| page.filter.admits(&line.record));
            }
            if !self.is(F::LimitIsIgnored) {
                lines.truncate(page.limit);
            }
            Ok(lines)
        })
    }

    fn show<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Option<Record>> {
        Box::pin(async move {
            let kept = self.kept();
            let now = self.now();
            let Some(entry) = kept.entries.get(id) else {
                return Ok(None);
            };
            if self.is(F::ExpiredAreShown) && entry.is_expired(now) {
                let before = Timestamp::from_millis(entry.expires.as_millis() - 1);
                return Ok(entry.view(before));
            }
            let mut record = entry.view(now);
            if let Some(record) = &mut record
                && self.is(F::ShownWithoutFingerprint)
            {
                record.fingerprint = None;
            }
            Ok(record)
        })
    }

    fn resolve<'a>(
        &'a self,
        id: &'a RecordId,
        resolution: &'a Resolution,
    ) -> InspectFuture<'a, Resolved> {
        Box::pin(async move {
            self.begin(id).await;
            let resolved = self.resolve_now(id, resolution);
            if resolved == Resolved::Applied {
                self.notify(id, F::ResolutionIsNotTold);
            }
            self.end(id).await;
            Ok(resolved)
        })
    }

    fn forget<'a>(&'a self, id: &'a RecordId) -> InspectFuture<'a, Resolved> {
        Box::pin(async move {
            self.begin(id).await;
            let forgotten = self.forget_now(id);
            if forgotten == Resolved::Applied {
                self.notify(id, F::ForgettingIsNotTold);
            }
            self.end(id).await;
            Ok(forgotten)
        })
    }

    fn count(&self) -> InspectFuture<'_, Counts> {
        Box::pin(async move {
            let kept = self.kept();
            let now = self.now();
            let mut counts = Counts::default();
            for entry in kept.entries.values() {
                counts.bytes += 100;
                let lapsed = entry.in_progress();
                match entry.view(now) {
                    None if self.is(F::ExpiredAreCounted) => counts.add(StateKind::Unknown),
                    None => {}
                    Some(_) if lapsed && self.is(F::LapsedCountAsAtWork) => {
                        counts.add(StateKind::InProgress);
                    }
                    Some(record) => counts.add(StateKind::of(&record)),
                }
            }
            Ok(counts)
        })
    }
}

impl FaultyStore {
    fn resolve_now(&self, id: &RecordId, resolution: &Resolution) -> Resolved {
        let mut kept = self.kept();
        let now = self.now();
        let Some(mut entry) = kept.entries.get(id).cloned() else {
            return Resolved::NotFound;
        };
        if entry.is_expired(now) {
            if self.is(F::ExpiredAreForgotten) {
                return Resolved::Refused;
            }
            return Resolved::NotFound;
        }
        let expires = entry.expires;
        if self.is(F::AnythingIsResolved) {
            entry.state = EntryState::Unknown;
        }
        if self.is(F::OnlyHeldIsResolved) && entry.in_progress() {
            return Resolved::Refused;
        }
        match entry.resolve(resolution, now, || self.draw(&mut kept)) {
            ResolveStep::Refused => Resolved::Refused,
            ResolveStep::Remove => {
                if self.is(F::NotExecutedIsHeld) {
                    return Resolved::Applied;
                }
                self.remove(&mut kept, id);
                Resolved::Applied
            }
            ResolveStep::Write(mut resolved) => {
                match self.fault {
                    F::ResolutionKeepsTheFence => resolved.fence = entry.fence,
                    F::ResolutionProlongs => {
                        resolved.expires = expires.plus(Duration::from_millis(1));
                    }
                    F::ResolutionDropsTheResult => {
                        if let EntryState::Completed { kept, .. } = &mut resolved.state {
                            *kept = None;
                        }
                    }
                    _ => {}
                }
                kept.entries.insert(*id, self.polish(*resolved));
                Resolved::Applied
            }
        }
    }

    fn forget_now(&self, id: &RecordId) -> Resolved {
        let mut kept = self.kept();
        let now = self.now();
        let Some(entry) = kept.entries.get(id) else {
            return Resolved::NotFound;
        };
        if entry.is_expired(now) && !self.is(F::ExpiredAreForgotten) {
            return Resolved::NotFound;
        }
        let may = match self.fault {
            F::WorkIsForgotten | F::ExpiredAreForgotten => true,
            F::LapsedAreNotForgotten => !entry.in_progress(),
            _ => entry.may_forget(now),
        };
        if !may {
            return Resolved::Refused;
        }
        self.remove(&mut kept, id);
        Resolved::Applied
    }

    /// What is there after closing and opening.
    pub(crate) fn reopened(&self) -> Kept {
        let mut kept = self.kept().clone();
        let now = self.clock.now();
        match self.fault {
            F::ReopenForgetsFences => kept.next_fence = 0,
            F::ReopenFencesFromRecords => {
                let fences = kept.entries.values().map(|entry| entry.fence.get());
                kept.next_fence = fences.max().unwrap_or(0);
            }
            F::ReopenLosesTheUnfinished => kept.entries.retain(|_, entry| !entry.in_progress()),
            F::ReopenLosesTheCompleted => kept.entries.retain(|_, entry| entry.in_progress()),
            F::ReopenResurrects => {
                for (id, entry) in kept.removed.drain(..) {
                    kept.entries.entry(id).or_insert(entry);
                }
            }
            F::ReopenRestartsDeadlines => {
                for entry in kept.entries.values_mut() {
                    entry.expires = now.plus(entry.expires.since(entry.created));
                }
            }
            F::ReopenDropsFractions => {
                for entry in kept.entries.values_mut() {
                    if let EntryState::InProgress { keep, .. } = &mut entry.state {
                        *keep = Duration::from_millis(keep.as_millis() as u64);
                    }
                }
            }
            F::ReopenForgetsNonces => {
                for entry in kept.entries.values_mut() {
                    entry.nonce = Nonce::random();
                }
            }
            F::ReopenRefencesOwners => {
                for entry in kept.entries.values_mut() {
                    entry.fence = Fence::new(entry.fence.get().saturating_sub(1));
                }
            }
            _ => {}
        }
        kept
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no step panics with the lock held")
}
