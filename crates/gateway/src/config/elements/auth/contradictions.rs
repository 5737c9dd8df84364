//! What of `[auth]` can be read, and can't be meant.

use http::{HeaderName, header};
use onlyonce_pipeline::auth::{PolicyPaths, RolePolicy, RoutePattern};

use super::{AuthSettings, ModuleKind, ModuleSettings, RawAuth, RouteAuth};
use crate::config::error::Problem;
use crate::config::report::Report;
use crate::config::routes::{Pattern, Route, RouteLayers};
use crate::config::tree::Path;

/// Says what contradicts itself, or has no effect.
pub(super) fn explain(
    settings: &AuthSettings,
    section: &Path,
    routes: &[(Path, &Route)],
    report: &mut Report<'_>,
) {
    if settings.modules.is_empty() {
        return;
    }
    headers(settings, section, report);
    sessions(settings, section, report);
    super_roles(settings, section, report);
    if let Some(policy) = &settings.policy {
        policy_elsewhere(policy, settings, section, report);
    }
    for (path, route) in routes {
        if let RouteAuth::Module(name) = &route.layers.auth {
            let module = settings.modules.iter().find(|module| module.name == *name);
            if let Some(module) = module {
                exempt_all_the_same(module, route, path, report);
            }
        }
    }
}

/// Headers that every request needs for something else.
const TAKEN: [HeaderName; 12] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::FORWARDED,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

fn headers(settings: &AuthSettings, section: &Path, report: &mut Report<'_>) {
    let (user, role) = (&settings.raw.user_header, &settings.raw.role_header);
    for (key, name) in [("user_header", user), ("role_header", role)] {
        if let Some(name) = name.as_ref().filter(|name| TAKEN.contains(name)) {
            let problem =
                format!("`{name}` has a meaning of its own, and every request would lose it");
            let help = "name one of your own, such as \"X-User-Id\" or \"X-User-Role\"";
            report.invalid(&section.key(key), problem, help);
        }
    }
    // A server that speaks CGI or WSGI reads both alike.
    let spelled = |name: &HeaderName| name.as_str().replace('_', "-");
    if user.is_some() && user.as_ref().map(spelled) == role.as_ref().map(spelled) {
        report.invalid(
            &section.key("role_header"),
            "the role would take the place of the user's ID",
            "name another header than in `user_header`",
        );
    }
}

fn sessions(settings: &AuthSettings, section: &Path, report: &mut Report<'_>) {
    if settings.raw.state.is_some() || report.was_faulty(&section.key("state")) {
        return;
    }
    let without = "there are no sessions without `state`";
    let help = "add `state`, such as \"redis://HOST\" or \"file:./sessions\"";
    let (raw, default) = (&settings.raw, RawAuth::default());
    for (key, is_set) in [
        ("auto_refresh", raw.auto_refresh != default.auto_refresh),
        (
            "refresh_interval",
            raw.refresh_interval != default.refresh_interval,
        ),
        (
            "max_refresh_times",
            raw.max_refresh_times != default.max_refresh_times,
        ),
        (
            "ticket_expires",
            raw.ticket_expires != default.ticket_expires,
        ),
    ] {
        if is_set {
            let problem = Problem::new(format!("`{key}` has no effect"));
            report.warn(&section.key(key), problem.label(without).help(help));
        }
    }
    let websocket = settings
        .modules
        .iter()
        .find(|it| it.kind == ModuleKind::Websocket);
    if let Some(module) = websocket {
        let problem = Problem::new(format!("no ticket opens the module {:?}", module.name))
            .label(without)
            .help(help);
        report.warn(&module.path, problem);
    }
}

fn super_roles(settings: &AuthSettings, section: &Path, report: &mut Report<'_>) {
    let roles = &settings.raw.super_roles;
    let path = section.key("super_roles");
    if let Some(index) = roles.iter().position(String::is_empty) {
        report.invalid(&path.index(index), "an empty name", "leave it out");
    }
    if !roles.is_empty() && !settings.modules.iter().any(ModuleSettings::has_roles) {
        let problem =
            Problem::new("`super_roles` has no effect").label("no module is of the kind `roles`");
        report.warn(&path, problem);
    }
}

/// Lines of the policy about paths that nobody asks it about.
fn policy_elsewhere(
    policy: &RolePolicy,
    settings: &AuthSettings,
    section: &Path,
    report: &mut Report<'_>,
) {
    let mut modules = settings.modules.iter().filter(|module| module.has_roles());
    // Which paths those take can't be told from the outside.
    let is_open = |module: &ModuleSettings| {
        module.policy_paths == PolicyPaths::BehindPrefix || !module.routes.is_empty()
    };
    if !settings.modules.iter().any(ModuleSettings::has_roles) || modules.any(is_open) {
        return;
    }
    let prefixes: Vec<&str> = settings
        .modules
        .iter()
        .filter(|module| module.has_roles())
        .filter_map(|module| module.prefix.as_deref())
        .collect();
    let is_asked_about = |path: &str| {
        let (head, is_open) = path
            .split_once('*')
            .map_or((path, false), |(head, _)| (head, true));
        prefixes.iter().any(|prefix| {
            let rest = head.strip_prefix(prefix);
            *prefix == "/"
                || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                || (is_open && prefix.starts_with(head))
        })
    };
    if let Some(path) = policy.paths().find(|path| !is_asked_about(path)) {
        let problem = Problem::new("a line of the role policy has no effect")
            .label(format!("{path} lies in no module of the kind `roles`"))
            .help("remove the line, or set `prefix` or `policy_paths` of the module");
        report.warn(&section.key("roles"), problem);
    }
}

/// A route is given to a module, whose own exemption lets it pass without a login.
fn exempt_all_the_same(
    module: &ModuleSettings,
    route: &Route,
    path: &Path,
    report: &mut Report<'_>,
) {
    let covering = module
        .login_exempt
        .iter()
        .find(|exempt| as_route(exempt).is_some_and(|exempt| exempt.covers(route)));
    if let Some(exempt) = covering {
        report.invalid(
            &path.key("auth"),
            format!("`login_exempt` of the module lets it pass without a login: \"{exempt}\""),
            "narrow `login_exempt`, or leave `auth` out here",
        );
    }
}

fn as_route(pattern: &RoutePattern) -> Option<Route> {
    let methods = pattern.methods();
    Some(Route {
        pattern: Pattern::new(pattern.pattern()).ok()?,
        methods: (!methods.is_empty()).then(|| methods.to_vec()),
        policy: None,
        layers: RouteLayers::default(),
    })
}
