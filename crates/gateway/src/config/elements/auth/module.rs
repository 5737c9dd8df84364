//! `[[auth.module]]`, and `auth` of a route.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use onlyonce_pipeline::auth::{
    Module, ModuleError, PolicyPaths, RolePolicy, Roles, RoutePattern, Steps, Tokens,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::RawAuth;
use crate::config::error::Problem;
use crate::config::names::nearest;
use crate::config::report::Report;
use crate::config::routes::Route;
use crate::config::scalar::{As, Choice, Remedy, Scalar, Written};
use crate::config::tree::Path;

/// A part of the application with rules of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table with `name`")]
#[schemars(inline)]
pub(super) struct RawModule {
    /// What it is called. `admin`, `api`, `websocket` and `home` have a kind and a prefix of their
    /// own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    name: Option<String>,
    /// What a request needs: `roles` (a login whose role is allowed to do it), `login`,
    /// `websocket` (a login, also shown by a ticket in the query) or `optional` (nothing).
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<As<ModuleKind>>,
    /// It takes all paths below this. Of several, the longest counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// What tokens say in their claim `app`. Default: the module's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    /// Routes that pass without a login: `/admin/help` or `POST /admin/login`.
    login_exempt: Vec<As<RoutePattern>>,
    /// Routes that every role may use.
    permission_exempt: Vec<As<RoutePattern>>,
    /// By which paths the role policy is written: `whole` ones, or what comes `behind-prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_paths: Option<As<PolicyPaths>>,
}

/// A part of the application with rules of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleSettings {
    /// What it is called.
    pub name: String,
    /// What a request needs.
    pub kind: ModuleKind,
    /// What tokens say in their claim `app`.
    pub app: String,
    pub(super) prefix: Option<String>,
    pub(super) policy_paths: PolicyPaths,
    pub(super) login_exempt: Vec<RoutePattern>,
    permission_exempt: Vec<RoutePattern>,
    /// What `[[route]]` gives it.
    pub(super) routes: Vec<RoutePattern>,
    /// Where it stands.
    pub(super) path: Path,
}

/// What a request of a module needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModuleKind {
    /// A login whose role is allowed to do it.
    Roles,
    /// A login.
    Login,
    /// A login, also shown by a ticket in the query.
    Websocket,
    /// Nothing; a login is noted where there is one.
    Optional,
}

impl Choice for ModuleKind {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("roles", Self::Roles),
        ("login", Self::Login),
        ("websocket", Self::Websocket),
        ("optional", Self::Optional),
    ];
}

impl Choice for PolicyPaths {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("whole", Self::Whole),
        ("behind-prefix", Self::BehindPrefix),
    ];
}

/// Modules that need no word on what they are.
const KNOWN: [(&str, ModuleKind, &str); 4] = [
    ("admin", ModuleKind::Roles, "/admin"),
    ("api", ModuleKind::Login, "/api"),
    ("websocket", ModuleKind::Websocket, "/socket"),
    ("home", ModuleKind::Optional, "/home"),
];

/// What a route says of auth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteAuth {
    /// What the module says that its path lies in.
    #[default]
    AsElsewhere,
    /// It passes without a login.
    Exempt,
    /// It belongs to this module, wherever it lies.
    Module(String),
}

/// By the number of a route: what of it passes without a login. Only on that route, as the first
/// match decides: a wider one behind it must not open one that is protected.
pub(super) type Exempt = BTreeMap<usize, RoutePattern>;

/// The modules with what `routes` give them, and which routes pass without a login.
pub(super) fn resolve(
    raw: &RawAuth,
    policy: Option<&RolePolicy>,
    routes: &[(Path, &Route)],
    report: &mut Report<'_>,
) -> (Vec<ModuleSettings>, Exempt) {
    let list = Path::of(&["auth", "module"]);
    let mut modules: Vec<ModuleSettings> = raw
        .module
        .iter()
        .enumerate()
        .filter_map(|(index, raw)| raw.resolve(list.index(index), policy, report))
        .collect();
    let mut exempt = Exempt::new();
    for (index, (path, route)) in routes.iter().enumerate() {
        let path = path.key("auth");
        let pattern = || pattern_of(route);
        match &route.layers.auth {
            RouteAuth::AsElsewhere => {}
            RouteAuth::Module(name) => {
                let Some(module) = modules.iter_mut().find(|module| module.name == *name) else {
                    // Faulty modules are gone from the list.
                    if !report.was_faulty(&list) {
                        unknown(name, &modules, &path, report);
                    }
                    continue;
                };
                match pattern() {
                    Ok(pattern) => module.routes.push(pattern),
                    Err(problem) => report.invalid(&path, problem, PLAIN),
                }
            }
            RouteAuth::Exempt => match pattern() {
                Ok(pattern) => {
                    let module = module_of(&pattern, &modules);
                    if let Some(module) = module {
                        module.explain_exemption(&pattern, policy, &path, report);
                    }
                    if module.is_some() || is_given_by_name(route, routes) {
                        exempt.insert(index, pattern);
                    } else {
                        warn_of_no_effect(&path, report);
                    }
                }
                Err(problem) => report.invalid(&path, problem, PLAIN),
            },
        }
    }
    for module in &modules {
        let named = |route: &Route| matches!(&route.layers.auth, RouteAuth::Module(name) if *name == module.name);
        if module.prefix.is_none() && !routes.iter().any(|(_, route)| named(route)) {
            module.report_no_requests(report);
        }
    }
    (modules, exempt)
}

const PLAIN: &str = "protected routes have plain paths, which no server reads in two ways";

fn pattern_of(route: &Route) -> Result<RoutePattern, String> {
    let methods: Vec<&str> = route
        .methods()
        .into_iter()
        .flatten()
        .map(http::Method::as_str)
        .collect();
    let space = if methods.is_empty() { "" } else { " " };
    let text = format!("{}{space}{}", methods.join(","), route.pattern());
    text.parse()
        .map_err(|error| format!("the path of this route can't be used here: {error}"))
}

fn unknown(name: &str, modules: &[ModuleSettings], path: &Path, report: &mut Report<'_>) {
    let names = modules.iter().map(|module| module.name.as_str());
    let help = match nearest(name, names) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => format!("add `[[auth.module]]` with `name = {name:?}`"),
    };
    report.invalid(path, "there is no `[[auth.module]]` of this name", &help);
}

/// The module that a route lies in, if that asks for a login.
fn module_of<'m>(
    pattern: &RoutePattern,
    modules: &'m [ModuleSettings],
) -> Option<&'m ModuleSettings> {
    let module = modules
        .iter()
        .filter(|module| {
            module.prefix.as_deref().is_some_and(|prefix| {
                let rest = pattern.pattern().strip_prefix(prefix);
                prefix == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        })
        .max_by_key(|module| module.prefix.as_ref().map(String::len));
    module.filter(|module| module.kind != ModuleKind::Optional)
}

/// Whether a wider route belongs to a module by its name.
fn is_given_by_name(route: &Route, routes: &[(Path, &Route)]) -> bool {
    let by_name = |other: &Route| matches!(other.layers.auth, RouteAuth::Module(_));
    let mut others = routes.iter().map(|(_, other)| *other);
    others.any(|other| by_name(other) && other.covers(route))
}

fn warn_of_no_effect(path: &Path, report: &mut Report<'_>) {
    let problem = Problem::new("`auth = false` has no effect here")
        .label("no module asks for a login on this path")
        .help("leave it out");
    report.warn(path, problem);
}

impl RawModule {
    pub(super) fn example() -> Self {
        Self {
            name: Some("api".to_owned()),
            kind: Some(As(ModuleKind::Login)),
            prefix: Some("/api".to_owned()),
            app: Some("api".to_owned()),
            policy_paths: Some(As(PolicyPaths::Whole)),
            ..Self::default()
        }
    }

    fn resolve(
        &self,
        path: Path,
        policy: Option<&RolePolicy>,
        report: &mut Report<'_>,
    ) -> Option<ModuleSettings> {
        let Some(name) = self.name.clone().filter(|name| !name.is_empty()) else {
            if !report.was_faulty(&path) {
                let problem = Problem::new(format!("{} is missing", path.key("name")))
                    .label("a module needs a name")
                    .help("add for example `name = \"api\"`");
                report.error(&path.key("name"), problem);
            }
            return None;
        };
        let known = KNOWN.iter().find(|(known, ..)| *known == name);
        let kind = match (self.kind, known) {
            (Some(As(kind)), _) => kind,
            (None, Some((_, kind, _))) => *kind,
            (None, None) => {
                if !report.was_faulty(&path.key("kind")) {
                    let problem = Problem::new(format!("{} is missing", path.key("kind")))
                        .label("a module of this name can be anything")
                        .help("add `kind = \"login\"`, `\"roles\"`, `\"websocket\"` or `\"optional\"`");
                    report.error(&path.key("kind"), problem);
                }
                return None;
            }
        };
        if self.app.as_deref() == Some("") {
            let help = "leave it out: it is the module's name then";
            report.invalid(&path.key("app"), "an empty name", help);
        }
        let prefix = self
            .prefix
            .clone()
            .or_else(|| known.map(|(.., prefix)| (*prefix).to_owned()));
        let plain = |list: &[As<RoutePattern>]| list.iter().map(|As(it)| it.clone()).collect();
        let settings = ModuleSettings {
            app: self.app.clone().unwrap_or_else(|| name.clone()),
            name,
            kind,
            prefix,
            policy_paths: self.policy_paths.map_or(PolicyPaths::Whole, |As(it)| it),
            login_exempt: plain(&self.login_exempt),
            permission_exempt: plain(&self.permission_exempt),
            routes: Vec::new(),
            path,
        };
        settings.explain_contradictions(policy, report);
        Some(settings)
    }
}

impl ModuleSettings {
    pub(super) fn has_roles(&self) -> bool {
        self.kind == ModuleKind::Roles
    }

    fn report_no_requests(&self, report: &mut Report<'_>) {
        let path = self.path.key("prefix");
        if report.was_faulty(&path) {
            return;
        }
        let name = &self.name;
        let problem = Problem::new(format!("{path} is missing"))
            .label("the module takes no request, so it protects nothing")
            .help(format!(
                "add for example `prefix = \"/{name}\"`, or `auth = \"{name}\"` to a `[[route]]`"
            ));
        report.error(&path, problem);
    }

    /// The module that they describe.
    pub(super) fn module(&self, tokens: Tokens, roles: &Roles) -> Result<Module, ModuleError> {
        let steps = match self.kind {
            ModuleKind::Roles => Steps::Roles(roles.clone()),
            ModuleKind::Login => Steps::Login,
            ModuleKind::Websocket => Steps::LoginOrTicket,
            ModuleKind::Optional => Steps::Optional,
        };
        let mut module =
            Module::new(self.name.as_str(), steps, tokens).with_policy_paths(self.policy_paths);
        if let Some(prefix) = &self.prefix {
            module = module.with_prefix(prefix)?;
        }
        let texts = |list: &[RoutePattern]| -> Vec<String> {
            list.iter().map(ToString::to_string).collect()
        };
        module
            .with_routes(texts(&self.routes))?
            .with_login_exempt(texts(&self.login_exempt))?
            .with_permission_exempt(texts(&self.permission_exempt))
    }

    /// Puts what is wrong with it to its place.
    pub(super) fn report(&self, error: &ModuleError, report: &mut Report<'_>) {
        let at = |key: &str, list: &[RoutePattern], route: &str| {
            let index = list.iter().position(|it| it.to_string() == *route);
            index.map(|index| self.path.key(key).index(index))
        };
        let (path, help) = match error {
            ModuleError::Prefix(_) => (self.path.key("prefix"), "write for example \"/api\""),
            ModuleError::SamePrefix(..) => (self.path.key("prefix"), "join the modules"),
            ModuleError::SameName(_) => (self.path.key("name"), "name them apart"),
            ModuleError::NoRoles(_) => (
                self.path.key("permission_exempt"),
                "leave it out, or set `kind = \"roles\"`",
            ),
            ModuleError::NoLogin(_) => (
                self.path.key("login_exempt"),
                "leave it out, or set `kind = \"login\"`",
            ),
            ModuleError::Outside { route, .. } | ModuleError::Route { route, .. } => (
                at("login_exempt", &self.login_exempt, route)
                    .or_else(|| at("permission_exempt", &self.permission_exempt, route))
                    .unwrap_or_else(|| self.path.clone()),
                "write whole paths, from the first slash on",
            ),
            _ => (self.path.clone(), "see the documentation of `[auth]`"),
        };
        report.invalid(&path, error.to_string(), help);
    }

    fn explain_contradictions(&self, policy: Option<&RolePolicy>, report: &mut Report<'_>) {
        for (index, route) in self.login_exempt.iter().enumerate() {
            let path = self.path.key("login_exempt").index(index);
            self.explain_exemption(route, policy, &path, report);
        }
        for (index, route) in self.permission_exempt.iter().enumerate() {
            if self.login_exempt.contains(route) {
                let problem = Problem::new("this exemption has no effect")
                    .label("the route is exempt from login already, and so from roles");
                report.warn(&self.path.key("permission_exempt").index(index), problem);
            }
        }
    }

    /// Says so if the role policy speaks of a route that passes without a login.
    fn explain_exemption(
        &self,
        route: &RoutePattern,
        policy: Option<&RolePolicy>,
        path: &Path,
        report: &mut Report<'_>,
    ) {
        let whole = route.pattern();
        let behind = self.prefix.as_deref().and_then(|it| whole.strip_prefix(it));
        let written = match self.policy_paths {
            PolicyPaths::BehindPrefix => behind.unwrap_or(whole),
            _ => whole,
        };
        // As the policy writes `{*rest}`.
        let written = match written.rsplit_once("{*") {
            Some((base, _)) => format!("{base}*"),
            None => written.to_owned(),
        };
        let is_checked = self.kind == ModuleKind::Roles
            && policy.is_some_and(|policy| policy.names(&written, route.methods()));
        if is_checked {
            let problem = Problem::new("a route is exempt from login, but role-checked")
                .label(format!("the role policy has a line about {written}"))
                .help(
                    "without a login nobody has a role, so the line has no effect: remove it, or \
                     exempt the route from roles alone (`permission_exempt`), or from nothing",
                );
            report.error(path, problem);
        }
    }
}

impl Scalar for RoutePattern {
    fn expected() -> Cow<'static, str> {
        "a route such as \"/admin/help\" or \"POST /admin/login\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        text.parse()
            .map_err(|error: onlyonce_pipeline::auth::RouteSyntaxError| error.to_string().into())
    }

    fn written(&self) -> Written {
        Written::Text(self.to_string())
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "route",
            "type": "string",
            "pattern": "^([A-Z,]+ )?/",
            "examples": ["POST /admin/login", "/admin/open/{*rest}"],
        })
    }
}

impl<'de> Deserialize<'de> for RouteAuth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FalseOrName;

        impl Visitor<'_> for FalseOrName {
            type Value = RouteAuth;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`false` or the name of a module")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<RouteAuth, E> {
                if on {
                    // Outside of all modules it would ask nobody for anything.
                    return Err(E::custom(
                        "expected `false` or the name of a module, found `true`\n\
                         name the module whose logins it takes: `auth = \"api\"`",
                    ));
                }
                Ok(RouteAuth::Exempt)
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<RouteAuth, E> {
                Ok(RouteAuth::Module(name.to_owned()))
            }
        }

        deserializer.deserialize_any(FalseOrName)
    }
}

impl Serialize for RouteAuth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AsElsewhere => serializer.serialize_bool(true),
            Self::Exempt => serializer.serialize_bool(false),
            Self::Module(name) => serializer.serialize_str(name),
        }
    }
}

impl JsonSchema for RouteAuth {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RouteAuth".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "`false`, or the name of a module",
            "anyOf": [{ "const": false }, { "type": "string", "minLength": 1 }],
        })
    }
}
