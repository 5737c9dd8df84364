//! What the programs that fill stores have in common.

use std::time::Duration;

use onlyonce_core::{Attempt, Completion, Done, Fingerprint, Nonce, OnUnknown, RecordId};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A claim as requests make them, of a key of its own.
pub(crate) fn attempt(number: u64) -> Attempt {
    Attempt {
        // Spread as the real ones are.
        id: RecordId::from_bytes(*Fingerprint::of(&number.to_le_bytes()).digest()),
        nonce: Nonce::random(),
        fingerprint: Some(Fingerprint::of(b"POST /v1/charges")),
        lease: Duration::from_secs(10),
        keep: DAY,
        on_unknown: OnUnknown::Hold,
        label: "POST /v1/charges".into(),
    }
}

/// A completion with a result of so many bytes.
pub(crate) fn completion(bytes: usize) -> Completion {
    Completion {
        fingerprint: None,
        done: Done::Kept {
            status: 201,
            result: vec![b'x'; bytes].into(),
        },
    }
}

/// Bytes of memory that the process holds.
pub(crate) fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
