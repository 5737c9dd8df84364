//! `migrate`: brings a store's tables up to date.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use onlyonce_pipeline_postgres::{PostgresBlocklist, PostgresTokenStore};
use onlyonce_postgres::{Migrated, PostgresStore};

use crate::cli::MigrateArgs;
use crate::config::{StoreUrl, store_url};

pub(crate) async fn run(args: &MigrateArgs) -> anyhow::Result<()> {
    let url = store_url(&args.sources())?;
    let StoreUrl::Postgres(postgres) = &url else {
        say(&format!("{url} has no tables: nothing to do."));
        return Ok(());
    };
    let context = "`url` in [store]";
    if args.check {
        let Migrated { from, to, .. } = PostgresStore::migration(postgres.expose())
            .await
            .context(context)?;
        if from < to {
            bail!("{url} has version {from}, and version {to} is needed: run `onlyonce migrate`");
        }
        let others = PostgresBlocklist::is_migrated(postgres.expose()).await;
        if !others.context(context)? {
            bail!("{url} has no tables for the blocklist: run `onlyonce migrate`");
        }
        say(&format!("{url} is up to date: version {to}."));
        return Ok(());
    }
    let Migrated { from, to, .. } = PostgresStore::migrate(postgres.expose())
        .await
        .context(context)?;
    // What it may keep besides: small as long as nobody uses it.
    let others = PostgresBlocklist::migrate(postgres.expose()).await;
    others.context(context)?;
    let others = PostgresTokenStore::migrate(postgres.expose()).await;
    others.context(context)?;
    say(&if from == to {
        format!("{url} was up to date: version {to}.")
    } else {
        format!("{url} is up to date: version {to}, from {from}.")
    });
    Ok(())
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
