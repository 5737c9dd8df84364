//! Lists of routes: methods and patterns.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use http::Method;
use matchit::{InsertError, Router};

use crate::foreign_pattern;
use crate::path::{NormalPath, read_loosely, read_strictly};

/// One route, as settings write it: `/admin/login` or `POST /admin/login`, with `{name}` for one
/// part between slashes and `{*rest}` at the end for all that follows, also nothing.
///
/// Without a method it is for all methods. `GET` is not `HEAD`: name both (`GET,HEAD /admin/ping`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern {
    /// Empty: all.
    methods: Vec<Method>,
    pattern: Box<str>,
}

impl RoutePattern {
    /// The pattern of its path.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The methods it is for; empty: all.
    #[must_use]
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// The route, with `HEAD` where it has `GET`.
    pub(super) fn with_head(&self) -> Self {
        let mut route = self.clone();
        if route.methods.contains(&Method::GET) && !route.methods.contains(&Method::HEAD) {
            route.methods.push(Method::HEAD);
        }
        route
    }

    /// The route as the loosest reader sees it: in small letters, with all escapes read.
    pub(super) fn folded(&self) -> Self {
        let read = read_loosely(&self.pattern).map(|loose| loose.folded());
        Self {
            methods: self.methods.clone(),
            pattern: read.map_or_else(|_| self.pattern.clone(), |read| read.as_str().into()),
        }
    }

    fn parameters_begin(&self) -> Option<usize> {
        self.pattern.find(['{', '}'])
    }

    /// The part before the first parameter.
    fn fixed(&self) -> &str {
        self.parameters_begin()
            .map_or(&self.pattern, |at| &self.pattern[..at])
    }

    /// Whether all it matches lies under `prefix`.
    pub(super) fn is_under(&self, prefix: &str) -> bool {
        let rest = self.fixed().strip_prefix(prefix);
        prefix == "/"
            || match rest {
                Some("") => self.parameters_begin().is_none(),
                Some(rest) => rest.starts_with('/'),
                None => false,
            }
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, method) in self.methods.iter().enumerate() {
            write!(f, "{}{method}", if position == 0 { "" } else { "," })?;
        }
        let space = if self.methods.is_empty() { "" } else { " " };
        write!(f, "{space}{}", self.pattern)
    }
}

/// A text is no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteSyntaxError {
    /// The path does not begin with a slash.
    #[error("write a path, or methods and a path: \"POST /admin/login\"")]
    NoPath,
    /// This is no method.
    #[error("{0:?} is no method: write it in capitals, several with commas between")]
    Method(String),
    /// No request's path is written like this.
    #[error("no path would ever match: {0}")]
    Path(super::AmbiguousPath),
    /// The parameters are wrong.
    #[error("{0}")]
    Syntax(&'static str),
    /// It is written as elsewhere, and would match next to nothing here.
    #[error("{0}")]
    Foreign(String),
}

impl FromStr for RoutePattern {
    type Err = RouteSyntaxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (methods, pattern) = match text.split_once(' ') {
            Some((methods, pattern)) => (Some(methods), pattern),
            None => (None, text),
        };
        if !pattern.starts_with('/') || pattern.contains(['?', '#', ' ']) {
            return Err(RouteSyntaxError::NoPath);
        }
        let methods = methods.map_or(Ok(Vec::new()), |methods| {
            methods.split(',').map(method).collect()
        })?;
        let normal = read_strictly(pattern).map_err(RouteSyntaxError::Path)?;
        let pattern: Box<str> = normal.as_str().into();
        routers(&pattern)?;
        // A module would not take what it seems to take.
        if let Some(remedy) = foreign_pattern(&pattern) {
            return Err(RouteSyntaxError::Foreign(remedy));
        }
        Ok(Self { methods, pattern })
    }
}

fn method(text: &str) -> Result<Method, RouteSyntaxError> {
    let is_spelled_right = !text.is_empty() && !text.bytes().any(|b| b.is_ascii_lowercase());
    let method = Method::from_bytes(text.as_bytes()).ok();
    method
        .filter(|_| is_spelled_right)
        .ok_or_else(|| RouteSyntaxError::Method(text.to_owned()))
}

fn routers(pattern: &str) -> Result<Router<()>, RouteSyntaxError> {
    let mut router = Router::new();
    let mut insert = |pattern: &str| {
        router
            .insert(pattern, ())
            .map_err(|error| RouteSyntaxError::Syntax(explain(&error)))
    };
    insert(pattern)?;
    if let Some((base, last)) = pattern.rsplit_once('/')
        && last.starts_with("{*")
    {
        insert(&format!("{base}/"))?;
        if !base.is_empty() {
            insert(base)?;
        }
    }
    Ok(router)
}

fn explain(error: &InsertError) -> &'static str {
    match error {
        InsertError::InvalidParamSegment => "each part between slashes can have one parameter",
        InsertError::InvalidCatchAll => "{*rest} can only be the last part",
        _ => "a parameter is written {name}; a brace of the path itself is doubled: {{",
    }
}

/// Routes that are treated alike.
#[derive(Clone, Default)]
pub(super) struct RouteList {
    /// By path. Most routes have no parameters, and one look finds them.
    fixed: HashMap<Box<str>, Methods>,
    others: Vec<(Router<()>, Methods)>,
}

#[derive(Clone, Debug)]
enum Methods {
    All,
    These(Vec<Method>),
}

impl Methods {
    fn has(&self, method: &Method) -> bool {
        match self {
            Self::All => true,
            Self::These(these) => these.contains(method),
        }
    }

    fn add(&mut self, more: Self) {
        match (self, more) {
            (Self::These(these), Self::These(more)) => these.extend(more),
            (all, Self::All) => *all = Self::All,
            (Self::All, _) => {}
        }
    }
}

impl RouteList {
    pub(super) fn add(&mut self, route: &RoutePattern) {
        let methods = if route.methods.is_empty() {
            Methods::All
        } else {
            Methods::These(route.methods.clone())
        };
        if route.parameters_begin().is_none() {
            match self.fixed.get_mut(&route.pattern) {
                Some(known) => known.add(methods),
                None => {
                    self.fixed.insert(route.pattern.clone(), methods);
                }
            }
        } else {
            let router = routers(&route.pattern).expect("it was parsed by the same rules");
            self.others.push((router, methods));
        }
    }

    pub(super) fn has(&self, method: &Method, path: &NormalPath) -> bool {
        let path = path.as_str();
        let fixed = self.fixed.get(path);
        fixed.is_some_and(|methods| methods.has(method))
            || self
                .others
                .iter()
                .any(|(router, methods)| methods.has(method) && router.at(path).is_ok())
    }
}

impl fmt::Debug for RouteList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RouteList({})", self.fixed.len() + self.others.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(routes: &[&str]) -> RouteList {
        let mut list = RouteList::default();
        for route in routes {
            list.add(&route.parse().unwrap());
        }
        list
    }

    fn has(list: &RouteList, method: &Method, path: &str) -> bool {
        list.has(method, &read_strictly(path).unwrap())
    }

    #[test]
    fn a_pattern_of_another_house_is_refused() {
        for text in ["/reports/*", "GET /users/:id"] {
            let error = text.parse::<RoutePattern>().unwrap_err().to_string();
            assert!(error.contains("have no meaning"), "{error}");
        }
    }

    #[test]
    fn a_route_is_its_methods_and_its_pattern() {
        let list = list(&[
            "POST /admin/login",
            "GET,HEAD /admin/{page}/help",
            "/admin/open/{*rest}",
        ]);
        assert!(has(&list, &Method::POST, "/admin/login"));
        assert!(!has(&list, &Method::GET, "/admin/login"));
        assert!(!has(&list, &Method::POST, "/admin/login/"));
        assert!(!has(&list, &Method::POST, "/admin/LOGIN"));
        assert!(!has(&list, &Method::POST, "/admin/login2"));
        assert!(has(&list, &Method::HEAD, "/admin/users/help"));
        assert!(!has(&list, &Method::DELETE, "/admin/users/help"));
        for path in ["/admin/open", "/admin/open/", "/admin/open/a/b"] {
            assert!(has(&list, &Method::PUT, path), "{path}");
        }
        assert!(!has(&list, &Method::PUT, "/admin/opening"));
    }

    #[test]
    fn methods_of_one_path_add_up() {
        let some = list(&["GET /a", "POST /a"]);
        assert!(has(&some, &Method::GET, "/a") && has(&some, &Method::POST, "/a"));
        assert!(!has(&some, &Method::PUT, "/a"));
        let all = list(&["GET /a", "/a", "POST /a"]);
        assert!(has(&all, &Method::PUT, "/a"));
    }

    #[test]
    fn bad_routes_say_what_is_wrong() {
        for (text, message) in [
            (
                "",
                "write a path, or methods and a path: \"POST /admin/login\"",
            ),
            (
                "admin",
                "write a path, or methods and a path: \"POST /admin/login\"",
            ),
            (
                "GET  /a",
                "write a path, or methods and a path: \"POST /admin/login\"",
            ),
            (
                "/a?b",
                "write a path, or methods and a path: \"POST /admin/login\"",
            ),
            (
                "get /a",
                "\"get\" is no method: write it in capitals, several with commas between",
            ),
            (
                "GET, /a",
                "\"\" is no method: write it in capitals, several with commas between",
            ),
            ("/a//b", "no path would ever match: it has an empty part"),
            ("/a/../b", "no path would ever match: it has a part . or .."),
            (
                "/a/%61",
                "no path would ever match: it escapes a character that needs no escape",
            ),
            ("/a/{*rest}/b", "{*rest} can only be the last part"),
            (
                "/a/{",
                "a parameter is written {name}; a brace of the path itself is doubled: {{",
            ),
        ] {
            let error = text.parse::<RoutePattern>().unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
        }
    }

    #[test]
    fn a_route_shows_as_it_was_written() {
        for text in ["/a/{id}", "POST /a", "GET,HEAD /a/{*rest}"] {
            assert_eq!(text.parse::<RoutePattern>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_route_knows_whether_it_can_lie_outside_of_a_prefix() {
        let is_under = |text: &str| text.parse::<RoutePattern>().unwrap().is_under("/admin");
        assert!(is_under("/admin") && is_under("/admin/x") && is_under("/admin/{x}"));
        assert!(!is_under("/administrators") && !is_under("/admin{x}") && !is_under("/{x}/a"));
    }
}
