//! The store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Changes, Operation, StoreError, StoreErrorKind, Timestamp};
use onlyonce_pipeline::blocklist::{BlocklistStore, Draft, Entry, EntryId, Listing, Revision};
use onlyonce_postgres::{Heard, Link, Listening};
use tokio::sync::watch;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use super::row::{columns, entry, name, read_row};

/// A blocklist on PostgreSQL, for all nodes that use the same database and schema. Cloning is cheap
/// and gives the same store.
///
/// Entries are the rows of the table `blocklist` in the URL's schema; whoever changes it, by hand
/// too, has all nodes told: triggers see to that. A node that lost its connection looks for itself
/// when it has another; where the URL says `listen=off`, it looks each second. Nodes are told what
/// has changed, not everything, as long as they know one of the last 10,000 removals.
///
/// # Example
/// ```no_run
/// use onlyonce_pipeline::blocklist::Blocklist;
/// use onlyonce_pipeline_postgres::PostgresBlocklist;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let url = "postgres://onlyonce:password@127.0.0.1/shop";
/// PostgresBlocklist::migrate(url).await?;
/// let blocklist = Blocklist::load(PostgresBlocklist::connect(url).await?).await?;
/// # let _ = blocklist; Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresBlocklist(Arc<Shared>);

struct Shared {
    link: Link,
    statements: Statements,
    changed: Arc<watch::Sender<()>>,
    _listening: Listening,
}

struct Statements {
    since: String,
    page: String,
    look_up: String,
    add: String,
    update: String,
    remove: String,
    add_hits: String,
}

/// In their order; the first leads to version 1. Never changed once released.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/blocklist_1.sql")];
const COMPONENT: &str = "blocklist";
/// Entries that are read at once.
const PAGE: i64 = 10_000;
/// How long reading such a page may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the whole list is read anew when it changes faster than it can be read.
const TRIES: u32 = 4;
/// Without a connection that listens.
const LOOK: Duration = Duration::from_secs(1);

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A state, and what it was asked for: nothing where that can't be told.
struct Since {
    revision: Revision,
    changes: Option<Vec<Row>>,
}

impl PostgresBlocklist {
    /// Connects to the server of a URL: see [`onlyonce_postgres`](onlyonce_postgres#urls). Makes
    /// the tables where the URL says `migrate=auto`.
    ///
    /// # Errors
    /// [`Misconfigured`](StoreErrorKind::Misconfigured), with the remedy, for a URL that can't be
    /// read, a wrong password or database, tables that are missing or of another version;
    /// [`Unavailable`](StoreErrorKind::Unavailable) or [`Timeout`](StoreErrorKind::Timeout) when
    /// the server can't be reached.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let link = Link::connect(url).await?;
        if link.migrates() {
            link.migrate(COMPONENT, &MIGRATIONS).await?;
        }
        let found = link.version(COMPONENT).await?;
        if usize::try_from(found).ok() != Some(MIGRATIONS.len()) {
            let message = format!(
                "the blocklist's tables in the schema {} have version {found}, and version {} is \
                 needed: run `onlyonce migrate`, or write `migrate=auto` in the URL (0: there are \
                 none)",
                link.schema(),
                MIGRATIONS.len()
            );
            let kind = StoreErrorKind::Misconfigured;
            return Err(StoreError::new(Operation::Open, kind, message));
        }
        let changed = Arc::new(watch::Sender::new(()));
        let listening = link.listen(link.channel(COMPONENT), {
            let changed = Arc::clone(&changed);
            move |heard| {
                // What was notified of before a connection listened was not heard.
                if matches!(heard, Heard::Message(_) | Heard::Connected) {
                    changed.send_replace(());
                }
            }
        });
        Ok(Self(Arc::new(Shared {
            statements: Statements::new(&link.schema()),
            link,
            changed,
            _listening: listening,
        })))
    }

    /// Whether [`migrate`](Self::migrate) would have nothing to do; changes nothing.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn is_migrated(url: &str) -> Result<bool, StoreError> {
        let found = Link::connect(url).await?.version(COMPONENT).await?;
        Ok(usize::try_from(found).is_ok_and(|found| found >= MIGRATIONS.len()))
    }

    /// Brings the tables up to date. Of several who do it at once, one does it.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); also when the tables are newer than this version knows.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn migrate(url: &str) -> Result<(), StoreError> {
        Link::connect(url)
            .await?
            .migrate(COMPONENT, &MIGRATIONS)
            .await
    }
}

impl Statements {
    fn new(s: &str) -> Self {
        let columns = columns(s);
        let epoch = format!("(SELECT epoch FROM {s}.blocklist_state) AS epoch");
        let hits = format!(
            "coalesce((SELECT h.hits FROM {s}.blocklist_hits h WHERE h.id = b.id), 0) AS hits"
        );
        let time = |parameter: &str| format!("to_timestamp({parameter}::bigint / 1000.0)");
        Self {
            since: format!("SELECT * FROM {s}.blocklist_since($1, $2)"),
            page: format!("SELECT {columns} FROM {s}.blocklist WHERE id > $1 ORDER BY id LIMIT $2"),
            look_up: format!("SELECT {columns}, {hits} FROM {s}.blocklist b WHERE id = ANY($1)"),
            add: format!(
                "INSERT INTO {s}.blocklist (ip, remark, status, created, updated, expires) \
                 VALUES ($1, $2, $3, {now}, {now}, {expires}) RETURNING id, revision, {epoch}",
                now = time("$4"),
                expires = time("$5"),
            ),
            update: format!(
                "UPDATE {s}.blocklist b SET ip = $1, remark = $2, status = $3, updated = {now}, \
                 expires = {expires} WHERE id = $6 RETURNING {columns}, {hits}, revision, {epoch}",
                now = time("$4"),
                expires = time("$5"),
            ),
            remove: format!(
                "DELETE FROM {s}.blocklist WHERE id = $1 \
                 RETURNING {s}.blocklist_revision() AS revision, {epoch}"
            ),
            add_hits: format!(
                "INSERT INTO {s}.blocklist_hits AS h (id, hits) \
                 SELECT n.id, n.count FROM unnest($1, $2) AS n (id, count) \
                 JOIN {s}.blocklist b ON b.id = n.id ORDER BY n.id \
                 ON CONFLICT (id) DO UPDATE SET hits = h.hits + excluded.hits"
            ),
        }
    }
}

impl Shared {
    async fn since(&self, known: Option<Revision>) -> Result<Since, StoreError> {
        // A number that is no epoch.
        let epoch = known.map_or(-1, |known| signed(known.epoch));
        let number = known.map_or(0, |known| signed(known.number));
        let parameters: [Parameter<'_>; 2] = [(&epoch, Type::INT8), (&number, Type::INT8)];
        let read = self
            .link
            .read_within(PATIENCE, &self.statements.since, &parameters);
        let mut rows = read.await?.into_iter();
        let Some(state) = rows.next() else {
            let message = "the blocklist's tables have lost their state: make them anew";
            let kind = StoreErrorKind::Corrupt;
            return Err(StoreError::new(Operation::Inspect, kind, message));
        };
        let told: bool = state.try_get("told").map_err(|error| self.strange(error))?;
        Ok(Since {
            revision: revision(&state).map_err(|error| self.strange(error))?,
            changes: told.then(|| rows.collect()),
        })
    }

    /// Everything, by pages, and what changed meanwhile on top.
    async fn everything(&self) -> Result<Listing, StoreError> {
        for _ in 0..TRIES {
            let before = self.since(None).await?.revision;
            let mut all = BTreeMap::new();
            let mut listing = Listing {
                complete: true,
                ..Listing::nothing_new(before)
            };
            let mut last = i64::MIN;
            loop {
                let parameters: [Parameter<'_>; 2] = [(&last, Type::INT8), (&PAGE, Type::INT8)];
                let read = self
                    .link
                    .read_within(PATIENCE, &self.statements.page, &parameters);
                let rows = read.await?;
                let mut page = Listing::nothing_new(before);
                for row in &rows {
                    read_row(&mut page, row).map_err(|error| self.strange(error))?;
                }
                all.extend(page.entries.into_iter().map(|entry| (entry.id, entry)));
                listing.unreadable.extend(page.unreadable);
                match rows.last() {
                    Some(row) => last = row.try_get("id").map_err(|error| self.strange(error))?,
                    None => break,
                }
            }
            let after = self.since(Some(before)).await?;
            let Some(changes) = after.changes else {
                continue;
            };
            let delta = self.delta(after.revision, &changes)?;
            all.extend(delta.entries.into_iter().map(|entry| (entry.id, entry)));
            for id in delta.removed {
                all.remove(&id);
            }
            listing.revision = after.revision;
            listing.entries = all.into_values().collect();
            return Ok(listing);
        }
        let message = "the blocklist changes faster than it can be read";
        let kind = StoreErrorKind::Unavailable;
        Err(StoreError::new(Operation::Inspect, kind, message))
    }

    fn delta(&self, revision: Revision, rows: &[Row]) -> Result<Listing, StoreError> {
        let mut listing = Listing::nothing_new(revision);
        let read = |listing: &mut Listing, row: &Row| {
            if row.try_get("gone")? {
                listing.removed.extend(name(row)?.ok());
                Ok(())
            } else {
                read_row(listing, row)
            }
        };
        for row in rows {
            read(&mut listing, row).map_err(|error| self.strange(error))?;
        }
        Ok(listing)
    }

    fn strange(&self, error: Error) -> StoreError {
        self.link.strange(error)
    }
}

impl BlocklistStore for PostgresBlocklist {
    async fn list(&self, since: Option<Revision>) -> Result<Listing, StoreError> {
        let Some(known) = since else {
            return self.0.everything().await;
        };
        let since = self.0.since(Some(known)).await?;
        match since.changes {
            Some(changes) => self.0.delta(since.revision, &changes),
            None => self.0.everything().await,
        }
    }

    async fn look_up(&self, ids: &[EntryId]) -> Result<Vec<Entry>, StoreError> {
        let shared = &self.0;
        let ids: Vec<i64> = ids.iter().map(|id| signed(id.0)).collect();
        let parameters: [Parameter<'_>; 1] = [(&ids, Type::INT8_ARRAY)];
        let query = shared
            .link
            .query(true, &shared.statements.look_up, &parameters);
        let rows = query.await?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let read = || match name(row)? {
                Ok(id) => Ok::<_, Error>(Some(with_hits(entry(id, row)?, row)?)),
                Err(_) => Ok(None),
            };
            entries.extend(read().map_err(|error| shared.strange(error))?);
        }
        Ok(entries)
    }

    async fn add(&self, draft: &Draft, now: Timestamp) -> Result<(Revision, Entry), StoreError> {
        let shared = &self.0;
        let new = draft.entry(EntryId(0), now);
        let (status, made) = (i16::from(new.status.number()), signed(now.as_millis()));
        let expires = new.expires.map(|expires| signed(expires.as_millis()));
        let parameters: [Parameter<'_>; 5] = [
            (&new.ip, Type::TEXT),
            (&new.remark, Type::TEXT),
            (&status, Type::INT2),
            (&made, Type::INT8),
            (&expires, Type::INT8),
        ];
        let query = shared
            .link
            .query(false, &shared.statements.add, &parameters);
        let rows = query.await?;
        let read = |row: &Row| Ok::<_, Error>((name(row)?, revision(row)?));
        match rows.first().map(read).transpose() {
            Ok(Some((Ok(id), revision))) => Ok((revision, Entry { id, ..new })),
            Ok(_) => Err(not_saved()),
            Err(error) => Err(shared.strange(error)),
        }
    }

    async fn update(
        &self,
        id: EntryId,
        draft: &Draft,
        now: Timestamp,
    ) -> Result<Option<(Revision, Entry)>, StoreError> {
        let shared = &self.0;
        let new = draft.entry(id, now);
        let (status, made) = (i16::from(new.status.number()), signed(now.as_millis()));
        let expires = new.expires.map(|expires| signed(expires.as_millis()));
        let number = signed(id.0);
        let parameters: [Parameter<'_>; 6] = [
            (&new.ip, Type::TEXT),
            (&new.remark, Type::TEXT),
            (&status, Type::INT2),
            (&made, Type::INT8),
            (&expires, Type::INT8),
            (&number, Type::INT8),
        ];
        let query = shared
            .link
            .query(false, &shared.statements.update, &parameters);
        let rows = query.await?;
        let read = |row: &Row| Ok((revision(row)?, with_hits(entry(id, row)?, row)?));
        let updated = rows.first().map(read).transpose();
        updated.map_err(|error| shared.strange(error))
    }

    async fn remove(&self, id: EntryId) -> Result<Option<Revision>, StoreError> {
        let shared = &self.0;
        let number = signed(id.0);
        let parameters: [Parameter<'_>; 1] = [(&number, Type::INT8)];
        let query = shared
            .link
            .query(false, &shared.statements.remove, &parameters);
        let rows = query.await?;
        let removed = rows.first().map(revision).transpose();
        removed.map_err(|error| shared.strange(error))
    }

    async fn add_hits(&self, hits: &[(EntryId, u64)]) -> Result<(), StoreError> {
        let shared = &self.0;
        // The same entry twice would be one row twice in one statement.
        let mut sums = BTreeMap::<i64, i64>::new();
        for (id, count) in hits {
            let sum = sums.entry(signed(id.0)).or_default();
            *sum = sum.saturating_add(signed(*count));
        }
        let (ids, counts): (Vec<i64>, Vec<i64>) = sums.into_iter().unzip();
        let parameters: [Parameter<'_>; 2] =
            [(&ids, Type::INT8_ARRAY), (&counts, Type::INT8_ARRAY)];
        let query = shared
            .link
            .query(false, &shared.statements.add_hits, &parameters);
        query.await.map(drop)
    }

    async fn watch(&self) -> Result<Changes, StoreError> {
        if !self.0.link.listens() {
            return Ok(Changes::new(tokio::time::sleep(LOOK)));
        }
        let mut changed = self.0.changed.subscribe();
        Ok(Changes::new(async move {
            // Its other end goes with the store alone.
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }))
    }
}

fn revision(row: &Row) -> Result<Revision, Error> {
    let (epoch, number): (i64, i64) = (row.try_get("epoch")?, row.try_get("revision")?);
    Ok(Revision {
        epoch: epoch.unsigned_abs(),
        number: number.unsigned_abs(),
    })
}

fn with_hits(entry: Entry, row: &Row) -> Result<Entry, Error> {
    let hits: i64 = row.try_get("hits")?;
    Ok(Entry {
        hits: hits.unsigned_abs(),
        ..entry
    })
}

fn not_saved() -> StoreError {
    let message = "the entry was not saved, or under a name that is none";
    StoreError::new(Operation::Inspect, StoreErrorKind::Corrupt, message)
}

/// As PostgreSQL counts, which has no larger numbers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl fmt::Debug for PostgresBlocklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBlocklist")
            .field("link", &self.0.link)
            .finish_non_exhaustive()
    }
}
