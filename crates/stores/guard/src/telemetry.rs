//! The names of what is measured.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(crate) const DURATION: &str = "onlyonce_store_backend_duration_seconds";
pub(crate) const ERRORS: &str = "onlyonce_store_errors_total";
pub(crate) const REFUSED: &str = "onlyonce_store_refused_total";
pub(crate) const STATE: &str = "onlyonce_store_breaker_state";

/// Names and units of its metrics, for recorders that take descriptions.
///
/// Call it once after the program has installed its recorder; without it everything is still
/// counted, but without help texts.
pub fn describe_metrics() {
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Time of each call to the store itself, below any cache, by operation"
    );
    describe_counter!(
        ERRORS,
        "Calls to the store itself that failed, by operation and kind"
    );
    describe_counter!(
        REFUSED,
        "Calls that the circuit breaker refused, by operation"
    );
    describe_gauge!(STATE, "The circuit breaker: 0 closed, 1 trying, 2 open");
}
