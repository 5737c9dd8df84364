//! The operators' side: list, show, count, resolve, forget.

use std::collections::BTreeMap;

use onlyonce_core::{
    Attempt, Fenced, Filter, Lease, Page, RecordId, Resolution, Resolved, StateKind,
};

use crate::Harness;
use crate::rig::{
    KEEP, LEASE, LIFETIME, Lasting, NOT_KEPT, OUTCOME_UNKNOWN, Rig, attempt, kept, new_id,
    result_of, retry_of, successor_of, ticks,
};

/// A record in each of the ways that it can be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Live,
    Lapsed,
    Unknown,
    Completed,
    NotKept,
}

impl Set {
    const ALL: [Self; 5] = [
        Self::Live,
        Self::Lapsed,
        Self::Unknown,
        Self::Completed,
        Self::NotKept,
    ];

    /// What operators see of it.
    fn kind(self) -> StateKind {
        match self {
            Self::Live => StateKind::InProgress,
            Self::Lapsed | Self::Unknown => StateKind::Unknown,
            Self::Completed => StateKind::Completed,
            Self::NotKept => StateKind::NotKept,
        }
    }

    /// Sets records up in these ways, those that need time first.
    async fn up<H: Harness>(rig: &Rig<H>, sets: &[Self]) -> Vec<(Self, Attempt, Lease)> {
        let mut made = Vec::new();
        for set in sets.iter().filter(|set| **set == Self::Lapsed) {
            let bid = Attempt {
                keep: ticks::<H>(KEEP * 4),
                ..attempt::<H>(new_id())
            };
            let lease = rig.win(&bid).await;
            made.push((*set, bid, lease));
        }
        if !made.is_empty() {
            rig.pass(LEASE).await;
        }
        for set in sets.iter().filter(|set| **set != Self::Lapsed) {
            let bid = attempt::<H>(new_id());
            let lease = rig.win(&bid).await;
            let ending = match set {
                Self::Live | Self::Lapsed => None,
                Self::Unknown => Some(OUTCOME_UNKNOWN),
                Self::Completed => Some(kept("done")),
                Self::NotKept => Some(NOT_KEPT),
            };
            if let Some(ending) = ending {
                let keep = ticks::<H>(LIFETIME);
                let done = rig.complete_with(&lease, &ending, keep).await;
                assert_eq!(done, Fenced::Applied);
            }
            made.push((*set, bid, lease));
        }
        made
    }
}

/// Shown is what a claim is told; nothing is shown of what isn't there.
pub async fn show_tells_what_a_claim_is_told<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for (set, bid, lease) in Set::up(&rig, &Set::ALL).await {
        let told = rig.held(&retry_of(&bid)).await;
        let shown = rig.record(&bid.id).await;
        assert_eq!(Lasting::of(&shown), Lasting::of(&told), "{set:?}");
        assert_eq!(StateKind::of(&shown), set.kind());
        assert_eq!((shown.fence, shown.attempt), (lease.fence, 1));
        assert_eq!(shown.fingerprint, bid.fingerprint);
    }
    assert_eq!(rig.show(&new_id()).await, None);
}

/// Pages follow one another in the order of identifiers, without gap or repeat, however long
/// they are and wherever they start.
pub async fn list_pages_in_order<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let mut ids: Vec<_> = (0..40).map(|_| new_id()).collect();
    // Neighbours, and both ends of the range.
    let mut neighbour = *ids[0].as_bytes();
    neighbour[31] ^= 1;
    ids.push(RecordId::from_bytes(neighbour));
    ids.push(RecordId::from_bytes([0; 32]));
    ids.push(RecordId::from_bytes([0xff; 32]));
    let mut leases = BTreeMap::new();
    for id in &ids {
        leases.insert(*id, rig.win(&attempt::<H>(*id)).await);
    }
    ids.sort();
    for limit in [1, 7, 42, 43, 44, 1_000] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = Page {
                after,
                limit,
                filter: Filter::default(),
            };
            let listed = rig.list(&page).await;
            assert!(listed.len() <= limit);
            let Some(last) = listed.last() else { break };
            after = Some(last.id);
            seen.extend(listed.iter().map(|line| line.id));
            assert!(seen.len() <= ids.len(), "pages of {limit}: no repeat");
        }
        assert_eq!(seen, ids, "pages of {limit}");
    }
    let page = |after, limit| Page {
        after: Some(after),
        limit,
        filter: Filter::default(),
    };
    assert!(rig.list(&page(ids[0], 0)).await.is_empty());
    assert!(rig.list(&page(ids[42], 5)).await.is_empty());
    // A page may start behind an identifier that has no record any more.
    assert_eq!(rig.release(&leases[&ids[20]]).await, Fenced::Applied);
    assert_eq!(rig.list(&page(ids[20], 1)).await[0].id, ids[21]);
}

/// A filter narrows the listing, not the page: the limit counts what was let through.
pub async fn list_filters_by_state<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let sets = Set::ALL.repeat(6);
    let made = Set::up(&rig, &sets).await;
    for kind in StateKind::ALL {
        let mut expected: Vec<_> = made
            .iter()
            .filter(|(set, ..)| set.kind() == kind)
            .map(|(_, bid, _)| bid.id)
            .collect();
        expected.sort();
        let (mut seen, mut after) = (Vec::new(), None);
        while seen.len() < expected.len() {
            let page = Page {
                after,
                limit: 4,
                filter: Filter { state: Some(kind) },
            };
            let listed = rig.list(&page).await;
            let full = 4.min(expected.len() - seen.len());
            assert_eq!(listed.len(), full, "{kind:?}: the page is filled");
            for line in &listed {
                assert_eq!(StateKind::of(&line.record), kind);
            }
            after = listed.last().map(|line| line.id);
            seen.extend(listed.iter().map(|line| line.id));
        }
        assert_eq!(seen, expected, "{kind:?}");
    }
}

/// A listing says all of a record but its result, which may be large: an empty one stands for it.
pub async fn list_leaves_results_out<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for (set, bid, lease) in Set::up(&rig, &Set::ALL).await {
        let listed = rig.list(&Page::default()).await;
        let line = listed.iter().find(|line| line.id == bid.id);
        let record = &line.expect("the record is listed").record;
        assert_eq!(StateKind::of(record), set.kind(), "{set:?}: {record:?}");
        assert_eq!((record.fence, record.attempt), (lease.fence, 1));
        assert_eq!(record.fingerprint, bid.fingerprint);
        assert_eq!(record.label, bid.label);
        if set == Set::Completed {
            assert_eq!(result_of(record).as_deref(), Some(b"".as_slice()));
        }
    }
}

/// Live records are counted by state. A lease that ran out counts as unknown.
pub async fn count_counts_live_records<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let none = rig.count().await;
    assert_eq!(
        [
            none.in_progress,
            none.unknown,
            none.completed,
            none.not_kept
        ],
        [0; 4]
    );
    let sets: Vec<_> = Set::ALL
        .into_iter()
        .zip([1, 2, 3, 4, 5])
        .flat_map(|(set, times)| [set].repeat(times))
        .collect();
    let made = Set::up(&rig, &sets).await;
    let some = rig.count().await;
    assert_eq!(
        [
            some.in_progress,
            some.unknown,
            some.completed,
            some.not_kept
        ],
        [1, 2 + 3, 4, 5],
    );
    assert!(some.bytes > 0, "records take room");
    for (set, bid, lease) in made {
        let gone = if set == Set::Live {
            rig.release(&lease).await == Fenced::Applied
        } else {
            rig.forget(&bid.id).await == Resolved::Applied
        };
        assert!(gone, "{set:?}");
    }
    let none = rig.count().await;
    assert_eq!(
        [
            none.in_progress,
            none.unknown,
            none.completed,
            none.not_kept
        ],
        [0; 4]
    );
}

/// Settled as completed, with a result or without: only what is unknown can be; retries get the
/// answer from then on.
pub async fn resolve_as_completed<H: Harness>() {
    for result in [None, Some("the operator's".into())] {
        let rig = Rig::<H>::new().await;
        let resolution = Resolution::Completed {
            status: 202,
            result: result.clone(),
        };
        for (set, bid, _) in Set::up(&rig, &Set::ALL).await {
            let before = Lasting::of(&rig.record(&bid.id).await);
            let resolved = rig.resolve(&bid.id, &resolution).await;
            let after = rig.record(&bid.id).await;
            if set.kind() != StateKind::Unknown {
                assert_eq!(resolved, Resolved::Refused, "{set:?}");
                assert_eq!(Lasting::of(&after), before, "{set:?}: left as it was");
                continue;
            }
            assert_eq!(resolved, Resolved::Applied, "{set:?}");
            let told = rig.held(&successor_of(&bid)).await;
            assert_eq!(Lasting::of(&told), Lasting::of(&after));
            assert_eq!(result_of(&told), result);
            assert_eq!(told.attempt, 1);
            assert_eq!(told.fingerprint, bid.fingerprint);
            assert_eq!(told.label, bid.label);
            let again = rig.resolve(&bid.id, &Resolution::NotExecuted).await;
            assert_eq!(again, Resolved::Refused, "{set:?}: it is settled");
        }
        let resolved = rig.resolve(&new_id(), &resolution).await;
        assert_eq!(resolved, Resolved::NotFound);
    }
}

/// Settled as not executed: only what is unknown can be; the next request executes.
pub async fn resolve_as_not_executed<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for (set, bid, lease) in Set::up(&rig, &Set::ALL).await {
        let before = Lasting::of(&rig.record(&bid.id).await);
        let resolved = rig.resolve(&bid.id, &Resolution::NotExecuted).await;
        if set.kind() != StateKind::Unknown {
            assert_eq!(resolved, Resolved::Refused, "{set:?}");
            let after = Lasting::of(&rig.record(&bid.id).await);
            assert_eq!(after, before, "{set:?}: left as it was");
            continue;
        }
        assert_eq!(resolved, Resolved::Applied, "{set:?}");
        assert_eq!(rig.show(&bid.id).await, None);
        let again = rig.resolve(&bid.id, &Resolution::NotExecuted).await;
        assert_eq!(again, Resolved::NotFound, "{set:?}");
        let next = rig.win(&retry_of(&bid)).await;
        assert_eq!(next.attempt, 1);
        assert!(next.fence > lease.fence);
    }
    let resolved = rig.resolve(&new_id(), &Resolution::NotExecuted).await;
    assert_eq!(resolved, Resolved::NotFound);
}

/// Forgotten is all but what an owner is at work on.
pub async fn forget_removes_all_but_work_under_way<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for (set, bid, lease) in Set::up(&rig, &Set::ALL).await {
        let forgotten = rig.forget(&bid.id).await;
        if set == Set::Live {
            assert_eq!(forgotten, Resolved::Refused);
            assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
            continue;
        }
        assert_eq!(forgotten, Resolved::Applied, "{set:?}");
        assert_eq!(rig.show(&bid.id).await, None);
        assert_eq!(rig.forget(&bid.id).await, Resolved::NotFound);
        let next = rig.win(&retry_of(&bid)).await;
        assert_eq!(next.attempt, 1);
        assert!(next.fence > lease.fence);
    }
    assert_eq!(rig.forget(&new_id()).await, Resolved::NotFound);
}
