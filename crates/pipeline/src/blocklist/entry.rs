//! One line of the blocklist.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::Duration;

use onlyonce_core::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::syntax::{AddressSet, SyntaxError};

/// Names an entry. Given by the store, from 1 on, and never given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryId(pub u64);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EntryId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// Whether an entry refuses anybody. As a number: 1 is on, anything else off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// It does.
    #[default]
    On,
    /// It is kept, and does nothing.
    Off,
}

impl Status {
    /// The number that stands for it in a store: 1 or 2.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::On => 1,
            Self::Off => 2,
        }
    }

    /// The status that a number stands for.
    #[must_use]
    pub const fn of_number(number: i64) -> Self {
        match number {
            1 => Self::On,
            _ => Self::Off,
        }
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self::of_number)
    }
}

/// An entry as its store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// Whose requests are refused: see [`AddressSet`]. Nobody promises that it can be read, as
    /// others may have written it.
    pub ip: String,
    /// For people.
    #[serde(default)]
    pub remark: String,
    /// Whether it refuses anybody.
    #[serde(default)]
    pub status: Status,
    /// When it was made, in milliseconds of Unix time.
    #[serde(default, with = "millis")]
    pub created: Timestamp,
    /// When it was changed last, in milliseconds of Unix time.
    #[serde(default, with = "millis")]
    pub updated: Timestamp,
    /// From when on it refuses nobody, in milliseconds of Unix time; `None`: never.
    #[serde(
        default,
        with = "maybe_millis",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires: Option<Timestamp>,
    /// How many requests it has refused, on all nodes, as far as they have told.
    #[serde(default)]
    pub hits: u64,
}

/// What a person says of an entry: the rest is the store's.
///
/// # Example
/// ```
/// use onlyonce_pipeline::blocklist::Draft;
/// use std::time::Duration;
///
/// let draft = Draft::new("203.0.113.0/24")
///     .with_remark("probes for open proxies")
///     .with_lifetime(Duration::from_secs(7 * 24 * 3600));
/// assert!(draft.check().is_ok());
/// assert!(Draft::new("203.0.113.0/33").check().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a draft does nothing until it is added"]
pub struct Draft {
    /// See [`Entry::ip`].
    pub ip: String,
    /// See [`Entry::remark`].
    pub remark: String,
    /// See [`Entry::status`].
    pub status: Status,
    /// From when on it refuses nobody.
    pub expiry: Expiry,
}

/// When an entry ceases to refuse anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// It doesn't.
    #[default]
    Never,
    /// So long from when it is saved.
    After(Duration),
    /// At a point in time, in Unix time.
    At(Timestamp),
}

/// The last second that calendars of four digits have: not every store has later ones.
const LAST_SECOND: Timestamp = Timestamp::from_millis(253_402_300_799_000);

impl Expiry {
    fn from(self, now: Timestamp) -> Option<Timestamp> {
        let then = match self {
            Self::Never => return None,
            Self::After(lifetime) => now.plus(lifetime),
            Self::At(then) => then,
        };
        Some(then.min(LAST_SECOND))
    }
}

/// A remark has at most this many characters.
const LONGEST_REMARK: usize = 1_000;

impl Draft {
    /// An entry that is on, without a remark, for ever.
    pub fn new(ip: impl Into<String>) -> Self {
        Self {
            ip: ip.into(),
            remark: String::new(),
            status: Status::On,
            expiry: Expiry::Never,
        }
    }

    /// Why, or who; up to 1,000 characters, none of them NUL. Default: nothing.
    pub fn with_remark(mut self, remark: impl Into<String>) -> Self {
        self.remark = remark.into();
        self
    }

    /// Whether it refuses anybody. Default: it does.
    pub const fn with_status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// How long it refuses, from when it is saved; until the end of the year 9999 at most. Default:
    /// for ever.
    pub const fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.expiry = Expiry::After(lifetime);
        self
    }

    /// Until when it refuses. Default: for ever.
    pub const fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// The addresses that it is about, if it can be saved.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn check(&self) -> Result<AddressSet, DraftError> {
        let set = self.ip.parse().map_err(DraftError::Ip)?;
        if self.remark.contains('\0') {
            return Err(DraftError::Nul);
        }
        match self.remark.chars().count() {
            0..=LONGEST_REMARK => Ok(set),
            characters => Err(DraftError::Remark { characters }),
        }
    }

    /// As [`check`](Self::check), for what is to be new `now`.
    pub(super) fn check_new(&self, now: Timestamp) -> Result<AddressSet, DraftError> {
        if self.expiry.from(now).is_some_and(|then| then <= now) {
            return Err(DraftError::Expired);
        }
        self.check()
    }

    /// The entry that is to be saved, with `entry`'s name, beginnings and hits.
    ///
    /// For stores.
    pub fn over(&self, entry: &Entry, now: Timestamp) -> Entry {
        Entry {
            created: entry.created,
            hits: entry.hits,
            ..self.entry(entry.id, now)
        }
    }

    /// The entry that is to be saved under a new name. For stores.
    pub fn entry(&self, id: EntryId, now: Timestamp) -> Entry {
        Entry {
            id,
            ip: self.ip.trim().to_owned(),
            remark: self.remark.clone(),
            status: self.status,
            created: now,
            updated: now,
            expires: self.expiry.from(now),
            hits: 0,
        }
    }
}

/// Why an entry is not saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// Its addresses can't be read.
    #[error("`ip`: {0}")]
    Ip(#[source] SyntaxError),
    /// Its remark is too long.
    #[error("`remark` has {characters} characters; 1000 are kept at most: shorten it")]
    Remark {
        /// How many it has.
        characters: usize,
    },
    /// Its remark has a character that not every store can keep.
    #[error("`remark` has a NUL character: leave it out")]
    Nul,
    /// It would refuse nobody, from the beginning.
    #[error("its time is over already, so that it would refuse nobody: let it last longer")]
    Expired,
}

mod millis {
    use super::{Deserialize, Deserializer, Serializer, Timestamp};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.as_millis())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        u64::deserialize(deserializer).map(Timestamp::from_millis)
    }
}

mod maybe_millis {
    use super::{Deserialize, Deserializer, Serialize as _, Serializer, Timestamp};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Timestamp::as_millis).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Option::<u64>::deserialize(deserializer).map(|millis| millis.map(Timestamp::from_millis))
    }
}
