//! What the layers count.

use metrics::{Unit, describe_counter, describe_gauge};

pub(crate) const PANICS: &str = "onlyonce_panics_total";

/// Gives the recorder the help texts of all that the layers count. To be called once, after the
/// recorder is installed.
pub fn describe_metrics() {
    let counters = [
        (PANICS, "Handlers that panicked"),
        (
            "onlyonce_auth_refusals_total",
            "Requests refused by auth, by reason",
        ),
        (
            "onlyonce_blocklist_hits_total",
            "Requests refused by the blocklist",
        ),
        (
            "onlyonce_blocklist_reload_failures_total",
            "Reloads of the blocklist that failed; the last good one stays in force",
        ),
        (
            "onlyonce_access_log_lines_dropped_total",
            "Access log lines dropped, as the queue was full",
        ),
        (
            "onlyonce_access_log_lines_failed_total",
            "Access log lines that could not be written",
        ),
        (
            "onlyonce_access_log_rows_written_total",
            "Access log rows written",
        ),
        (
            "onlyonce_access_log_rows_dropped_total",
            "Access log rows dropped, by reason",
        ),
        (
            "onlyonce_access_log_rows_purged_total",
            "Access log rows past their retention",
        ),
        (
            "onlyonce_access_log_write_failures_total",
            "Batches of access log rows that the database did not take",
        ),
    ];
    for (name, help) in counters {
        describe_counter!(name, Unit::Count, help);
    }
    describe_gauge!(
        "onlyonce_blocklist_entries",
        Unit::Count,
        "Entries of the blocklist in force"
    );
}
