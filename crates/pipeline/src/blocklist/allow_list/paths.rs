//! Which paths are protected.
//!
//! What is behind may read a path more generously than it is written: so is this. Whatever could
//! be taken for a protected path is one.

use std::fmt;

use matchit::{InsertError, Router};

use crate::foreign_pattern;
use crate::path::{decode_wholly, readings, small_letters};

/// The pattern of a path, in the syntax of axum and `matchit`.
pub(super) struct ProtectedPath {
    pattern: Box<str>,
    /// In lower case.
    router: Router<()>,
}

/// A pattern that can't be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the protected path `{pattern}` can't be used: {reason}")]
pub struct ProtectedPathError {
    pattern: String,
    reason: String,
    #[source]
    source: Option<InsertError>,
}

impl ProtectedPath {
    pub(super) fn parse(pattern: &str) -> Result<Self, ProtectedPathError> {
        let error = |reason: &str, source| ProtectedPathError {
            pattern: pattern.escape_debug().to_string(),
            reason: reason.to_owned(),
            source,
        };
        if !pattern.starts_with('/') {
            return Err(error("it must begin with `/`", None));
        }
        // It would protect a path that nobody asks for, and leave the one that is meant open.
        if let Some(remedy) = foreign_pattern(pattern) {
            return Err(error(&remedy, None));
        }
        let lower = small_letters(pattern);
        let lower = match lower.trim_end_matches('/') {
            "" => "/",
            lower => lower,
        };
        let mut router = Router::new();
        insert(&mut router, lower).map_err(|source| {
            let reason = format!(
                "{source}: write it as `/reports`, `/reports/{{id}}` or `/reports/{{*rest}}`"
            );
            error(&reason, Some(source))
        })?;
        // As it looks to who has read the escapes; those of braces would become parameters.
        let decoded = decode_wholly(lower);
        let decoded = small_letters(&decoded);
        if decoded != lower && !lower.contains("%7b") && !lower.contains("%7d") {
            insert(&mut router, &decoded).map_err(|source| {
                error("its escapes can't be told from parameters", Some(source))
            })?;
        }
        Ok(Self {
            pattern: pattern.into(),
            router,
        })
    }
}

fn insert(router: &mut Router<()>, pattern: &str) -> Result<(), InsertError> {
    router.insert(pattern, ())?;
    // What lies under a folder is protected, and so is the folder itself.
    match pattern.rfind("/{*") {
        Some(0) => router.insert("/", ()),
        Some(at) => router.insert(&pattern[..at], ()),
        None => Ok(()),
    }
}

impl fmt::Debug for ProtectedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.pattern, f)
    }
}

/// Whether anybody could take this path for a protected one.
pub(super) fn is_protected(paths: &[ProtectedPath], path: &str) -> bool {
    // `OPTIONS *` is about the server, and no path.
    if paths.is_empty() || path == "*" {
        return false;
    }
    let matches = |path: &String| paths.iter().any(|own| own.router.at(path).is_ok());
    // What some server reads as a way elsewhere is not let through in doubt.
    readings(path).map_or(true, |readings| readings.iter().any(matches))
}
