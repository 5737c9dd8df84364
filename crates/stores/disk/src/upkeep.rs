//! Housekeeping on a thread of its own: sweeps what has expired, keeps a segment ready, and
//! gives back the room of old ones.
//!
//! Segments go in the order in which they were written, and only so: a frame may be there to
//! supersede an older one, and must not go before it. What still lives in the oldest segment
//! is copied to the log's end, a piece at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onlyonce_core::{Clock, SystemClock, Timestamp};

use crate::event::Event;
use crate::index::SHARDS;
use crate::log::frame::Kind;
use crate::log::scan::{Frames, ScanError};
use crate::log::segment::{self, DATA_START};
use crate::log::{Position, segment_name};
use crate::shared::Shared;
use crate::state::{Refusal, State};

/// Between two rounds, when nobody asks for one.
const PAUSE: Duration = Duration::from_secs(1);
/// Shards swept in each round: all of them within a minute.
const SWEPT: usize = SHARDS.div_ceil(60);
/// Bytes copied before their flush is waited for.
const PIECE: usize = 512 << 10;
/// How long after the disk had no room it is tried again.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Upkeep {
    shared: Arc<Shared>,
    next_shard: usize,
    /// How far the oldest segment has been gone through.
    cursor: Position,
    /// No further segment could be made: room is to be gained at a higher price.
    short: bool,
    /// A segment that could not be read.
    unreadable: Option<u32>,
    /// When a segment may be made again, on the machine's time, and why not sooner.
    try_again: Timestamp,
    no_room: Option<Arc<str>>,
    clock: SystemClock,
}

/// Upkeep can't go on now.
enum Pause {
    /// Room, or time, is needed first.
    Later,
    /// The store is closed or poisoned.
    Stop,
}

impl Upkeep {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            next_shard: 0,
            cursor: Position::default(),
            short: false,
            unreadable: None,
            try_again: Timestamp::default(),
            no_room: None,
            clock: SystemClock::new(),
        }
    }

    /// Works until the store is closed or poisoned.
    pub(crate) fn run(mut self) {
        loop {
            {
                let mut state = self.shared.lock();
                if !state.upkeep_due && !state.closing && state.poison.is_none() {
                    state.upkeep_idle = true;
                    state = self.shared.wait_for_upkeep(state, PAUSE);
                    state.upkeep_idle = false;
                }
                if state.closing || state.poison.is_some() {
                    return;
                }
                state.upkeep_due = false;
            }
            self.round(SWEPT);
        }
    }

    /// One round: sweeps `shards` shards, then sees to the segments.
    pub(crate) fn round(&mut self, shards: usize) {
        self.sweep(shards);
        if self.clock.now() < self.try_again {
            // Nobody is to wait for a try that is not made yet.
            if let Some(reason) = self.no_room.clone()
                && self.shared.lock().wanted.is_some()
            {
                self.declare_full(&reason);
            }
        } else if let Err(reason) = self.make_spare() {
            // Expired records make room first; only then is the store full.
            self.short = true;
            self.sweep(SHARDS);
            self.drop_old();
            match self.make_spare() {
                Ok(()) => {}
                Err(_) => self.declare_full(&reason),
            }
        }
        self.drop_old();
    }

    fn sweep(&mut self, shards: usize) {
        for _ in 0..shards {
            let shard = self.next_shard;
            self.next_shard = (shard + 1) % SHARDS;
            self.shared.step(|state| state.sweep(shard));
        }
    }

    /// Makes the segment that will be needed next, if it is time.
    fn make_spare(&mut self) -> Result<(), Arc<str>> {
        let wanted = self.shared.step(|state| match state.wants_spare() {
            Some(capacity) => Ok((capacity, state.tail.segment + 1, state.spare.take())),
            None => Err(state.spare_not_wanted()),
        });
        let (capacity, number, old) = match wanted {
            Ok(wanted) => wanted,
            Err(was_full) => {
                self.not_full(was_full);
                return Ok(());
            }
        };
        let limit = self.shared.step(|state| {
            let allocated = state.index.allocated() + u64::from(capacity);
            state.max_bytes.filter(|limit| allocated > *limit)
        });
        let made = match limit {
            Some(limit) => Err(format!(
                "the store holds live records up to its limit of {limit} bytes: raise the limit, \
                 or wait until some expire"
            )
            .into()),
            None => {
                segment::create_spare(&*self.shared.disk, number, capacity, old).map_err(|error| {
                    // Each try writes the disk full to its last byte: not too often.
                    self.try_again = self.clock.now().plus(RETRY);
                    let why = "no further segment can be created";
                    let reason: Arc<str> = format!("{why}: {error}; make room on the disk").into();
                    self.no_room = Some(reason.clone());
                    reason
                })
            }
        };
        match made {
            Ok(()) => {
                self.short = false;
                self.try_again = Timestamp::default();
                self.no_room = None;
                let (space, was_full) = self.shared.step(|state| state.spare_made(capacity));
                self.not_full(was_full);
                space.fire(true);
                Ok(())
            }
            Err(reason) => {
                self.shared.step(|state| state.spare = old);
                Err(reason)
            }
        }
    }

    fn declare_full(&self, reason: &Arc<str>) {
        let refused = reason.clone();
        let (space, was_full) = self.shared.step(|state| state.spare_refused(refused));
        if !was_full {
            tracing::warn!(folder = %self.shared.folder, %reason, "no room for new records");
        }
        space.fire(true);
    }

    fn not_full(&self, was_full: bool) {
        if was_full {
            tracing::info!(folder = %self.shared.folder, "there is room again");
        }
    }

    fn drop_old(&mut self) {
        while self.drop_oldest().is_ok() {}
    }

    /// Drops the oldest segment if that is worth what it costs.
    fn drop_oldest(&mut self) -> Result<(), Pause> {
        let Some(oldest) = self
            .shared
            .step(|state| worth_dropping(state, self.short, self.unreadable))
        else {
            return Err(Pause::Later);
        };
        if self.cursor.segment != oldest {
            self.cursor = Position {
                segment: oldest,
                offset: DATA_START,
            };
        }
        self.copy_forward(oldest)?;
        let forming = self.shared.step(|state| -> Result<_, Refusal> {
            state.check()?;
            // All that lived there has been moved, or has been superseded meanwhile.
            let live = state.index.segments().get(&oldest);
            debug_assert_eq!(
                live.map(|account| account.live),
                Some(0),
                "nothing is left behind"
            );
            if live.is_none_or(|account| account.live > 0) {
                return Ok(None);
            }
            state.note(Kind::Drop, u64::from(oldest) + 1)?;
            state.oldest = oldest + 1;
            Ok(Some(state.forming()))
        });
        let Some(forming) = forming.map_err(|refusal| pause(&refusal))? else {
            return Err(Pause::Later);
        };
        if !forming.wait_blocking() {
            return Err(Pause::Stop);
        }
        self.shared.readers.forget(oldest);
        let removed = self
            .shared
            .disk
            .remove(&segment_name(oldest))
            .and_then(|()| self.shared.disk.sync_folder());
        // Somebody may have opened it once more before it went.
        self.shared.readers.forget(oldest);
        if let Err(error) = removed {
            // It is of no account any more; opening the store tries again.
            tracing::warn!(folder = %self.shared.folder, segment = oldest, %error,
                "an old segment could not be removed");
        }
        self.shared.step(|state| {
            state.index.drop_segment(oldest);
            state.counters.segments_dropped += 1;
            state.upkeep_due = true;
        });
        Ok(())
    }

    /// Copies what lives in the oldest segment to the log's end.
    fn copy_forward(&mut self, oldest: u32) -> Result<(), Pause> {
        let Some((end, live, seed)) = self.shared.step(|state| {
            let account = state.index.segments().get(&oldest)?;
            Some((
                account.end,
                account.live,
                segment::seed(&state.store, oldest),
            ))
        }) else {
            return Err(Pause::Later);
        };
        if live == 0 {
            return Ok(());
        }
        let file = self
            .shared
            .disk
            .open(&segment_name(oldest))
            .map_err(|error| self.unreadable(oldest, &error.to_string()))?;
        let mut frames = Frames::new(&*file, seed, self.cursor.offset, end);
        let mut pending = Pending::default();
        loop {
            let frame = match frames.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(ScanError::Io(error)) => {
                    return Err(self.unreadable(oldest, &error.to_string()));
                }
                Err(ScanError::Broken { offset }) => {
                    let what = format!("it is damaged at offset {offset}");
                    return Err(self.unreadable(oldest, &what));
                }
            };
            let at = Position {
                segment: oldest,
                offset: frame.offset,
            };
            if frame.header.kind == Kind::Put {
                let id = frame.header.id;
                let copied = self.shared.step(|state| -> Result<_, Refusal> {
                    state.check()?;
                    let now = state.now();
                    let Some(slot) = state.index.find(&id).filter(|slot| slot.at == at) else {
                        return Ok(None);
                    };
                    if slot.is_expired(now) {
                        state.index.remove(&id);
                        return Ok(None);
                    }
                    let meta = Bytes::copy_from_slice(frame.meta);
                    let body = Bytes::copy_from_slice(frame.body);
                    state.copy(id, meta, body)?;
                    Ok(Some(state.forming()))
                });
                if let Some(event) = copied.map_err(|refusal| pause(&refusal))? {
                    pending.add(event, frame.header.size());
                }
            }
            self.cursor = at;
            if pending.bytes >= PIECE {
                pending.wait()?;
                // Copying takes room too; where none can be had, it uses what is left.
                if !self.short && self.make_spare().is_err() {
                    self.short = true;
                }
            }
        }
        pending.wait()
    }

    /// What can't be read can't be moved: the segment stays until nothing in it lives.
    fn unreadable(&mut self, segment: u32, what: &str) -> Pause {
        self.unreadable = Some(segment);
        tracing::error!(folder = %self.shared.folder, segment, what,
            "an old segment can't be read, and its room not given back");
        Pause::Later
    }
}

/// Copies on their way to the disk.
#[derive(Default)]
struct Pending {
    bytes: usize,
    event: Option<Arc<Event>>,
}

impl Pending {
    fn add(&mut self, event: Arc<Event>, bytes: usize) {
        self.bytes += bytes;
        // The log is written in order: the last one stands for all.
        self.event = Some(event);
    }

    fn wait(&mut self) -> Result<(), Pause> {
        self.bytes = 0;
        match self.event.take() {
            Some(event) if !event.clone().wait_blocking() => Err(Pause::Stop),
            Some(_) | None => Ok(()),
        }
    }
}

fn pause(refusal: &Refusal) -> Pause {
    match refusal {
        Refusal::Later(_) | Refusal::Full(_) | Refusal::TooLong(_) => Pause::Later,
        Refusal::Poisoned(_) | Refusal::Closed => Pause::Stop,
    }
}

/// The oldest segment, if its room should be given back now.
///
/// That is free when nothing in it lives, cheap when little does. Beyond that it is done when
/// more than half of all that is stored is dead, or when room is short and an eighth is: so the
/// log takes at most about twice what lives in it, and each live byte is copied about once for
/// each byte that is gained.
fn worth_dropping(state: &State, short: bool, unreadable: Option<u32>) -> Option<u32> {
    let (&oldest, account) = state.index.segments().first_key_value()?;
    if !state.is_durable(oldest) || state.stalled {
        return None;
    }
    if unreadable == Some(oldest) && account.live > 0 {
        return None;
    }
    let (live, allocated) = (state.index.live(), state.index.allocated());
    let dead = allocated.saturating_sub(live);
    let segment = u64::from(state.segment_bytes);
    let worth = account.live == 0
        || account.live <= u64::from(account.capacity) / 4
        || dead > live + 2 * segment
        || (short && dead > 2 * segment && dead > allocated / 8);
    worth.then_some(oldest)
}
