//! Trace IDs, and the W3C header that carries them.

use http::{HeaderMap, HeaderName, HeaderValue};
use onlyonce::TraceId;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Whether a client's `traceparent` (W3C Trace Context, section 3.2) is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceContext {
    /// Its trace ID becomes the request's: where clients are our own. The default.
    #[default]
    Accept,
    /// Each request gets a trace ID of its own, and the header is made anew for the services
    /// further in: where clients are anybody.
    Ignore,
}

impl TraceContext {
    /// The request's trace ID; `headers` carry it on.
    pub(super) fn enter(self, headers: &mut HeaderMap) -> TraceId {
        if self == Self::Accept
            && let Some(trace_id) = accepted(headers)
        {
            return trace_id;
        }
        let trace_id = random_trace_id();
        let parent = format!("00-{}-{:016x}-00", trace_id.as_str(), random::<8>().max(1));
        let parent = HeaderValue::try_from(parent).expect("hexadecimal digits and dashes");
        headers.insert(TRACEPARENT, parent);
        headers.remove(TRACESTATE);
        trace_id
    }
}

fn accepted(headers: &HeaderMap) -> Option<TraceId> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let (line, None) = (lines.next()?.to_str().ok()?, lines.next()) else {
        return None;
    };
    let mut fields = line.split('-');
    let (version, trace_id) = (fields.next()?, fields.next()?);
    let (parent_id, flags) = (fields.next()?, fields.next()?);
    let sound = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace_id, 32)
        && is_hex(parent_id, 16)
        && is_hex(flags, 2)
        // Later versions may have more to say.
        && (version != "00" || fields.next().is_none());
    let zero = |field: &str| field.bytes().all(|digit| digit == b'0');
    (sound && !zero(trace_id) && !zero(parent_id)).then(|| TraceId::new(trace_id))
}

fn is_hex(field: &str, digits: usize) -> bool {
    field.len() == digits
        && field
            .bytes()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// A trace ID that no other request has.
///
/// # Panics
/// If the operating system has no random numbers.
#[must_use]
pub fn random_trace_id() -> TraceId {
    TraceId::new(format!("{:032x}", random::<16>().max(1)))
}

fn random<const N: usize>() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes[..N]).expect("the operating system has random numbers");
    u128::from_le_bytes(bytes)
}
