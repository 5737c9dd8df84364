//! What the owner of a key holds.

use std::fmt;

use crate::RecordId;

/// A number drawn from a store-wide sequence at each claim, ever growing.
///
/// Every later write of the owner carries it, and a store refuses a write whose fence is not the
/// record's: an owner that slept past its lease and was succeeded changes nothing when it wakes.
/// A service behind the gateway can use it the same way for its own writes (the
/// `Idempotency-Fence` header): refuse what carries a lower fence than the last one seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// The fence with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one request's claim, so that a claim whose reply was lost can be sent again.
///
/// 128 random bits: two requests never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// A fresh nonce from the operating system's random source.
    ///
    /// # Panics
    /// When the operating system has no random source, without which nothing here is safe.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(bytes)
    }

    /// The nonce made of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The owner's time-limited right to a key, won by a claim.
///
/// It is proof, not a guard: dropping it releases nothing. Whoever holds it either completes,
/// releases, or lets it run out, after which the outcome counts as unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The record that is owned.
    pub id: RecordId,
    /// The fence that every write of this owner carries.
    pub fence: Fence,
    /// 1 for the first execution under the key, 2 for the next, and so on.
    pub attempt: u32,
    /// What becomes of the owner's effects when the claim does not end with a record.
    pub effects: Effects,
}

/// How what the owner does hangs together with its record.
///
/// The store says it with each claim that it grants, so that nobody has to remember to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effects {
    /// Not at all: what has been done stays done, whether it is recorded or not.
    #[default]
    Apart,
    /// They take effect with the record, in one transaction, or not at all. A result that could
    /// not be recorded has not happened, and must not be told to anybody.
    WithRecord,
}
