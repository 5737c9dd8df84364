//! The store behind the gateway, opened by its URL.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use onlyonce_core::{
    AnyStore, Inspect, Invalidations, Pepper, RecordId, Scope, Secret, SecretError, SharedStore,
    Store, StoreError, check_secret, settle_secret,
};
use onlyonce_disk::DiskStore;
use onlyonce_guard::Guard;
use onlyonce_memory::MemoryStore;
use onlyonce_near::Near;
use onlyonce_postgres::PostgresStore;
use onlyonce_redis::RedisStore;
use onlyonce_sealed::{Compression, Keys, Sealed};

use crate::config::{StoreSettings, StoreUrl, WrapperSettings};

const IN_SETTINGS: &str = "`url` in [store]";
/// The file in a store's folder that holds the secret its records were made under.
const SECRET_FILE: &str = "secret";
/// The file there that tells, when the secret is in the settings, whether it is still the same.
const CHECK_FILE: &str = "secret-check";

/// An open store, in its several roles.
#[derive(Clone)]
pub(crate) struct Records {
    pub(crate) store: SharedStore,
    pub(crate) inspect: Arc<dyn Inspect>,
    pub(crate) secret: Secret,
    /// Replaced on reload.
    pub(crate) keys: Option<Keys>,
    disk: Option<Arc<DiskStore>>,
}

impl Records {
    /// Opens the store. **Blocks**, and needs the runtime at hand.
    ///
    /// `secret` is the one from the settings; without one, a store on disk has its own, made
    /// when it is first opened and kept beside its records.
    ///
    /// Calls to the store are given up after `limit`.
    pub(crate) fn open(
        settings: &StoreSettings,
        secret: Option<Secret>,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let (store, secret, disk) = Self::open_bare(settings, secret)?;
        let (store, keys) = wrap(store, &settings.wrappers, limit);
        Ok(Self {
            store: store.shared(),
            inspect: store.inspect(),
            secret,
            keys,
            disk,
        })
    }

    fn open_bare(settings: &StoreSettings, secret: Option<Secret>) -> anyhow::Result<Bare> {
        match &settings.url {
            StoreUrl::Memory => {
                let most = usize::try_from(settings.max_bytes).unwrap_or(usize::MAX);
                // Bytes are the bound that settings speak of.
                let store = Arc::new(
                    MemoryStore::builder()
                        .max_records(usize::MAX)
                        .max_bytes(most)
                        .build(),
                );
                // Records and secret are gone together.
                let secret = secret.unwrap_or_else(Secret::random);
                Ok((AnyStore::announcing(store), secret, None))
            }
            StoreUrl::Redis(url) => {
                let connecting = RedisStore::connect(url.expose());
                let store = tokio::runtime::Handle::current().block_on(connecting);
                shared(
                    Arc::new(store.context(IN_SETTINGS)?),
                    "Redis",
                    secret.as_ref(),
                )
            }
            StoreUrl::Postgres(url) => {
                let connecting = PostgresStore::connect(url.expose());
                let store = tokio::runtime::Handle::current().block_on(connecting);
                shared(
                    Arc::new(store.context(IN_SETTINGS)?),
                    "PostgreSQL",
                    secret.as_ref(),
                )
            }
            StoreUrl::File(folder) => {
                let store = DiskStore::builder(folder)
                    .durability(settings.durability)
                    .max_bytes(settings.max_bytes)
                    .open()?;
                let has_records = store.stats().records > 0;
                let secret = settle_in_folder(folder, secret, has_records)?;
                let store = Arc::new(store);
                Ok((
                    AnyStore::announcing(Arc::clone(&store)),
                    secret,
                    Some(store),
                ))
            }
        }
    }

    /// Flushes and closes. **Blocks.**
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        self.disk.as_ref().map_or(Ok(()), |disk| disk.close())
    }

    /// Puts what the store says of itself into the metrics.
    pub(crate) fn report(&self) {
        let Some(disk) = &self.disk else { return };
        let stats = disk.stats();
        let gauges = [
            ("onlyonce_store_live_bytes", stats.live_bytes),
            ("onlyonce_store_allocated_bytes", stats.allocated_bytes),
            ("onlyonce_store_segments", stats.segments),
            ("onlyonce_store_full", stats.full.into()),
            ("onlyonce_store_poisoned", stats.poisoned.into()),
        ];
        for (name, value) in gauges {
            #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
            metrics::gauge!(name).set(value as f64);
        }
        metrics::counter!("onlyonce_store_flushes_total").absolute(stats.flushes);
        metrics::counter!("onlyonce_store_writes_total").absolute(stats.writes);
    }
}

/// Looks at the servers of a store, as opening it would, and whether its records were made under
/// this secret of the settings; gives what it warns of.
pub(crate) async fn examine(url: StoreUrl, secret: Option<Secret>) -> anyhow::Result<Vec<String>> {
    match url {
        StoreUrl::Memory => Ok(Vec::new()),
        // A running gateway holds it: nothing more can be asked.
        StoreUrl::File(folder) => {
            crate::folder::examine(&folder).context(IN_SETTINGS)?;
            Ok(Vec::new())
        }
        StoreUrl::Redis(url) => {
            let store = RedisStore::connect(url.expose()).await;
            let store = store.context(IN_SETTINGS)?;
            let checked = check_secret(&store, secret.as_ref()).await;
            checked.map_err(|error| remedy(error, &store))?;
            Ok(store.warnings().iter().map(ToString::to_string).collect())
        }
        StoreUrl::Postgres(url) => {
            let store = PostgresStore::connect(url.expose()).await;
            let store = store.context(IN_SETTINGS)?;
            let checked = check_secret(&store, secret.as_ref()).await;
            checked.map_err(|error| remedy(error, &store))?;
            Ok(store.warnings().iter().map(ToString::to_string).collect())
        }
    }
}

/// A store as it comes, the secret, and the store again if it is on disk.
type Bare = (AnyStore, Secret, Option<Arc<DiskStore>>);

/// A store that others may share. **Blocks**, and needs the runtime at hand.
fn shared<S>(store: Arc<S>, server: &str, given: Option<&Secret>) -> anyhow::Result<Bare>
where
    S: Store + Inspect + Invalidations + Pepper,
{
    let settling = settle_secret(store.as_ref(), given);
    let secret = tokio::runtime::Handle::current().block_on(settling);
    let secret = secret.map_err(|error| remedy(error, store.as_ref()))?;
    if given.is_none() {
        if secret == Secret::well_known() {
            tracing::warn!(
                "no `secret` in [idempotency], and {server} has records from before it kept one: \
                 goes on with one that everybody knows"
            );
        } else {
            tracing::info!(
                "no `secret` in [idempotency]: goes by the one that {server} keeps, {}",
                store.place()
            );
        }
    }
    let any = AnyStore::announcing(Arc::clone(&store)).with_pepper(store);
    Ok((any, secret, None))
}

fn remedy(error: SecretError, store: &impl Pepper) -> anyhow::Error {
    let why = "under another none of them would be found, and retries would execute again";
    let remedy = match &error {
        SecretError::OfItsOwn { .. } => "Take the secret out of [idempotency]",
        SecretError::Another { .. } | SecretError::Missing { .. } => {
            "Set `secret` or `secret_file` in [idempotency] as before"
        }
        // What the store says has its own.
        _ => return anyhow::Error::new(error).context(IN_SETTINGS),
    };
    anyhow::anyhow!(
        "{error}: {why}. {remedy}; or, if no retry can come any more, stop all who share the store \
         and remove {}",
        store.place()
    )
}

/// Puts around the store what the settings say.
fn wrap(
    mut store: AnyStore,
    settings: &WrapperSettings,
    limit: Duration,
) -> (AnyStore, Option<Keys>) {
    // Next to the store: what a cache answers says nothing of it, and goes on without it.
    if let Some(breaker) = &settings.breaker {
        let guard = Guard::builder().timeout(limit).breaker(breaker.breaker());
        store = AnyStore::announcing(Arc::new(guard.build(store)));
    }
    // Within the sealing: copies are scrubbed and sealed like what they are copies of.
    if let Some(bytes) = settings.near_cache {
        store = AnyStore::announcing(Arc::new(Near::new(store, bytes)));
    }
    let fields = settings.fields();
    let changes_nothing = settings.compression == Compression::None && fields.is_none();
    if settings.encryption.is_none() && changes_nothing {
        return (store, None);
    }
    let mut builder = Sealed::builder().compression(settings.compression);
    if let Some(encryption) = &settings.encryption {
        let (ring, plain) = (encryption.ring.clone(), encryption.accept_plain());
        builder = builder.keys(ring).accept_plain(plain);
    }
    if let Some(fields) = fields {
        builder = builder.scrub(move |response| fields.scrub(response));
    }
    let sealed = builder.build(store);
    let keys = settings.encryption.is_some().then(|| sealed.keys());
    (AnyStore::announcing(Arc::new(sealed)), keys)
}

/// The secret that the folder's records were made under.
///
/// With another one no record would be found again, and retries would execute anew: whatever
/// does not fit refuses the start.
fn settle_in_folder(
    folder: &Path,
    given: Option<Secret>,
    has_records: bool,
) -> anyhow::Result<Secret> {
    let path = folder.join(SECRET_FILE);
    let kept = read_secret(&path)?;
    let check = folder.join(CHECK_FILE);
    if let (Some(given), None) = (&given, &kept) {
        settle_check(folder, &check, given, has_records)?;
    }
    match (given, kept) {
        (None, Some(kept)) => Ok(kept),
        (Some(given), Some(kept)) if given == kept => Ok(given),
        (Some(given), Some(_)) if !has_records => {
            settle_check(folder, &check, &given, has_records)?;
            std::fs::remove_file(&path)
                .with_context(|| format!("{} can't be removed", path.display()))?;
            Ok(given)
        }
        (Some(_), Some(_)) => bail!(
            "the store's records were made under the secret in {}, and the settings name another: \
             none of them would be found, and retries would execute again. Take the secret out of \
             the settings; or, if no retry can come any more, remove that file",
            path.display()
        ),
        (Some(given), None) => Ok(given),
        (None, None) if has_records => bail!(
            "the store's records were made under a secret of the settings, which name none now: \
             none of them would be found, and retries would execute again. Set `secret` or \
             `secret_file` in `[idempotency]` as before"
        ),
        (None, None) => {
            let secret = Secret::random();
            write_whole(folder, &path, secret.as_bytes())
                .with_context(|| format!("{} can't be written", path.display()))?;
            Ok(secret)
        }
    }
}

fn read_secret(path: &Path) -> anyhow::Result<Option<Secret>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("{} can't be read", path.display()));
        }
    };
    let mut bytes = Vec::new();
    file.take(Secret::LEN as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{} can't be read", path.display()))?;
    let Ok(bytes) = bytes.try_into() else {
        bail!(
            "{} is damaged: it must have {} bytes. Restore it from a backup, with the records",
            path.display(),
            Secret::LEN
        );
    };
    Ok(Some(Secret::from_bytes(bytes)))
}

/// Sees to it that a secret of the settings is the one that the records were made under.
fn settle_check(
    folder: &Path,
    path: &Path,
    given: &Secret,
    has_records: bool,
) -> anyhow::Result<()> {
    // A keyed hash: it tells no more of the secret than any record's identifier does.
    let sign = RecordId::of_scope(given, &Scope::shared()).to_string();
    let known = match std::fs::read(path) {
        Ok(known) => Some(known),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            return Err(error).with_context(|| format!("{} can't be read", path.display()));
        }
    };
    match known {
        Some(known) if known == sign.as_bytes() => Ok(()),
        Some(_) if has_records => bail!(
            "the store's records were made under another secret of the settings: none of them \
             would be found, and retries would execute again. Set `secret` or `secret_file` in \
             `[idempotency]` as before; or, if no retry can come any more, remove {}",
            path.display()
        ),
        _ => write_whole(folder, path, sign.as_bytes())
            .with_context(|| format!("{} can't be written", path.display())),
    }
}

/// Written whole and durable, or not at all: half a secret would lose every record.
fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = folder.join(".secret.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(folder: &Path, given: Option<&Secret>, has_records: bool) -> anyhow::Result<Secret> {
        settle_in_folder(folder, given.cloned(), has_records)
    }

    #[test]
    fn a_store_keeps_the_secret_that_it_made() {
        let folder = tempfile::tempdir().unwrap();
        let first = settle(folder.path(), None, false).unwrap();
        assert_eq!(settle(folder.path(), None, true).unwrap(), first);
        assert_ne!(first, Secret::well_known());
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(folder.path().join(SECRET_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_secret_under_which_no_record_would_be_found_refuses_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let given = Secret::from_passphrase("another secret altogether");
        assert_eq!(settle(folder.path(), Some(&given), false).unwrap(), given);
        let error = settle(folder.path(), None, true).unwrap_err().to_string();
        assert!(error.contains("Set `secret`"), "{error}");
        settle(folder.path(), None, false).unwrap();
        let error = settle(folder.path(), Some(&given), true)
            .unwrap_err()
            .to_string();
        assert!(error.contains("Take the secret out"), "{error}");
    }

    #[test]
    fn hazard_19_another_secret_of_the_settings_refuses_the_start_too() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one secret", "another secret"]
            .map(|text| Secret::from_passphrase(&format!("{text} that is long enough")));
        settle(folder.path(), Some(&one), false).unwrap();
        assert_eq!(settle(folder.path(), Some(&one), true).unwrap(), one);
        let error = settle(folder.path(), Some(&other), true)
            .unwrap_err()
            .to_string();
        assert!(error.contains("as before"), "{error}");
        // Nothing is lost where there is nothing to find.
        assert_eq!(settle(folder.path(), Some(&other), false).unwrap(), other);
        assert_eq!(settle(folder.path(), Some(&other), true).unwrap(), other);
        settle(folder.path(), Some(&one), true).unwrap_err();
    }

    #[test]
    fn a_damaged_secret_refuses_the_start() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SECRET_FILE), b"short").unwrap();
        let error = settle(folder.path(), None, true).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
    }
}
