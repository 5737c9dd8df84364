//! The only one who writes to the log: takes all that is queued, writes it in one go, flushes
//! once, and only then lets anybody know.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Clock, RecordId, SystemClock, Timestamp};

use crate::disk::DiskFile;
use crate::shared::Shared;
use crate::state::{Batch, FrameJob, Job};

use super::frame::{self, ALIGN, Header, Kind};
use super::segment::{self, SegmentHeader, WriteError};

/// How often a write is tried again while the disk has no room.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);
/// The buffer keeps at most this much between batches.
const BUFFER: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    file: Box<dyn DiskFile>,
    seed: u32,
    /// Everything in the segment before this is durable.
    synced: u32,
    /// Everything in the segment before this is written.
    written: u32,
    buffer: Vec<u8>,
    /// Answers may go out before the flush, which comes at most this much later.
    relaxed: Option<Duration>,
    unsynced_since: Option<Timestamp>,
    /// The machine's time, not the store's: it paces flushes and judges no record.
    clock: SystemClock,
}

/// The store can't go on, for this reason.
struct Stop(String);

enum Next {
    Batch(Batch),
    Flush,
    Close,
    Stop,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        file: Box<dyn DiskFile>,
        seed: u32,
        end: u32,
        relaxed: Option<Duration>,
    ) -> Self {
        Self {
            shared,
            file,
            seed,
            synced: end,
            written: end,
            buffer: Vec::new(),
            relaxed,
            unsynced_since: None,
            clock: SystemClock::new(),
        }
    }

    /// Works until the store is closed or poisoned.
    pub(crate) fn run(mut self) {
        loop {
            let done = match self.next() {
                Next::Batch(batch) => self.commit(&batch),
                Next::Flush => self.sync(),
                Next::Close => {
                    if let Err(Stop(reason)) = self.close() {
                        self.shared.poison(reason);
                    }
                    return;
                }
                Next::Stop => return,
            };
            if let Err(Stop(reason)) = done {
                self.shared.poison(reason);
                return;
            }
        }
    }

    fn next(&self) -> Next {
        let mut state = self.shared.lock();
        loop {
            if state.poison.is_some() {
                return Next::Stop;
            }
            if !state.queue.is_empty() {
                return Next::Batch(state.take());
            }
            if state.closing {
                return Next::Close;
            }
            let timeout = match self.until_flush() {
                Some(Duration::ZERO) => return Next::Flush,
                timeout => timeout,
            };
            state.writer_idle = true;
            state = self.shared.wait_for_work(state, timeout);
            state.writer_idle = false;
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), Stop> {
        let mut force = self.relaxed.is_none();
        for job in &batch.jobs {
            match job {
                Job::Begin(header) => {
                    self.write()?;
                    self.sync()?;
                    self.begin(header)?;
                }
                Job::Frame(job) => {
                    self.encode(job);
                    force |= job.force;
                }
            }
        }
        self.write()?;
        if force || self.until_flush() == Some(Duration::ZERO) {
            self.sync()?;
        }
        {
            let mut state = self.shared.lock();
            state.committed(batch);
            state.counters.batches += 1;
            state.counters.frames += batch.jobs.len() as u64;
        }
        for job in &batch.jobs {
            if let Job::Frame(job) = job
                && job.notify
            {
                self.shared.invalidations.void(&job.id);
                self.shared.watchers.notify(&job.id);
            }
        }
        batch.event.fire(true);
        Ok(())
    }

    fn encode(&mut self, job: &FrameJob) {
        let start = self.buffer.len();
        let header = Header {
            kind: job.kind,
            seq: job.seq,
            time: job.time,
            fence: job.fence,
            id: job.id,
            group: self.synced,
            meta_crc: crc32c::crc32c(&job.meta),
            body_crc: crc32c::crc32c(&job.body),
            // Checked when the frame was given its place.
            body_len: u32::try_from(job.body.len()).unwrap_or(u32::MAX),
            meta_len: u32::try_from(job.meta.len()).unwrap_or(u32::MAX),
        };
        debug_assert_eq!(
            job.at.offset as usize,
            self.written as usize + start,
            "frames are written where the index says"
        );
        header.encode(self.seed, &mut self.buffer);
        self.buffer.extend_from_slice(&job.meta);
        self.buffer.extend_from_slice(&job.body);
        let padded = self.buffer.len().next_multiple_of(ALIGN);
        self.buffer.resize(padded, 0);
        debug_assert_eq!(
            self.buffer.len() - start,
            frame::size(job.meta.len(), job.body.len()),
            "a frame takes the room that it was given"
        );
    }

    fn write(&mut self) -> Result<(), Stop> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let offset = self.written.into();
        self.with_room("appending", |writer| {
            writer
                .file
                .write_full(&writer.buffer, offset)
                .map_err(WriteError::of)
        })?;
        // Places are 32 bits wide, and the buffer was placed.
        self.written += u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER);
        if self.unsynced_since.is_none() {
            self.unsynced_since = Some(self.clock.now());
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Stop> {
        if self.unsynced_since.is_none() {
            return Ok(());
        }
        self.file
            .sync()
            .map_err(|error| Stop(format!("a flush of the log failed: {error}")))?;
        self.synced = self.written;
        self.unsynced_since = None;
        self.shared.lock().counters.syncs += 1;
        Ok(())
    }

    fn begin(&mut self, header: &SegmentHeader) -> Result<(), Stop> {
        let next = self.with_room("beginning a segment", |writer| {
            segment::begin(&*writer.shared.disk, header)
        })?;
        self.seal(header);
        self.file = next;
        self.seed = header.seed();
        self.synced = segment::DATA_START;
        self.written = segment::DATA_START;
        Ok(())
    }

    /// Says behind the segment's end that another follows, so that its loss is noticed. Nothing
    /// else hangs on it: it is not flushed, and left out where it does not fit.
    fn seal(&mut self, next: &SegmentHeader) {
        let capacity = {
            let state = self.shared.lock();
            let segments = state.index.segments();
            segments
                .get(&(next.number - 1))
                .map(|account| account.capacity)
        };
        if capacity.is_some_and(|capacity| (capacity - self.written) as usize >= frame::HEADER) {
            let header = Header {
                kind: Kind::Sealed,
                seq: next.first_seq,
                time: Timestamp::from_millis(next.time),
                fence: next.fence,
                id: RecordId::from_bytes([0; 32]),
                group: self.written,
                meta_crc: 0,
                body_crc: 0,
                body_len: 0,
                meta_len: 0,
            };
            let mut bytes = Vec::with_capacity(frame::HEADER);
            header.encode(self.seed, &mut bytes);
            let _ = self.file.write_full(&bytes, self.written.into());
        }
    }

    /// Says in the log that it ends here in good order.
    fn close(&mut self) -> Result<(), Stop> {
        let batch = {
            let mut state = self.shared.lock();
            let fence = state.fence;
            // Without room for it the log is merely taken for one that was cut off.
            let noted = state.note(Kind::Close, fence);
            noted.is_ok().then(|| state.take())
        };
        match batch {
            Some(batch) => self.commit(&batch),
            None => self.sync(),
        }
    }

    /// Repeats a write for as long as the disk has no room for it. What waits for the write
    /// waits on; new claims are refused meanwhile.
    fn with_room<T>(
        &mut self,
        what: &str,
        write: impl Fn(&Self) -> Result<T, WriteError>,
    ) -> Result<T, Stop> {
        let mut stalled = false;
        loop {
            match write(self) {
                Ok(value) => {
                    if stalled {
                        self.shared.lock().stalled = false;
                        tracing::info!(folder = %self.shared.folder, "the disk has room again");
                    }
                    return Ok(value);
                }
                Err(WriteError::Fatal(error)) => {
                    return Err(Stop(format!("{what} to the log failed: {error}")));
                }
                Err(WriteError::NoRoom(error)) => {
                    let mut state = self.shared.lock();
                    if state.closing {
                        return Err(Stop(format!("closed while {what} found no room: {error}")));
                    }
                    if !stalled {
                        tracing::warn!(folder = %self.shared.folder, %error,
                            "the disk is full: waiting for room, new claims are refused");
                    }
                    stalled = true;
                    state.stalled = true;
                    drop(self.shared.wait_for_work(state, Some(NO_ROOM_PAUSE)));
                }
            }
        }
    }

    /// Time left until a flush is due; `None` when nothing waits for one.
    fn until_flush(&self) -> Option<Duration> {
        let (every, since) = (self.relaxed?, self.unsynced_since?);
        Some(every.saturating_sub(self.clock.now().since(since)))
    }
}
