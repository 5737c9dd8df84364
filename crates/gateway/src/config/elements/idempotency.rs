//! `[idempotency]`, and what a `[[route]]` changes of it.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use onlyonce_core::{
    Anonymous, Concurrent, OnStoreFailure, OnUnknown, Policy, Profile, ScopeRule, Syntax,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::SecretText;
use super::values::{DocsUrl, FingerprintValue, KeyRuleValue, StatusSetValue};
use crate::config::scalar::{As, OrOff, OrOffList};
use crate::config::size::Bytes;

/// How keyed requests are treated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table of idempotency settings"
)]
#[schemars(inline)]
pub(in crate::config) struct RawIdempotency {
    /// The set of defaults that the settings below start from. A setting that is named wins
    /// over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) profile: Option<As<Profile>>,
    /// Headers that carry the key, in order; the first that is present wins.
    headers: Option<Vec<As<HeaderName>>>,
    /// How the key may be written: `lenient` takes `abc` and `"abc"`, `strict` the quoted form
    /// alone (RFC 9651).
    syntax: Option<As<Syntax>>,
    /// What the key must look like. Any key has 1 to 255 characters of printable ASCII.
    validate: Option<KeyRuleValue>,
    /// Whether a request without a key is refused with 400.
    required: Option<bool>,
    /// Methods that are protected. Safe methods (GET, HEAD, OPTIONS, TRACE) never are.
    methods: Option<Vec<As<Method>>>,
    /// Whose key it is. `principal`: the authenticated caller, else the holder of the
    /// `Authorization` header, else anonymous. `header:NAME`: whoever sends that value. `none`:
    /// everybody's: whoever knows a key gets its response.
    scope: Option<As<ScopeRule>>,
    /// What to do with callers without any credential: `share` puts them all in one scope,
    /// `refuse` answers 400.
    anonymous: Option<As<Anonymous>>,
    /// What is hashed to tell a retry from another request under the same key: method, path with
    /// query, content type, and the body byte by byte (`bytes`), as JSON (`json`: order of keys
    /// and white space don't matter), not at all (`none`), or these JSON pointers of it. The
    /// table adds headers. `off` compares nothing.
    fingerprint: Option<FingerprintValue>,
    /// Status when a key is used for another request: 400, 409 or 422.
    mismatch_status: Option<As<StatusCode>>,
    /// What a request gets while the first one with its key is at work: `reject` answers 409,
    /// `wait` holds it for the answer.
    concurrent: Option<As<Concurrent>>,
    /// With `concurrent = "wait"`: how long a request is held; then 409.
    wait_timeout: Option<As<Duration>>,
    /// How many requests wait for one key at most; above it 409.
    max_waiters: Option<As<usize>>,
    /// How many keyed requests of one scope are at work at most on this gateway; above it 429.
    max_in_progress: Option<As<OrOff<usize>>>,
    /// How long a request may go without a sign of life from the gateway that handles it before
    /// it counts as vanished. Renewed every third of it, so it limits no request's duration.
    lease: Option<As<Duration>>,
    /// How long a response is kept and replayed, from completion.
    lifetime: Option<As<Duration>>,
    /// Which responses are stored; after any other the key can be used again. `final`: 200 to
    /// 499 but 408, 425 and 429. `below-500`, `success` (2xx), `all`, or a list of statuses and
    /// ranges such as `[200, "400-404"]`.
    store: Option<StatusSetValue>,
    /// Whether a failure inside the gateway counts as a 500 under `store`; if not, it always
    /// frees the key.
    store_service_errors: Option<bool>,
    /// What to do when nobody knows whether a request was executed: `hold` answers 409 until an
    /// operator settles it, `retry` lets the next request execute again.
    on_unknown: Option<As<OnUnknown>>,
    /// What to do when the store fails: `reject` answers 503, `bypass` executes without
    /// protection.
    on_store_failure: Option<As<OnStoreFailure>>,
    /// Status when the store fails, a 5xx.
    store_failure_status: Option<As<StatusCode>>,
    /// Time limit of each call to the store; at most a third of `lease`.
    store_timeout: Option<As<Duration>>,
    /// Request bodies up to this size are read before the key is claimed; larger ones stream.
    buffer: Option<As<Bytes>>,
    /// Longest body of a keyed request. Beyond it 413.
    max_request_body: Option<As<Bytes>>,
    /// Longest response body that is kept. A longer one goes through, and a retry gets 409.
    max_response_body: Option<As<Bytes>>,
    /// How long a streamed response whose client has gone is still followed to its end.
    abandoned_stream_timeout: Option<As<Duration>>,
    /// Header that marks a replay.
    replay_header: Option<As<OrOff<HeaderName>>>,
    /// Whether keyed responses carry `Idempotency-Outcome` and `Idempotency-Expires`.
    verdict_headers: Option<bool>,
    /// Response headers that are not kept.
    drop_headers: Option<Vec<As<HeaderName>>>,
    /// The only response headers that are kept; `off` keeps all. Not together with
    /// `drop_headers`.
    keep_headers: Option<OrOffList<HeaderName>>,
    /// Whether keys may show in logs, traces and error bodies. They let whoever reads them get
    /// their owners' responses.
    reveal_keys: Option<bool>,
    /// Where your documentation of idempotency is: the base of `type` in error bodies.
    docs_url: Option<As<DocsUrl>>,

    /// Text under which scopes and keys are hashed before they reach the store: whoever reads the
    /// store but not this can't test guesses of keys. All gateways on one store need the same,
    /// and with another no record is found again. Left out, one is made at random with the store
    /// and kept there, for all who share it. For the whole gateway, not per route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) secret: Option<As<SecretText>>,
    /// The same, in a file of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) secret_file: Option<As<PathBuf>>,
    /// Header in which something in front of the gateway names the authenticated caller. Only
    /// if clients can't reach the gateway around it and it removes what clients send under this
    /// name: who can set it can be anybody. For the whole gateway, not per route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) principal_header: Option<As<OrOff<HeaderName>>>,
}

/// Settings that hold for the whole gateway and have no place in a route.
pub(in crate::config) const GATEWAY_WIDE: [&str; 3] = ["secret", "secret_file", "principal_header"];

/// A setting as it is written, and as [`Policy`] has it.
trait Means<T> {
    fn meaning(&self) -> T;
    fn of(value: &T) -> Self;
}

macro_rules! settings_of_policy {
    ($($name:ident)*) => {
        impl RawIdempotency {
            /// Puts what is set here into `policy`, over what it had.
            pub(in crate::config) fn apply(&self, policy: &mut Policy) {
                $(if let Some(value) = &self.$name {
                    policy.$name = value.meaning();
                })*
            }

            /// All settings of `policy`, each set.
            pub(in crate::config) fn of_policy(policy: &Policy) -> Self {
                Self {
                    $($name: Some(Means::of(&policy.$name)),)*
                    ..Self::default()
                }
            }
        }
    };
}

settings_of_policy! {
    headers syntax validate required methods scope anonymous fingerprint mismatch_status
    concurrent wait_timeout max_waiters max_in_progress lease lifetime store store_service_errors
    on_unknown on_store_failure store_failure_status store_timeout buffer max_request_body
    max_response_body abandoned_stream_timeout replay_header verdict_headers drop_headers
    keep_headers reveal_keys docs_url
}

macro_rules! settings_of_profiles {
    ($($name:ident)*) => {
        /// The settings in which profiles differ.
        pub(in crate::config) const OF_PROFILES: &[&str] = &[$(stringify!($name)),*];

        /// Gives `policy` all that `profile` says, and leaves it what profiles don't speak of.
        pub(in crate::config) fn adopt(policy: &mut Policy, profile: Profile) {
            let from = Policy::new(profile);
            $(policy.$name = from.$name;)*
        }
    };
}

settings_of_profiles! {
    headers syntax validate required methods scope anonymous fingerprint mismatch_status
    concurrent lifetime store store_service_errors on_unknown on_store_failure
    store_failure_status replay_header
}

impl<T: Clone> Means<T> for As<T> {
    fn meaning(&self) -> T {
        self.0.clone()
    }

    fn of(value: &T) -> Self {
        Self(value.clone())
    }
}

impl<T: Clone> Means<Vec<T>> for Vec<As<T>> {
    fn meaning(&self) -> Vec<T> {
        self.iter().map(|As(item)| item.clone()).collect()
    }

    fn of(value: &Vec<T>) -> Self {
        value.iter().cloned().map(As).collect()
    }
}

impl<T: Clone> Means<Option<T>> for As<OrOff<T>> {
    fn meaning(&self) -> Option<T> {
        self.0.clone().into()
    }

    fn of(value: &Option<T>) -> Self {
        Self(value.clone().into())
    }
}

impl<T: Clone> Means<Option<Vec<T>>> for OrOffList<T> {
    fn meaning(&self) -> Option<Vec<T>> {
        let Self(list) = self;
        list.as_ref().map(Means::meaning)
    }

    fn of(value: &Option<Vec<T>>) -> Self {
        Self(value.as_ref().map(Means::of))
    }
}

macro_rules! means {
    ($($as_written:ty => $in_policy:ty: $meaning:expr, $of:expr;)*) => {$(
        impl Means<$in_policy> for $as_written {
            fn meaning(&self) -> $in_policy {
                let meaning: fn(&Self) -> $in_policy = $meaning;
                meaning(self)
            }

            fn of(value: &$in_policy) -> Self {
                let of: fn(&$in_policy) -> Self = $of;
                of(value)
            }
        }
    )*};
}

means! {
    bool => bool: |on| *on, |on| *on;
    As<Bytes> => usize: |As(bytes)| bytes.as_usize(), |bytes| As(Bytes(*bytes as u64));
    As<Bytes> => u64: |As(bytes)| bytes.0, |bytes| As(Bytes(*bytes));
    As<DocsUrl> => Box<str>: |As(url)| url.0.clone(), |url| As(DocsUrl(url.clone()));
    KeyRuleValue => onlyonce_core::KeyRule: |rule| rule.0.clone(), |rule| Self(rule.clone());
    FingerprintValue => onlyonce_core::FingerprintRule:
        |rule| rule.0.clone(), |rule| Self(rule.clone());
    StatusSetValue => onlyonce_core::StatusSet: |set| set.0, |set| Self(*set);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_a_policy_can_be_set() {
        // `Policy` can't be listed by a macro of another crate; its debug output can.
        let shown = format!("{:#?}", Policy::new(Profile::Standard));
        let fields: Vec<&str> = shown
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| Some(line.split_once(": ")?.0))
            .collect();
        assert!(fields.len() >= 31, "{fields:?}");
        let raw = RawIdempotency::of_policy(&Policy::new(Profile::Standard));
        let written = toml::Table::try_from(&raw).unwrap();
        let keys: Vec<&str> = written.keys().map(String::as_str).collect();
        assert_eq!(keys, fields);
    }

    #[test]
    fn what_is_written_of_a_policy_means_the_same() {
        for profile in Profile::ALL {
            let policy = Policy::new(profile);
            let written = toml::to_string(&RawIdempotency::of_policy(&policy)).unwrap();
            let raw: RawIdempotency = toml::from_str(&written).unwrap();
            let mut read = Policy::new(Profile::Standard);
            raw.apply(&mut read);
            assert_eq!(read, policy, "{written}");
        }
    }

    #[test]
    fn a_profile_says_all_in_which_profiles_differ() {
        for from in Profile::ALL {
            for to in Profile::ALL {
                let mut policy = Policy::new(from);
                adopt(&mut policy, to);
                assert_eq!(policy, Policy::new(to));
            }
        }
    }
}
