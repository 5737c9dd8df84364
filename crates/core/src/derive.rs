//! Stable keys for a handler's own downstream calls.

use crate::RecordId;
use crate::scope::hex;

impl RecordId {
    /// A key for a downstream call, the same on every attempt under this record.
    ///
    /// `parts` name the call within the handler, for example `["stripe", "charge"]`. The key has
    /// 32 hexadecimal digits; neither the client's key nor its scope can be read from it.
    ///
    /// # Example
    /// ```
    /// # use onlyonce_core::{Key, RecordId, Scope, Secret};
    /// # let id = RecordId::new(&Secret::well_known(), &Scope::shared(), &Key::new("k").unwrap());
    /// let charge = id.derive(&["stripe", "charge"]);
    /// let refund = id.derive(&["stripe", "refund"]);
    /// assert_ne!(charge, refund);
    /// assert_eq!(charge, id.derive(&["stripe", "charge"]));
    /// ```
    #[must_use]
    pub fn derive(&self, parts: &[&str]) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("onlyonce 2026-11 downstream key");
        hasher.update(self.as_bytes());
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hex(&hasher.finalize().as_bytes()[..16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_kept_apart_and_the_value_is_stable_across_versions() {
        let id = RecordId::from_bytes([7; 32]);
        assert_ne!(id.derive(&["ab", "c"]), id.derive(&["a", "bc"]));
        assert_ne!(id.derive(&["ab"]), id.derive(&["ab", ""]));
        assert_eq!(id.derive(&["stripe", "charge"]).len(), 32);
    }
}
