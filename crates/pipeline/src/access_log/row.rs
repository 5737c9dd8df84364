//! A request, as the log keeps it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use onlyonce_core::Timestamp;
use serde::Serialize;

/// A request, as the log keeps it: without secrets, each field within bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRow {
    /// Names the row; in the order of time.
    pub id: RowId,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// The first segment of the path.
    pub module: String,
    /// The method.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host and port that the client asked for; empty where it did not say.
    pub host: String,
    /// The path.
    pub path: String,
    /// The query, without the question mark and without secrets.
    pub query: String,
    /// The request's header fields, without secrets.
    pub headers: Vec<(String, String)>,
    /// The request's body, as far as it was recorded; without secrets.
    pub body: String,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The user's ID, where an authentication layer knows.
    pub user: Option<String>,
    /// The answer's code, where the answer has one.
    pub code: Option<i32>,
    /// The error's message.
    pub message: String,
    /// The error's chain and places.
    pub stack: Vec<String>,
    /// The answer's status; 499 for a client that hung up before there was one.
    pub status: u16,
    /// The client's program.
    pub user_agent: String,
    /// From the request's head to the end of the answer.
    pub duration: Duration,
    /// How the answer ended.
    pub ending: Ending,
    /// When the answer ended.
    pub responded: Timestamp,
    /// When the request came.
    pub created: Timestamp,
    /// What the idempotency layer did, as [`onlyonce::Outcome::as_str`] says it.
    pub outcome: Option<String>,
    /// The short hash that stands for the idempotency key.
    pub key_hash: Option<String>,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Ending {
    /// All of it was sent.
    Complete,
    /// The client hung up first.
    HungUp,
    /// The service failed, or its body broke off.
    Failed,
}

impl Ending {
    /// Its name in rows and JSON lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::HungUp => "hung-up",
            Self::Failed => "failed",
        }
    }

    /// The ending with this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let all = [Self::Complete, Self::HungUp, Self::Failed];
        all.into_iter().find(|ending| ending.as_str() == name)
    }

    /// What a text line says of it; nothing when all is well.
    pub(super) const fn remark(self) -> &'static str {
        match self {
            Self::Complete => "",
            Self::HungUp => "client hung up",
            Self::Failed => "broken off",
        }
    }
}

/// Names a row: 48 bits of the time when its request came, then 80 random bits.
///
/// In the order of time, so that newest first is the order of the identifiers backwards; and
/// known before the row is written, so that a batch can be written again when nobody knows
/// whether it was written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId([u8; 16]);

const LAST_MILLISECOND: u64 = (1 << 48) - 1;

impl RowId {
    /// A new one, for a request that came at `created`.
    #[must_use]
    pub fn new(created: Timestamp) -> Self {
        let mut id = Self::first_at(created);
        // Without randomness from the system another request's row might be lost: no more.
        let _ = getrandom::fill(&mut id.0[6..]);
        id
    }

    /// Before all rows of requests that came at `created` or later, behind all earlier ones.
    #[must_use]
    pub fn first_at(created: Timestamp) -> Self {
        let millis = created.as_millis().min(LAST_MILLISECOND).to_be_bytes();
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&millis[2..]);
        Self(bytes)
    }

    /// The identifier with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowId({self})")
    }
}

/// A text that names no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ID of a row has 32 hexadecimal digits")]
#[non_exhaustive]
pub struct RowIdError;

impl FromStr for RowId {
    type Err = RowIdError;

    fn from_str(text: &str) -> Result<Self, RowIdError> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten();
        number
            .map(|number| Self(number.to_be_bytes()))
            .ok_or(RowIdError)
    }
}

/// At most `most` bytes of `text`, without the character that databases don't take.
pub(super) fn clipped(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut clipped = text[..end].replace('\0', "\u{fffd}");
    if end < text.len() {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_in_the_order_of_time() {
        let (early, late) = (Timestamp::from_millis(255), Timestamp::from_millis(256));
        let (a, b) = (RowId::new(early), RowId::new(late));
        assert!(
            RowId::first_at(early) <= a && a < RowId::first_at(late) && RowId::first_at(late) <= b
        );
        assert_ne!(RowId::new(early), RowId::new(early));
        assert_eq!(a.to_string().parse(), Ok(a));
        assert!(a.to_string().starts_with("0000000000ff"));
        for bad in ["", "0", &"g".repeat(32), &"+".repeat(32), &"0".repeat(33)] {
            assert_eq!(bad.parse::<RowId>(), Err(RowIdError), "{bad}");
        }
    }

    #[test]
    fn texts_are_clipped_between_characters() {
        assert_eq!(clipped("aé", 2), "a…");
        assert_eq!(clipped("aé\0", 9), "aé\u{fffd}");
    }
}
