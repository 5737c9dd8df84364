//! What all who share a store have to agree on, and what is said before the first request.

use http::Method;
use onlyonce_e2e::{Gateway, Home, Settings, Upstream};
use onlyonce_servers::postgres::start_postgres;
use onlyonce_servers::redis::start_redis_with;

/// Nobody was given a secret: all go by the store's own, and whoever brings another is turned away.
async fn agrees(store: &str) {
    let upstream = Upstream::counting().await;
    let settings = || Settings::before(&upstream).store(store);
    let (one, two) = (
        Gateway::start(settings()).await,
        Gateway::start(settings()).await,
    );
    let first = one.post("/charges").key("a").body("10").send().await;
    let retry = two.post("/charges").key("a").body("10").send().await;
    assert_eq!(first.status, 201);
    assert!(retry.is_replay(), "{retry:?}");
    assert_eq!(upstream.total(), 1);

    let other = settings().idempotency("secret = \"0123456789abcdef\"");
    let other = Home::new(&other);
    for command in ["serve", "check"] {
        let finished = other.run([command]).await;
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let said = &finished.err;
        assert!(said.contains("a secret of its own"), "{said}");
        assert!(said.contains("Take the secret out of"), "{said}");
    }
    let checked = Home::new(&settings()).run(["check"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_without_a_secret_go_by_the_one_that_redis_keeps() {
    let redis = start_redis_with(&[]);
    agrees(&redis.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_without_a_secret_go_by_the_one_that_postgresql_keeps() {
    let server = start_postgres();
    agrees(&format!("{}?migrate=auto", server.url())).await;
}

#[tokio::test]
async fn check_names_what_a_user_of_redis_lacks_and_what_may_cost_records() {
    let redis = start_redis_with(&[]);
    let rules = "on >hunter2 ~oo:* resetchannels &oo:* +@all -role";
    let words = ["ACL", "SETUSER", "app"].into_iter();
    let words: Vec<&str> = words.chain(rules.split(' ')).collect();
    redis.client().expect_ok(&words);
    let upstream = Upstream::counting().await;
    let url = format!("redis://app:hunter2@{}", redis.address());
    let home = Home::new(&Settings::before(&upstream).store(url));
    for command in ["check", "serve"] {
        let finished = home.run([command]).await;
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let said = &finished.err;
        assert!(said.contains("run ROLE: add to its ACL `+role`"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    redis
        .client()
        .expect_ok(&["ACL", "SETUSER", "app", "+role"]);
    let finished = home.run(["check"]).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let said = &finished.err;
    assert!(said.contains("warning: Redis at"), "{said}");
    assert!(said.contains("set `appendonly yes`"), "{said}");
}

/// Whoever looks at the metrics page is told what each of them is.
#[tokio::test]
async fn every_metric_has_a_help_text() {
    let redis = start_redis_with(&["--appendonly", "yes"]);
    let upstream = Upstream::counting().await;
    let encryption = "encryption = { active = \"k1\", keys = { k1 = { file = \"k1.key\" } } }";
    let settings = Settings::before(&upstream).store(redis.url());
    let home = Home::new(&settings.section("store", encryption));
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    std::fs::write(home.path().join("k1.key"), key).unwrap();
    let gateway = home.start().await;
    for expected in [false, true] {
        let answer = gateway.post("/").key("a").body("10").send().await;
        assert_eq!(answer.is_replay(), expected, "{answer:?}");
    }
    let page = gateway.admin(Method::GET, "/metrics").send().await;
    let page = page.text();
    let named = |mark: &str| -> Vec<&str> {
        let lines = page.lines().filter_map(|line| line.strip_prefix(mark));
        let names = lines.filter_map(|line| line.split(' ').next());
        names.filter(|name| name.starts_with("onlyonce_")).collect()
    };
    let (measured, explained) = (named("# TYPE "), named("# HELP "));
    for name in ["onlyonce_near_claims_total", "onlyonce_records"] {
        assert!(measured.contains(&name), "{page}");
    }
    assert!(
        page.contains("onlyonce_sealed_opened_total{key=\"k1\"} 1"),
        "{page}"
    );
    for name in measured {
        assert!(explained.contains(&name), "{name}: {page}");
    }
}
