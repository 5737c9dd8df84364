//! How often a request goes to the server and back: seen from the server, and from the wire.

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use onlyonce::IdempotencyLayer;
use onlyonce_core::SharedStore;
use onlyonce_near::Near;
use onlyonce_servers::proxy::Proxy;
use onlyonce_servers::redis::{Client, Redis, start_redis_with};
use tower::{ServiceBuilder, ServiceExt as _};

use crate::near::until;
use crate::support::connect;

type Body = Full<bytes::Bytes>;

/// A node that handles a charge with this key; whether the answer is a replay.
async fn charge(store: &SharedStore, key: &str) -> bool {
    let service = ServiceBuilder::new()
        .layer(IdempotencyLayer::new(store.clone()))
        .service_fn(async |request: Request<_>| {
            let body: onlyonce::http::RequestBody<Body> = request.into_body();
            let asked = body.collect().await.unwrap().to_bytes();
            Ok::<_, std::convert::Infallible>(Response::new(Body::new(asked)))
        });
    let request = Request::post("/charges")
        .header("Idempotency-Key", key)
        .body(Body::from("10 EUR"))
        .unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let replayed = response.headers().contains_key("Idempotent-Replayed");
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer, "10 EUR");
    replayed
}

/// Sees every command that a server is sent.
struct Monitor {
    seen: Client,
    own: Client,
    number: u32,
}

impl Monitor {
    fn of(server: &Redis) -> Self {
        let mut seen = server.client();
        seen.expect_ok(&["MONITOR"]);
        Self {
            seen,
            own: server.client(),
            number: 0,
        }
    }

    /// What came over the wire since the last call, but for signs of life.
    fn commands(&mut self) -> Vec<String> {
        self.number += 1;
        let mark = format!("mark-{}", self.number);
        self.own.command(&["ECHO", &mark]);
        let mut commands = Vec::new();
        loop {
            let line = self.seen.reply().expect("the server says what it does");
            if line.text().contains(&mark) {
                return commands;
            }
            // `1763710000.123456 [0 127.0.0.1:40000] "EVALSHA" …`, or `[0 lua]` from within a script.
            let (client, command) = line.text().split_once("] ").expect("a command");
            let name = command.split('"').nth(1).expect("it has a name");
            if !client.ends_with("lua") && !["PING", "ROLE"].contains(&name) {
                commands.push(name.to_ascii_lowercase());
            }
        }
    }
}

#[tokio::test]
async fn a_request_costs_two_round_trips_its_retry_one_and_a_hot_retry_none() {
    let server = start_redis_with(&[]);
    let [plain, here, there] = [
        connect(&server.url()).await,
        connect(&server.url()).await,
        connect(&server.url()).await,
    ];
    let (here, there) = (Near::new(here, 1 << 24), Near::new(there, 1 << 24));
    until("subscriptions", || {
        here.is_connected() && there.is_connected()
    })
    .await;
    let [plain, here, there] = [
        SharedStore::new(plain),
        SharedStore::new(here),
        SharedStore::new(there),
    ];
    let mut monitor = Monitor::of(&server);

    assert!(!charge(&plain, "one").await);
    assert_eq!(monitor.commands(), ["evalsha", "evalsha"]);
    for _ in 0..3 {
        assert!(charge(&plain, "one").await);
        assert_eq!(monitor.commands(), ["evalsha"]);
    }

    assert!(!charge(&here, "two").await);
    assert_eq!(monitor.commands(), ["evalsha", "evalsha"]);
    for _ in 0..3 {
        assert!(charge(&here, "two").await);
        assert!(monitor.commands().is_empty(), "completed through its cache");
    }
    assert!(charge(&there, "two").await);
    assert_eq!(monitor.commands(), ["evalsha"], "the other node's first");
    for _ in 0..3 {
        assert!(charge(&there, "two").await);
        assert!(monitor.commands().is_empty());
    }
}

/// On the wire each step is one piece there, and one back.
#[tokio::test]
async fn each_step_is_one_exchange_on_the_wire() {
    let server = start_redis_with(&[]);
    let proxy = Proxy::start(server.port());
    let store = connect(&format!("redis://127.0.0.1:{}", proxy.port())).await;
    let store = SharedStore::new(store);
    let mut seen = (proxy.requests(), proxy.replies());
    let mut trips = || {
        let now = (proxy.requests(), proxy.replies());
        let before = std::mem::replace(&mut seen, now);
        (now.0 - before.0, now.1 - before.1)
    };
    assert!(!charge(&store, "one").await);
    assert_eq!(trips(), (2, 2));
    for _ in 0..3 {
        assert!(charge(&store, "one").await);
        assert_eq!(trips(), (1, 1));
    }
}
