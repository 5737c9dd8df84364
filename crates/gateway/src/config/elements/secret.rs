//! `secret` and `secret_file` of `[idempotency]`.

use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;
use std::path::Path as FilePath;

use onlyonce_core::Secret;
use schemars::{Schema, json_schema};

use crate::config::mask::HIDDEN;
use crate::config::report::Report;
use crate::config::scalar::{Remedy, Scalar, Written};
use crate::config::tree::Path;

/// A secret as settings give it.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::config) struct SecretText(Box<str>);

/// The fewest characters that can hold enough randomness.
const LEAST: usize = 16;
const MOST_BYTES: u64 = 64 * 1024;
const REMEDY: &str = "make one with `openssl rand -hex 32`";

impl SecretText {
    pub(in crate::config) fn secret(&self) -> Secret {
        Secret::from_passphrase(&self.0)
    }

    /// The text itself.
    pub(in crate::config) fn expose(&self) -> &str {
        &self.0
    }

    /// The secret in a file, without the line break at its end.
    pub(in crate::config) fn read(
        file: &FilePath,
        path: &Path,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let mut text = String::new();
        let read = std::fs::File::open(file)
            .and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text));
        let text = text.trim_end_matches(['\r', '\n']);
        let problem = match read {
            Err(error) => format!("can't read {}: {error}", file.display()),
            Ok(_) if text.len() as u64 > MOST_BYTES => "the file is longer than 64 KiB".to_owned(),
            Ok(_) => match Self::from_text(text) {
                Ok(secret) => return Some(secret),
                Err(_) => format!("the file holds fewer than {LEAST} characters"),
            },
        };
        report.invalid(path, problem, REMEDY);
        None
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Scalar for SecretText {
    fn expected() -> Cow<'static, str> {
        format!("a text of at least {LEAST} characters").into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        if text == HIDDEN {
            return Err(
                "this is how `print-config` hides the secret: put the real one here".into(),
            );
        }
        if text.chars().count() < LEAST {
            return Err(REMEDY.into());
        }
        Ok(Self(text.into()))
    }

    fn written(&self) -> Written {
        Written::Text(HIDDEN.to_owned())
    }

    fn schema() -> Schema {
        json_schema!({ "title": "text", "type": "string", "minLength": LEAST })
    }
}
