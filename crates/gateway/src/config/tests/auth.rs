//! `[auth]`, and what routes say of it.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body_util::{BodyExt as _, Full};
use onlyonce_pipeline::Answers;
use onlyonce_pipeline::auth::{AuthLayer, MemoryTokenStore, SharedTokenStore};
use onlyonce_pipeline::context::Identity;
use serde_json::Value;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;
use crate::config::load::Loaded;
use crate::config::{Auth, AuthSettings};

const SECRET: &str = "secret = \"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge\"\n";
const API: &str = "[[auth.module]]\nname = \"api\"\n";
const ADMIN: &str = "[[auth.module]]\nname = \"admin\"\n";

/// A folder with a policy, keys, and what stands in their place.
fn files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        (
            "roles.csv",
            "p, editor, /admin/login, POST\np, editor, /admin/posts/*, .*\n",
        ),
        (
            "bad.csv",
            "p, editor, /admin/x, GET\np, editor, /admin/y, *\n",
        ),
        ("secret", "Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge\n"),
        ("short", "too short to be a secret\n"),
        ("public.pem", ED25519_PUBLIC),
        (
            "keys.json",
            "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}\n",
        ),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

const ED25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";

/// As the gallery, with `FILES/` for the folder.
fn gallery_with_files(settings: &[String]) -> String {
    let folder = files();
    let path = folder.path().display().to_string();
    let mut out = String::new();
    for file in settings {
        let content = format!("{UPSTREAM}{QUIET}{}", file.replace("FILES", &path));
        let said = Given::file(content).messages().replace(&path, "FILES");
        // Under the folder's name there are as many carets as it is long.
        let mut names_folder = false;
        let mut lines = Vec::new();
        for line in said.lines() {
            let (long, short) = ("^".repeat(path.len()), "^".repeat("FILES".len()));
            lines.push(if names_folder {
                line.replacen(&long, &short, 1)
            } else {
                line.to_owned()
            });
            names_folder = line.contains("FILES");
        }
        let said = lines.join("\n");
        let _ = writeln!(out, "──── {file}\n{said}\n");
    }
    out
}

#[test]
fn faults_of_auth() {
    snapshot!(gallery(&[
        "[auth]\nexpires = \"1h\"\n",
        API,
        "auth.secret = \"changeme\"\n[[auth.module]]\nname = \"api\"\n",
        "auth.secret = \"not-long-enough-for-a-token\"\n[[auth.module]]\nname = \"api\"\n",
        "auth.secret = \"passwordpasswordpasswordpassword\"\n[[auth.module]]\nname = \"api\"\n",
        "[auth]\nsecret_file = \"nowhere\"\n[[auth.module]]\nname = \"api\"\n",
        "[auth]\nsecrets = \"x\"\n",
        "[auth]\nstate = \"sqlite:tokens\"\n",
        "[auth]\nexpires = 7\n",
        "[auth]\nmax_refresh_times = \"often\"\n",
        "[auth]\nuser_header = \"X User\"\n",
        "[auth]\nmodule = \"api\"\n",
        "[auth.module]\nname = \"api\"\n",
        "auth = true\n",
    ]));
}

#[test]
fn faults_of_modules() {
    let with = |settings: &str, modules: &str| format!("[auth]\n{SECRET}{settings}{modules}");
    let roles = "roles = \"FILES/roles.csv\"\n";
    snapshot!(gallery_with_files(&[
        with("", "[[auth.module]]\nprefix = \"/x\"\n"),
        with("", "[[auth.module]]\nname = \"shop\"\nprefix = \"/x\"\n"),
        with("", "[[auth.module]]\nname = \"shop\"\nkind = \"logon\"\n"),
        with("", "[[auth.module]]\nname = \"shop\"\nkind = \"login\"\n"),
        with("", &format!("{API}prefix = \"/api/\"\n")),
        with("", &format!("{API}prefix = 3\n")),
        with("", &format!("{API}{API}")),
        with(
            "",
            &format!("{API}[[auth.module]]\nname = \"v1\"\nkind = \"login\"\nprefix = \"/API\"\n")
        ),
        with(
            "",
            &format!("{API}login_exempt = [\"/api/login\", \"/login\"]\n")
        ),
        with("", &format!("{API}login_exempt = [\"post /api/login\"]\n")),
        with("", &format!("{API}login_exempt = [\"/api/../login\"]\n")),
        with("", &format!("{API}login_exempt = \"/api/login\"\n")),
        with("", &format!("{API}permission_exempt = [\"/api/me\"]\n")),
        with(
            "",
            "[[auth.module]]\nname = \"home\"\nlogin_exempt = [\"/home/x\"]\n"
        ),
        with("", &format!("{API}logins = 3\n")),
        with("", ADMIN),
        with("roles = \"FILES/nowhere.csv\"\n", ADMIN),
        with("roles = \"FILES/bad.csv\"\n", ADMIN),
        with(roles, API),
        with(
            roles,
            &format!("{ADMIN}login_exempt = [\"POST /admin/login\"]\n")
        ),
        with(
            roles,
            &format!("{ADMIN}login_exempt = [\"/admin/x\"]\npermission_exempt = [\"/admin/x\"]\n"),
        ),
        with(
            roles,
            &format!("{ADMIN}login_exempt = [\"GET /admin/login\"]\n")
        ),
        with(
            roles,
            &format!("{ADMIN}login_exempt = [\"/admin/posts/{{*rest}}\"]\n")
        ),
        with(
            roles,
            &format!(
                "{ADMIN}[[route]]\npath = \"/admin/login\"\nmethods = [\"POST\"]\nauth = false\n"
            )
        ),
    ]));
}

#[test]
fn faults_of_keys_and_times() {
    let with = |settings: &str| format!("[auth]\n{settings}{API}");
    let own = |settings: &str| with(&format!("{SECRET}{settings}"));
    snapshot!(gallery_with_files(&[
        own("secret_file = \"FILES/secret\"\n"),
        with("secret_file = \"FILES/short\"\n"),
        with("secret_file = \"FILES/public.pem\"\n"),
        with("public_key = \"FILES/secret\"\n"),
        with("jwks = \"FILES/keys.json\"\n"),
        with("jwks = \"FILES\"\n"),
        with("jwks = \"https://login.example/keys.json\"\n"),
        own("old_secret_file = \"FILES/short\"\n"),
        own("multi_login = false\n"),
        own("expires = \"0s\"\n"),
        own("state = \"memory:\"\nrefresh_interval = \"8d\"\n"),
        own("leeway = \"1h\"\n"),
        own("ticket_expires = \"1h\"\n"),
        own("max_length = 0\n"),
    ]));
}

#[test]
fn faults_of_auth_of_routes() {
    let with = |route: &str| format!("[auth]\n{SECRET}{API}[[route]]\n{route}");
    snapshot!(gallery_with_files(&[
        with("path = \"/reports\"\nauth = \"apy\"\n"),
        with("path = \"/reports\"\nauth = \"reports\"\n"),
        with("path = \"/reports\"\nauth = 3\n"),
        with("path = \"/reports\"\nauth = true\n"),
        with("path = \"/reports/*\"\nauth = \"api\"\n"),
        with("path = \"/reports;x\"\nauth = \"api\"\n"),
        with("path = \"/reports\"\nauth = false\n"),
        "[[route]]\npath = \"/reports\"\nauth = \"api\"\n".to_owned(),
    ]));
}

#[test]
fn contradictions_of_auth() {
    let with = |settings: &str, modules: &str| format!("[auth]\n{SECRET}{settings}{modules}");
    let roles = "roles = \"FILES/roles.csv\"\n";
    snapshot!(gallery_with_files(&[
        with("user_header = \"X-User\"\nrole_header = \"x_user\"\n", API),
        with("user_header = \"Host\"\n", API),
        with("role_header = \"authorization\"\n", API),
        with("", &format!("{API}app = \"\"\n")),
        with("ticket_expires = \"1m\"\n", API),
        with("", "[[auth.module]]\nname = \"websocket\"\n"),
        with("super_roles = [\"root\"]\n", API),
        with(&format!("{roles}super_roles = [\"root\", \"\"]\n"), ADMIN),
        with(roles, &format!("{ADMIN}prefix = \"/console\"\n")),
        with(
            roles,
            &format!("{ADMIN}prefix = \"/console\"\npolicy_paths = \"behind-prefix\"\n")
        ),
        with(
            "",
            &format!(
                "{API}login_exempt = [\"/api/{{*rest}}\"]\n\
                 [[route]]\npath = \"/api/keys/{{id}}\"\nauth = \"api\"\n"
            )
        ),
        with(
            "",
            &format!(
                "{API}login_exempt = [\"POST /api/login\"]\n\
                 [[route]]\npath = \"/api/{{*rest}}\"\nauth = \"api\"\n"
            )
        ),
    ]));
}

fn settings_of(text: &str) -> AuthSettings {
    whole_settings_of(text).auth
}

fn whole_settings_of(text: &str) -> Settings {
    let folder = files();
    let path = folder.path().display().to_string();
    let text = format!("{UPSTREAM}{QUIET}{}", text.replace("FILES", &path));
    Given::file(text).settings()
}

#[test]
fn auth_is_off_by_default() {
    let auth = settings_of("");
    assert!(!auth.is_on());
    assert!(auth.build(None, Answers::new()).unwrap().is_none());
}

#[test]
fn a_secret_can_come_from_a_variable_and_is_never_printed() {
    let given = Given::file(format!("{UPSTREAM}{QUIET}{API}"))
        .variable("ONLYONCE_AUTH__SECRET", "Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge");
    assert!(given.settings().auth.is_on());
    let shown = format!("{:?}", given.settings().auth);
    assert!(!shown.contains("Jb2kz0"), "{shown}");
    let weak = Given::file(format!("{UPSTREAM}{QUIET}{API}"))
        .variable("ONLYONCE_AUTH__SECRET", "passwordpasswordpasswordpassword");
    let said = weak.messages();
    assert!(
        said.contains("too regular") && !said.contains("passwordpassword"),
        "{said}"
    );
}

/// What a service behind is told, and the code of a refusal.
async fn asked(auth: &Auth, line: &str, token: Option<&str>) -> String {
    asked_of(&auth.layer, line, token).await
}

/// The same on the route that the request falls under.
async fn asked_by_route(settings: &Settings, auth: &Auth, line: &str) -> String {
    let (method, path) = line.split_once(' ').unwrap();
    let matched = settings.routes.resolve(&method.parse().unwrap(), path);
    let index = matched.index.unwrap_or(usize::MAX);
    let layer = settings.auth.layer_of_route(&auth.layer, index);
    asked_of(&layer, line, None).await
}

async fn asked_of(layer: &AuthLayer, line: &str, token: Option<&str>) -> String {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request
        .header("x-user", "root")
        .header("x-original-url", "/admin/me");
    let request = request
        .header("x-http-method-override", "DELETE")
        .body(())
        .unwrap();
    let service = layer.layer(service_fn(async |request: Request<()>| {
        let name = HeaderName::from_static("x-user");
        let user = request
            .headers()
            .get(name)
            .map(|user| user.to_str().unwrap().to_owned());
        let overrides = ["x-original-url", "x-http-method-override"];
        assert!(
            !overrides
                .iter()
                .any(|name| request.headers().contains_key(*name))
        );
        let told = user.unwrap_or_else(|| "nobody".to_owned());
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(told))))
    }));
    let response = service.oneshot(request).await.unwrap();
    let is_refused = !response.status().is_success();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    if is_refused {
        let body: Value = serde_json::from_slice(&body).unwrap();
        return body["code"].to_string();
    }
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn settings_come_to_a_layer_that_does_what_they_say() {
    let auth = settings_of(&format!(
        "[auth]\n{SECRET}state = \"memory:\"\nroles = \"FILES/roles.csv\"\nmulti_login = false\n\
         super_roles = [\"root\"]\nuser_header = \"X-User\"\n{ADMIN}\
         permission_exempt = [\"/admin/me\"]\n{API}app = \"shop\"\nlogin_exempt = [\"/api/login\"]\n\
         [[route]]\npath = \"/reports/{{*rest}}\"\nmethods = [\"GET\"]\nauth = \"api\"\n\
         [[route]]\npath = \"/api/open\"\nauth = false\n"
    ));
    let state = auth.open_state().await.unwrap();
    let built = auth.build(state.as_ref(), Answers::new()).unwrap().unwrap();
    let names: Vec<&str> = built.tokens.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["admin", "api"]);
    let [(_, admin), (_, api)] = &built.tokens[..] else {
        panic!("two modules")
    };
    let editor = admin
        .login(&Identity::new("e", "admin").with_role("editor"))
        .await
        .unwrap()
        .token;
    let root = admin
        .login(&Identity::new("r", "admin").with_role("root"))
        .await
        .unwrap()
        .token;
    let shopper = api.login(&Identity::new("s", "shop")).await.unwrap().token;
    for (line, token, expected) in [
        ("GET /elsewhere", None, "nobody"),
        ("GET /admin/posts/1", None, "61"),
        ("GET /admin/posts/1", Some(&editor), "e"),
        ("GET /admin/users", Some(&editor), "62"),
        ("GET /admin/me", Some(&editor), "e"),
        ("GET /admin/users", Some(&root), "r"),
        ("GET /api/x", Some(&editor), "61"),
        ("GET /api/x", Some(&shopper), "s"),
        ("GET /api/login", None, "nobody"),
        ("GET /api/open", None, "61"),
        ("GET /reports/7", None, "61"),
        ("GET /reports", None, "61"),
        ("POST /reports/7", None, "nobody"),
        ("GET /REPORTS/7", None, "53"),
        ("GET /reports;x", None, "53"),
        ("GET /reports/7", Some(&shopper), "s"),
    ] {
        let token = token.map(String::as_str);
        assert_eq!(asked(&built, line, token).await, expected, "{line}");
    }
    // A single login, and a state that outlives the layer.
    api.login(&Identity::new("s", "shop")).await.unwrap();
    let again = auth.build(state.as_ref(), Answers::new()).unwrap().unwrap();
    assert_eq!(asked(&again, "GET /api/x", Some(&shopper)).await, "61");
    assert_eq!(asked(&again, "GET /admin/me", Some(&editor)).await, "e");
    // Without that state nobody is logged in.
    let other = SharedTokenStore::new(MemoryTokenStore::new());
    let forgetful = auth.build(Some(&other), Answers::new()).unwrap().unwrap();
    assert_eq!(
        asked(&forgetful, "GET /admin/me", Some(&editor)).await,
        "61"
    );
}

#[tokio::test]
async fn hazard_54_the_first_route_that_matches_says_whether_a_login_is_needed() {
    let settings = whole_settings_of(&format!(
        "[auth]\n{SECRET}roles = \"FILES/roles.csv\"\nuser_header = \"X-User\"\n{ADMIN}{API}\
         [[route]]\npath = \"/admin/users/{{*rest}}\"\nauth = \"admin\"\n\
         [[route]]\npath = \"/admin/logs\"\nidempotency = false\n\
         [[route]]\npath = \"/admin/{{*rest}}\"\nmethods = [\"GET\"]\nauth = false\n\
         [[route]]\npath = \"/reports/open\"\nauth = false\n\
         [[route]]\npath = \"/reports/{{*rest}}\"\nauth = \"api\"\n\
         [[route]]\npath = \"/api/open\"\nauth = false\n"
    ));
    let built = settings.auth.build(None, Answers::new()).unwrap().unwrap();
    for (line, expected) in [
        // Protected by name, and by a route that says nothing of it: the wide one comes later.
        ("GET /admin/users/7", "61"),
        ("GET /admin/users", "61"),
        ("GET /admin/logs", "61"),
        ("GET /admin/help", "nobody"),
        ("HEAD /admin/help", "61"),
        ("POST /admin/help", "61"),
        // A route is found by all spellings of its path; exempt is the plain one.
        ("GET /admin/./help", "53"),
        ("GET /admin/h%65lp", "53"),
        ("GET /admin/users/../help", "53"),
        ("GET /reports/open", "nobody"),
        ("GET /reports/7", "61"),
        ("GET /api/open", "nobody"),
        ("GET /api/open/x", "61"),
        ("GET /api/x", "61"),
    ] {
        assert_eq!(
            asked_by_route(&settings, &built, line).await,
            expected,
            "{line}"
        );
    }
}

#[tokio::test]
async fn tokens_of_elsewhere_are_checked_by_their_public_key() {
    let auth = settings_of(&format!("[auth]\npublic_key = \"FILES/public.pem\"\n{API}"));
    let built = auth.build(None, Answers::new()).unwrap().unwrap();
    let (_, api) = &built.tokens[0];
    assert!(
        api.login(&Identity::new("s", "api")).await.is_err(),
        "there is nothing to sign with"
    );
    assert_eq!(asked(&built, "GET /api/x", Some("a.b.c")).await, "61");
}

#[test]
fn a_policy_that_has_changed_makes_the_settings_differ() {
    let folder = files();
    let file = folder.path().join("roles.csv");
    let text = format!(
        "{UPSTREAM}{QUIET}[auth]\n{SECRET}roles = \"{}\"\n{ADMIN}",
        file.display()
    );
    let read = || Given::file(&text).settings().auth;
    let before = read();
    assert!(read() == before);
    std::fs::write(&file, "p, editor, /admin/z, GET\n").unwrap();
    assert!(read() != before);
}

#[test]
fn auth_reads_back_as_it_was() {
    let text = format!(
        "{UPSTREAM}{QUIET}[auth]\nsecret_file = \"FILES/secret\"\nstate = \"redis://127.0.0.1\"\n\
         multi_login = false\nmax_refresh_times = \"off\"\n{API}\
         login_exempt = [\"POST /api/login\"]\n[[route]]\npath = \"/x\"\nauth = \"api\"\n"
    );
    let folder = files();
    let text = text.replace("FILES", &folder.path().display().to_string());
    let settings = Given::file(&text).settings();
    let printed = Loaded::load(&Given::file(&text).sources).unwrap().print();
    let again = Given::file(&printed).settings();
    assert!(again.auth == settings.auth, "{printed}");
    assert_eq!(again.routes, settings.routes);
}
