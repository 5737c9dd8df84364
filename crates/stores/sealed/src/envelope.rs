//! What a store gets in place of a result.
//!
//! Version 1: `F5 'o' 's'`, 1, kind, coding, length of the key's name, the name, the nonce, the
//! sealed bytes with their tag. Kind 0 (not sealed) has neither name nor nonce. Coding 1 is a length
//! (four bytes, little-endian) and an LZ4 block. No text in UTF-8 begins with F5, nor does a
//! response in plain.

use bytes::Bytes;
use onlyonce_core::RecordId;

use crate::key::{KeyRing, NONCE};

const MAGIC: [u8; 3] = [0xf5, b'o', b's'];
const VERSION: u8 = 1;
const OPEN: u8 = 0;
const XCHACHA20_POLY1305: u8 = 1;
const AS_IS: u8 = 0;
const LZ4: u8 = 1;

/// What LZ4 can make of a byte at most.
const EXPANSION: usize = 256;
/// Below that compression is not worth its while.
const LEAST_COMPRESSED: usize = 256;

/// Why a result can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("it is sealed under the key `{0}`, which is not among the keys here: add it")]
    NoKey(Box<str>),
    #[error("it is not sealed; `accept_plain` would read it")]
    Plain,
    #[error("it was altered, or moved from another record: the key `{0}` does not open it")]
    Altered(Box<str>),
    #[error("version {0} of the envelope is not known here: another version of Onlyonce wrote it")]
    Version(u8),
    #[error("the envelope is damaged: {0}")]
    Damaged(&'static str),
}

/// What a result belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) id: &'a RecordId,
    pub(crate) status: u16,
}

pub(crate) fn seal(
    result: &Bytes,
    place: Place<'_>,
    ring: Option<&KeyRing>,
    compress: bool,
    most: usize,
) -> Bytes {
    let packed = (compress && (LEAST_COMPRESSED..=most).contains(&result.len()))
        .then(|| lz4_flex::block::compress_prepend_size(result))
        .filter(|packed| packed.len() < result.len());
    let (coding, content) = match &packed {
        Some(packed) => (LZ4, packed.as_slice()),
        None => (AS_IS, result.as_ref()),
    };
    let mut out = Vec::with_capacity(128 + content.len());
    out.extend(MAGIC);
    let Some(ring) = ring else {
        out.extend([VERSION, OPEN, coding]);
        out.extend(content);
        return out.into();
    };
    let name = ring.active().as_bytes();
    let length = u8::try_from(name.len()).expect("names have at most 64 characters");
    out.extend([VERSION, XCHACHA20_POLY1305, coding, length]);
    out.extend(name);
    let (nonce, sealed) = ring.seal(content, &bound(&out, place));
    out.extend(nonce);
    out.extend(sealed);
    out.into()
}

/// The name of the key that it says it is sealed under.
pub(crate) fn key(stored: &[u8]) -> Option<&str> {
    match stored.strip_prefix(&MAGIC)? {
        [VERSION, XCHACHA20_POLY1305, _, length, rest @ ..] => {
            std::str::from_utf8(rest.get(..usize::from(*length))?).ok()
        }
        _ => None,
    }
}

pub(crate) fn open(
    stored: Bytes,
    place: Place<'_>,
    ring: Option<&KeyRing>,
    accept_plain: bool,
    most: usize,
) -> Result<Bytes, OpenError> {
    let plain_is_fine = ring.is_none() || accept_plain;
    let Some(rest) = stored.strip_prefix(&MAGIC) else {
        return if plain_is_fine {
            Ok(stored)
        } else {
            Err(OpenError::Plain)
        };
    };
    let (&[version, kind, coding], rest) = split::<3>(rest)?;
    if version != VERSION {
        return Err(OpenError::Version(version));
    }
    let content = match kind {
        OPEN if plain_is_fine => Bytes::copy_from_slice(rest),
        OPEN => return Err(OpenError::Plain),
        XCHACHA20_POLY1305 => {
            let (&[length], rest) = split::<1>(rest)?;
            let name = rest
                .get(..length.into())
                .ok_or(OpenError::Damaged("it ends early"))?;
            let rest = &rest[name.len()..];
            let name =
                std::str::from_utf8(name).map_err(|_| OpenError::Damaged("the key's name"))?;
            let (nonce, sealed) = split::<NONCE>(rest)?;
            let head = &stored[..stored.len() - rest.len()];
            let opened = ring.and_then(|ring| ring.open(name, nonce, sealed, &bound(head, place)));
            let opened = opened.ok_or_else(|| OpenError::NoKey(name.into()))?;
            opened.map_err(|_| OpenError::Altered(name.into()))?.into()
        }
        _ => return Err(OpenError::Damaged("an unknown kind")),
    };
    match coding {
        AS_IS => Ok(content),
        LZ4 => unpack(&content, most),
        _ => Err(OpenError::Damaged("an unknown coding")),
    }
}

/// What is authenticated beside the result.
fn bound(head: &[u8], place: Place<'_>) -> Vec<u8> {
    // The head says its own length, and the rest has a fixed one.
    let status = place.status.to_le_bytes();
    [head, place.id.as_bytes(), &status].concat()
}

fn unpack(packed: &[u8], most: usize) -> Result<Bytes, OpenError> {
    let (length, block) = split::<4>(packed)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    // Nothing is allocated on the word of a length alone.
    if length > most || length / EXPANSION > block.len() {
        return Err(OpenError::Damaged("a length out of bounds"));
    }
    let mut unpacked = vec![0; length];
    match lz4_flex::block::decompress_into(block, &mut unpacked) {
        Ok(written) if written == length => Ok(unpacked.into()),
        _ => Err(OpenError::Damaged("the compressed bytes")),
    }
}

fn split<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), OpenError> {
    bytes
        .split_first_chunk()
        .ok_or(OpenError::Damaged("it ends early"))
}
