//! The keys by which tokens are checked.

use std::hash::{DefaultHasher, Hash as _};
use std::io::Read as _;
use std::path::Path as FilePath;

use onlyonce_pipeline::auth::{Jwks, KeyError, TokenKeys};

use super::RawAuth;
use crate::config::error::Problem;
use crate::config::report::Report;
use crate::config::scalar::As;
use crate::config::tree::Path;

const MOST_BYTES: u64 = 64 << 20;
const NO_KEY: &str = "add `secret_file = \"FILE\"` (make a secret with `openssl rand -hex 32`), \
                      `public_key = \"FILE.pem\"` or `jwks = \"FILE.json\"`";

/// The keys; `None` where there are none, or none that can be used, which has been reported.
pub(super) fn read(
    raw: &RawAuth,
    section: &Path,
    read: &mut DefaultHasher,
    report: &mut Report<'_>,
) -> Option<TokenKeys> {
    let given = [
        ("secret", raw.secret.is_some()),
        ("secret_file", raw.secret_file.is_some()),
        ("public_key", raw.public_key.is_some()),
        ("jwks", raw.jwks.is_some()),
    ];
    let mut given = given.into_iter().filter(|(_, is_given)| *is_given);
    let first = given.next();
    if let (Some((first, _)), Some((second, _))) = (first, given.next()) {
        let problem = Problem::new("there are two keys for tokens")
            .label(format!("`{first}` and `{second}` exclude each other"))
            .help("remove one of them");
        report.error(&section.key(second), problem);
        return None;
    }
    let Some((key, _)) = first else {
        let was_faulty = ["secret", "secret_file", "public_key", "jwks"]
            .iter()
            .any(|key| report.was_faulty(&section.key(key)));
        if !raw.module.is_empty() && !was_faulty {
            let problem = Problem::new("`[auth]` has no key to check tokens with")
                .label("there is no default: everybody would know it")
                .help(NO_KEY);
            report.error(section, problem);
        }
        return None;
    };
    let path = section.key(key);
    let keys = match (&raw.secret, &raw.secret_file, &raw.public_key, &raw.jwks) {
        (Some(As(secret)), ..) => TokenKeys::hs256(secret.expose()),
        (_, Some(As(file)), ..) => {
            let text = read_file(file, &path, report)?;
            text.hash(read);
            TokenKeys::hs256(text.trim_end_matches(['\r', '\n']))
        }
        (_, _, Some(As(file)), _) => {
            let text = read_file(file, &path, report)?;
            text.hash(read);
            public_key(&text)
        }
        (.., Some(As(file))) => {
            let text = read_file(file, &path, report)?;
            text.hash(read);
            Jwks::from_text(&text).map(TokenKeys::jwks)
        }
        _ => return None,
    };
    let keys = match keys {
        Ok(keys) => keys,
        Err(error) => {
            let help = match error {
                KeyError::ShortRsa | KeyError::Pem { .. } | KeyError::Jwks(_) => {
                    "name the file of a public key that tokens are signed for"
                }
                _ => "the secret must be hard to guess, as whoever guesses it can be anybody",
            };
            report.invalid(&path, error.to_string(), help);
            return None;
        }
    };
    let Some(As(file)) = &raw.old_secret_file else {
        return Some(keys);
    };
    let path = section.key("old_secret_file");
    let text = read_file(file, &path, report)?;
    text.hash(read);
    match TokenKeys::hs256(text.trim_end_matches(['\r', '\n'])) {
        Ok(old) => Some(keys.also_accepting(&old)),
        Err(error) => {
            report.invalid(
                &path,
                error.to_string(),
                "leave it out: new logins get new tokens",
            );
            None
        }
    }
}

/// A public key, of whichever kind it is: its kind fixes the algorithm.
fn public_key(text: &str) -> Result<TokenKeys, KeyError> {
    let kinds = [TokenKeys::eddsa_public, TokenKeys::es256_public];
    let other = kinds.iter().find_map(|kind| kind(text.as_bytes()).ok());
    match TokenKeys::rs256_public(text.as_bytes()) {
        Err(KeyError::Pem { source, .. }) => other.ok_or(KeyError::Pem {
            kind: "public key (RSA, P-256 or Ed25519)",
            source,
        }),
        found => found,
    }
}

/// The text of a file that settings name.
pub(super) fn read_file(file: &FilePath, path: &Path, report: &mut Report<'_>) -> Option<String> {
    if file.starts_with("http:") || file.starts_with("https:") {
        report.invalid(
            path,
            "expected a file, found a URL",
            "the gateway fetches nothing: put the file beside it, and reload when it changes",
        );
        return None;
    }
    let open = || {
        // Opening a pipe would wait for its writer.
        if !std::fs::metadata(file)?.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let mut text = String::new();
        let opened = std::fs::File::open(file)?;
        opened.take(MOST_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MOST_BYTES {
            return Err(std::io::Error::other("it is longer than 64 MiB"));
        }
        Ok(text)
    };
    match open() {
        Ok(text) => Some(text),
        Err(error) => {
            report.invalid(
                path,
                format!("can't read {}: {error}", file.display()),
                "relative paths count from the folder that the gateway is started in",
            );
            None
        }
    }
}
