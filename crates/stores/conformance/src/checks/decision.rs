//! The decision table: what a claim gets from each state a record can be in.
//!
//! A lost claim changes nothing, and says enough for [`decide`] to give the right answer.

use onlyonce_core::{
    Attempt, Claim, Decision, Fence, Fenced, Fingerprint, Lease, OnUnknown, State, decide,
};

use crate::Harness;
use crate::rig::{
    KEEP, LEASE, LIFETIME, Lasting, NOT_KEPT, OUTCOME_UNKNOWN, Rig, attempt, fingerprint, kept,
    new_id, successor_of, ticks,
};

/// No record: claimed, as attempt 1.
pub async fn absent_is_claimed<H: Harness>() {
    for case in Case::all() {
        let rig = Rig::<H>::new().await;
        let lease = rig.win(&case.bid::<H>(&case.owner::<H>())).await;
        assert_eq!(lease.attempt, 1, "{case:?}");
    }
}

/// An expired record, whatever it said and whoever asks: claimed, as attempt 1.
pub async fn expired_is_claimed<H: Harness>() {
    let endings = [
        None,
        Some(kept("old")),
        Some(NOT_KEPT),
        Some(OUTCOME_UNKNOWN),
    ];
    for ending in &endings {
        let rig = Rig::<H>::new().await;
        let cases: Vec<_> = Case::all().map(|case| (case, case.owner::<H>())).collect();
        let mut highest = Fence::new(0);
        for (_, owner) in &cases {
            let lease = rig.win(owner).await;
            highest = highest.max(lease.fence);
            if let Some(ending) = ending {
                let keep = ticks::<H>(LIFETIME);
                let done = rig.complete_with(&lease, ending, keep).await;
                assert_eq!(done, Fenced::Applied);
            }
        }
        rig.pass(LIFETIME.max(LEASE + KEEP)).await;
        for (case, owner) in &cases {
            let bid = case.bid::<H>(owner);
            let lease = rig.win(&bid).await;
            assert_eq!(lease.attempt, 1, "{case:?}: a new life begins at 1");
            assert!(lease.fence > highest, "{case:?}: the fence never goes back");
            let record = rig.record(&owner.id).await;
            assert_eq!(record.fingerprint, bid.fingerprint, "{case:?}");
        }
    }
}

/// In progress, its owner's lease live: held, whatever the policy; another fingerprint is told.
pub async fn hazard_05_live_lease_is_held<H: Harness>() {
    row::<H>(Row::Live, |case| {
        Held(case.mismatch_or(Decision::InProgress))
    })
    .await;
}

/// In progress, the lease run out: held under `Hold`; taken over under `Retry`, but only by what
/// is not known to be, and cannot turn out to be, another request.
pub async fn hazard_43_lapsed_lease_is_held_or_taken_over<H: Harness>() {
    row::<H>(Row::Lapsed, |case| {
        let allowed = match (case.record, case.request) {
            (Print::First, Print::First) | (Print::NotYet, _) => true,
            (Print::First, Print::Other | Print::NotYet) => false,
            (Print::Other, _) => unreachable!("no case begins with the other fingerprint"),
        };
        if allowed && case.on_unknown == OnUnknown::Retry {
            Won { attempt: 2 }
        } else {
            Held(case.mismatch_or(Decision::Unknown))
        }
    })
    .await;
}

/// Completed, with its response: held, to be replayed.
pub async fn completed_is_replayed<H: Harness>() {
    row::<H>(Row::Completed, |case| {
        Held(case.mismatch_or(Decision::Replay))
    })
    .await;
}

/// Completed, its response not kept: held, and says so.
pub async fn not_kept_says_so<H: Harness>() {
    row::<H>(Row::NotKept, |case| {
        Held(case.mismatch_or(Decision::NotKept))
    })
    .await;
}

/// Marked unknown: held, under `Retry` too.
pub async fn unknown_is_held<H: Harness>() {
    row::<H>(Row::Unknown, |case| {
        Held(case.mismatch_or(Decision::Unknown))
    })
    .await;
}

/// A fingerprint that is off, the record's or the request's, stands for any other: nothing is a
/// mismatch then, and a vanished owner is succeeded.
pub async fn fingerprint_off_matches_every_other<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let (off, on) = (Fingerprint::OFF, fingerprint(1));
    let mut owners = Vec::new();
    for (first, next) in [(off, on), (on, off), (off, off)] {
        let owner = Attempt {
            fingerprint: Some(first),
            ..attempt::<H>(new_id())
        };
        rig.win(&owner).await;
        let next = Attempt {
            fingerprint: Some(next),
            ..successor_of(&owner)
        };
        assert_eq!(rig.held(&next).await.fingerprint, Some(first));
        owners.push(next);
    }
    rig.pass(LEASE).await;
    for next in owners {
        assert_eq!(rig.win(&next).await.attempt, 2);
        let record = rig.record(&next.id).await;
        assert_eq!(record.fingerprint, next.fingerprint, "the successor's own");
    }
}

/// What a record says when a request comes.
#[derive(Clone, Copy, Debug)]
enum Row {
    Live,
    Lapsed,
    Completed,
    NotKept,
    Unknown,
}

/// What the request gets.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Won { attempt: u32 },
    Held(Decision),
}
use Expected::{Held, Won};

/// A fingerprint, or none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Print {
    First,
    Other,
    NotYet,
}

impl Print {
    fn value(self) -> Option<Fingerprint> {
        match self {
            Self::First => Some(fingerprint(1)),
            Self::Other => Some(fingerprint(2)),
            Self::NotYet => None,
        }
    }
}

/// One cell of the table.
#[derive(Clone, Copy, Debug)]
struct Case {
    record: Print,
    request: Print,
    on_unknown: OnUnknown,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let mut cases = Vec::new();
        for record in [Print::First, Print::NotYet] {
            for request in [Print::First, Print::Other, Print::NotYet] {
                for on_unknown in [OnUnknown::Hold, OnUnknown::Retry] {
                    cases.push(Self {
                        record,
                        request,
                        on_unknown,
                    });
                }
            }
        }
        cases.into_iter()
    }

    /// The request that owns the key first.
    fn owner<H: Harness>(self) -> Attempt {
        Attempt {
            fingerprint: self.record.value(),
            ..attempt::<H>(new_id())
        }
    }

    /// The request that comes then.
    fn bid<H: Harness>(self, owner: &Attempt) -> Attempt {
        Attempt {
            fingerprint: self.request.value(),
            on_unknown: self.on_unknown,
            label: "POST /conformance/again".into(),
            ..attempt::<H>(owner.id)
        }
    }

    /// Both fingerprints known and unequal make a mismatch in every row.
    fn mismatch_or(self, decision: Decision) -> Decision {
        if self.record == Print::First && self.request == Print::Other {
            Decision::Mismatch
        } else {
            decision
        }
    }
}

async fn row<H: Harness>(row: Row, expected: impl Fn(Case) -> Expected) {
    let rig = Rig::<H>::new().await;
    let mut set_up = Vec::new();
    for case in Case::all() {
        let owner = case.owner::<H>();
        let lease = rig.win(&owner).await;
        let ending = match row {
            Row::Live | Row::Lapsed => None,
            Row::Completed => Some(kept("the response")),
            Row::NotKept => Some(NOT_KEPT),
            Row::Unknown => Some(OUTCOME_UNKNOWN),
        };
        if let Some(ending) = ending {
            let keep = ticks::<H>(LIFETIME);
            let done = rig.complete_with(&lease, &ending, keep).await;
            assert_eq!(done, Fenced::Applied);
        }
        set_up.push((case, owner, lease));
    }
    if matches!(row, Row::Lapsed) {
        rig.pass(LEASE).await;
    }
    for (case, owner, lease) in set_up {
        let before = Lasting::of(&rig.record(&owner.id).await);
        let bid = case.bid::<H>(&owner);
        match (rig.claim(&bid).await, expected(case)) {
            (Claim::Won(won), Won { attempt }) => {
                assert_eq!(won.attempt, attempt, "{case:?}");
                assert_taken_over(&rig, case, &bid, &lease, &won).await;
            }
            (Claim::Held(record), Held(decision)) => {
                let decided = decide(Some(&record), bid.fingerprint.as_ref(), bid.on_unknown);
                assert_eq!(decided, decision, "{case:?}");
                assert_eq!(Lasting::of(&record), before, "{case:?}: told as it is");
                assert_eq!(record.fingerprint, case.record.value(), "{case:?}");
                assert_eq!(record.fence, lease.fence, "{case:?}");
                assert_state(row, &record.state);
                let after = Lasting::of(&rig.record(&owner.id).await);
                assert_eq!(after, before, "{case:?}: a lost claim changes nothing");
            }
            (got, expected) => panic!("{case:?}: expected {expected:?}, got {got:?}"),
        }
    }
}

async fn assert_taken_over<H: Harness>(
    rig: &Rig<H>,
    case: Case,
    bid: &Attempt,
    old: &Lease,
    new: &Lease,
) {
    assert!(new.fence > old.fence, "{case:?}: the fence is newer");
    let record = rig.record(&bid.id).await;
    assert_eq!(record.fence, new.fence, "{case:?}");
    assert_eq!(record.attempt, new.attempt, "{case:?}");
    assert_eq!(record.fingerprint, bid.fingerprint, "{case:?}");
    assert_eq!(record.label, bid.label, "{case:?}");
    let State::InProgress { lease_left } = record.state else {
        panic!("{case:?}: in progress under its new owner, not {record:?}");
    };
    assert!(!lease_left.is_zero(), "{case:?}: the new lease is live");
}

fn assert_state(row: Row, state: &State) {
    let fits = match (row, state) {
        (Row::Live, State::InProgress { lease_left }) => !lease_left.is_zero(),
        (Row::Lapsed, State::InProgress { lease_left }) => lease_left.is_zero(),
        (Row::Completed, State::Completed { status, kept }) => {
            *status == 201 && kept.as_deref() == Some(b"the response")
        }
        (Row::NotKept, State::Completed { status, kept }) => *status == 200 && kept.is_none(),
        (Row::Unknown, State::Unknown) => true,
        _ => false,
    };
    assert!(fits, "{row:?}: the record is told as {state:?}");
}
