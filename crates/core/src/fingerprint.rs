//! What a request asks for, as a hash.

use std::fmt;

/// How a fingerprint was made; noted in the record, so that the algorithm can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Algorithm {
    /// No fingerprint was taken: it matches every other.
    Off = 0,
    /// BLAKE3, 256 bits.
    Blake3 = 1,
}

impl Algorithm {
    /// The algorithm with this number in an encoded record.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Off),
            1 => Some(Self::Blake3),
            _ => None,
        }
    }
}

/// A hash of what a request asks for: the same key with another fingerprint is a mistake.
///
/// Whether two stand for the same request is [`matches`](Self::matches), in constant time. `==`
/// asks another question: whether they are the same bytes, which differs when fingerprints are
/// off.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    algorithm: Algorithm,
    digest: [u8; 32],
}

impl Fingerprint {
    /// The fingerprint of a policy that takes none.
    pub const OFF: Self = Self {
        algorithm: Algorithm::Off,
        digest: [0; 32],
    };

    /// The fingerprint with this algorithm and digest, as read back from a store.
    #[must_use]
    pub const fn from_parts(algorithm: Algorithm, digest: [u8; 32]) -> Self {
        Self { algorithm, digest }
    }

    /// The fingerprint of one run of bytes: for jobs and messages.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = FingerprintHasher::new();
        hasher.body(bytes);
        hasher.finish()
    }

    /// How it was made.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whether both stand for the same request, compared in constant time.
    ///
    /// One that is [`OFF`](Self::OFF) matches every other.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        if self.algorithm == Algorithm::Off || other.algorithm == Algorithm::Off {
            return true;
        }
        // `blake3::Hash` compares in constant time.
        self.algorithm == other.algorithm
            && blake3::Hash::from_bytes(self.digest) == blake3::Hash::from_bytes(other.digest)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = crate::scope::hex(&self.digest[..4]);
        write!(f, "Fingerprint({:?} {start}…)", self.algorithm)
    }
}

/// Builds a [`Fingerprint`]: first named fields, then the body, piece by piece.
///
/// # Example
/// ```
/// use onlyonce_core::FingerprintHasher;
///
/// let mut whole = FingerprintHasher::new();
/// whole.field("method", b"POST");
/// whole.body(b"amount=100");
///
/// let mut pieces = FingerprintHasher::new();
/// pieces.field("method", b"POST");
/// pieces.body(b"amount");
/// pieces.body(b"=100");
/// assert!(whole.finish().matches(&pieces.finish()));
/// ```
#[derive(Clone)]
pub struct FingerprintHasher(blake3::Hasher);

impl FingerprintHasher {
    /// An empty hasher.
    #[must_use]
    pub fn new() -> Self {
        Self(blake3::Hasher::new_derive_key(
            "onlyonce 2026-11 request fingerprint",
        ))
    }

    /// Adds a named field; name and value are length-prefixed, so no two lists of fields meet.
    pub fn field(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    /// Adds a piece of the body. The pieces' borders leave no trace. Fields come before.
    pub fn body(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The fingerprint of all that was added.
    #[must_use]
    pub fn finish(&self) -> Fingerprint {
        Fingerprint {
            algorithm: Algorithm::Blake3,
            digest: *self.0.finalize().as_bytes(),
        }
    }
}

impl Default for FingerprintHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FingerprintHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FingerprintHasher")
            .field("bytes", &self.0.count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_kept_apart() {
        let of = |fields: &[(&str, &str)]| {
            let mut hasher = FingerprintHasher::new();
            for (name, value) in fields {
                hasher.field(name, value.as_bytes());
            }
            hasher.finish()
        };
        assert!(!of(&[("a", "bc")]).matches(&of(&[("ab", "c")])));
        assert!(!of(&[("a", "b"), ("c", "d")]).matches(&of(&[("a", "bcd")])));
        assert!(of(&[("a", "b")]).matches(&of(&[("a", "b")])));
    }

    #[test]
    fn off_matches_everything_and_others_only_themselves() {
        let (one, two) = (Fingerprint::of(b"1"), Fingerprint::of(b"2"));
        assert!(Fingerprint::OFF.matches(&one) && one.matches(&Fingerprint::OFF));
        assert!(one.matches(&one) && !one.matches(&two));
    }

    #[test]
    fn hazard_28_every_byte_of_a_long_body_counts() {
        let mut long = vec![0_u8; 3 << 20];
        let before = Fingerprint::of(&long);
        *long.last_mut().unwrap() = 1;
        assert!(!before.matches(&Fingerprint::of(&long)));
    }
}
