//! What can't work in `[idempotency]` or a route, put to the setting that is to blame.

use onlyonce_core::{Anonymous, Policy, ScopeRule};

use super::elements::idempotency::RawIdempotency;
use super::error::Problem;
use super::report::Report;
use super::scalar::As;
use super::tree::Path;

/// Refuses a policy that can't work. `section` is where its settings are: `[idempotency]`, or
/// that of a route, in which case `[idempotency]` has a share in it.
pub(super) fn check_policy(policy: &Policy, section: &Path, report: &mut Report<'_>) {
    let base = Path::of(&["idempotency"]);
    // With a faulty setting left out, what remains may seem contradictory.
    if report.was_faulty(section) || report.was_faulty(&base) {
        return;
    }
    let Err(error) = policy.check() else {
        return;
    };
    // Of two settings that contradict each other, either can have been set; the one that is
    // nearest to the reader is named.
    let others = error.problem.split('`').skip(1).step_by(2);
    let candidates: Vec<&str> = std::iter::once(error.field).chain(others).collect();
    let blamed = [section, &base]
        .into_iter()
        .flat_map(|section| candidates.iter().map(|key| section.key(key)))
        .find(|path| report.is_set(path))
        .unwrap_or_else(|| section.key(error.field));
    // A route that changes nothing of it repeats what has been said of `[idempotency]`.
    if section != &base && blamed.starts_with(&base) && !report.problems.is_empty() {
        return;
    }
    let path = section.key(error.field);
    let problem = Problem::new(format!("{path} can't be {}", shown(policy, error.field)))
        .label(format!("`{}` {}", error.field, error.problem));
    report.error(&blamed, problem);
}

/// Warns of what lets callers meet each other's records without anyone having asked for it, in
/// `[idempotency]` or in a route that brings it up anew (`base` is what it would have otherwise).
pub(super) fn warn_of_sharing(
    policy: &Policy,
    section: &Path,
    base: Option<&Policy>,
    report: &mut Report<'_>,
) {
    let asked_for = |key: &str| report.is_set(&section.key(key));
    let known =
        base.is_some_and(|base| (&base.scope, base.anonymous) == (&policy.scope, policy.anonymous));
    let problem = match policy.scope {
        _ if known => return,
        ScopeRule::Shared if asked_for("scope") => return,
        ScopeRule::Shared => Problem::new("all callers share one scope with this profile")
            .label("whoever knows a key gets its response")
            .help("set `scope`: to \"principal\", or to \"none\" if you mean it"),
        _ if policy.anonymous == Anonymous::Refuse || asked_for("anonymous") => return,
        _ => Problem::new("callers without any credential share one scope")
            .label("whoever of them knows another's key gets its response")
            .help(
                "set `anonymous` in `[idempotency]`: to \"refuse\", or to \"share\" if you mean it",
            ),
    };
    report.warn(&section.key("profile"), problem);
}

/// The value of a setting, as it is written.
fn shown(policy: &Policy, field: &str) -> String {
    let written = toml::Table::try_from(RawIdempotency::of_policy(policy));
    match written.ok().and_then(|mut all| all.remove(field)) {
        Some(value) => value.to_string(),
        None => "this".to_owned(),
    }
}

/// The policy that `[idempotency]` describes.
pub(super) fn base_policy(raw: &RawIdempotency) -> Policy {
    let profile = raw.profile.map(|As(profile)| profile).unwrap_or_default();
    let mut policy = Policy::new(profile);
    raw.apply(&mut policy);
    policy
}
