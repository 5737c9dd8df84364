//! One file of the log.
//!
//! A segment is made in two steps. First it is a spare: a file of zeros at full length, durable,
//! so that appending to it changes no length, needs no further room on the disk and costs one
//! plain flush. Then, when its turn comes, it gets its header and its name. A file with a
//! segment's name therefore always has a whole header.

use std::io;

use crate::disk::{Disk, DiskFile, is_no_room};

use super::{segment_name, spare_name};

/// Where frames begin: a page of its own for the header, which no later write touches.
pub(crate) const DATA_START: u32 = 4096;
/// The version of the format that this code reads and writes.
pub(crate) const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"1nceLOG\n";
const HEADER: usize = 92;

/// What a segment's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The store's random name: a segment of another store is never taken for one of ours.
    pub(crate) store: [u8; 16],
    pub(crate) number: u32,
    /// The file's length.
    pub(crate) capacity: u32,
    /// The sequence number of its first frame.
    pub(crate) first_seq: u64,
    /// Fences up to this one were handed out before it was begun.
    pub(crate) fence: u64,
    /// The store's time when it was begun, in milliseconds since the Unix epoch.
    pub(crate) time: u64,
    /// The oldest segment that was still needed then.
    pub(crate) oldest: u32,
    /// Where the frames of the segment before this one end; all of them were durable.
    pub(crate) previous_end: u32,
}

/// Why a file is not a segment that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("it does not begin like a segment of an Onlyonce store")]
    Foreign,
    #[error("its format version is {0}, and this version of Onlyonce knows version {FORMAT} alone")]
    Version(u32),
    #[error("its header is damaged (checksum mismatch)")]
    Damaged,
}

impl SegmentHeader {
    /// What ties a frame's checksum to this segment of this store.
    pub(crate) fn seed(&self) -> u32 {
        seed(&self.store, self.number)
    }

    fn encode(&self) -> [u8; HEADER] {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(&self.store);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.capacity.to_le_bytes());
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        out.extend_from_slice(&self.fence.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.oldest.to_le_bytes());
        out.extend_from_slice(&self.previous_end.to_le_bytes());
        out.resize(HEADER - 4, 0);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        let mut header = [0; HEADER];
        header.copy_from_slice(&out);
        header
    }

    fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let field = |at: usize| -> [u8; 8] {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            field
        };
        let long = |at| u64::from_le_bytes(field(at));
        let short = |at: usize| {
            let mut field = [0; 4];
            field.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(field)
        };
        if bytes.len() < HEADER || bytes[..8] != MAGIC {
            return Err(HeaderError::Foreign);
        }
        // The version stands before the checksum: another version may have another checksum.
        if short(8) != FORMAT {
            return Err(HeaderError::Version(short(8)));
        }
        if short(HEADER - 4) != crc32c::crc32c(&bytes[..HEADER - 4]) {
            return Err(HeaderError::Damaged);
        }
        let mut store = [0; 16];
        store.copy_from_slice(&bytes[16..32]);
        Ok(Self {
            store,
            number: short(32),
            capacity: short(36),
            first_seq: long(40),
            fence: long(48),
            time: long(56),
            oldest: short(64),
            previous_end: short(68),
        })
    }

    /// Reads the header of an open file.
    pub(crate) fn read(file: &dyn DiskFile) -> io::Result<Result<Self, HeaderError>> {
        let mut bytes = [0; HEADER];
        let length = file.read_full(&mut bytes, 0)?;
        Ok(Self::decode(&bytes[..length]))
    }
}

/// What ties a frame's checksum to segment `number` of the store.
pub(crate) fn seed(store: &[u8; 16], number: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(store), &number.to_le_bytes())
}

/// Makes a durable file of zeros that can become segment `number`.
///
/// With `old`, the length of the one that is there, that one is made longer. On failure what
/// was there is left, as far as the disk lets us.
pub(crate) fn create_spare(
    disk: &dyn Disk,
    number: u32,
    capacity: u32,
    old: Option<u32>,
) -> io::Result<()> {
    let name = spare_name(number);
    if let Some(old) = old {
        return fill(&*disk.open(&name)?, old, capacity);
    }
    match disk.remove(&name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let made = disk
        .create(&name)
        .and_then(|file| fill(&*file, 0, capacity));
    if made.is_err() {
        // Gives back the room it took; the error that matters is the first one.
        let _ = disk.remove(&name);
    }
    made
}

/// Writes zeros, and flushes the file.
pub(crate) fn fill(file: &dyn DiskFile, from: u32, to: u32) -> io::Result<()> {
    const CHUNK: u32 = 1 << 20;
    let zeros = vec![0; CHUNK.min(to.saturating_sub(from)) as usize];
    let mut offset = from;
    while offset < to {
        let chunk = CHUNK.min(to - offset);
        file.write_full(&zeros[..chunk as usize], offset.into())?;
        offset += chunk;
    }
    file.sync()
}

/// Why something could not be written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// There is no room just now. Nothing was made durable, and the same write may be repeated.
    NoRoom(io::Error),
    /// What the disk holds now is not known.
    Fatal(io::Error),
}

impl WriteError {
    /// For the error of anything but a flush: after a failed flush nothing may be repeated,
    /// since the system may have dropped the bytes and forgotten about it.
    pub(crate) fn of(error: io::Error) -> Self {
        if is_no_room(&error) {
            Self::NoRoom(error)
        } else {
            Self::Fatal(error)
        }
    }
}

/// Turns the spare into the segment that `header` describes, durably.
pub(crate) fn begin(
    disk: &dyn Disk,
    header: &SegmentHeader,
) -> Result<Box<dyn DiskFile>, WriteError> {
    let (spare, name) = (spare_name(header.number), segment_name(header.number));
    let file = disk.open(&spare).map_err(WriteError::Fatal)?;
    file.write_full(&header.encode(), 0)
        .map_err(WriteError::of)?;
    file.sync().map_err(WriteError::Fatal)?;
    disk.rename(&spare, &name).map_err(WriteError::of)?;
    disk.sync_folder().map_err(WriteError::Fatal)?;
    Ok(file)
}
