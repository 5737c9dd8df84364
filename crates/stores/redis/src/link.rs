//! The store's connections, for what others keep on its servers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Operation, StoreError};
use redis::Value;
use tokio::task::AbortHandle;

use crate::RedisStore;
use crate::call::{Call, strange};
use crate::listen::{Ear, Pause, listen_once};
use crate::place::Places;
use crate::scripts::Source;
use crate::store::Inner;

/// The connections of a [`RedisStore`], for Onlyonce's other crates that keep something on the same
/// servers: routing, repeating, waiting for replicas and time limits are the store's.
///
/// Not part of the public interface: it may change with any version.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

/// A script. Its keys all lie under one hash tag.
pub struct LinkScript(Source);

impl LinkScript {
    /// A script of this text.
    #[must_use]
    pub fn new(text: &'static str) -> Self {
        Self(Source::new(text))
    }
}

/// What becomes of a channel that is listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// From now on everything is heard. Said again now and then.
    Connected,
    /// This was published.
    Message(Vec<u8>),
    /// Something may be missed from now on, until [`Connected`](Self::Connected).
    Lost,
}

/// Keeps a channel listened to; dropped, nothing is heard any more.
#[derive(Debug)]
pub struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RedisStore {
    #[doc(hidden)]
    #[must_use]
    pub fn link(&self) -> Link {
        Link(Arc::clone(&self.0))
    }
}

impl Link {
    /// The name of a key or a channel: the store's prefix, the hash tag in braces, and the rest.
    #[must_use]
    pub fn name(&self, tag: &str, rest: &str) -> String {
        self.0.caller.places.named(tag, rest)
    }

    /// Runs a script on keys of one hash tag, within the store's time limit. It waits for replicas
    /// when the store does and `writes` says so. With `repeatable`, doing it twice is as good as
    /// doing it once: it is sent again when a connection breaks.
    ///
    /// # Errors
    /// When it can't be done; as with any step of the store, it may have been done all the same.
    pub async fn run(
        &self,
        tag: &str,
        script: &LinkScript,
        keys: &[String],
        arguments: &[&[u8]],
        writes: bool,
        repeatable: bool,
    ) -> Result<Value, StoreError> {
        let call = Call {
            operation: Operation::Inspect,
            slot: Places::slot_of(tag),
            keys,
            script: &script.0,
            arguments,
            replicated: writes,
            repeatable,
        };
        self.0.caller.call(&call).await
    }

    /// The error that says that the server gave an answer which makes no sense.
    #[must_use]
    pub fn strange(&self) -> StoreError {
        strange(Operation::Inspect)
    }

    /// Hears what is published on a channel, for as long as what is returned lives. `hear` must be
    /// quick.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use = "dropped, nothing is heard any more"]
    pub fn listen(
        &self,
        channel: String,
        hear: impl Fn(Heard) + Send + Sync + 'static,
    ) -> Listening {
        let inner = Arc::clone(&self.0);
        let ear: Arc<dyn Ear> = Arc::new(FnEar(Box::new(hear)));
        let task = tokio::spawn(async move {
            let mut pause = Pause::new();
            loop {
                let connected = listen_once(&inner, &channel, &ear).await;
                pause.wait(connected).await;
            }
        });
        Listening(task.abort_handle())
    }
}

struct FnEar(Box<dyn Fn(Heard) + Send + Sync>);

impl Ear for FnEar {
    fn connected(&self, _: Duration) {
        (self.0)(Heard::Connected);
    }

    fn lost(&self) {
        (self.0)(Heard::Lost);
    }

    fn message(&self, payload: &[u8]) {
        (self.0)(Heard::Message(payload.to_vec()));
    }

    fn is_closed(&self) -> bool {
        false
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl fmt::Debug for LinkScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LinkScript").field(&self.0.hash).finish()
    }
}
