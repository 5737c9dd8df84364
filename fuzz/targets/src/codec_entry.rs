//! `codec::decode_entry`, and every step that a decoded entry can take.

use std::time::Duration;

use bytes::Bytes;
use onlyonce_core::codec::{decode_entry, encode_entry};
use onlyonce_core::{
    Attempt, ClaimStep, CompleteStep, Completion, Done, Entry, Fence, Fingerprint, Lease, Nonce,
    OnUnknown, RecordId, Renewal, Resolution, ResolveStep, State, Timestamp,
};

use crate::input::Input;

/// Whatever a store finds on its disk: the first bytes choose what is done to it, the rest is
/// the record.
///
/// # Panics
/// When an entry does not come back byte for byte, or a step breaks a rule of the contract.
pub fn codec_entry(data: &[u8]) {
    let mut input = Input(data);
    let (now, duration) = (Timestamp::from_millis(input.u64()), input.u64());
    let choice = input.byte();
    let Ok(entry) = decode_entry(Bytes::copy_from_slice(input.0)) else {
        return;
    };
    let encoded = encode_entry(&entry);
    assert_eq!(encoded, input.0, "an encoding has one form");
    assert!(decode_entry(encoded.slice(..encoded.len() - 1)).is_err());

    let duration = Duration::from_millis(duration);
    let attempt = Attempt {
        id: RecordId::from_bytes([choice; 32]),
        nonce: if choice & 1 == 0 {
            entry.nonce
        } else {
            Nonce::from_bytes([choice; 16])
        },
        fingerprint: [None, entry.fingerprint, Some(Fingerprint::of(&[choice]))]
            [usize::from(choice >> 1) % 3],
        lease: duration,
        keep: duration,
        on_unknown: if choice & 8 == 0 {
            OnUnknown::Hold
        } else {
            OnUnknown::Retry
        },
        label: "POST /".into(),
    };
    claim(&entry, &attempt, now);
    finish(&entry, &attempt, now);
}

fn claim(entry: &Entry, attempt: &Attempt, now: Timestamp) {
    let newer = Fence::new(entry.fence.get().wrapping_add(1));
    match Entry::claim(Some(entry), attempt, now, || newer) {
        ClaimStep::Held(record) => {
            assert!(
                !record.expires_in.is_zero(),
                "an expired record is as good as absent"
            );
            if let State::InProgress { lease_left } = record.state {
                let lapsed = lease_left.is_zero() && attempt.on_unknown == OnUnknown::Retry;
                let same = match (&record.fingerprint, &attempt.fingerprint) {
                    (Some(first), Some(this)) => first.matches(this),
                    (first, _) => first.is_none(),
                };
                assert!(!lapsed || !same, "a lapsed lease is taken over");
            }
        }
        ClaimStep::Write(written) => {
            assert!(written.in_progress());
            assert_eq!(written.nonce, attempt.nonce);
            let again = entry.in_progress() && entry.nonce == attempt.nonce;
            let live = !entry.is_expired(now);
            // A claim that is sent again draws no new fence, any other does.
            let fence = if again && live { entry.fence } else { newer };
            assert_eq!(written.fence, fence);
            assert!(written.attempt >= 1);
        }
    }
}

fn finish(entry: &Entry, attempt: &Attempt, now: Timestamp) {
    let lease = entry.lease(attempt.id);
    let stale = Lease {
        fence: Fence::new(entry.fence.get().wrapping_sub(1)),
        ..lease.clone()
    };
    let renewal = Renewal {
        extend: attempt.lease,
        fingerprint: attempt.fingerprint,
    };
    let completion = Completion {
        fingerprint: attempt.fingerprint,
        done: Done::Kept {
            status: 200,
            result: Bytes::from_static(b"x"),
        },
    };
    // Another owner's fence changes nothing, whatever the record.
    assert_eq!(entry.renew(&stale, &renewal, now), None);
    assert!(!entry.may_release(&stale, now));
    let superseded = entry.complete(&stale, &completion, attempt.keep, now);
    assert_eq!(superseded, CompleteStep::Superseded);

    let may = entry.in_progress() && !entry.is_expired(now);
    assert_eq!(entry.renew(&lease, &renewal, now).is_some(), may);
    assert_eq!(entry.may_release(&lease, now), may);
    match entry.complete(&lease, &completion, attempt.keep, now) {
        CompleteStep::Write(written) => {
            assert!(may && !written.in_progress());
            assert_eq!(written.fence, entry.fence);
            let reread = decode_entry(encode_entry(&written));
            assert_eq!(reread.as_ref(), Ok(&*written));
        }
        CompleteStep::Already => assert!(!entry.in_progress() && !entry.is_expired(now)),
        CompleteStep::Superseded => assert!(entry.is_expired(now)),
    }
    let resolution = Resolution::Completed {
        status: 200,
        result: None,
    };
    if let ResolveStep::Write(written) = entry.resolve(&resolution, now, || Fence::new(u64::MAX)) {
        assert_eq!(written.fence, Fence::new(u64::MAX));
    }
    let _ = entry.may_forget(now);
}
