//! The circuit breaker.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::STATE;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Breaker {
    failures: u32,
    open_for: Duration,
}

impl Breaker {
    /// A breaker with the defaults.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    ///
    /// let breaker = onlyonce_guard::Breaker::new()
    ///     .failures(3)
    ///     .open_for(Duration::from_secs(2));
    /// # let _ = breaker;
    /// ```
    pub const fn new() -> Self {
        Self {
            failures: 5,
            open_for: Duration::from_secs(5),
        }
    }

    /// How many calls must fail in a row. Default: 5. Zero counts as one. Calls that were under way
    /// together and fail at once count as one: a single broken connection may carry many.
    pub const fn failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// How long claims are refused before the store is tried again. Default: 5 s.
    pub const fn open_for(mut self, span: Duration) -> Self {
        self.open_for = span;
        self
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

/// What a breaker does just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// One call is under way to find out.
    Trying,
    /// Claims are refused.
    Open,
}

#[derive(Debug)]
pub(crate) struct Circuit {
    settings: Breaker,
    /// A call that was given up after so long counts as failed.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    /// Counts openings and closings: a call says nothing of a stage that began after it.
    epoch: u64,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Closed {
        failures: u32,
        /// When the last one was that counted.
        last: Option<Instant>,
    },
    Open {
        until: Instant,
    },
    Trying,
}

impl Stage {
    const CLOSED: Self = Self::Closed {
        failures: 0,
        last: None,
    };
}

/// A call that was let through. Dropped unsettled, it was given up.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    circuit: &'a Circuit,
    epoch: u64,
    probe: bool,
    started: Instant,
    settled: bool,
}

impl Circuit {
    pub(crate) fn new(settings: Breaker, patience: Duration) -> Self {
        Self {
            settings,
            patience,
            state: Mutex::new(State {
                stage: Stage::CLOSED,
                epoch: 0,
            }),
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        match self.lock().stage {
            Stage::Closed { .. } => BreakerState::Closed,
            Stage::Open { .. } => BreakerState::Open,
            Stage::Trying => BreakerState::Trying,
        }
    }

    /// Lets a call through, or says when to come again.
    pub(crate) fn admit(&self) -> Result<Permit<'_>, Duration> {
        let mut state = self.lock();
        let now = Instant::now();
        let probe = match state.stage {
            Stage::Closed { .. } => false,
            Stage::Open { until } if now < until => return Err(until - now),
            Stage::Open { .. } => {
                state.enter(Stage::Trying);
                true
            }
            // Another one is finding out, and will know by then.
            Stage::Trying => return Err(self.patience),
        };
        Ok(self.permit(&state, probe))
    }

    /// Lets a call through that must not be refused.
    pub(crate) fn pass(&self) -> Permit<'_> {
        self.permit(&self.lock(), false)
    }

    fn permit(&self, state: &State, probe: bool) -> Permit<'_> {
        Permit {
            circuit: self,
            epoch: state.epoch,
            probe,
            started: Instant::now(),
            settled: false,
        }
    }

    fn opened(&self) -> Stage {
        Stage::Open {
            until: Instant::now() + self.settings.open_for,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.epoch += 1;
        let shown = match stage {
            Stage::Closed { .. } => 0.0,
            Stage::Trying => 1.0,
            Stage::Open { .. } => 2.0,
        };
        metrics::gauge!(STATE).set(shown);
    }
}

impl Permit<'_> {
    /// How the call ended.
    pub(crate) fn settle(mut self, answered: bool) {
        self.settled = true;
        if answered {
            self.answered();
        } else {
            self.failed();
        }
    }

    fn answered(&self) {
        let mut state = self.circuit.lock();
        if state.epoch != self.epoch {
            return;
        }
        match &mut state.stage {
            Stage::Closed { failures, .. } => *failures = 0,
            // It was sent when the store was taken for lost.
            Stage::Open { .. } | Stage::Trying => {
                state.enter(Stage::CLOSED);
                tracing::info!("the store answers again");
            }
        }
    }

    fn failed(&self) {
        let circuit = self.circuit;
        let mut state = circuit.lock();
        if state.epoch != self.epoch {
            return;
        }
        match &mut state.stage {
            Stage::Closed { failures, last } => {
                let at_once = self.started.elapsed() < circuit.patience;
                if at_once && last.is_some_and(|last| self.started < last) {
                    return;
                }
                *last = Some(Instant::now());
                *failures += 1;
                if *failures >= circuit.settings.failures {
                    let failures = *failures;
                    state.enter(circuit.opened());
                    let open_for = circuit.settings.open_for;
                    tracing::warn!(failures, ?open_for, "the store is away: refusing claims");
                }
            }
            Stage::Trying if self.probe => state.enter(circuit.opened()),
            Stage::Open { .. } | Stage::Trying => {}
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if self.started.elapsed() >= self.circuit.patience {
            return self.failed();
        }
        if self.probe {
            let mut state = self.circuit.lock();
            if state.epoch == self.epoch {
                // The next one finds out.
                state.enter(Stage::Open {
                    until: Instant::now(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_that_one_broken_connection_takes_with_it_count_as_one() {
        let patience = Duration::from_millis(500);
        let circuit = Circuit::new(Breaker::new().failures(3), patience);
        let fail_together = async |count: usize, after: Duration| {
            let permits: Vec<_> = (0..count).map(|_| circuit.pass()).collect();
            tokio::time::advance(after).await;
            permits.into_iter().for_each(|permit| permit.settle(false));
        };
        for _ in 0..2 {
            fail_together(64, Duration::from_millis(1)).await;
            assert_eq!(circuit.state(), BreakerState::Closed);
        }
        fail_together(64, Duration::from_millis(1)).await;
        assert_eq!(circuit.state(), BreakerState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_took_long_to_fail_all_count() {
        let patience = Duration::from_millis(500);
        let circuit = Circuit::new(Breaker::new().failures(3), patience);
        let permits = [circuit.pass(), circuit.pass(), circuit.pass()];
        tokio::time::advance(patience).await;
        permits.into_iter().for_each(|permit| permit.settle(false));
        assert_eq!(circuit.state(), BreakerState::Open);
    }
}
