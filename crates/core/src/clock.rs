//! Time, injected.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time: milliseconds since the Unix epoch, on the clock of one store.
///
/// Timestamps never leave a store: the [`Store`](crate::Store) contract speaks in durations, so
/// that no two machines' clocks are ever compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The timestamp `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` until this one; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This time plus `duration`, rounded up to the millisecond, saturating at the end of time.
    ///
    /// Rounding up keeps a promise of "at least this long" true for sub-millisecond durations.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

/// A source of time for stores that keep their own.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The time now. It never goes back while the process runs.
    fn now(&self) -> Timestamp;
}

/// The machine's wall clock, read once and then carried on by its monotonic clock.
///
/// A step of the wall clock (NTP, an operator, a leap) while the process runs moves neither a
/// lease nor a lifetime. After a restart the wall clock is read anew.
#[derive(Clone, Debug)]
pub struct SystemClock {
    started: Instant,
    base: u64,
}

impl SystemClock {
    /// A clock anchored at the wall clock's present time.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others inject"
    )]
    pub fn new() -> Self {
        let base = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: Instant::now(),
            base: u64::try_from(base.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.base.saturating_add(elapsed))
    }
}

/// A clock that stands still until it is told to move: for tests.
///
/// # Example
/// ```
/// use onlyonce_core::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_millis(1));
/// assert_eq!(clock.now().since(before), Duration::from_millis(1));
/// ```
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows 2026-01-01T00:00:00Z.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(1_767_225_600_000))
    }

    /// Moves the clock forward, in whole milliseconds (fractions are dropped).
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_rounds_up_so_that_a_promise_is_kept() {
        let start = Timestamp::from_millis(10);
        assert_eq!(
            start.plus(Duration::from_nanos(1)),
            Timestamp::from_millis(11)
        );
        assert_eq!(
            start.plus(Duration::from_millis(1)),
            Timestamp::from_millis(11)
        );
        assert_eq!(start.plus(Duration::MAX), Timestamp::from_millis(u64::MAX));
    }

    #[test]
    fn since_never_goes_negative() {
        let (early, late) = (Timestamp::from_millis(1), Timestamp::from_millis(5));
        assert_eq!(late.since(early), Duration::from_millis(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
