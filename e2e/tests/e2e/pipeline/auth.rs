//! Who calls, and what they may do.

use onlyonce_e2e::{Gateway, Home, Settings, Upstream};
use onlyonce_pipeline::auth::{TokenKeys, Tokens};
use onlyonce_pipeline::context::Identity;

const SECRET: &str = "Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge";
const POLICY: &str = "p, editor, /admin/posts/*, (GET)|(POST)\n";

fn auth(more: &str) -> String {
    format!(
        "secret = \"{SECRET}\"\nstate = \"off\"\nroles = \"{{folder}}/roles.csv\"\n\
         super_roles = [\"super\"]\nuser_header = \"x-user\"\n{more}"
    )
}

async fn gateway(upstream: &Upstream) -> Gateway {
    let modules = "module = [{ name = \"admin\", login_exempt = [\"POST /admin/login\"] }, \
                   { name = \"api\" }]";
    let settings = Settings::before(upstream)
        .in_memory()
        .section("auth", &auth(modules));
    let home = Home::new(&settings);
    std::fs::write(home.path().join("roles.csv"), POLICY).unwrap();
    home.start().await
}

async fn token(app: &str, user: &str, role: &str) -> String {
    let keys = TokenKeys::hs256(SECRET.as_bytes()).unwrap();
    let tokens = Tokens::builder(app, keys).build().unwrap();
    let identity = Identity::new(user, app).with_role(role);
    tokens.login(&identity).await.unwrap().token
}

#[tokio::test]
async fn roles_decide_who_does_what() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream).await;
    let editor = token("admin", "eve", "editor").await;
    let boss = token("admin", "bob", "super").await;
    let of_api = token("api", "till", "").await;
    let get = |path: &str, token: &str| {
        gateway
            .get(path)
            .header("authorization", format!("Bearer {token}"))
            .send()
    };
    assert_eq!(gateway.get("/admin/posts/1").send().await.status, 401);
    assert_eq!(get("/admin/posts/1", &editor).await.status, 201);
    assert_eq!(upstream.last().header("x-user"), Some("eve"));
    let denied = get("/admin/users", &editor).await;
    assert_eq!((denied.status, &denied.json()["code"]), (403, &62.into()));
    assert_eq!(get("/admin/users", &boss).await.status, 201);
    assert_eq!(
        get("/admin/posts/1", &of_api).await.status,
        401,
        "another app's token"
    );
    assert_eq!(get("/api/x", &of_api).await.status, 201);
    assert_eq!(gateway.post("/admin/login").send().await.status, 201);
    assert_eq!(gateway.get("/else").send().await.status, 201);
    // A client's own word on who it is is taken off.
    gateway.get("/else").header("x-user", "root").send().await;
    assert_eq!(upstream.last().header("x-user"), None);
}

#[tokio::test]
async fn no_spelling_of_a_path_is_a_way_around() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream).await;
    let before = upstream.total();
    for path in [
        "//admin/users",
        "/admin//users",
        "/./admin/users",
        "/x/../admin/users",
        "/admin/login/../users",
        "/admin/login/",
        "/%61dmin/users",
        "/admin%2fusers",
        "/ADMIN/users",
        "/admin;x/users",
        "/admin/login;/users",
        "/admin/%2e%2e/admin/users",
        "/admin/%252e%252e/users",
        "/admin\\users",
    ] {
        for method in [http::Method::GET, http::Method::POST] {
            let answer = gateway
                .call(method.clone(), path)
                .header("x-url-path", "/admin/login")
                .header("x-original-url", "/admin/login")
                .send()
                .await;
            assert!(
                matches!(answer.status, 400 | 401),
                "{method} {path}: {}",
                answer.status
            );
        }
    }
    assert_eq!(upstream.total(), before);
}

#[tokio::test]
async fn a_key_belongs_to_who_is_logged_in() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream).await;
    let post = |token: String| {
        let call = gateway.post("/api/orders").key("k");
        call.header("authorization", format!("Bearer {token}"))
            .send()
    };
    let (one, other) = (
        token("api", "one", "").await,
        token("api", "other", "").await,
    );
    assert!(!post(one.clone()).await.is_replay());
    assert!(!post(other).await.is_replay());
    assert!(post(one).await.is_replay());
    // A new token of the same caller finds the same record.
    assert!(post(token("api", "one", "").await).await.is_replay());
    assert_eq!(upstream.total(), 2);
    // And nobody sees a replay without a login.
    assert_eq!(
        gateway.post("/api/orders").key("k").send().await.status,
        401
    );
}
