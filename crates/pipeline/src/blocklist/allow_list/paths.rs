//! Which paths are protected.
//!
//! What is behind may read a path more generously than it is written: so is this. Whatever could
//! be taken for a protected path is one.

use std::fmt;

use matchit::{InsertError, Router};

use crate::foreign_pattern;

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

/// Nobody encodes a path more often than this, but in bad faith.
const MOST_LAYERS: usize = 4;

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
        let mut router = Router::new();
        let lower = pattern.to_lowercase();
        let lower = match lower.trim_end_matches('/') {
            "" => "/",
            lower => lower,
        };
        router.insert(lower, ()).map_err(|source| {
            let reason = format!(
                "{source}: write it as `/reports`, `/reports/{{id}}` or `/reports/{{*rest}}`"
            );
            error(&reason, Some(source))
        })?;
        // What lies under a folder is protected, and so is the folder itself.
        if let Some(at) = lower.rfind("/{*") {
            let folder = if at == 0 { "/" } else { &lower[..at] };
            router
                .insert(folder, ())
                .map_err(|source| error("its folder can't be protected", Some(source)))?;
        }
        Ok(Self {
            pattern: pattern.into(),
            router,
        })
    }
}

impl fmt::Debug for ProtectedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.pattern, f)
    }
}

/// Whether anybody could take this path for a protected one.
pub(super) fn is_protected(paths: &[ProtectedPath], path: &str) -> bool {
    if paths.is_empty() {
        return false;
    }
    let matches = |path: &str| paths.iter().any(|own| own.router.at(path).is_ok());
    let mut path = path.to_lowercase();
    if matches(&path) {
        return true;
    }
    for _ in 0..MOST_LAYERS {
        let simple = simplify(&path);
        if matches(&simple) {
            return true;
        }
        let decoded = decode(&path);
        if decoded == path {
            return false;
        }
        path = decoded;
    }
    // Encoded that often: it is not let through in doubt.
    true
}

/// Without empty segments, dots, parameters and a slash at the end.
fn simplify(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split(['/', '\\']) {
        // `;` begins parameters of a segment, which some servers leave out.
        let name = segment.split(';').next().unwrap_or_default();
        match name {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}

fn decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let pair = tail.get(..2).filter(|_| *first == b'%');
        let pair = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        let decoded = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).to_lowercase()
}
