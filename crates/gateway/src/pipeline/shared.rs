//! What all stacks work with: opened at the start, and the same through every reload.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderName;
use onlyonce_pipeline::access_log::{AccessLogLayer, Rules};
use onlyonce_pipeline::auth::SharedTokenStore;
use onlyonce_pipeline::blocklist::Blocklist;
use onlyonce_pipeline::read_only::ReadOnly;

use crate::access_log::AccessLogs;
use crate::blocklist;
use crate::config::Settings;
use crate::logins::Logins;

/// What all stacks work with. Cloning gives the same.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    pub(crate) read_only: ReadOnly,
    pub(crate) blocklist: Option<Blocklist>,
    /// Where sessions are kept.
    pub(crate) sessions: Option<SharedTokenStore>,
    /// Whose logins there are, by the settings of the moment.
    pub(crate) logins: Logins,
    pub(crate) access_log: Option<AccessLogLayer>,
    log_rules: Option<Arc<ArcSwap<Rules>>>,
}

impl Shared {
    /// Opens what the settings name. The log is given back beside: its end comes after all others.
    pub(crate) async fn open(settings: &Settings) -> anyhow::Result<(Self, AccessLogs)> {
        let logs = AccessLogs::open(&settings.access_log, &key_headers(settings)).await?;
        let shared = Self {
            read_only: ReadOnly::new(settings.read_only.enabled),
            blocklist: blocklist::open(&settings.blocklist, &settings.store.url).await?,
            sessions: settings.auth.open_state().await?,
            logins: Logins::default(),
            access_log: logs.layer(),
            log_rules: Some(logs.rules()),
        };
        Ok((shared, logs))
    }

    /// Follows new settings, where that needs no new start.
    pub(crate) fn follow(&self, settings: &Settings) {
        if let Some(rules) = &self.log_rules {
            let new = settings.access_log.rules(&key_headers(settings));
            rules.store(Arc::new(new));
        }
    }
}

/// The headers that carry idempotency keys anywhere: they are not logged.
fn key_headers(settings: &Settings) -> Vec<HeaderName> {
    let mut headers: Vec<HeaderName> = settings
        .routes
        .policies()
        .chain([&settings.idempotency])
        .flat_map(|policy| policy.headers.iter().cloned())
        .collect();
    headers.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    headers.dedup();
    headers
}
