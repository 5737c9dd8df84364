//! Reading the log back.

use std::io;

use crate::disk::DiskFile;

use super::frame::{ALIGN, HEADER, Header};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
const CHUNK: usize = 1 << 20;

/// Reads the frames of one segment, one after the other.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    file: &'a dyn DiskFile,
    seed: u32,
    offset: u32,
    end: u32,
    buffer: Vec<u8>,
    buffer_start: u32,
}

/// A frame whose checksums are right.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) offset: u32,
    pub(crate) header: Header,
    pub(crate) meta: &'a [u8],
    pub(crate) body: &'a [u8],
}

#[derive(Debug)]
pub(crate) enum ScanError {
    Io(io::Error),
    /// There is no whole frame here.
    Broken {
        offset: u32,
    },
}

impl<'a> Frames<'a> {
    /// The frames from `start` on, up to `end`.
    pub(crate) fn new(file: &'a dyn DiskFile, seed: u32, start: u32, end: u32) -> Self {
        Self {
            file,
            seed,
            offset: start,
            end,
            buffer: Vec::new(),
            buffer_start: start,
        }
    }

    /// The next frame; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, ScanError> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let offset = self.offset;
        let broken = ScanError::Broken { offset };
        let start = self.fill(HEADER)?;
        let Some(header) = Header::decode(&self.buffer[start..], self.seed) else {
            return Err(broken);
        };
        let size = header.size();
        if size > (self.end - offset) as usize {
            return Err(broken);
        }
        let start = self.fill(size)?;
        let Some(bytes) = self.buffer.get(start..start + size) else {
            return Err(broken);
        };
        let (meta, rest) = bytes[HEADER..].split_at(header.meta_len as usize);
        let (body, padding) = rest.split_at(header.body_len as usize);
        if !header.is_meta(meta) || !header.is_body(body) || padding.iter().any(|byte| *byte != 0) {
            return Err(broken);
        }
        self.offset = offset + u32::try_from(size).map_err(|_| broken)?;
        Ok(Some(Frame {
            offset,
            header,
            meta,
            body,
        }))
    }

    /// Buffers `length` bytes from the present offset, as far as the file goes; returns where in
    /// the buffer they begin.
    fn fill(&mut self, length: usize) -> Result<usize, ScanError> {
        let start = (self.offset - self.buffer_start) as usize;
        if self.buffer.len() >= start + length {
            return Ok(start);
        }
        let want = length.max(CHUNK).min((self.end - self.offset) as usize);
        self.buffer.clear();
        self.buffer.resize(want, 0);
        self.buffer_start = self.offset;
        let read = self
            .file
            .read_full(&mut self.buffer, self.offset.into())
            .map_err(ScanError::Io)?;
        self.buffer.truncate(read);
        Ok(0)
    }
}

/// What lies behind the last whole frame of the last segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Zeros: nothing was being written.
    Clean,
    /// Part of a write that was never acknowledged, up to `end`.
    Torn { end: u32 },
    /// Something that was acknowledged once.
    Damaged,
}

/// Judges what lies from `offset` on, where no whole frame begins.
///
/// Only a write that was never acknowledged may be cut off, and there are two signs that this
/// is none. A whole header further on whose `group` lies behind `offset`: it was written after
/// everything before its group had been made durable. And a frame of which every sector holds
/// something: a torn write leaves some sector as it was, and here that is zeros, since segments
/// are made of zeros and never used twice.
pub(crate) fn judge_tail(
    file: &dyn DiskFile,
    seed: u32,
    offset: u32,
    capacity: u32,
) -> io::Result<Tail> {
    let mut bytes = vec![0; (capacity - offset) as usize];
    let read = file.read_full(&mut bytes, offset.into())?;
    bytes.truncate(read);
    let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else {
        return Ok(Tail::Clean);
    };
    let later = (ALIGN..=last)
        .step_by(ALIGN)
        .any(|at| Header::decode(&bytes[at..], seed).is_some_and(|header| header.group > offset));
    if later || !misses_a_sector(&bytes, offset as usize, seed) {
        return Ok(Tail::Damaged);
    }
    let end = u32::try_from(last + 1).unwrap_or(u32::MAX);
    Ok(Tail::Torn {
        end: offset.saturating_add(end),
    })
}

/// Whether a sector of the frame at the beginning of `bytes` was never written. `offset` is
/// where in the file `bytes` begin.
fn misses_a_sector(bytes: &[u8], offset: usize, seed: u32) -> bool {
    let is_zero = |from: usize, to: usize| {
        bytes[from.min(bytes.len())..to.min(bytes.len())]
            .iter()
            .all(|byte| *byte == 0)
    };
    let first = SECTOR - offset % SECTOR;
    // Each header ends in something that is not zero, and begins so.
    let length = Header::decode(bytes, seed).map_or(HEADER, |header| header.size());
    is_zero(0, first)
        || (first..length)
            .step_by(SECTOR)
            .any(|sector| is_zero(sector, sector + SECTOR))
}
