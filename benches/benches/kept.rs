//! Memory for each kept key in the memory store, as the process sees it.
//!
//! `cargo bench -p onlyonce-benches --bench kept`
//!
//! The disk store's is among what `--bench disk` prints.

mod records;

use onlyonce_core::{Claim, Fenced, Store as _};
use onlyonce_memory::MemoryStore;
use records::{DAY, attempt, completion, resident};

const KEYS: u64 = 200_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime can be started");
    // None is dropped before the end: what it gives back would hide what the next one takes.
    let mut stores = Vec::new();
    for result in [0, 300, 4096] {
        let before = resident();
        let store = MemoryStore::builder().max_bytes(8 << 30).build();
        runtime.block_on(fill(&store, result));
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
        let Ok(Claim::Won(lease)) = store.claim(&attempt(number)).await else {
            panic!("there is room for the key, and nobody else uses it");
        };
        let fenced = store.complete(&lease, &completion(result), DAY).await;
        assert_eq!(fenced.ok(), Some(Fenced::Applied));
    }
}
