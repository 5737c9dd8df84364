//! Every test, in one go.

use crate::count::Count;
use crate::outside::Outside;
use crate::process::{Process, Task, cargo, target};

/// Builds everything once, in the one profile and feature set that all steps share, then tests.
/// A step that fails does not keep the next from running.
pub(crate) fn run(outside: &Outside) -> Task {
    if !outside.is_complete() {
        eprintln!(
            "NOT RUN: tests against nginx, curl and Python ({})",
            outside.why_not()
        );
    }
    // The examples and benchmarks are built with it: that they compile is a test.
    cargo(["build", "--workspace", "--all-targets"]).run()?;

    let mut count = Count::default();
    let steps = [
        units(outside, &mut count),
        cargo(["test", "--doc", "--workspace"]).run_read(|line| count.read(line)),
    ];
    if let Some(total) = count.total() {
        println!("\n{total}");
    }
    if !outside.is_complete() {
        println!(
            "NOT RUN: tests against nginx, curl and Python ({})",
            outside.why_not()
        );
    }
    let failed: Vec<String> = steps.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\nxtask: "))
    }
}

fn units(outside: &Outside, count: &mut Count) -> Task {
    let with_nextest = cargo(["nextest", "--version"]).succeeds();
    let runner = if with_nextest {
        cargo(["nextest", "run", "--workspace"])
    } else {
        eprintln!(
            "(cargo-nextest is not here: cargo test runs the tests, one crate after another)"
        );
        cargo([
            "test",
            "--workspace",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
            "--benches",
        ])
    };
    let skip: &[&str] = if outside.is_complete() {
        &[]
    } else {
        &["--", "--skip", "outside::"]
    };
    let runner = with_programs(runner.args(skip), outside);
    if with_nextest {
        let report = target().join("nextest/default/junit.xml");
        // An old report must not be counted for a run that wrote none.
        let _ = std::fs::remove_file(&report);
        let done = runner.run();
        count.read_junit(&std::fs::read_to_string(report).unwrap_or_default());
        done
    } else {
        runner.run_read(|line| count.read(line))
    }
}

fn with_programs(mut runner: Process, outside: &Outside) -> Process {
    let gateway = format!("debug/onlyonce{}", std::env::consts::EXE_SUFFIX);
    runner = runner.env("ONLYONCE_BIN", target().join(gateway));
    for (name, path) in outside.variables() {
        runner = runner.env(name, path);
    }
    runner
}
