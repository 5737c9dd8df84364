//! The list of all checks, and the macro that makes tests of them.

/// Makes a test of each check, in the module where it stands.
///
/// ```text
/// mod conformance {
///     use super::Subject; // implements `Harness`, `ExactTime` and `Reopen`
///
///     onlyonce_conformance::conformance! {
///         harness: Subject,
///         exact_time: yes,
///         reopen: yes,
///     }
/// }
/// ```
///
/// - `harness`: a type that implements [`Harness`](crate::Harness).
/// - `exact_time`: `yes` if it is also [`ExactTime`](crate::ExactTime).
/// - `reopen`: `yes` if it is also [`Reopen`](crate::Reopen).
///
/// What a store can't do is said with a reason, as in `reopen: no("it lives in memory")`. Its
/// checks are ignored tests then, which the test runner counts and names: none passes unrun.
#[macro_export]
macro_rules! conformance {
    (
        harness: $harness:ty,
        exact_time: $exact:ident $(($no_exact:literal))?,
        reopen: $reopen:ident $(($no_reopen:literal))? $(,)?
    ) => {
        $crate::__each_check! {
            [$crate::__tests]
            { $harness, [$exact $($no_exact)?], [$reopen $($no_reopen)?] }
        }
    };
}

/// Gives the list of all checks, by group and by what a harness must be capable of, to the macro
/// in brackets, behind the arguments in braces.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_check {
    ([$($then:tt)*] { $($arguments:tt)* }) => {
        $($then)*! {
            { $($arguments)* }
            cancellation {
                base hazard_03_dropped_claim_can_be_sent_again,
                base dropped_completion_can_be_sent_again,
                base dropped_renewal_or_release_leaves_a_whole_record,
                base hazard_38_dropped_watch_call_leaves_nothing,
                base dropped_inspection_leaves_the_store_fit,
                base operations_dropped_under_load_block_nobody,
            }
            completion {
                base hazard_41_repeated_completion_keeps_the_first_result,
                base each_ending_is_told_as_recorded,
                base hazard_26_fingerprint_outlives_completion,
                base completion_kept_for_no_time_is_gone,
                base completed_record_outlives_its_lease,
            }
            concurrency {
                base hazard_01_one_winner_among_claimants,
                base hazard_04_one_winner_among_claimants_of_an_expired_record,
                base one_winner_among_take_overs,
                base late_owner_or_successor,
                base late_renewal_or_successor,
                base completion_or_release,
                base operator_or_successor,
                base fences_follow_real_time,
            }
            decision {
                base absent_is_claimed,
                base expired_is_claimed,
                base hazard_05_live_lease_is_held,
                base hazard_43_lapsed_lease_is_held_or_taken_over,
                base completed_is_replayed,
                base not_kept_says_so,
                base unknown_is_held,
                base fingerprint_off_matches_every_other,
            }
            expiry {
                base hazard_06_expired_records_are_claimed_at_once,
                base expired_records_are_invisible,
                base longest_durations_do_not_wrap,
                exact completed_record_ends_to_the_millisecond,
                exact unknown_record_ends_to_the_millisecond,
                exact unfinished_record_ends_to_the_millisecond,
                exact renewed_record_ends_to_the_millisecond,
                exact resolved_record_ends_to_the_millisecond,
                exact lease_ends_to_the_millisecond,
                exact late_writes_land_until_the_deadline,
                exact durations_are_told_exactly,
                exact fractions_of_a_millisecond_round_up,
            }
            fencing {
                base hazard_10_late_owner_after_take_over,
                base hazard_42_late_owners_of_every_generation,
                base hazard_11_late_owner_after_release_and_claim,
                base hazard_11_late_owner_after_forget_and_claim,
                base late_owner_after_resolution_as_completed,
                base late_owner_after_resolution_as_not_executed,
                base hazard_11_late_owner_after_expiry,
                base owner_after_its_completion,
                base foreign_fences_fit_nowhere,
                base lapsed_lease_still_writes,
                base hazard_11_fences_grow_store_wide,
                base resolution_takes_a_newer_fence,
            }
            histories {
                exact sequences_agree_with_the_model,
                exact_reopen sequences_agree_across_reopening,
                base concurrent_histories_are_linearizable,
                exact concurrent_histories_in_time_are_linearizable,
                base hold_executes_at_most_once,
                base retry_gives_everybody_one_answer,
            }
            inspection {
                base show_tells_what_a_claim_is_told,
                base list_pages_in_order,
                base list_filters_by_state,
                base list_leaves_results_out,
                base count_counts_live_records,
                base resolve_as_completed,
                base resolve_as_not_executed,
                base forget_removes_all_but_work_under_way,
            }
            nonce {
                base hazard_41_resent_claim_wins_again,
                base resent_claim_counts_its_lease_anew,
                base hazard_41_resent_claim_wins_after_its_lease,
                base resent_claim_never_undoes_a_take_over,
                base resent_claim_after_completion_is_held,
                base resent_claim_begins_anew_when_the_record_is_gone,
                base claim_sent_many_times_at_once_is_one_claim,
            }
            payload {
                base hazard_25_binary_results_come_back,
                base hazard_24_empty_result_is_a_result,
                base large_results_come_back,
                base hostile_labels_come_back,
            }
            renewal {
                base hazard_09_renewed_lease_never_runs_out,
                base renewal_moves_the_expiry,
                base hazard_14_renewed_lease_ends_when_renewals_do,
                base renewal_carries_the_fingerprint,
            }
            reopening {
                reopen records_come_back,
                reopen what_is_gone_stays_gone,
                reopen deadlines_are_kept,
                exact_reopen fractions_of_a_millisecond_survive,
                reopen hazard_11_fences_grow_across_reopening,
                reopen owners_go_on,
                reopen late_owners_stay_fenced_off,
            }
            watching {
                base completion_is_told,
                base release_is_told,
                base resolution_is_told,
                base forgetting_is_told,
                base everybody_who_watches_is_told,
                base watch_is_quiet_while_nothing_happens,
                base absent_record_can_be_watched,
                base refused_write_does_not_end_a_watch_for_good,
                base hazard_38_dropped_watch_leaves_nothing,
                base hazard_18_one_waiter_succeeds_each_release,
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ($arguments:tt $($group:ident { $($needs:ident $name:ident,)* })*) => {
        $(
            mod $group {
                #[allow(unused_imports, reason = "the harness may be named by a full path")]
                use super::*;
                $( $crate::__test! { $arguments $group $name $needs } )*
            }
        )*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __test {
    ({ $harness:ty, $exact:tt, $reopen:tt } $group:ident $name:ident base) => {
        $crate::__test! { run $harness, $group $name }
    };
    ({ $harness:ty, [yes], $reopen:tt } $group:ident $name:ident exact) => {
        $crate::__test! { run $harness, $group $name }
    };
    ({ $harness:ty, $exact:tt, [yes] } $group:ident $name:ident reopen) => {
        $crate::__test! { run $harness, $group $name }
    };
    ({ $harness:ty, [yes], [yes] } $group:ident $name:ident exact_reopen) => {
        $crate::__test! { run $harness, $group $name }
    };
    ({ $harness:ty, [no $why:literal], $reopen:tt } $group:ident $name:ident $needs:ident) => {
        $crate::__test! { ignore $name $why }
    };
    ({ $harness:ty, $exact:tt, [no $why:literal] } $group:ident $name:ident $needs:ident) => {
        $crate::__test! { ignore $name $why }
    };
    (run $harness:ty, $group:ident $name:ident) => {
        #[test]
        fn $name() {
            $crate::run($crate::checks::$group::$name::<$harness>());
        }
    };
    (ignore $name:ident $why:literal) => {
        #[test]
        #[ignore = $why]
        fn $name() {
            panic!("this check does not apply: {}", $why);
        }
    };
}

/// One check, by name.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its group and its name, such as `decision::absent_is_claimed`.
    pub name: &'static str,
    /// [Runs](crate::run) it on a harness of the type that [`all`] was asked for.
    pub run: fn(),
}

/// All checks, for runners of one's own. A store's tests want [`conformance!`] instead.
#[must_use]
pub fn all<H: crate::ExactTime + crate::Reopen>() -> Vec<Check> {
    macro_rules! list {
        ({ $harness:ty } $($group:ident { $($needs:ident $name:ident,)* })*) => {
            vec![$($(
                Check {
                    name: concat!(stringify!($group), "::", stringify!($name)),
                    run: || crate::run(crate::checks::$group::$name::<$harness>()),
                },
            )*)*]
        };
    }
    crate::__each_check! { [list] { H } }
}

/// The checks that need no [`ExactTime`](crate::ExactTime), for runners of one's own: as for a
/// store that has its time from elsewhere, where many checks can wait side by side.
#[must_use]
pub fn in_real_time<H: crate::Reopen>() -> Vec<Check> {
    macro_rules! check {
        (exact $($rest:tt)*) => {
            None
        };
        (exact_reopen $($rest:tt)*) => {
            None
        };
        ($needs:ident $harness:ty, $group:ident $name:ident) => {
            Some(Check {
                name: concat!(stringify!($group), "::", stringify!($name)),
                run: || crate::run(crate::checks::$group::$name::<$harness>()),
            })
        };
    }
    macro_rules! list {
        ({ $harness:ty } $($group:ident { $($needs:ident $name:ident,)* })*) => {
            [$($( check!($needs $harness, $group $name), )*)*]
        };
    }
    let checks: [Option<Check>; _] = crate::__each_check! { [list] { H } };
    checks.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    macro_rules! names {
        ({} $($group:ident { $($needs:ident $name:ident,)* })*) => {
            [$($(concat!(stringify!($group), "::", stringify!($name)),)*)*]
        };
    }

    #[test]
    fn no_check_is_missing_from_the_list() {
        let mut written = BTreeSet::new();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/checks");
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let group = path.file_stem().unwrap().to_str().unwrap().to_owned();
            for line in fs::read_to_string(&path).unwrap().lines() {
                if let Some(rest) = line.strip_prefix("pub async fn ") {
                    let name = rest.split('<').next().unwrap();
                    written.insert(format!("{group}::{name}"));
                }
            }
        }
        let listed = crate::__each_check! { [names] {} };
        let listed: BTreeSet<_> = listed.into_iter().map(str::to_owned).collect();
        assert_eq!(listed, written);
    }
}
