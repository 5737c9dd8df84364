//! Where the servers are, from a URL.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use onlyonce_core::{Operation, StoreError, StoreErrorKind};

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
}

/// How the servers hang together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    Single(Address),
    Sentinel {
        sentinels: Vec<Address>,
        service: Box<str>,
    },
    /// Any nodes of it, to begin with.
    Cluster(Vec<Address>),
}

/// Who we are to a server. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: Option<Box<str>>,
    pub(crate) password: Option<Box<str>>,
}

/// Where certificates are, if not where the system keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) authority: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// All that a URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) topology: Topology,
    pub(crate) credentials: Credentials,
    pub(crate) sentinel_credentials: Credentials,
    pub(crate) database: i64,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) prefix: Option<String>,
    pub(crate) replicas: Option<usize>,
    pub(crate) timeout: Option<Duration>,
}

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

const SCHEMES: &str = "`redis://`, `redis+sentinel://`, `redis+cluster://`, or with TLS \
                       `rediss://`, `rediss+sentinel://`, `rediss+cluster://`";
const OPTIONS: &str = "`prefix`, `replicas`, `timeout_ms`, `ca_file`, `cert_file`, `key_file`, \
                       `sentinel_user` and `sentinel_password`";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    Sentinel,
    Cluster,
}

impl Url {
    /// Reads a URL. No error shows what stands before an `@`.
    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            let scheme = text.split([':', '/']).next().unwrap_or_default();
            return wrong(format!(
                "the URL, which begins with `{}`, has no `://`: write for example \
                 \"redis://127.0.0.1:6379\"",
                harmless(scheme)
            ));
        };
        let (kind, tls) = match scheme {
            "redis" | "valkey" => (Kind::Single, false),
            "rediss" | "valkeys" => (Kind::Single, true),
            "redis+sentinel" | "valkey+sentinel" => (Kind::Sentinel, false),
            "rediss+sentinel" | "valkeys+sentinel" => (Kind::Sentinel, true),
            "redis+cluster" | "valkey+cluster" => (Kind::Cluster, false),
            "rediss+cluster" | "valkeys+cluster" => (Kind::Cluster, true),
            _ => {
                return wrong(format!(
                    "the URL's scheme is `{}`; expected {SCHEMES}",
                    harmless(scheme)
                ));
            }
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains('#') || query.contains('#') {
            return wrong(
                "the URL has a `#`, which has no meaning here; in a password write `%23`",
            );
        }
        // A password may hold an `@` or a `/` that nobody encoded.
        let (user_info, rest) = match rest.rsplit_once('@') {
            Some((user_info, rest)) => (Some(user_info), rest),
            None => (None, rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let port = if kind == Kind::Sentinel {
            SENTINEL_PORT
        } else {
            REDIS_PORT
        };
        let addresses = addresses(hosts, port)?;
        let (topology, database) = match kind {
            Kind::Single => match <[Address; 1]>::try_from(addresses) {
                Ok([address]) => (Topology::Single(address), database(path)?),
                Err(_) => {
                    return wrong(format!(
                        "`{scheme}://` takes one host: for several write \
                         `{scheme}+sentinel://` or `{scheme}+cluster://`"
                    ));
                }
            },
            Kind::Sentinel => {
                let (service, db) = path.split_once('/').unwrap_or((path, ""));
                if service.is_empty() {
                    return wrong(format!(
                        "the name of the service that the Sentinels watch is missing: write \
                         \"{scheme}://{hosts}/SERVICE\""
                    ));
                }
                let service = decode("service", service)?;
                let sentinels = addresses;
                (Topology::Sentinel { sentinels, service }, database(db)?)
            }
            Kind::Cluster => match database(path)? {
                0 => (Topology::Cluster(addresses), 0),
                _ => return wrong("a Cluster has database 0 alone: leave the number away"),
            },
        };
        let mut url = Self {
            topology,
            credentials: credentials(user_info)?,
            sentinel_credentials: Credentials::default(),
            database,
            tls: tls.then(TlsFiles::default),
            prefix: None,
            replicas: None,
            timeout: None,
        };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            url.set(kind, option)?;
        }
        Ok(url)
    }

    fn set(&mut self, kind: Kind, option: &str) -> Result<(), StoreError> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let shown = harmless(name);
        if value.is_empty() {
            return wrong(format!("the option `{shown}` of the URL has no value"));
        }
        let value = decode(&shown, value)?;
        let number = |what: &str| {
            value.parse::<u32>().map_err(|error| {
                misconfigured(format!(
                    "`{what}` of the URL must be a whole number, not `{}`",
                    harmless(&value)
                ))
                .with_source(error)
            })
        };
        match (name, &mut self.tls) {
            ("prefix", _) => self.prefix = Some(value.into()),
            ("replicas", _) => self.replicas = Some(number("replicas")? as usize),
            ("timeout_ms", _) => {
                self.timeout = Some(Duration::from_millis(number("timeout_ms")?.into()));
            }
            ("ca_file", Some(files)) => files.authority = Some(PathBuf::from(&*value)),
            ("cert_file", Some(files)) => files.certificate = Some(PathBuf::from(&*value)),
            ("key_file", Some(files)) => files.key = Some(PathBuf::from(&*value)),
            ("ca_file" | "cert_file" | "key_file", None) => {
                return wrong(format!(
                    "`{name}` belongs to TLS: write `rediss` in place of `redis`"
                ));
            }
            ("sentinel_user" | "sentinel_password", _) if kind != Kind::Sentinel => {
                return wrong(format!("`{name}` belongs to `redis+sentinel://`"));
            }
            ("sentinel_user", _) => self.sentinel_credentials.user = Some(value),
            ("sentinel_password", _) => self.sentinel_credentials.password = Some(value),
            _ => {
                return wrong(format!(
                    "the URL has an unknown option `{shown}`; there are {OPTIONS}"
                ));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.user.is_some() || self.password.is_some();
        f.write_str(if set {
            "Credentials([hidden])"
        } else {
            "Credentials(none)"
        })
    }
}

/// A URL without its secrets.
pub(crate) fn shown(text: &str) -> String {
    const HIDDEN: &str = "[hidden]";
    let Some((scheme, rest)) = text.split_once("://") else {
        return HIDDEN.to_owned();
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let servers = match rest.rsplit_once('@') {
        Some((_, servers)) => format!("{HIDDEN}@{servers}"),
        None => rest.to_owned(),
    };
    let option = |option: &str| match option.split_once('=') {
        Some(("prefix" | "replicas" | "timeout_ms", _)) => option.to_owned(),
        Some((name, _)) => format!("{name}={HIDDEN}"),
        None => HIDDEN.to_owned(),
    };
    let options: Vec<String> = query
        .split('&')
        .filter(|o| !o.is_empty())
        .map(option)
        .collect();
    let mark = if options.is_empty() { "" } else { "?" };
    format!("{scheme}://{servers}{mark}{}", options.join("&"))
}

fn addresses(hosts: &str, default_port: u16) -> Result<Vec<Address>, StoreError> {
    hosts
        .split(',')
        .map(|host| address(host, default_port))
        .collect()
}

/// `host`, `host:port` or `[IPv6]:port`.
pub(crate) fn address(text: &str, default_port: u16) -> Result<Address, StoreError> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map(|(host, rest)| (host, rest.strip_prefix(':')));
    let (host, port) = match (bracketed, text.rsplit_once(':')) {
        (Some(parts), _) => parts,
        (None, Some((host, port))) => (host, Some(port)),
        (None, None) => (text, None),
    };
    let well_formed = !host.is_empty()
        && host.chars().all(|c| c.is_ascii_graphic())
        && (bracketed.is_some() || !host.contains([':', '[', ']']));
    let port = match port {
        None => Some(default_port),
        Some(port) => port.parse().ok().filter(|port| *port != 0),
    };
    match port {
        Some(port) if well_formed => Ok(Address {
            host: host.into(),
            port,
        }),
        _ => wrong(format!(
            "`{}` in the URL is no host with a port, such as `redis.example:6379`",
            harmless(text)
        )),
    }
}

fn credentials(user_info: Option<&str>) -> Result<Credentials, StoreError> {
    let Some(user_info) = user_info else {
        return Ok(Credentials::default());
    };
    let (user, password) = match user_info.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (user_info, None),
    };
    if password.is_none() {
        return wrong(
            "the URL has a user but no password: write \"redis://USER:PASSWORD@HOST\", or \
             \"redis://:PASSWORD@HOST\" for the default user",
        );
    }
    let decode = |what, text: Option<&str>| {
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| decode(what, text)).transpose()
    };
    Ok(Credentials {
        user: decode("user", Some(user))?,
        password: decode("password", password)?,
    })
}

fn database(path: &str) -> Result<i64, StoreError> {
    if path.is_empty() {
        return Ok(0);
    }
    match path.parse::<u32>() {
        Ok(number) => Ok(number.into()),
        Err(error) => Err(misconfigured(format!(
            "`/{}` of the URL must be a database's number, such as `/0`",
            harmless(path)
        ))
        .with_source(error)),
    }
}

/// Takes `%XX` back.
fn decode(what: &str, text: &str) -> Result<Box<str>, StoreError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digit = |place: usize| char::from(*rest.get(place)?).to_digit(16);
        let Some((high, low)) = digit(0).zip(digit(1)) else {
            return wrong(format!(
                "the {what} in the URL has a `%` that two hexadecimal digits don't follow: write \
                 `%25` for a percent sign"
            ));
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or(u8::MAX));
        rest = &rest[2..];
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => wrong(format!("the {what} in the URL is not UTF-8")),
    }
}

/// What may be shown of a piece of a URL that is not understood: no secret that got in the wrong
/// place, and nothing that would garble a terminal.
fn harmless(text: &str) -> String {
    const MOST: usize = 40;
    if text.contains('@') || text.len() > MOST {
        return "…".to_owned();
    }
    let visible = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    text.chars().map(visible).collect()
}

fn misconfigured(message: impl Into<Box<str>>) -> StoreError {
    StoreError::new(Operation::Open, StoreErrorKind::Misconfigured, message)
}

fn wrong<T>(message: impl Into<Box<str>>) -> Result<T, StoreError> {
    Err(misconfigured(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address {
            host: host.into(),
            port,
        }
    }

    fn error(text: &str) -> String {
        let error = Url::parse(text).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
        error.to_string()
    }

    #[test]
    fn every_form_is_read() {
        let url = Url::parse("redis://localhost").unwrap();
        assert_eq!(url.topology, Topology::Single(at("localhost", 6379)));
        assert_eq!((url.database, url.tls), (0, None));

        let url = Url::parse("rediss://al%69ce:p%40ss@[::1]:7000/3?ca_file=/a/b.pem").unwrap();
        assert_eq!(url.topology, Topology::Single(at("::1", 7000)));
        assert_eq!(url.credentials.user.as_deref(), Some("alice"));
        assert_eq!(url.credentials.password.as_deref(), Some("p@ss"));
        assert_eq!(url.database, 3);
        assert_eq!(url.tls.unwrap().authority, Some("/a/b.pem".into()));

        let text = "redis+sentinel://:pw@a,b:1/main/2?sentinel_password=x&replicas=1";
        let url = Url::parse(text).unwrap();
        let expected = Topology::Sentinel {
            sentinels: vec![at("a", 26379), at("b", 1)],
            service: "main".into(),
        };
        assert_eq!(url.topology, expected);
        assert_eq!((url.database, url.replicas), (2, Some(1)));
        assert_eq!(url.sentinel_credentials.password.as_deref(), Some("x"));

        let url = Url::parse("valkey+cluster://a:1,b:2/?timeout_ms=250&prefix=x:").unwrap();
        let expected = Topology::Cluster(vec![at("a", 1), at("b", 2)]);
        assert_eq!(url.topology, expected);
        assert_eq!(url.timeout, Some(Duration::from_millis(250)));
        assert_eq!(url.prefix.as_deref(), Some("x:"));
    }

    #[test]
    fn mistakes_are_named_with_their_remedy() {
        for (text, expected) in [
            ("redis:localhost", "no `://`"),
            ("reddis://localhost", "`reddis`; expected `redis://`"),
            ("redis://", "no host"),
            ("redis://localhost:abc", "`localhost:abc`"),
            ("redis://localhost:0", "`localhost:0`"),
            ("redis://localhost:99999", "`localhost:99999`"),
            ("redis://::1", "`::1`"),
            ("redis://a,b", "redis+sentinel://"),
            ("redis://localhost/main", "`/main`"),
            ("redis+cluster://a/1", "database 0 alone"),
            ("redis+sentinel://a:1", "SERVICE"),
            ("redis://localhost?replica=1", "unknown option `replica`"),
            ("redis://localhost?replicas=many", "`replicas`"),
            ("redis://localhost?replicas", "no value"),
            ("redis://localhost?ca_file=x", "`rediss`"),
            ("redis://localhost?sentinel_user=x", "redis+sentinel://"),
            ("redis://localhost#x", "`#`"),
        ] {
            let said = error(text);
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    #[test]
    fn hazard_34_no_secret_is_shown() {
        for text in [
            "redis://user:hunter2@localhost:bad",
            "reddis://user:hunter2@localhost",
            "redis:user:hunter2@localhost",
            "redis://hunter2@localhost",
            "redis://user:hunter2%@localhost",
            "redis://user:hunter2%ff@localhost",
            "redis://user:hunter2/localhost",
            "redis://user:hunter2@a,b",
            "redis+sentinel://user:hunter2@a:1",
            "redis://user:hunter2@localhost/hunter2@x",
        ] {
            let error = Url::parse(text).map(drop);
            let said = format!("{error:?}");
            // What stands where a port belongs is shown, unless an `@` follows.
            let shown = said.contains("hunter2") && !text.ends_with("hunter2/localhost");
            assert!(!shown, "{text}: {said}");
        }
        for (text, expected) in [
            ("redis://a:1/2", "redis://a:1/2"),
            ("redis://u:hunter2@/x@a:1", "redis://[hidden]@a:1"),
            (
                "redis+sentinel://a/s?sentinel_password=hunter2&replicas=1",
                "redis+sentinel://a/s?sentinel_password=[hidden]&replicas=1",
            ),
            ("hunter2", "[hidden]"),
        ] {
            assert_eq!(shown(text), expected);
        }
        let url = Url::parse("redis://user:hunter2@localhost").unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
        assert!(!format!("{url:?}").contains("user\""));
    }
}
