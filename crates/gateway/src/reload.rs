//! New settings while the gateway runs.

use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Context as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{Registry, reload};

use crate::config::{Settings, Sources};
use crate::log;
use crate::stack::Live;
use crate::tls::TlsAcceptor;

/// Takes up new settings, keeping the old ones when the new are bad.
pub(crate) struct Reloader {
    pub(crate) sources: Sources,
    pub(crate) live: Live,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) level: reload::Handle<LevelFilter, Registry>,
    /// One reload at a time; what holds now.
    pub(crate) current: Mutex<Settings>,
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
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (new, warnings) = Settings::load(&self.sources)?;
        // All that can fail comes before anything is changed.
        if let (Some(acceptor), Some(tls)) = (&self.tls, &new.tls) {
            acceptor.reload(&tls.tls_options())?;
        }
        self.live.replace(&new)?;
        self.level
            .modify(|level| *level = log::filter(new.log.level))?;

        let mut notes: Vec<String> = warnings
            .iter()
            .map(|warning| warning.title().to_owned())
            .collect();
        let fixed = [
            ("listen", current.listen == new.listen),
            ("[admin]", current.admin == new.admin),
            ("[store]", current.store == new.store),
            ("`secret` of [idempotency]", current.secret == new.secret),
            (
                "[tls], switched on or off",
                current.tls.is_some() == new.tls.is_some(),
            ),
            ("[limits]", current.limits == new.limits),
            ("`format` of [log]", current.log.format == new.log.format),
        ];
        let changed = fixed.iter().filter(|(_, same)| !same);
        notes.extend(changed.map(|(what, _)| format!("{what} changes with the next start")));
        *current = new;
        Ok(notes)
    }
}
