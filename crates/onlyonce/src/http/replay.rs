//! From a response to its record, and from a record to its response.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, DATE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use onlyonce_core::{Decision, Policy, Record, State, StoredResponse, codec};

use super::body::ResponseBody;
use super::control::{CONTROL, Control};
use super::layer::Shared;
use super::{Problem, ProblemKind, TraceId};
use crate::{Outcome, Verdict, telemetry};

const OUTCOME: HeaderName = HeaderName::from_static("idempotency-outcome");
const EXPIRES: HeaderName = HeaderName::from_static("idempotency-expires");

/// 9999-12-31T23:59:59Z, the last second that an HTTP date can tell.
const LAST_DATE: u64 = 253_402_300_799_000;

/// Fields that belong to one connection, not to the message (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("te"),
    TRAILER,
    HeaderName::from_static("transfer-encoding"),
    HeaderName::from_static("upgrade"),
];

/// The encoded record of a whole response.
pub(super) fn encode(
    status: StatusCode,
    headers: &HeaderMap,
    body: Bytes,
    trailers: Option<&HeaderMap>,
    policy: &Policy,
) -> Bytes {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let is_kept = |name: &HeaderName| {
        !HOP_BY_HOP.contains(name)
            && !named.contains(name)
            // Made anew for each response.
            && ![DATE, CONTENT_LENGTH, CONTROL, OUTCOME, EXPIRES].contains(name)
            && policy.replay_header.as_ref() != Some(name)
            && !policy.drop_headers.contains(name)
            && policy.keep_headers.as_ref().is_none_or(|kept| kept.contains(name))
    };
    let copy = |(name, value): (&HeaderName, &HeaderValue)| (name.clone(), value.clone());
    let stored = StoredResponse {
        status: status.as_u16(),
        headers: headers
            .iter()
            .filter(|(name, _)| is_kept(name))
            .map(copy)
            .collect(),
        body,
        // An allow list is one of header fields: gRPC's status must not fall with it.
        trailers: trailers
            .into_iter()
            .flatten()
            .filter(|(name, _)| !policy.drop_headers.contains(name))
            .map(copy)
            .collect(),
    };
    let encoded = codec::encode_response(&stored);
    telemetry::recorded_bytes(encoded.len());
    encoded
}

/// What a request gets that does not own its key.
pub(super) fn held<R>(
    decision: Decision,
    record: &Record,
    about: &About<'_>,
) -> Response<ResponseBody<R>> {
    let policy = about.policy;
    let problem = match decision {
        Decision::Replay => {
            let State::Completed {
                kept: Some(kept), ..
            } = &record.state
            else {
                unreachable!("`decide` says replay of kept results alone");
            };
            match codec::decode_response(kept.clone()) {
                Ok(stored) => return replay(stored, record, about),
                Err(error) => {
                    tracing::error!(
                        key = about.id.tag(),
                        error = &error as &dyn std::error::Error,
                        "a record can't be decoded"
                    );
                    let detail = "the recorded response can't be read";
                    Problem::new(ProblemKind::StoreUnavailable, policy, detail)
                }
            }
        }
        Decision::InProgress => {
            let detail = "the first request with this key is still being processed; retry later";
            Problem::new(ProblemKind::InProgress, policy, detail)
        }
        Decision::Mismatch => {
            let detail = "this key was used for a request with another method, path, content \
                          type or body; use a new key for a new request";
            Problem::new(ProblemKind::KeyReused, policy, detail)
        }
        Decision::NotKept => {
            let detail = "the request was executed, but its response was not kept; do not send \
                          it again under another key without looking";
            let mut problem = Problem::new(ProblemKind::ResponseNotKept, policy, detail);
            if let State::Completed { status, .. } = record.state {
                problem.original_status = Some(status);
            }
            problem
        }
        Decision::Unknown | Decision::Execute | Decision::TakeOver => unknown(policy),
    };
    about.refuse(problem, Some(record))
}

/// 409 `outcome-unknown`.
pub(super) fn unknown(policy: &Policy) -> Problem {
    let detail = "an earlier request with this key may or may not have been executed; the key is \
                  held until an operator resolves it or it expires";
    Problem::new(ProblemKind::OutcomeUnknown, policy, detail)
}

/// 503 `store-unavailable`: it ran, but without effect.
pub(super) fn uncommitted(policy: &Policy) -> Problem {
    let detail = "the request was executed, but its transaction was not committed, or is not \
                  known to be; to repeat it with the same key is safe";
    Problem::new(ProblemKind::StoreUnavailable, policy, detail)
}

fn replay<R>(
    stored: StoredResponse,
    record: &Record,
    about: &About<'_>,
) -> Response<ResponseBody<R>> {
    let policy = about.policy;
    let trailers: HeaderMap = stored.trailers.into_iter().collect();
    let mut response = Response::new(());
    // 100 to 999, or it would not have been decoded.
    *response.status_mut() = StatusCode::from_u16(stored.status).unwrap_or_default();
    let headers = response.headers_mut();
    // No `reserve`: it panics beyond what the map's hash table holds, and repeats of one name
    // take no place there.
    for (name, value) in stored.headers {
        headers.append(name, value);
    }
    if let Some(name) = &policy.replay_header {
        headers.insert(name.clone(), HeaderValue::from_static("true"));
    }
    // A cache must not hand a replay, with its mark, to others.
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if !trailers.is_empty() {
        let names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
        if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
            headers.insert(TRAILER, names);
        }
    }
    let verdict = Verdict {
        attempt: Some(record.attempt),
        expires_in: Some(record.expires_in),
        ..Verdict::new(Outcome::Replayed)
    };
    about.mark(&mut response, verdict);
    response.map(|()| ResponseBody::whole(stored.body, Some(trailers)))
}

/// A refusal that came before there was an identifier.
pub(super) fn refusal<R>(
    problem: &Problem,
    shared: &Shared,
    policy: &Policy,
) -> Response<ResponseBody<R>> {
    let mut response = (shared.renderer)(problem);
    let verdict = Verdict::new(problem.outcome());
    if policy.verdict_headers {
        response
            .headers_mut()
            .insert(OUTCOME, HeaderValue::from_static(verdict.outcome.as_str()));
    }
    response.extensions_mut().insert(verdict);
    response.map(|body| ResponseBody::whole(body, None))
}

/// What all the answers to one keyed request have in common.
pub(super) struct About<'a> {
    pub(super) shared: &'a Shared,
    pub(super) policy: &'a Policy,
    pub(super) id: &'a onlyonce_core::RecordId,
    pub(super) trace: Option<&'a TraceId>,
    pub(super) route: &'a str,
}

impl About<'_> {
    pub(super) fn refuse<R>(
        &self,
        problem: Problem,
        record: Option<&Record>,
    ) -> Response<ResponseBody<R>> {
        let problem = problem.about(self.id).traced(self.trace);
        let mut response = (self.shared.renderer)(&problem);
        let verdict = Verdict {
            attempt: record.map(|record| record.attempt),
            expires_in: record.map(|record| record.expires_in),
            ..Verdict::new(problem.outcome())
        };
        tracing::debug!(
            instance = &*problem.instance,
            kind = problem.kind.as_str(),
            "refused"
        );
        if !problem.kind.is_final() {
            // For another Onlyonce further out, which would keep a 409 as the key's answer.
            let control = HeaderValue::from_static("no-store");
            response.headers_mut().insert(CONTROL, control);
            response.extensions_mut().insert(Control::NotExecuted);
        }
        self.mark(&mut response, verdict);
        response.map(|body| ResponseBody::whole(body, None))
    }

    /// The verdict: for those outside, for the client where it may see it, and for the books.
    pub(super) fn mark<T>(&self, response: &mut Response<T>, mut verdict: Verdict) {
        verdict.key_tag = Some(self.id.tag().into());
        if self.policy.verdict_headers {
            let headers = response.headers_mut();
            headers.insert(OUTCOME, HeaderValue::from_static(verdict.outcome.as_str()));
            if let Some(left) = verdict.expires_in {
                headers.insert(EXPIRES, self.date(left));
            }
        }
        let span = tracing::Span::current();
        span.record("outcome", verdict.outcome.as_str());
        span.record("attempt", verdict.attempt);
        telemetry::request(verdict.outcome, self.route);
        response.extensions_mut().insert(verdict);
    }

    fn date(&self, left: Duration) -> HeaderValue {
        let now = self.shared.engine.clock().now();
        let end = now.plus(left).as_millis().min(LAST_DATE);
        let date = UNIX_EPOCH + Duration::from_millis(end);
        HeaderValue::from_str(&httpdate::fmt_http_date(date))
            .unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Marks a response that the store would not take.
pub(super) fn mark_unrecorded<T>(response: &mut Response<T>) {
    response
        .headers_mut()
        .insert(OUTCOME, HeaderValue::from_static("unrecorded"));
}
