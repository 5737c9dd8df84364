//! The suite can fail: each of these faults, put into a small store, is found by the checks that
//! are named beside it, and each check finds at least one.

mod store;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use onlyonce_conformance::{ExactTime, Harness, Reopen, all, conformance};
use onlyonce_core::ManualClock;

use store::{FaultyStore, Kept};

macro_rules! faults {
    ($($fault:ident: $($group:ident::$check:ident)+;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            None,
            $($fault,)*
        }

        /// Faults, and the checks that find them.
        const FAULTS: &[(Fault, &str)] = &[
            $($((Fault::$fault, concat!(stringify!($group), "::", stringify!($check))),)+)*
        ];
    };
}

faults! {
    AttemptsBeginAtZero:
        decision::absent_is_claimed
        concurrency::one_winner_among_take_overs;
    ClaimInTwoSteps:
        concurrency::hazard_01_one_winner_among_claimants
        nonce::claim_sent_many_times_at_once_is_one_claim
        histories::hold_executes_at_most_once
        watching::hazard_18_one_waiter_succeeds_each_release;
    ExpiredClaimInTwoSteps:
        concurrency::hazard_04_one_winner_among_claimants_of_an_expired_record;
    TakeOverInTwoSteps:
        concurrency::one_winner_among_take_overs
        concurrency::late_owner_or_successor
        concurrency::late_renewal_or_successor
        concurrency::operator_or_successor
        histories::retry_gives_everybody_one_answer;
    TimeIsReadTooEarly:
        histories::concurrent_histories_in_time_are_linearizable;
    ExpiredRowBlocks:
        decision::expired_is_claimed
        expiry::hazard_06_expired_records_are_claimed_at_once
        cancellation::operations_dropped_under_load_block_nobody;
    ExpiredLifeGoesOn:
        decision::expired_is_claimed
        completion::completion_kept_for_no_time_is_gone;
    LiveIsTakenForOrphan:
        decision::hazard_05_live_lease_is_held
        renewal::hazard_09_renewed_lease_never_runs_out;
    HoldIsIgnored:
        decision::hazard_43_lapsed_lease_is_held_or_taken_over
        inspection::show_tells_what_a_claim_is_told;
    RetryIsIgnored:
        decision::hazard_43_lapsed_lease_is_held_or_taken_over;
    AnyoneTakesOver:
        decision::hazard_43_lapsed_lease_is_held_or_taken_over
        renewal::renewal_carries_the_fingerprint;
    UnverifiedTakesOver:
        decision::hazard_43_lapsed_lease_is_held_or_taken_over;
    OffMatchesNothing:
        decision::fingerprint_off_matches_every_other;
    UnknownIsTakenOver:
        decision::unknown_is_held;
    CompletedIsExecutedAgain:
        decision::not_kept_says_so
        histories::concurrent_histories_are_linearizable;
    EmptyIsAMiss:
        payload::hazard_24_empty_result_is_a_result
        reopening::records_come_back;
    LostClaimWrites:
        decision::hazard_05_live_lease_is_held
        decision::completed_is_replayed
        decision::not_kept_says_so
        decision::unknown_is_held;
    LostClaimDeletes:
        decision::completed_is_replayed;
    LeaseIsTheExpiry:
        decision::hazard_43_lapsed_lease_is_held_or_taken_over
        fencing::lapsed_lease_still_writes;
    LifetimeIsTheLease:
        renewal::hazard_14_renewed_lease_ends_when_renewals_do
        inspection::count_counts_live_records;

    TakeOverKeepsTheFence:
        fencing::hazard_10_late_owner_after_take_over
        fencing::hazard_42_late_owners_of_every_generation
        fencing::hazard_11_fences_grow_store_wide;
    TakeOverKeepsTheAttempt:
        decision::hazard_43_lapsed_lease_is_held_or_taken_over;
    TakeOverKeepsTheNonce:
        nonce::resent_claim_never_undoes_a_take_over;
    TakeOverKeepsTheLabel:
        payload::hostile_labels_come_back;
    TakeOverRestartsTheAge:
        expiry::durations_are_told_exactly;
    TakeOverDropsTheFingerprint:
        decision::fingerprint_off_matches_every_other;

    NonceIsIgnored:
        nonce::hazard_41_resent_claim_wins_again
        cancellation::hazard_03_dropped_claim_can_be_sent_again;
    ResentClaimIsNew:
        nonce::hazard_41_resent_claim_wins_again
        nonce::claim_sent_many_times_at_once_is_one_claim;
    ResentClaimOnlyWhileLive:
        nonce::hazard_41_resent_claim_wins_after_its_lease;
    ResentClaimKeepsItsLease:
        nonce::resent_claim_counts_its_lease_anew;
    ResentClaimReopens:
        nonce::resent_claim_after_completion_is_held;

    FencesCountPerRecord:
        fencing::hazard_11_late_owner_after_release_and_claim
        fencing::hazard_11_late_owner_after_forget_and_claim
        fencing::hazard_11_late_owner_after_expiry
        fencing::late_owner_after_resolution_as_not_executed
        nonce::resent_claim_begins_anew_when_the_record_is_gone;
    FencesCountPerKey:
        concurrency::fences_follow_real_time
        fencing::hazard_11_fences_grow_store_wide;
    CompleteIsUnfenced:
        fencing::hazard_10_late_owner_after_take_over
        fencing::foreign_fences_fit_nowhere;
    UnknownIsUnfenced:
        fencing::hazard_10_late_owner_after_take_over
        fencing::foreign_fences_fit_nowhere;
    RenewIsUnfenced:
        fencing::hazard_10_late_owner_after_take_over
        fencing::foreign_fences_fit_nowhere;
    ReleaseIsUnfenced:
        fencing::hazard_10_late_owner_after_take_over
        watching::refused_write_does_not_end_a_watch_for_good;
    ReleaseRemovesTheCompleted:
        fencing::owner_after_its_completion;
    RenewalRevivesTheCompleted:
        fencing::owner_after_its_completion;
    LateCompletionResurrects:
        fencing::hazard_11_late_owner_after_release_and_claim
        concurrency::completion_or_release;
    ExpiredOwnerWrites:
        expiry::late_writes_land_until_the_deadline;
    LapsedOwnerIsRefused:
        fencing::lapsed_lease_still_writes
        expiry::lease_ends_to_the_millisecond;

    RepeatIsRefused:
        completion::hazard_41_repeated_completion_keeps_the_first_result
        cancellation::dropped_completion_can_be_sent_again;
    RepeatOverwrites:
        completion::hazard_41_repeated_completion_keeps_the_first_result;
    RepeatProlongs:
        completion::hazard_41_repeated_completion_keeps_the_first_result;
    RepeatFitsAnyOwner:
        fencing::hazard_10_late_owner_after_take_over
        histories::sequences_agree_with_the_model;
    CompletionDropsTheFingerprint:
        completion::hazard_26_fingerprint_outlives_completion;
    CompletionLearnsNothing:
        completion::hazard_26_fingerprint_outlives_completion;
    CompletionKeepsTheExpiry:
        completion::completed_record_outlives_its_lease;
    CompletionInTwoSteps:
        histories::concurrent_histories_are_linearizable;
    NotKeptIsUnknown:
        completion::each_ending_is_told_as_recorded;
    StatusIsMadeValid:
        completion::each_ending_is_told_as_recorded;

    RenewalDoesNothing:
        renewal::hazard_09_renewed_lease_never_runs_out;
    RenewalKeepsTheExpiry:
        renewal::renewal_moves_the_expiry
        expiry::renewed_record_ends_to_the_millisecond;
    RenewalAdds:
        renewal::hazard_14_renewed_lease_ends_when_renewals_do;
    RenewalNeverShortens:
        renewal::hazard_14_renewed_lease_ends_when_renewals_do;
    RenewalLearnsNothing:
        renewal::renewal_carries_the_fingerprint;
    RenewalDropsTheFingerprint:
        renewal::renewal_carries_the_fingerprint;
    RenewalInTwoSteps:
        histories::concurrent_histories_are_linearizable;

    ExpiresLate:
        expiry::completed_record_ends_to_the_millisecond
        expiry::unknown_record_ends_to_the_millisecond
        expiry::unfinished_record_ends_to_the_millisecond;
    ExpiresEarly:
        expiry::late_writes_land_until_the_deadline
        expiry::durations_are_told_exactly;
    FractionsAreDropped:
        expiry::fractions_of_a_millisecond_round_up;
    LongDurationsWrap:
        expiry::longest_durations_do_not_wrap;
    NoTimeMeansForever:
        completion::completion_kept_for_no_time_is_gone;

    LabelsAreCut:
        payload::hostile_labels_come_back;
    LabelsAreCleaned:
        payload::hostile_labels_come_back;
    ResultsAreText:
        payload::hazard_25_binary_results_come_back;
    ResultsAreCut:
        payload::large_results_come_back;
    EmptyResultIsNone:
        payload::hazard_24_empty_result_is_a_result;

    CompletionIsNotTold:
        watching::completion_is_told
        watching::absent_record_can_be_watched;
    ReleaseIsNotTold:
        watching::release_is_told;
    ResolutionIsNotTold:
        watching::resolution_is_told;
    ForgettingIsNotTold:
        watching::forgetting_is_told;
    OnlyOneIsTold:
        watching::everybody_who_watches_is_told;
    EverybodyIsTold:
        watching::watch_is_quiet_while_nothing_happens;
    WatchFiresAtOnce:
        watching::watch_is_quiet_while_nothing_happens;
    WatchBeginsAtItsFirstPoll:
        watching::completion_is_told
        watching::absent_record_can_be_watched;
    WatchLeaks:
        watching::hazard_38_dropped_watch_leaves_nothing;

    ExpiredAreListed:
        expiry::expired_records_are_invisible
        expiry::completed_record_ends_to_the_millisecond;
    ExpiredAreShown:
        expiry::expired_records_are_invisible;
    ExpiredAreCounted:
        expiry::expired_records_are_invisible;
    ExpiredAreForgotten:
        expiry::expired_records_are_invisible;
    ResultsAreListed:
        inspection::list_leaves_results_out;
    ResultsAreListedAsNotKept:
        inspection::list_leaves_results_out
        inspection::list_filters_by_state;
    ListingIsBackwards:
        inspection::list_pages_in_order;
    PagesOverlap:
        inspection::list_pages_in_order;
    LimitIsIgnored:
        inspection::list_pages_in_order;
    FilterComesAfterTheLimit:
        inspection::list_filters_by_state;
    FilterIsIgnored:
        inspection::list_filters_by_state;
    ShownWithoutFingerprint:
        inspection::show_tells_what_a_claim_is_told;
    LapsedCountAsAtWork:
        inspection::count_counts_live_records;
    AnythingIsResolved:
        inspection::resolve_as_completed
        inspection::resolve_as_not_executed;
    OnlyHeldIsResolved:
        inspection::resolve_as_completed;
    NotExecutedIsHeld:
        inspection::resolve_as_not_executed;
    ResolutionKeepsTheFence:
        fencing::resolution_takes_a_newer_fence
        fencing::late_owner_after_resolution_as_completed;
    ResolutionProlongs:
        expiry::resolved_record_ends_to_the_millisecond;
    ResolutionDropsTheResult:
        inspection::resolve_as_completed
        fencing::late_owner_after_resolution_as_completed;
    WorkIsForgotten:
        inspection::forget_removes_all_but_work_under_way;
    LapsedAreNotForgotten:
        inspection::forget_removes_all_but_work_under_way;

    DroppedFutureKeepsItsLock:
        cancellation::operations_dropped_under_load_block_nobody
        cancellation::dropped_inspection_leaves_the_store_fit;
    DroppedClaimIsNobodys:
        cancellation::hazard_03_dropped_claim_can_be_sent_again;
    DroppedCompletionIsHalf:
        cancellation::dropped_completion_can_be_sent_again;
    DroppedRenewalLosesTheRecord:
        cancellation::dropped_renewal_or_release_leaves_a_whole_record;
    DroppedWatchCallLeaks:
        cancellation::hazard_38_dropped_watch_call_leaves_nothing;

    ReopenForgetsFences:
        reopening::hazard_11_fences_grow_across_reopening;
    ReopenFencesFromRecords:
        reopening::hazard_11_fences_grow_across_reopening;
    ReopenLosesTheUnfinished:
        reopening::records_come_back
        histories::sequences_agree_across_reopening;
    ReopenLosesTheCompleted:
        reopening::records_come_back;
    ReopenResurrects:
        reopening::what_is_gone_stays_gone
        reopening::late_owners_stay_fenced_off;
    ReopenRestartsDeadlines:
        reopening::deadlines_are_kept;
    ReopenDropsFractions:
        reopening::fractions_of_a_millisecond_survive;
    ReopenForgetsNonces:
        reopening::owners_go_on;
    ReopenRefencesOwners:
        reopening::owners_go_on;
}

thread_local! {
    /// The fault of the stores that checks on this thread are given.
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

struct Subject<const FAULTY: bool> {
    clock: Arc<ManualClock>,
    store: Arc<FaultyStore>,
}

impl<const FAULTY: bool> Harness for Subject<FAULTY> {
    type Store = FaultyStore;
    const TICK: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_millis(if FAULTY { 500 } else { 30_000 });

    async fn fresh() -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = FaultyStore::new(FAULT.get(), Arc::clone(&clock), Kept::default());
        Self {
            clock,
            store: Arc::new(store),
        }
    }

    fn store(&self) -> Arc<FaultyStore> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn open_watches(&self) -> usize {
        self.store.watchers.len()
    }
}

impl<const FAULTY: bool> ExactTime for Subject<FAULTY> {}

impl<const FAULTY: bool> Reopen for Subject<FAULTY> {
    async fn reopen(self) -> Self {
        let Self { clock, store } = self;
        let store = Arc::into_inner(store).expect("the checks have dropped the store");
        let opened = FaultyStore::new(store.fault, Arc::clone(&clock), store.reopened());
        Self {
            clock,
            store: Arc::new(opened),
        }
    }
}

mod no_fault {
    use super::*;

    conformance! {
        harness: Subject<false>,
        exact_time: yes,
        reopen: yes,
    }
}

/// Races are lost by chance: a check that looks for one gets so many tries.
const TRIES: usize = 25;

#[test]
fn every_fault_is_found() {
    let checks = all::<Subject<true>>();
    let todo = Mutex::new(FAULTS.iter());
    let missed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((fault, name)) = next else { break };
                    let check = checks.iter().find(|check| check.name == *name);
                    let run = check.unwrap_or_else(|| panic!("no such check: {name}")).run;
                    let found = (0..TRIES).any(|_| {
                        let check = thread::spawn(move || {
                            FAULT.set(*fault);
                            run();
                        });
                        check.join().is_err()
                    });
                    if !found {
                        missed.lock().unwrap().push((fault, name));
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn every_check_finds_a_fault() {
    let checks: BTreeSet<_> = all::<Subject<true>>().iter().map(|c| c.name).collect();
    let used: BTreeSet<_> = FAULTS.iter().map(|(_, check)| *check).collect();
    assert_eq!(checks, used);
}
