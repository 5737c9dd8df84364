//! New settings while the gateway runs.

use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Context as _;
use onlyonce_sealed::Keys;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{Registry, reload};

use crate::config::{AccessLogSettings, EncryptionSettings, Settings, Sources, StoreSettings};
use crate::log;
use crate::stack::Live;
use crate::tls::TlsAcceptor;

/// Takes up new settings, keeping the old ones when the new are bad.
pub(crate) struct Reloader {
    pub(crate) sources: Sources,
    pub(crate) live: Live,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) level: reload::Handle<LevelFilter, Registry>,
    /// Those of the store, if it seals.
    pub(crate) keys: Option<Keys>,
    /// What was there at the start, and still holds where only a start changes it.
    pub(crate) started: Settings,
    /// One reload at a time.
    pub(crate) turn: Mutex<()>,
}

impl Reloader {
    /// Reads the settings anew and takes up what can change. Returns what can't, which holds
    /// from the next start on.
    pub(crate) async fn reload(self: &std::sync::Arc<Self>) -> anyhow::Result<Vec<String>> {
        let this = std::sync::Arc::clone(self);
        let result = tokio::task::spawn_blocking(move || this.reload_blocking())
            .await
            .context("the reload broke off")?;
        match &result {
            Ok(notes) => {
                tracing::info!("settings reloaded");
                notes.iter().for_each(|note| tracing::warn!("{note}"));
            }
            Err(error) => {
                tracing::error!("settings not reloaded, the old ones stay: {error:#}");
            }
        }
        result
    }

    fn reload_blocking(&self) -> anyhow::Result<Vec<String>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (new, warnings) = Settings::load(&self.sources)?;
        // All that can fail comes before anything is changed.
        let pair = match (&self.tls, &new.tls) {
            (Some(acceptor), Some(tls)) => Some((acceptor, TlsAcceptor::read(&tls.tls_options())?)),
            _ => None,
        };
        let next = self.live.next(&new)?;

        if let Some((acceptor, pair)) = pair {
            acceptor.replace(pair);
        }
        if let (Some(keys), Some(encryption)) = (&self.keys, &new.store.wrappers.encryption) {
            keys.replace(encryption.ring.clone());
        }
        self.live.replace(&new, next);
        let level = |level: &mut LevelFilter| *level = log::filter(new.log.level);
        if let Err(error) = self.level.modify(level) {
            tracing::warn!(%error, "the log's level stays");
        }

        let mut notes: Vec<String> = warnings
            .iter()
            .map(|warning| warning.title().to_owned())
            .collect();
        let started = &self.started;
        let fixed = [
            ("listen", started.listen == new.listen),
            ("[admin]", started.admin == new.admin),
            ("[store]", same_store(&started.store, &new.store)),
            ("`secret` of [idempotency]", started.secret == new.secret),
            (
                "[tls], switched on or off",
                started.tls.is_some() == new.tls.is_some(),
            ),
            ("[blocklist]", started.blocklist == new.blocklist),
            ("[limits]", started.limits == new.limits),
            (
                "`switchable` of [read_only]",
                started.read_only.is_there() == new.read_only.is_there(),
            ),
            (
                "`proxy_protocol` of [client_address]",
                started.client_address.proxy_protocol() == new.client_address.proxy_protocol(),
            ),
            (
                "`state` of [auth]",
                started.auth.state() == new.auth.state(),
            ),
            (
                "[access_log], switched on,",
                started.access_log.enabled || !new.access_log.enabled,
            ),
            (
                "where [access_log] writes, and how,",
                same_log(&started.access_log, &new.access_log),
            ),
            ("`format` of [log]", started.log.format == new.log.format),
        ];
        let changed = fixed.iter().filter(|(_, same)| !same);
        notes.extend(changed.map(|(what, _)| format!("{what} changes with the next start")));
        Ok(notes)
    }
}

/// Whether the store would be opened in the same way. Its keys have been replaced already.
fn same_store(started: &StoreSettings, new: &StoreSettings) -> bool {
    let plain = |store: &StoreSettings| {
        let encryption = store.wrappers.encryption.as_ref();
        encryption.map(EncryptionSettings::accept_plain)
    };
    let bare = |store: &StoreSettings| {
        let mut store = store.clone();
        store.wrappers.encryption = None;
        store
    };
    plain(started) == plain(new) && bare(started) == bare(new)
}

/// Whether lines and rows would go the same way: which requests are logged changes at once.
fn same_log(started: &AccessLogSettings, new: &AccessLogSettings) -> bool {
    let way = |log: &AccessLogSettings| {
        let rows = (log.queue, log.batch, log.linger, log.retention);
        (log.lines.clone(), log.format, log.store.clone(), rows)
    };
    !started.enabled || !new.enabled || way(started) == way(new)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config::Flag;
    use crate::pipeline::Shared;

    fn certificate(folder: &Path) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    fn engine() -> onlyonce::Engine {
        onlyonce::Engine::builder(onlyonce_memory::MemoryStore::new()).build()
    }

    fn reloader(folder: &Path, variables: &[(&str, String)]) -> Reloader {
        let file = |name: &str| folder.join(name).display().to_string();
        let own = [
            ("ONLYONCE_TLS__CERT", file("cert.pem")),
            ("ONLYONCE_TLS__KEY", file("key.pem")),
            ("ONLYONCE_PROXY__CA_FILE", file("ca.pem")),
        ];
        let first = Sources::none().with_flag(Flag::Upstream, "https://127.0.0.1:1");
        let sources = own.iter().fold(first, |sources, (name, value)| {
            sources.with_variable(*name, value.clone())
        });
        let (settings, _) = Settings::load(&sources).unwrap();
        let tls = settings.tls.as_ref().unwrap().tls_options();
        let changed = variables.iter().fold(sources, |sources, (name, value)| {
            sources.with_variable(*name, value.clone())
        });
        Reloader {
            sources: changed,
            live: Live::new(&settings, engine(), Shared::default()).unwrap(),
            tls: Some(TlsAcceptor::new(&tls).unwrap()),
            level: log::start(&settings.log),
            keys: None,
            started: settings,
            turn: Mutex::default(),
        }
    }

    #[test]
    fn a_reload_that_fails_has_changed_nothing() {
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        std::fs::copy(folder.path().join("cert.pem"), folder.path().join("ca.pem")).unwrap();
        let reloader = reloader(folder.path(), &[]);
        let tls = reloader.tls.clone().unwrap();
        let before = tls.certificate();
        // A good certificate, and authorities that are none.
        certificate(folder.path());
        std::fs::write(folder.path().join("ca.pem"), "nobody").unwrap();
        reloader.reload_blocking().unwrap_err();
        assert!(Arc::ptr_eq(&tls.certificate(), &before));
        std::fs::copy(folder.path().join("cert.pem"), folder.path().join("ca.pem")).unwrap();
        reloader.reload_blocking().unwrap();
        assert!(!Arc::ptr_eq(&tls.certificate(), &before));
    }

    #[test]
    fn what_waits_for_the_next_start_is_said_at_each_reload() {
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        std::fs::copy(folder.path().join("cert.pem"), folder.path().join("ca.pem")).unwrap();
        let changed = [
            ("ONLYONCE_LIMITS__MAX_CONNECTIONS", "7".to_owned()),
            ("ONLYONCE_ACCESS_LOG__ENABLED", "true".to_owned()),
        ];
        let reloader = reloader(folder.path(), &changed);
        for _ in 0..2 {
            let notes = reloader.reload_blocking().unwrap();
            for what in ["[limits]", "[access_log], switched on,"] {
                let start = format!("{what} changes with the next start");
                assert!(notes.contains(&start), "{notes:?}");
            }
        }
    }

    #[test]
    fn the_log_s_way_is_compared_where_it_is_on() {
        let log = |enabled, batch| {
            let mut log = AccessLogSettings::default();
            (log.enabled, log.batch) = (enabled, batch);
            log
        };
        assert!(same_log(&log(true, 1), &log(true, 1)));
        assert!(!same_log(&log(true, 1), &log(true, 2)));
        assert!(same_log(&log(true, 1), &log(false, 2)));
        assert!(same_log(&log(false, 1), &log(true, 2)), "said otherwise");
    }
}
