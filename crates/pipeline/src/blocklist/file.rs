//! A blocklist in a file, for one machine.

use std::fs::{File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use onlyonce_core::{Changes, Operation, StoreError, StoreErrorKind, Timestamp};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::entry::{Draft, Entry, EntryId};
use super::store::{BlocklistStore, Listing, Revision, Unreadable};

/// Keeps entries in a JSON file, which people may edit, too: what another process or an editor
/// writes there is seen within a second. Cloning is cheap and gives the same store.
///
/// The file is replaced as a whole, after its successor has reached the disk; processes that write
/// it take turns by a lock on a file beside it (`….lock`). It is made when the first entry is
/// added, its folder is not; once it was there, it must stay, as one that is gone is no empty one.
/// Meant for thousands of entries: each change writes all of them.
///
/// ```json
/// {
///   "version": 1,
///   "last": 2,
///   "entries": [
///     { "id": 1, "ip": "203.0.113.0/24", "remark": "probes", "status": 1, "created": 1788220800000 },
///     { "id": 2, "ip": "198.51.100.5-90", "expires": 1790899200000 }
///   ]
/// }
/// ```
///
/// Only `id` and `ip` must be there; times are milliseconds of Unix time, status 1 is on.
///
/// # Example
/// ```
/// use onlyonce_pipeline::blocklist::{Blocklist, Draft, FileBlocklist};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let store = FileBlocklist::new(folder.path().join("blocklist.json"));
/// let blocklist = Blocklist::load(store).await?;
/// blocklist.add(&Draft::new("203.0.113.0/24")).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct FileBlocklist(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// It has been read, or written, by this process.
    was_there: AtomicBool,
    changed: watch::Sender<()>,
}

/// How often it is looked whether somebody else has written the file.
const LOOK: Duration = Duration::from_millis(400);
/// How long another writer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Larger files are none of ours.
const LARGEST: u64 = 512 * 1024 * 1024;
const VERSION: u32 = 1;

/// The file. What is not understood stays as it is.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    /// The name that was given last.
    #[serde(default)]
    last: u64,
    entries: Vec<Value>,
}

impl FileBlocklist {
    /// A blocklist in this file, which need not be there yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Shared {
            path: path.into(),
            was_there: AtomicBool::new(false),
            changed: watch::Sender::new(()),
        }))
    }

    /// Works on the file where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.unwrap_or_else(|error| {
            let message = "the work on the blocklist's file was broken off";
            let kind = StoreErrorKind::Unavailable;
            Err(StoreError::new(Operation::Inspect, kind, message).with_source(error))
        })
    }

    /// Replaces the file, unless there is nothing to change.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Document) -> Option<T> + Send + 'static,
    ) -> Result<Option<(Revision, T)>, StoreError> {
        let changed = self.blocking(|shared| {
            let _turn = lock(&shared.path)?;
            let mut document = shared.read()?;
            let Some(done) = change(&mut document) else {
                return Ok(None);
            };
            document.write(&shared.path)?;
            shared.was_there.store(true, Ordering::SeqCst);
            Ok(Some((document.revision(), done)))
        });
        let changed = changed.await?;
        if changed.is_some() {
            self.0.changed.send_replace(());
        }
        Ok(changed)
    }
}

impl BlocklistStore for FileBlocklist {
    async fn list(&self, since: Option<Revision>) -> Result<Listing, StoreError> {
        self.blocking(move |shared| {
            let document = shared.read()?;
            let revision = document.revision();
            if since == Some(revision) {
                return Ok(Listing::nothing_new(revision));
            }
            let mut listing = Listing {
                complete: true,
                ..Listing::nothing_new(revision)
            };
            for (index, value) in document.entries.iter().enumerate() {
                match Entry::deserialize(value) {
                    Ok(entry) => listing.entries.push(entry),
                    Err(error) => listing.unreadable.push(Unreadable {
                        id: id_of(value),
                        reason: format!(
                            "{}: entry no. {}: {error}",
                            shared.path.display(),
                            index + 1
                        ),
                    }),
                }
            }
            Ok(listing)
        })
        .await
    }

    async fn look_up(&self, ids: &[EntryId]) -> Result<Vec<Entry>, StoreError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        self.blocking(move |shared| {
            let document = shared.read()?;
            let entries = document.entries.iter();
            let entries = entries.filter_map(|value| Entry::deserialize(value).ok());
            Ok(entries
                .filter(|entry| ids.binary_search(&entry.id).is_ok())
                .collect())
        })
        .await
    }

    async fn add(&self, draft: &Draft, now: Timestamp) -> Result<(Revision, Entry), StoreError> {
        let draft = draft.clone();
        let added = self.change(move |document| {
            // Others may have given names, too.
            let given = document
                .entries
                .iter()
                .filter_map(id_of)
                .map(|id| id.0)
                .max();
            document.last = document.last.max(given.unwrap_or(0)).saturating_add(1);
            let entry = draft.entry(EntryId(document.last), now);
            document.entries.push(value_of(&entry)?);
            Some(entry)
        });
        added.await?.ok_or_else(|| {
            let message = "the entry can't be written as JSON";
            StoreError::new(Operation::Inspect, StoreErrorKind::Corrupt, message)
        })
    }

    async fn update(
        &self,
        id: EntryId,
        draft: &Draft,
        now: Timestamp,
    ) -> Result<Option<(Revision, Entry)>, StoreError> {
        let draft = draft.clone();
        self.change(move |document| {
            let of_id = |value: &&mut Value| id_of(value) == Some(id);
            let value = document.entries.iter_mut().find(of_id)?;
            // One that can't be read is mended by writing it anew.
            let entry = match Entry::deserialize(&*value) {
                Ok(entry) => draft.over(&entry, now),
                Err(_) => draft.entry(id, now),
            };
            *value = value_of(&entry)?;
            Some(entry)
        })
        .await
    }

    async fn remove(&self, id: EntryId) -> Result<Option<Revision>, StoreError> {
        let removed = self.change(move |document| {
            let before = document.entries.len();
            document.entries.retain(|value| id_of(value) != Some(id));
            (document.entries.len() < before).then_some(())
        });
        Ok(removed.await?.map(|(revision, ())| revision))
    }

    async fn add_hits(&self, hits: &[(EntryId, u64)]) -> Result<(), StoreError> {
        let hits: std::collections::HashMap<EntryId, u64> = hits.iter().copied().collect();
        let added = self.change(move |document| {
            let mut any = None;
            for value in &mut document.entries {
                let Some(count) = id_of(value).and_then(|id| hits.get(&id)) else {
                    continue;
                };
                if let Ok(mut entry) = Entry::deserialize(&*value) {
                    entry.hits = entry.hits.saturating_add(*count);
                    *value = value_of(&entry)?;
                    any = Some(());
                }
            }
            any
        });
        added.await.map(drop)
    }

    async fn watch(&self) -> Result<Changes, StoreError> {
        let mut changed = self.0.changed.subscribe();
        let before = stamp(self.0.path.clone()).await;
        let path = self.0.path.clone();
        Ok(Changes::new(async move {
            loop {
                match tokio::time::timeout(LOOK, changed.changed()).await {
                    Ok(Ok(())) => return,
                    // Nobody is left who could write it by this store.
                    Ok(Err(_)) => tokio::time::sleep(LOOK).await,
                    Err(_) => {}
                }
                if stamp(path.clone()).await != before {
                    return;
                }
            }
        }))
    }
}

impl Shared {
    fn read(&self) -> Result<Document, StoreError> {
        let path = &self.path;
        if let Some(document) = Document::read(path)? {
            self.was_there.store(true, Ordering::SeqCst);
            return Ok(document);
        }
        // An editor is about to put its own there, or somebody made a mistake: neither is a reason
        // to let everybody in.
        if self.was_there.load(Ordering::SeqCst) {
            let message = format!(
                "{} is gone: put it back; one that lets everybody in says \"entries\": []",
                path.display()
            );
            let kind = StoreErrorKind::Unavailable;
            return Err(StoreError::new(Operation::Inspect, kind, message));
        }
        Ok(Document::default())
    }
}

impl Document {
    /// `None`: there is no file.
    fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let fault = |error| fault(path, "can't be read", error);
        let text = match std::fs::metadata(path) {
            Ok(metadata) if metadata.len() > LARGEST => {
                let message = format!("{} is larger than {LARGEST} bytes", path.display());
                return Err(StoreError::new(
                    Operation::Inspect,
                    StoreErrorKind::Full,
                    message,
                ));
            }
            Ok(_) => std::fs::read(path).map_err(fault)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(error)),
        };
        let document: Self = serde_json::from_slice(&text).map_err(|error| {
            let message = format!(
                "{}, line {}, column {}: this is no blocklist: mend the file, or put it away",
                path.display(),
                error.line(),
                error.column(),
            );
            let kind = StoreErrorKind::Corrupt;
            StoreError::new(Operation::Inspect, kind, message).with_source(error)
        })?;
        if document.version != VERSION {
            let message = format!(
                "{} has version {}, and this Onlyonce reads version {VERSION}",
                path.display(),
                document.version,
            );
            let kind = StoreErrorKind::Misconfigured;
            return Err(StoreError::new(Operation::Inspect, kind, message));
        }
        Ok(Some(document))
    }

    /// Another file takes its place, once it is on the disk.
    fn write(&mut self, path: &Path) -> Result<(), StoreError> {
        self.version = VERSION;
        let fault = |error| fault(path, "can't be written", error);
        let text = serde_json::to_vec_pretty(self).map_err(|error| fault(error.into()))?;
        let next = beside(path, "next");
        let mut file = File::create(&next).map_err(fault)?;
        file.write_all(&text).map_err(fault)?;
        file.sync_all().map_err(fault)?;
        std::fs::rename(&next, path).map_err(fault)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or_else(|| Path::new(".")));
        folder.and_then(|folder| folder.sync_all()).map_err(fault)
    }

    /// A number for all that is in it but hits.
    fn revision(&self) -> Revision {
        let mut hasher = DefaultHasher::new();
        for value in &self.entries {
            match Entry::deserialize(value) {
                Ok(entry) => {
                    let Entry {
                        id,
                        ip,
                        remark,
                        status,
                        created,
                        updated,
                        expires,
                        hits: _,
                    } = entry;
                    (id, ip, remark, status).hash(&mut hasher);
                    (created, updated, expires).hash(&mut hasher);
                }
                Err(_) => value.to_string().hash(&mut hasher),
            }
        }
        Revision {
            epoch: hasher.finish(),
            number: 0,
        }
    }
}

fn id_of(value: &Value) -> Option<EntryId> {
    value.get("id").and_then(Value::as_u64).map(EntryId)
}

fn value_of(entry: &Entry) -> Option<Value> {
    serde_json::to_value(entry).ok()
}

/// The turn of this process; it ends when the file is closed.
fn lock(path: &Path) -> Result<File, StoreError> {
    let fault = |error| fault(path, "can't be locked", error);
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true);
    let file = file.open(beside(path, "lock")).map_err(fault)?;
    let pause = Duration::from_millis(5);
    let mut left = PATIENCE.as_millis() / pause.as_millis();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(error) if error == rustix::io::Errno::WOULDBLOCK && left > 0 => {
                left -= 1;
                std::thread::sleep(pause);
            }
            Err(error) => return Err(fault(error.into())),
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// By what a file is told from its successor.
async fn stamp(path: PathBuf) -> Option<(Option<SystemTime>, u64, u64)> {
    let looked = tokio::task::spawn_blocking(move || std::fs::metadata(path)).await;
    let metadata = looked.ok()?.ok()?;
    Some((
        metadata.modified().ok(),
        metadata.len(),
        number_of(&metadata),
    ))
}

#[cfg(unix)]
fn number_of(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number_of(_: &Metadata) -> u64 {
    0
}

fn fault(path: &Path, what: &str, error: io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => StoreErrorKind::Misconfigured,
        _ => StoreErrorKind::Unavailable,
    };
    let message = format!("{} {what}: {error}", path.display());
    StoreError::new(Operation::Inspect, kind, message).with_source(error)
}
