//! Every target over its seeds, and over some thousands of inputs made from them.
//!
//! The same inputs on every run: a failure here is a failure everywhere. Finding new inputs is
//! the fuzzer's work; an input that it fails on becomes a seed.

use std::panic::catch_unwind;
use std::path::Path;

use onlyonce_fuzz_targets as targets;

/// One test for each target, named after it.
macro_rules! smoke {
    ($($target:ident: $inputs:literal,)*) => { $(
        #[test]
        fn $target() {
            smoke(stringify!($target), targets::$target, $inputs);
        }
    )* };
}

smoke! {
    codec_entry: 50_000,
    codec_response: 50_000,
    config: 500,
    fingerprint: 2_000,
    http_front: 20_000,
    key_parser: 50_000,
    record_id: 50_000,
}

fn smoke(name: &str, target: fn(&[u8]), inputs: usize) {
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "fuzz/seeds/{name} has seeds");
    seeds
        .iter()
        .for_each(|(file, seed)| run(target, seed, file));
    let mut maker = Maker {
        seeds,
        random: Random(0x5eed),
    };
    for number in 0..inputs {
        run(target, &maker.make(), &format!("made input {number}"));
    }
}

/// Runs the target, and shows its input when it fails.
fn run(target: fn(&[u8]), input: &[u8], origin: &str) {
    if catch_unwind(|| target(input)).is_err() {
        panic!(
            "the target failed on {origin}: \"{}\"",
            input.escape_ascii()
        );
    }
}

fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../seeds")
        .join(name);
    let mut seeds: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let path = entry.expect("the folder can be listed").path();
            (
                path.display().to_string(),
                std::fs::read(&path).expect("a seed can be read"),
            )
        })
        .collect();
    // The order of a folder is the file system's own.
    seeds.sort();
    seeds
}

/// Makes inputs the way fuzzers do: seeds, changed a little.
struct Maker {
    seeds: Vec<(String, Vec<u8>)>,
    random: Random,
}

impl Maker {
    fn make(&mut self) -> Vec<u8> {
        let mut input = match self.random.below(16) {
            0 => (0..self.random.below(200))
                .map(|_| self.random.byte())
                .collect(),
            _ => self.seed().to_vec(),
        };
        for _ in 0..=self.random.below(4) {
            self.change(&mut input);
        }
        input
    }

    fn seed(&mut self) -> &[u8] {
        let index = self.random.below(self.seeds.len());
        &self.seeds[index].1
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let length = input.len();
        let at = self.random.below(length + 1);
        let end = at + self.random.below((length - at).min(32) + 1);
        match self.random.below(8) {
            0 if at < length => input[at] ^= 1 << self.random.below(8),
            1 if at < length => input[at] = self.random.byte(),
            2 => input.insert(at, self.random.byte()),
            3 => drop(input.drain(at..end)),
            4 => input.truncate(at),
            5 => {
                let copied = input[at..end].to_vec();
                let to = self.random.below(length + 1);
                input.splice(to..to, copied);
            }
            6 => {
                const TELLING: [u8; 12] = [
                    0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'\r', b'\n', b';', b':', b'0',
                ];
                input.insert(at, TELLING[self.random.below(TELLING.len())]);
            }
            _ => {
                let other = self.seed().to_vec();
                let from = self.random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
}

/// The generator `SplitMix64`: good enough to stir with, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}
