//! Paths that few addresses reach.

mod layer;
mod paths;
mod service;

use std::net::IpAddr;
use std::sync::Arc;

use super::prefix::key_of;
use super::syntax::{AddressSet, SyntaxError};
use super::trie::Trie;

pub use layer::AllowListLayer;
pub use paths::ProtectedPathError;
pub use service::AllowListService;

/// The addresses that reach what an [`AllowListLayer`] protects. An empty one lets nobody in.
///
/// # Example
/// ```
/// use onlyonce_pipeline::blocklist::AllowList;
///
/// let list = AllowList::parse(["10.0.0.0/8", "192.0.2.5-90, 2001:db8::/32"])?;
/// assert!(list.contains("192.0.2.7".parse()?));
/// assert!(!AllowList::default().contains("192.0.2.7".parse()?));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct AllowList {
    trie: Trie<()>,
    is_empty: bool,
}

impl AllowList {
    /// Reads its entries: each in the syntax of [`AddressSet`].
    ///
    /// # Errors
    /// The first entry that can't be read.
    pub fn parse<T: AsRef<str>>(
        entries: impl IntoIterator<Item = T>,
    ) -> Result<Self, AllowListError> {
        let entries = entries.into_iter().zip(1..);
        let sets = entries.map(|(entry, number)| {
            let parsed = entry.as_ref().parse();
            parsed.map_err(|source| AllowListError { number, source })
        });
        sets.collect()
    }

    /// Whether this address is let in.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let mut found = false;
        self.trie.visit(key_of(address), |()| found = true);
        found
    }

    /// Whether it lets nobody in.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.is_empty
    }
}

impl Default for AllowList {
    fn default() -> Self {
        Self {
            trie: Trie::new(),
            is_empty: true,
        }
    }
}

impl FromIterator<AddressSet> for AllowList {
    fn from_iter<I: IntoIterator<Item = AddressSet>>(sets: I) -> Self {
        let mut list = Self::default();
        for set in sets {
            list.is_empty = false;
            for prefix in set.prefixes() {
                list.trie.change(&prefix, |place| *place = Some(()));
            }
        }
        list
    }
}

/// An entry of an allow list that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {number} of the allow list: {source}")]
pub struct AllowListError {
    number: usize,
    source: SyntaxError,
}

/// What the layers and their services share.
type SharedPaths = Arc<[paths::ProtectedPath]>;

#[cfg(test)]
mod tests;
