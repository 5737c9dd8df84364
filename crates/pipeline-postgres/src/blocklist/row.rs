//! Entries as the tables have them.

use onlyonce_core::Timestamp;
use onlyonce_pipeline::blocklist::{Entry, EntryId, Listing, Status, Unreadable};
use tokio_postgres::{Error, Row};

/// The columns that [`read_row`] reads.
pub(super) fn columns(schema: &str) -> String {
    format!(
        "id, ip, remark, status, {schema}.blocklist_millis(created) AS created, \
         {schema}.blocklist_millis(updated) AS updated, \
         {schema}.blocklist_millis(expires) AS expires"
    )
}

/// Adds an entry, or what is wrong with it.
pub(super) fn read_row(listing: &mut Listing, row: &Row) -> Result<(), Error> {
    match name(row)? {
        Ok(id) => listing.entries.push(entry(id, row)?),
        Err(number) => listing.unreadable.push(Unreadable {
            id: None,
            reason: format!("entry {number}: a name is no negative number"),
        }),
    }
    Ok(())
}

/// A row's name, if it can be one.
pub(super) fn name(row: &Row) -> Result<Result<EntryId, i64>, Error> {
    let number: i64 = row.try_get("id")?;
    Ok(u64::try_from(number).map(EntryId).map_err(|_| number))
}

pub(super) fn entry(id: EntryId, row: &Row) -> Result<Entry, Error> {
    let status: i16 = row.try_get("status")?;
    Ok(Entry {
        id,
        ip: row.try_get("ip")?,
        remark: row.try_get("remark")?,
        status: Status::of_number(status.into()),
        created: time(row, "created")?.unwrap_or_default(),
        updated: time(row, "updated")?.unwrap_or_default(),
        expires: time(row, "expires")?,
        hits: 0,
    })
}

fn time(row: &Row, column: &str) -> Result<Option<Timestamp>, Error> {
    let millis: Option<i64> = row.try_get(column)?;
    Ok(millis.map(|millis| Timestamp::from_millis(millis.unsigned_abs())))
}
