//! `[auth]`: who calls, and what they may do.

mod contradictions;
mod keys;
mod module;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use onlyonce_pipeline::Answers;
use onlyonce_pipeline::auth::{
    AuthLayer, DiskTokenStore, MemoryTokenStore, Module, ModuleError, RolePolicy, Roles,
    SharedTokenStore, TokenKeys, Tokens, TokensBuilder, TokensError,
};
use onlyonce_pipeline_postgres::PostgresTokenStore;
use onlyonce_pipeline_redis::RedisTokenStore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::module::RawModule;
pub use self::module::{ModuleKind, ModuleSettings, RouteAuth};
use super::secret::SecretText;
use super::store::StoreUrl;
use crate::config::error::Problem;
use crate::config::report::Report;
use crate::config::routes::Route;
use crate::config::scalar::{self, As, OrOff, or_off};
use crate::config::size::Bytes;
use crate::config::tree::Path;
use crate::pipeline::OVERRIDES;

/// Who calls, and what they may do. Without `[[auth.module]]` it is off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[auth]`")]
#[schemars(inline)]
pub(in crate::config) struct RawAuth {
    /// The parts of the application: `[[auth.module]]` with `name`, `kind`, `prefix`, `app`,
    /// `login_exempt`, `permission_exempt` and `policy_paths`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    module: Vec<RawModule>,
    /// The secret by which tokens are signed (HS256), 32 characters or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<As<SecretText>>,
    /// The same, in a file of its own. Read again on reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_file: Option<As<PathBuf>>,
    /// File with the secret of before, which is accepted as well while it is being replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_secret_file: Option<As<PathBuf>>,
    /// File with the public key by which tokens are checked, in PEM: RSA of 2048 bits or more
    /// (RS256), P-256 (ES256) or Ed25519 (`EdDSA`). Read again on reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<As<PathBuf>>,
    /// File with the public keys, as a key set (JWKS). Read again on reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks: Option<As<PathBuf>>,
    /// The audience that tokens must name. Left out, tokens that name any are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    /// The issuer that tokens must name.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// How far tokens' times may lie beyond this machine's, up to 5 m.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    leeway: Duration,
    /// Where sessions are kept, so that a logout counts: a URL as in `[store]`. `off`: tokens hold
    /// until they expire.
    #[serde(with = "or_off")]
    #[schemars(with = "As<OrOff<StoreUrl>>")]
    state: Option<StoreUrl>,
    /// How long a session lasts if it isn't refreshed.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    expires: Duration,
    /// Whether requests refresh their session.
    auto_refresh: bool,
    /// How old a session is before a request refreshes it.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    refresh_interval: Duration,
    /// How often a session can be refreshed; `off`: as often as one likes.
    #[serde(with = "or_off")]
    #[schemars(with = "As<OrOff<u32>>")]
    max_refresh_times: Option<u32>,
    /// Whether one user can be logged in several times. If not, a later login ends earlier ones.
    multi_login: bool,
    /// Longest token that is read.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Bytes>")]
    max_length: Bytes,
    /// How long a WebSocket's ticket waits to be used, up to 10 m.
    #[serde(with = "scalar")]
    #[schemars(with = "As<Duration>")]
    ticket_expires: Duration,
    /// File with the role policy, for modules of the kind `roles`: lines `p, role, path, methods`
    /// and `g, role, inherited role`, as casbin has them. Read again on reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<As<PathBuf>>,
    /// Roles that may do everything.
    super_roles: Vec<String>,
    /// Header in which upstreams are told the user's ID. A client's own is taken off.
    #[serde(with = "or_off")]
    #[schemars(with = "As<OrOff<HeaderName>>")]
    user_header: Option<HeaderName>,
    /// Header in which upstreams are told the user's role. A client's own is taken off.
    #[serde(with = "or_off")]
    #[schemars(with = "As<OrOff<HeaderName>>")]
    role_header: Option<HeaderName>,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for RawAuth {
    fn default() -> Self {
        Self {
            module: Vec::new(),
            secret: None,
            secret_file: None,
            old_secret_file: None,
            public_key: None,
            jwks: None,
            audience: None,
            issuer: None,
            leeway: Duration::from_secs(30),
            state: None,
            expires: 7 * DAY,
            auto_refresh: true,
            refresh_interval: DAY,
            max_refresh_times: Some(30),
            multi_login: true,
            max_length: Bytes(8 << 10),
            ticket_expires: Duration::from_secs(30),
            roles: None,
            super_roles: Vec::new(),
            user_header: None,
            role_header: None,
        }
    }
}

/// Who calls, and what they may do.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    raw: RawAuth,
    /// The parts of the application; none: it is off.
    pub modules: Vec<ModuleSettings>,
    exempt: module::Exempt,
    keys: Option<TokenKeys>,
    policy: Option<RolePolicy>,
    /// What the files held, hashed.
    read: u64,
}

/// What `[auth]` makes: tokens and roles by module, and the layer over them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Auth {
    /// The layer.
    pub layer: AuthLayer,
    /// Each module's tokens, by the module's name: for logins and logouts.
    pub tokens: Vec<(Box<str>, Tokens)>,
}

#[cfg(test)]
impl Auth {
    pub(crate) const fn of(layer: AuthLayer, tokens: Vec<(Box<str>, Tokens)>) -> Self {
        Self { layer, tokens }
    }
}

/// What is checked when settings are read can't fail later; all the same it is no panic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// There is no key.
    #[error("[auth] has no key to check tokens with")]
    NoKey,
    /// A module can't work.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The tokens can't work.
    #[error(transparent)]
    Tokens(#[from] TokensError),
}

impl RawAuth {
    /// One with a module that says all a module can.
    pub(in crate::config) fn example() -> Self {
        Self {
            module: vec![RawModule::example()],
            ..Self::default()
        }
    }

    pub(in crate::config) fn resolve(
        self,
        routes: &[(Path, &Route)],
        report: &mut Report<'_>,
    ) -> AuthSettings {
        let section = Path::of(&["auth"]);
        let mut read = DefaultHasher::new();
        let keys = keys::read(&self, &section, &mut read, report);
        let policy = self.policy(&section, &mut read, report);
        let (modules, exempt) = module::resolve(&self, policy.as_ref(), routes, report);
        let mut settings = AuthSettings {
            modules,
            exempt,
            raw: self,
            keys,
            policy,
            read: read.finish(),
        };
        settings.check(&section, report);
        contradictions::explain(&settings, &section, routes, report);
        if settings.raw.module.is_empty() {
            settings.modules.clear();
        }
        settings
    }

    fn policy(
        &self,
        section: &Path,
        read: &mut DefaultHasher,
        report: &mut Report<'_>,
    ) -> Option<RolePolicy> {
        let path = section.key("roles");
        let Some(As(file)) = &self.roles else {
            return None;
        };
        let text = keys::read_file(file, &path, report)?;
        text.hash(read);
        match text.parse() {
            Ok(policy) => Some(policy),
            Err(error) => {
                report.invalid(
                    &path,
                    format!("{}: {error}", file.display()),
                    "mend the file",
                );
                None
            }
        }
    }

    /// Tokens of one app, but for their store.
    fn tokens(&self, app: &str, keys: TokenKeys) -> TokensBuilder {
        let mut builder = Tokens::builder(app, keys)
            .with_leeway(self.leeway)
            .with_expires(self.expires)
            .with_auto_refresh(self.auto_refresh)
            .with_refresh_interval(self.refresh_interval)
            .with_max_refresh_times(self.max_refresh_times)
            .with_multi_login(self.multi_login)
            .with_max_token(self.max_length.as_usize())
            .with_ticket_expires(self.ticket_expires);
        if let Some(audience) = &self.audience {
            builder = builder.with_audience(audience.as_str());
        }
        if let Some(issuer) = &self.issuer {
            builder = builder.with_issuer(issuer.as_str());
        }
        builder
    }
}

impl AuthSettings {
    /// Whether there is anything to do.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.modules.is_empty()
    }

    /// The layer on the route of this number, from 0, as [`Auth`] has it for all.
    pub(crate) fn layer_of_route(&self, layer: &AuthLayer, index: usize) -> AuthLayer {
        match self.exempt.get(&index) {
            Some(route) => layer.clone().with_exempt_route(route),
            None => layer.clone(),
        }
    }

    /// Opens the store of sessions; `None`: tokens hold until they expire.
    ///
    /// # Errors
    /// When it can't be opened.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open_state(&self) -> anyhow::Result<Option<SharedTokenStore>> {
        use anyhow::Context as _;
        let context = "`state` in [auth]";
        Ok(match &self.raw.state {
            _ if !self.is_on() => None,
            None => None,
            Some(StoreUrl::Memory) => Some(MemoryTokenStore::new().into()),
            Some(StoreUrl::File(folder)) => {
                let file = folder.join("tokens");
                let folder = folder.clone();
                let opening = tokio::task::spawn_blocking(move || {
                    std::fs::create_dir_all(&folder)?;
                    Ok::<_, anyhow::Error>(DiskTokenStore::open(file)?)
                });
                Some(opening.await?.context(context)?.into())
            }
            Some(StoreUrl::Redis(url)) => {
                let store = RedisTokenStore::connect(url.expose()).await;
                Some(store.context(context)?.into())
            }
            Some(StoreUrl::Postgres(url)) => {
                let store = PostgresTokenStore::connect(url.expose()).await;
                Some(store.context(context)?.into())
            }
        })
    }

    /// Where sessions are kept; `None`: tokens hold until they expire. When it changes, a reload
    /// has to open another.
    #[must_use]
    pub const fn state(&self) -> Option<&StoreUrl> {
        self.raw.state.as_ref()
    }

    /// The layer, and the tokens behind it; `None` when there is nothing to do.
    ///
    /// # Errors
    /// Only where these settings have been refused before.
    pub fn build(
        &self,
        state: Option<&SharedTokenStore>,
        answers: Answers,
    ) -> Result<Option<Auth>, AuthError> {
        if !self.is_on() {
            return Ok(None);
        }
        let keys = self.keys.clone().ok_or(AuthError::NoKey)?;
        let mut roles = Roles::new(self.policy.clone().unwrap_or_default());
        for role in &self.raw.super_roles {
            roles = roles.with_super_role(role.as_str());
        }
        let mut tokens = Vec::new();
        let mut modules = Vec::new();
        for settings in &self.modules {
            let mut builder = self.raw.tokens(&settings.app, keys.clone());
            if let Some(state) = state {
                builder = builder.with_store(state.clone());
            }
            let of_module = builder.build()?;
            modules.push(settings.module(of_module.clone(), &roles)?);
            tokens.push((settings.name.as_str().into(), of_module));
        }
        let layer = self.layer(modules)?.with_answers(answers);
        Ok(Some(Auth { layer, tokens }))
    }

    fn layer(&self, modules: Vec<Module>) -> Result<AuthLayer, ModuleError> {
        let RawAuth {
            user_header,
            role_header,
            ..
        } = &self.raw;
        let layer =
            AuthLayer::new(modules)?.with_removed_headers(OVERRIDES.map(HeaderName::from_static));
        Ok(layer.with_identity_headers(user_header.clone(), role_header.clone()))
    }

    pub(in crate::config) fn to_raw(&self) -> RawAuth {
        self.raw.clone()
    }

    /// Tries all of it out, each part at its place.
    fn check(&self, section: &Path, report: &mut Report<'_>) {
        let RawAuth { state, roles, .. } = &self.raw;
        if self.raw.module.is_empty() {
            let path = section.key("module");
            if report.is_set(section) && !report.was_faulty(&path) {
                let problem = Problem::new("`[auth]` has no module, so it is off")
                    .label("nobody is asked who they are")
                    .help("add `[[auth.module]]` with `name = \"api\"`");
                report.warn(section, problem);
            }
            return;
        }
        if self.raw.max_length.0 == 0 {
            let help = "tokens are some hundred bytes long";
            report.invalid(
                &section.key("max_length"),
                "expected more than nothing",
                help,
            );
            return;
        }
        // A key that has no fault, so that other faults show.
        let sound = TokenKeys::hs256(b"0123456789abcdefghijklmnopqrstuv");
        let keys = self.keys.clone().map_or(sound, Ok);
        let Ok(keys) = keys else { return };
        let mut builder = self.raw.tokens("app", keys);
        if state.is_some() {
            builder = builder.with_store(MemoryTokenStore::new());
        }
        let tokens = match builder.build() {
            Ok(tokens) => tokens,
            Err(error) => {
                let key = match error {
                    TokensError::SingleLoginWithoutStore => "multi_login",
                    TokensError::Expires => "expires",
                    TokensError::RefreshInterval => "refresh_interval",
                    TokensError::TicketExpires => "ticket_expires",
                    TokensError::Leeway => "leeway",
                    _ => "module",
                };
                let help = match error {
                    TokensError::SingleLoginWithoutStore => "add `state = \"redis://HOST\"`",
                    _ => "write another time",
                };
                report.invalid(&section.key(key), error.to_string(), help);
                return;
            }
        };
        let has_roles = self.modules.iter().any(|it| it.kind == ModuleKind::Roles);
        if has_roles && roles.is_none() && !report.was_faulty(&section.key("roles")) {
            let problem = Problem::new("`roles` is missing in `[auth]`")
                .label("a module of the kind `roles` needs a policy")
                .help("name its file: `roles = \"roles.csv\"`");
            report.error(&section.key("roles"), problem);
        }
        if !has_roles && roles.is_some() {
            let problem =
                Problem::new("`roles` has no effect").label("no module is of the kind `roles`");
            report.warn(&section.key("roles"), problem);
        }
        let roles = Roles::new(RolePolicy::new());
        let mut modules = Vec::new();
        for settings in &self.modules {
            match settings.module(tokens.clone(), &roles) {
                Ok(module) => modules.push((settings, module)),
                Err(error) => settings.report(&error, report),
            }
        }
        for until in 1..=modules.len() {
            let some = modules[..until].iter().map(|(_, module)| module.clone());
            if let Err(error) = self.layer(some.collect()) {
                modules[until - 1].0.report(&error, report);
                return;
            }
        }
    }
}

/// By what was written, and what the files held.
impl PartialEq for AuthSettings {
    fn eq(&self, other: &Self) -> bool {
        let one = (&self.raw, &self.modules, &self.exempt, self.read);
        one == (&other.raw, &other.modules, &other.exempt, other.read)
    }
}

impl Eq for AuthSettings {}
