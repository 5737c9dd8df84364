//! Why the blocklist did not do what it was asked.

use std::time::Duration;

use onlyonce_core::StoreError;

use super::entry::DraftError;

/// Why the blocklist did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlocklistError {
    /// The entry can't be saved so.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// There is no room for so many prefixes.
    #[error(
        "the blocklist has no room for so many prefixes: remove entries, write networks in place \
         of single addresses, or raise its capacity"
    )]
    Full,
    /// The store failed.
    #[error("the blocklist's store failed")]
    Store(#[source] StoreError),
    /// The store gave no answer.
    #[error("the blocklist's store gave no answer within {limit:?}")]
    Silent {
        /// How long it was waited for.
        limit: Duration,
    },
}
