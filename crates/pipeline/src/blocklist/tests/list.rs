//! Adding, changing, removing, expiring, counting; a store that fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use onlyonce_core::{Clock as _, ManualClock};
use tokio::sync::Semaphore;

use super::super::*;
use super::support::{Odd, eager, ip, until};

async fn load(store: impl Into<SharedBlocklistStore>) -> Blocklist {
    Blocklist::load_with(store, eager()).await.unwrap()
}

#[tokio::test]
async fn what_no_store_could_keep_or_nobody_would_feel_is_not_saved() {
    let clock = Arc::new(ManualClock::new());
    let options = eager().with_clock(Arc::clone(&clock));
    let list = Blocklist::load_with(MemoryBlocklist::new(), options).await;
    let list = list.unwrap();
    let past = Expiry::At(clock.now());
    for (draft, expected) in [
        (Draft::new("10.0.0.1").with_remark("a\0b"), DraftError::Nul),
        (
            Draft::new("10.0.0.1").with_lifetime(Duration::ZERO),
            DraftError::Expired,
        ),
        (
            Draft::new("10.0.0.1").with_expiry(past),
            DraftError::Expired,
        ),
    ] {
        let refused = list.add(&draft).await.unwrap_err();
        assert!(matches!(refused, BlocklistError::Draft(it) if it == expected));
    }
    let far = Draft::new("10.0.0.1").with_lifetime(Duration::MAX);
    let expires = list.add(&far).await.unwrap().expires.unwrap();
    // 9999-12-31T23:59:59Z
    assert_eq!(expires.as_millis(), 253_402_300_799_000);
    let ended = Draft::new("10.0.0.1").with_expiry(past);
    let ended = list.update(EntryId(1), &ended).await.unwrap();
    assert!(ended.is_some(), "an entry can be ended so");
    assert_eq!(list.find(ip("10.0.0.1")), None);
}

#[tokio::test]
async fn changes_are_in_force_at_once() {
    let list = load(MemoryBlocklist::new()).await;
    let entry = list.add(&Draft::new("10.0.0.5-90")).await.unwrap();
    assert_eq!(list.find(ip("10.0.0.5")), Some(entry.id));
    assert_eq!(list.find(ip("::ffff:10.0.0.90")), Some(entry.id));
    assert_eq!(list.find(ip("10.0.0.91")), None);

    let off = Draft::new("10.0.0.5-90").with_status(Status::Off);
    let changed = list.update(entry.id, &off).await.unwrap().unwrap();
    assert_eq!((changed.id, changed.status), (entry.id, Status::Off));
    assert_eq!(list.find(ip("10.0.0.5")), None);

    let moved = Draft::new("2001:db8::/32").with_remark("moved");
    list.update(entry.id, &moved).await.unwrap().unwrap();
    assert_eq!(list.find(ip("10.0.0.5")), None);
    assert_eq!(list.find(ip("2001:db8::1")), Some(entry.id));

    assert!(list.remove(entry.id).await.unwrap());
    assert_eq!(list.find(ip("2001:db8::1")), None);
    assert!(!list.remove(entry.id).await.unwrap());
    assert_eq!(list.update(entry.id, &moved).await.unwrap(), None);
    // A name is never given again.
    let next = list.add(&moved).await.unwrap();
    assert!(next.id > entry.id);
}

#[tokio::test]
async fn of_several_entries_a_narrow_one_refuses() {
    let list = load(MemoryBlocklist::new()).await;
    let all = list.add(&Draft::new("*")).await.unwrap();
    let some = list.add(&Draft::new("10.0.0.0/8")).await.unwrap();
    let one = list.add(&Draft::new("10.1.2.3")).await.unwrap();
    assert_eq!(list.find(ip("10.1.2.3")), Some(one.id));
    assert_eq!(list.find(ip("10.1.2.4")), Some(some.id));
    assert_eq!(list.find(ip("2001:db8::1")), Some(all.id));
    assert!(list.remove(one.id).await.unwrap());
    assert_eq!(list.find(ip("10.1.2.3")), Some(some.id));
}

#[tokio::test]
async fn bad_input_is_refused_and_nothing_is_saved() {
    let store = MemoryBlocklist::new();
    let list = load(store.clone()).await;
    let refused = list
        .add(&Draft::new("10.0.0.1, 10.0.0.300"))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`ip`: item 2 (from character 11), `10.0.0.300`, is no IP address: write an address \
         (10.0.0.5), a network (10.0.0.0/24), a range (10.0.0.5-10.0.0.90 or 10.0.0.5-90) or `*`, \
         separated by commas"
    );
    let long = Draft::new("10.0.0.1").with_remark("x".repeat(1001));
    assert!(matches!(
        list.add(&long).await,
        Err(BlocklistError::Draft(_))
    ));
    let entry = list.add(&Draft::new("10.0.0.1")).await.unwrap();
    assert!(list.update(entry.id, &Draft::new("")).await.is_err());
    assert_eq!(list.entries(None, 10).await.unwrap(), [entry]);
}

#[tokio::test]
async fn expired_entries_refuse_nobody() {
    let clock = Arc::new(ManualClock::new());
    let options = eager().with_clock(Arc::clone(&clock));
    let store = MemoryBlocklist::new();
    let list = Blocklist::load_with(store.clone(), options.clone())
        .await
        .unwrap();
    let day = Duration::from_secs(24 * 3600);
    let short = Draft::new("10.0.0.1").with_lifetime(day);
    let short = list.add(&short).await.unwrap();
    assert_eq!(short.expires, Some(clock.now().plus(day)));
    let at = Expiry::At(clock.now().plus(2 * day));
    let long = list
        .add(&Draft::new("10.0.0.1").with_expiry(at))
        .await
        .unwrap();

    let before = list.find(ip("10.0.0.1"));
    assert!([Some(short.id), Some(long.id)].contains(&before));
    clock.advance(day - Duration::from_millis(1));
    assert!(list.find(ip("10.0.0.1")).is_some());
    clock.advance(Duration::from_millis(1));
    assert_eq!(list.find(ip("10.0.0.1")), Some(long.id));
    clock.advance(day);
    assert_eq!(list.find(ip("10.0.0.1")), None);
    let again = Blocklist::load_with(store, options).await.unwrap();
    assert_eq!(again.find(ip("10.0.0.1")), None);
    assert_eq!(again.entries(None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_change_of_one_node_is_heard_of_by_another() {
    let store = Odd::default();
    // Nothing is polled for: what is seen was heard of.
    let options = BlocklistOptions::new().with_poll(Duration::from_secs(3600));
    let here = Blocklist::load_with(store.clone(), options.clone())
        .await
        .unwrap();
    let there = Blocklist::load_with(store, options).await.unwrap();
    let entry = here.add(&Draft::new("10.0.0.1")).await.unwrap();
    let finds = async || there.find(ip("10.0.0.1"));
    until("the addition", async || finds().await == Some(entry.id)).await;
    here.remove(entry.id).await.unwrap();
    until("the removal", async || finds().await.is_none()).await;
}

#[tokio::test]
async fn what_a_silent_store_does_not_say_is_found_by_looking() {
    let store = Odd::default();
    store.silent.store(true, Ordering::SeqCst);
    let (here, there) = (load(store.clone()).await, load(store).await);
    here.add(&Draft::new("10.0.0.1")).await.unwrap();
    until("the addition", async || {
        there.find(ip("10.0.0.1")).is_some()
    })
    .await;
}

#[tokio::test]
async fn a_failed_reload_keeps_the_last_good_state() {
    let store = Odd::default();
    let (list, other) = (load(store.clone()).await, load(store.real.clone()).await);
    let entry = list.add(&Draft::new("10.0.0.1")).await.unwrap();
    store.broken.store(true, Ordering::SeqCst);
    other.add(&Draft::new("10.0.0.2")).await.unwrap();
    until("failures", async || list.stats().failed_reloads > 2).await;
    assert!(matches!(list.reload().await, Err(BlocklistError::Store(_))));
    assert_eq!(list.find(ip("10.0.0.1")), Some(entry.id));
    assert!(list.add(&Draft::new("10.0.0.3")).await.is_err());
    assert_eq!(list.find(ip("10.0.0.3")), None);
    store.broken.store(false, Ordering::SeqCst);
    until("the reload", async || list.find(ip("10.0.0.2")).is_some()).await;
}

/// What the store said before a change does not undo it when it comes after.
#[tokio::test]
async fn a_slow_listing_does_not_undo_a_change() {
    let gate = Arc::new(Semaphore::new(1));
    let store = Odd {
        gate: Some(Arc::clone(&gate)),
        ..Odd::default()
    };
    // Its own task waits at the gate, with a listing from before the change.
    let list = load(store).await;
    until("the wait", async || gate.available_permits() == 0).await;
    tokio::task::yield_now().await;
    let entry = list.add(&Draft::new("10.0.0.1")).await.unwrap();
    assert_eq!(list.find(ip("10.0.0.1")), Some(entry.id));
    for _ in 0..100 {
        gate.add_permits(1);
        tokio::task::yield_now().await;
        assert_eq!(list.find(ip("10.0.0.1")), Some(entry.id));
    }
}

#[tokio::test]
async fn a_change_of_another_count_does_not_stay_over_what_the_store_has() {
    let odd = Odd::default();
    odd.silent.store(true, Ordering::SeqCst);
    let options = BlocklistOptions::new().with_poll(Duration::from_secs(3600));
    let list = Blocklist::load_with(odd.clone(), options).await.unwrap();
    list.add(&Draft::new("10.0.0.1")).await.unwrap();
    odd.forgets.store(true, Ordering::SeqCst);
    list.add(&Draft::new("10.0.0.2")).await.unwrap();
    until("it is as the store has it", async || {
        list.find(ip("10.0.0.2")).is_none() && list.find(ip("10.0.0.1")).is_some()
    })
    .await;
}

#[tokio::test]
async fn a_store_that_fails_at_the_start_is_an_error() {
    let store = Odd::default();
    store.broken.store(true, Ordering::SeqCst);
    let error = Blocklist::load(store).await.unwrap_err();
    assert_eq!(error.to_string(), "the blocklist's store failed");
}

#[tokio::test]
async fn what_nobody_understands_is_left_out_and_the_rest_loads() {
    let store = Odd::default();
    store
        .real
        .add(&Draft::new("10.0.0.1"), ManualClock::new().now())
        .await
        .unwrap();
    store.garbage.store(true, Ordering::SeqCst);
    let list = load(store).await;
    assert!(list.find(ip("10.0.0.1")).is_some());
    let unreadable = list.unreadable();
    assert_eq!(unreadable.len(), 1);
    assert_eq!(unreadable[0].id, Some(EntryId(900)));
    assert!(
        unreadable[0].reason.contains("`10.0.0.300`"),
        "{unreadable:?}"
    );
    assert_eq!((list.stats().entries, list.stats().unreadable), (1, 1));
}

#[tokio::test]
async fn hits_are_counted_and_given_to_the_store() {
    let store = Odd::default();
    // The test says when.
    let options = eager().with_flush(Duration::from_secs(3600));
    let list = Blocklist::load_with(store.clone(), options).await.unwrap();
    let entry = list.add(&Draft::new("10.0.0.0/24")).await.unwrap();
    let hits = async || list.entries(None, 1).await.unwrap()[0].hits;
    for last in 0..5 {
        assert_eq!(list.hit(ip(&format!("10.0.0.{last}"))), Some(entry.id));
    }
    assert_eq!(list.hit(ip("10.0.1.0")), None);
    assert_eq!(list.find(ip("10.0.0.1")), Some(entry.id));
    assert_eq!(hits().await, 5);

    store.broken.store(true, Ordering::SeqCst);
    assert!(list.flush_hits().await.is_err());
    store.broken.store(false, Ordering::SeqCst);
    assert_eq!(hits().await, 5);
    list.flush_hits().await.unwrap();
    let stored = store.real.look_up(&[entry.id]).await.unwrap();
    assert_eq!((stored[0].hits, hits().await), (5, 5));

    // What an entry had before it was changed counts, too.
    assert!(list.hit(ip("10.0.0.1")).is_some());
    list.update(entry.id, &Draft::new("10.9.9.9"))
        .await
        .unwrap();
    list.flush_hits().await.unwrap();
    assert_eq!(hits().await, 6);
}

#[tokio::test]
async fn hits_are_given_to_the_store_now_and_then() {
    let store = MemoryBlocklist::new();
    let options = eager().with_flush(Duration::from_millis(10));
    let list = Blocklist::load_with(store.clone(), options).await.unwrap();
    let entry = list.add(&Draft::new("10.0.0.1")).await.unwrap();
    assert!(list.hit(ip("10.0.0.1")).is_some());
    until("the hit", async || {
        store.look_up(&[entry.id]).await.unwrap()[0].hits == 1
    })
    .await;
}

#[tokio::test]
async fn entries_come_in_pages() {
    let list = load(MemoryBlocklist::new()).await;
    for last in 1..=5 {
        list.add(&Draft::new(format!("10.0.0.{last}")))
            .await
            .unwrap();
    }
    let page = async |after, most| -> Vec<u64> {
        let entries = list.entries(after, most).await.unwrap();
        entries.iter().map(|entry| entry.id.0).collect()
    };
    assert_eq!(page(None, 2).await, [1, 2]);
    assert_eq!(page(Some(EntryId(2)), 2).await, [3, 4]);
    assert_eq!(page(Some(EntryId(4)), 2).await, [5]);
    assert!(page(Some(EntryId(u64::MAX)), 2).await.is_empty());
}

#[tokio::test]
async fn more_than_there_is_room_for_is_refused() {
    let options = eager().with_capacity(2);
    let store = MemoryBlocklist::new();
    let list = Blocklist::load_with(store.clone(), options.clone())
        .await
        .unwrap();
    list.add(&Draft::new("10.0.0.1")).await.unwrap();
    let refused = list
        .add(&Draft::new("10.0.0.2,10.0.0.4"))
        .await
        .unwrap_err();
    assert!(matches!(refused, BlocklistError::Full), "{refused}");
    assert_eq!(list.entries(None, 9).await.unwrap().len(), 1);
    // Somebody with more room wrote more.
    let other = load(store.clone()).await;
    for last in 2..5 {
        other
            .add(&Draft::new(format!("10.0.0.{last}")))
            .await
            .unwrap();
    }
    until("the failure", async || list.stats().failed_reloads > 0).await;
    assert!(list.find(ip("10.0.0.1")).is_some());
    assert!(Blocklist::load_with(store, options).await.is_err());
}

/// Two nodes, many writers: in the end both refuse what the store says, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_write_at_once_come_to_the_same_state() {
    let store = MemoryBlocklist::new();
    let nodes = [load(store.clone()).await, load(store.clone()).await];
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_u8 {
        let node = nodes[usize::from(writer) % 2].clone();
        writers.spawn(async move {
            for round in 0..50_u8 {
                let one = node
                    .add(&Draft::new(format!("10.{writer}.{round}.1")))
                    .await
                    .unwrap();
                let to = Draft::new(format!("10.{writer}.{round}.2"));
                node.update(one.id, &to).await.unwrap();
                assert!(node.find(ip(&format!("10.{writer}.{round}.2"))).is_some());
                if round % 2 == 0 {
                    assert!(node.remove(one.id).await.unwrap());
                }
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    for node in &nodes {
        until("the same state", async || {
            (0..8).all(|writer| {
                (0..50).all(|round| {
                    let finds = |last| node.find(ip(&format!("10.{writer}.{round}.{last}")));
                    finds(1).is_none() && finds(2).is_some() == (round % 2 == 1)
                })
            })
        })
        .await;
        assert_eq!(node.stats().entries, 8 * 25);
    }
}

/// Nothing keeps a blocklist alive but its clones.
#[tokio::test]
async fn its_tasks_end_with_it() {
    let store = Odd::default();
    let list = load(store.clone()).await;
    let kept = list.clone();
    drop(list);
    assert!(Arc::strong_count(&store.broken) > 1);
    drop(kept);
    until("the end", async || Arc::strong_count(&store.broken) == 1).await;
}

/// On one thread: what is read anew in one go holds up everybody else.
#[tokio::test]
async fn requests_go_on_while_a_long_list_is_read() {
    let store = MemoryBlocklist::new();
    let now = ManualClock::new().now();
    for number in 0..20_000_u32 {
        let ip = std::net::Ipv4Addr::from(0x0A00_0000 + number).to_string();
        store.add(&Draft::new(ip), now).await.unwrap();
    }
    let turns = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let others = tokio::spawn({
        let turns = Arc::clone(&turns);
        async move {
            loop {
                turns.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }
    });
    let list = load(store).await;
    assert!(list.find(ip("10.0.78.31")).is_some());
    let turns = turns.load(Ordering::SeqCst);
    assert!(turns > 100, "others had {turns} turns only");
    others.abort();
}
