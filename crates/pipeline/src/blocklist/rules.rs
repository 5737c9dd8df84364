//! The entries as they are asked for: one immutable snapshot at a time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use onlyonce_core::Timestamp;

use super::entry::{Entry, EntryId, Status};
use super::prefix::key_of;
use super::store::{Listing, Revision, Unreadable};
use super::syntax::AddressSet;
use super::trie::Trie;

/// An entry that is on.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: EntryId,
    expires: Option<Timestamp>,
    /// Since they were last given to the store.
    pub(super) hits: AtomicU64,
}

impl Rule {
    fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    fn lasts_until(&self) -> Timestamp {
        self.expires.unwrap_or(Timestamp::from_millis(u64::MAX))
    }
}

/// The rules of one prefix: mostly a single one. First the one that lasts longest: if that has
/// expired, so have all.
#[derive(Clone, Debug)]
enum Bucket {
    One(Arc<Rule>),
    More(Box<[Arc<Rule>]>),
}

impl Bucket {
    fn rules(&self) -> &[Arc<Rule>] {
        match self {
            Self::One(rule) => std::slice::from_ref(rule),
            Self::More(rules) => rules,
        }
    }

    fn of(mut rules: Vec<Arc<Rule>>) -> Option<Self> {
        match rules.len() {
            0 => None,
            1 => rules.pop().map(Self::One),
            _ => Some(Self::More(rules.into())),
        }
    }
}

/// What requests are looked up in. Never changes.
#[derive(Debug)]
pub(super) struct Snapshot(Trie<Bucket>);

impl Snapshot {
    /// The rule that refuses this address: of several, one of the narrowest.
    pub(super) fn find(&self, address: IpAddr, now: Timestamp) -> Option<&Arc<Rule>> {
        let mut found = None;
        self.0.visit(key_of(address), |bucket| {
            let live = bucket.rules().first().filter(|rule| rule.is_live(now));
            found = live.or(found);
        });
        found
    }
}

/// What is known of the store, and what the next snapshot is made from.
#[derive(Debug)]
pub(super) struct Book {
    revision: Option<Revision>,
    known: BTreeMap<EntryId, Known>,
    trie: Trie<Bucket>,
    /// Places in the trie that entries have left since it was planted.
    stumps: usize,
    prefixes: usize,
    most_prefixes: usize,
    unreadable: BTreeMap<EntryId, String>,
}

#[derive(Debug)]
struct Known {
    ip: Box<str>,
    /// `None` where it is off.
    rule: Option<Arc<Rule>>,
}

/// There is no room for so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// Of what nobody understands, so much is remembered, to be shown.
const MOST_UNREADABLE: usize = 1_000;
/// Before so many stumps it is not worth planting the trie anew.
const FEW_STUMPS: usize = if cfg!(test) { 4 } else { 4_096 };

impl Book {
    pub(super) fn new(most_prefixes: usize) -> Self {
        Self {
            revision: None,
            known: BTreeMap::new(),
            trie: Trie::new(),
            stumps: 0,
            prefixes: 0,
            most_prefixes,
            unreadable: BTreeMap::new(),
        }
    }

    pub(super) fn revision(&self) -> Option<Revision> {
        self.revision
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn prefixes(&self) -> usize {
        self.prefixes
    }

    pub(super) fn unreadable(&self) -> impl Iterator<Item = (EntryId, &str)> {
        let unreadable = self.unreadable.iter();
        unreadable.map(|(id, reason)| (*id, reason.as_str()))
    }

    /// The names of the next entries after one, in their order.
    pub(super) fn ids_after(&self, after: Option<EntryId>, most: usize) -> Vec<EntryId> {
        let from = after.map_or(0, |id| id.0.saturating_add(1));
        let range = self.known.range(EntryId(from)..);
        range.map(|(id, _)| *id).take(most).collect()
    }

    /// What is not yet in the store of an entry's hits.
    pub(super) fn pending_hits(&self, id: EntryId) -> u64 {
        let rule = self.known.get(&id).and_then(|known| known.rule.as_ref());
        rule.map_or(0, |rule| rule.hits.load(Ordering::Relaxed))
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot(self.trie.clone())
    }

    /// Whether a change that led to `revision` is in here already.
    pub(super) fn has(&self, revision: Revision) -> bool {
        self.revision
            .is_some_and(|own| own.epoch == revision.epoch && own.number >= revision.number)
    }

    /// Whether `revision` is the next after what is in here.
    pub(super) fn is_next(&self, revision: Revision) -> bool {
        self.revision.is_some_and(|own| {
            own.epoch == revision.epoch && own.number.checked_add(1) == Some(revision.number)
        })
    }

    /// Notes that all up to here is in.
    pub(super) fn reach(&mut self, revision: Revision) {
        self.revision = Some(revision);
    }

    /// Notes that something is in here which the store may not have: all of it is to be read.
    pub(super) fn doubt(&mut self) {
        self.revision = None;
    }

    /// Takes over what the store says, and gives what nobody understands. On an error the revision
    /// stays behind: the same is asked for again.
    pub(super) fn take(
        &mut self,
        listing: Listing,
        now: Timestamp,
    ) -> Result<Vec<Unreadable>, NoRoom> {
        if !listing.complete {
            for id in listing.removed {
                self.remove(id);
            }
            let unreadable = self.take_changes(listing.entries, listing.unreadable, now)?;
            self.revision = Some(listing.revision);
            return Ok(unreadable);
        }
        let mut new = Self::new(self.most_prefixes);
        let unreadable = new.take_changes(listing.entries, listing.unreadable, now)?;
        new.revision = Some(listing.revision);
        *self = new;
        Ok(unreadable)
    }

    fn take_changes(
        &mut self,
        entries: Vec<Entry>,
        unreadable: Vec<Unreadable>,
        now: Timestamp,
    ) -> Result<Vec<Unreadable>, NoRoom> {
        let mut out = unreadable;
        for one in &out {
            if let Some(id) = one.id {
                self.remove(id);
            }
        }
        for entry in entries {
            match entry.ip.parse::<AddressSet>() {
                Ok(set) => self.put(&entry, &set, now)?,
                Err(error) => {
                    self.remove(entry.id);
                    out.push(Unreadable {
                        id: Some(entry.id),
                        reason: format!("entry {}: `ip`: {error}", entry.id),
                    });
                }
            }
        }
        for one in &out {
            if let Some(id) = one.id
                && self.unreadable.len() < MOST_UNREADABLE
            {
                self.unreadable.insert(id, one.reason.clone());
            }
        }
        Ok(out)
    }

    /// An entry is there, or is another now. On an error nothing has changed.
    pub(super) fn put(
        &mut self,
        entry: &Entry,
        set: &AddressSet,
        now: Timestamp,
    ) -> Result<(), NoRoom> {
        let rule = Rule {
            id: entry.id,
            expires: entry.expires,
            hits: AtomicU64::new(0),
        };
        let serves = entry.status == Status::On && rule.is_live(now);
        let needed = if serves { set.prefixes().count() } else { 0 };
        let given_up = self.room_of(entry.id);
        if self.prefixes - given_up + needed > self.most_prefixes {
            return Err(NoRoom);
        }
        self.remove(entry.id);
        let rule = serves.then(|| Arc::new(rule));
        if let Some(rule) = &rule {
            self.hang(set, rule);
        }
        let ip = entry.ip.as_str().into();
        self.known.insert(entry.id, Known { ip, rule });
        Ok(())
    }

    pub(super) fn remove(&mut self, id: EntryId) {
        self.unreadable.remove(&id);
        let Some(known) = self.known.remove(&id) else {
            return;
        };
        let (Some(rule), Ok(set)) = (known.rule, known.ip.parse::<AddressSet>()) else {
            return;
        };
        for prefix in set.prefixes() {
            self.trie.change(&prefix, |bucket| {
                let rules = bucket.iter().flat_map(Bucket::rules);
                let others = rules.filter(|other| !Arc::ptr_eq(other, &rule));
                *bucket = Bucket::of(others.cloned().collect());
            });
            self.prefixes -= 1;
            self.stumps += 1;
        }
        if self.stumps > FEW_STUMPS.max(self.prefixes) {
            self.replant();
        }
    }

    fn hang(&mut self, set: &AddressSet, rule: &Arc<Rule>) {
        for prefix in set.prefixes() {
            self.trie.change(&prefix, |bucket| {
                let mut rules: Vec<_> = bucket.iter().flat_map(Bucket::rules).cloned().collect();
                rules.push(Arc::clone(rule));
                rules.sort_by_key(|rule| Reverse(rule.lasts_until()));
                *bucket = Bucket::of(rules);
            });
            self.prefixes += 1;
        }
    }

    /// Entries that left have left nodes behind.
    fn replant(&mut self) {
        self.trie = Trie::new();
        (self.stumps, self.prefixes) = (0, 0);
        let known = std::mem::take(&mut self.known);
        for one in known.values() {
            if let (Some(rule), Ok(set)) = (&one.rule, one.ip.parse::<AddressSet>()) {
                self.hang(&set, rule);
            }
        }
        self.known = known;
    }

    fn room_of(&self, id: EntryId) -> usize {
        let Some(Known { ip, rule: Some(_) }) = self.known.get(&id) else {
            return 0;
        };
        let set = ip.parse::<AddressSet>();
        set.map_or(0, |set| set.prefixes().count())
    }
}
