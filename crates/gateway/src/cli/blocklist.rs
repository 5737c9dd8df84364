//! `blocklist`: who is refused by a running gateway.

use std::time::Duration;

use clap::{Args, Subcommand};
use onlyonce_pipeline::blocklist::{AddressSet, EntryId};

use super::AdminArgs;
use crate::config::span;

/// The blocklist of a running gateway.
#[derive(Clone, Debug, Args)]
pub struct BlocklistArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: BlocklistCommand,
    /// Which gateway.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// What to do with the blocklist.
#[derive(Clone, Debug, Subcommand)]
pub enum BlocklistCommand {
    /// List entries, in the order in which they were made
    List(BlocklistListArgs),
    /// Refuse requests of these addresses from now on, on all gateways that share the blocklist
    Add(BlocklistAddArgs),
    /// Remove an entry
    Remove {
        /// The entry's identifier, as `blocklist list` shows it
        #[arg(value_parser = entry)]
        id: EntryId,
    },
}

/// Which entries to list.
#[derive(Clone, Debug, Args)]
pub struct BlocklistListArgs {
    /// At most this many, up to 1000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Go on behind this identifier
    #[arg(long, value_name = "ID", value_parser = entry)]
    pub after: Option<EntryId>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Whom to refuse.
#[derive(Clone, Debug, Args)]
pub struct BlocklistAddArgs {
    /// An address, a network (10.0.0.0/8), a range (10.0.0.5-90), `*`, or several of them with
    /// commas in between
    #[arg(value_parser = addresses)]
    pub ip: String,
    /// Why, or who
    #[arg(long, default_value = "")]
    pub remark: String,
    /// For how long, such as 90s, 24h or 7d [default: for ever]
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    pub lifetime: Option<Duration>,
}

fn entry(text: &str) -> Result<EntryId, String> {
    let number = text.parse();
    number.map_err(|_| "expected the number that `onlyonce blocklist list` shows".to_owned())
}

fn addresses(text: &str) -> Result<String, String> {
    match text.parse::<AddressSet>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
