//! What the lock guards: the index, the log's end, and what is still to be written.
//!
//! A step is decided and applied here at once, and its frame queued for the writer. Nothing of
//! it may be shown before the frame is durable, neither to its own caller nor to anybody who
//! read what it changed: each answer comes with the [`Event`] that it has to wait for. Since
//! the log is written in order, a step that itself writes needs to wait for its own frame alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onlyonce_core::{Clock, Entry, RecordId, Timestamp};

use crate::event::Event;
use crate::index::{Index, Slot};
use crate::log::Position;
use crate::log::frame::{self, Kind};
use crate::log::segment::{DATA_START, SegmentHeader};

/// Bytes that may wait for the writer; beyond, callers wait before they decide.
const MAX_QUEUED: usize = 64 << 20;
/// What each owner at work is granted of the room kept back for completions.
const SHARE: u32 = 4096;
/// With `Durability::Relaxed`: how many fences are set aside durably at a time.
pub(crate) const FENCE_BLOCK: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) index: Index,
    pub(crate) queue: Vec<Job>,
    queued_bytes: usize,
    /// Fires when what is queued now is durable.
    forming: Arc<Event>,
    /// Fires when what the writer has taken is durable.
    flight: Arc<Event>,
    /// Everything before this is durable.
    durable: Position,
    /// Everything before this has been taken by the writer.
    taken: Position,
    /// Where the next frame goes.
    pub(crate) tail: Position,
    pub(crate) next_seq: u64,
    pub(crate) fence: u64,
    /// Fences up to this one may be handed out.
    fence_limit: u64,
    /// More fences are being set aside, here.
    reserving: Option<Position>,
    /// Records that were removed, and whose removal may not be durable yet.
    removed: HashMap<RecordId, Position>,
    clock: Arc<dyn Clock>,
    /// How far the clock was behind the log when the store was opened.
    behind: Duration,
    /// The latest time that was acted upon; it never goes back.
    time: Timestamp,
    pub(crate) store: [u8; 16],
    pub(crate) oldest: u32,
    pub(crate) segment_bytes: u32,
    pub(crate) max_bytes: Option<u64>,
    /// A segment that is ready to be begun: its length.
    pub(crate) spare: Option<u32>,
    /// Somebody waits for a segment of this length.
    pub(crate) wanted: Option<u32>,
    /// Fires when there is a new segment, or none can be had.
    space: Arc<Event>,
    /// Why no further segment can be had.
    pub(crate) full: Option<Arc<str>>,
    /// The writer waits for room on the disk.
    pub(crate) stalled: bool,
    /// Why the store takes no more work until it is opened anew.
    pub(crate) poison: Option<Arc<str>>,
    pub(crate) closing: bool,
    pub(crate) writer_idle: bool,
    pub(crate) upkeep_due: bool,
    pub(crate) upkeep_idle: bool,
    pub(crate) counters: Counters,
}

/// What has happened since the store was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) batches: u64,
    pub(crate) frames: u64,
    pub(crate) syncs: u64,
    pub(crate) segments_begun: u64,
    pub(crate) segments_dropped: u64,
    pub(crate) copied_bytes: u64,
}

/// Something for the writer, in the order of the log.
#[derive(Debug)]
pub(crate) enum Job {
    Begin(SegmentHeader),
    Frame(FrameJob),
}

#[derive(Debug)]
pub(crate) struct FrameJob {
    pub(crate) at: Position,
    pub(crate) kind: Kind,
    pub(crate) id: RecordId,
    pub(crate) seq: u64,
    pub(crate) time: Timestamp,
    pub(crate) fence: u64,
    pub(crate) meta: Bytes,
    pub(crate) body: Bytes,
    /// Whether those who watch the record are to be told.
    pub(crate) notify: bool,
    /// Whether it must be durable before anybody hears of it, whatever the store's durability.
    pub(crate) force: bool,
}

/// What the room is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A new claim: must leave room for the completions of those at work.
    Claim,
    /// The end or the prolongation of a claim.
    Work,
    /// Housekeeping, which makes room in the end.
    Upkeep,
    /// The word that a segment is not needed any more, without which no room is ever given back.
    Drop,
}

/// Why a step was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Decide again after this.
    Later(Arc<Event>),
    Full(Arc<str>),
    Poisoned(Arc<str>),
    Closed,
    TooLong(usize),
}

/// Where the log ends, as found when it was opened.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) index: Index,
    pub(crate) store: [u8; 16],
    pub(crate) tail: Position,
    pub(crate) next_seq: u64,
    pub(crate) fence: u64,
    pub(crate) time: Timestamp,
    pub(crate) oldest: u32,
}

/// What the builder was told.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) segment_bytes: u32,
    pub(crate) max_bytes: Option<u64>,
    /// Whether answers go out before the log is flushed.
    pub(crate) relaxed: bool,
}

impl State {
    pub(crate) fn new(start: Start, settings: Settings) -> Self {
        let flight = Event::new();
        flight.fire(true);
        Self {
            index: start.index,
            queue: Vec::new(),
            queued_bytes: 0,
            forming: Event::new(),
            flight,
            durable: start.tail,
            taken: start.tail,
            tail: start.tail,
            next_seq: start.next_seq,
            fence: start.fence,
            fence_limit: if settings.relaxed {
                start.fence
            } else {
                u64::MAX
            },
            reserving: None,
            removed: HashMap::new(),
            behind: start.time.since(settings.clock.now()),
            clock: settings.clock,
            time: start.time,
            store: start.store,
            oldest: start.oldest,
            segment_bytes: settings.segment_bytes,
            max_bytes: settings.max_bytes,
            spare: None,
            wanted: None,
            space: Event::new(),
            full: None,
            stalled: false,
            poison: None,
            closing: false,
            writer_idle: false,
            upkeep_due: true,
            upkeep_idle: false,
            counters: Counters::default(),
        }
    }

    /// Whether any step may be taken at all.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        match &self.poison {
            Some(reason) => Err(Refusal::Poisoned(reason.clone())),
            None if self.closing => Err(Refusal::Closed),
            None => Ok(()),
        }
    }

    /// The store's time: the clock's, but never earlier than what the log has seen.
    ///
    /// A clock that was set back between two runs would else make every lease and lifetime
    /// longer than it was.
    pub(crate) fn now(&mut self) -> Timestamp {
        self.time = self.time.max(self.clock.now().plus(self.behind));
        self.time
    }

    /// What an answer has to wait for that shows the frame at `at`.
    pub(crate) fn settled(&self, at: Position) -> Option<Arc<Event>> {
        if at < self.durable {
            None
        } else if at < self.taken {
            Some(self.flight.clone())
        } else {
            Some(self.forming.clone())
        }
    }

    /// What an answer has to wait for that shows that `id` has no record: its removal, or the
    /// frame by which it has expired.
    pub(crate) fn settled_absence(&self, id: &RecordId) -> Option<Arc<Event>> {
        let removed = self.removed.get(id).copied();
        let at = removed.or_else(|| Some(self.index.find(id)?.at))?;
        self.settled(at)
    }

    /// What an answer has to wait for that shows records, and no others.
    pub(crate) fn settled_all(&self) -> Option<Arc<Event>> {
        if self.durable >= self.tail {
            None
        } else if self.taken >= self.tail {
            Some(self.flight.clone())
        } else {
            Some(self.forming.clone())
        }
    }

    /// Takes the expired records out of one shard.
    pub(crate) fn sweep(&mut self, shard: usize) {
        let now = self.now();
        self.index.sweep(shard, now, self.durable);
    }

    /// Fires when all that is queued by now is durable.
    pub(crate) fn forming(&self) -> Arc<Event> {
        self.forming.clone()
    }

    /// Writes a record.
    pub(crate) fn put(
        &mut self,
        need: Need,
        id: RecordId,
        entry: Box<Entry>,
        notify: bool,
    ) -> Result<Position, Refusal> {
        let (meta, body) = frame::split(&entry);
        let fence = entry.fence.get();
        self.grant_fence(fence)?;
        let at = self.append(need, Kind::Put, id, meta, body, notify, fence)?;
        let size = frame_size(&self.queue);
        self.index.put(id, Slot::new(entry, at, size));
        self.removed.remove(&id);
        Ok(at)
    }

    /// Removes a record.
    pub(crate) fn remove(&mut self, id: RecordId) -> Result<Position, Refusal> {
        let nothing = Bytes::new();
        let at = self.append(
            Need::Work,
            Kind::Remove,
            id,
            nothing.clone(),
            nothing,
            true,
            self.fence,
        )?;
        self.index.remove(&id);
        self.removed.insert(id, at);
        Ok(at)
    }

    /// Writes a live record again, at the log's end, so that its old segment can go.
    pub(crate) fn copy(&mut self, id: RecordId, meta: Bytes, body: Bytes) -> Result<(), Refusal> {
        let size = frame::size(meta.len(), body.len());
        let fence = self.fence;
        let need = if self.gains_by_copying() {
            Need::Drop
        } else {
            Need::Upkeep
        };
        let at = self.append(need, Kind::Put, id, meta, body, false, fence)?;
        self.index.moved(&id, at);
        self.counters.copied_bytes += size as u64;
        Ok(())
    }

    /// Whether the store is full, and what lives in its oldest segment fits behind the log's end
    /// all the same. Then a whole segment is gained for it, for those at work too, whose room it
    /// takes meanwhile.
    fn gains_by_copying(&self) -> bool {
        let oldest = self.index.segments().first_key_value();
        let left = u64::from(self.capacity() - self.tail.offset);
        self.full.is_some()
            && oldest.is_some_and(|(_, account)| account.live + frame::HEADER as u64 <= left)
    }

    /// Notes something about the log itself.
    pub(crate) fn note(&mut self, kind: Kind, number: u64) -> Result<Position, Refusal> {
        let (id, nothing) = (RecordId::from_bytes([0; 32]), Bytes::new());
        let need = if kind == Kind::Drop {
            Need::Drop
        } else {
            Need::Work
        };
        self.append(need, kind, id, nothing.clone(), nothing, false, number)
    }

    /// Whether `fence` may be handed out; with relaxed durability more may have to be set aside
    /// first, so that the sequence does not go back when the machine loses the last claims.
    fn grant_fence(&mut self, fence: u64) -> Result<(), Refusal> {
        if self.fence_limit == u64::MAX {
            return Ok(());
        }
        if self.reserving.is_none() && fence + FENCE_BLOCK / 2 > self.fence_limit {
            let limit = self.fence.max(fence) + FENCE_BLOCK;
            self.reserving = Some(self.note(Kind::Reserve, limit)?);
        }
        match self.reserving.and_then(|at| self.settled(at)) {
            Some(event) if fence > self.fence_limit => Err(Refusal::Later(event)),
            Some(_) | None => Ok(()),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call for each field of a frame, all of them in this file"
    )]
    fn append(
        &mut self,
        need: Need,
        kind: Kind,
        id: RecordId,
        meta: Bytes,
        body: Bytes,
        notify: bool,
        fence: u64,
    ) -> Result<Position, Refusal> {
        if self.queued_bytes > MAX_QUEUED {
            return Err(Refusal::Later(self.forming.clone()));
        }
        let size = frame::size(meta.len(), body.len());
        let at = self.place(size, need)?;
        if matches!(kind, Kind::Put | Kind::Remove) {
            self.fence = self.fence.max(fence);
        }
        let time = self.now();
        self.queue.push(Job::Frame(FrameJob {
            at,
            kind,
            id,
            seq: self.next_seq,
            time,
            fence: if kind == Kind::Put { self.fence } else { fence },
            meta,
            body,
            notify,
            force: !matches!(kind, Kind::Put | Kind::Remove),
        }));
        self.next_seq += 1;
        self.queued_bytes += size;
        Ok(at)
    }

    /// Finds room in the log, and takes it.
    fn place(&mut self, size: usize, need: Need) -> Result<Position, Refusal> {
        let size = match u32::try_from(size) {
            Ok(small) if size <= frame::MAX_SIZE => small,
            Ok(_) | Err(_) => return Err(Refusal::TooLong(size)),
        };
        if need == Need::Claim && self.stalled {
            return Err(Refusal::Full("there is no room left on the disk".into()));
        }
        let left = self.capacity() - self.tail.offset;
        let spare = self.spare.map_or(0, |capacity| capacity - DATA_START);
        let (fits, fits_spare) = (size <= left, size <= spare);
        let after = match (fits, fits_spare) {
            (true, _) => Some(left - size + spare),
            (false, true) => Some(spare - size),
            (false, false) => None,
        };
        let reserve = self.reserve(need);
        if after.is_none_or(|after| after < reserve) {
            // A full store looks for room by itself, now and then.
            if let Some(reason) = &self.full {
                return Err(Refusal::Full(reason.clone()));
            }
            self.upkeep_due = true;
            // With that much, this very step will find room.
            let capacity = DATA_START.saturating_add(size).saturating_add(reserve);
            let capacity = capacity
                .next_multiple_of(DATA_START)
                .max(self.segment_bytes);
            self.wanted = self.wanted.max(Some(capacity));
            return Err(Refusal::Later(self.space.clone()));
        }
        if !fits {
            self.begin_segment();
        }
        let at = self.tail;
        self.tail.offset += size;
        self.upkeep_due |= self.full.is_none() && self.wants_spare().is_some();
        Ok(at)
    }

    /// Room that must be left behind, in bytes.
    fn reserve(&self, need: Need) -> u32 {
        let quarter = self.segment_bytes / 4;
        match need {
            Need::Claim => {
                let owners = u32::try_from(self.index.in_progress()).unwrap_or(u32::MAX);
                quarter + owners.saturating_mul(SHARE).min(quarter)
            }
            Need::Upkeep => quarter / 2,
            Need::Work => quarter / 16,
            Need::Drop => 0,
        }
    }

    fn begin_segment(&mut self) {
        let Some(capacity) = self.spare.take() else {
            return;
        };
        let number = self.tail.segment + 1;
        let time = self.now().as_millis();
        self.index.seal_segment(self.tail.segment, self.tail.offset);
        self.index.add_segment(number, capacity);
        let fence_limit = match self.fence_limit {
            u64::MAX => 0,
            limit => limit,
        };
        self.queue.push(Job::Begin(SegmentHeader {
            store: self.store,
            number,
            capacity,
            first_seq: self.next_seq,
            fence: self.fence.max(fence_limit),
            time,
            oldest: self.oldest,
            previous_end: self.tail.offset,
        }));
        self.tail = Position {
            segment: number,
            offset: DATA_START,
        };
        self.counters.segments_begun += 1;
    }

    /// Length of the segment that is being written.
    fn capacity(&self) -> u32 {
        self.index
            .segments()
            .get(&self.tail.segment)
            .map_or(self.tail.offset, |account| account.capacity)
    }

    /// The length of the spare that should be made now, if any.
    pub(crate) fn wants_spare(&self) -> Option<u32> {
        let wanted = self.wanted.unwrap_or(0);
        match self.spare {
            Some(spare) => (wanted > spare).then_some(wanted),
            None => {
                let capacity = self.capacity();
                let half_used = self.tail.offset > capacity / 2;
                (wanted > 0 || half_used).then_some(wanted.max(self.segment_bytes))
            }
        }
    }

    /// A spare was made: all who wait for room decide again. Also whether the store was full.
    #[must_use = "those who wait are to be woken outside the lock"]
    pub(crate) fn spare_made(&mut self, capacity: u32) -> (Arc<Event>, bool) {
        self.spare = Some(capacity);
        let was_full = self.full.take().is_some();
        (self.room_judged(), was_full)
    }

    /// No spare can be had: all who wait for room learn that the store is full. Also whether it
    /// was full before.
    #[must_use = "those who wait are to be woken outside the lock"]
    pub(crate) fn spare_refused(&mut self, reason: Arc<str>) -> (Arc<Event>, bool) {
        let was_full = self.full.replace(reason).is_some();
        (self.room_judged(), was_full)
    }

    /// Nobody waits for room, and no spare is due: whatever was refused was too long. Whether the
    /// store was full.
    pub(crate) fn spare_not_wanted(&mut self) -> bool {
        self.full.take().is_some()
    }

    fn room_judged(&mut self) -> Arc<Event> {
        self.wanted = None;
        std::mem::replace(&mut self.space, Event::new())
    }

    /// Whether all of a segment is durable and nothing will be added to it.
    pub(crate) fn is_durable(&self, segment: u32) -> bool {
        segment < self.durable.segment
    }

    /// Hands the writer all that is queued, and what it has to fire afterwards.
    pub(crate) fn take(&mut self) -> Batch {
        self.queued_bytes = 0;
        self.taken = self.tail;
        self.flight = std::mem::replace(&mut self.forming, Event::new());
        Batch {
            jobs: std::mem::take(&mut self.queue),
            end: self.tail,
            event: self.flight.clone(),
        }
    }

    /// The writer has made a batch durable.
    pub(crate) fn committed(&mut self, batch: &Batch) {
        self.durable = batch.end;
        let durable = self.durable;
        self.removed.retain(|_, at| *at >= durable);
        for job in &batch.jobs {
            if let Job::Frame(frame) = job
                && frame.kind == Kind::Reserve
            {
                self.fence_limit = frame.fence;
                self.reserving = None;
            }
        }
    }

    /// Fires when there is a new segment, or none can be had.
    pub(crate) fn space(&self) -> Arc<Event> {
        self.space.clone()
    }

    /// Takes no more work until the store is opened anew.
    #[must_use = "those who wait are to be woken outside the lock"]
    pub(crate) fn poison(&mut self, reason: impl Into<Arc<str>>) -> [Arc<Event>; 3] {
        self.poison.get_or_insert_with(|| reason.into());
        self.queue = Vec::new();
        [
            self.flight.clone(),
            self.forming.clone(),
            self.space.clone(),
        ]
    }
}

/// What the writer makes durable in one go.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) jobs: Vec<Job>,
    end: Position,
    pub(crate) event: Arc<Event>,
}

/// The length of the frame that was queued last.
fn frame_size(queue: &[Job]) -> u32 {
    match queue.last() {
        Some(Job::Frame(job)) => {
            u32::try_from(frame::size(job.meta.len(), job.body.len())).unwrap_or(u32::MAX)
        }
        Some(Job::Begin(_)) | None => 0,
    }
}
