//! What goes to the scripts, and what comes back.

use std::time::Duration;

use bytes::Bytes;
use onlyonce_core::codec::{self, DecodeError};
use onlyonce_core::{
    Entry, EntryState, Fence, Fingerprint, Nonce, Operation, Record, StoreError, StoreErrorKind,
    Timestamp,
};
use redis::Value;

use crate::call::strange;

/// The longest span that a script is given, in milliseconds: some 35,000 years. The sum of three
/// of them and the present time is still exact in a script's arithmetic.
const LONGEST: u64 = 1 << 50;

/// A span in whole milliseconds, rounded up: a promise of "at least so long" is kept.
pub(crate) fn millis(span: Duration) -> String {
    let millis = Timestamp::from_millis(0).plus(span).as_millis();
    millis.min(LONGEST).to_string()
}

pub(crate) fn fence(fence: Fence) -> [u8; 8] {
    fence.get().to_le_bytes()
}

/// A fingerprint as it is encoded in a record.
pub(crate) fn fingerprint(fingerprint: Option<&Fingerprint>) -> Vec<u8> {
    let Some(fingerprint) = fingerprint else {
        return vec![u8::MAX];
    };
    let mut bytes = Vec::with_capacity(33);
    bytes.push(fingerprint.algorithm() as u8);
    bytes.extend(fingerprint.digest());
    bytes
}

/// A fingerprint that was learnt since; empty leaves the record's own.
pub(crate) fn learnt(print: Option<&Fingerprint>) -> Vec<u8> {
    print.map_or_else(Vec::new, |print| fingerprint(Some(print)))
}

/// What follows the label in the encoding of a record in this state.
pub(crate) fn tail(state: EntryState) -> Bytes {
    let entry = Entry {
        fingerprint: None,
        attempt: 1,
        fence: Fence::new(0),
        nonce: Nonce::from_bytes([0; 16]),
        created: Timestamp::from_millis(0),
        expires: Timestamp::from_millis(0),
        state,
        label: "".into(),
    };
    // Tag and version, no fingerprint, attempt, fence, nonce, two instants, the label's length.
    const FIXED: usize = 2 + 1 + 4 + 8 + 16 + 8 + 8 + 4;
    codec::encode_entry(&entry).slice(FIXED..)
}

/// `1`, `0` or `2`, as the scripts answer.
pub(crate) fn number(operation: Operation, value: &Value) -> Result<i64, StoreError> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => Err(strange(operation)),
    }
}

/// The record in these bytes as it is at `now`, which a script gave in decimal digits.
pub(crate) fn record(
    operation: Operation,
    now: &Value,
    bytes: Value,
) -> Result<Option<Record>, StoreError> {
    let (Value::BulkString(now), Value::BulkString(bytes)) = (now, bytes) else {
        return Err(strange(operation));
    };
    let now = std::str::from_utf8(now)
        .ok()
        .and_then(|now| now.parse().ok());
    let now = Timestamp::from_millis(now.ok_or_else(|| strange(operation))?);
    let entry = codec::decode_entry(bytes.into());
    let entry = entry.map_err(|error| unreadable(operation, error))?;
    Ok(entry.view(now))
}

fn unreadable(operation: Operation, error: DecodeError) -> StoreError {
    let message = "Redis holds a record that this version of Onlyonce can't read";
    StoreError::new(operation, StoreErrorKind::Corrupt, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_what_follows_the_label() {
        let completed = |kept| EntryState::Completed {
            status: 0x0102,
            kept,
        };
        assert_eq!(tail(EntryState::Unknown), [1].as_slice());
        assert_eq!(tail(completed(None)), [3, 2, 1].as_slice());
        let kept = tail(completed(Some("ab".into())));
        assert_eq!(
            kept,
            [2, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b'].as_slice()
        );
    }

    #[test]
    fn spans_are_rounded_up_and_bounded() {
        assert_eq!(millis(Duration::from_nanos(1)), "1");
        assert_eq!(millis(Duration::from_millis(7)), "7");
        assert_eq!(millis(Duration::ZERO), "0");
        assert_eq!(millis(Duration::MAX), LONGEST.to_string());
    }
}
