//! Passive health: an upstream that can't be connected to is left alone for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What is known of one upstream.
#[derive(Debug)]
pub(crate) struct Health {
    after: u32,
    cool_down: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    failures: u32,
    down_until: Option<Instant>,
    probing: bool,
}

/// Leave to try an upstream. Dropped without a verdict, it changes nothing, and another request
/// may probe.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    health: &'a Health,
    probe: bool,
}

impl Health {
    pub(crate) fn new(after: u32, cool_down: Duration) -> Self {
        Self {
            after: after.max(1),
            cool_down,
            inner: Mutex::default(),
        }
    }

    /// Whether a request may be sent there; at most one at a time while it is on probation.
    pub(crate) fn admit(&self, now: Instant) -> Option<Admission<'_>> {
        let mut inner = self.lock();
        let probe = match inner.down_until {
            None => false,
            Some(until) if now < until || inner.probing => return None,
            Some(_) => true,
        };
        inner.probing |= probe;
        Some(Admission {
            health: self,
            probe,
        })
    }

    /// Leave whatever its health: for when no upstream is left.
    pub(crate) fn admit_anyway(&self) -> Admission<'_> {
        Admission {
            health: self,
            probe: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission<'_> {
    /// It can be connected to. Returns whether it was down before.
    pub(crate) fn succeeded(&self) -> bool {
        let mut inner = self.health.lock();
        inner.failures = 0;
        inner.down_until.take().is_some()
    }

    /// It could not be connected to. Returns whether it counts as down since now.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        let mut inner = self.health.lock();
        inner.failures = inner.failures.saturating_add(1);
        if inner.failures < self.health.after {
            return false;
        }
        let was_up = inner.down_until.is_none();
        inner.down_until = Some(now + self.health.cool_down);
        was_up
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.health.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOL: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_cool_it_down_and_one_request_probes() {
        let health = Health::new(2, COOL);
        let start = Instant::now();
        assert!(!health.admit(start).unwrap().failed(start));
        health.admit(start).unwrap().succeeded();
        assert!(
            !health.admit(start).unwrap().failed(start),
            "counted in a row"
        );
        assert!(health.admit(start).unwrap().failed(start));
        assert!(
            health
                .admit(start + COOL - Duration::from_millis(1))
                .is_none()
        );
        let probe = health.admit(start + COOL).unwrap();
        assert!(health.admit(start + COOL).is_none(), "one probe at a time");
        probe.failed(start + COOL);
        drop(probe);
        assert!(health.admit(start + COOL).is_none(), "the probe failed");
        let probe = health.admit(start + COOL * 2).unwrap();
        assert!(probe.succeeded());
        drop(probe);
        assert!(health.admit(start + COOL * 2).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_given_up_does_not_block_the_next() {
        let health = Health::new(1, COOL);
        let start = Instant::now();
        health.admit(start).unwrap().failed(start);
        drop(health.admit(start + COOL).unwrap());
        assert!(health.admit(start + COOL).is_some());
    }
}
