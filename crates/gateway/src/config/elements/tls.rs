//! `[tls]`: HTTPS on the public listener.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

use crate::config::error::Problem;
use crate::config::report::Report;
use crate::config::scalar::{As, Remedy, Scalar, Written};
use crate::config::tree::Path;
use crate::tls::TlsOptions;

/// HTTPS on `listen`. Left out, the gateway speaks plain HTTP there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[tls]`")]
#[schemars(inline)]
pub(in crate::config) struct RawTls {
    /// The certificate, followed by its chain, in PEM. Read again on reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) cert: Option<As<PathBuf>>,
    /// The certificate's private key, in PEM. Read again on reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) key: Option<As<PathBuf>>,
}

/// HTTPS on the public listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file with the certificate and its chain.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

impl RawTls {
    pub(in crate::config) fn resolve(self, report: &mut Report<'_>) -> Option<TlsSettings> {
        let section = Path::of(&["tls"]);
        match (self.cert, self.key) {
            (Some(As(cert)), Some(As(key))) => {
                readable(&cert, &section.key("cert"), report);
                readable(&key, &section.key("key"), report);
                Some(TlsSettings { cert, key })
            }
            (None, None) => None,
            (cert, _) => {
                let missing = if cert.is_some() { "key" } else { "cert" };
                if !report.was_faulty(&section) {
                    report.error(
                        &section,
                        Problem::new(format!("`{missing}` is missing in `[tls]`"))
                            .label("TLS needs both `cert` and `key`")
                            .help(format!("add `{missing} = \"FILE.pem\"`")),
                    );
                }
                None
            }
        }
    }
}

impl TlsSettings {
    /// As the acceptor wants them.
    #[must_use]
    pub fn tls_options(&self) -> TlsOptions {
        TlsOptions {
            cert: self.cert.clone(),
            key: self.key.clone(),
        }
    }
}

impl From<TlsSettings> for RawTls {
    fn from(tls: TlsSettings) -> Self {
        Self {
            cert: Some(As(tls.cert)),
            key: Some(As(tls.key)),
        }
    }
}

/// Shells read `~`; settings don't, and a folder of that name would be a surprise.
pub(super) const NO_TILDE: &str = "`~` is not expanded here: write the whole path";

/// Reports a file that can't be opened.
pub(in crate::config) fn readable(file: &std::path::Path, path: &Path, report: &mut Report<'_>) {
    let opened = std::fs::metadata(file).and_then(|found| {
        if found.is_dir() {
            return Err(std::io::ErrorKind::IsADirectory.into());
        }
        // Opening a pipe would wait for its writer.
        if found.is_file() {
            std::fs::File::open(file)?;
        }
        Ok(())
    });
    if let Err(error) = opened {
        report.error(
            path,
            Problem::new(format!("can't read the file of {path}"))
                .label(format!("{}: {error}", file.display()))
                .help("relative paths count from the folder that the gateway is started in"),
        );
    }
}

impl Scalar for PathBuf {
    fn expected() -> Cow<'static, str> {
        "the path of a file".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        if text.is_empty() || text.contains('\0') {
            return Err(Remedy::none());
        }
        if text.starts_with("~/") {
            return Err(NO_TILDE.into());
        }
        Ok(text.into())
    }

    fn written(&self) -> Written {
        Written::Text(self.to_string_lossy().into_owned())
    }

    fn schema() -> Schema {
        json_schema!({ "title": "path", "type": "string", "minLength": 1 })
    }
}
