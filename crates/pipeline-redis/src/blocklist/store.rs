//! The store.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use onlyonce_core::{Changes, Nonce, StoreError, Timestamp};
use onlyonce_pipeline::blocklist::{
    BlocklistStore, Draft, Entry, EntryId, Listing, Revision, Unreadable,
};
use onlyonce_redis::{Heard, Link, Listening, RedisStore};
use redis::Value;
use tokio::sync::watch;

use super::scripts::Scripts;
use super::value::{array, bytes, decode, encode, number};

/// A blocklist on Redis or Valkey, for all nodes that use the same URL and prefix. Cloning is cheap
/// and gives the same store.
///
/// A change is published at once; a node that lost its connection reads everything when it has
/// another, as that may be to another server. Else nodes are told what has changed, not everything,
/// as long as they know one of the last 10,000 states.
///
/// Entries are the fields of the hash `oo:{blocklist}:entries` (with the store's
/// [prefix](onlyonce_redis::Builder::prefix)); what is written there by hand is seen by nodes that
/// start, and by others only with the next change of that entry.
///
/// # Example
/// ```no_run
/// use onlyonce_pipeline::blocklist::Blocklist;
/// use onlyonce_pipeline_redis::RedisBlocklist;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisBlocklist::connect("redis://:password@127.0.0.1:6379/0").await?;
/// let blocklist = Blocklist::load(store).await?;
/// # let _ = blocklist; Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisBlocklist(Arc<Shared>);

struct Shared {
    link: Link,
    scripts: Scripts,
    keys: [String; 4],
    channel: String,
    changed: Arc<watch::Sender<()>>,
    /// How often the connection that listens was lost: another server may be there now, which has
    /// lost what the one before had said, and counts on from there. Part of each epoch given out, so
    /// that nothing known before a loss is compared with, or built on, after it.
    losses: Arc<AtomicU64>,
    _listening: Listening,
}

const TAG: &str = "blocklist";
/// Who missed more changes than this reads everything.
const LOG: &str = "10000";
/// Entries that are read at once.
const PAGE: usize = 1_000;
/// How often the whole list is read anew when it changes faster than it can be read.
const TRIES: u32 = 4;

/// What has changed: names, and entries unless they are gone.
type Delta = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl RedisBlocklist {
    /// Connects to the servers of a URL: see [`onlyonce_redis`](onlyonce_redis#urls).
    ///
    /// # Errors
    /// As [`onlyonce_redis::Builder::connect`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Ok(Self::new(&RedisStore::connect(url).await?))
    }

    /// A blocklist beside the records of a store, over the same connections.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(store: &RedisStore) -> Self {
        let link = store.link();
        let name = |rest: &str| link.name(TAG, rest);
        let keys = [":entries", ":hits", ":meta", ":log"].map(name);
        let channel = name(":changed");
        let changed = Arc::new(watch::Sender::new(()));
        let losses = Arc::new(AtomicU64::new(0));
        let listening = link.listen(channel.clone(), {
            let (changed, losses) = (Arc::clone(&changed), Arc::clone(&losses));
            let was_lost = AtomicBool::new(true);
            move |heard| {
                let is_new = match heard {
                    Heard::Message(_) => true,
                    Heard::Lost => {
                        losses.fetch_add(1, Ordering::SeqCst);
                        was_lost.store(true, Ordering::SeqCst);
                        false
                    }
                    // Something may have been published in between.
                    Heard::Connected => was_lost.swap(false, Ordering::SeqCst),
                };
                if is_new {
                    changed.send_replace(());
                }
            }
        });
        Self(Arc::new(Shared {
            link,
            scripts: Scripts::new(),
            keys,
            channel,
            changed,
            losses,
            _listening: listening,
        }))
    }
}

impl Shared {
    async fn change(
        &self,
        what: &str,
        id: &str,
        entry: &str,
    ) -> Result<Option<(Revision, EntryId)>, StoreError> {
        // Before it is asked: an answer of the server before must not pass for one of the next.
        let losses = self.losses.load(Ordering::SeqCst);
        let epoch = new_epoch();
        let arguments = [what, id, entry, &epoch, &self.channel, LOG].map(str::as_bytes);
        let script = &self.scripts.change;
        let run = self
            .link
            .run(TAG, script, &self.keys, &arguments, true, false);
        let answer = run.await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let parts = array(&answer).unwrap_or_default();
        let [epoch, revision, id] = parts else {
            return Err(self.link.strange());
        };
        let (Some(epoch), Some(revision), Some(id)) = (number(epoch), number(revision), number(id))
        else {
            return Err(self.link.strange());
        };
        let revision = Revision {
            epoch: epoch.wrapping_add(losses),
            number: revision,
        };
        Ok(Some((revision, EntryId(id))))
    }

    /// What has changed, where the server can tell.
    async fn since(
        &self,
        known: Option<Revision>,
    ) -> Result<(Revision, Option<Delta>), StoreError> {
        let losses = self.losses.load(Ordering::SeqCst);
        let epoch = known.map_or_else(String::new, |known| {
            known.epoch.wrapping_sub(losses).to_string()
        });
        let from = known.map_or(0, |known| known.number).to_string();
        let arguments = [epoch.as_bytes(), from.as_bytes()];
        let script = &self.scripts.since;
        let run = self
            .link
            .run(TAG, script, &self.keys, &arguments, false, true);
        let answer = run.await?;
        let strange = || self.link.strange();
        let parts = array(&answer).ok_or_else(strange)?;
        let [epoch, number_of, rest @ ..] = parts else {
            return Err(strange());
        };
        let revision = Revision {
            epoch: number(epoch).ok_or_else(strange)?.wrapping_add(losses),
            number: number(number_of).ok_or_else(strange)?,
        };
        let [ids, entries] = rest else {
            return Ok((revision, None));
        };
        let ids = array(ids).ok_or_else(strange)?;
        let entries = array(entries).ok_or_else(strange)?;
        let delta = ids.iter().zip(entries).map(|(id, entry)| {
            let id = bytes(id).unwrap_or_default().to_vec();
            (id, bytes(entry).map(<[u8]>::to_vec))
        });
        Ok((revision, Some(delta.collect())))
    }

    /// Everything, by pages, and what changed meanwhile on top.
    async fn everything(&self) -> Result<Listing, StoreError> {
        for _ in 0..TRIES {
            let (before, _) = self.since(None).await?;
            let mut entries = self.scan().await?;
            let (revision, Some(delta)) = self.since(Some(before)).await? else {
                continue;
            };
            for (id, entry) in delta {
                match entry {
                    Some(entry) => entries.insert(id, entry),
                    None => entries.remove(&id),
                };
            }
            // A million entries hold up nobody there.
            let listing = tokio::task::spawn_blocking(move || {
                let mut listing = Listing {
                    complete: true,
                    ..Listing::nothing_new(revision)
                };
                for (id, entry) in entries {
                    read(&mut listing, &id, &entry);
                }
                listing
            });
            return listing.await.map_err(|_| self.link.strange());
        }
        Err(self.link.strange())
    }

    async fn scan(&self) -> Result<HashMap<Vec<u8>, Vec<u8>>, StoreError> {
        let strange = || self.link.strange();
        let mut entries = HashMap::new();
        let mut cursor = b"0".to_vec();
        loop {
            let page = PAGE.to_string();
            let arguments = [cursor.as_slice(), page.as_bytes()];
            let script = &self.scripts.scan;
            let run = self
                .link
                .run(TAG, script, &self.keys[..1], &arguments, false, true);
            let answer = run.await?;
            let Some([next, pairs]) = array(&answer) else {
                return Err(strange());
            };
            for pair in array(pairs).ok_or_else(strange)?.chunks_exact(2) {
                if let (Some(id), Some(entry)) = (bytes(&pair[0]), bytes(&pair[1])) {
                    entries.insert(id.to_vec(), entry.to_vec());
                }
            }
            cursor = bytes(next).ok_or_else(strange)?.to_vec();
            if cursor == b"0" {
                return Ok(entries);
            }
        }
    }
}

impl BlocklistStore for RedisBlocklist {
    async fn list(&self, since: Option<Revision>) -> Result<Listing, StoreError> {
        let Some(known) = since else {
            return self.0.everything().await;
        };
        let (revision, Some(delta)) = self.0.since(Some(known)).await? else {
            return self.0.everything().await;
        };
        let mut listing = Listing::nothing_new(revision);
        for (id, entry) in delta {
            match entry {
                Some(entry) => read(&mut listing, &id, &entry),
                None => listing.removed.extend(name(&id)),
            }
        }
        Ok(listing)
    }

    async fn look_up(&self, ids: &[EntryId]) -> Result<Vec<Entry>, StoreError> {
        let shared = &self.0;
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(PAGE) {
            let names: Vec<String> = ids.iter().map(EntryId::to_string).collect();
            let arguments: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
            let script = &shared.scripts.look_up;
            let run = shared
                .link
                .run(TAG, script, &shared.keys[..2], &arguments, false, true);
            let answer = run.await?;
            let Some([entries, hits]) = array(&answer) else {
                return Err(shared.link.strange());
            };
            let (Some(entries), Some(hits)) = (array(entries), array(hits)) else {
                return Err(shared.link.strange());
            };
            for ((name, entry), hits) in names.iter().zip(entries).zip(hits) {
                let entry = bytes(entry).and_then(|entry| decode(name.as_bytes(), entry).ok());
                found.extend(entry.map(|entry| Entry {
                    hits: number(hits).unwrap_or(0),
                    ..entry
                }));
            }
        }
        Ok(found)
    }

    async fn add(&self, draft: &Draft, now: Timestamp) -> Result<(Revision, Entry), StoreError> {
        let entry = draft.entry(EntryId(0), now);
        let added = self.0.change("add", "", &encode(&entry)).await?;
        let (revision, id) = added.ok_or_else(|| self.0.link.strange())?;
        Ok((revision, Entry { id, ..entry }))
    }

    async fn update(
        &self,
        id: EntryId,
        draft: &Draft,
        now: Timestamp,
    ) -> Result<Option<(Revision, Entry)>, StoreError> {
        // When it was made never changes: it need not be read in the same step.
        let entry = match self.look_up(&[id]).await?.as_slice() {
            [entry] => draft.over(entry, now),
            _ => draft.entry(id, now),
        };
        let updated = self
            .0
            .change("put", &id.to_string(), &encode(&entry))
            .await?;
        Ok(updated.map(|(revision, _)| (revision, entry)))
    }

    async fn remove(&self, id: EntryId) -> Result<Option<Revision>, StoreError> {
        let removed = self.0.change("remove", &id.to_string(), "").await?;
        Ok(removed.map(|(revision, _)| revision))
    }

    async fn add_hits(&self, hits: &[(EntryId, u64)]) -> Result<(), StoreError> {
        let shared = &self.0;
        for hits in hits.chunks(PAGE) {
            let words = hits.iter().flat_map(|(id, count)| [id.0, *count]);
            let words: Vec<String> = words.map(|word| word.to_string()).collect();
            let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
            let script = &shared.scripts.add_hits;
            let run = shared
                .link
                .run(TAG, script, &shared.keys[..2], &arguments, false, false);
            run.await?;
        }
        Ok(())
    }

    async fn watch(&self) -> Result<Changes, StoreError> {
        let mut changed = self.0.changed.subscribe();
        Ok(Changes::new(async move {
            // Its other end goes with the store alone.
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }))
    }
}

fn read(listing: &mut Listing, id: &[u8], entry: &[u8]) {
    match decode(id, entry) {
        Ok(entry) => listing.entries.push(entry),
        Err(Unreadable { id, reason }) => listing.unreadable.push(Unreadable { id, reason }),
    }
}

fn name(id: &[u8]) -> Option<EntryId> {
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// A number that no other list has.
fn new_epoch() -> String {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&Nonce::random().as_bytes()[..8]);
    u64::from_le_bytes(bytes).to_string()
}

impl fmt::Debug for RedisBlocklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBlocklist")
            .field("channel", &self.0.channel)
            .finish_non_exhaustive()
    }
}
