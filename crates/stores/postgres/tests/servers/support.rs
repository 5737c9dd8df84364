//! Requests, and stores to send them to.

use std::error::Error as _;
use std::time::Duration;

use onlyonce_core::{
    Attempt, Claim, Completion, Done, Fenced, Fingerprint, Lease, Nonce, OnUnknown, Record,
    RecordId, State, Store as _, StoreError,
};
use onlyonce_postgres::{Builder, PostgresStore};

pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// A store with patience, in a schema that it makes.
pub(crate) async fn connect(url: &str) -> PostgresStore {
    open(PostgresStore::builder(url).timeout(Duration::from_secs(10))).await
}

pub(crate) async fn open(builder: Builder) -> PostgresStore {
    let connected = builder.migrate(true).connect().await;
    connected.unwrap_or_else(|error| panic!("{error}: {:?}", error.source()))
}

/// Asks the server something itself.
pub(crate) async fn sql(url: &str, statements: &str) -> Vec<Option<String>> {
    let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    let connection = tokio::spawn(connection);
    let messages = client.simple_query(statements).await.unwrap();
    drop(client);
    let _ = connection.await;
    let first = |message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
        _ => None,
    };
    messages.into_iter().filter_map(first).collect()
}

/// That an error says nothing of a secret, nor anything behind it.
pub(crate) fn assert_hides(error: &StoreError, secret: &str) {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        assert!(!error.to_string().contains(secret), "{error}");
        assert!(!format!("{error:?}").contains(secret), "{error:?}");
        source = error.source();
    }
}

pub(crate) fn new_id() -> RecordId {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Nonce::random().as_bytes());
    bytes[16..].copy_from_slice(Nonce::random().as_bytes());
    RecordId::from_bytes(bytes)
}

pub(crate) fn bid(id: RecordId) -> Attempt {
    Attempt {
        id,
        nonce: Nonce::random(),
        fingerprint: Some(Fingerprint::of(b"the request")),
        lease: LONG,
        keep: LONG,
        on_unknown: OnUnknown::Hold,
        label: "POST /test".into(),
    }
}

pub(crate) fn retry_of(bid: &Attempt) -> Attempt {
    Attempt {
        nonce: Nonce::random(),
        ..bid.clone()
    }
}

pub(crate) fn done(result: &'static str) -> Completion {
    Completion {
        fingerprint: None,
        done: Done::Kept {
            status: 201,
            result: result.into(),
        },
    }
}

pub(crate) async fn win(store: &PostgresStore, bid: &Attempt) -> Lease {
    match store.claim(bid).await {
        Ok(Claim::Won(lease)) => lease,
        other => panic!("the claim should have been won: {other:?}"),
    }
}

pub(crate) async fn held(store: &PostgresStore, bid: &Attempt) -> Record {
    match store.claim(&retry_of(bid)).await {
        Ok(Claim::Held(record)) => record,
        other => panic!("the claim should have been held: {other:?}"),
    }
}

pub(crate) async fn complete(store: &PostgresStore, lease: &Lease, result: &'static str) {
    let completed = store.complete(lease, &done(result), LONG).await;
    assert_eq!(completed.unwrap(), Fenced::Applied);
}

pub(crate) fn result_of(record: &Record) -> Option<&[u8]> {
    match &record.state {
        State::Completed { kept, .. } => kept.as_deref(),
        State::InProgress { .. } | State::Unknown => None,
    }
}

/// Does `step` until it succeeds, but not for ever: as the engine does while a store is away.
pub(crate) async fn eventually<T>(
    what: &str,
    mut step: impl AsyncFnMut() -> Result<T, StoreError>,
) -> T {
    let trying = async {
        loop {
            match step().await {
                Ok(value) => return value,
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{what}: {error}: {:?}", error.source()),
            }
        }
    };
    let limit = Duration::from_secs(30);
    let done = tokio::time::timeout(limit, trying).await;
    done.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
}
