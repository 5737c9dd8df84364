//! A store whose type is forgotten.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Look, SessionKey, TokenKey, TokenStore, TokenStoreError, UserKey};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, TokenStoreError>> + Send + 'a>>;

/// Any [`TokenStore`], shared. Cloning is cheap and gives the same store.
#[derive(Clone)]
pub struct SharedTokenStore(Arc<dyn DynTokenStore>);

impl SharedTokenStore {
    /// Shares `store`.
    #[must_use]
    pub fn new(store: impl TokenStore) -> Self {
        Self(Arc::new(store))
    }

    /// Shares a store that is shared already.
    #[must_use]
    pub fn from_arc<S: TokenStore>(store: Arc<S>) -> Self {
        Self(store)
    }
}

impl<S: TokenStore> From<S> for SharedTokenStore {
    fn from(store: S) -> Self {
        Self::new(store)
    }
}

impl fmt::Debug for SharedTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedTokenStore")
    }
}

/// Writes the object-safe twin of [`TokenStore`], its blanket implementation, and the calls.
macro_rules! forward {
    ($(fn $name:ident<'a>(&'a self $(, $argument:ident: $kind:ty)*) -> $output:ty;)+) => {
        trait DynTokenStore: Send + Sync + 'static {
            $(fn $name<'a>(&'a self $(, $argument: $kind)*) -> BoxFuture<'a, $output>;)+
        }

        impl<S: TokenStore> DynTokenStore for S {
            $(fn $name<'a>(&'a self $(, $argument: $kind)*) -> BoxFuture<'a, $output> {
                Box::pin(TokenStore::$name(self $(, $argument)*))
            })+
        }

        impl SharedTokenStore {
            $(pub(in crate::auth) fn $name<'a>(
                &'a self $(, $argument: $kind)*
            ) -> BoxFuture<'a, $output> {
                self.0.$name($($argument),*)
            })+
        }
    };
}

forward! {
    fn begin<'a>(&'a self, session: &'a SessionKey, keep: Duration, at_most: usize) -> ();
    fn look<'a>(&'a self, session: &'a SessionKey) -> Look;
    fn extend<'a>(&'a self, session: &'a SessionKey, refreshes: u32, keep: Duration) -> bool;
    fn replace<'a>(
        &'a self, session: &'a SessionKey, token: &'a TokenKey, refreshes: u32, keep: Duration
    ) -> bool;
    fn end<'a>(&'a self, session: &'a SessionKey) -> bool;
    fn end_all<'a>(&'a self, user: &'a UserKey) -> ();
    fn put_ticket<'a>(&'a self, ticket: &'a TokenKey, grant: &'a [u8], keep: Duration) -> ();
    fn take_ticket<'a>(&'a self, ticket: &'a TokenKey) -> Option<Vec<u8>>;
}
