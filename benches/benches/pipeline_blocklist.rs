//! What a lookup in the blocklist costs, and a change, by the number of entries.
//!
//! `cargo bench -p onlyonce-benches --bench pipeline_blocklist`
//!
//! Half of the entries are IPv4 addresses, a quarter IPv4 networks of 16 to 31 bits, a quarter IPv6
//! networks of 32 to 64 bits, all at random. Looked up are addresses that an entry names, and random
//! ones: a thousand clients again and again, and so many that nothing of them stays in the
//! processor's caches. Beside them stands what one read of memory takes that has to wait for the one
//! before it. CPU time is measured.

#[expect(dead_code, reason = "others need all of it")]
mod cpu;
#[expect(dead_code, reason = "others need all of it")]
mod records;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use cpu::CpuTime;
use criterion::measurement::Measurement as _;
use onlyonce_core::Clock as _;
use onlyonce_core::ManualClock;
use onlyonce_pipeline::blocklist::{
    Blocklist, BlocklistOptions, BlocklistStore as _, Draft, MemoryBlocklist,
};
use records::resident;

const SIZES: [usize; 3] = [100, 10_000, 1_000_000];
const FEW: usize = 1_000;
const MANY: usize = 1 << 17;
/// Lookups in all.
const LOOKUPS: usize = 1 << 21;
const EDITS: u32 = 500;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build();
    let runtime = runtime.expect("a runtime can be started");
    for size in SIZES {
        runtime.block_on(measure(size));
    }
}

async fn measure(size: usize) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let store = MemoryBlocklist::new();
    let now = ManualClock::new().now();
    let mut named = Vec::with_capacity(size);
    for _ in 0..size {
        let (ip, address) = entry(&mut random);
        let added = store.add(&Draft::new(ip), now).await;
        added.expect("a store in memory takes all");
        named.push(address);
    }

    let before = resident();
    let started = CpuTime.start();
    // Nothing else is to happen meanwhile.
    let hour = Duration::from_secs(3600);
    let options = BlocklistOptions::new().with_poll(hour).with_flush(hour);
    let list = Blocklist::load_with(store, options).await;
    let list = list.expect("there is room for all");
    let loaded = CpuTime.end(started);
    let taken = resident().saturating_sub(before);

    let mut hits = |count| -> Vec<IpAddr> {
        let pick = |_| named[random.below(named.len())];
        (0..count).map(pick).collect()
    };
    let [few_hits, many_hits] = [FEW, MANY].map(|count| lookups(&list, &hits(count)));
    let mut misses = |count| -> Vec<IpAddr> { (0..count).map(|_| random.address()).collect() };
    let [few_misses, many_misses] = [FEW, MANY].map(|count| lookups(&list, &misses(count)));

    let started = CpuTime.start();
    for number in 0..EDITS {
        let [_, _, a, b] = number.to_be_bytes();
        let entry = list.add(&Draft::new(format!("240.0.{a}.{b}"))).await;
        let entry = entry.expect("a store in memory takes all");
        list.remove(entry.id).await.expect("it is there");
    }
    let edit = CpuTime.end(started) / (2 * EDITS);

    println!(
        "{size:>9} entries | again and again: {few_hits:>4.0} ns hit, {few_misses:>4.0} ns miss | \
         never before: {many_hits:>4.0} ns hit, {many_misses:>4.0} ns miss | a change {edit:?} | \
         loaded in {loaded:.1?}, {} bytes each | a read of {} MB {:.0} ns",
        taken / size as u64,
        taken >> 20,
        read(usize::try_from(taken).unwrap_or(0)),
    );
}

/// Nanoseconds for one of these lookups: the median of the rounds.
fn lookups(list: &Blocklist, addresses: &[IpAddr]) -> f64 {
    let mut rounds = vec![0.0; LOOKUPS / addresses.len()];
    for round in &mut rounds {
        let started = CpuTime.start();
        for address in addresses {
            black_box(list.find(black_box(*address)));
        }
        *round = CpuTime.to_f64(&CpuTime.end(started)) / addresses.len() as f64;
    }
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// Nanoseconds for a read at random within so many bytes, which the next one waits for.
fn read(bytes: usize) -> f64 {
    let words = (bytes / 8).next_power_of_two().max(1024);
    // A walk through all of them, by an odd step and an odd factor.
    let next: Vec<usize> = (0..words)
        .map(|at| (at.wrapping_mul(0x5_deec_e66d) + 11) & (words - 1))
        .collect();
    let (mut at, count) = (0, 1 << 20);
    let started = CpuTime.start();
    for _ in 0..count {
        at = next[black_box(at)];
    }
    CpuTime.to_f64(&CpuTime.end(started)) / f64::from(count)
}

/// What is written in an entry, and an address that it names.
fn entry(random: &mut Random) -> (String, IpAddr) {
    let number = random.next();
    let v4 = Ipv4Addr::from((number >> 32) as u32);
    match number % 4 {
        0 | 1 => (v4.to_string(), v4.into()),
        2 => (format!("{v4}/{}", 16 + random.below(16)), v4.into()),
        _ => {
            let v6 = Ipv6Addr::from((u128::from(number) << 64) | u128::from(random.next()));
            (format!("{v6}/{}", 32 + random.below(33)), v6.into())
        }
    }
}

/// A sequence that looks random, the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }

    fn address(&mut self) -> IpAddr {
        match self.next() {
            number if number % 4 == 3 => {
                Ipv6Addr::from((u128::from(number) << 64) | u128::from(self.next())).into()
            }
            number => Ipv4Addr::from((number >> 32) as u32).into(),
        }
    }
}
