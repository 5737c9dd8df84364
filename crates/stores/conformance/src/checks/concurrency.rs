//! Races: of all who try at once, exactly one succeeds.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use onlyonce_core::{
    Attempt, Claim, Fence, Fenced, Inspect, Lease, Resolution, Resolved, State, Store,
};
use tokio::sync::Barrier;

use crate::Harness;
use crate::rig::{
    KEEP, LEASE, LIFETIME, Rig, attempt, kept, new_id, result_of, retry_of, successor_of, ticks,
};

const CLAIMANTS: usize = 64;
const KEYS: usize = 24;

/// Hazards 1 and 2: 64 requests claim an absent key at once, on each of many keys at once: one of
/// them executes, the others see it.
pub async fn hazard_01_one_winner_among_claimants<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bids: Vec<_> = (0..KEYS).map(|_| attempt::<H>(new_id())).collect();
    for winner in one_winner_each(&rig, &bids).await {
        assert_eq!(winner.attempt, 1);
    }
}

/// Hazards 4 and 6: likewise keys whose records have just expired.
pub async fn hazard_04_one_winner_among_claimants_of_an_expired_record<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bids: Vec<_> = (0..KEYS).map(|_| attempt::<H>(new_id())).collect();
    for (number, bid) in bids.iter().enumerate() {
        let lease = rig.win(bid).await;
        if number % 2 == 0 {
            assert_eq!(rig.complete(&lease, "old").await, Fenced::Applied);
        }
    }
    rig.pass(LIFETIME.max(LEASE + KEEP)).await;
    let again: Vec<_> = bids.iter().map(successor_of).collect();
    for winner in one_winner_each(&rig, &again).await {
        assert_eq!(winner.attempt, 1);
    }
}

/// Owners vanished, and 64 requests would succeed each of them: one does, as attempt 2.
pub async fn one_winner_among_take_overs<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let lapsed = lapsed(&rig).await;
    let next: Vec<_> = lapsed[..KEYS]
        .iter()
        .map(|(bid, _)| Attempt {
            lease: ticks::<H>(LEASE * 100),
            ..successor_of(bid)
        })
        .collect();
    let winners = one_winner_each(&rig, &next).await;
    for ((_, late), winner) in lapsed.iter().zip(winners) {
        assert_eq!(winner.attempt, 2);
        assert!(winner.fence > late.fence);
        assert_eq!(rig.complete(late, "late").await, Fenced::Superseded);
    }
}

/// An owner wakes at the moment when it is succeeded: either its result stands, or its
/// successor's right; never both, never neither.
pub async fn late_owner_or_successor<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let bids = lapsed(&rig).await;
    for (bid, late) in bids {
        let (completes, takes_over) = both(
            {
                let store = rig.store();
                async move {
                    let keep = ticks::<H>(LIFETIME);
                    let done = store.complete(&late, &kept("late"), keep).await;
                    done.expect("a completion") == Fenced::Applied
                }
            },
            {
                let (store, bid) = (rig.store(), successor_of(&bid));
                async move { won(store.claim(&bid).await.expect("a claim")) }
            },
        )
        .await;
        assert_ne!(completes, takes_over.is_some(), "one of the two");
        if let Some(successor) = takes_over {
            assert_eq!(successor.attempt, 2);
            assert_eq!(rig.complete(&successor, "second").await, Fenced::Applied);
        }
        let result = result_of(&rig.held(&retry_of(&bid)).await);
        let expected = if completes { "late" } else { "second" };
        assert_eq!(result, Some(expected.into()));
    }
}

/// Likewise a renewal: a renewed lease is not taken over, a lease that was taken over not renewed.
pub async fn late_renewal_or_successor<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for (bid, late) in lapsed(&rig).await {
        let (renews, takes_over) = both(
            {
                let (store, late) = (rig.store(), late.clone());
                let renewal = onlyonce_core::Renewal {
                    extend: ticks::<H>(LEASE * 100),
                    fingerprint: None,
                };
                async move {
                    let renewed = store.renew(&late, &renewal).await;
                    renewed.expect("a renewal") == Fenced::Applied
                }
            },
            {
                let (store, bid) = (rig.store(), successor_of(&bid));
                async move { won(store.claim(&bid).await.expect("a claim")) }
            },
        )
        .await;
        assert_ne!(renews, takes_over.is_some(), "one of the two");
        let owner = takes_over.unwrap_or(late);
        assert_eq!(rig.complete(&owner, "done").await, Fenced::Applied);
    }
}

/// One owner's completion and its release at once (a bug of its own): the first one stands.
pub async fn completion_or_release<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for _ in 0..KEYS * 4 {
        let bid = attempt::<H>(new_id());
        let lease = rig.win(&bid).await;
        let (completed, released) = both(
            {
                let (store, lease) = (rig.store(), lease.clone());
                async move {
                    let keep = ticks::<H>(LIFETIME);
                    let done = store.complete(&lease, &kept("done"), keep).await;
                    done.expect("a completion") == Fenced::Applied
                }
            },
            {
                let (store, lease) = (rig.store(), lease.clone());
                async move { store.release(&lease).await.expect("a release") == Fenced::Applied }
            },
        )
        .await;
        assert_ne!(completed, released, "one of the two");
        assert_eq!(rig.show(&bid.id).await.is_some(), completed);
    }
}

/// An operator settles a record at the moment when a request would take it over.
pub async fn operator_or_successor<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let resolution = Resolution::Completed {
        status: 200,
        result: None,
    };
    for (bid, late) in lapsed(&rig).await {
        let (resolves, takes_over) = both(
            {
                let (store, id, resolution) = (rig.store(), bid.id, resolution.clone());
                async move {
                    let resolved = store.resolve(&id, &resolution).await;
                    resolved.expect("a resolution") == Resolved::Applied
                }
            },
            {
                let (store, bid) = (rig.store(), successor_of(&bid));
                async move { won(store.claim(&bid).await.expect("a claim")) }
            },
        )
        .await;
        assert_ne!(resolves, takes_over.is_some(), "one of the two");
        let record = rig.record(&bid.id).await;
        let completed = matches!(record.state, State::Completed { .. });
        assert_eq!(completed, resolves, "{record:?}");
        assert_eq!(rig.complete(&late, "late").await, Fenced::Superseded);
    }
}

/// Many claims of many keys at once: no fence is handed out twice, and a claim that began after
/// another had been answered has the higher one.
pub async fn fences_follow_real_time<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let highest_answered = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let claimants: Vec<_> = (0..16)
        .map(|_| {
            let (store, highest) = (rig.store(), Arc::clone(&highest_answered));
            tokio::spawn(async move {
                let mut fences = Vec::new();
                for _ in 0..64 {
                    let floor = highest.load(std::sync::atomic::Ordering::SeqCst);
                    let bid = attempt::<H>(new_id());
                    let lease = won(store.claim(&bid).await.expect("a claim"));
                    let fence = lease.expect("a fresh key is won").fence;
                    assert!(fence > Fence::new(floor), "{fence} after {floor}");
                    highest.fetch_max(fence.get(), std::sync::atomic::Ordering::SeqCst);
                    fences.push(fence);
                    tokio::task::yield_now().await;
                }
                fences
            })
        })
        .collect();
    let mut all = Vec::new();
    for claimant in claimants {
        all.extend(claimant.await.expect("fences follow real time"));
    }
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "no fence was handed out twice");
}

/// Records whose owners have vanished.
async fn lapsed<H: Harness>(rig: &Rig<H>) -> Vec<(Attempt, Lease)> {
    let mut made = Vec::new();
    for _ in 0..KEYS * 4 {
        let bid = Attempt {
            keep: ticks::<H>(KEEP * 10),
            ..attempt::<H>(new_id())
        };
        let lease = rig.win(&bid).await;
        made.push((bid, lease));
    }
    rig.pass(LEASE).await;
    made
}

/// [`CLAIMANTS`] make each of these bids at once, each in its own name. One wins each; the others
/// have seen it.
async fn one_winner_each<H: Harness>(rig: &Rig<H>, bids: &[Attempt]) -> Vec<Lease> {
    let start = Arc::new(Barrier::new(CLAIMANTS * bids.len()));
    let claimants: Vec<_> = (0..CLAIMANTS)
        .flat_map(|_| bids.iter().enumerate())
        .map(|(key, bid)| {
            let (store, bid, start) = (rig.store(), retry_of(bid), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                (key, store.claim(&bid).await)
            })
        })
        .collect();
    let (mut winners, mut losers) = (BTreeMap::new(), Vec::new());
    for claimant in claimants {
        match claimant.await.expect("the claim does not panic") {
            (key, Ok(Claim::Won(lease))) => {
                let other = winners.insert(key, lease);
                assert_eq!(other, None, "one winner, not also {:?}", winners[&key]);
            }
            (key, Ok(Claim::Held(record))) => losers.push((key, record)),
            (_, Err(error)) => panic!("the store takes claims: {error}"),
        }
    }
    assert_eq!(winners.len(), bids.len(), "a winner for each key");
    for (key, record) in losers {
        assert_eq!(record.fence, winners[&key].fence, "they see the winner");
        assert!(
            matches!(record.state, State::InProgress { lease_left } if !lease_left.is_zero()),
            "at work: {record:?}",
        );
    }
    winners.into_values().collect()
}

fn won(claim: Claim) -> Option<Lease> {
    match claim {
        Claim::Won(lease) => Some(lease),
        Claim::Held(_) => None,
    }
}

/// Runs both at once, each on a task of its own.
async fn both<A, B>(
    a: impl Future<Output = A> + Send + 'static,
    b: impl Future<Output = B> + Send + 'static,
) -> (A, B)
where
    A: Send + 'static,
    B: Send + 'static,
{
    let start = Arc::new(Barrier::new(2));
    let other = Arc::clone(&start);
    let a = tokio::spawn(async move {
        start.wait().await;
        a.await
    });
    let b = tokio::spawn(async move {
        other.wait().await;
        b.await
    });
    (
        a.await.expect("the first does not panic"),
        b.await.expect("the second does not panic"),
    )
}
