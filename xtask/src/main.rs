//! Tasks of the project. `cargo xtask` lists them.

mod count;
mod hazards;
mod outside;
mod process;
mod suite;

use std::process::ExitCode;

use process::{Task, cargo};

const USAGE: &str = "\
cargo xtask TASK

  test [--skip-outside]  every test; installs (Debian, as root) or asks for nginx, Redis, curl and
                         Python with requests and httpx, unless tests that need them are to be left out
  ci                     formatting, lints, documentation, and every test
  bench [ARGS]           the benchmarks; ARGS go to `cargo bench -p onlyonce-benches`
  schema                 writes docs/onlyonce.schema.json and docs/settings.md anew
  hazards                writes into docs/hazards.md which tests keep which hazard out";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["test"] => outside::require().and_then(|outside| suite::run(&outside)),
        ["test", "--skip-outside"] => suite::run(&outside::Outside::skipped()),
        ["ci"] => ci(),
        ["bench", rest @ ..] => bench(rest),
        ["schema"] => schema(),
        ["hazards"] => hazards::write(),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}\n\nno such task: {}", arguments.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nxtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Everything is run, whatever failed before: one round shows all there is to mend.
fn ci() -> Task {
    let steps = [
        cargo(["fmt", "--all", "--check"]).run(),
        cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
        .run(),
        // Without its features most of the pipeline would not be read.
        cargo(["doc", "--workspace", "--no-deps"])
            .args(&["--features", "onlyonce-pipeline/full"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .run(),
        // Nothing is left out here: what can't be installed is a failure.
        outside::require().and_then(|outside| suite::run(&outside)),
    ];
    let failed: Vec<String> = steps.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\nxtask: "))
    }
}

fn bench(arguments: &[&str]) -> Task {
    cargo(["bench", "--package", "onlyonce-benches"])
        .args(arguments)
        .run()
}

/// The test that compares the files with their source writes them when it is told to.
fn schema() -> Task {
    cargo([
        "test",
        "--quiet",
        "--package",
        "onlyonce-gateway",
        "--lib",
        "in_docs_is_up_to_date",
    ])
    .env("ONLYONCE_REGENERATE", "1")
    .run()
}
