//! Where sessions are kept: what a service knows of each token beside what the token says.

mod disk;
mod error;
mod memory;
mod shared;
mod table;

use std::fmt;
use std::future::Future;
use std::time::Duration;

pub use disk::{DiskTokenStore, OpenDiskTokenStoreError};
pub use error::TokenStoreError;
pub use memory::MemoryTokenStore;
pub use shared::SharedTokenStore;

/// A store of sessions and one-use tickets.
///
/// # Contract
/// - Each operation is one atomic step, also against other processes on the same store.
/// - Durations go in, never times of day: the store's own clock decides what has expired, and
///   expired is as good as absent, at once.
/// - A store that failed says so. It never answers "there is none" for "I can't tell".
/// - Dropping a call leaves it done or not done, nothing between.
/// - All of a user's sessions lie under one [`UserKey`], so that a store that is spread over
///   servers can keep them together.
///
/// Neither a token nor a user's name reaches a store, only hashes of them.
pub trait TokenStore: Send + Sync + 'static {
    /// Begins a session that lasts `keep`, and makes it its user's current one.
    ///
    /// Where the user has `at_most` sessions already, the one that would end first makes room.
    fn begin(
        &self,
        session: &SessionKey,
        keep: Duration,
        at_most: usize,
    ) -> impl Future<Output = Result<(), TokenStoreError>> + Send;

    /// What there is of a session.
    fn look(
        &self,
        session: &SessionKey,
    ) -> impl Future<Output = Result<Look, TokenStoreError>> + Send;

    /// Lets the session last `keep` from now on, and counts one refresh more; if it was refreshed
    /// exactly `refreshes` times before. `false`: there is none, or the number is another.
    fn extend(
        &self,
        session: &SessionKey,
        refreshes: u32,
        keep: Duration,
    ) -> impl Future<Output = Result<bool, TokenStoreError>> + Send;

    /// Puts the session `token` of the same user in the place of `session`, lasting `keep`, with
    /// one refresh more; if `session` was refreshed exactly `refreshes` times before. If it was
    /// the current one, the new one is. `false`: there is none, or the number is another.
    fn replace(
        &self,
        session: &SessionKey,
        token: &TokenKey,
        refreshes: u32,
        keep: Duration,
    ) -> impl Future<Output = Result<bool, TokenStoreError>> + Send;

    /// Ends a session; if it was the current one, its user has none then. `false`: there was none.
    fn end(
        &self,
        session: &SessionKey,
    ) -> impl Future<Output = Result<bool, TokenStoreError>> + Send;

    /// Ends all sessions of a user.
    fn end_all(&self, user: &UserKey) -> impl Future<Output = Result<(), TokenStoreError>> + Send;

    /// Keeps what a ticket stands for, for `keep`.
    fn put_ticket(
        &self,
        ticket: &TokenKey,
        grant: &[u8],
        keep: Duration,
    ) -> impl Future<Output = Result<(), TokenStoreError>> + Send;

    /// Takes what a ticket stands for: of all who ask, one gets it, once.
    fn take_ticket(
        &self,
        ticket: &TokenKey,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, TokenStoreError>> + Send;
}

/// What stands for a token or a ticket in a store: a hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenKey([u8; 32]);

/// What stands for a user in a store: a hash of the app's and the user's names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserKey([u8; 32]);

/// Where a session lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Whose it is.
    pub user: UserKey,
    /// The token that opens it.
    pub token: TokenKey,
}

/// What there is of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The session, if there is one and it has not expired.
    pub session: Option<Session>,
    /// Whether it is its user's current one.
    pub current: Current,
}

/// A session that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// How often it was refreshed.
    pub refreshes: u32,
    /// Since it began or was refreshed last.
    pub age: Duration,
    /// Until it ends.
    pub remaining: Duration,
}

/// Which session a user began last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Current {
    /// The one that was asked for.
    This,
    /// Another one.
    Other,
    /// None, or one that has ended.
    None,
}

impl TokenKey {
    pub(in crate::auth) fn of(token: &str) -> Self {
        Self(blake3::derive_key(
            "onlyonce 2026-11 session by token",
            token.as_bytes(),
        ))
    }

    pub(in crate::auth) fn of_ticket(app: &str, ticket: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("onlyonce 2026-11 ticket");
        hasher.update(&(app.len() as u64).to_le_bytes());
        hasher.update(app.as_bytes());
        hasher.update(ticket.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

impl UserKey {
    pub(in crate::auth) fn of(app: &str, user: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("onlyonce 2026-11 user of an app");
        hasher.update(&(app.len() as u64).to_le_bytes());
        hasher.update(app.as_bytes());
        hasher.update(user.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

macro_rules! bytes_and_text {
    ($($name:ident)+) => {$(
        impl $name {
            /// The key of these bytes, as read back from a store.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its bytes, evenly distributed.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            fn from_hex(text: &str) -> Option<Self> {
                let mut bytes = [0; 32];
                if text.len() != 64 || !text.is_ascii() {
                    return None;
                }
                for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
                    *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
                }
                Some(Self(bytes))
            }
        }

        /// 64 lowercase hexadecimal digits.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, ..] = self.0;
                write!(f, concat!(stringify!($name), "({:02x}{:02x}{:02x}…)"), a, b, c)
            }
        }
    )+};
}

bytes_and_text!(TokenKey UserKey);

#[cfg(test)]
pub(crate) mod tests;
