//! What the inner service says of its own response.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Response};
use onlyonce_core::Policy;

pub(crate) const CONTROL: HeaderName = HeaderName::from_static("idempotency-control");

/// How one response is to be treated, as the service that made it decides.
///
/// Put into the response's extensions, or sent as a header:
/// `Idempotency-Control: no-store | hold | lifetime=SECONDS`. The header is stripped before the
/// client sees the response. The extension wins over the header, both win over the policy.
///
/// # Example
/// ```
/// use onlyonce::Control;
///
/// let mut response = http::Response::new("try again later");
/// response.extensions_mut().insert(Control::NoStore);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Executed, but not final: release the key; the next request executes again.
    NoStore,
    /// Nothing ran (an upstream that could not be reached): release the key, but remember an
    /// earlier attempt whose outcome is unknown.
    NotExecuted,
    /// Hold the key: whether it took effect is unknown until somebody resolves it.
    Hold,
    /// Whether it took effect is unknown (an upstream that broke off): the policy's `on_unknown`
    /// decides.
    Ambiguous,
    /// The service failed, as with an error or a panic, and a layer outside of it made this response
    /// of that: it is kept where the policy stores service errors and the response's status.
    Failed,
    /// Keep this response, whatever its status, for so long, at most for
    /// [`Policy::LONGEST_LIFETIME`].
    Lifetime(Duration),
}

impl Control {
    /// Takes the control out of a response's head.
    pub(crate) fn take<B>(response: &mut Response<B>) -> Option<Self> {
        let header = Self::from_headers(response.headers());
        response.headers_mut().remove(CONTROL);
        let control = response.extensions_mut().remove::<Self>().or(header)?;
        Some(match control {
            Self::Lifetime(lifetime) => Self::Lifetime(lifetime.min(Policy::LONGEST_LIFETIME)),
            other => other,
        })
    }

    /// The most careful of all that the header lines say; a word that is not known is skipped,
    /// and logged.
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut control = None;
        for line in headers.get_all(CONTROL) {
            for word in line.to_str().unwrap_or_default().split(',').map(str::trim) {
                let this = match word.split_once('=') {
                    None if word.eq_ignore_ascii_case("no-store") => Self::NoStore,
                    None if word.eq_ignore_ascii_case("hold") => Self::Hold,
                    Some((name, value)) if name.trim().eq_ignore_ascii_case("lifetime") => {
                        match value.trim().parse() {
                            Ok(seconds) if seconds > 0 => {
                                Self::Lifetime(Duration::from_secs(seconds))
                            }
                            _ => {
                                tracing::warn!(word, "Idempotency-Control: not a lifetime");
                                continue;
                            }
                        }
                    }
                    _ => {
                        tracing::warn!(word, "Idempotency-Control: not known, skipped");
                        continue;
                    }
                };
                control = match (control, this) {
                    (Some(Self::Hold), _) => Some(Self::Hold),
                    (Some(Self::NoStore), Self::Lifetime(_)) => Some(Self::NoStore),
                    _ => Some(this),
                };
            }
        }
        control
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Option<Control> {
        let mut response = Response::new(());
        for line in lines {
            response
                .headers_mut()
                .append(CONTROL, line.parse().unwrap());
        }
        let control = Control::take(&mut response);
        assert!(response.headers().is_empty(), "the client never sees it");
        control
    }

    #[test]
    fn header_forms() {
        let minute = Control::Lifetime(Duration::from_secs(60));
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&["no-store"]), Some(Control::NoStore));
        assert_eq!(parse(&[" Hold "]), Some(Control::Hold));
        assert_eq!(parse(&["lifetime=60"]), Some(minute));
        assert_eq!(parse(&["lifetime = 60"]), Some(minute));
        assert_eq!(parse(&["nonsense, lifetime=60"]), Some(minute));
        assert_eq!(parse(&["lifetime=0"]), None);
        assert_eq!(parse(&["lifetime=-1"]), None);
        assert_eq!(parse(&["lifetime=99999999999999999999999"]), None);
        assert_eq!(parse(&["lifetime=60", "hold"]), Some(Control::Hold));
        assert_eq!(parse(&["hold, no-store"]), Some(Control::Hold));
        assert_eq!(parse(&["no-store", "lifetime=60"]), Some(Control::NoStore));
    }

    #[test]
    fn the_extension_wins_over_the_header() {
        let mut response = Response::new(());
        response
            .headers_mut()
            .insert(CONTROL, "hold".parse().unwrap());
        response.extensions_mut().insert(Control::NoStore);
        assert_eq!(Control::take(&mut response), Some(Control::NoStore));
    }
}
