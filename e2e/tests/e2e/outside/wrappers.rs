//! What goes around a shared store: the near cache, encryption, the breaker.

use std::path::Path;

use http::Method;
use onlyonce_e2e::{Answer, Gateway, Home, Reply, Settings, Upstream, eventually};
use onlyonce_servers::redis::{Redis, start_redis_with};
use rustix::process::Signal;

const SECRET: &str = "secret = \"0123456789abcdef\"";

fn on(redis: &Redis, upstream: &Upstream) -> Settings {
    Settings::before(upstream)
        .store(redis.url())
        .idempotency(SECRET)
}

async fn post(gateway: &Gateway, key: &str) -> Answer {
    gateway.post("/charges").key(key).body("10").send().await
}

/// How many scripts the server has run.
fn scripts(redis: &Redis) -> String {
    let stats = redis.client().command(&["INFO", "commandstats"]);
    let runs = stats
        .text()
        .lines()
        .find(|line| line.starts_with("cmdstat_evalsha:"));
    let calls = runs.and_then(|line| line.split(',').next());
    calls.unwrap_or("none").to_owned()
}

/// Replays until one needs no script: announcements come in from then on.
async fn warm_up(gateway: &Gateway, redis: &Redis, key: &str) {
    eventually("a replay without a round trip", || async {
        let before = scripts(redis);
        assert!(post(gateway, key).await.is_replay());
        (scripts(redis) == before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_hot_replay_needs_no_store_and_a_forgotten_record_is_gone_on_every_gateway() {
    let redis = start_redis_with(&[]);
    let upstream = Upstream::counting().await;
    let [one, two] = [
        Gateway::start(on(&redis, &upstream)).await,
        Gateway::start(on(&redis, &upstream)).await,
    ];
    assert_eq!(post(&one, "a").await.text(), "1");
    for gateway in [&one, &two] {
        warm_up(gateway, &redis, "a").await;
    }
    let before = scripts(&redis);
    for gateway in [&one, &two] {
        let replay = post(gateway, "a").await;
        assert!(replay.is_replay() && replay.text() == "1", "{replay:?}");
    }
    assert_eq!(scripts(&redis), before);
    assert_eq!(upstream.total(), 1);
    // Another request under the key is told from a retry there too.
    let other = one.post("/charges").key("a").body("11").send().await;
    assert_eq!((other.status, scripts(&redis)), (422, before));

    let id = one.only_record().await["id"].as_str().unwrap().to_owned();
    one.command(["keys", "forget", &id]).await.good();
    let anew = eventually("the end of the other gateway's copy", || async {
        let answer = post(&two, "a").await;
        (!answer.is_replay()).then_some(answer)
    })
    .await;
    assert_eq!((anew.status, anew.text()), (201, "2"));
    assert_eq!(post(&one, "a").await.text(), "2");
    assert_eq!(upstream.total(), 2);
}

const KEYS: [&str; 2] = [
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
    "HxAdHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=\n",
];
const PLAIN: &str = "4242 4242 4242 4242";

fn sealing(settings: Settings, encryption: &str) -> Settings {
    settings.section("store", &format!("encryption = {encryption}"))
}

/// Whether any file in the folder, or below it, holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        // A socket, or a file that is gone by now.
        let content = std::fs::read(&path).unwrap_or_default();
        content.windows(bytes.len()).any(|window| window == bytes)
    })
}

#[tokio::test]
async fn hazard_34_what_the_store_writes_holds_no_response_and_keys_can_be_changed() {
    let redis = start_redis_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let upstream = Upstream::answering(|request| {
        Reply::new(201).body(format!("{PLAIN}, number {}", request.number))
    })
    .await;
    let settings = on(&redis, &upstream);
    let first = "{ active = \"k1\", keys = { k1 = { file = \"k1.key\" } } }";
    let home = Home::new(&sealing(settings.clone(), first));
    for (name, key) in ["k1.key", "k2.key"].into_iter().zip(KEYS) {
        std::fs::write(home.path().join(name), key).unwrap();
    }
    let gateway = home.start().await;
    let answer = post(&gateway, "a").await;
    assert!(answer.text().starts_with(PLAIN), "{answer:?}");
    let replay = post(&gateway, "a").await;
    assert!(replay.is_replay() && replay.body == answer.body);
    // The label is there, in clear: what is searched is what was written.
    assert!(holds(redis.folder(), b"POST /charges"));
    assert!(!holds(redis.folder(), PLAIN.as_bytes()));

    let both =
        "{ active = \"k2\", keys = { k1 = { file = \"k1.key\" }, k2 = { file = \"k2.key\" } } }";
    home.write(&sealing(settings.clone(), both));
    gateway.signal(Signal::HUP);
    gateway.logs("settings reloaded").await;
    let old = post(&gateway, "a").await;
    assert!(old.is_replay() && old.body == answer.body);
    assert!(post(&gateway, "b").await.text().ends_with("number 2"));
    assert!(holds(redis.folder(), b"k2"));
    assert!(!holds(redis.folder(), PLAIN.as_bytes()));

    // A node that has not heard of the new key fails closed, and says which it is.
    let behind = Home::new(&sealing(settings, first));
    std::fs::write(behind.path().join("k1.key"), KEYS[0]).unwrap();
    let behind = behind.start().await;
    assert!(post(&behind, "a").await.is_replay());
    let refused = post(&behind, "b").await;
    assert_eq!(refused.problem().as_deref(), Some("store-unavailable"));
    behind.logs("`k2`").await;
    assert_eq!(upstream.total(), 2);
}

#[tokio::test]
async fn what_is_scrubbed_reaches_the_first_client_alone() {
    let redis = start_redis_with(&[]);
    let upstream = Upstream::answering(|_| {
        let reply = Reply::new(201).header("set-cookie", "session=1");
        let reply = reply.header("content-type", "application/json");
        reply.body("{\"id\": 1.10, \"token\":\"t\"}")
    })
    .await;
    let scrub = "scrub = [\"Set-Cookie\", \"/token\"]\ncompression = \"lz4\"";
    let gateway = Gateway::start(on(&redis, &upstream).section("store", scrub)).await;
    let first = post(&gateway, "a").await;
    assert_eq!(first.header("set-cookie"), Some("session=1"));
    assert_eq!(first.text(), "{\"id\": 1.10, \"token\":\"t\"}");
    for _ in 0..2 {
        let replay = post(&gateway, "a").await;
        assert!(replay.is_replay());
        assert_eq!(replay.header("set-cookie"), None);
        assert_eq!(replay.text(), "{\"id\": 1.10, \"token\":null}");
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_not_waited_for_and_found_again() {
    let mut redis = start_redis_with(&["--appendonly", "yes"]);
    let upstream = Upstream::counting().await;
    let settings = on(&redis, &upstream).section(
        "store",
        "breaker_failures = 3\nbreaker_open_for = \"3s\"\nnear_cache = \"off\"",
    );
    let gateway = Gateway::start(settings).await;
    assert_eq!(post(&gateway, "a").await.text(), "1");
    redis.kill();
    let refused = eventually("the breaker to open", || async {
        let answer = post(&gateway, "b").await;
        assert_eq!(answer.problem().as_deref(), Some("store-unavailable"));
        let told = answer
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap();
        (told > 1).then_some(answer)
    })
    .await;
    assert_eq!(refused.status, 503);
    let metrics = gateway.admin(Method::GET, "/metrics").send().await;
    let refusals = "onlyonce_store_refused_total{operation=\"claim\"}";
    assert!(metrics.text().contains(refusals), "{}", metrics.text());
    assert_eq!(upstream.total(), 1);
    // Requests without a key need no store.
    assert_eq!(gateway.get("/").send().await.status, 201);
    redis.start();
    let found = eventually("the store again", || async {
        let answer = post(&gateway, "c").await;
        (answer.status == 201).then_some(answer)
    })
    .await;
    assert_eq!(found.text(), "3");
    assert_eq!(post(&gateway, "a").await.text(), "1");
}
