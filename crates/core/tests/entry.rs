//! The transitions, as far as a store's own tests (the conformance suite) cannot see them.

use std::time::Duration;

use onlyonce_core::{
    Attempt, ClaimStep, CompleteStep, Completion, Done, Entry, EntryState, Fence, Fingerprint,
    Lease, Nonce, OnUnknown, RecordId, Renewal, Resolution, ResolveStep, Timestamp,
};

const ID: RecordId = RecordId::from_bytes([1; 32]);

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn attempt(nonce: u8) -> Attempt {
    Attempt {
        id: ID,
        nonce: Nonce::from_bytes([nonce; 16]),
        fingerprint: Some(Fingerprint::of(b"request")),
        lease: Duration::from_millis(10),
        keep: Duration::from_millis(40),
        on_unknown: OnUnknown::Retry,
        label: "POST /entry".into(),
    }
}

fn claimed(now: u64, fence: u64) -> Entry {
    match Entry::claim(None, &attempt(1), at(now), || Fence::new(fence)) {
        ClaimStep::Write(entry) => *entry,
        ClaimStep::Held(record) => panic!("nothing was there: {record:?}"),
    }
}

fn no_fence() -> Fence {
    panic!("no fence is drawn for this")
}

#[test]
fn a_claim_writes_its_deadlines() {
    let entry = claimed(1_000, 7);
    let expected = Entry {
        fingerprint: Some(Fingerprint::of(b"request")),
        attempt: 1,
        fence: Fence::new(7),
        nonce: Nonce::from_bytes([1; 16]),
        created: at(1_000),
        expires: at(1_050),
        state: EntryState::InProgress {
            lease_until: at(1_010),
            keep: Duration::from_millis(40),
        },
        label: "POST /entry".into(),
    };
    assert_eq!(entry, expected);
}

#[test]
fn a_fence_is_drawn_only_for_a_new_owner() {
    let entry = claimed(1_000, 7);
    // Held by a live lease; sent again; a mismatch after the lease.
    let held = Entry::claim(Some(&entry), &attempt(2), at(1_009), no_fence);
    assert!(matches!(held, ClaimStep::Held(_)));
    let again = Entry::claim(Some(&entry), &attempt(1), at(1_020), no_fence);
    let ClaimStep::Write(again) = again else {
        panic!("a claim that is sent again is won again");
    };
    assert_eq!(again.fence, Fence::new(7));
    assert_eq!(again.expires, at(1_070));
    let other = Attempt {
        fingerprint: Some(Fingerprint::of(b"another request")),
        ..attempt(2)
    };
    let held = Entry::claim(Some(&entry), &other, at(1_020), no_fence);
    assert!(matches!(held, ClaimStep::Held(_)));
    // A successor takes one, and so does whoever finds it expired.
    let taken = Entry::claim(Some(&entry), &attempt(2), at(1_010), || Fence::new(8));
    assert!(matches!(taken, ClaimStep::Write(next) if next.fence == Fence::new(8)));
    let anew = Entry::claim(Some(&entry), &attempt(1), at(1_050), || Fence::new(9));
    assert!(
        matches!(anew, ClaimStep::Write(next) if next.fence == Fence::new(9) && next.attempt == 1)
    );
}

#[test]
fn only_a_resolution_that_leaves_a_record_draws_a_fence() {
    let entry = claimed(1_000, 7);
    let completed = Resolution::Completed {
        status: 200,
        result: None,
    };
    assert_eq!(
        entry.resolve(&completed, at(1_009), no_fence),
        ResolveStep::Refused
    );
    assert_eq!(
        entry.resolve(&Resolution::NotExecuted, at(1_010), no_fence),
        ResolveStep::Remove
    );
    let resolved = entry.resolve(&completed, at(1_010), || Fence::new(8));
    let ResolveStep::Write(resolved) = resolved else {
        panic!("its owner has vanished");
    };
    assert_eq!(
        (resolved.fence, resolved.expires),
        (Fence::new(8), at(1_050))
    );
}

#[test]
fn an_expired_entry_takes_no_write_even_if_it_was_never_swept() {
    let entry = claimed(1_000, 7);
    let lease = entry.lease(ID);
    let (renewal, completion) = (
        Renewal {
            extend: Duration::from_millis(10),
            fingerprint: None,
        },
        Completion {
            fingerprint: None,
            done: Done::Unknown,
        },
    );
    let keep = Duration::from_millis(60);
    for (now, lands) in [(1_049, true), (1_050, false)] {
        let now = at(now);
        assert_eq!(entry.renew(&lease, &renewal, now).is_some(), lands);
        assert_eq!(entry.may_release(&lease, now), lands);
        assert_eq!(entry.may_forget(now), lands);
        assert_eq!(entry.view(now).is_some(), lands);
        let completed = entry.complete(&lease, &completion, keep, now);
        assert_eq!(completed != CompleteStep::Superseded, lands);
    }
}

#[test]
fn attempts_do_not_wrap() {
    let mut entry = claimed(1_000, 7);
    entry.attempt = u32::MAX;
    let taken = Entry::claim(Some(&entry), &attempt(2), at(1_010), || Fence::new(8));
    assert!(matches!(taken, ClaimStep::Write(next) if next.attempt == u32::MAX));
}

#[test]
fn the_end_of_time_is_not_wrapped_around() {
    let forever = Attempt {
        lease: Duration::MAX,
        keep: Duration::MAX,
        ..attempt(1)
    };
    let step = Entry::claim(None, &forever, at(1_000), || Fence::new(7));
    let ClaimStep::Write(entry) = step else {
        panic!("nothing was there");
    };
    let lease: Lease = entry.lease(ID);
    let renewal = Renewal {
        extend: Duration::MAX,
        fingerprint: None,
    };
    let renewed = entry.renew(&lease, &renewal, at(2_000));
    let renewed = renewed.expect("it is its owner's");
    assert_eq!(renewed.expires, at(u64::MAX));
    assert!(renewed.view(at(u64::MAX - 1)).is_some());
}
