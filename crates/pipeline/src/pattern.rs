//! Patterns of paths, as other houses write them.

/// What to write in place of `pattern` if it is one of gf's, Gin's or nginx's (`/internal/*`,
/// `/users/:id`): here both stand for themselves, so that it would match next to nothing.
#[doc(hidden)]
#[must_use]
pub fn foreign_pattern(pattern: &str) -> Option<String> {
    let last = pattern.matches('/').count();
    let parts: Vec<String> = pattern
        .split('/')
        .enumerate()
        .map(|(index, part)| written_here(part, index == last))
        .collect();
    let written = parts.join("/");
    (written != pattern)
        .then(|| format!("`*` and `:name` have no meaning in a pattern: write \"{written}\""))
}

fn written_here(part: &str, is_last: bool) -> String {
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let or = |name: &str, other: &str| if name.is_empty() { other } else { name }.to_owned();
    match part.split_at_checked(1) {
        Some(("*", name)) if is_name(name) || name == "*" => {
            let name = name.trim_matches('*');
            if is_last {
                format!("{{*{}}}", or(name, "rest"))
            } else {
                format!("{{{}}}", or(name, "part"))
            }
        }
        Some((":", name)) if is_name(name) && !name.is_empty() => format!("{{{name}}}"),
        _ if part.contains('*') && !part.contains('{') => part.replacen('*', "{part}", 1),
        _ => part.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::foreign_pattern;

    #[test]
    fn other_houses_patterns_are_told_apart() {
        for (pattern, written) in [
            ("/internal/*", "/internal/{*rest}"),
            ("/internal/**", "/internal/{*rest}"),
            ("/*", "/{*rest}"),
            ("/user/*any", "/user/{*any}"),
            ("/users/:id", "/users/{id}"),
            ("/users/:id/posts/*", "/users/{id}/posts/{*rest}"),
            ("/users/*/posts", "/users/{part}/posts"),
            ("/health*", "/health{part}"),
        ] {
            let said = foreign_pattern(pattern).unwrap_or_default();
            let end = format!("write \"{written}\"");
            assert!(said.ends_with(&end), "{pattern}: {said}");
        }
    }

    #[test]
    fn our_own_are_left_alone() {
        for pattern in [
            "/",
            "/internal/{*rest}",
            "/users/{id}",
            "/health{part}",
            "/v1/things:batch",
            "/a/:",
            "/{{literal}}",
        ] {
            assert_eq!(foreign_pattern(pattern), None, "{pattern}");
        }
    }
}
