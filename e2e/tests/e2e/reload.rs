//! New settings while the gateway runs.

use http::Method;
use onlyonce_e2e::tls::SelfSigned;
use onlyonce_e2e::{Answer, Gateway, Home, Settings, Upstream, eventually};
use rustix::process::Signal;

async fn is_protected(gateway: &Gateway, path: &str) -> bool {
    let call = || gateway.post(path).key("a").send();
    let (first, second) = (call().await, call().await);
    assert_eq!((first.status, second.status), (201, 201));
    first.body == second.body
}

async fn reload(gateway: &Gateway) -> Answer {
    gateway.admin(Method::POST, "/-/reload").send().await
}

#[tokio::test]
async fn sighup_takes_up_new_routes() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    assert!(is_protected(&gateway, "/one").await);
    let settings = Settings::before(&upstream).in_memory();
    let settings = settings.route("path = \"/two\"\nidempotency = false");
    gateway.home().write(&settings);
    gateway.signal(Signal::HUP);
    gateway.logs("settings reloaded").await;
    assert!(!is_protected(&gateway, "/two").await);
    assert!(
        is_protected(&gateway, "/one").await,
        "as before, and from before"
    );
}

#[tokio::test]
async fn a_request_keeps_what_was_there_when_it_came() {
    let (old, gate) = Upstream::gated().await;
    let new = Upstream::answering(|_| onlyonce_e2e::Reply::new(201).body("new")).await;
    let gateway = Gateway::start(Settings::before(&old)).await;
    let running = tokio::spawn(gateway.post("/").key("a").send());
    gate.arrived(1).await;
    gateway.home().write(&Settings::before(&new));
    assert_eq!(reload(&gateway).await.status, 200);
    assert_eq!(gateway.post("/").key("b").send().await.text(), "new");
    gate.open();
    assert_eq!(running.await.unwrap().text(), "1");
    assert!(gateway.post("/").key("a").send().await.is_replay());
}

#[tokio::test]
async fn bad_settings_change_nothing_and_are_named() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    let file = gateway.home().config();
    let good = std::fs::read_to_string(&file).unwrap();
    // A good change before the bad one: whole, or not at all.
    let bad = format!("{good}\n[[route]]\npath = \"/two\"\nidempotency = false\n[idempotencyy]\n");
    std::fs::write(&file, bad).unwrap();
    let refused = reload(&gateway).await;
    assert_eq!(refused.status, 422);
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("the old settings stay"), "{detail}");
    assert!(
        detail.contains("idempotencyy") && detail.contains("idempotency"),
        "{detail}"
    );
    assert!(is_protected(&gateway, "/two").await);

    gateway.signal(Signal::HUP);
    let line = gateway
        .logs("settings not reloaded, the old ones stay")
        .await;
    assert!(line.contains("idempotencyy"), "{line}");
    assert!(is_protected(&gateway, "/two").await);

    std::fs::remove_file(&file).unwrap();
    assert_eq!(reload(&gateway).await.status, 422);
    assert!(is_protected(&gateway, "/two").await);

    std::fs::write(&file, good).unwrap();
    assert_eq!(reload(&gateway).await.status, 200);
}

#[tokio::test]
async fn what_only_a_restart_changes_is_said() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    let settings = Settings::before(&upstream)
        .section("limits", "max_connections = 7")
        .idempotency("secret = \"0123456789abcdef\"");
    gateway.home().write(&settings);
    let answer = reload(&gateway).await;
    assert_eq!(answer.status, 200);
    let notes = answer.json()["notes"].to_string();
    for what in ["[store]", "[limits]", "`secret` of [idempotency]"] {
        assert!(
            notes.contains(&format!("{what} changes with the next start")),
            "{notes}"
        );
    }
    assert!(is_protected(&gateway, "/").await);
}

#[tokio::test]
async fn auth_is_not_switched_on_without_its_sessions() {
    let upstream = Upstream::counting().await;
    let settings = || Settings::before(&upstream).in_memory();
    let auth = "secret = \"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge\"\nmodule = [{ name = \"api\" }]\n";
    let gateway = Gateway::start(settings()).await;
    let with_state = format!("{auth}state = \"memory:\"");
    gateway
        .home()
        .write(&settings().section("auth", &with_state));
    let refused = reload(&gateway).await;
    assert!(refused.status >= 400, "{refused:?}");
    assert!(
        refused.text().contains("start the gateway anew"),
        "{refused:?}"
    );
    assert_eq!(gateway.get("/api/x").send().await.status, 201);
    // Tokens that nobody keeps need no sessions.
    gateway.home().write(&settings().section("auth", auth));
    assert_eq!(reload(&gateway).await.status, 200);
    assert_eq!(gateway.get("/api/x").send().await.status, 401);
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream).in_memory();
    let home = Home::new(&settings);
    let old = SelfSigned::in_home(&home);
    home.write(&settings.section("tls", &old.lines()));
    let gateway = home.start().await;
    let with = |tls: &SelfSigned| gateway.post("/").tls(tls.client(&[])).try_send();
    assert_eq!(with(&old).await.unwrap().status, 201);
    // The same files, with others in them.
    let new = SelfSigned::in_home(&home);
    assert!(with(&new).await.is_err(), "not taken up yet");
    gateway.signal(Signal::HUP);
    eventually("the new certificate", || async { with(&new).await.ok() }).await;
    assert!(with(&old).await.is_err());
    // One that can't be used changes nothing.
    std::fs::write(&new.key, "no key").unwrap();
    let refused = reload(&gateway).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert_eq!(with(&new).await.unwrap().status, 201);
}

#[tokio::test]
async fn the_level_of_the_log_changes_while_it_runs() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream).in_memory();
    let gateway = Gateway::start(settings.clone()).await;
    gateway
        .home()
        .write(&settings.section("log", "level = \"debug\""));
    reload(&gateway).await;
    gateway.post("/").key("a").body("1").send().await;
    gateway.post("/").key("a").body("2").send().await;
    let line = gateway.logs("\"DEBUG\"").await;
    assert!(line.contains("refused"), "{line}");
}
