//! The `onlyonce` command.

use std::process::ExitCode;

use clap::Parser as _;
use onlyonce_gateway::cli::Cli;

fn main() -> ExitCode {
    onlyonce_gateway::run(Cli::parse()).into()
}
