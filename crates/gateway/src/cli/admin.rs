//! Where the admin listener of a running gateway is.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use clap::{Args, ValueHint};
use http::Uri;

use crate::config::{ADMIN_URL, ConfigErrors, Sources, admin_listen};

/// Which running gateway to talk to.
#[derive(Clone, Debug, Default, Args)]
pub struct AdminArgs {
    /// Admin listener of the gateway [default: `ONLYONCE_ADMIN_URL`, or that of the settings]
    #[arg(long, global = true, value_name = "URL", value_hint = ValueHint::Url, value_parser = url)]
    pub admin: Option<Uri>,
    /// File of the gateway's settings [default: ./onlyonce.toml if it is there]
    #[arg(long, short, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}

/// The admin listener can't be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] ConfigErrors),
    /// It is switched off.
    #[error("the settings say `admin.listen = \"off\"`: name the listener with `--admin URL`")]
    Off,
    /// The variable holds something else.
    #[error("{ADMIN_URL} is no URL such as http://127.0.0.1:9090: {0}")]
    Variable(String),
}

impl AdminArgs {
    /// The URL of the admin listener: the flag's, else that of `ONLYONCE_ADMIN_URL`, else of the
    /// settings.
    ///
    /// # Errors
    /// When the settings can't be read, or the listener is off.
    pub fn url(&self) -> Result<Uri, AdminError> {
        let sources = Sources::of_process(self.config.clone());
        self.url_from(std::env::var_os(ADMIN_URL), &sources)
    }

    fn url_from(&self, variable: Option<OsString>, sources: &Sources) -> Result<Uri, AdminError> {
        if let Some(uri) = &self.admin {
            return Ok(uri.clone());
        }
        if let Some(value) = variable {
            return url(&value.to_string_lossy()).map_err(AdminError::Variable);
        }
        let listen = admin_listen(sources)?.ok_or(AdminError::Off)?;
        // "Everywhere" is no address to connect to.
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let address = std::net::SocketAddr::new(ip, listen.port());
        url(&format!("http://{address}")).map_err(AdminError::Variable)
    }
}

fn url(text: &str) -> Result<Uri, String> {
    let uri: Uri = text
        .parse()
        .map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let is_plain = uri.scheme_str() == Some("http")
        && uri.host().is_some_and(|host| !host.is_empty())
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none();
    if is_plain {
        Ok(uri)
    } else {
        Err("write http://, an address and a port".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(admin: Option<&str>, variable: Option<&str>, sources: &Sources) -> String {
        let args = AdminArgs {
            admin: admin.map(|text| url(text).unwrap()),
            config: None,
        };
        match args.url_from(variable.map(OsString::from), sources) {
            Ok(uri) => uri.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_flag_wins_over_the_variable_and_it_over_the_settings() {
        let none = Sources::none();
        assert_eq!(found(None, None, &none), "http://127.0.0.1:9090/");
        let listen = |value: &str| Sources::none().with_variable("ONLYONCE_ADMIN__LISTEN", value);
        assert_eq!(
            found(None, None, &listen("127.0.0.1:1")),
            "http://127.0.0.1:1/"
        );
        assert_eq!(
            found(None, None, &listen("0.0.0.0:1")),
            "http://127.0.0.1:1/"
        );
        assert_eq!(found(None, None, &listen("[::]:1")), "http://[::1]:1/");
        let variable = Some("http://a:2");
        assert_eq!(found(None, variable, &listen("127.0.0.1:1")), "http://a:2/");
        assert_eq!(found(Some("http://b:3"), variable, &none), "http://b:3/");
        assert!(found(None, None, &listen("off")).contains("--admin URL"));
        assert!(found(None, None, &listen("on")).contains("ONLYONCE_ADMIN__LISTEN=on"));
        assert!(found(None, Some("a:2"), &none).contains("ONLYONCE_ADMIN_URL is no URL"));
        assert!(found(None, Some("https://a:2"), &none).contains("write http://"));
    }
}
