//! On servers that are killed in the middle.

mod clocks;
mod postgres;
mod redis;

use onlyonce_checker::{Losses, Report};

/// Tells the figures, and that there was something to judge.
fn tell(title: &str, report: Report) -> Losses {
    println!("{title}\n{report}");
    let report = report.expect_none();
    let counts = report.counts;
    assert!(counts.replayed > counts.keys, "retries have been replayed");
    assert!(counts.unavailable > 0, "the store was seen to be away");
    report.losses
}
