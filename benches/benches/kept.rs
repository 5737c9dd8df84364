//! Memory for each kept key in the memory store, as the process sees it.
//!
//! `cargo bench -p onlyonce-benches --bench kept`
//!
//! The disk store's is among what `--bench disk` prints.

use std::time::Duration;

use onlyonce_core::{
    Attempt, Claim, Completion, Done, Fenced, Fingerprint, Nonce, OnUnknown, RecordId, Store as _,
};
use onlyonce_memory::MemoryStore;

const KEYS: u64 = 200_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn main() {
    // None is dropped before the end: what it gives back would hide what the next one takes.
    let mut stores = Vec::new();
    for result in [0, 300, 4096] {
        let before = resident();
        let store = MemoryStore::builder().max_bytes(8 << 30).build();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime
            .expect("a runtime can be started")
            .block_on(fill(&store, result));
        let taken = resident().saturating_sub(before) / KEYS;
        let counted = store.bytes() as u64 / KEYS;
        println!(
            "memory store, {KEYS} kept keys with results of {result} bytes: {taken} bytes each \
             as the process sees it, {counted} as the store counts them"
        );
        stores.push(store);
    }
}

async fn fill(store: &MemoryStore, result: usize) {
    for number in 0..KEYS {
        let attempt = Attempt {
            // Spread as the real ones are.
            id: RecordId::from_bytes(*Fingerprint::of(&number.to_le_bytes()).digest()),
            nonce: Nonce::random(),
            fingerprint: Some(Fingerprint::of(b"POST /v1/charges")),
            lease: Duration::from_secs(10),
            keep: DAY,
            on_unknown: OnUnknown::Hold,
            label: "POST /v1/charges".into(),
        };
        let Ok(Claim::Won(lease)) = store.claim(&attempt).await else {
            panic!("there is room for the key, and nobody else uses it");
        };
        let result = vec![b'x'; result].into();
        let done = Completion {
            fingerprint: None,
            done: Done::Kept {
                status: 201,
                result,
            },
        };
        let fenced = store.complete(&lease, &done, DAY).await;
        assert_eq!(fenced.ok(), Some(Fenced::Applied));
    }
}

/// Bytes of memory that the process holds.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
