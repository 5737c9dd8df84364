//! Which settings a request falls under: the first route that matches it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::Method;
use matchit::{InsertError, Router};
use onlyonce_core::Policy;
use onlyonce_pipeline::foreign_pattern;

use super::{CorsRule, EnvelopeRule, FilterRule, RouteAuth};

/// All routes, in the order in which they were given, and what holds where none matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTable {
    pub(super) routes: Vec<Route>,
    pub(super) elsewhere: Arc<Policy>,
}

/// Requests that are treated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub(super) pattern: Pattern,
    pub(super) methods: Option<Vec<Method>>,
    pub(super) policy: Option<Arc<Policy>>,
    pub(super) layers: RouteLayers,
}

/// What a route does with the layers of the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteLayers {
    /// Whether answers come in an envelope, and in which form.
    pub envelope: EnvelopeRule,
    /// Which pages of other origins may use it.
    pub cors: CorsRule,
    /// `Some(false)`: it is open to all who are on the blocklist.
    pub blocklist: Option<bool>,
    /// `Some(false)`: it stays open in read-only mode.
    pub read_only: Option<bool>,
    /// What bodies must fit.
    pub filter: FilterRule,
    /// Who may use it.
    pub auth: RouteAuth,
}

/// What a request falls under.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'t> {
    /// The pattern of the route, as it stands in the settings: fit for a metric's label. `None`
    /// where no route matches.
    pub route: Option<&'t str>,
    /// How keyed requests are treated; `None` where idempotency is off.
    pub policy: Option<&'t Arc<Policy>>,
    /// Which route, from 0; `None` where no route matches.
    pub index: Option<usize>,
}

impl RouteTable {
    /// What a request with this method and path (without its query) falls under.
    ///
    /// The path is normalised first, so that another spelling of it finds the same route:
    /// escaped letters, digits and `-._~` are read plain, `.` and `..` are resolved, and several
    /// slashes count as one.
    #[must_use]
    pub fn resolve(&self, method: &Method, path: &str) -> Matched<'_> {
        // Most gateways have no routes; normalising would be for nothing.
        let path = if self.routes.is_empty() {
            Cow::Borrowed(path)
        } else {
            normalise(path)
        };
        let found = self
            .routes
            .iter()
            .enumerate()
            .find(|(_, route)| route.takes(method) && route.pattern.matches(&path));
        match found {
            Some((index, route)) => Matched {
                route: Some(&route.pattern.text),
                policy: route.policy.as_ref(),
                index: Some(index),
            },
            None => Matched {
                route: None,
                policy: Some(&self.elsewhere),
                index: None,
            },
        }
    }

    /// The routes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// All policies in force, that of no route first.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        let routes = self.routes.iter().filter_map(Route::policy);
        std::iter::once(&self.elsewhere).chain(routes)
    }
}

impl Route {
    /// Its pattern, as it stands in the settings.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern.text
    }

    /// The methods it is for; `None`: all.
    #[must_use]
    pub fn methods(&self) -> Option<&[Method]> {
        self.methods.as_deref()
    }

    /// How keyed requests are treated; `None` where idempotency is off.
    #[must_use]
    pub fn policy(&self) -> Option<&Arc<Policy>> {
        self.policy.as_ref()
    }

    /// What it does with the layers of the pipeline.
    #[must_use]
    pub const fn layers(&self) -> &RouteLayers {
        &self.layers
    }

    /// Whether every request that `other` takes is taken here.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let methods = match (&self.methods, &other.methods) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(its)) => its.iter().all(|method| mine.contains(method)),
        };
        methods && self.pattern.covers(&other.pattern)
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods
            .as_ref()
            .is_none_or(|methods| methods.contains(method))
    }
}

/// Parts between slashes in a pattern, at most.
const MOST_SEGMENTS: usize = 100;

/// A pattern of paths: `/v1/charges/{id}`, `/v1/payments/{*rest}`.
///
/// `{name}` stands for one segment, or part of one; `{*name}` at the end for all that follows,
/// also for nothing: `/v1/payments/{*rest}` matches `/v1/payments` too.
#[derive(Clone)]
pub(super) struct Pattern {
    text: Box<str>,
    router: Router<()>,
    /// Paths that match, with something for each parameter that no pattern names: whatever
    /// matches all of these matches everything that this does.
    probes: Vec<String>,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(text: &str) -> Result<Self, PatternError> {
        if !text.starts_with('/') {
            return Err(match text.split_once(' ') {
                Some((_, path)) if path.starts_with('/') => PatternError::Methods(path.to_owned()),
                _ => PatternError::NoSlash,
            });
        }
        if text.contains(['?', '#']) {
            return Err(PatternError::MoreThanPath);
        }
        let outside = |c: char| !c.is_ascii_graphic();
        if text.contains(outside) {
            return Err(PatternError::NotAscii);
        }
        if text.matches('/').count() > MOST_SEGMENTS {
            return Err(PatternError::TooDeep);
        }
        let normal = normalise(text);
        if normal != text {
            return Err(PatternError::NotNormal(normal.into_owned()));
        }
        if let Some(remedy) = foreign_pattern(text) {
            return Err(PatternError::Foreign(remedy));
        }
        let mut router = Router::new();
        for spelling in spellings(text) {
            router.insert(spelling, ()).map_err(PatternError::Syntax)?;
        }
        Ok(Self {
            text: text.into(),
            router,
            probes: probes(text),
        })
    }

    fn matches(&self, path: &str) -> bool {
        self.router.at(path).is_ok()
    }

    /// It and what else it stands for, in the router's own syntax.
    pub(super) fn spellings(&self) -> Vec<String> {
        spellings(&self.text)
    }

    /// Whether every path that matches `other` matches this.
    fn covers(&self, other: &Self) -> bool {
        other.probes.iter().all(|probe| self.matches(probe))
    }
}

fn probes(text: &str) -> Vec<String> {
    const ANY: &str = "\u{1}";
    let (base, tails) = match spellings(text).as_slice() {
        [_] => (text, vec![String::new()]),
        _ => {
            let base = text.rsplit_once('/').map_or("", |(base, _)| base);
            // Deeper than any pattern without a `{*rest}` of its own.
            let deep = format!("/{ANY}").repeat(MOST_SEGMENTS);
            let tails = [String::new(), "/".to_owned(), format!("/{ANY}"), deep];
            (base, tails.to_vec())
        }
    };
    let mut plain = String::new();
    let mut rest = base;
    while let Some(open) = rest.find('{') {
        plain.push_str(&rest[..open]);
        rest = &rest[open..];
        // A doubled brace is the brace itself.
        if let Some(after) = rest.strip_prefix("{{") {
            plain.push('{');
            rest = after;
        } else {
            plain.push_str(ANY);
            rest = rest.split_once('}').map_or("", |(_, after)| after);
        }
    }
    plain.push_str(rest);
    let plain = plain.replace("}}", "}");
    tails
        .into_iter()
        .map(|tail| format!("{plain}{tail}"))
        .map(|path| {
            if path.is_empty() {
                "/".to_owned()
            } else {
                path
            }
        })
        .collect()
}

/// The patterns that `text` stands for: with `{*rest}` at its end, also those without it.
fn spellings(text: &str) -> Vec<String> {
    let mut all = vec![text.to_owned()];
    if let Some((base, last)) = text.rsplit_once('/')
        && last.starts_with("{*")
    {
        all.push(format!("{base}/"));
        if !base.is_empty() {
            all.push(base.to_owned());
        }
    }
    all
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// A text is no pattern of paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    #[error("a path begins with /")]
    NoSlash,
    #[error("methods don't stand here: write \"{0}\"; a `[[route]]` names them in `methods`")]
    Methods(String),
    #[error("only the path counts here: leave out what follows ? or #")]
    MoreThanPath,
    #[error("a pattern can have {MOST_SEGMENTS} parts at most")]
    TooDeep,
    #[error("write what is not plain ASCII percent-encoded, as in %C3%A4")]
    NotAscii,
    #[error("no path would ever match, as paths are normalised first: write \"{0}\"")]
    NotNormal(String),
    #[error("{0}")]
    Foreign(String),
    #[error("{}", explain(.0))]
    Syntax(InsertError),
}

fn explain(error: &InsertError) -> &'static str {
    match error {
        InsertError::InvalidParamSegment => "each part between slashes can have one parameter",
        InsertError::InvalidCatchAll => "{*rest} can only be the last part",
        _ => "a parameter is written {name}; a brace of the path itself is doubled: {{",
    }
}

/// The path as most servers understand it.
fn normalise(path: &str) -> Cow<'_, str> {
    let is_plain = !path.contains('%')
        && !path.contains("//")
        && !path.split('/').any(|part| matches!(part, "." | ".."));
    if is_plain {
        return Cow::Borrowed(path);
    }
    let decoded = decode_unreserved(path);
    let Some(parts) = decoded.strip_prefix('/') else {
        return Cow::Owned(decoded);
    };
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for part in parts.split('/') {
        ends_in_slash = matches!(part, "" | "." | "..");
        match part {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    let mut normal = format!("/{}", kept.join("/"));
    if ends_in_slash && !kept.is_empty() {
        normal.push('/');
    }
    Cow::Owned(normal)
}

/// RFC 3986, section 6.2.2: escapes of characters that need none are read, others are written in
/// capitals.
fn decode_unreserved(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let escape = rest.get(at + 1..at + 3);
        let byte = escape.and_then(|digits| {
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_hex
                .then(|| u8::from_str_radix(digits, 16).ok())
                .flatten()
        });
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            Some(byte) => {
                out.push_str(&format!("%{byte:02X}"));
                rest = &rest[at + 3..];
            }
            None => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use onlyonce_core::Profile;
    use proptest::prelude::*;

    fn route(methods: &[Method], pattern: &str, policy: Option<Profile>) -> Route {
        Route {
            pattern: Pattern::new(pattern).unwrap(),
            methods: (!methods.is_empty()).then(|| methods.to_vec()),
            policy: policy.map(|profile| Arc::new(Policy::new(profile))),
            layers: RouteLayers::default(),
        }
    }

    fn table(routes: Vec<Route>) -> RouteTable {
        RouteTable {
            routes,
            elsewhere: Arc::new(Policy::new(Profile::Standard)),
        }
    }

    #[test]
    fn the_first_route_wins_not_the_most_specific() {
        let table = table(vec![
            route(&[Method::POST], "/v1/{*rest}", Some(Profile::Stripe)),
            route(&[], "/v1/payments", Some(Profile::Payments)),
            route(&[], "/hooks/{name}", None),
        ]);
        let of = |method: Method, path: &str| {
            let found = table.resolve(&method, path);
            (found.route, found.policy.map(|policy| policy.required))
        };
        assert_eq!(
            of(Method::POST, "/v1/payments"),
            (Some("/v1/{*rest}"), Some(false))
        );
        assert_eq!(
            of(Method::PUT, "/v1/payments"),
            (Some("/v1/payments"), Some(true))
        );
        assert_eq!(of(Method::POST, "/hooks/a"), (Some("/hooks/{name}"), None));
        assert_eq!(of(Method::POST, "/hooks/a/b"), (None, Some(false)));
        assert_eq!(of(Method::OPTIONS, "*"), (None, Some(false)));
    }

    #[test]
    fn the_rest_can_be_nothing() {
        let pattern = Pattern::new("/v1/payments/{*rest}").unwrap();
        for path in [
            "/v1/payments",
            "/v1/payments/",
            "/v1/payments/1",
            "/v1/payments/1/refund",
        ] {
            assert!(pattern.matches(path), "{path}");
        }
        for path in ["/v1/payment", "/v1/payments2", "/v1"] {
            assert!(!pattern.matches(path), "{path}");
        }
        let everything = Pattern::new("/{*rest}").unwrap();
        assert!(everything.matches("/") && everything.matches("/a/b"));
    }

    #[test]
    fn other_spellings_of_a_path_find_the_same_route() {
        let table = table(vec![route(
            &[],
            "/v1/payments/{id}",
            Some(Profile::Payments),
        )]);
        for path in [
            "/v1/payments/1",
            "//v1///payments/1",
            "/v1/./payments/1",
            "/v1/x/../payments/1",
            "/v1/%70ayments/1",
            "/v1/%2e/payments/1",
            "/v1/payments/%2f",
        ] {
            assert_eq!(
                table.resolve(&Method::POST, path).route,
                Some("/v1/payments/{id}"),
                "{path}"
            );
        }
        // An escaped slash is part of a segment, not a border.
        assert_eq!(table.resolve(&Method::POST, "/v1%2Fpayments/1").route, None);
    }

    #[test]
    fn normal_paths() {
        for (path, normal) in [
            ("/", "/"),
            ("/a/", "/a/"),
            ("/a//", "/a/"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/..", "/"),
            ("/../a", "/a"),
            ("/%7Ea%2fb%c3%a4", "/~a%2Fb%C3%A4"),
            ("/%zz%", "/%zz%"),
            ("/%+1", "/%+1"),
            ("*", "*"),
        ] {
            assert_eq!(normalise(path), normal, "{path}");
        }
    }

    #[test]
    fn patterns_that_cannot_be() {
        let error = |text: &str| Pattern::new(text).unwrap_err().to_string();
        assert!(error("v1").contains("begins with /"));
        assert!(error("POST /login").contains("write \"/login\""));
        assert!(error("/v1?x").contains("only the path"));
        assert!(error("/ä").contains("percent-encoded"));
        assert!(error("/v1//x").contains("write \"/v1/x\""));
        assert!(error("/{a}{b}").contains("one parameter"));
        assert!(error("/{*a}/b").contains("last part"));
        assert!(error("/{a").contains("{name}"));
        assert!(error("/internal/*").contains("write \"/internal/{*rest}\""));
        assert!(error("/users/:id").contains("write \"/users/{id}\""));
        assert!(error(&"/a".repeat(101)).contains("100 parts"));
    }

    #[test]
    fn covering() {
        let covers = |one: &str, other: &str| {
            Pattern::new(one)
                .unwrap()
                .covers(&Pattern::new(other).unwrap())
        };
        assert!(covers("/{*rest}", "/a/{id}"));
        assert!(covers("/{*rest}", "/"));
        assert!(covers("/a/{*rest}", "/a"));
        assert!(covers("/a/{*rest}", "/a/b/{*rest}"));
        assert!(covers("/a/{x}", "/a/{y}"));
        assert!(covers("/a/{x}", "/a/b"));
        assert!(covers("/{x}", "/{{a}}"));
        assert!(!covers("/a/b", "/a/{x}"));
        assert!(!covers("/a/{x}", "/a/{*rest}"));
        assert!(!covers("/a/{x}", "/a"));
        assert!(!covers("/a/{*rest}", "/{*rest}"));

        let all = route(&[], "/a", None);
        let post = route(&[Method::POST], "/a", None);
        assert!(all.covers(&post) && !post.covers(&all));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[/{}*a.%0-9é]{0,20}", path in "[/a.%0-9é]{0,20}") {
            if let Ok(pattern) = Pattern::new(&text) {
                pattern.matches(&normalise(&path));
                prop_assert!(pattern.covers(&pattern), "a pattern covers itself");
            }
        }

        #[test]
        fn what_is_normal_stays_so(path in "(/|a|\\.|%2[eEfF]|%4[12]|é){0,20}") {
            let normal = normalise(&path).into_owned();
            prop_assert_eq!(normalise(&normal), normal.as_str());
        }
    }
}
