//! What a server's refusal, or its silence, means.

use deadpool_postgres::PoolError;
use onlyonce_core::{Operation, StoreError, StoreErrorKind};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// What went wrong with a statement.
pub(crate) fn of_query(operation: Operation, error: Error) -> StoreError {
    use StoreErrorKind::{Corrupt, Full, Misconfigured, Unavailable};
    let Some(said) = error.as_db_error() else {
        let (kind, message) = if error.is_closed() || caused_by_io(&error) {
            (
                Unavailable,
                "the connection to PostgreSQL broke; the step may or may not be done",
            )
        } else {
            (
                Corrupt,
                "PostgreSQL answers in a way that is not understood",
            )
        };
        return StoreError::new(operation, kind, message).with_source(error);
    };
    let (kind, message) = match said.code() {
        &SqlState::DISK_FULL => (Full, "the server's disk is full"),
        &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            if said.message().contains("pg_hba.conf") =>
        {
            (
                Misconfigured,
                "the server's pg_hba.conf does not let this user in from here, with the TLS or \
             without it that `sslmode` asks for",
            )
        }
        &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => (
            Misconfigured,
            "the server refuses the user or the password of the URL",
        ),
        &SqlState::INVALID_CATALOG_NAME => (
            Misconfigured,
            "the server has no database of the URL's name",
        ),
        &SqlState::INSUFFICIENT_PRIVILEGE => (
            Misconfigured,
            "the user lacks a right: grant it, or migrate as the user who works here",
        ),
        &SqlState::UNDEFINED_TABLE
        | &SqlState::UNDEFINED_FUNCTION
        | &SqlState::INVALID_SCHEMA_NAME => (
            Misconfigured,
            "the schema is not there, or of another version: run `onlyonce migrate`",
        ),
        &SqlState::READ_ONLY_SQL_TRANSACTION => {
            (Unavailable, "the server takes no writes: it is a replica")
        }
        _ => (Unavailable, "PostgreSQL refuses the step just now"),
    };
    StoreError::new(operation, kind, message).with_source(error)
}

/// What went wrong on the way to a connection.
pub(crate) fn of_pool(operation: Operation, error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => of_connecting(operation, error),
        error => StoreError::new(
            operation,
            StoreErrorKind::Unavailable,
            "no connection to PostgreSQL is free",
        )
        .with_source(error),
    }
}

/// What went wrong while connecting.
pub(crate) fn of_connecting(operation: Operation, error: Error) -> StoreError {
    if error.as_db_error().is_some() {
        return of_query(operation, error);
    }
    let text = error.to_string();
    let (kind, message) = if let Some(why) = tls_refusal(&error) {
        (StoreErrorKind::Misconfigured, why)
    } else if text.contains("TLS") {
        (
            StoreErrorKind::Misconfigured,
            "no TLS connection comes about: look at `sslmode`, `sslrootcert` and the server's \
             certificate",
        )
    } else if text.contains("password missing") || text.contains("invalid configuration") {
        (
            StoreErrorKind::Misconfigured,
            "the server asks for a password, and the URL has none",
        )
    } else {
        (StoreErrorKind::Unavailable, "PostgreSQL can't be reached")
    };
    StoreError::new(operation, kind, message).with_source(error)
}

/// Why there is no TLS, where that can be told.
fn tls_refusal(error: &Error) -> Option<&'static str> {
    use rustls::CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    let source = std::error::Error::source(error)?;
    if source.to_string() == "server does not support TLS" {
        return Some("the server speaks no TLS, and `sslmode` asks for it");
    }
    let io = source.downcast_ref::<std::io::Error>()?;
    let tls = io.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(why) = tls else {
        return None;
    };
    Some(match why {
        UnknownIssuer | BadSignature => {
            "the server's certificate is from none of the authorities that are trusted: look at \
             `sslrootcert`"
        }
        NotValidForName | NotValidForNameContext { .. } => {
            "the server's certificate is for another host than the URL's: look at the URL, or at \
             `sslmode=verify-ca`"
        }
        Expired | ExpiredContext { .. } => "the server's certificate has expired",
        NotValidYet | NotValidYetContext { .. } => "the server's certificate is not valid yet",
        _ => "the server's certificate is not valid",
    })
}

/// Whether the statement's connection is gone, so that another may do better.
pub(crate) fn is_lost(error: &Error) -> bool {
    error.is_closed() || (error.as_db_error().is_none() && caused_by_io(error))
}

fn caused_by_io(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<std::io::Error>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// An answer that none of our functions gives.
pub(crate) fn strange(operation: Operation, error: Error) -> StoreError {
    StoreError::new(
        operation,
        StoreErrorKind::Corrupt,
        "the database holds something in a record's place that this version of Onlyonce can't read",
    )
    .with_source(error)
}
