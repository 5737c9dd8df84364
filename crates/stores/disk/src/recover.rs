//! Opening: reads the log from its beginning and finds out where it ends.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use onlyonce_core::codec::DecodeError;
use onlyonce_core::{Nonce, Operation, StoreError, StoreErrorKind, Timestamp};

use crate::disk::{Disk, DiskFile};
use crate::index::{Index, SHARDS, Slot};
use crate::log::frame::{self, Kind};
use crate::log::scan::{Frame, Frames, ScanError, Tail, judge_tail};
use crate::log::segment::{self, DATA_START, HeaderError, SegmentHeader, WriteError};
use crate::log::{LOCK_NAME, MARKER_NAME, Named, Position, segment_name};
use crate::state::Start;

type Result<T> = std::result::Result<T, StoreError>;

/// What was found, and the segment to go on writing.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) start: Start,
    pub(crate) active: Box<dyn DiskFile>,
}

/// Reads the log in a folder; begins one where there is none.
pub(crate) fn recover(
    disk: &dyn Disk,
    folder: &str,
    now: Timestamp,
    segment_bytes: u32,
) -> Result<Recovered> {
    Recovery {
        disk,
        folder,
        segments: BTreeMap::new(),
    }
    .run(now, segment_bytes)
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    folder: &'a str,
    segments: BTreeMap<u32, (Box<dyn DiskFile>, SegmentHeader)>,
}

impl Recovery<'_> {
    fn run(mut self, now: Timestamp, segment_bytes: u32) -> Result<Recovered> {
        let mut numbers = self.tidy()?;
        if numbers.is_empty() {
            self.begin(now, segment_bytes)?;
            numbers.push(1);
        }
        let newest = numbers.last().copied().unwrap_or(1);
        self.open(newest)?;
        let oldest = self.oldest(newest)?;
        for number in oldest..newest {
            if !numbers.contains(&number) {
                let lost = format!(
                    "the segment {} is missing: put it back, or restore the folder from a backup",
                    self.path(&segment_name(number)),
                );
                return Err(corrupt(lost));
            }
            self.open(number)?;
        }
        self.mark()?;
        let recovered = self.replay(oldest, newest, now)?;
        for number in numbers.into_iter().filter(|n| *n < oldest) {
            let name = segment_name(number);
            self.disk
                .remove(&name)
                .map_err(|error| self.io("removing", &name, error))?;
        }
        // Not for what was done here alone: whoever gave the newest segment its name may have
        // ended before the folder was flushed, and what is written there must not go with it.
        self.disk
            .sync_folder()
            .map_err(|error| self.io("flushing", "", error))?;
        Ok(recovered)
    }

    /// The segments' numbers in order; removes what never became one.
    fn tidy(&self) -> Result<Vec<u32>> {
        let names = self
            .disk
            .list()
            .map_err(|error| self.io("listing", "", error))?;
        let mut numbers = Vec::new();
        let mut foreign = None;
        for name in &names {
            match Named::of(name) {
                Named::Segment(number) => numbers.push(number),
                Named::Spare => self
                    .disk
                    .remove(name)
                    .map_err(|error| self.io("removing", name, error))?,
                Named::Own => {}
                // A mount point has a `lost+found`, and desktops leave hidden files everywhere.
                Named::Foreign if name.starts_with('.') || name == "lost+found" => {}
                Named::Foreign => foreign = Some(name),
            }
        }
        numbers.sort_unstable();
        if !numbers.is_empty() {
            return Ok(numbers);
        }
        if names.iter().any(|name| name == MARKER_NAME) {
            return Err(corrupt(format!(
                "the folder {} was a store, and its segments are missing: restore it from a \
                 backup, or, to begin anew without any record, remove its file {MARKER_NAME}",
                self.folder,
            )));
        }
        if let Some(name) = foreign {
            return Err(misconfigured(format!(
                "the folder {} is not a store and not empty, it holds `{name}`: choose an empty \
                 folder, or one that does not exist yet",
                self.folder,
            )));
        }
        Ok(numbers)
    }

    /// Begins the first segment of a new store.
    fn begin(&self, now: Timestamp, capacity: u32) -> Result<()> {
        let header = SegmentHeader {
            // 128 random bits, as a nonce has.
            store: *Nonce::random().as_bytes(),
            number: 1,
            capacity,
            first_seq: 1,
            fence: 0,
            time: now.as_millis(),
            oldest: 1,
            previous_end: 0,
        };
        segment::create_spare(self.disk, 1, capacity, None)
            .map_err(|error| self.io("creating", &segment_name(1), error))?;
        match segment::begin(self.disk, &header) {
            Ok(_) => Ok(()),
            Err(WriteError::NoRoom(error) | WriteError::Fatal(error)) => {
                Err(self.io("creating", &segment_name(1), error))
            }
        }
    }

    /// Marks the folder as one that has held records, so that their loss is noticed.
    fn mark(&self) -> Result<()> {
        const TEXT: &[u8] = b"This folder is an Onlyonce store. Its files belong together:\n\
            move, copy and back them up as a whole, while no process has the store open.\n";
        let fail = |error| self.io("creating", MARKER_NAME, error);
        let file = match self.disk.create(MARKER_NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(fail(error)),
        };
        file.write_full(TEXT, 0).map_err(fail)?;
        file.sync().map_err(fail)
    }

    fn open(&mut self, number: u32) -> Result<()> {
        let name = segment_name(number);
        let path = self.path(&name);
        let fail = |error| self.io("opening", &name, error);
        let file = self.disk.open(&name).map_err(fail)?;
        let header = match SegmentHeader::read(&*file).map_err(fail)? {
            Ok(header) => header,
            Err(error @ HeaderError::Foreign) => {
                return Err(corrupt(format!(
                    "{path} is not a segment: {error}; remove it if it does not belong here, or \
                     restore the folder from a backup"
                )));
            }
            Err(error @ HeaderError::Version(_)) => {
                return Err(misconfigured(format!(
                    "{path} was written by another version of Onlyonce: {error}; open the store \
                     with the version that wrote it"
                )));
            }
            Err(error @ HeaderError::Damaged) => {
                return Err(corrupt(format!(
                    "{path} is damaged at offset 0: {error}; restore the folder from a backup"
                )));
            }
        };
        if header.number != number {
            return Err(corrupt(format!(
                "{path} is segment {} by its header: it was renamed; undo that, or restore the \
                 folder from a backup",
                header.number,
            )));
        }
        if let Some((_, (_, newest))) = self.segments.last_key_value()
            && newest.store != header.store
        {
            return Err(corrupt(format!(
                "{path} belongs to another store: files of two folders were mixed; restore the \
                 folder from a backup"
            )));
        }
        self.segments.insert(number, (file, header));
        Ok(())
    }

    /// The oldest segment that is still needed, as the newest one says.
    fn oldest(&self, newest: u32) -> Result<u32> {
        let (file, header) = &self.segments[&newest];
        let mut frames = Frames::new(&**file, header.seed(), DATA_START, header.capacity);
        let mut oldest = u64::from(header.oldest);
        loop {
            match frames.next() {
                Ok(Some(frame)) if frame.header.kind == Kind::Drop => {
                    oldest = oldest.max(frame.header.fence);
                }
                Ok(Some(_)) => {}
                // Whether that is the end or damage is decided when it is read in earnest.
                Ok(None) | Err(ScanError::Broken { .. }) => break,
                Err(ScanError::Io(error)) => {
                    return Err(self.io("reading", &segment_name(newest), error));
                }
            }
        }
        Ok(u32::try_from(oldest).unwrap_or(newest).min(newest))
    }

    fn replay(&mut self, oldest: u32, newest: u32, now: Timestamp) -> Result<Recovered> {
        let mut replay = Replay {
            index: Index::new(),
            next_seq: self.segments[&oldest].1.first_seq,
            fence: 0,
            time: now,
            last_group: DATA_START,
        };
        let mut end = DATA_START;
        for number in oldest..=newest {
            let sealed = self
                .segments
                .get(&(number + 1))
                .map(|(_, next)| next.previous_end);
            end = self.replay_segment(&mut replay, number, sealed)?;
        }
        let tail = Position {
            segment: newest,
            offset: end,
        };
        for shard in 0..SHARDS {
            replay.index.sweep(shard, replay.time, tail);
        }
        let (active, header) = self
            .segments
            .remove(&newest)
            .ok_or_else(|| corrupt(format!("the folder {} has no segment", self.folder)))?;
        let start = Start {
            index: replay.index,
            store: header.store,
            tail,
            next_seq: replay.next_seq,
            fence: replay.fence,
            time: replay.time,
            oldest,
        };
        Ok(Recovered { start, active })
    }

    /// Applies one segment's frames; returns where they end.
    fn replay_segment(&self, replay: &mut Replay, number: u32, sealed: Option<u32>) -> Result<u32> {
        let (file, header) = &self.segments[&number];
        let name = segment_name(number);
        let fail = |error| self.io("reading", &name, error);
        let length = file.len().map_err(fail)?;
        let needed = sealed.unwrap_or(header.capacity);
        if length < needed.into() {
            return Err(corrupt(format!(
                "{} is truncated: it has {length} bytes and needs {needed}; restore the folder \
                 from a backup",
                self.path(&name),
            )));
        }
        if header.first_seq != replay.next_seq {
            return Err(self.damaged(&name, 0, "its frames do not follow on those before it"));
        }
        replay.index.add_segment(number, header.capacity);
        if let Some(end) = sealed {
            replay.index.seal_segment(number, end);
        }
        replay.fence = replay.fence.max(header.fence);
        replay.time = replay.time.max(Timestamp::from_millis(header.time));
        replay.last_group = DATA_START;

        let end = sealed.unwrap_or(header.capacity);
        let mut frames = Frames::new(&**file, header.seed(), DATA_START, end);
        let mut offset = DATA_START;
        loop {
            match frames.next() {
                Ok(None) => {
                    if sealed.is_none() {
                        self.settle_end(replay, number, offset)?;
                    }
                    return Ok(offset);
                }
                Ok(Some(frame)) => {
                    replay.apply(number, &frame).map_err(|error| match error {
                        ApplyError::Order => {
                            self.damaged(&name, frame.offset, "a frame is out of order")
                        }
                        ApplyError::Sealed => corrupt(format!(
                            "the segment {} is missing: put it back, or restore the folder from \
                             a backup",
                            self.path(&segment_name(number + 1)),
                        )),
                        ApplyError::Decode(error @ DecodeError::Version(_)) => {
                            misconfigured(format!(
                                "{} holds a record at offset {} that can't be read: {error}; \
                                 open the store with that version",
                                self.path(&name),
                                frame.offset,
                            ))
                        }
                        ApplyError::Decode(error) => self
                            .damaged(&name, frame.offset, "a record can't be decoded")
                            .with_source(error),
                    })?;
                    // Checked to lie below `end` when it was read.
                    offset = frame.offset
                        + u32::try_from(frame.header.size()).unwrap_or(u32::MAX - frame.offset);
                }
                Err(ScanError::Io(error)) => return Err(fail(error)),
                Err(ScanError::Broken { offset: at }) if sealed.is_some() => {
                    return Err(self.damaged(&name, at, "a checksum is wrong"));
                }
                Err(ScanError::Broken { offset: at }) => {
                    self.settle_end(replay, number, at)?;
                    return Ok(at);
                }
            }
        }
    }

    /// The last segment ends at `offset`, if all is well: cuts off what was torn, and makes
    /// sure that what was read lies on the disk.
    fn settle_end(&self, replay: &Replay, number: u32, offset: u32) -> Result<()> {
        let (file, header) = &self.segments[&number];
        let name = segment_name(number);
        let tail = judge_tail(&**file, header.seed(), offset, header.capacity)
            .map_err(|error| self.io("reading", &name, error))?;
        match tail {
            Tail::Clean => {}
            Tail::Torn { end } => {
                let cut = end - offset;
                tracing::warn!(file = %self.path(&name), offset, cut,
                    "the last write was cut off and not acknowledged: removed");
            }
            Tail::Damaged => {
                return Err(self.damaged(
                    &name,
                    offset,
                    "a checksum is wrong, and not because \
                    the last write was cut off",
                ));
            }
        }
        // What was read may be in the system's memory alone: the last group, the mark of a proper
        // end, even the zeros behind them. Where a flush failed, nobody would write it from there
        // again, and the disk holds something else. So all of it is written once more.
        let group = replay.last_group.min(offset);
        let mut last = vec![0; (offset - group) as usize];
        let read = file
            .read_full(&mut last, group.into())
            .map_err(|error| self.io("reading", &name, error))?;
        if read < last.len() {
            return Err(self.damaged(&name, group, "it was cut while it was read"));
        }
        file.write_full(&last, group.into())
            .and_then(|()| segment::fill(&**file, offset, header.capacity))
            .map_err(|error| self.io("repairing", &name, error))
    }

    fn damaged(&self, name: &str, offset: u32, what: &str) -> StoreError {
        corrupt(format!(
            "{} is damaged at offset {offset}: {what}; restore the folder from a backup, or move \
             it away to begin without any record",
            self.path(name),
        ))
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn io(&self, what: &str, name: &str, error: io::Error) -> StoreError {
        let place = if name.is_empty() {
            self.folder.to_owned()
        } else {
            self.path(name)
        };
        io_error(&format!("{what} {place}"), error)
    }
}

/// What the frames read so far come to.
struct Replay {
    index: Index,
    next_seq: u64,
    fence: u64,
    time: Timestamp,
    last_group: u32,
}

enum ApplyError {
    Order,
    /// Another segment follows, and it is not there.
    Sealed,
    Decode(DecodeError),
}

impl Replay {
    fn apply(&mut self, segment: u32, frame: &Frame<'_>) -> std::result::Result<(), ApplyError> {
        let header = &frame.header;
        if header.seq != self.next_seq {
            return Err(ApplyError::Order);
        }
        self.next_seq += 1;
        self.time = self.time.max(header.time);
        self.last_group = header.group;
        if header.kind != Kind::Drop {
            self.fence = self.fence.max(header.fence);
        }
        match header.kind {
            Kind::Put => {
                let meta = Bytes::copy_from_slice(frame.meta);
                let entry = frame::join(meta, Bytes::new()).map_err(ApplyError::Decode)?;
                let at = Position {
                    segment,
                    offset: frame.offset,
                };
                let size = u32::try_from(header.size()).map_err(|_| ApplyError::Order)?;
                self.index
                    .put(header.id, Slot::new(Box::new(entry), at, size));
            }
            Kind::Remove => self.index.remove(&header.id),
            Kind::Sealed => return Err(ApplyError::Sealed),
            Kind::Drop | Kind::Reserve | Kind::Close => {}
        }
        Ok(())
    }
}

/// An error of the file system while the store is opened, with what to do about it.
pub(crate) fn io_error(what: &str, error: io::Error) -> StoreError {
    use io::ErrorKind::{
        IsADirectory, NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem,
        StorageFull,
    };
    let (kind, remedy) = match error.kind() {
        PermissionDenied => (
            StoreErrorKind::Misconfigured,
            "give this process's user the right to read and write the folder and its files",
        ),
        ReadOnlyFilesystem => (
            StoreErrorKind::Misconfigured,
            "choose a folder on a file system that can be written to",
        ),
        NotFound | NotADirectory | IsADirectory => (
            StoreErrorKind::Misconfigured,
            "name a folder that exists or can be created",
        ),
        StorageFull | QuotaExceeded => (StoreErrorKind::Full, "make room on the disk"),
        _ => (StoreErrorKind::Unavailable, "look at the disk"),
    };
    let message = format!("{what} failed: {error}; {remedy}");
    StoreError::new(Operation::Open, kind, message).with_source(error)
}

/// Takes the folder for this opener alone.
pub(crate) fn lock(disk: &dyn Disk, folder: &str) -> Result<crate::disk::Lock> {
    disk.lock(LOCK_NAME).map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            misconfigured(format!(
                "the folder {folder} is open in another process, or twice in this one: stop that, \
                 or give each its own folder"
            ))
        } else {
            io_error(&format!("locking {folder}/{LOCK_NAME}"), error)
        }
    })
}

fn corrupt(message: String) -> StoreError {
    StoreError::new(Operation::Open, StoreErrorKind::Corrupt, message)
}

pub(crate) fn misconfigured(message: String) -> StoreError {
    StoreError::new(Operation::Open, StoreErrorKind::Misconfigured, message)
}
