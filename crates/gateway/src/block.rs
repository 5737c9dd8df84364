//! `onlyonce blocklist`: who is refused by a running gateway, from the command line.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::admin::{BlockDraft, BlockEntry, BlockList};
use crate::call::AdminClient;
use crate::cli::{BlocklistAddArgs, BlocklistArgs, BlocklistCommand, BlocklistListArgs};
use crate::keys::printable;

/// Carries out a command on the blocklist.
pub(crate) async fn run(args: &BlocklistArgs) -> anyhow::Result<()> {
    let admin = AdminClient::new(args.admin.url()?)?;
    let text = match &args.command {
        BlocklistCommand::List(args) => list(&admin, args).await?,
        BlocklistCommand::Add(args) => add(&admin, args).await?,
        BlocklistCommand::Remove { id } => {
            let path = format!("/api/blocklist/{id}");
            admin.delete(&path).await?.success()?;
            format!("removed: {id}\n")
        }
    };
    // Whoever reads may have had enough, which is no fault.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

async fn list(admin: &AdminClient, args: &BlocklistListArgs) -> anyhow::Result<String> {
    let mut path = format!("/api/blocklist?limit={}", args.limit);
    if let Some(after) = &args.after {
        let _ = write!(path, "&after={after}");
    }
    let list: BlockList = admin.get_json(&path).await?;
    if args.json {
        return Ok(serde_json::to_string_pretty(&list)? + "\n");
    }
    Ok(table(&list))
}

fn table(list: &BlockList) -> String {
    let mut text = String::new();
    if list.entries.is_empty() {
        text.push_str("no entries\n");
    } else {
        let _ = writeln!(
            text,
            "{:>8}  {:32}  {:6}  {:>8}  {:20}  {:20}  REMARK",
            "ID", "IP", "STATUS", "HITS", "CREATED", "EXPIRES"
        );
    }
    for entry in &list.entries {
        let _ = writeln!(
            text,
            "{:>8}  {:32}  {:6}  {:>8}  {:20}  {:20}  {}",
            entry.id.to_string(),
            printable(&entry.ip),
            entry.status,
            entry.hits,
            entry.created,
            entry.expires.as_deref().unwrap_or("never"),
            printable(&entry.remark),
        );
    }
    for reason in &list.unreadable {
        let _ = writeln!(text, "left out: {}", printable(reason));
    }
    if let Some(next) = &list.next {
        let _ = writeln!(text, "more: --after {next}");
    }
    text
}

async fn add(admin: &AdminClient, args: &BlocklistAddArgs) -> anyhow::Result<String> {
    let draft = BlockDraft {
        ip: args.ip.clone(),
        remark: args.remark.clone(),
        status: "on".to_owned(),
        expires: None,
        expires_in_seconds: args.lifetime.map(|lifetime| lifetime.as_secs().max(1)),
    };
    let entry: BlockEntry = admin.post("/api/blocklist", &draft).await?.json()?;
    Ok(match &entry.expires {
        Some(expires) => format!("added: {}, until {expires}\n", entry.id),
        None => format!("added: {}\n", entry.id),
    })
}

#[cfg(test)]
mod tests {
    use onlyonce_pipeline::blocklist::EntryId;

    use super::*;

    #[test]
    fn a_listing_can_be_read_and_moves_no_cursor() {
        let entry = |id, ip: &str, remark: &str, expires: Option<&str>| BlockEntry {
            id: EntryId(id),
            ip: ip.to_owned(),
            remark: remark.to_owned(),
            status: "on".to_owned(),
            created: "2026-01-01T00:00:00Z".to_owned(),
            updated: "2026-01-01T00:00:00Z".to_owned(),
            expires: expires.map(str::to_owned),
            hits: 12,
        };
        let list = BlockList {
            entries: vec![
                entry(1, "203.0.113.0/24", "probes", None),
                entry(20, "10.0.0.5-90", "\u{1b}[2J", Some("2026-02-01T00:00:00Z")),
            ],
            unreadable: vec!["entry 7: `ip`: \u{7} no".to_owned()],
            next: Some(EntryId(20)),
        };
        insta::assert_snapshot!(table(&list));
        let none = BlockList {
            entries: Vec::new(),
            unreadable: Vec::new(),
            next: None,
        };
        assert_eq!(table(&none), "no entries\n");
    }
}
