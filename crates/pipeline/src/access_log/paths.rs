//! Lists of paths.

use std::fmt;

/// A set of path patterns in axum's syntax: `/healthz`, `/users/{id}`, `/static/{*rest}`.
#[derive(Clone, Default)]
pub struct Paths {
    patterns: Vec<String>,
    router: matchit::Router<()>,
}

/// A pattern that cannot be in the list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathsError {
    /// It is none.
    #[error(
        "`{pattern}` is no pattern of paths; write such as `/healthz`, `/users/{{id}}` or \
         `/static/{{*rest}}`"
    )]
    #[non_exhaustive]
    Malformed {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        source: matchit::InsertError,
    },
    /// It matches what another one matches.
    #[error("`{pattern}` matches the same paths as `{with}`")]
    #[non_exhaustive]
    Conflict {
        /// As it was given.
        pattern: String,
        /// The one that was given before.
        with: String,
    },
}

impl Paths {
    /// The paths that match any of these patterns.
    ///
    /// # Errors
    /// When a pattern cannot be parsed, or says the same as one before it.
    pub fn new(patterns: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, PathsError> {
        let mut paths = Self::default();
        for pattern in patterns {
            let pattern = pattern.into();
            match paths.router.insert(pattern.clone(), ()) {
                Ok(()) => {}
                Err(matchit::InsertError::Conflict { with }) => {
                    return Err(PathsError::Conflict { pattern, with });
                }
                Err(source) => return Err(PathsError::Malformed { pattern, source }),
            }
            paths.patterns.push(pattern);
        }
        Ok(paths)
    }

    /// The patterns.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether `path` is one of them. A path that another server could read as a different one
    /// (dot segments, empty segments, encoded slashes, backslashes) never is: nobody hides from
    /// the log behind `/healthz/../admin`.
    pub(super) fn contains(&self, path: &str) -> bool {
        !self.patterns.is_empty() && is_plain(path) && self.router.at(path).is_ok()
    }
}

impl fmt::Debug for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.patterns).finish()
    }
}

/// Whether every server reads the path alike.
pub(super) fn is_plain(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let encoded = ["%2e", "%2f", "%5c", "%25", "%3b", "%00"];
    let segments = path.strip_prefix('/').map(|rest| rest.split('/'));
    let mut segments = segments.into_iter().flatten().peekable();
    let mut plain = true;
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        plain &= (is_last || !segment.is_empty()) && segment != "." && segment != "..";
    }
    plain && !path.contains(['\\', ';']) && !encoded.iter().any(|part| lower.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_hides_behind_a_path_that_is_read_differently_elsewhere() {
        let paths = Paths::new(["/healthz", "/static/{*rest}"]).unwrap();
        for path in ["/healthz", "/static/a/b.css", "/static/a/"] {
            assert!(paths.contains(path), "{path}");
        }
        for path in [
            "/",
            "/healthz/x",
            "/static/../admin",
            "/static/./a",
            "/static//admin",
            "/static/%2e%2E/admin",
            "/static/..%2fadmin",
            "/static/..%5Cadmin",
            "/static/..\\admin",
            "/static/%252e%252e/admin",
            "/static/..;/admin",
            "/static/a/..",
        ] {
            assert!(!paths.contains(path), "{path}");
        }
        assert!(!Paths::default().contains("/"));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Paths::new(["/{a}", "/b", "/{c}"]).unwrap_err();
        assert_eq!(error.to_string(), "`/{c}` matches the same paths as `/{a}`");
        let error = Paths::new(["/ok", "/{a}{b}"]).unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with("`/{a}{b}` is no pattern of paths"),
            "{said}"
        );
    }
}
