//! Whose key it is: nobody gets, disturbs, or learns of another's.

use http::Method;
use onlyonce_e2e::{Gateway, Reply, Settings, Upstream};

/// Answers who asked, as far as it can tell.
async fn echoing() -> Upstream {
    Upstream::answering(|request| {
        let who = ["authorization", "x-user", "x-tenant"];
        let who = who
            .iter()
            .find_map(|name| request.header(name))
            .unwrap_or("nobody");
        Reply::new(201).body(format!("{who} {}", request.number))
    })
    .await
}

#[tokio::test]
async fn hazard_31_two_credentials_with_one_key_are_two_requests() {
    let upstream = echoing().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let by = |who: &str, body: &'static str| {
        gateway
            .post("/charges")
            .key("a")
            .header("authorization", who)
            .body(body)
            .send()
    };
    let alice = by("Bearer alice", "10").await;
    // The same request, then another one: he learns nothing of hers.
    let bob = by("Bearer bob", "10").await;
    let carol = by("Bearer carol", "99").await;
    assert_eq!(alice.text(), "Bearer alice 1");
    assert_eq!(bob.text(), "Bearer bob 2");
    assert_eq!((carol.status, carol.text()), (201, "Bearer carol 3"));
    assert!(!bob.is_replay() && !carol.is_replay());
    assert_eq!(by("Bearer alice", "10").await.text(), "Bearer alice 1");
    assert_eq!(by("Bearer bob", "10").await.text(), "Bearer bob 2");
    // Nor does somebody without any credential.
    let nobody = gateway.post("/charges").key("a").body("10").send().await;
    assert_eq!(nobody.text(), "nobody 4");
    assert_eq!(upstream.total(), 4);
}

#[tokio::test]
async fn hazard_48_a_strangers_request_shows_nothing_of_one_in_progress() {
    let (upstream, gate) = Upstream::gated().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    let by = |who: &str| {
        gateway
            .post("/")
            .key("a")
            .header("authorization", who)
            .send()
    };
    let alice = tokio::spawn(by("Bearer alice"));
    gate.arrived(1).await;
    let bob = tokio::spawn(by("Bearer bob"));
    // He is not told to wait: he executes.
    gate.arrived(2).await;
    gate.open();
    assert_eq!(alice.await.unwrap().status, 201);
    assert_eq!(bob.await.unwrap().status, 201);
}

#[tokio::test]
async fn two_principals_with_one_key_are_two_requests_whatever_their_credential() {
    let upstream = echoing().await;
    let settings = Settings::before(&upstream).idempotency("principal_header = \"x-user\"");
    let gateway = Gateway::start(settings).await;
    let by = |who: &str, token: &str| {
        let call = gateway.post("/charges").key("a").header("x-user", who);
        call.header("authorization", token).send()
    };
    let alice = by("alice", "Bearer 1").await;
    let bob = by("bob", "Bearer 1").await;
    assert_eq!((alice.status, bob.status), (201, 201));
    assert_eq!(upstream.total(), 2);
    // Her token was renewed in the meantime; she is still the same.
    let again = by("alice", "Bearer 2").await;
    assert!(again.is_replay() && again.body == alice.body);
    assert_eq!(upstream.total(), 2);
}

#[tokio::test]
async fn a_scope_by_header_is_that_headers() {
    let upstream = echoing().await;
    let settings = Settings::before(&upstream)
        .idempotency("scope = \"header:x-tenant\"\nanonymous = \"refuse\"");
    let gateway = Gateway::start(settings).await;
    let by = |tenant: &str| gateway.post("/").key("a").header("x-tenant", tenant).send();
    assert_eq!(by("one").await.text(), "one 1");
    assert_eq!(by("two").await.text(), "two 2");
    assert!(by("one").await.is_replay());
    let none = gateway.post("/").key("a").send().await;
    assert_eq!(none.problem().as_deref(), Some("key-unscoped"));
    let twice = gateway
        .post("/")
        .key("a")
        .header("x-tenant", "one")
        .header("x-tenant", "two");
    assert_eq!(
        twice.send().await.problem().as_deref(),
        Some("key-unscoped")
    );
    assert_eq!(upstream.total(), 2);
}

#[tokio::test]
async fn hazard_32_scopes_and_keys_do_not_run_into_one_another() {
    let upstream = echoing().await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .idempotency("scope = \"header:x-tenant\"");
    let gateway = Gateway::start(settings).await;
    let pairs = [
        ("ab", "c"),
        ("a", "bc"),
        ("a:b", "c"),
        ("a", "b:c"),
        ("anonymous", "c"),
    ];
    for (place, (tenant, key)) in (1..).zip(pairs) {
        let answer = gateway
            .post("/")
            .key(key)
            .header("x-tenant", tenant)
            .send()
            .await;
        assert_eq!(answer.text(), format!("{tenant} {place}"));
    }
    let anonymous = gateway.post("/").key("c").send().await;
    assert_eq!(anonymous.text(), "nobody 6");
}

#[tokio::test]
async fn hazard_48_a_shared_anonymous_scope_is_announced() {
    let upstream = echoing().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    assert!(
        gateway
            .log()
            .contains("callers without any credential share one scope")
    );
    let settings = Settings::before(&upstream).in_memory();
    let quiet = Gateway::start(settings.idempotency("anonymous = \"share\"")).await;
    assert!(
        !quiet.log().contains("share one scope"),
        "asked for by name"
    );
}

#[tokio::test]
async fn claims_are_shown_to_the_upstream_and_cannot_be_forged() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let forged = |method| {
        let call = gateway
            .call(method, "/")
            .header("idempotency-attempt", "77");
        call.header("Idempotency-Fence", "99999999")
    };
    forged(Method::POST).key("a").send().await;
    let seen = upstream.last();
    assert_eq!(
        seen.parts
            .headers
            .get_all("idempotency-attempt")
            .iter()
            .count(),
        1
    );
    assert_eq!(seen.header("idempotency-attempt"), Some("1"));
    assert_ne!(seen.header("idempotency-fence"), Some("99999999"));
    assert_eq!(
        seen.header("idempotency-key"),
        Some("a"),
        "the key itself passes"
    );
    // A request that is not claimed has none.
    for (method, key) in [(Method::POST, None), (Method::GET, Some("a"))] {
        let call = forged(method);
        let call = key.map_or_else(|| forged(Method::POST), |key| call.key(key));
        call.send().await;
        let seen = upstream.last();
        assert_eq!(seen.header("idempotency-attempt"), None);
        assert_eq!(seen.header("idempotency-fence"), None);
    }
}

#[tokio::test]
async fn hazard_30_different_keys_with_the_same_body_do_not_block_each_other() {
    let (upstream, gate) = Upstream::gated().await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    let one = tokio::spawn(gateway.post("/orders").key("a").body("a book").send());
    let two = tokio::spawn(gateway.post("/orders").key("b").body("a book").send());
    gate.arrived(2).await;
    gate.open();
    assert_eq!(one.await.unwrap().status, 201);
    assert_eq!(two.await.unwrap().status, 201);
}
