//! On servers that are killed in the middle.

mod clocks;
mod postgres;
mod redis;

use onlyonce_checker::{History, Losses, Report, story};

use crate::generator::failures;

/// Tells the figures, and that there was something to judge.
fn tell(title: &str, report: Report, history: &History) -> Losses {
    println!("{title}\n{report}");
    for name in &report.held_in_vain {
        println!("{name}:\n{}", story(&history.log(), name));
    }
    let report = report.expect_none();
    let counts = report.counts;
    assert!(counts.replayed > counts.keys, "retries have been replayed");
    assert!(history.count(failures) > 0, "the store was seen to be away");
    report.losses
}
