//! Looks at the servers after the start: at the new master after a failover, at the old one with
//! other settings. Beside the requests, which don't wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use onlyonce_core::StoreError;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::examine::Examiner;
use crate::node::Node;
use crate::store::Inner;
use crate::warning::Warning;

/// When to look after a new connection. Who has just become a master may not know it yet, and its
/// replicas come to it one by one.
const PAUSES: [Duration; 8] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];
/// And then: settings change, memory fills, replicas go.
const INTERVAL: Duration = Duration::from_secs(60);
/// So often in a row a server is found unfit before it is said.
const SURE: u32 = 3;

/// What is known of the servers, and who sees to it. Ends with the store.
#[derive(Debug)]
pub(crate) struct Attendant {
    warnings: Mutex<Vec<Warning>>,
    task: OnceLock<JoinHandle<()>>,
}

impl Attendant {
    /// Begins with what the start found.
    pub(crate) fn new(warnings: Vec<Warning>) -> Self {
        Self {
            warnings: Mutex::new(warnings),
            task: OnceLock::new(),
        }
    }

    /// Starts to look. Only now that there is a store: whoever finds none takes it for gone.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn start(inner: &Arc<Inner>, attention: Arc<Notify>) {
        let store = Arc::downgrade(inner);
        inner
            .attendant
            .task
            .get_or_init(|| tokio::spawn(work(store, attention)));
    }

    pub(crate) fn warnings(&self) -> MutexGuard<'_, Vec<Warning>> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `found` in place of what was known of a server, and drops what is known of those that
    /// are not `present`.
    fn learn(&self, server: &str, found: Vec<Warning>, present: &[String]) {
        let mut warnings = self.warnings();
        for warning in &found {
            if !warnings.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
        warnings.retain(|one| {
            one.server() != server && present.iter().any(|server| one.server() == server)
        });
        warnings.extend(found);
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

async fn work(inner: Weak<Inner>, attention: Arc<Notify>) {
    let mut pauses = [].iter();
    // Servers whose rights are still to be tried out, and how often that has failed.
    let mut new: HashMap<String, u32> = HashMap::new();
    loop {
        let pause = pauses.next().copied().unwrap_or(INTERVAL);
        let noticed = timeout(pause, attention.notified()).await.is_ok();
        let Some(store) = inner.upgrade() else {
            return;
        };
        store.assert_secret().await;
        if noticed {
            drop(store);
            // Connections that come and go in the meantime are looked at together.
            sleep(PAUSES[0]).await;
            pauses = PAUSES[1..].iter();
        }
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let servers = inner.caller.routes.known();
        let present: Vec<_> = servers
            .iter()
            .map(|one| one.address().to_string())
            .collect();
        new.retain(|server, _| present.contains(server));
        for (node, server) in servers.iter().zip(&present) {
            if node.take_fresh() {
                new.insert(server.clone(), 0);
            }
        }
        let looks = servers.iter().zip(&present);
        let looks = looks.map(|(node, server)| inner.look_at(node, new.contains_key(server)));
        let found = join_all(looks).await;
        let now = inner.caller.routes.known();
        for ((node, server), found) in servers.iter().zip(&present).zip(found) {
            // Others take the writes by now: what is wrong with this one is no matter.
            if !now.iter().any(|one| Arc::ptr_eq(one, node)) {
                continue;
            }
            let warnings = match (found, new.get_mut(server)) {
                (Ok(warnings), _) => {
                    new.remove(server);
                    warnings
                }
                // Requests hear of it; when it can be reached again, it is looked at again.
                (Err(error), _) if error.is_retryable() => {
                    let error: &dyn std::error::Error = &error;
                    tracing::debug!(server, error, "not examined");
                    continue;
                }
                (Err(_), Some(failures)) if *failures + 1 < SURE => {
                    *failures += 1;
                    continue;
                }
                (Err(error), _) => vec![Warning::Unfit {
                    server: server.as_str().into(),
                    why: error.to_string().into(),
                }],
            };
            inner.attendant.learn(server, warnings, &present);
        }
    }
}

impl Inner {
    async fn assert_secret(&self) {
        if let Err(error) = self.keep_again().await
            && !error.is_retryable()
        {
            tracing::error!("{error}");
        }
    }

    async fn look_at(&self, node: &Arc<Node>, is_new: bool) -> Result<Vec<Warning>, StoreError> {
        let caller = &self.caller;
        let examiner = Examiner {
            routes: &caller.routes,
            places: &caller.places,
            clustered: caller.places.clustered(),
            replicas: caller.replicas,
            limit: caller.limit,
        };
        examiner.examine_one(node, self.sharded, is_new).await
    }
}
