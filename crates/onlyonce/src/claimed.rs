//! The claim, as the handler sees it.

use std::fmt;

use onlyonce_core::{Fence, Key, RecordId, Scope};

/// The claim under which a handler runs; in the extensions of its request.
///
/// # Example
/// ```
/// use onlyonce::Claimed;
///
/// fn charge(request: &http::Request<()>) {
///     if let Some(claimed) = request.extensions().get::<Claimed>() {
///         // The same on every attempt: the payment provider sees one charge.
///         let key = claimed.derive(&["stripe", "charge"]);
///         # let _ = key;
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Claimed {
    pub(crate) id: RecordId,
    pub(crate) scope: Scope,
    pub(crate) key: Key,
    pub(crate) fence: Fence,
    pub(crate) attempt: u32,
}

impl Claimed {
    /// 1 for the first execution under the key. Above 1, an earlier execution's outcome is
    /// unknown: look whether its effects are there before repeating them.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The fence: higher than that of any earlier attempt. A resource that remembers the highest
    /// fence it has seen can refuse writes with a lower one.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Whose key it is.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The client's key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Where the record lies.
    #[must_use]
    pub const fn id(&self) -> &RecordId {
        &self.id
    }

    /// A key for a downstream call that `parts` name, the same on every attempt. See
    /// [`RecordId::derive`].
    #[must_use]
    pub fn derive(&self, parts: &[&str]) -> String {
        self.id.derive(parts)
    }
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimed")
            .field("id", &self.id)
            .field("fence", &self.fence)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
