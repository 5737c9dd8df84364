//! A look at the server before anything is entrusted to it.

use std::fmt;

use onlyonce_core::{Operation, StoreError};

use crate::error::of_query;
use crate::migrate::{self, CURRENT};
use crate::query::{Caller, Schema};
use crate::store::misconfigured;

/// Something about the server that may lose records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// `synchronous_commit` is off for this user or database: the last moments before a crash are
    /// lost, though they were acknowledged.
    AsynchronousCommit,
    /// `fsync` or `full_page_writes` is off: a crash may lose or damage anything.
    NotDurable,
    /// There are replicas, and none that is waited for: a failover loses what they had not got.
    AsynchronousReplicas,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsynchronousCommit => {
                "PostgreSQL acknowledges before it has written (`synchronous_commit` is off): a \
                 crash loses the last records, and their requests may execute again. Turn it on \
                 for this user: ALTER ROLE … SET synchronous_commit = on"
            }
            Self::NotDurable => {
                "PostgreSQL does not write durably (`fsync` or `full_page_writes` is off): a crash \
                 of the machine may lose or damage all records"
            }
            Self::AsynchronousReplicas => {
                "PostgreSQL has replicas and waits for none of them: when one of them is promoted, \
                 the last records are lost, and their requests may execute again. Set \
                 `synchronous_standby_names`"
            }
        })
    }
}

const OLDEST: i32 = 130_000;

/// What may go wrong with this server; refuses one that can't work.
pub(crate) async fn examine(caller: &Caller, schema: &Schema) -> Result<Vec<Warning>, StoreError> {
    const OPERATION: Operation = Operation::Open;
    let quoted = schema.quoted();
    let work = async {
        let connection = caller.connection(OPERATION).await?;
        let failed = |error| of_query(OPERATION, error);
        let facts = "SELECT current_setting('server_version_num')::integer, pg_is_in_recovery(), \
                     current_setting('default_transaction_isolation'), \
                     current_setting('synchronous_commit'), \
                     current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on', \
                     current_setting('synchronous_standby_names') = '' \
                         AND EXISTS (SELECT FROM pg_stat_replication), \
                     current_setting('server_version'), current_user::text, \
                     current_setting('default_transaction_read_only') = 'on'";
        let rows = connection.client().query_typed(facts, &[]).await;
        let row = rows.map_err(failed)?.remove(0);
        let (number, is_replica): (i32, bool) = (row.get(0), row.get(1));
        let isolation: &str = row.get(2);
        if number < OLDEST {
            let version: &str = row.get(6);
            return Err(misconfigured(format!(
                "PostgreSQL {version} is too old: 13 or newer is needed"
            )));
        }
        if is_replica {
            return Err(misconfigured(
                "the server is a replica and takes no writes: name the primary, or all of them \
                 with `target_session_attrs=read-write`",
            ));
        }
        if isolation != "read committed" {
            return Err(misconfigured(format!(
                "`default_transaction_isolation` is `{isolation}` for this user or database; it \
                 must be `read committed`: ALTER ROLE … SET default_transaction_isolation = \
                 'read committed'"
            )));
        }
        if row.get(8) {
            return Err(misconfigured(
                "`default_transaction_read_only` is on for this user or database, and nothing can \
                 be written: ALTER ROLE … SET default_transaction_read_only = off",
            ));
        }
        match migrate::version(connection.client(), schema)
            .await
            .map_err(failed)?
        {
            Some(version) if version == CURRENT => {}
            Some(version) if version > CURRENT => return Err(migrate::newer(schema, version)),
            found => {
                let name = schema.as_str();
                let has = match found {
                    None => format!("the database has no schema `{name}` of ours"),
                    Some(version) => format!("the schema `{name}` has version {version}"),
                };
                return Err(misconfigured(format!(
                    "{has}, and version {CURRENT} is needed: run `onlyonce migrate`, or add \
                     `migrate=auto` to the URL"
                )));
            }
        }
        let rights = format!(
            "SELECT has_table_privilege('{quoted}.record', 'SELECT') \
                AND has_table_privilege('{quoted}.record', 'INSERT') \
                AND has_table_privilege('{quoted}.record', 'UPDATE') \
                AND has_table_privilege('{quoted}.record', 'DELETE') \
                AND has_table_privilege('{quoted}.watch', 'INSERT') \
                AND has_table_privilege('{quoted}.watch', 'SELECT') \
                AND has_table_privilege('{quoted}.watch', 'DELETE') \
                AND has_table_privilege('{quoted}.secret', 'INSERT') \
                AND has_table_privilege('{quoted}.secret', 'SELECT') \
                AND has_sequence_privilege('{quoted}.fence', 'USAGE')"
        );
        let rows = connection.client().query_typed(&rights, &[]).await;
        if !rows.map_err(failed)?.remove(0).get::<_, bool>(0) {
            let user: &str = row.get(7);
            let name = schema.as_str();
            return Err(misconfigured(format!(
                "the user `{user}` lacks rights in the schema `{name}`: GRANT USAGE ON SCHEMA, \
                 SELECT, INSERT, UPDATE, DELETE ON ALL TABLES and USAGE ON ALL SEQUENCES in it"
            )));
        }
        let mut warnings = Vec::new();
        if row.get::<_, &str>(3) == "off" {
            warnings.push(Warning::AsynchronousCommit);
        }
        if !row.get::<_, bool>(4) {
            warnings.push(Warning::NotDurable);
        }
        if row.get(5) {
            warnings.push(Warning::AsynchronousReplicas);
        }
        connection.give_back();
        Ok(warnings)
    };
    caller.in_time(OPERATION, work).await
}
