//! BLAKE3 against SHA-256, by size: which of them hashes requests faster.
//!
//! `cargo bench -p onlyonce-benches --bench fingerprint`
//!
//! "as used" is `FingerprintHasher`: domain separation and all. The others are the bare hashes.

mod cpu;

use std::hint::black_box;

use cpu::CpuTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onlyonce_core::FingerprintHasher;
use sha2::{Digest as _, Sha256};

criterion_group! {
    name = benches;
    config = cpu::criterion();
    targets = fingerprint
}
criterion_main!(benches);

const SIZES: [(&str, usize); 4] = [
    ("64 B", 64),
    ("1 KiB", 1024),
    ("64 KiB", 64 * 1024),
    ("1 MiB", 1024 * 1024),
];

fn fingerprint(criterion: &mut Criterion<CpuTime>) {
    for (name, size) in SIZES {
        let mut group = criterion.benchmark_group(format!("hash {name}"));
        group.throughput(Throughput::Bytes(size as u64));
        let input = vec![b'x'; size];
        group.bench_function("BLAKE3", |bencher| {
            bencher.iter(|| *blake3::hash(black_box(&input)).as_bytes());
        });
        group.bench_function("SHA-256", |bencher| {
            bencher.iter(|| -> [u8; 32] { Sha256::digest(black_box(&input)).into() });
        });
        group.bench_function("as used", |bencher| {
            bencher.iter(|| {
                let mut hasher = FingerprintHasher::new();
                hasher.body(black_box(&input));
                hasher.finish()
            });
        });
        group.finish();
    }
}
