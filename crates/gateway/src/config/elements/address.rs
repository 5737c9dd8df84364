//! Addresses to listen on.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use schemars::{Schema, json_schema};

use crate::config::scalar::{Remedy, Scalar, Written};

impl Scalar for SocketAddr {
    fn expected() -> Cow<'static, str> {
        "an IP address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        text.parse().map_err(|_| remedy(text))
    }

    fn from_integer(port: u64) -> Result<Self, Remedy> {
        Err(remedy(&port.to_string()))
    }

    fn written(&self) -> Written {
        Written::Text(self.to_string())
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "address and port",
            "type": "string",
            "examples": ["127.0.0.1:8080", "0.0.0.0:8080", "[::]:8080"],
        })
    }
}

fn remedy(text: &str) -> Remedy {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None if text.parse::<IpAddr>().is_ok() => {
            return "add a port, such as :8080".into();
        }
        None => ("", text),
    };
    if port.parse::<u16>().is_err() {
        return Remedy::none();
    }
    match host {
        "" | "*" => {
            format!("write \"127.0.0.1:{port}\" for this machine alone, \"0.0.0.0:{port}\" for all")
                .into()
        }
        "localhost" => format!("write \"127.0.0.1:{port}\"").into(),
        host if host.parse::<std::net::Ipv6Addr>().is_ok() => {
            format!("an IPv6 address stands in brackets: \"[{host}]:{port}\"").into()
        }
        _ => "names are not looked up here: write the IP address of one of this machine's \
              interfaces"
            .into(),
    }
}

/// Whether both can't be bound at once.
pub(in crate::config) fn conflict(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (everywhere || one.ip() == other.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_meet() {
        let meet = |one: &str, other: &str| conflict(one.parse().unwrap(), other.parse().unwrap());
        assert!(meet("127.0.0.1:80", "127.0.0.1:80"));
        assert!(meet("0.0.0.0:80", "127.0.0.1:80"));
        assert!(meet("127.0.0.1:80", "[::]:80"));
        assert!(!meet("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!meet("127.0.0.1:80", "127.0.0.1:81"));
        assert!(!meet("127.0.0.1:0", "127.0.0.1:0"));
    }
}
