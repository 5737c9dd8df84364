//! All settings, typed and checked.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderName, Uri};
use onlyonce_core::{Policy, Secret};

use super::elements::address::conflict;
use super::elements::idempotency::RawIdempotency;
use super::elements::route::{Base, RawRoute, warn_of_shadows};
use super::elements::secret::SecretText;
use super::elements::tls::RawTls;
use super::elements::upstream::Upstreams;
use super::error::{ConfigErrors, Problem, Warning};
use super::load::Loaded;
use super::policy::{base_policy, check_policy, warn_of_sharing};
use super::raw::{LISTEN, Raw};
use super::report::Report;
use super::routes::{Route, RouteTable};
use super::scalar::{As, OrOff};
use super::source::Sources;
use super::tree::Path;
use super::{
    AccessLogSettings, AdminSettings, AllowListSettings, AuthSettings, BlocklistSettings,
    ClientAddressSettings, ContextSettings, CorsSettings, EnvelopeSettings, FilterSettings,
    LimitSettings, LogSettings, ProxySettings, ReadOnlySettings, StoreSettings, TlsSettings,
};

/// All settings of the gateway, typed and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Where clients connect. Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// The services behind the gateway; at least one.
    pub upstreams: Vec<Uri>,
    /// The listener for operators.
    pub admin: AdminSettings,
    /// Where records live.
    pub store: StoreSettings,
    /// How keyed requests are treated where no route says otherwise.
    pub idempotency: Arc<Policy>,
    /// The secret under which scopes and keys are hashed; `None` when none was set, and the store
    /// has one of its own.
    pub secret: Option<Secret>,
    /// Header in which something trusted in front names the authenticated caller.
    pub principal_header: Option<HeaderName>,
    /// What is different where.
    pub routes: RouteTable,
    /// Trace IDs.
    pub context: ContextSettings,
    /// Who the client is, behind proxies.
    pub client_address: ClientAddressSettings,
    /// Which pages of other origins may use the service.
    pub cors: CorsSettings,
    /// Who is refused.
    pub blocklist: BlocklistSettings,
    /// Paths that few addresses reach.
    pub allow_list: AllowListSettings,
    /// A system that can be looked at, and not changed.
    pub read_only: ReadOnlySettings,
    /// Who calls, and what they may do.
    pub auth: AuthSettings,
    /// Bodies that fit a JSON Schema.
    pub filter: FilterSettings,
    /// One form for every answer.
    pub envelope: EnvelopeSettings,
    /// A line and a row for each request.
    pub access_log: AccessLogSettings,
    /// The way to the upstream.
    pub proxy: ProxySettings,
    /// HTTPS on the public listener.
    pub tls: Option<TlsSettings>,
    /// What clients may take.
    pub limits: LimitSettings,
    /// What the gateway says of itself.
    pub log: LogSettings,
}

impl Settings {
    /// Reads and checks all settings.
    ///
    /// Blocks on reading files: the settings', and those that settings name.
    ///
    /// # Errors
    /// Everything that is wrong, with its place and the remedy.
    pub fn load(sources: &Sources) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let Loaded {
            settings, warnings, ..
        } = Loaded::load(sources)?;
        Ok((settings, warnings))
    }

    /// What `raw` means; what can't be goes into `report`, and something harmless in its place.
    pub(super) fn resolve(raw: Raw, report: &mut Report<'_>) -> Self {
        let listen = raw.listen.map_or(LISTEN, |As(listen)| listen);
        raw.admin.check(report);
        let tls = raw.tls.resolve(report);
        let upstreams = upstreams(raw.upstream, listen, tls.is_some(), report);
        check_listeners(listen, &raw.admin, report);
        raw.client_address.check(report);
        raw.cors.check(&Path::of(&["cors"]), report);
        raw.blocklist.check(report);
        raw.allow_list.check(report);
        raw.read_only.check(report);
        let filter = raw.filter.resolve(None, &Path::of(&["filter"]), report);
        raw.envelope.check(report);
        raw.access_log.check(report);
        raw.proxy.check(report);
        raw.limits.check(report);

        let section = Path::of(&["idempotency"]);
        let policy = Arc::new(base_policy(&raw.idempotency));
        check_policy(&policy, &section, report);
        warn_of_sharing(&policy, &section, None, report);
        let principal_header = match raw.idempotency.principal_header {
            Some(As(OrOff::On(ref name))) => Some(name.clone()),
            _ => None,
        };
        let base = Base {
            policy: &policy,
            cors: &raw.cors,
            filter: &filter,
        };
        let routes = routes(&raw.route, &base, report);
        let placed: Vec<(Path, &Route)> = routes
            .iter()
            .map(|(path, route)| (path.clone(), route))
            .collect();
        let auth = raw.auth.resolve(&placed, report);
        for (path, route) in &placed {
            let list = &raw.blocklist;
            contradiction(
                route.layers().blocklist,
                list.enabled,
                path,
                "blocklist",
                report,
            );
            let mode = raw.read_only.is_there();
            contradiction(route.layers().read_only, mode, path, "read_only", report);
        }
        Self {
            listen,
            upstreams,
            store: raw.store.resolve(report),
            secret: secret(&raw.idempotency, report),
            principal_header,
            routes: RouteTable {
                routes: routes.into_iter().map(|(_, route)| route).collect(),
                elsewhere: Arc::clone(&policy),
            },
            idempotency: policy,
            admin: raw.admin,
            context: raw.context,
            client_address: raw.client_address,
            cors: raw.cors,
            blocklist: raw.blocklist,
            allow_list: raw.allow_list,
            read_only: raw.read_only,
            auth,
            filter,
            envelope: raw.envelope,
            access_log: raw.access_log,
            proxy: raw.proxy,
            tls,
            limits: raw.limits,
            log: raw.log,
        }
    }

    /// Every setting, named. What can't be told from here (where the secret came from) is taken
    /// from `given`.
    pub(super) fn to_raw(&self, given: &RawIdempotency) -> Raw {
        let mut idempotency = RawIdempotency::of_policy(&self.idempotency);
        idempotency.profile = Some(given.profile.unwrap_or_default());
        idempotency.secret = given.secret.clone();
        idempotency.secret_file = given.secret_file.clone();
        idempotency.principal_header = Some(As(self.principal_header.clone().into()));
        Raw {
            listen: Some(As(self.listen)),
            upstream: Some(Upstreams(self.upstreams.clone())),
            admin: self.admin.clone(),
            store: (&self.store).into(),
            idempotency,
            context: self.context.clone(),
            client_address: self.client_address.clone(),
            cors: self.cors.clone(),
            blocklist: self.blocklist.clone(),
            allow_list: self.allow_list.clone(),
            read_only: self.read_only.clone(),
            auth: self.auth.to_raw(),
            filter: self.filter.to_raw(),
            envelope: self.envelope.clone(),
            access_log: self.access_log.clone(),
            proxy: self.proxy.clone(),
            tls: self.tls.clone().map(RawTls::from).unwrap_or_default(),
            limits: self.limits.clone(),
            log: self.log.clone(),
            route: self
                .routes
                .iter()
                .map(|route| RawRoute::of_route(route, &self.idempotency))
                .collect(),
        }
    }
}

/// Reports a route that asks for a layer which is off everywhere: nobody would be refused.
fn contradiction(
    wanted: Option<bool>,
    is_there: bool,
    route: &Path,
    section: &str,
    report: &mut Report<'_>,
) {
    if wanted == Some(true) && !is_there && !report.was_faulty(&Path::of(&[section])) {
        report.invalid(
            &route.key(section),
            format!("`[{section}]` is off, so nothing would be refused"),
            &format!("add `enabled = true` to `[{section}]`, or leave this out"),
        );
    }
}

fn upstreams(
    raw: Option<Upstreams>,
    listen: SocketAddr,
    tls: bool,
    report: &mut Report<'_>,
) -> Vec<Uri> {
    let path = Path::of(&["upstream"]);
    let Upstreams(uris) = raw.unwrap_or_default();
    if uris.is_empty() && !report.was_faulty(&path) {
        report.error(
            &path,
            Problem::new("no upstream: the gateway needs a service to stand in front of").help(
                "give its URL: `--upstream http://127.0.0.1:3000`, or in onlyonce.toml \
                 `upstream = [\"http://127.0.0.1:3000\"]`",
            ),
        );
    }
    for (index, uri) in uris.iter().enumerate() {
        let https = uri.scheme_str() == Some("https");
        if https == tls && leads_to(uri, listen) {
            let path = if report.is_set(&path.index(index)) {
                path.index(index)
            } else {
                path.clone()
            };
            report.invalid(
                &path,
                format!("the gateway itself listens on {listen}: requests would go round for ever"),
                "name the service behind the gateway, or let the gateway `listen` elsewhere",
            );
        }
    }
    uris
}

/// Whether a connection to `uri` would end at a listener on `listen` of this machine.
fn leads_to(uri: &Uri, listen: SocketAddr) -> bool {
    let default_port = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let here = match host.parse::<std::net::IpAddr>() {
        Ok(ip) => ip == listen.ip() || (listen.ip().is_unspecified() && ip.is_loopback()),
        Err(_) => {
            host == "localhost" && (listen.ip().is_loopback() || listen.ip().is_unspecified())
        }
    };
    here && listen.port() != 0 && uri.port_u16().unwrap_or(default_port) == listen.port()
}

fn check_listeners(listen: SocketAddr, admin: &AdminSettings, report: &mut Report<'_>) {
    let Some(other) = admin.listen.filter(|other| conflict(*other, listen)) else {
        return;
    };
    let path = Path::of(&["admin", "listen"]);
    let public = Path::of(&["listen"]);
    if report.was_faulty(&path) || report.was_faulty(&public) {
        return;
    }
    let place = if report.is_set(&path) { path } else { public };
    report.error(
        &place,
        Problem::new("both listeners want the same port")
            .label(format!(
                "`listen` is {listen}, `listen` in `[admin]` is {other}"
            ))
            .help("give them different ports"),
    );
}

fn secret(raw: &RawIdempotency, report: &mut Report<'_>) -> Option<Secret> {
    let section = Path::of(&["idempotency"]);
    let text = match (&raw.secret, &raw.secret_file) {
        (None, None) => None,
        (Some(As(text)), None) => Some(text.clone()),
        (None, Some(As(file))) => SecretText::read(file, &section.key("secret_file"), report),
        (Some(_), Some(_)) => {
            report.error(
                &section.key("secret_file"),
                Problem::new("there are two secrets")
                    .label("`secret` and `secret_file` exclude each other")
                    .help("remove one of them"),
            );
            None
        }
    };
    text.map(|text| text.secret())
}

/// Routes are tried one by one, at every request.
const MOST_ROUTES: usize = 1000;

fn routes(raw: &[RawRoute], base: &Base<'_>, report: &mut Report<'_>) -> Vec<(Path, Route)> {
    let list = Path::of(&["route"]);
    if raw.len() > MOST_ROUTES {
        let problem = Problem::new(format!("there are {} routes", raw.len()))
            .label(format!("{MOST_ROUTES} are allowed"))
            .help("they are tried one by one: join some with `{name}` or `{*rest}`");
        report.error(&list, problem);
        return Vec::new();
    }
    let found: Vec<(Path, Route)> = raw
        .iter()
        .enumerate()
        .filter_map(|(index, raw)| {
            let path = list.index(index);
            let route = raw.resolve(&path, base, report)?;
            Some((path, route))
        })
        .collect();
    warn_of_shadows(&found, report);
    found
}
