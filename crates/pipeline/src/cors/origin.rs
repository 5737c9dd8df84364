//! Which origins are meant.

use std::net::Ipv6Addr;
use std::str::FromStr;

/// One origin, or all those below a domain.
///
/// | written | matches |
/// |---|---|
/// | `https://app.example.com` | this origin alone |
/// | `https://*.example.com` | every origin below `example.com` under HTTPS on its own port |
/// | `https://*.example.com:8443` | the same on port 8443; `:*` on any port |
/// | `.example.com` | the same as `https://*.example.com` |
///
/// `example.com` itself is not below `example.com`, and `evil-example.com` never is.
///
/// # Example
/// ```
/// use onlyonce_pipeline::cors::OriginPattern;
///
/// let pattern: OriginPattern = "https://*.example.com".parse()?;
/// assert!(pattern.matches("https://app.example.com"));
/// assert!(!pattern.matches("https://evil-example.com"));
/// # Ok::<(), onlyonce_pipeline::cors::OriginError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// As a browser writes it: in lower case, without the scheme's own port.
    Exact(Box<str>),
    Below {
        scheme: Box<str>,
        /// With the dot in front: the boundary.
        suffix: Box<str>,
        port: Port,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// The scheme's own, which a browser leaves out.
    Own,
    Number(u16),
    Any,
}

/// Why a text names no origins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no origin: {problem}")]
pub struct OriginError {
    text: String,
    problem: String,
}

impl OriginError {
    fn new(text: &str, problem: impl Into<String>) -> Self {
        Self {
            text: text.to_owned(),
            problem: problem.into(),
        }
    }

    /// What is wrong, and what to write instead.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl OriginPattern {
    /// Whether `origin`, as it stands in a request's `Origin` header, is meant.
    #[must_use]
    pub fn matches(&self, origin: &str) -> bool {
        match &self.0 {
            Pattern::Exact(exact) => **exact == *origin,
            Pattern::Below {
                scheme,
                suffix,
                port,
            } => below(origin, scheme, suffix, *port).is_some(),
        }
    }
}

fn below(origin: &str, scheme: &str, suffix: &str, port: Port) -> Option<()> {
    let authority = origin.strip_prefix(scheme)?.strip_prefix("://")?;
    let (host, found) = match authority.split_once(':') {
        None => (authority, Port::Own),
        Some((host, number)) => (host, Port::Number(port_number(number)?)),
    };
    let labels = host.strip_suffix(suffix)?;
    let sound = is_domain(labels) && (port == Port::Any || port == found);
    sound.then_some(())
}

impl FromStr for OriginPattern {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let wrong = |problem: &str| OriginError::new(text, problem);
        if text == "*" {
            return Err(wrong("to allow any, say so (`any`) instead of listing"));
        }
        if text.eq_ignore_ascii_case("null") {
            return Err(wrong(
                "sandboxed pages of anybody and local files send `null`; it tells nobody apart",
            ));
        }
        if !text.is_ascii() {
            return Err(wrong("write the domain in its ASCII form (xn--…)"));
        }
        let lower = text.to_ascii_lowercase();
        if let Some(domain) = lower.strip_prefix('.') {
            return Ok(Self(suffix(text, "https", domain, Port::Own)?));
        }
        let Some((scheme, authority)) = lower.split_once("://") else {
            let problem = format!("it begins with its scheme; write https://{lower}");
            return Err(OriginError::new(text, problem));
        };
        if !is_scheme(scheme) {
            return Err(wrong("its scheme can have letters, digits, +, - and ."));
        }
        if let Some(end) = authority.find(['/', '?', '#']) {
            let problem = format!(
                "it ends before the path; write {scheme}://{}",
                &authority[..end]
            );
            return Err(OriginError::new(text, problem));
        }
        let (host, port) = split_port(authority).ok_or_else(|| {
            wrong("its port is a number from 1 to 65535, or * with a pattern such as *.example.com")
        })?;
        let own = matches!(
            (scheme, port),
            ("https", Port::Number(443)) | ("http", Port::Number(80))
        );
        let port = if own { Port::Own } else { port };
        if let Some(domain) = host.strip_prefix("*.") {
            return Ok(Self(suffix(text, scheme, domain, port)?));
        }
        let host = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(v6) => {
                let v6: Ipv6Addr = v6
                    .parse()
                    .map_err(|_| wrong("in brackets stands an IPv6 address"))?;
                format!("[{v6}]")
            }
            None if is_domain(host) => host.to_owned(),
            None => {
                return Err(wrong(
                    "write scheme://host or scheme://host:port; `*` stands for whole labels at the front, as in https://*.example.com",
                ));
            }
        };
        let exact = match port {
            Port::Own => format!("{scheme}://{host}"),
            Port::Number(number) => format!("{scheme}://{host}:{number}"),
            Port::Any => {
                return Err(wrong(
                    "a port of * goes with a pattern such as *.example.com",
                ));
            }
        };
        Ok(Self(Pattern::Exact(exact.into())))
    }
}

fn suffix(text: &str, scheme: &str, domain: &str, port: Port) -> Result<Pattern, OriginError> {
    if !is_domain(domain) {
        return Err(OriginError::new(
            text,
            "after the dot stands a domain, as in https://*.example.com",
        ));
    }
    Ok(Pattern::Below {
        scheme: scheme.into(),
        suffix: format!(".{domain}").into(),
        port,
    })
}

fn split_port(authority: &str) -> Option<(&str, Port)> {
    // The colons of an IPv6 address stand within brackets.
    let after_host = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    match authority[after_host..].split_once(':') {
        None => Some((authority, Port::Own)),
        Some((before, port)) => {
            let host = &authority[..after_host + before.len()];
            let port = match port {
                "*" => Port::Any,
                number => Port::Number(port_number(number)?),
            };
            Some((host, port))
        }
    }
}

/// A port as browsers write it: no sign, no leading zero.
fn port_number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Labels with dots between them. Whatever could end a host, such as `/`, `@` or `#`, is not
/// part of one.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
            })
    };
    text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> OriginPattern {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn an_exact_origin_is_itself_alone() {
        let app = pattern("https://app.example.com");
        assert!(app.matches("https://app.example.com"));
        for other in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.test",
            "https://evil.test/https://app.example.com",
            "https://xapp.example.com",
            "https://app.example.com/",
            "app.example.com",
            "null",
            "",
        ] {
            assert!(!app.matches(other), "{other}");
        }
    }

    #[test]
    fn exact_origins_are_written_as_browsers_write_them() {
        for (written, sent) in [
            ("HTTPS://App.Example.COM", "https://app.example.com"),
            ("https://a.test:443", "https://a.test"),
            ("http://a.test:80", "http://a.test"),
            ("https://a.test:80", "https://a.test:80"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("http://[::1]", "http://[::1]"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("http://192.0.2.1:81", "http://192.0.2.1:81"),
        ] {
            assert!(pattern(written).matches(sent), "{written}");
        }
    }

    #[test]
    fn hazard_54_a_suffix_has_a_boundary() {
        for below in ["https://*.example.com", ".example.com", ".EXAMPLE.com"].map(pattern) {
            for inside in [
                "https://app.example.com",
                "https://a.b.example.com",
                "https://x-1_y.example.com",
            ] {
                assert!(below.matches(inside), "{inside}");
            }
            for outside in [
                "https://evil-example.com",
                "https://evilexample.com",
                "https://example.com",
                "https://.example.com",
                "https://a..example.com",
                "https://example.com.evil.test",
                "https://app.example.com.evil.test",
                "https://evil.test/.example.com",
                "https://evil.test#.example.com",
                "https://evil.test?.example.com",
                "https://evil.test\\.example.com",
                "https://evil.test@app.example.com",
                "https://evil.test:80.example.com",
                "https://evil.test:x@a.example.com",
                "https://evil.test%2f.example.com",
                "https://app.example.com/",
                "https://app.example.com:8443",
                "https://app.example.com:",
                "http://app.example.com",
                "https://app.example.com http://evil.test",
                "null",
                "",
            ] {
                assert!(!below.matches(outside), "{outside}");
            }
        }
    }

    #[test]
    fn a_suffix_on_a_port() {
        let one = pattern("https://*.example.com:8443");
        assert!(one.matches("https://app.example.com:8443"));
        assert!(!one.matches("https://app.example.com"));
        assert!(!one.matches("https://app.example.com:84430"));
        let any = pattern("http://*.example.com:*");
        for origin in ["http://app.example.com", "http://app.example.com:3000"] {
            assert!(any.matches(origin), "{origin}");
        }
        for origin in [
            "http://app.example.com:",
            "http://app.example.com:0",
            "http://app.example.com:080",
            "http://app.example.com:+80",
            "http://app.example.com:65536",
            "http://app.example.com:80:80",
        ] {
            assert!(!any.matches(origin), "{origin}");
        }
        assert!(pattern("https://*.example.com:443").matches("https://app.example.com"));
    }

    #[test]
    fn bad_input_says_what_to_write() {
        for (text, part) in [
            ("*", "`any`"),
            ("null", "tells nobody apart"),
            ("example.com", "write https://example.com"),
            ("localhost:3000", "write https://localhost:3000"),
            ("", "begins with its scheme"),
            ("https://a.test/", "write https://a.test"),
            ("https://a.test/app?x#y", "write https://a.test"),
            ("https://bücher.example", "xn--"),
            ("1http://a.test", "scheme can have"),
            ("://a.test", "scheme can have"),
            ("https://", "write scheme://host"),
            ("https://a..b", "write scheme://host"),
            ("https://user@a.test", "write scheme://host"),
            ("https://app.*.example.com", "`*` stands for whole labels"),
            ("https://*example.com", "`*` stands for whole labels"),
            ("https://*", "`*` stands for whole labels"),
            ("https://*.", "after the dot stands a domain"),
            (".", "after the dot stands a domain"),
            (".example.com/", "after the dot stands a domain"),
            ("https://*.*.example.com", "after the dot stands a domain"),
            ("https://a.test:", "port is a number"),
            ("https://a.test:0", "port is a number"),
            ("https://a.test:99999", "port is a number"),
            ("https://a.test:*", "goes with a pattern"),
            ("https://[::1", "port is a number"),
            ("https://[x]", "in brackets"),
        ] {
            let error = text.parse::<OriginPattern>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(
                error.starts_with(&format!("`{text}` is no origin")),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "\\PC{0,40}", origin in "\\PC{0,40}") {
            if let Ok(pattern) = text.parse::<OriginPattern>() {
                let _ = pattern.matches(&origin);
            }
        }

        /// What matches a suffix is a host below it, by another reading.
        #[test]
        fn what_matches_is_below(host in "[a-z.@/:#?\\\\%_-]{0,12}", dot in "[.]{0,1}") {
            let origin = format!("https://{host}{dot}example.com");
            if pattern(".example.com").matches(&origin) {
                let uri: http::Uri = origin.parse().unwrap();
                let host = uri.host().unwrap();
                prop_assert!(host.ends_with(".example.com"), "{}", host);
                prop_assert_eq!(uri.authority().unwrap().as_str(), host);
                prop_assert_eq!(uri.path(), "/");
                prop_assert!(uri.query().is_none());
            }
        }
    }
}
