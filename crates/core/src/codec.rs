//! Versioned, self-checking encodings of what is kept.
//!
//! Two things are encoded: a [`StoredResponse`] (the opaque result in a record) and an [`Entry`]
//! (a whole record, for stores that keep records as one run of bytes). Both begin with a tag
//! and a version. Decoding is strict: an unknown version, a length that does not fit, a value
//! out of range or a byte left over is a [`DecodeError`], and the caller treats it as a failure
//! of the store, never as a miss. Nothing is allocated on the word of a length alone.
//!
//! All integers are little-endian. Compatibility: a version, once released, is decoded forever;
//! new fields take a new version.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderName, HeaderValue};

use crate::{Algorithm, Entry, EntryState, Fence, Fingerprint, Nonce, StoredResponse, Timestamp};

const RESPONSE: [u8; 2] = [b'R', 1];
const ENTRY: [u8; 2] = [b'E', 1];

const IN_PROGRESS: u8 = 0;
const UNKNOWN: u8 = 1;
const KEPT: u8 = 2;
const NOT_KEPT: u8 = 3;

/// Some bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the encoding ends early")]
    Truncated,
    /// Bytes are left over.
    #[error("the encoding has bytes left over")]
    Trailing,
    /// Not this kind of thing at all.
    #[error("not an encoding of this kind (tag {0:#04x})")]
    Tag(u8),
    /// Written by another version of Onlyonce.
    #[error("version {0} of the encoding is not known here: another version of Onlyonce wrote it")]
    Version(u8),
    /// A field is out of its range.
    #[error("the field `{0}` is out of range")]
    Field(&'static str),
}

type Result<T> = std::result::Result<T, DecodeError>;

/// Encodes a response.
#[must_use]
pub fn encode_response(response: &StoredResponse) -> Bytes {
    let fields = response.headers.iter().chain(&response.trailers);
    let fields: usize = fields
        .map(|(name, value)| 6 + name.as_str().len() + value.len())
        .sum();
    let mut out = BytesMut::with_capacity(20 + fields + response.body.len());
    out.put_slice(&RESPONSE);
    out.put_u16_le(response.status);
    put_fields(&mut out, &response.headers);
    put_fields(&mut out, &response.trailers);
    out.put_u64_le(response.body.len() as u64);
    out.put_slice(&response.body);
    out.freeze()
}

/// Decodes a response. The body is a slice of `bytes`, not a copy.
///
/// # Errors
/// When `bytes` is not exactly one encoded response of a known version.
pub fn decode_response(mut bytes: Bytes) -> Result<StoredResponse> {
    expect_version(&mut bytes, RESPONSE)?;
    let status = take(&mut bytes, 2)?.get_u16_le();
    if !(100..=999).contains(&status) {
        return Err(DecodeError::Field("status"));
    }
    let headers = take_fields(&mut bytes)?;
    let trailers = take_fields(&mut bytes)?;
    let length = take(&mut bytes, 8)?.get_u64_le();
    let body = take(
        &mut bytes,
        usize::try_from(length).map_err(|_| DecodeError::Truncated)?,
    )?;
    expect_end(&bytes)?;
    Ok(StoredResponse {
        status,
        headers,
        body,
        trailers,
    })
}

fn put_fields(out: &mut BytesMut, fields: &[(HeaderName, HeaderValue)]) {
    out.put_u32_le(len32(fields.len()));
    for (name, value) in fields {
        // A `HeaderName` is at most 65,535 bytes long; `http` sees to that.
        out.put_u16_le(u16::try_from(name.as_str().len()).unwrap_or(u16::MAX));
        out.put_slice(name.as_str().as_bytes());
        out.put_u32_le(len32(value.len()));
        out.put_slice(value.as_bytes());
    }
}

fn take_fields(bytes: &mut Bytes) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let count = take(bytes, 4)?.get_u32_le() as usize;
    // Each field takes six bytes at least: a count beyond that is a lie.
    if count > bytes.len() / 6 {
        return Err(DecodeError::Truncated);
    }
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        let length = take(bytes, 2)?.get_u16_le();
        let name = take(bytes, length.into())?;
        let name = HeaderName::from_bytes(&name).map_err(|_| DecodeError::Field("header name"))?;
        let length = take(bytes, 4)?.get_u32_le();
        let value = HeaderValue::from_maybe_shared(take(bytes, length as usize)?)
            .map_err(|_| DecodeError::Field("header value"))?;
        fields.push((name, value));
    }
    Ok(fields)
}

/// Encodes a record.
#[must_use]
pub fn encode_entry(entry: &Entry) -> Bytes {
    let kept = match &entry.state {
        EntryState::Completed {
            kept: Some(kept), ..
        } => kept.len(),
        _ => 0,
    };
    let mut out = BytesMut::with_capacity(128 + entry.label.len() + kept);
    out.put_slice(&ENTRY);
    match &entry.fingerprint {
        None => out.put_u8(u8::MAX),
        Some(fingerprint) => {
            out.put_u8(fingerprint.algorithm() as u8);
            out.put_slice(fingerprint.digest());
        }
    }
    out.put_u32_le(entry.attempt);
    out.put_u64_le(entry.fence.get());
    out.put_slice(entry.nonce.as_bytes());
    out.put_u64_le(entry.created.as_millis());
    out.put_u64_le(entry.expires.as_millis());
    out.put_u32_le(len32(entry.label.len()));
    out.put_slice(entry.label.as_bytes());
    match &entry.state {
        EntryState::InProgress { lease_until, keep } => {
            out.put_u8(IN_PROGRESS);
            out.put_u64_le(lease_until.as_millis());
            // Rounded up, as every deadline is: decoded, it must not fall a millisecond short.
            let keep = keep.as_nanos().div_ceil(1_000_000);
            out.put_u64_le(u64::try_from(keep).unwrap_or(u64::MAX));
        }
        EntryState::Unknown => out.put_u8(UNKNOWN),
        EntryState::Completed { status, kept: None } => {
            out.put_u8(NOT_KEPT);
            out.put_u16_le(*status);
        }
        EntryState::Completed {
            status,
            kept: Some(kept),
        } => {
            out.put_u8(KEPT);
            out.put_u16_le(*status);
            out.put_u64_le(kept.len() as u64);
            out.put_slice(kept);
        }
    }
    out.freeze()
}

/// Decodes a record. A kept result is a slice of `bytes`, not a copy.
///
/// # Errors
/// When `bytes` is not exactly one encoded record of a known version.
pub fn decode_entry(mut bytes: Bytes) -> Result<Entry> {
    expect_version(&mut bytes, ENTRY)?;
    let fingerprint = match take(&mut bytes, 1)?.get_u8() {
        u8::MAX => None,
        number => {
            let algorithm =
                Algorithm::from_u8(number).ok_or(DecodeError::Field("fingerprint algorithm"))?;
            let mut digest = [0; 32];
            take(&mut bytes, 32)?.copy_to_slice(&mut digest);
            Some(Fingerprint::from_parts(algorithm, digest))
        }
    };
    let attempt = take(&mut bytes, 4)?.get_u32_le();
    if attempt == 0 {
        return Err(DecodeError::Field("attempt"));
    }
    let fence = Fence::new(take(&mut bytes, 8)?.get_u64_le());
    let mut nonce = [0; 16];
    take(&mut bytes, 16)?.copy_to_slice(&mut nonce);
    let created = Timestamp::from_millis(take(&mut bytes, 8)?.get_u64_le());
    let expires = Timestamp::from_millis(take(&mut bytes, 8)?.get_u64_le());
    let length = take(&mut bytes, 4)?.get_u32_le();
    let label = take(&mut bytes, length as usize)?;
    let label = std::str::from_utf8(&label)
        .map_err(|_| DecodeError::Field("label"))?
        .into();
    let state = match take(&mut bytes, 1)?.get_u8() {
        IN_PROGRESS => EntryState::InProgress {
            lease_until: Timestamp::from_millis(take(&mut bytes, 8)?.get_u64_le()),
            keep: Duration::from_millis(take(&mut bytes, 8)?.get_u64_le()),
        },
        UNKNOWN => EntryState::Unknown,
        NOT_KEPT => EntryState::Completed {
            status: take(&mut bytes, 2)?.get_u16_le(),
            kept: None,
        },
        KEPT => {
            let status = take(&mut bytes, 2)?.get_u16_le();
            let length = take(&mut bytes, 8)?.get_u64_le();
            let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
            EntryState::Completed {
                status,
                kept: Some(take(&mut bytes, length)?),
            }
        }
        _ => return Err(DecodeError::Field("state")),
    };
    expect_end(&bytes)?;
    Ok(Entry {
        fingerprint,
        attempt,
        fence,
        nonce: Nonce::from_bytes(nonce),
        created,
        expires,
        state,
        label,
    })
}

fn expect_version(bytes: &mut Bytes, [tag, version]: [u8; 2]) -> Result<()> {
    let mut start = take(bytes, 2)?;
    let (found_tag, found_version) = (start.get_u8(), start.get_u8());
    if found_tag != tag {
        Err(DecodeError::Tag(found_tag))
    } else if found_version != version {
        Err(DecodeError::Version(found_version))
    } else {
        Ok(())
    }
}

fn expect_end(bytes: &Bytes) -> Result<()> {
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(DecodeError::Trailing)
    }
}

fn take(bytes: &mut Bytes, length: usize) -> Result<Bytes> {
    if length > bytes.len() {
        return Err(DecodeError::Truncated);
    }
    Ok(bytes.split_to(length))
}

/// Lengths beyond 4 GiB are cut off by every limit long before they come here.
fn len32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
