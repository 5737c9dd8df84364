//! `onlyonce keys`: the records of a running gateway, from the command line.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context as _;
use onlyonce_core::RecordId;

use crate::admin::{Found, KeyEntry, KeyList, Resolve, ScopeSpec, Sought};
use crate::call::AdminClient;
use crate::cli::{self, KeysArgs, KeysCommand, ListArgs, OutcomeCommand, ResolveArgs, ShowArgs};

/// Carries out a command on records.
pub(crate) async fn run(args: &KeysArgs) -> anyhow::Result<()> {
    let admin = AdminClient::new(args.admin.url()?)?;
    let text = match &args.command {
        KeysCommand::List(args) => list(&admin, args).await?,
        KeysCommand::Show(args) => show(&admin, args).await?,
        KeysCommand::Resolve(args) => resolve(&admin, args).await?,
        KeysCommand::Forget { id } => {
            admin.delete(&format!("/api/keys/{id}")).await?.success()?;
            format!("forgotten: {id}\n")
        }
    };
    // Whoever reads may have had enough, which is no fault.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

async fn list(admin: &AdminClient, args: &ListArgs) -> anyhow::Result<String> {
    let mut path = format!("/api/keys?limit={}", args.limit);
    if let Some(state) = args.state {
        let _ = write!(path, "&state={}", state.as_str());
    }
    if let Some(after) = &args.after {
        let _ = write!(path, "&after={after}");
    }
    let list: KeyList = admin.get_json(&path).await?;
    if args.json {
        return Ok(serde_json::to_string_pretty(&list)? + "\n");
    }
    if list.keys.is_empty() {
        return Ok("no records\n".to_owned());
    }
    let mut text = format!(
        "{:64}  {:11}  {:6}  {:7}  {:>9}  {:>9}  REQUEST\n",
        "ID", "STATE", "STATUS", "ATTEMPT", "AGE", "EXPIRES"
    );
    for key in &list.keys {
        let status = key
            .status
            .map_or_else(|| "-".to_owned(), |status| status.to_string());
        let _ = writeln!(
            text,
            "{:64}  {:11}  {:6}  {:7}  {:>9}  {:>9}  {}",
            key.id,
            key.state,
            status,
            key.attempt,
            span(key.age_seconds),
            span(key.expires_in_seconds),
            printable(&key.request),
        );
    }
    if let Some(next) = &list.next {
        let _ = writeln!(text, "more: --after {next}");
    }
    Ok(text)
}

async fn show(admin: &AdminClient, args: &ShowArgs) -> anyhow::Result<String> {
    let id = match args
        .target()
        .context("name a record, by its ID or its key")?
    {
        cli::Target::Id(id) => id,
        cli::Target::Key { key, whose } => find(admin, key.as_str(), whose).await?,
    };
    let key: KeyEntry = admin.get_json(&format!("/api/keys/{id}")).await?;
    if args.json {
        return Ok(serde_json::to_string_pretty(&key)? + "\n");
    }
    let mut text = format!(
        "id:       {}\nstate:    {}\nrequest:  {}\nattempt:  {}\nfence:    {}\n",
        key.id,
        key.state,
        printable(&key.request),
        key.attempt,
        key.fence,
    );
    if let Some(status) = key.status {
        let _ = writeln!(text, "status:   {status}");
    }
    if let Some(left) = key.lease_left_seconds {
        let _ = writeln!(text, "lease:    {} left", span(left));
    }
    let _ = writeln!(text, "age:      {}", span(key.age_seconds));
    let _ = writeln!(text, "expires:  in {}", span(key.expires_in_seconds));
    Ok(text)
}

/// The gateway alone has the secret under which scopes and keys become identifiers.
async fn find(admin: &AdminClient, key: &str, whose: cli::Whose) -> anyhow::Result<RecordId> {
    let scope = match whose {
        cli::Whose::Scope(cli::ScopeSpec::Shared) => ScopeSpec::Shared,
        cli::Whose::Scope(cli::ScopeSpec::Anonymous) => ScopeSpec::Anonymous,
        cli::Whose::Scope(cli::ScopeSpec::Principal(name)) => ScopeSpec::Principal(name),
        cli::Whose::Scope(cli::ScopeSpec::Header(value)) => ScopeSpec::Header(value),
        cli::Whose::Authorization(value) => ScopeSpec::Authorization(value),
    };
    let sought = Sought {
        key: key.to_owned(),
        scope,
    };
    let found: Found = admin.post("/api/keys/find", &sought).await?.json()?;
    found
        .id
        .parse()
        .context("the gateway's answer is not understood")
}

async fn resolve(admin: &AdminClient, args: &ResolveArgs) -> anyhow::Result<String> {
    let (how, what) = match &args.outcome {
        OutcomeCommand::NotExecuted => (Resolve::NotExecuted, "not executed"),
        OutcomeCommand::Completed {
            status,
            body_file,
            content_type,
        } => {
            let body = match body_file {
                Some(file) => {
                    let read = std::fs::read_to_string(file);
                    let file = file.display();
                    Some(read.with_context(|| format!("can't read the text in {file}"))?)
                }
                None => None,
            };
            let status = status.as_u16();
            let content_type = content_type.clone();
            (
                Resolve::Completed {
                    status,
                    content_type,
                    body,
                },
                "completed",
            )
        }
    };
    admin
        .post(&format!("/api/keys/{}/resolve", args.id), &how)
        .await?
        .success()?;
    Ok(format!("resolved as {what}: {}\n", args.id))
}

/// Seconds for people.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A client chose the path: nothing in it may steer the operator's terminal.
/// Without what would move a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        assert_eq!(
            [0, 59, 61, 3661, 90_000].map(span),
            ["0s", "59s", "1m1s", "1h1m", "1d1h"]
        );
    }

    #[test]
    fn hazard_54_no_request_steers_the_terminal() {
        assert_eq!(printable("POST /\u{1b}[31mé\n"), "POST /\\u{1b}[31mé\\n");
    }
}
