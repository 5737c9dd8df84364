//! Bodies that fit a JSON Schema.

use onlyonce_e2e::{Gateway, Home, Settings, Upstream};

const SCHEMA: &str = r#"{"type":"object","required":["amount"],
    "properties":{"amount":{"type":"integer","minimum":1}}}"#;

async fn gateway(upstream: &Upstream) -> Gateway {
    let settings = Settings::before(upstream)
        .in_memory()
        .route("path = \"/charges\"\nfilter = { schema = \"{folder}/charge.json\" }");
    let home = Home::new(&settings);
    std::fs::write(home.path().join("charge.json"), SCHEMA).unwrap();
    home.start().await
}

#[tokio::test]
async fn what_does_not_fit_goes_no_further_and_leaves_the_key_free() {
    let upstream = Upstream::counting().await;
    let gateway = gateway(&upstream).await;
    let charge = |body: &str| gateway.post("/charges").key("k").json(body).send();
    for wrong in ["{}", r#"{"amount":0}"#, r#"{"amount":"5"}"#, "[]"] {
        let refused = charge(wrong).await;
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (400, &51.into()),
            "{wrong}"
        );
    }
    let malformed = charge("{").await;
    assert_eq!(malformed.status, 400);
    assert_eq!(upstream.total(), 0);
    let body = r#"{ "amount": 5 }"#;
    assert_eq!(charge(body).await.status, 201);
    assert_eq!(upstream.last().body, body, "it passes unchanged");
    assert!(charge(body).await.is_replay());
    // Elsewhere nobody looks.
    assert_eq!(gateway.post("/else").json("{}").send().await.status, 201);
}
