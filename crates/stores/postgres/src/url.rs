//! Reading URLs.

use std::path::PathBuf;
use std::time::Duration;

use onlyonce_core::StoreError;
use tokio_postgres::Config;

use crate::store::misconfigured;
use crate::tls::SslMode;

/// What a URL says.
pub(crate) struct Url {
    pub(crate) config: Config,
    pub(crate) schema: Option<String>,
    pub(crate) migrate: Option<bool>,
    pub(crate) connections: Option<usize>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) listen: Option<bool>,
    pub(crate) ssl_mode: SslMode,
    pub(crate) ssl_roots: Option<PathBuf>,
}

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme));
        let Some(rest) = rest else {
            return Err(misconfigured(
                "the URL of a store on PostgreSQL begins with `postgres://`",
            ));
        };
        let server = rest.split(['/', '?']).next().unwrap_or_default();
        let base = rest.split('?').next().unwrap_or_default();
        // Else what follows the first one would be looked up as a host's name.
        if base.matches('@').count() > 1 || !server.contains('@') && rest.contains('@') {
            return Err(misconfigured(
                "in a user or a password, `/` is written `%2F`, `?` `%3F` and `@` `%40`",
            ));
        }
        if text.contains('#') {
            return Err(misconfigured(
                "the URL has a `#`, which has no meaning here; in a password write `%23`",
            ));
        }
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let mut url = Self {
            config: Config::new(),
            schema: None,
            migrate: None,
            connections: None,
            timeout: None,
            listen: None,
            ssl_mode: SslMode::Prefer,
            ssl_roots: None,
        };
        let mut others = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            if !url.take(option)? {
                others.push(option);
            }
        }
        let mut plain = base.to_owned();
        if !others.is_empty() {
            plain.push('?');
            plain.push_str(&others.join("&"));
        }
        // Its errors name options, never what they were given.
        url.config =
            plain.parse().map_err(
                |error: tokio_postgres::Error| match std::error::Error::source(&error) {
                    Some(source) => misconfigured(format!("the URL can't be read: {source}")),
                    None => misconfigured("the URL can't be read"),
                },
            )?;
        if url.config.get_hosts().is_empty() {
            return Err(misconfigured("the URL names no host"));
        }
        if url.config.get_user().is_none() {
            return Err(misconfigured("the URL names no user"));
        }
        url.config.ssl_mode(match url.ssl_mode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            _ => tokio_postgres::config::SslMode::Require,
        });
        if url.config.get_application_name().is_none() {
            url.config.application_name("onlyonce");
        }
        Ok(url)
    }

    /// Takes an option of ours; says whether it is one.
    fn take(&mut self, option: &str) -> Result<bool, StoreError> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let wrong = |expected: &str| {
            let message = format!("`{name}` in the URL is `{value}`; it must be {expected}");
            Err(misconfigured(message))
        };
        match name {
            "schema" => self.schema = Some(value.to_owned()),
            "migrate" => match value {
                "auto" => self.migrate = Some(true),
                "check" => self.migrate = Some(false),
                _ => return wrong("`auto` or `check`"),
            },
            "listen" => match value {
                "on" => self.listen = Some(true),
                "off" => self.listen = Some(false),
                _ => return wrong("`on` or `off`"),
            },
            "connections" => match value.parse() {
                Ok(count) => self.connections = Some(count),
                Err(_) => return wrong("a number"),
            },
            "timeout_ms" => match value.parse() {
                Ok(millis) => self.timeout = Some(Duration::from_millis(millis)),
                Err(_) => return wrong("a number of milliseconds"),
            },
            "sslrootcert" => {
                let path = percent_decoded(value);
                self.ssl_roots = (path != "system").then(|| path.into());
            }
            "sslmode" => {
                self.ssl_mode = match value {
                    "disable" => SslMode::Disable,
                    "prefer" => SslMode::Prefer,
                    "require" => SslMode::Require,
                    "verify-ca" => SslMode::VerifyCa,
                    "verify-full" => SslMode::VerifyFull,
                    _ => {
                        return wrong(
                            "`disable`, `prefer`, `require`, `verify-ca` or `verify-full`",
                        );
                    }
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The URL as it may be shown.
pub(crate) fn shown(text: &str) -> String {
    const HIDDEN: &str = "[hidden]";
    const PLAIN: [&str; 6] = [
        "schema",
        "migrate",
        "connections",
        "timeout_ms",
        "listen",
        "sslmode",
    ];
    let Some((scheme, rest)) = text.split_once("://") else {
        return HIDDEN.to_owned();
    };
    // Up to the last `@`: a password may hold one that nobody encoded.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => (format!("{HIDDEN}@"), rest),
        None => (String::new(), rest),
    };
    let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut shown = format!("{scheme}://{user}{base}");
    for (number, option) in query.split('&').filter(|o| !o.is_empty()).enumerate() {
        shown.push(if number == 0 { '?' } else { '&' });
        match option.split_once('=') {
            Some((name, _)) if PLAIN.contains(&name) => shown.push_str(option),
            Some((name, _)) => shown.push_str(&format!("{name}={HIDDEN}")),
            None => shown.push_str(HIDDEN),
        }
    }
    shown
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let decoded = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, decoded) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        match Url::parse(text) {
            Ok(_) => panic!("{text} should have been refused"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn options_of_ours_are_taken_out() {
        let url = Url::parse(
            "postgres://u:p%40s@h:1/db?schema=a&migrate=auto&connections=3&timeout_ms=50\
             &listen=off&sslmode=verify-full&sslrootcert=/a%20b.pem&application_name=x",
        )
        .unwrap();
        assert_eq!(url.schema.as_deref(), Some("a"));
        assert_eq!(
            (url.migrate, url.connections, url.listen),
            (Some(true), Some(3), Some(false))
        );
        assert_eq!(url.timeout, Some(Duration::from_millis(50)));
        assert_eq!(url.ssl_mode, SslMode::VerifyFull);
        assert_eq!(url.ssl_roots, Some("/a b.pem".into()));
        assert_eq!(url.config.get_application_name(), Some("x"));
        assert_eq!(url.config.get_password(), Some(&b"p@s"[..]));
    }

    #[test]
    fn bad_urls_are_refused_with_the_remedy_and_without_the_password() {
        for (url, expected) in [
            ("postgre://h/db", "begins with `postgres://`"),
            ("postgres://u:hunter2/x@h/db", "`%2F`"),
            ("postgres://u:p@hunter2@h/db", "`%40`"),
            ("postgres://u:p@hunter2/x@h/db", "`%40`"),
            ("postgres://u:hunter2#x@h/db", "`%23`"),
            ("postgres://u:hunter2@h:x/db", "port"),
            ("postgres://u:hunter2@h/db?sslmode=full", "`verify-full`"),
            ("postgres://u:hunter2@h/db?migrate=yes", "`auto` or `check`"),
            ("postgres://u:hunter2@h/db?shema=x", "shema"),
            ("postgres://h/db", "no user"),
        ] {
            let error = error(url);
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_may_be_shown_of_a_url() {
        for (url, expected) in [
            (
                "postgres://u:hunter2@h:1/db?schema=a&password=b",
                "postgres://[hidden]@h:1/db?schema=a&password=[hidden]",
            ),
            ("postgres://u:hun/ter2@h/db", "postgres://[hidden]@h/db"),
            ("hunter2", "[hidden]"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }
}
