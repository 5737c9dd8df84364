//! Metrics, through the `metrics` facade: whatever recorder the program installs gets them.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use onlyonce_core::Operation;

use crate::Outcome;

/// Names and units of all metrics, for recorders that take descriptions.
///
/// Call it once after the program has installed its recorder; without it everything is still
/// counted, but without help texts.
pub fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("onlyonce_requests_total", "Requests by outcome and route");
    describe_histogram!(
        "onlyonce_store_duration_seconds",
        Unit::Seconds,
        "Time of each call to the store, by operation and result"
    );
    describe_gauge!(
        "onlyonce_in_progress",
        "Claimed requests at work in this process"
    );
    describe_gauge!(
        "onlyonce_waiters",
        "Requests that wait for another's answer"
    );
    describe_counter!(
        "onlyonce_renewals_lost_total",
        "Leases that could not be renewed in time, or were taken over"
    );
    describe_counter!(
        "onlyonce_unknown_outcomes_total",
        "Executions whose outcome is unknown"
    );
    describe_counter!(
        "onlyonce_unrecorded_total",
        "Responses sent that the store would not take"
    );
    describe_counter!(
        "onlyonce_uncommitted_total",
        "Executions without effect, since their transaction was not committed"
    );
    describe_counter!(
        "onlyonce_superseded_total",
        "Results thrown away because another owner had taken over"
    );
    describe_counter!(
        "onlyonce_unprotected_total",
        "Requests executed without protection because the store failed"
    );
    describe_counter!(
        "onlyonce_recorded_bytes_total",
        Unit::Bytes,
        "Encoded bytes of the responses given to the store"
    );
}

/// Up by one while it lives.
#[derive(Debug)]
pub(crate) struct Gauge(&'static str);

impl Gauge {
    fn up(name: &'static str) -> Self {
        gauge!(name).increment(1);
        Self(name)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        gauge!(self.0).decrement(1);
    }
}

pub(crate) fn at_work() -> Gauge {
    Gauge::up("onlyonce_in_progress")
}

pub(crate) fn waiting() -> Gauge {
    Gauge::up("onlyonce_waiters")
}

pub(crate) fn request(outcome: Outcome, route: &str) {
    counter!("onlyonce_requests_total", "outcome" => outcome.as_str(), "route" => route.to_owned())
        .increment(1);
}

pub(crate) fn store_call(operation: Operation, elapsed: Duration, ok: bool) {
    let result = if ok { "ok" } else { "error" };
    histogram!(
        "onlyonce_store_duration_seconds",
        "operation" => operation.as_str(), "result" => result
    )
    .record(elapsed);
}

pub(crate) fn renewal_lost() {
    counter!("onlyonce_renewals_lost_total").increment(1);
}

pub(crate) fn unknown_outcome() {
    counter!("onlyonce_unknown_outcomes_total").increment(1);
}

pub(crate) fn unrecorded() {
    counter!("onlyonce_unrecorded_total").increment(1);
}

pub(crate) fn uncommitted() {
    counter!("onlyonce_uncommitted_total").increment(1);
}

pub(crate) fn superseded() {
    counter!("onlyonce_superseded_total").increment(1);
}

pub(crate) fn unprotected() {
    counter!("onlyonce_unprotected_total").increment(1);
}

pub(crate) fn recorded_bytes(bytes: usize) {
    counter!("onlyonce_recorded_bytes_total").increment(bytes as u64);
}
