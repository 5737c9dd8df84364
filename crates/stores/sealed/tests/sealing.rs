//! What lies in the store, and what opens it.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::time::Duration;

use bytes::Bytes;
use onlyonce_core::{
    Attempt, Claim, Completion, Done, Fenced, Inspect as _, Nonce, OnUnknown, Record, RecordId,
    Resolution, Resolved, State, Store, StoreError, StoreErrorKind, StoredResponse, codec,
};
use onlyonce_memory::MemoryStore;
use onlyonce_sealed::{Builder, Compression, Fields, KeyError, KeyRing, Sealed, SealingKey};

const HOUR: Duration = Duration::from_secs(3600);
const SECRET: &[u8] = b"4242 4242 4242 4242";

fn id(number: u8) -> RecordId {
    RecordId::from_bytes([number; 32])
}

fn key(number: u8) -> SealingKey {
    SealingKey::from_bytes([number; 32])
}

fn ring(name: &str, number: u8) -> KeyRing {
    KeyRing::new(name, key(number)).unwrap()
}

fn with(ring: KeyRing) -> Builder {
    Sealed::builder().keys(ring)
}

fn attempt(id: RecordId) -> Attempt {
    Attempt {
        id,
        nonce: Nonce::random(),
        fingerprint: None,
        lease: HOUR,
        keep: HOUR,
        on_unknown: OnUnknown::Hold,
        label: "POST /charges".into(),
    }
}

async fn execute(store: &impl Store, id: RecordId, status: u16, result: Bytes) {
    let Claim::Won(lease) = store.claim(&attempt(id)).await.unwrap() else {
        panic!("nobody has it");
    };
    let completion = Completion {
        fingerprint: None,
        done: Done::Kept { status, result },
    };
    let completed = store.complete(&lease, &completion, HOUR).await;
    assert_eq!(completed.unwrap(), Fenced::Applied);
}

async fn result(store: &impl Store, id: RecordId) -> Result<Bytes, StoreError> {
    let Claim::Held(record) = store.claim(&attempt(id)).await? else {
        panic!("taken for a miss");
    };
    Ok(kept(record))
}

fn kept(record: Record) -> Bytes {
    match record.state {
        State::Completed {
            kept: Some(kept), ..
        } => kept,
        state => panic!("{state:?}"),
    }
}

#[tokio::test]
async fn hazard_34_no_response_lies_in_the_store_in_clear() {
    for compression in [Compression::None, Compression::Lz4] {
        let memory = MemoryStore::new();
        let sealed = with(ring("k1", 1))
            .compression(compression)
            .build(memory.clone());
        let body = SECRET.repeat(100);
        execute(&sealed, id(1), 201, body.clone().into()).await;
        let stored = kept(memory.show(&id(1)).await.unwrap().unwrap());
        assert!(!stored.windows(SECRET.len()).any(|window| window == SECRET));
        assert_eq!(stored.len() < body.len(), compression == Compression::Lz4);
        assert_eq!(result(&sealed, id(1)).await.unwrap(), body);
        assert_eq!(kept(sealed.show(&id(1)).await.unwrap().unwrap()), body);
    }
}

#[tokio::test]
async fn keys_change_while_the_store_runs() {
    let memory = MemoryStore::new();
    let sealed = with(ring("k1", 1)).build(memory.clone());
    execute(&sealed, id(1), 200, "old".into()).await;
    sealed
        .keys()
        .replace(ring("k2", 2).with_key("k1", key(1)).unwrap());
    execute(&sealed, id(2), 200, "new".into()).await;
    assert_eq!(result(&sealed, id(1)).await.unwrap(), "old");
    assert_eq!(result(&sealed, id(2)).await.unwrap(), "new");
    // Another node, which has not heard of the new key.
    let behind = with(ring("k1", 1)).build(memory);
    let error = result(&behind, id(2)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert!(error.to_string().contains("`k2`"), "{error}");
    let error = behind.show(&id(2)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
}

/// Whoever can write to the store moves a response to another record, or changes its status.
#[tokio::test]
async fn what_was_moved_or_altered_does_not_open() {
    let memory = MemoryStore::new();
    let sealed = with(ring("k1", 1)).build(memory.clone());
    execute(&sealed, id(1), 200, "the first".into()).await;
    let stored = kept(memory.show(&id(1)).await.unwrap().unwrap());
    execute(&memory, id(2), 200, stored.clone()).await;
    execute(&memory, id(3), 201, stored.clone()).await;
    for number in [2, 3] {
        let error = result(&sealed, id(number)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    }
    let renamed = with(ring("k1", 2)).build(memory.clone());
    let error = result(&renamed, id(1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    // Every byte counts, and so does the end.
    for at in 0..=stored.len() {
        let mut altered = stored.to_vec();
        match altered.get_mut(at) {
            Some(byte) => *byte ^= 1,
            None => altered.truncate(at - 1),
        }
        let taken = memory.forget(&id(1)).await.unwrap();
        assert_eq!(taken, Resolved::Applied);
        execute(&memory, id(1), 200, altered.into()).await;
        result(&sealed, id(1)).await.unwrap_err();
    }
}

#[tokio::test]
async fn plain_results_are_read_only_where_that_is_accepted() {
    let memory = MemoryStore::new();
    execute(&memory, id(1), 200, "from before".into()).await;
    let packed = Sealed::builder()
        .compression(Compression::Lz4)
        .build(memory.clone());
    let long = Bytes::from(SECRET.repeat(100));
    execute(&packed, id(2), 200, long.clone()).await;
    let strict = with(ring("k1", 1)).build(memory.clone());
    for number in [1, 2] {
        let error = result(&strict, id(number)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains("accept_plain"), "{error}");
    }
    for reader in [with(ring("k1", 1)).accept_plain(true), Sealed::builder()] {
        let reader = reader.build(memory.clone());
        assert_eq!(result(&reader, id(1)).await.unwrap(), "from before");
        assert_eq!(result(&reader, id(2)).await.unwrap(), long);
    }
}

#[tokio::test]
async fn hazard_50_a_decompression_bomb_stays_small() {
    let memory = MemoryStore::new();
    let mut bomb = vec![0xf5, b'o', b's', 1, 0, 1];
    bomb.extend(u32::MAX.to_le_bytes());
    bomb.extend([0; 64]);
    execute(&memory, id(1), 200, bomb.into()).await;
    let reader = Sealed::builder()
        .max_unpacked(usize::MAX)
        .build(memory.clone());
    let error = result(&reader, id(1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    let packed = Sealed::builder().compression(Compression::Lz4);
    let long = Bytes::from(vec![7; 100_000]);
    execute(
        &packed.clone().build(memory.clone()),
        id(2),
        200,
        long.clone(),
    )
    .await;
    let small = packed.max_unpacked(99_999).build(memory.clone());
    let error = result(&small, id(2)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    // What it would not read it does not make.
    execute(&small, id(3), 200, long.clone()).await;
    assert_eq!(result(&small, id(3)).await.unwrap(), long);
}

fn response(kind: &str, coding: Option<&str>, body: &'static str) -> StoredResponse {
    let mut headers = vec![
        ("set-cookie".parse().unwrap(), "session=1".parse().unwrap()),
        ("content-type".parse().unwrap(), kind.parse().unwrap()),
    ];
    if let Some(coding) = coding {
        headers.push(("content-encoding".parse().unwrap(), coding.parse().unwrap()));
    }
    StoredResponse {
        status: 201,
        headers,
        body: body.into(),
        trailers: vec![("set-cookie".parse().unwrap(), "late=1".parse().unwrap())],
    }
}

#[test]
fn fields_are_taken_out_and_the_rest_stays_byte_by_byte() {
    let pointers = ["/card/number", "/list/1", "/a~1b", "/card/number/0"];
    let fields = Fields::new(["set-cookie".parse().unwrap()], pointers).unwrap();
    let body = r#"{ "card" : {"number": {"0":"4242"}, "x":1e400}, "list":[1, 20 ,3],"a/b":"s", "card":{"number":5} }"#;
    let scrubbed = fields
        .scrub(response("application/json; charset=utf-8", None, body))
        .unwrap();
    let left = r#"{ "card" : {"number": null, "x":1e400}, "list":[1, null ,3],"a/b":null, "card":{"number":null} }"#;
    assert_eq!(scrubbed.body, left);
    assert_eq!(scrubbed.headers.len(), 1);
    assert!(scrubbed.trailers.is_empty());
    // Nothing there to take out.
    for body in [
        "[]",
        "7",
        "\"s\"",
        "null",
        "true",
        "-1",
        "1.5",
        "",
        "{\"card\":3}",
    ] {
        let scrubbed = fields
            .scrub(response("application/problem+json", None, body))
            .unwrap();
        assert_eq!(scrubbed.body, body);
    }
    // What can't be looked into is not kept; what is no JSON is not looked into.
    assert_eq!(
        fields.scrub(response("application/json", Some("gzip"), "x")),
        None
    );
    assert_eq!(
        fields.scrub(response("application/json", None, "{\"card\":")),
        None
    );
    assert!(
        fields
            .scrub(response("text/plain", Some("gzip"), "x"))
            .is_some()
    );
    for bad in ["", "card", "/a~2", "/a~"] {
        Fields::new([], [bad]).unwrap_err();
    }
}

#[tokio::test]
async fn scrubbed_fields_are_not_in_the_record() {
    let memory = MemoryStore::new();
    let fields = Fields::new(["set-cookie".parse().unwrap()], ["/token"]).unwrap();
    let scrubbing = with(ring("k1", 1)).scrub(move |response| fields.scrub(response));
    let sealed = scrubbing.build(memory);
    let whole = response("application/json", None, r#"{"token":"t"}"#);
    execute(&sealed, id(1), 201, codec::encode_response(&whole)).await;
    let kept = codec::decode_response(result(&sealed, id(1)).await.unwrap()).unwrap();
    assert_eq!(kept.body, r#"{"token":null}"#);
    assert_eq!(kept.headers.len(), 1);
    let coded = response("application/json", Some("br"), "x");
    execute(&sealed, id(2), 201, codec::encode_response(&coded)).await;
    let record = sealed.show(&id(2)).await.unwrap().unwrap();
    let not_kept = State::Completed {
        status: 201,
        kept: None,
    };
    assert_eq!(record.state, not_kept);
    // A function's result is no response.
    execute(&sealed, id(3), 0, "{\"token\":\"t\"}".into()).await;
    assert_eq!(result(&sealed, id(3)).await.unwrap(), "{\"token\":\"t\"}");
}

#[tokio::test]
async fn what_an_operator_resolves_is_sealed_too() {
    let memory = MemoryStore::new();
    let sealed = with(ring("k1", 1)).build(memory.clone());
    let Claim::Won(lease) = sealed.claim(&attempt(id(1))).await.unwrap() else {
        panic!("nobody has it");
    };
    let unknown = Completion {
        fingerprint: None,
        done: Done::Unknown,
    };
    assert_eq!(
        sealed.complete(&lease, &unknown, HOUR).await.unwrap(),
        Fenced::Applied
    );
    let resolution = Resolution::Completed {
        status: 200,
        result: Some(SECRET.into()),
    };
    assert_eq!(
        sealed.resolve(&id(1), &resolution).await.unwrap(),
        Resolved::Applied
    );
    let stored = kept(memory.show(&id(1)).await.unwrap().unwrap());
    assert!(!stored.windows(SECRET.len()).any(|window| window == SECRET));
    assert_eq!(result(&sealed, id(1)).await.unwrap(), SECRET);
}

#[test]
fn hazard_34_keys_do_not_show() {
    let ring = ring("k1", 0xab).with_key("k2", key(2)).unwrap();
    assert_eq!(
        format!("{ring:?}"),
        r#"KeyRing { active: "k1", names: ["k1", "k2"] }"#
    );
    assert_eq!(format!("{:?}", key(1)), "SealingKey([hidden])");
}

#[test]
fn what_is_no_key_is_said() {
    for bad in [
        "",
        "AAAA",
        "not base64 at all, and too long for one anyway!!",
        &"A".repeat(44),
    ] {
        assert_eq!(SealingKey::from_base64(bad).unwrap_err(), KeyError::NotAKey);
    }
    SealingKey::from_base64(" AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    assert_eq!(KeyRing::new("a b", key(1)).unwrap_err(), KeyError::Name);
    assert_eq!(KeyRing::new("", key(1)).unwrap_err(), KeyError::Name);
    let twice = ring("k1", 1).with_key("k1", key(2)).unwrap_err();
    assert_eq!(twice, KeyError::Twice("k1".into()));
}
