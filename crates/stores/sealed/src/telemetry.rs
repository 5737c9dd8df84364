//! What is measured.

use metrics::{counter, describe_counter};

use crate::envelope::OpenError;

const OPENED: &str = "onlyonce_sealed_opened_total";
const UNREADABLE: &str = "onlyonce_sealed_unreadable_total";

/// Names and units of its metrics, for recorders that take descriptions.
///
/// Call it once after the program has installed its recorder; without it everything is still
/// counted, but without help texts.
pub fn describe_metrics() {
    describe_counter!(
        OPENED,
        "Stored results that were opened, by the key that sealed them (none: not sealed)"
    );
    describe_counter!(
        UNREADABLE,
        "Stored results that could not be opened, by the reason"
    );
}

/// Counts a result that was opened under a key of this name, or why it was not.
pub(crate) fn count(opened: Result<String, &OpenError>) {
    match opened {
        Ok(key) => counter!(OPENED, "key" => key).increment(1),
        Err(error) => {
            let reason = match error {
                OpenError::NoKey(_) => "no-key",
                OpenError::Plain => "plain",
                OpenError::Altered(_) => "altered",
                OpenError::Version(_) => "version",
                OpenError::Damaged(_) => "damaged",
            };
            counter!(UNREADABLE, "reason" => reason).increment(1);
        }
    }
}
