//! The command line.
//!
//! [`Cli`] says what can be typed; [`local`] holds the commands that need no gateway. Exit codes
//! are those of [`Exit`]; wrong usage ends with 2, as clap has it.

pub mod local;

mod admin;
mod blocklist;
mod keys;

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueHint};
use onlyonce_core::Profile;

use crate::config::{DEFAULT_FILE, Flag, LogFormat, LogLevel, Sources};

pub use admin::{AdminArgs, AdminError};
pub use blocklist::{BlocklistAddArgs, BlocklistArgs, BlocklistCommand, BlocklistListArgs};
pub use keys::{
    KeysArgs, KeysCommand, ListArgs, OutcomeCommand, ResolveArgs, ScopeSpec, ScopeSpecError,
    ShowArgs, Target, Whose,
};

/// Makes HTTP requests safe to retry: a retried request takes effect once.
#[derive(Clone, Debug, Parser)]
#[command(name = "onlyonce", version, arg_required_else_help = true)]
#[command(
    after_help = "Start with `onlyonce demo`, or in front of your own service with\n\
                        `onlyonce serve --upstream http://127.0.0.1:3000`."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the gateway
    Serve(SettingsArgs),
    /// Say whether the settings are good, and stop
    Check(SettingsArgs),
    /// Run the gateway before a sample payments API, and show a retried charge happen once
    Demo(DemoArgs),
    /// Print all settings in force, each with where it comes from
    PrintConfig(SettingsArgs),
    /// Write a commented file of settings to start from
    Init(InitArgs),
    /// List, show and settle the records of a running gateway
    Keys(KeysArgs),
    /// List, add and remove addresses that a running gateway refuses
    Blocklist(BlocklistArgs),
    /// Bring the tables on PostgreSQL up to date: records, blocklist, sessions
    Migrate(MigrateArgs),
    /// Ask a running gateway whether it is ready: exit code 0 if it is
    Health(AdminArgs),
    /// Print a script that completes commands in your shell
    Completions(CompletionsArgs),
}

/// Where settings come from, and the most common of them.
///
/// All others are set in the file or the environment (`ONLYONCE_SECTION__KEY`).
#[derive(Clone, Debug, Default, Args)]
pub struct SettingsArgs {
    /// File of settings [default: ./onlyonce.toml if it is there]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Service behind the gateway; can be given again
    #[arg(long, short, value_name = "URL", value_hint = ValueHint::Url)]
    pub upstream: Vec<String>,
    /// Where clients connect [default: 127.0.0.1:8080]
    #[arg(long, short, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Where operators' tools connect, or `off` [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<String>,
    /// Where records live, `memory:`, `file:FOLDER`, `redis://…` or `postgres://…` [default: `file:./onlyonce-data`]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Set of defaults to start from [default: standard]
    #[arg(long, value_parser = PossibleValuesParser::new(Profile::ALL.map(Profile::as_str)))]
    pub profile: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(LogFormat::NAMES))]
    pub log_format: Option<String>,
    /// Least important events that are logged [default: info]
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(LogLevel::NAMES))]
    pub log_level: Option<String>,
}

impl SettingsArgs {
    /// The settings' sources: these flags, this process' environment, and the file.
    #[must_use]
    pub fn sources(&self) -> Sources {
        self.over(Sources::of_process(self.config.clone()))
    }

    /// These flags, over `sources`.
    #[must_use]
    pub fn over(&self, sources: Sources) -> Sources {
        let single = [
            (Flag::Listen, &self.listen),
            (Flag::AdminListen, &self.admin_listen),
            (Flag::Store, &self.store),
            (Flag::Profile, &self.profile),
            (Flag::LogFormat, &self.log_format),
            (Flag::LogLevel, &self.log_level),
        ];
        let single = single
            .into_iter()
            .filter_map(|(flag, value)| Some((flag, value.as_ref()?)));
        let upstreams = self.upstream.iter().map(|url| (Flag::Upstream, url));
        single
            .chain(upstreams)
            .fold(sources, |sources, (flag, value)| {
                sources.with_flag(flag, value)
            })
    }
}

/// Which store to bring up to date.
#[derive(Clone, Debug, Default, Args)]
pub struct MigrateArgs {
    /// File of settings [default: ./onlyonce.toml if it is there]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Where records live, such as `postgres://USER:PASSWORD@HOST/DATABASE` [default: the
    /// settings' `url` in `[store]`]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Change nothing: exit code 1 if there is something to do
    #[arg(long)]
    pub check: bool,
}

impl MigrateArgs {
    /// The settings' sources: these flags, this process' environment, and the file.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let sources = Sources::of_process(self.config.clone());
        match &self.store {
            Some(url) => sources.with_flag(Flag::Store, url),
            None => sources,
        }
    }
}

/// How the demonstration runs.
#[derive(Clone, Debug, Default, Args)]
pub struct DemoArgs {
    /// Where the gateway listens [default: 127.0.0.1:8080]
    #[arg(long, short, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Where its operators' tools connect, or `off` [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<String>,
    /// Where records live [default: a new folder, removed at the end]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
}

/// Where to write settings.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// File to write; one that is there already is left as it is
    #[arg(default_value = DEFAULT_FILE, value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}

/// For which shell.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// Your shell
    pub shell: clap_complete::Shell,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what it should: 0.
    Success,
    /// It could not: 1.
    Failure,
    /// It was asked wrongly, or its settings are wrong: 2.
    Usage,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
        })
    }
}

#[cfg(test)]
mod tests;
