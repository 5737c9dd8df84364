//! One entry of the log.
//!
//! A frame is a header of fixed length, then `meta` (an encoded record without its kept result),
//! then `body` (the kept result), filled up with zeros to a multiple of [`ALIGN`].

use bytes::Bytes;
use onlyonce_core::codec::{self, DecodeError};
use onlyonce_core::{Entry, EntryState, RecordId, Timestamp};

/// Length of a frame's header in bytes.
pub(crate) const HEADER: usize = 88;
/// Frames begin at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// Longest frame: what fits the 32-bit fields with room to spare.
pub(crate) const MAX_SIZE: usize = 1 << 30;

/// Ends each header. Not zero, so that a lost last sector of a header shows as such.
const MARK: u32 = u32::from_le_bytes(*b"1nce");

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The record `id` is now this.
    Put = 1,
    /// The record `id` is gone.
    Remove = 2,
    /// Segments before number `fence` (the field is borrowed) are gone for good.
    Drop = 3,
    /// Fences up to `fence` are spoken for.
    Reserve = 4,
    /// The store was closed in good order: all before this was acknowledged.
    Close = 5,
    /// Stands behind the end of a segment: the next one has been begun.
    Sealed = 6,
}

impl Kind {
    fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Put,
            2 => Self::Remove,
            3 => Self::Drop,
            4 => Self::Reserve,
            5 => Self::Close,
            6 => Self::Sealed,
            _ => return None,
        })
    }
}

/// What a frame's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Counts frames over the store's whole life.
    pub(crate) seq: u64,
    /// The store's time when it was written.
    pub(crate) time: Timestamp,
    /// The last fence that was handed out by then; for [`Kind::Drop`] the oldest segment.
    pub(crate) fence: u64,
    pub(crate) id: RecordId,
    /// Where in this segment that begins which was not known to be durable when this was
    /// written. So a frame proves that all before its `group` was.
    pub(crate) group: u32,
    pub(crate) meta_crc: u32,
    pub(crate) body_crc: u32,
    pub(crate) body_len: u32,
    pub(crate) meta_len: u32,
}

impl Header {
    /// Bytes that the frame takes in the log.
    pub(crate) fn size(&self) -> usize {
        size(self.meta_len as usize, self.body_len as usize)
    }

    /// Writes the header; `seed` ties it to its segment.
    pub(crate) fn encode(&self, seed: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.time.as_millis().to_le_bytes());
        out.extend_from_slice(&self.fence.to_le_bytes());
        out.extend_from_slice(self.id.as_bytes());
        for field in [
            self.group,
            self.meta_crc,
            self.body_crc,
            self.body_len,
            self.meta_len,
            MARK,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        debug_assert_eq!(out.len() - start, HEADER, "the header's length is fixed");
        let crc = crc32c::crc32c_append(seed, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header back; `None` when these bytes are no header of this segment.
    pub(crate) fn decode(bytes: &[u8], seed: u32) -> Option<Self> {
        let bytes: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        // Cheap tests first: the scan for stray frames calls this for every eighth byte.
        let kind = Kind::from_u8(bytes[4])?;
        if u32_at(bytes, 84) != MARK
            || bytes[5..8] != [0; 3]
            || u32_at(bytes, 0) != crc32c::crc32c_append(seed, &bytes[4..])
        {
            return None;
        }
        let mut id = [0; 32];
        id.copy_from_slice(&bytes[32..64]);
        let header = Self {
            kind,
            seq: u64_at(bytes, 8),
            time: Timestamp::from_millis(u64_at(bytes, 16)),
            fence: u64_at(bytes, 24),
            id: RecordId::from_bytes(id),
            group: u32_at(bytes, 64),
            meta_crc: u32_at(bytes, 68),
            body_crc: u32_at(bytes, 72),
            body_len: u32_at(bytes, 76),
            meta_len: u32_at(bytes, 80),
        };
        (header.size() <= MAX_SIZE).then_some(header)
    }

    /// Whether these are the `meta` bytes that the header was written for.
    pub(crate) fn is_meta(&self, meta: &[u8]) -> bool {
        crc32c::crc32c(meta) == self.meta_crc
    }

    /// Whether these are the `body` bytes that the header was written for.
    pub(crate) fn is_body(&self, body: &[u8]) -> bool {
        crc32c::crc32c(body) == self.body_crc
    }
}

/// Bytes that a frame takes in the log.
pub(crate) fn size(meta: usize, body: usize) -> usize {
    (HEADER + meta + body).next_multiple_of(ALIGN)
}

/// Splits a record into `meta` and `body`, so that neither is copied again nor is the body read
/// where only the record's state matters.
pub(crate) fn split(entry: &Entry) -> (Bytes, Bytes) {
    match &entry.state {
        EntryState::Completed {
            status,
            kept: Some(kept),
        } => {
            let meta = Entry {
                state: EntryState::Completed {
                    status: *status,
                    kept: Some(Bytes::new()),
                },
                label: entry.label.clone(),
                ..*entry
            };
            (codec::encode_entry(&meta), kept.clone())
        }
        EntryState::InProgress { .. }
        | EntryState::Unknown
        | EntryState::Completed { kept: None, .. } => (codec::encode_entry(entry), Bytes::new()),
    }
}

/// Puts a record together again.
pub(crate) fn join(meta: Bytes, body: Bytes) -> Result<Entry, DecodeError> {
    let mut entry = codec::decode_entry(meta)?;
    match &mut entry.state {
        EntryState::Completed {
            kept: Some(kept), ..
        } => *kept = body,
        _ if body.is_empty() => {}
        _ => return Err(DecodeError::Trailing),
    }
    Ok(entry)
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}
