use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{ACCEPT_LANGUAGE, AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use onlyonce::Principal;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use super::tokens::tests::{Failing, SECRET};
use super::*;
use crate::context::{Context, ContextLayer, Identity};
use crate::{Answers, Code, Language, StatusMode};

fn tokens_of(app: &str, store: &SharedTokenStore) -> Tokens {
    let keys = TokenKeys::hs256(SECRET).unwrap();
    Tokens::builder(app, keys)
        .with_store(store.clone())
        .build()
        .unwrap()
}

const POLICY: &str = "p, editor, /admin/posts/*, ^(GET|POST)$
p, editor, /admin/me, ^GET$";

/// An application with all four modules.
struct App {
    admin: Tokens,
    api: Tokens,
    socket: Tokens,
    home: Tokens,
    roles: Roles,
    layer: AuthLayer,
}

fn app() -> App {
    app_on(&SharedTokenStore::new(MemoryTokenStore::new()))
}

fn app_on(store: &SharedTokenStore) -> App {
    let of = |name| tokens_of(name, store);
    let (admin, api, socket, home) = (of("admin"), of("api"), of("websocket"), of("home"));
    let roles = Roles::new(POLICY.parse().unwrap()).with_super_role("super");
    let modules = [
        Module::admin(admin.clone(), roles.clone())
            .with_login_exempt(["POST /admin/login", "/admin/open/{*rest}"])
            .unwrap()
            .with_permission_exempt(["/admin/logout"])
            .unwrap(),
        Module::api(api.clone())
            .with_login_exempt(["/api/login"])
            .unwrap(),
        Module::websocket(socket.clone()),
        Module::home(home.clone()),
    ];
    let layer = AuthLayer::new(modules).unwrap();
    App {
        admin,
        api,
        socket,
        home,
        roles,
        layer,
    }
}

/// Answers with what it is told of the caller.
async fn tell(request: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    let extensions = request.extensions();
    let identity = extensions.get::<Arc<Identity>>();
    let told = json!({
        "path": request.uri().path(),
        "id": identity.map(|identity| identity.id.clone()),
        "principal": extensions.get::<Principal>().map(|principal| principal.as_str().to_owned()),
        "headers": request.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>(),
    });
    Ok(Response::new(Full::new(told.to_string().into())))
}

fn request(method: &str, uri: &str, token: Option<&str>) -> Request<()> {
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    request.body(()).unwrap()
}

async fn send(layer: &AuthLayer, request: Request<()>) -> (StatusCode, Value) {
    let response = layer
        .layer(service_fn(tell))
        .oneshot(request)
        .await
        .unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

/// The code of the refusal, or 0 where the request passed.
async fn code(layer: &AuthLayer, method: &str, uri: &str, token: Option<&str>) -> i64 {
    let (_, body) = send(layer, request(method, uri, token)).await;
    body["code"].as_i64().unwrap_or(0)
}

async fn login(tokens: &Tokens, user: &str, role: Option<&str>) -> String {
    let mut identity = Identity::new(user, tokens.app());
    if let Some(role) = role {
        identity = identity.with_role(role);
    }
    tokens.login(&identity).await.unwrap().token
}

#[tokio::test]
async fn the_admin_module_goes_through_its_steps() {
    let App { admin, layer, .. } = app();
    let editor = login(&admin, "e", Some("editor")).await;
    let chief = login(&admin, "c", Some("super")).await;
    let nobody = login(&admin, "n", None).await;
    for (method, path, token, expected) in [
        ("POST", "/admin/login", None, 0),
        ("GET", "/admin/login", None, 61),
        ("GET", "/admin/open/a/b", None, 0),
        ("GET", "/admin/posts/1", None, 61),
        ("GET", "/admin", None, 61),
        ("GET", "/admin/nowhere", None, 61),
        ("GET", "/admin/posts/1", Some(&editor), 0),
        ("DELETE", "/admin/posts/1", Some(&editor), 62),
        ("GET", "/admin/users", Some(&editor), 62),
        ("GET", "/admin/logout", Some(&editor), 0),
        ("GET", "/admin/logout", None, 61),
        ("DELETE", "/admin/users", Some(&chief), 0),
        ("GET", "/admin/posts/1", Some(&nobody), 62),
        ("GET", "/admin/logout", Some(&nobody), 0),
    ] {
        let token = token.map(String::as_str);
        assert_eq!(
            code(&layer, method, path, token).await,
            expected,
            "{method} {path}"
        );
    }
    // What is exempt from login passes without an identity, also with a token.
    let (_, told) = send(&layer, request("POST", "/admin/login", Some(&editor))).await;
    assert_eq!(told["id"], Value::Null);
    assert_eq!(told["principal"], Value::Null);
}

#[tokio::test]
async fn the_api_module_asks_for_a_login_alone() {
    let App { api, layer, .. } = app();
    let token = login(&api, "7", None).await;
    assert_eq!(code(&layer, "GET", "/api/orders", None).await, 61);
    assert_eq!(
        code(&layer, "GET", "/api/orders", Some("nonsense")).await,
        61
    );
    assert_eq!(code(&layer, "PUT", "/api/login", None).await, 0);
    let (_, told) = send(&layer, request("DELETE", "/api/orders", Some(&token))).await;
    assert_eq!(told["id"], "7");
    assert_eq!(told["principal"], "3:api:1:7");
}

#[tokio::test]
async fn the_home_module_lets_all_pass_and_notes_who_it_is() {
    let App {
        home, admin, layer, ..
    } = app();
    let token = login(&home, "7", None).await;
    let of = async |token: Option<&str>| send(&layer, request("GET", "/home/x", token)).await.1;
    assert_eq!(of(None).await["id"], Value::Null);
    assert_eq!(of(Some(&token)).await["id"], "7");
    assert_eq!(of(Some("nonsense")).await["id"], Value::Null);
    let elsewhere = login(&admin, "7", None).await;
    assert_eq!(
        of(Some(&elsewhere)).await["id"],
        Value::Null,
        "another app's"
    );
    home.logout(&token).await.unwrap();
    assert_eq!(of(Some(&token)).await["id"], Value::Null);
}

#[tokio::test]
async fn a_websocket_takes_a_token_or_a_ticket_once_and_no_token_in_the_query() {
    let App {
        socket, api, layer, ..
    } = app();
    let token = login(&socket, "7", None).await;
    assert_eq!(code(&layer, "GET", "/socket", None).await, 61);
    assert_eq!(code(&layer, "GET", "/socket", Some(&token)).await, 0);
    for name in ["token", "authorization", "access_token", "ticket", "x"] {
        let uri = format!("/socket?{name}={token}");
        assert_eq!(code(&layer, "GET", &uri, None).await, 61, "{name}");
        assert_eq!(
            code(&layer, "GET", &uri, Some(&token)).await,
            61,
            "{name}, beside the header"
        );
    }
    let ticket = socket.issue_ticket(&token).await.unwrap().ticket;
    let uri = format!("/socket?ticket={ticket}");
    let (_, told) = send(&layer, request("GET", &uri, None)).await;
    assert_eq!(told["id"], "7");
    assert_eq!(code(&layer, "GET", &uri, None).await, 61, "it is used up");
    // In other modules a ticket is nothing, and is not used up there.
    let ticket = socket.issue_ticket(&token).await.unwrap().ticket;
    assert_eq!(
        code(&layer, "GET", &format!("/api/x?ticket={ticket}"), None).await,
        61
    );
    assert_eq!(
        code(&layer, "GET", &format!("/socket?ticket={ticket}"), None).await,
        0
    );
    let token = login(&api, "7", None).await;
    let foreign = api.issue_ticket(&token).await.unwrap().ticket;
    assert_eq!(
        code(&layer, "GET", &format!("/socket?ticket={foreign}"), None).await,
        61
    );
}

#[tokio::test]
async fn a_token_of_one_module_opens_no_other() {
    let App {
        admin, api, layer, ..
    } = app();
    let api_token = login(&api, "7", Some("super")).await;
    assert_eq!(
        code(&layer, "GET", "/admin/users", Some(&api_token)).await,
        61
    );
    let admin_token = login(&admin, "7", Some("super")).await;
    assert_eq!(
        code(&layer, "GET", "/api/orders", Some(&admin_token)).await,
        61
    );
}

#[tokio::test]
async fn what_is_in_no_module_passes() {
    let App { layer, .. } = app();
    for path in [
        "/",
        "/public/x",
        "/administrators",
        "/adm",
        "/x/admin",
        "/100%25",
        "/a%2Fb",
    ] {
        assert_eq!(code(&layer, "GET", path, None).await, 0, "{path}");
    }
    let (status, _) = send(&layer, request("OPTIONS", "*", None)).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn path_tricks_make_no_protected_route_exempt_nor_leave_a_module() {
    let App { admin, layer, .. } = app();
    let editor = login(&admin, "e", Some("editor")).await;
    for path in [
        "//admin/users",
        "/admin//users",
        "/admin/./users",
        "/./admin/users",
        "/public/../admin/users",
        "/admin/login/../users",
        "/admin/open/../users",
        "/admin/open/..%2fusers",
        "/admin/open/%2e%2e/users",
        "/admin/open/%252e%252e/users",
        "/admin/open/..;/users",
        "/admin/open/..%5cusers",
        "/%61dmin/users",
        "/%2561dmin/users",
        "/admin%2Fusers",
        "/admin%252Fusers",
        "/%2Fadmin/users",
        "/admin;x/users",
        "/admin;/users",
        "/;/admin/users",
        "/admin/%6cogin",
        "/admin/login%00",
        "/admin/login%2f",
        "/admin/login;.css",
        "/admin\\users",
        "/ADMIN/users",
        "/Admin/login",
        "/admin/posts/..%2f..%2fadmin/users",
        "/admin/posts/%2e%2e/users",
        "/admin/posts/../users",
        "/admin/posts/1%2f..%2f..%2fusers",
    ] {
        for token in [None, Some(editor.as_str())] {
            let (status, body) = send(&layer, request("POST", path, token)).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(body["code"], 53, "{path}");
        }
    }
    // These have one meaning, and it is not the exempt route.
    for path in [
        "/admin/login/",
        "/admin/LOGIN",
        "/admin/login.css",
        "/admin/login%20",
        "/admin/",
    ] {
        assert_eq!(code(&layer, "POST", path, None).await, 61, "{path}");
        assert_eq!(
            code(&layer, "POST", path, Some(&editor)).await,
            62,
            "{path}"
        );
    }
    assert_eq!(code(&layer, "GET", "/admin/me/", Some(&editor)).await, 62);
    assert_eq!(code(&layer, "GET", "/admin/ME", Some(&editor)).await, 62);
    assert_eq!(code(&layer, "GET", "/admin/posts", Some(&editor)).await, 62);
}

#[tokio::test]
async fn headers_that_name_another_path_or_method_change_nothing() {
    let App { admin, layer, .. } = app();
    let editor = login(&admin, "e", Some("editor")).await;
    for (name, value) in [
        ("x-url-path", "/admin/login"),
        ("x-original-url", "/admin/login"),
        ("x-rewrite-url", "/admin/login"),
        ("x-forwarded-prefix", "/public"),
        ("x-forwarded-uri", "/admin/login"),
        ("x-http-method-override", "POST"),
        ("x-user-id", "1"),
        ("x-role", "super"),
    ] {
        for (token, expected) in [(None, 61), (Some(editor.as_str()), 62)] {
            let mut request = request("GET", "/admin/users", token);
            request.headers_mut().insert(name, value.parse().unwrap());
            let (_, body) = send(&layer, request).await;
            assert_eq!(body["code"], expected, "{name}");
        }
    }
}

#[tokio::test]
async fn a_client_s_identity_headers_are_taken_off() {
    let App { api, layer, .. } = app();
    let names = ["x-user-id", "x-user-role"].map(HeaderName::from_static);
    let layer = layer.with_removed_headers(names);
    let token = login(&api, "7", None).await;
    for (path, token) in [("/api/orders", Some(token.as_str())), ("/public", None)] {
        let mut request = request("GET", path, token);
        for name in [
            "x-user-id",
            "x_user_id",
            "x-user_role",
            "x-user-idea",
            "accept",
        ] {
            request.headers_mut().append(name, "1".parse().unwrap());
        }
        let (_, told) = send(&layer, request).await;
        let left: Vec<&str> = told["headers"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "authorization")
            .collect();
        assert_eq!(left, ["accept", "x-user-idea"], "{path}");
    }
}

#[tokio::test]
async fn services_behind_are_told_who_calls() {
    async fn echo(request: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
        let mut response = Response::new(Full::default());
        *response.headers_mut() = request.headers().clone();
        Ok(response)
    }
    let App { api, layer, .. } = app();
    let names = ["x-user", "x-role"].map(|name| Some(HeaderName::from_static(name)));
    let [user, role] = names;
    let layer = layer.with_identity_headers(user, role);
    let told = async |path: &str, token: Option<&str>| {
        let mut request = request("GET", path, token);
        request
            .headers_mut()
            .insert("x-user", "root".parse().unwrap());
        request
            .headers_mut()
            .insert("x_role", "super".parse().unwrap());
        let response = layer
            .layer(service_fn(echo))
            .oneshot(request)
            .await
            .unwrap();
        let of = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        (of("x-user"), of("x-role"), of("x_role"))
    };
    let editor = login(&api, "José 1%\r\n", Some("editor")).await;
    let expected = (
        Some("Jos%C3%A9%201%25%0D%0A".to_owned()),
        Some("editor".to_owned()),
        None,
    );
    assert_eq!(told("/api/x", Some(&editor)).await, expected);
    let nobody = login(&api, "7", None).await;
    assert_eq!(
        told("/api/x", Some(&nobody)).await,
        (Some("7".to_owned()), None, None)
    );
    assert_eq!(told("/api/login", Some(&nobody)).await, (None, None, None));
    assert_eq!(told("/public", None).await, (None, None, None));
}

#[tokio::test]
async fn refusals_say_what_the_spec_says_in_both_languages() {
    let store = SharedTokenStore::new(MemoryTokenStore::new());
    let keys = TokenKeys::hs256(SECRET).unwrap();
    let builder = Tokens::builder("admin", keys)
        .with_store(store)
        .with_multi_login(false);
    let tokens = builder.build().unwrap();
    let module = Module::admin(tokens.clone(), Roles::new(POLICY.parse().unwrap()));
    let layer = AuthLayer::new([module]).unwrap();
    let first = login(&tokens, "e", Some("editor")).await;
    let second = login(&tokens, "e", Some("editor")).await;
    let told = async |language: &str, token: Option<&str>| {
        let mut request = request("GET", "/admin/users", token);
        request
            .headers_mut()
            .insert(ACCEPT_LANGUAGE, language.parse().unwrap());
        let (status, body) = send(&layer, request).await;
        (
            status.as_u16(),
            body["message"].as_str().unwrap().to_owned(),
        )
    };
    for (language, token, status, text) in [
        ("zh-CN", None, 401, "登录身份已失效，请重新登录！"),
        (
            "en",
            None,
            401,
            "Your login is no longer valid, please log in again!",
        ),
        (
            "zh-CN",
            Some(&first),
            401,
            "账号已在其他地方登录，如非本人操作请及时修改登录密码！",
        ),
        (
            "en",
            Some(&first),
            401,
            "Your account has logged in elsewhere. If that wasn't you, change your password soon!",
        ),
        ("zh-CN", Some(&second), 403, "你没有访问权限！"),
        ("en", Some(&second), 403, "You have no access!"),
    ] {
        let token = token.map(String::as_str);
        assert_eq!(told(language, token).await, (status, text.to_owned()));
    }
}

#[tokio::test]
async fn answers_decide_how_a_refusal_looks_and_the_reason_goes_with_it() {
    let App { layer, .. } = app();
    let refused = async |layer: AuthLayer| {
        let request = request("GET", "/admin/users", None);
        layer
            .layer(service_fn(tell))
            .oneshot(request)
            .await
            .unwrap()
    };
    let response = refused(layer.clone()).await;
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
    let reason = response.extensions().get::<Arc<AuthRejection>>().unwrap();
    assert!(matches!(
        **reason,
        AuthRejection::Token(TokenError::Missing)
    ));
    let answers = Answers::new()
        .with_status_mode(StatusMode::Always200)
        .with_language(Language::ZhCn);
    let response = refused(layer.with_answers(answers)).await;
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
    let note = response.extensions().get::<crate::AnswerNote>().unwrap();
    assert_eq!(note.code, Code::NOT_AUTHORIZED);
    assert_eq!(&*note.message, "登录身份已失效，请重新登录！");
}

async fn by_context(request: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    let context = Context::of(request.extensions()).unwrap();
    let id = context.identity().map(|identity| identity.id.clone());
    Ok(Response::new(Full::new(id.unwrap_or_default().into())))
}

#[tokio::test]
async fn the_context_learns_who_it_is() {
    let App { api, layer, .. } = app();
    let token = login(&api, "7", None).await;
    let service = ContextLayer::new().layer(layer.layer(service_fn(by_context)));
    let response = service
        .oneshot(request("GET", "/api/x", Some(&token)))
        .await
        .unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "7"
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_hangs_is_503_and_lets_nobody_pass() {
    let store = Failing::default();
    let (fails, hangs) = (Arc::clone(&store.fails), Arc::clone(&store.hangs));
    let App {
        api,
        home,
        socket,
        layer,
        ..
    } = app_on(&SharedTokenStore::new(store));
    let token = login(&api, "7", None).await;
    let at_home = login(&home, "7", None).await;
    let socket_token = login(&socket, "7", None).await;
    let ticket = socket.issue_ticket(&socket_token).await.unwrap().ticket;
    let with_ticket = format!("/socket?ticket={ticket}");
    for flag in [&fails, &hangs] {
        flag.store(true, Ordering::SeqCst);
        for (path, token) in [
            ("/api/orders", Some(&token)),
            ("/home/x", Some(&at_home)),
            (with_ticket.as_str(), None),
        ] {
            let token = token.map(String::as_str);
            let (status, body) = send(&layer, request("GET", path, token)).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert_eq!(body["code"], 63, "{path}");
        }
        // Nobody has to ask the store for these.
        assert_eq!(code(&layer, "GET", "/api/orders", None).await, 61);
        assert_eq!(code(&layer, "GET", "/home/x", None).await, 0);
        flag.store(false, Ordering::SeqCst);
    }
    assert_eq!(code(&layer, "GET", "/api/orders", Some(&token)).await, 0);
}

#[tokio::test]
async fn policies_change_while_the_service_runs() {
    let App {
        admin,
        roles,
        layer,
        ..
    } = app();
    let editor = login(&admin, "e", Some("editor")).await;
    assert_eq!(code(&layer, "GET", "/admin/users", Some(&editor)).await, 62);
    roles.replace("p, editor, /admin/users, GET".parse().unwrap());
    assert_eq!(code(&layer, "GET", "/admin/users", Some(&editor)).await, 0);
    assert_eq!(
        code(&layer, "GET", "/admin/posts/1", Some(&editor)).await,
        62
    );
}

#[tokio::test]
async fn policy_paths_can_begin_behind_the_prefix() {
    let tokens = tokens_of("admin", &SharedTokenStore::new(MemoryTokenStore::new()));
    let roles = Roles::new("p, editor, /posts/*, .*\np, editor, /, .*".parse().unwrap());
    let module = Module::admin(tokens.clone(), roles);
    let layer = AuthLayer::new([module.with_policy_paths(PolicyPaths::BehindPrefix)]).unwrap();
    let editor = login(&tokens, "e", Some("editor")).await;
    for (path, expected) in [
        ("/admin/posts/1", 0),
        ("/admin", 0),
        ("/admin/", 0),
        ("/admin/users", 62),
        ("/admin/admin/posts/1", 62),
    ] {
        assert_eq!(
            code(&layer, "GET", path, Some(&editor)).await,
            expected,
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_longest_prefix_counts_and_routes_go_before_prefixes() {
    let store = SharedTokenStore::new(MemoryTokenStore::new());
    let of = |name: &str| tokens_of(name, &store);
    let all = Module::new("all", Steps::Login, of("all"))
        .with_prefix("/")
        .unwrap();
    let site = Module::new("site", Steps::Optional, of("site"))
        .with_prefix("/site")
        .unwrap();
    let inner = Module::new("inner", Steps::Login, of("inner"))
        .with_prefix("/site/own")
        .unwrap();
    let reports = Module::new("reports", Steps::Optional, of("reports"))
        .with_routes(["GET /site/own/reports/{id}", "/files/{*rest}"])
        .unwrap();
    let layer = AuthLayer::new([all, site, inner, reports]).unwrap();
    for (method, path, expected) in [
        ("GET", "/", 61),
        ("GET", "/x", 61),
        ("GET", "/sites", 61),
        ("GET", "/site", 0),
        ("GET", "/site/x", 0),
        ("GET", "/site/own", 61),
        ("GET", "/site/own/x", 61),
        ("GET", "/site/own/reports/1", 0),
        ("HEAD", "/site/own/reports/1", 0),
        ("get", "/site/own/reports/1", 53),
        ("POST", "/site/own/reports/1", 61),
        ("GET", "/site/own/reports/1/x", 61),
        ("GET", "/files/a/b", 0),
        ("GET", "/files", 0),
        // Another spelling gets no laxer module than its own.
        ("GET", "/SITE/x", 53),
        ("GET", "/Site/own/x", 53),
        ("GET", "/site/OWN/x", 53),
        ("GET", "/site/own/Reports/1", 53),
        ("GET", "/FILES/a", 53),
        ("GET", "/files%2fa", 53),
        ("GET", "/site/own/reports/1%2fx", 53),
        ("GET", "/site/own/reports//1", 53),
        ("GET", "/site/own/reports/1/", 53),
        ("GET", "/site;x/y", 53),
    ] {
        assert_eq!(
            code(&layer, method, path, None).await,
            expected,
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn a_protected_route_has_no_spelling_that_is_free() {
    let tokens = tokens_of("reports", &SharedTokenStore::new(MemoryTokenStore::new()));
    let module = Module::new("reports", Steps::Login, tokens)
        .with_routes(["/reports", "/reports/{id}/%C3%A4", "GET /users/{id}"])
        .unwrap();
    let layer = AuthLayer::new([module]).unwrap();
    for (path, expected) in [
        ("/reports", 61),
        ("/reports/1/%C3%A4", 61),
        ("/reports/1/%c3%a4", 61),
        ("/users/1", 61),
        ("/users/a%20b", 61),
        ("/reports/", 53),
        ("/Reports", 53),
        ("/reports;x", 53),
        ("/reports;", 53),
        ("/%72eports", 53),
        ("//reports", 53),
        ("/reports/1%2f2/%C3%A4", 53),
        ("/users/1%2f2", 53),
        ("/users/1%252f2", 53),
        ("/users/1;x", 53),
        ("/free", 0),
        ("/free/%20", 0),
        ("/free/", 0),
    ] {
        assert_eq!(code(&layer, "GET", path, None).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_route_that_is_protected_by_method_has_no_other_spelling_of_it() {
    let tokens = tokens_of("reports", &SharedTokenStore::new(MemoryTokenStore::new()));
    let module = Module::new("reports", Steps::Login, tokens)
        .with_routes(["GET /reports", "DELETE,PURGE /reports"])
        .unwrap();
    let layer = AuthLayer::new([module]).unwrap();
    for (method, expected) in [
        ("GET", 61),
        ("HEAD", 61),
        ("DELETE", 61),
        ("PURGE", 61),
        ("get", 53),
        ("Head", 53),
        ("purge", 53),
        ("POST", 0),
        ("post", 0),
    ] {
        assert_eq!(
            code(&layer, method, "/reports", None).await,
            expected,
            "{method}"
        );
    }
}

/// The principal is whose key it is; who is logged out gets no replay.
#[tokio::test]
async fn idempotency_inside_keeps_callers_apart_and_replays_for_who_may_see_it() {
    let App { api, layer, .. } = app();
    let executed = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&executed);
    let service = layer.layer(
        onlyonce::IdempotencyLayer::new(onlyonce_memory::MemoryStore::new()).layer(service_fn(
            move |_: Request<onlyonce::http::RequestBody<Full<Bytes>>>| {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                async move {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(number.to_string()))))
                }
            },
        )),
    );
    let alice = login(&api, "alice", None).await;
    let again = login(&api, "alice", None).await;
    let bob = login(&api, "bob", None).await;
    let pay = async |token: &str| {
        let request = Request::post("/api/pay")
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header("idempotency-key", "k1")
            .body(Full::new(Bytes::from_static(b"100")))
            .unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(pay(&alice).await, (200, "1".to_owned()));
    assert_eq!(
        pay(&bob).await,
        (200, "2".to_owned()),
        "another caller's key is another key"
    );
    assert_eq!(
        pay(&again).await,
        (200, "1".to_owned()),
        "the same caller by another token"
    );
    api.logout(&alice).await.unwrap();
    assert_eq!(pay(&alice).await.0, 401, "no replay for who is logged out");
    assert_eq!(executed.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_router_that_shortens_paths_can_say_what_was_asked_for() {
    use axum::extract::OriginalUri;
    let App { layer, .. } = app();
    let mut nested = request("GET", "/users", None);
    nested
        .extensions_mut()
        .insert(OriginalUri("/admin/users".parse().unwrap()));
    let (_, body) = send(&layer, nested.clone()).await;
    assert_eq!(body["path"], "/users", "it can't know");
    let layer = layer.with_target(|extensions| {
        let OriginalUri(uri) = extensions.get()?;
        Some(uri.clone())
    });
    let (status, _) = send(&layer, nested).await;
    assert_eq!(status, 401);
    assert_eq!(code(&layer, "GET", "/admin/users", None).await, 61);
}

#[test]
fn modules_that_cannot_work_are_refused() {
    let tokens = || tokens_of("x", &SharedTokenStore::new(MemoryTokenStore::new()));
    let roles = || Roles::new(RolePolicy::new());
    let text = |result: Result<Module, ModuleError>| result.unwrap_err().to_string();
    for prefix in [
        "", "admin", "/admin/", "/a//b", "/a/../b", "/%61", "/a b", "/{x}", "/a;b",
    ] {
        let error = Module::api(tokens()).with_prefix(prefix).unwrap_err();
        assert_eq!(error, ModuleError::Prefix(prefix.to_owned()));
    }
    assert_eq!(
        text(Module::api(tokens()).with_login_exempt(["/login"])),
        "route \"/login\" lies outside of the module's prefix \"/api\": it has no effect"
    );
    assert_eq!(
        text(Module::api(tokens()).with_login_exempt(["/api//login"])),
        "route \"/api//login\": no path would ever match: it has an empty part"
    );
    assert_eq!(
        text(Module::api(tokens()).with_permission_exempt(["/api/x"])),
        "the module \"api\" has no roles, so nothing is exempt from them"
    );
    assert_eq!(
        text(Module::home(tokens()).with_login_exempt(["/home/x"])),
        "the module \"home\" asks for no login, so nothing is exempt from it"
    );
    let same = [
        Module::api(tokens()),
        Module::new("other", Steps::Login, tokens())
            .with_prefix("/API")
            .unwrap(),
    ];
    let error = AuthLayer::new(same).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the modules \"api\" and \"other\" have the same prefix"
    );
    let error = AuthLayer::new([Module::api(tokens()), Module::api(tokens())]).unwrap_err();
    assert_eq!(error.to_string(), "there are two modules \"api\"");
    assert!(
        Module::admin(tokens(), roles())
            .with_permission_exempt(["/admin/x"])
            .is_ok()
    );
}

#[tokio::test]
async fn hazard_32_principals_of_crafted_names_do_not_collide() {
    let store = SharedTokenStore::new(MemoryTokenStore::new());
    let mut seen = std::collections::HashSet::new();
    for (app, user) in [
        ("a", "1:1:b"),
        ("a:1", "b"),
        ("a:5", "1:1:b"),
        ("1:a", "b"),
        ("a", "b"),
    ] {
        let tokens = tokens_of(app, &store);
        let module = Module::new("m", Steps::Login, tokens.clone())
            .with_prefix("/m")
            .unwrap();
        let layer = AuthLayer::new([module]).unwrap();
        let token = login(&tokens, user, None).await;
        let (_, told) = send(&layer, request("GET", "/m", Some(&token))).await;
        assert!(seen.insert(told["principal"].to_string()), "{told}");
    }
}

#[tokio::test]
async fn the_service_that_was_made_ready_is_the_one_that_is_called() {
    /// Panics when it is called without having been made ready.
    #[derive(Clone, Default)]
    struct Strict {
        ready: bool,
    }
    struct Fresh(Strict);
    impl Clone for Fresh {
        fn clone(&self) -> Self {
            Self(Strict::default())
        }
    }
    impl Service<Request<()>> for Fresh {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            self.0.ready = true;
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            assert!(self.0.ready);
            std::future::ready(Ok(Response::default()))
        }
    }
    let App { api, layer, .. } = app();
    let token = login(&api, "7", None).await;
    let mut service = layer.layer(Fresh(Strict::default()));
    for _ in 0..3 {
        let ready = service.ready().await.unwrap();
        let response = ready
            .call(request("GET", "/api/x", Some(&token)))
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
    }
}

/// A path out of pieces that have tricked others.
fn tricky_path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", "admin", "open", "login", "users", "posts", "Admin", ".", "..", ";", "\\",
        "%2f", "%2e", "%2e%2e", "%61", "%3b", "%25", "%252e", "%252f", "a", "%5c", "%c3%a4", "%00",
    ]);
    prop::collection::vec(piece, 0..10).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// Whatever passes without a login reads, for a server that undoes every disguise, as exempt
    /// or as outside of the modules.
    #[test]
    fn nothing_protected_passes_without_a_login(path in tricky_path()) {
        let Ok(uri) = path.parse::<http::Uri>() else { return Ok(()) };
        prop_assume!(uri.path() == path);
        static LAYER: std::sync::LazyLock<AuthLayer> = std::sync::LazyLock::new(|| app().layer);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let passed = runtime.block_on(code(&LAYER, "POST", &path, None)) == 0;
        if passed {
            // An independent server: decodes, cuts, resolves, folds.
            let mut text = path.to_ascii_lowercase();
            for _ in 0..4 {
                for (escape, plain) in [
                    ("%25", "%"), ("%2f", "/"), ("%2e", "."), ("%61", "a"), ("%3b", ";"),
                    ("%5c", "\\"), ("%00", "\0"),
                ] {
                    text = text.replace(escape, plain);
                }
            }
            let mut parts: Vec<&str> = Vec::new();
            for part in text.split(['/', '\\']) {
                match part.split([';', '\0']).next().unwrap() {
                    "" | "." => {}
                    ".." => { parts.pop(); }
                    part => parts.push(part),
                }
            }
            let is_free = parts.first() != Some(&"admin");
            let is_exempt = parts == ["admin", "login"] || parts.starts_with(&["admin", "open"]);
            prop_assert!(is_free || is_exempt, "{path} reads {parts:?}");
        }
    }
}

#[test]
fn an_app_s_method_has_no_say_in_whether_a_prefix_holds() {
    // A method of one's own is no way around.
    let App { layer, .. } = app();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for method in ["BREW", "get", "CONNECT-ME", Method::OPTIONS.as_str()] {
        let code = runtime.block_on(code(&layer, method, "/admin/users", None));
        assert_eq!(code, 61, "{method}");
    }
}
