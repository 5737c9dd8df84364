//! What a server's refusal, or its silence, means.

use std::borrow::Cow;

use onlyonce_core::{Operation, StoreError, StoreErrorKind};
use redis::{ErrorKind, RedisError, ServerError};

use crate::rights::{Lack, lack};
use crate::url::{Address, address};

/// Why one try came to nothing.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The script is not there (any more): nothing was done.
    NoScript,
    /// Another server is responsible: nothing was done.
    Moved(Option<Address>),
    /// Another server has this record already: nothing was done.
    Ask(Option<Address>),
    /// The server turned us away for now: nothing was done.
    Later(RedisError),
    /// Not the server that takes writes: nothing was done.
    NotMaster(RedisError),
    /// The server could not be reached: nothing was done.
    Unreached(RedisError),
    /// The connection broke; nobody knows whether it was done.
    Lost(RedisError),
    /// Trying again is of no use.
    Final(StoreError),
}

impl Fault {
    /// What the server's error means, at an `operation`.
    pub(crate) fn of_reply(operation: Operation, error: ServerError, server: &Address) -> Self {
        let code = error.code().to_owned();
        let details = error.details().unwrap_or_default().to_owned();
        let error = RedisError::from(error);
        // Up to version 6.2 an error within a script comes as text in another error.
        let is = |name: &str| code == name || details.contains(&format!("{name} "));
        if is("NOSCRIPT") {
            Self::NoScript
        } else if code == "MOVED" {
            Self::Moved(redirection(&details, server))
        } else if code == "ASK" {
            Self::Ask(redirection(&details, server))
        } else if is("READONLY") {
            Self::NotMaster(error)
        } else if ["TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "BUSY"]
            .iter()
            .any(|name| is(name))
            || is("MISCONF")
            || is("NOREPLICAS")
        {
            Self::Later(error)
        } else {
            Self::Final(of_server(operation, &code, &details, error, server))
        }
    }

    /// What an error of the connection means.
    pub(crate) fn of_connection(error: RedisError) -> Self {
        Self::Lost(error)
    }

    /// What an error while connecting means.
    pub(crate) fn of_dialling(operation: Operation, error: RedisError, server: &Address) -> Self {
        let said = error.to_string();
        let has = |text: &str| said.contains(text);
        if has("LOADING") || has("MASTERDOWN") {
            return Self::Later(error);
        }
        let why: Option<Cow<'_, str>> = if error.kind() == ErrorKind::AuthenticationFailed
            || has("WRONGPASS")
            || has("NOAUTH")
            || has("invalid password")
            || has("without any password configured")
        {
            Some("the server refuses the user or the password of the URL".into())
        } else if has("DB index") {
            Some("the server has no database of the URL's number".into())
        } else if has("NOPERM") || has("no permissions") {
            Some(
                "the user of the URL may not connect in this way: add `+hello +select` to its ACL"
                    .into(),
            )
        } else if error.kind() == ErrorKind::RESP3NotSupported {
            Some("the server is too old: Redis 6.2 or Valkey is needed".into())
        } else if error.kind() == ErrorKind::InvalidClientConfig {
            Some("the settings of the connection can't work".into())
        } else if has("certificate") || has("InvalidContentType") || has("CorruptMessage") {
            Some(
                "no TLS connection comes about: look at `rediss`, `ca_file` and the server's \
                 certificate"
                    .into(),
            )
        } else {
            None
        };
        match why {
            Some(why) => Self::Final(
                StoreError::new(
                    operation,
                    StoreErrorKind::Misconfigured,
                    format!("Redis at {server}: {why}"),
                )
                .with_source(error),
            ),
            None => Self::Unreached(error),
        }
    }

    /// The error to give up with.
    pub(crate) fn give_up(self, operation: Operation) -> StoreError {
        let unavailable =
            |message: &str| StoreError::new(operation, StoreErrorKind::Unavailable, message);
        match self {
            Self::Final(error) => error,
            Self::NoScript => unavailable("Redis lost the script again and again"),
            Self::Moved(_) | Self::Ask(_) => {
                unavailable("the Cluster sends the request from one server to the other")
            }
            Self::Later(error) => unavailable("Redis takes no request just now").with_source(error),
            Self::NotMaster(error) => {
                unavailable("Redis has no master for this record just now").with_source(error)
            }
            Self::Unreached(error) => {
                // Somebody is there, who does not understand.
                let is_mute = error.is_timeout() || error.is_connection_dropped();
                let message = if is_mute && operation == Operation::Open {
                    "Redis can't be reached, or one side speaks TLS there and the other does not: \
                     `redis://` is without, `rediss://` with it"
                } else {
                    "Redis can't be reached"
                };
                unavailable(message).with_source(error)
            }
            Self::Lost(error) => {
                unavailable("the connection to Redis broke; the step may or may not be done")
                    .with_source(error)
            }
        }
    }
}

/// `3999 127.0.0.1:6381`; without a host it is the one that was asked.
fn redirection(details: &str, asked: &Address) -> Option<Address> {
    let target = details.split_ascii_whitespace().nth(1)?;
    let hostless = target.strip_prefix(':').filter(|port| !port.contains(':'));
    let target = match hostless {
        Some(port) => Address {
            host: asked.host.clone(),
            port: port.parse().ok()?,
        },
        // An IPv6 address comes without brackets.
        None => match target.rsplit_once(':') {
            Some((host, port)) if host.contains(':') && !host.starts_with('[') => Address {
                host: host.into(),
                port: port.parse().ok()?,
            },
            _ => address(target, 0).ok()?,
        },
    };
    Some(target)
}

fn of_server(
    operation: Operation,
    code: &str,
    details: &str,
    error: RedisError,
    server: &Address,
) -> StoreError {
    let is = |name: &str| code == name || details.contains(&format!("{name} "));
    let (kind, why) = if is("ONLYONCECORRUPT") || is("WRONGTYPE") {
        (
            StoreErrorKind::Corrupt,
            "holds something in a record's place that this version of Onlyonce can't read".into(),
        )
    } else if is("OOM") {
        (
            StoreErrorKind::Full,
            "has reached its `maxmemory`: raise it, or shorten lifetimes".into(),
        )
    } else if let Some(lack) = lack(code, details) {
        let remedy: Cow<'_, str> = match lack {
            Lack::Command(command) => format!("add `+{command}` to its ACL").into(),
            Lack::Key => {
                "let it use the store's keys: add `~PREFIX*` to its ACL, which is `~oo:*` \
                          unless the URL names another `prefix`"
                    .into()
            }
            Lack::Channel => {
                "let it use the store's channels: add `&PREFIX*` to its ACL, which is `&oo:*` \
                              unless the URL names another `prefix`"
                    .into()
            }
            Lack::Something => "look at its ACL".into(),
        };
        (
            StoreErrorKind::Misconfigured,
            Cow::from(format!(
                "refuses something to the user of the URL ({}): {remedy}",
                details.trim()
            )),
        )
    } else if is("NOAUTH") || is("WRONGPASS") {
        (
            StoreErrorKind::Misconfigured,
            "refuses the user or the password of the URL".into(),
        )
    } else if details.contains("unknown command") || details.contains("CROSSSLOT") {
        (
            StoreErrorKind::Misconfigured,
            "is not a Redis that Onlyonce can use".into(),
        )
    } else {
        (StoreErrorKind::Unavailable, "refuses the request".into())
    };
    StoreError::new(operation, kind, format!("Redis at {server} {why}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::Value;

    fn fault(line: &str) -> Fault {
        let asked = Address {
            host: "asked".into(),
            port: 1,
        };
        match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()) {
            Ok(Value::ServerError(error)) => Fault::of_reply(Operation::Claim, error, &asked),
            other => panic!("not an error of a server: {other:?}"),
        }
    }

    #[test]
    fn hazard_44_every_refusal_has_its_kind() {
        use StoreErrorKind::{Corrupt, Full, Misconfigured, Unavailable};
        for (line, expected) in [
            (
                "LOADING Redis is loading the dataset in memory",
                Unavailable,
            ),
            (
                "READONLY You can't write against a read only replica.",
                Unavailable,
            ),
            ("CLUSTERDOWN The cluster is down", Unavailable),
            (
                "TRYAGAIN Multiple keys request during rehashing of slot",
                Unavailable,
            ),
            ("MASTERDOWN Link with MASTER is down", Unavailable),
            ("BUSY Redis is busy running a script.", Unavailable),
            ("NOREPLICAS Not enough good replicas to write.", Unavailable),
            ("MISCONF Errors writing to the AOF file", Unavailable),
            ("MOVED 3999 127.0.0.1:6381", Unavailable),
            ("ASK 3999 127.0.0.1:6381", Unavailable),
            ("NOSCRIPT No matching script.", Unavailable),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Full,
            ),
            ("ONLYONCECORRUPT a damaged record", Corrupt),
            ("WRONGTYPE Operation against a key", Corrupt),
            ("NOPERM this user has no permissions", Misconfigured),
            ("NOAUTH Authentication required.", Misconfigured),
            // As version 6.2 tells of an error within a script.
            (
                "ERR Error running script (call to f_1): @user_script:1: -OOM command",
                Full,
            ),
            (
                "ERR Error running script: @user_script:5: WRONGTYPE Operation",
                Corrupt,
            ),
            (
                "ERR Error running script: -READONLY You can't write",
                Unavailable,
            ),
        ] {
            let error = fault(line).give_up(Operation::Claim);
            assert_eq!(error.kind(), expected, "{line}: {error}");
            assert_eq!(error.operation(), Operation::Claim);
        }
    }

    #[test]
    fn redirections_are_read() {
        let to = |host: &str, port| {
            Some(Address {
                host: host.into(),
                port,
            })
        };
        for (line, expected) in [
            ("MOVED 3999 127.0.0.1:6381", to("127.0.0.1", 6381)),
            ("MOVED 3999 host.example:6381", to("host.example", 6381)),
            ("MOVED 3999 :6381", to("asked", 6381)),
            ("MOVED 3999 ::1:6381", to("::1", 6381)),
            ("MOVED 3999 [::1]:6381", to("::1", 6381)),
            ("MOVED 3999", None),
            ("MOVED 3999 nonsense:x", None),
        ] {
            match fault(line) {
                Fault::Moved(address) => assert_eq!(address, expected, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        assert!(matches!(fault("ASK 1 a:2"), Fault::Ask(Some(_))));
    }
}
