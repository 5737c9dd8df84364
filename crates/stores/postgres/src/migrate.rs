//! Bringing the schema up to date.

use onlyonce_core::{Operation, StoreError, StoreErrorKind};
use std::time::Duration;
use tokio_postgres::Client;

use crate::builder::Builder;
use crate::error::{of_connecting, of_query};
use crate::query::{Caller, Schema};
use crate::store::misconfigured;
use crate::tls;

/// In their order; the first is version 1. Never changed once released.
const MIGRATIONS: [&str; 4] = [
    include_str!("../migrations/0001_records.sql"),
    include_str!("../migrations/0002_transactions.sql"),
    include_str!("../migrations/0003_secret.sql"),
    include_str!("../migrations/0004_lock_timeout.sql"),
];

/// The version that this code works with.
pub(crate) const CURRENT: i32 = MIGRATIONS.len() as i32;

/// Building an index on a large table takes its time.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What a migration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// The version that was found; 0 when there was none.
    pub from: i32,
    /// The version that it has now.
    pub to: i32,
}

/// Migrates over a connection of its own, which nobody waits for.
pub(crate) async fn by_url(url: &str) -> Result<Migrated, StoreError> {
    connected(url, async |client, schema| with(client, schema).await).await
}

/// What there is to do.
pub(crate) async fn look(url: &str) -> Result<Migrated, StoreError> {
    connected(url, async |client, schema| {
        let found = version(client, schema).await;
        let from = found.map_err(|error| of_query(Operation::Open, error))?;
        match from.unwrap_or(0) {
            from if from > CURRENT => Err(newer(schema, from)),
            from => Ok(Migrated { from, to: CURRENT }),
        }
    })
    .await
}

async fn connected(
    url: &str,
    work: impl AsyncFnOnce(&Client, &Schema) -> Result<Migrated, StoreError>,
) -> Result<Migrated, StoreError> {
    let settings = Builder::new(url).check()?;
    let connector = tls::connector(settings.url.ssl_mode, settings.url.ssl_roots.as_deref())?;
    let connecting = settings.url.config.connect(connector);
    let (client, connection) = connecting
        .await
        .map_err(|error| of_connecting(Operation::Open, error))?;
    let connection = tokio::spawn(connection);
    let done = work(&client, &settings.schema).await;
    drop(client);
    // It ends with its client.
    let _ = connection.await;
    done
}

pub(crate) async fn run(caller: &Caller, schema: &Schema) -> Result<Migrated, StoreError> {
    let connecting = caller.connection(Operation::Open);
    let connection = caller.in_time(Operation::Open, connecting).await?;
    let migrated = with(connection.client(), schema).await?;
    connection.give_back();
    Ok(migrated)
}

async fn with(client: &Client, schema: &Schema) -> Result<Migrated, StoreError> {
    let work = async {
        // One transaction, and one at a time: half a migration is none.
        client.batch_execute("BEGIN").await?;
        let lock = "SELECT pg_advisory_xact_lock(hashtext('onlyonce'), hashtext($1))";
        let name = schema.as_str();
        let text = tokio_postgres::types::Type::TEXT;
        client.query_typed(lock, &[(&name, text)]).await?;
        let quoted = schema.quoted();
        let found = version(client, schema).await?;
        let from = found.unwrap_or(0);
        if from > CURRENT {
            client.batch_execute("ROLLBACK").await?;
            return Ok(Err(newer(schema, from)));
        }
        if found.is_none() {
            let begin = format!(
                "CREATE SCHEMA IF NOT EXISTS {quoted};
                 CREATE TABLE {quoted}.migration (
                     version integer PRIMARY KEY,
                     applied timestamptz NOT NULL DEFAULT now()
                 );"
            );
            client.batch_execute(&begin).await?;
        }
        for (text, version) in MIGRATIONS
            .iter()
            .zip(1..)
            .skip(from.unsigned_abs() as usize)
        {
            let text = text
                .replace("{schema}", &quoted)
                .replace("{fence}", &format!("'{quoted}.fence'"))
                .replace("{channel}", &format!("'{}'", schema.channel()))
                .replace("{void}", &format!("'{}'", schema.void_channel()));
            client.batch_execute(&text).await?;
            let note = format!("INSERT INTO {quoted}.migration (version) VALUES ({version})");
            client.batch_execute(&note).await?;
        }
        client.batch_execute("COMMIT").await?;
        Ok(Ok(Migrated { from, to: CURRENT }))
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(of_query(Operation::Open, error)),
        Err(elapsed) => {
            let message = format!("the migration did not end within {PATIENCE:?}");
            Err(
                StoreError::new(Operation::Open, StoreErrorKind::Timeout, message)
                    .with_source(elapsed),
            )
        }
    }
}

/// The version of a schema; `None` where there is none.
pub(crate) async fn version(
    client: &Client,
    schema: &Schema,
) -> Result<Option<i32>, tokio_postgres::Error> {
    let quoted = schema.quoted();
    let there = format!("SELECT to_regclass('{quoted}.migration') IS NOT NULL");
    let there: bool = client.query_typed(&there, &[]).await?[0].try_get(0)?;
    if !there {
        return Ok(None);
    }
    let newest = format!("SELECT coalesce(max(version), 0) FROM {quoted}.migration");
    client.query_typed(&newest, &[]).await?[0]
        .try_get(0)
        .map(Some)
}

pub(crate) fn newer(schema: &Schema, found: i32) -> StoreError {
    misconfigured(format!(
        "the schema `{}` has version {found}, and this Onlyonce knows versions up to {CURRENT}: \
         it is too old for it",
        schema.as_str()
    ))
}
