//! Modules: parts of an application with rules of their own.

use std::fmt;

use http::Method;

use super::roles::Roles;
use super::routes::{RouteList, RoutePattern, RouteSyntaxError};
use super::tokens::Tokens;
use crate::path::{AmbiguousPath, NormalPath, read_loosely, read_strictly};

/// A part of an application, by default all below a prefix, with rules of its own.
///
/// # Example
/// ```
/// use onlyonce_pipeline::auth::{MemoryTokenStore, Module, Roles, RolePolicy, TokenKeys, Tokens};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = TokenKeys::hs256(b"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge")?;
/// let tokens = Tokens::builder("admin", keys).with_store(MemoryTokenStore::new()).build()?;
/// let policy: RolePolicy = "p, editor, /admin/posts/*, .*".parse()?;
///
/// let admin = Module::admin(tokens, Roles::new(policy).with_super_role("super"))
///     .with_login_exempt(["POST /admin/login"])?
///     .with_permission_exempt(["/admin/me", "POST /admin/logout"])?;
/// # let _ = admin;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Module {
    name: Box<str>,
    prefix: Option<Box<str>>,
    routes: Vec<RoutePattern>,
    pub(super) steps: Steps,
    pub(super) tokens: Tokens,
    login_exempt: Vec<RoutePattern>,
    permission_exempt: Vec<RoutePattern>,
    pub(super) policy_paths: PolicyPaths,
}

/// What a request of a module goes through.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Steps {
    /// A login with a role that is allowed to do it (HotGo: `AdminAuth`).
    Roles(Roles),
    /// A login (HotGo: `ApiAuth`).
    Login,
    /// A login, shown by a token or by a ticket in the query (HotGo: `WebSocketAuth`).
    LoginOrTicket,
    /// Nothing: all pass, and a login is noted where there is one (HotGo: `HomeAuth`).
    Optional,
}

/// By which paths the role policy of a module is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyPaths {
    /// By whole paths: `/admin/posts/7`. The default.
    #[default]
    Whole,
    /// By what comes behind the module's prefix, as HotGo does: `/posts/7`.
    BehindPrefix,
}

/// A module can't be set up like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// The prefix is no plain path.
    #[error(
        "{0:?} is no prefix: write a plain path such as \"/admin\", without a slash at its end, \
         of letters, digits and -._~"
    )]
    Prefix(String),
    /// A route is malformed.
    #[error("route {route:?}: {source}")]
    Route {
        /// The route.
        route: String,
        /// What is wrong with it.
        #[source]
        source: RouteSyntaxError,
    },
    /// A route lies outside of the module.
    #[error("route {route:?} lies outside of the module's prefix {prefix:?}: it has no effect")]
    Outside {
        /// The route.
        route: String,
        /// The module's prefix.
        prefix: String,
    },
    /// There are no roles in the module.
    #[error("the module {0:?} has no roles, so nothing is exempt from them")]
    NoRoles(String),
    /// Nobody has to log in in the module.
    #[error("the module {0:?} asks for no login, so nothing is exempt from it")]
    NoLogin(String),
    /// Two modules have one prefix.
    #[error("the modules {0:?} and {1:?} have the same prefix")]
    SamePrefix(String, String),
    /// Two modules have one name.
    #[error("there are two modules {0:?}")]
    SameName(String),
}

impl Module {
    /// The module `admin` at `/admin`: a login with an allowed role.
    #[must_use]
    pub fn admin(tokens: Tokens, roles: Roles) -> Self {
        Self::new("admin", Steps::Roles(roles), tokens).at("/admin")
    }

    /// The module `api` at `/api`: a login.
    #[must_use]
    pub fn api(tokens: Tokens) -> Self {
        Self::new("api", Steps::Login, tokens).at("/api")
    }

    /// The module `websocket` at `/socket`: a login, by token or ticket.
    #[must_use]
    pub fn websocket(tokens: Tokens) -> Self {
        Self::new("websocket", Steps::LoginOrTicket, tokens).at("/socket")
    }

    /// The module `home` at `/home`: all pass, a login is noted.
    #[must_use]
    pub fn home(tokens: Tokens) -> Self {
        Self::new("home", Steps::Optional, tokens).at("/home")
    }

    /// A module of another name. It takes no path before it is given a
    /// [prefix](Self::with_prefix) or [routes](Self::with_routes).
    #[must_use]
    pub fn new(name: impl Into<Box<str>>, steps: Steps, tokens: Tokens) -> Self {
        Self {
            name: name.into(),
            prefix: None,
            routes: Vec::new(),
            steps,
            tokens,
            login_exempt: Vec::new(),
            permission_exempt: Vec::new(),
            policy_paths: PolicyPaths::default(),
        }
    }

    /// Takes all paths below this prefix, and no others than those and its
    /// [routes](Self::with_routes). Of several modules' prefixes, the longest counts.
    ///
    /// Set it before what is exempt.
    ///
    /// # Errors
    /// When it is no plain path.
    pub fn with_prefix(self, prefix: &str) -> Result<Self, ModuleError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        let is_good = prefix == "/"
            || (prefix.bytes().all(is_plain)
                && !prefix.ends_with('/')
                && read_strictly(prefix).is_ok());
        if !is_good {
            return Err(ModuleError::Prefix(prefix.to_owned()));
        }
        Ok(self.at(prefix))
    }

    /// Takes these routes too, wherever they lie: they go before all prefixes. With `GET` comes
    /// `HEAD`, which servers answer by the same handler.
    ///
    /// # Errors
    /// When a route is malformed.
    pub fn with_routes<R: AsRef<str>>(
        mut self,
        routes: impl IntoIterator<Item = R>,
    ) -> Result<Self, ModuleError> {
        for route in routes {
            self.routes.push(parse(route.as_ref())?);
        }
        Ok(self)
    }

    /// Lets these routes pass without a login, and without an identity.
    ///
    /// # Errors
    /// When a route is malformed or outside of the module, or the module asks for no login.
    pub fn with_login_exempt<R: AsRef<str>>(
        mut self,
        routes: impl IntoIterator<Item = R>,
    ) -> Result<Self, ModuleError> {
        for route in routes {
            if matches!(self.steps, Steps::Optional) {
                return Err(ModuleError::NoLogin(self.name.into()));
            }
            let route = self.own_route(route.as_ref())?;
            self.login_exempt.push(route);
        }
        Ok(self)
    }

    /// Lets every role use these routes; a login it takes all the same.
    ///
    /// # Errors
    /// When a route is malformed or outside of the module, or the module has no roles.
    pub fn with_permission_exempt<R: AsRef<str>>(
        mut self,
        routes: impl IntoIterator<Item = R>,
    ) -> Result<Self, ModuleError> {
        for route in routes {
            if !matches!(self.steps, Steps::Roles(_)) {
                return Err(ModuleError::NoRoles(self.name.into()));
            }
            let route = self.own_route(route.as_ref())?;
            self.permission_exempt.push(route);
        }
        Ok(self)
    }

    /// By which paths the role policy is written.
    #[must_use]
    pub const fn with_policy_paths(mut self, paths: PolicyPaths) -> Self {
        self.policy_paths = paths;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn at(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    fn own_route(&self, text: &str) -> Result<RoutePattern, ModuleError> {
        let route = parse(text)?;
        let is_listed = self
            .routes
            .iter()
            .any(|own| own.pattern() == route.pattern());
        match &self.prefix {
            Some(prefix) if !is_listed && !route.is_under(prefix) => Err(ModuleError::Outside {
                route: text.to_owned(),
                prefix: prefix.to_string(),
            }),
            _ => Ok(route),
        }
    }
}

fn parse(text: &str) -> Result<RoutePattern, ModuleError> {
    text.parse().map_err(|source| ModuleError::Route {
        route: text.to_owned(),
        source,
    })
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.name)
            .field("prefix", &self.prefix)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

/// All modules, ready to find a request's.
#[derive(Debug, Default)]
pub(super) struct Modules {
    modules: Vec<Placed>,
    /// Whether a module takes routes, whose parameters may swallow or lose a slash.
    has_routes: bool,
}

#[derive(Debug)]
pub(super) struct Placed {
    pub(super) module: Module,
    routes: RouteList,
    /// The routes in small letters and with all escapes read.
    loose_routes: RouteList,
    login_exempt: RouteList,
    permission_exempt: RouteList,
}

impl Modules {
    pub(super) fn new(modules: Vec<Module>) -> Result<Self, ModuleError> {
        for (position, module) in modules.iter().enumerate() {
            for other in &modules[..position] {
                if other.name == module.name {
                    return Err(ModuleError::SameName(module.name.clone().into()));
                }
                if let (Some(one), Some(two)) = (&other.prefix, &module.prefix)
                    && one.eq_ignore_ascii_case(two)
                {
                    let names = (other.name.clone().into(), module.name.clone().into());
                    return Err(ModuleError::SamePrefix(names.0, names.1));
                }
            }
        }
        Ok(Self {
            has_routes: modules.iter().any(|module| !module.routes.is_empty()),
            modules: modules.into_iter().map(Placed::new).collect(),
        })
    }

    /// The module that a request is for, with its path; `None`: it is for none.
    ///
    /// A request that any server could take for one of a module is in that module, or refused.
    pub(super) fn find(
        &self,
        method: &Method,
        path: &str,
    ) -> Result<Option<(&Placed, NormalPath)>, AmbiguousPath> {
        if self.modules.is_empty() || (path == "*" && *method == Method::OPTIONS) {
            return Ok(None);
        }
        let loose = read_loosely(path)?;
        if self.has_routes && loose.has_other_parts_than(path) {
            return Err(AmbiguousPath::Escape);
        }
        let (folded, capitals) = (loose.folded(), capitals(method));
        let loosely = self.first(
            |placed| placed.loose_routes.has(&capitals, &folded),
            |prefix| loose.is_under(prefix),
        );
        let Some(loosely) = loosely else {
            return Ok(None);
        };
        let normal = read_strictly(path)?;
        let exactly = self.first(
            |placed| placed.routes.has(method, &normal),
            |prefix| normal.is_under(prefix),
        );
        match exactly {
            Some(exactly) if std::ptr::eq(exactly, loosely) => Ok(Some((exactly, normal))),
            _ => Err(AmbiguousPath::Nearly),
        }
    }

    fn first(
        &self,
        has_route: impl Fn(&Placed) -> bool,
        is_under: impl Fn(&str) -> bool,
    ) -> Option<&Placed> {
        let by_route = self.modules.iter().find(|placed| has_route(placed));
        by_route.or_else(|| {
            let by_prefix = self.modules.iter().filter_map(|placed| {
                let prefix = placed.module.prefix.as_deref()?;
                is_under(prefix).then_some((prefix.len(), placed))
            });
            by_prefix
                .max_by_key(|(length, _)| *length)
                .map(|(_, placed)| placed)
        })
    }
}

/// The method as a server reads it to which letter case is nothing.
fn capitals(method: &Method) -> Method {
    let capitals = method.as_str().to_ascii_uppercase();
    Method::from_bytes(capitals.as_bytes()).unwrap_or_else(|_| method.clone())
}

impl Placed {
    fn new(module: Module) -> Self {
        let list = |routes: &[RoutePattern]| {
            let mut list = RouteList::default();
            routes.iter().for_each(|route| list.add(route));
            list
        };
        let routes: Vec<RoutePattern> = module.routes.iter().map(RoutePattern::with_head).collect();
        let loose: Vec<RoutePattern> = routes.iter().map(RoutePattern::folded).collect();
        Self {
            routes: list(&routes),
            loose_routes: list(&loose),
            login_exempt: list(&module.login_exempt),
            permission_exempt: list(&module.permission_exempt),
            module,
        }
    }

    pub(super) fn is_login_exempt(&self, method: &Method, path: &NormalPath) -> bool {
        self.login_exempt.has(method, path)
    }

    pub(super) fn is_permission_exempt(&self, method: &Method, path: &NormalPath) -> bool {
        self.permission_exempt.has(method, path)
    }

    /// The path by which the role policy is written.
    pub(super) fn policy_path<'p>(&self, path: &'p NormalPath) -> &'p str {
        let whole = path.as_str();
        match (&self.module.prefix, self.module.policy_paths) {
            (Some(prefix), PolicyPaths::BehindPrefix) if **prefix != *"/" => {
                match whole.strip_prefix(&**prefix) {
                    Some("") => "/",
                    Some(rest) if rest.starts_with('/') => rest,
                    _ => whole,
                }
            }
            _ => whole,
        }
    }
}
