//! `keys`: the records of a running gateway.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, Subcommand, ValueHint};
use http::StatusCode;
use onlyonce_core::{Key, KeyError, RecordId, Scope, StateKind};

use super::AdminArgs;

/// The records of a running gateway.
#[derive(Clone, Debug, Args)]
pub struct KeysArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: KeysCommand,
    /// Which gateway.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// What to do with records.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// List live records, in the order of their identifiers
    List(ListArgs),
    /// Show one record
    Show(ShowArgs),
    /// Settle a record whose outcome is unknown
    #[command(disable_help_subcommand = true)]
    Resolve(ResolveArgs),
    /// Remove a record, so that its key can be used anew
    Forget {
        /// The record's identifier, as `keys list` shows it
        id: RecordId,
    },
}

/// Which records to list.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Only records in this state: in-progress, unknown, completed or not-kept
    #[arg(long, value_parser = state)]
    pub state: Option<StateKind>,
    /// At most this many, up to 1000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Go on behind this identifier
    #[arg(long, value_name = "ID")]
    pub after: Option<RecordId>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which record to show.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["id", "key"]))]
#[command(group = ArgGroup::new("whose").args(["scope", "authorization"]).conflicts_with("id"))]
pub struct ShowArgs {
    /// The record's identifier, as `keys list` shows it
    id: Option<RecordId>,
    /// The key, as the client sends it (without quotes); needs --scope or --authorization
    #[arg(long, requires = "whose", value_parser = key)]
    key: Option<Key>,
    /// Whose key: `shared`, `anonymous`, `principal:NAME` or `header:VALUE`
    #[arg(long, value_name = "SPEC")]
    scope: Option<ScopeSpec>,
    /// Whose key: the value of the client's Authorization header
    #[arg(long, value_name = "VALUE")]
    authorization: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which record is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The one with this identifier.
    Id(RecordId),
    /// The one of this key.
    Key {
        /// The key.
        key: Key,
        /// Whose it is.
        whose: Whose,
    },
}

/// Whose key it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Whose {
    /// That of a scope that can be named.
    Scope(ScopeSpec),
    /// That of the holder of this credential. Needs the gateway's secret to become a scope.
    Authorization(String),
}

impl std::fmt::Debug for Whose {
    /// Leaves the credential out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scope(scope) => f.debug_tuple("Scope").field(scope).finish(),
            Self::Authorization(_) => f.write_str("Authorization([hidden])"),
        }
    }
}

impl ShowArgs {
    /// Which record is meant. `None` only when made otherwise than by parsing a command line,
    /// which sees to it that one is named.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        if let Some(id) = self.id {
            return Some(Target::Id(id));
        }
        let whose = match (&self.scope, &self.authorization) {
            (Some(scope), _) => Whose::Scope(scope.clone()),
            (None, Some(value)) => Whose::Authorization(value.clone()),
            (None, None) => return None,
        };
        let key = self.key.clone()?;
        Some(Target::Key { key, whose })
    }
}

/// How to settle a record.
#[derive(Clone, Debug, Args)]
pub struct ResolveArgs {
    /// The record's identifier, as `keys list` shows it
    pub id: RecordId,
    /// What became of the request.
    #[command(subcommand)]
    pub outcome: OutcomeCommand,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum OutcomeCommand {
    /// It was executed: retries get this response, or without a body 409 `response-not-kept`
    Completed {
        /// The status that it had
        #[arg(long, default_value = "200", value_parser = status)]
        status: StatusCode,
        /// File with the body that retries get from now on
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        body_file: Option<PathBuf>,
        /// Content type of that body
        #[arg(
            long,
            value_name = "TYPE",
            requires = "body_file",
            default_value_if(
                "body_file",
                clap::builder::ArgPredicate::IsPresent,
                "application/json"
            )
        )]
        content_type: Option<String>,
    },
    /// It was not executed: the next request executes
    NotExecuted,
}

/// A scope that can be named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeSpec {
    /// `shared`
    Shared,
    /// `anonymous`
    Anonymous,
    /// `principal:NAME`
    Principal(String),
    /// `header:VALUE`
    Header(String),
}

impl ScopeSpec {
    /// The scope.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Shared => Scope::shared(),
            Self::Anonymous => Scope::anonymous(),
            Self::Principal(name) => Scope::principal(name),
            Self::Header(value) => Scope::header(value),
        }
    }
}

/// A text names no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write `shared`, `anonymous`, `principal:NAME` or `header:VALUE`")]
pub struct ScopeSpecError;

impl FromStr for ScopeSpec {
    type Err = ScopeSpecError;

    fn from_str(text: &str) -> Result<Self, ScopeSpecError> {
        match (text, text.split_once(':')) {
            ("shared", _) => Ok(Self::Shared),
            ("anonymous", _) => Ok(Self::Anonymous),
            (_, Some(("principal", name))) if !name.is_empty() => {
                Ok(Self::Principal(name.to_owned()))
            }
            (_, Some(("header", value))) if !value.is_empty() => Ok(Self::Header(value.to_owned())),
            _ => Err(ScopeSpecError),
        }
    }
}

fn state(text: &str) -> Result<StateKind, String> {
    StateKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| "the states are in-progress, unknown, completed and not-kept".to_owned())
}

fn key(text: &str) -> Result<Key, KeyError> {
    Key::new(text)
}

fn status(text: &str) -> Result<StatusCode, String> {
    text.parse()
        .ok()
        .filter(|status: &StatusCode| (200..=599).contains(&status.as_u16()))
        .ok_or_else(|| "a status is a number from 200 to 599".to_owned())
}
