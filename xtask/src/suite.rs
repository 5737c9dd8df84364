//! Every test, in one go.

use crate::count::Count;
use crate::outside::Outside;
use crate::process::{Process, Task, cargo, target};

/// Builds everything once, in the one profile and feature set that all steps share, then tests.
/// A step that fails does not keep the next from running.
pub(crate) fn run(outside: &Outside) -> Task {
    if let Some(line) = outside.not_run() {
        eprintln!("{line}");
    }
    // The examples and benchmarks are built with it: that they compile is a test.
    cargo(["build", "--workspace", "--all-targets"]).run()?;

    let mut count = Count::default();
    let steps = if cargo(["nextest", "--version"]).succeeds() {
        vec![
            nextest(outside, &mut count),
            cargo(["test", "--doc", "--workspace"]).run_read(|line| count.read(line)),
        ]
    } else {
        eprintln!("(cargo-nextest is not here: cargo test runs one program after the other)");
        let all = cargo(["test", "--workspace", "--no-fail-fast"]).args(&outside.arguments());
        vec![with_programs(all, outside).run_read(|line| count.read(line))]
    };
    if let Some(total) = count.total() {
        println!("\n{total}");
    }
    if let Some(line) = outside.not_run() {
        println!("{line}");
    }
    let failed: Vec<String> = steps.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\nxtask: "))
    }
}

fn nextest(outside: &Outside, count: &mut Count) -> Task {
    let report = target().join("nextest/default/junit.xml");
    // An old report must not be counted for a run that wrote none.
    let _ = std::fs::remove_file(&report);
    let all = cargo(["nextest", "run", "--workspace"]).args(&outside.arguments());
    let done = with_programs(all, outside).run();
    count.read_junit(&std::fs::read_to_string(report).unwrap_or_default());
    done
}

fn with_programs(mut runner: Process, outside: &Outside) -> Process {
    let gateway = format!("debug/onlyonce{}", std::env::consts::EXE_SUFFIX);
    runner = runner.env("ONLYONCE_BIN", target().join(gateway));
    // Else each benchmark asks cargo for it, which takes longer than to run it once.
    runner = runner.env("CRITERION_HOME", target().join("criterion"));
    for (name, path) in outside.variables() {
        runner = runner.env(name, path);
    }
    runner
}
