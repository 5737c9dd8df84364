//! Every profile, row by row, as a client and an upstream see it.

use http::Method;
use onlyonce_e2e::{Answer, Call, Gateway, Reply, Settings, Upstream, eventually};

const UUID: &str = "0b8b5c1e-5a0e-4d8e-9f5c-2f2f6d6f8a10";
const OTHER_UUID: &str = "5e0f0f66-98a7-4c65-9a0b-6a1d3b7f2c11";
/// 36 characters, but no UUID.
const LENGTH_36: &str = "abcdefghijklmnopqrstuvwxyz0123456789";

const STANDARD: &str = "idempotency-key";
const PREFIXED: &str = "x-idempotency-key";

/// What a profile promises.
struct Row {
    profile: &'static str,
    /// Headers that carry a key.
    headers: &'static [&'static str],
    /// Keys that it takes, and keys that it refuses.
    takes: &'static [&'static str],
    refuses: &'static [&'static str],
    required: bool,
    methods: &'static [&'static str],
    /// Whether callers with other credentials have keys of their own.
    scoped: bool,
    anonymous_refused: bool,
    /// What another request under the same key gets; none: the first one's answer.
    mismatch: Option<u16>,
    waits: bool,
    /// Of 200, 404, 429, 500 and 503 those that are stored.
    stored: &'static [u16],
    lifetime: u64,
    retries_unknown: bool,
    marks_replays: bool,
}

const UNSAFE: &[&str] = &["POST", "PUT", "PATCH", "DELETE"];
const ALL: &[u16] = &[200, 404, 429, 500, 503];
const DAY: u64 = 24 * 3600;

const STANDARD_ROW: Row = Row {
    profile: "standard",
    headers: &[STANDARD, PREFIXED],
    takes: &["a", "\"b\"", UUID, LENGTH_36],
    refuses: &["", "with\ttab"],
    required: false,
    methods: UNSAFE,
    scoped: true,
    anonymous_refused: false,
    mismatch: Some(422),
    waits: false,
    stored: &[200, 404],
    lifetime: DAY,
    retries_unknown: false,
    marks_replays: true,
};

#[tokio::test]
async fn standard() {
    check(&STANDARD_ROW).await;
}

#[tokio::test]
async fn ietf() {
    check(&Row {
        profile: "ietf",
        headers: &[STANDARD],
        takes: &["\"a\"", "\"0b8b5c1e-5a0e-4d8e-9f5c-2f2f6d6f8a10\""],
        refuses: &["a", UUID, "\"a", ""],
        methods: &["POST", "PATCH"],
        ..STANDARD_ROW
    })
    .await;
}

#[tokio::test]
async fn stripe() {
    check(&Row {
        profile: "stripe",
        headers: &[STANDARD],
        methods: &["POST", "DELETE"],
        mismatch: Some(400),
        stored: ALL,
        ..STANDARD_ROW
    })
    .await;
}

#[tokio::test]
async fn fiber() {
    check(&Row {
        profile: "fiber",
        headers: &[PREFIXED],
        takes: &[UUID, LENGTH_36],
        refuses: &["a", "0b8b5c1e-5a0e-4d8e-9f5c-2f2f6d6f8a1"],
        scoped: false,
        mismatch: None,
        waits: true,
        stored: ALL,
        lifetime: 30 * 60,
        retries_unknown: true,
        marks_replays: false,
        ..STANDARD_ROW
    })
    .await;
}

#[tokio::test]
async fn redis_gin() {
    check(&Row {
        profile: "redis-gin",
        headers: &[PREFIXED],
        required: true,
        mismatch: None,
        // 429 is below 500, too.
        stored: &[200, 404, 429],
        retries_unknown: true,
        marks_replays: false,
        ..STANDARD_ROW
    })
    .await;
}

#[tokio::test]
async fn payments() {
    check(&Row {
        profile: "payments",
        takes: &[UUID, "\"5e0f0f66-98a7-4c65-9a0b-6a1d3b7f2c11\""],
        refuses: &["a", LENGTH_36, "0b8b5c1e-5a0e-4d8e-9f5c-2f2f6d6f8a1"],
        required: true,
        anonymous_refused: true,
        waits: true,
        stored: ALL,
        ..STANDARD_ROW
    })
    .await;
}

async fn check(row: &Row) {
    let setup = Setup::new(row).await;
    setup.headers().await;
    setup.keys().await;
    setup.quotes().await;
    setup.required().await;
    setup.methods().await;
    setup.scopes().await;
    setup.fingerprint().await;
    setup.replays_and_lifetime().await;
    setup.concurrent().await;
    setup.stored().await;
    setup.unknown().await;
}

struct Setup<'r> {
    row: &'r Row,
    upstream: Upstream,
    gate: onlyonce_e2e::Gate,
    gateway: Gateway,
}

impl<'r> Setup<'r> {
    /// The path says what the upstream does: `/status/N`, `/gated`, `/gone`, else 201.
    async fn new(row: &'r Row) -> Self {
        let gate = onlyonce_e2e::Gate::closed();
        let inside = gate.clone();
        let upstream = Upstream::with(move |request| {
            let gate = inside.clone();
            async move {
                let path = request.path().to_owned();
                if path == "/gated" {
                    gate.pass().await;
                }
                if path == "/gone" {
                    return Reply::hang_up();
                }
                let status = path
                    .strip_prefix("/status/")
                    .map_or(201, |s| s.parse().unwrap());
                Reply::new(status).body(request.number.to_string())
            }
        })
        .await;
        // The lease is named, which changes nothing else, so that the test sees one run out.
        let settings = Settings::before(&upstream)
            .profile(row.profile)
            .in_memory()
            .idempotency("lease = \"1s\"\nstore_timeout = \"300ms\"");
        let gateway = Gateway::start(settings).await;
        Self {
            row,
            upstream,
            gate,
            gateway,
        }
    }

    /// A request of an authenticated caller, without a key.
    fn plain(&self, method: &str, path: &str) -> Call {
        let call = self.gateway.call(method.parse().unwrap(), path);
        call.header("authorization", "Bearer one")
    }

    /// A key that the profile takes, made out of `name`, as its header would have it.
    fn key(&self, name: u32) -> String {
        let uuid = format!("{name:08x}-5a0e-4d8e-9f5c-2f2f6d6f8a10");
        if self.row.profile == "ietf" {
            format!("\"{uuid}\"")
        } else {
            uuid
        }
    }

    fn keyed(&self, method: &str, path: &str, name: u32) -> Call {
        self.plain(method, path)
            .header(self.row.headers[0], self.key(name))
    }

    /// Whether the second of two equal requests was not executed.
    async fn protects(&self, call: impl Fn() -> Call) -> bool {
        let before = self.upstream.total();
        let first = call().send().await;
        let second = call().send().await;
        assert_eq!(
            (first.status, second.status),
            (201, 201),
            "{}",
            self.row.profile
        );
        self.upstream.total() - before == 1
    }

    async fn headers(&self) {
        for (name, header) in [(1, STANDARD), (2, PREFIXED)] {
            let call = || {
                self.plain("POST", "/headers")
                    .header(header, self.key(name))
            };
            if self.row.headers.contains(&header) {
                assert!(self.protects(call).await, "{header}");
            } else if self.row.required {
                assert_eq!(
                    call().send().await.problem().as_deref(),
                    Some("key-missing")
                );
            } else {
                assert!(!self.protects(call).await, "{header}");
            }
        }
    }

    async fn keys(&self) {
        let call = |key: &str| self.plain("POST", "/keys").header(self.row.headers[0], key);
        for key in self.row.takes {
            assert!(self.protects(|| call(key)).await, "{key}");
        }
        for key in self.row.refuses {
            let answer = call(key).send().await;
            assert_eq!(answer.status, 400, "{key:?}");
            assert_eq!(answer.problem().as_deref(), Some("key-invalid"), "{key:?}");
        }
    }

    async fn quotes(&self) {
        if self.row.profile == "ietf" {
            return;
        }
        // RFC 9651: with quotes or without, it is one key.
        let bare = self.key(3);
        let call = |key: &str| {
            let call = self.plain("POST", "/quotes");
            call.header(self.row.headers[0], key).send()
        };
        let first = call(&bare).await;
        let second = call(&format!("\"{bare}\"")).await;
        assert_eq!((first.status, first.body), (201, second.body));
    }

    async fn required(&self) {
        let answer = self.plain("POST", "/required").send().await;
        if self.row.required {
            assert_eq!(
                (answer.status, answer.problem().as_deref()),
                (400, Some("key-missing"))
            );
        } else {
            assert_eq!(answer.status, 201);
        }
    }

    async fn methods(&self) {
        for (name, method) in (10..).zip(["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS"]) {
            let is_protected = self.protects(|| self.keyed(method, "/methods", name)).await;
            assert_eq!(is_protected, self.row.methods.contains(&method), "{method}");
        }
    }

    async fn scopes(&self) {
        let by = |credential: &str| {
            let call = self
                .gateway
                .post("/scopes")
                .header("authorization", credential);
            call.header(self.row.headers[0], self.key(20)).send()
        };
        let (one, two) = (by("Bearer one").await, by("Bearer two").await);
        assert_eq!((one.status, two.status), (201, 201));
        assert_eq!(one.body != two.body, self.row.scoped, "{one:?} {two:?}");
        assert_eq!(by("Bearer one").await.body, one.body);

        let anonymous = self
            .gateway
            .post("/scopes")
            .header(self.row.headers[0], self.key(21));
        let anonymous = anonymous.send().await;
        if self.row.anonymous_refused {
            let problem = anonymous.problem();
            assert_eq!(
                (anonymous.status, problem.as_deref()),
                (400, Some("key-unscoped"))
            );
        } else {
            assert_eq!(anonymous.status, 201);
        }
    }

    async fn fingerprint(&self) {
        let first = self
            .keyed("POST", "/fingerprint", 30)
            .body("one")
            .send()
            .await;
        for (path, body) in [("/fingerprint", "two"), ("/elsewhere", "one")] {
            let other = self.keyed("POST", path, 30).body(body).send().await;
            match self.row.mismatch {
                Some(status) => {
                    let problem = other.problem();
                    assert_eq!(
                        (other.status, problem.as_deref()),
                        (status, Some("key-reused"))
                    );
                }
                None => assert_eq!(other.body, first.body),
            }
        }
        let same = self
            .keyed("POST", "/fingerprint", 30)
            .body("one")
            .send()
            .await;
        assert_eq!(same.body, first.body);
    }

    async fn replays_and_lifetime(&self) {
        self.keyed("POST", "/replays", 40).send().await;
        let replay = self.keyed("POST", "/replays", 40).send().await;
        assert_eq!(replay.is_replay(), self.row.marks_replays);
        assert!(!replay.headers.contains_key("idempotency-outcome"));

        let list = self
            .gateway
            .admin(Method::GET, "/api/keys?limit=1000")
            .send()
            .await
            .json();
        let keys = list["keys"].as_array().unwrap();
        let key = keys
            .iter()
            .find(|key| key["request"] == "POST /replays")
            .unwrap();
        let left = key["expires_in_seconds"].as_u64().unwrap();
        let lifetime = self.row.lifetime;
        assert!((lifetime - 60..=lifetime).contains(&left), "{left}");
    }

    async fn concurrent(&self) {
        let call = || self.keyed("POST", "/gated", 50).send();
        let before = self.upstream.total();
        let first = tokio::spawn(call());
        self.gate.arrived(1).await;
        if self.row.waits {
            let second = tokio::spawn(call());
            eventually("a waiter", || async {
                let waiting = crate::once::figure(&self.gateway, "onlyonce_waiters").await;
                (waiting == 1.0).then_some(())
            })
            .await;
            self.gate.open();
            assert_eq!(second.await.unwrap().status, 201);
        } else {
            let second = call().await;
            let problem = second.problem();
            assert_eq!(
                (second.status, problem.as_deref()),
                (409, Some("in-progress"))
            );
            self.gate.open();
        }
        assert_eq!(first.await.unwrap().status, 201);
        assert_eq!(self.upstream.total() - before, 1);
    }

    async fn stored(&self) {
        for (name, status) in (60..).zip(ALL) {
            let call = || {
                self.keyed("POST", &format!("/status/{status}"), name)
                    .send()
            };
            let (first, second) = (call().await, call().await);
            assert_eq!((first.status, second.status), (*status, *status));
            let is_stored = first.body == second.body;
            assert_eq!(is_stored, self.row.stored.contains(status), "{status}");
        }
    }

    async fn unknown(&self) {
        let call = || self.keyed("POST", "/gone", 70).send();
        let before = self.upstream.total();
        let problem = |answer: &Answer| answer.problem().unwrap_or_default();
        assert_eq!(call().await.status, 502);
        // Those who would wait for the owner see its lease run out.
        let second = call().await;
        if !self.row.retries_unknown {
            assert_eq!(
                (second.status, problem(&second).as_str()),
                (409, "outcome-unknown")
            );
            assert_eq!(self.upstream.total() - before, 1);
            return;
        }
        if !self.row.waits {
            assert_eq!(
                (second.status, problem(&second).as_str()),
                (409, "in-progress")
            );
        }
        eventually("a second attempt", || async {
            call().await;
            (self.upstream.total() - before >= 2).then_some(())
        })
        .await;
        let seen = self.upstream.seen();
        let header = |place: usize, name| -> u64 {
            seen[before + place].header(name).unwrap().parse().unwrap()
        };
        assert_eq!(
            (
                header(0, "idempotency-attempt"),
                header(1, "idempotency-attempt")
            ),
            (1, 2)
        );
        assert!(header(1, "idempotency-fence") > header(0, "idempotency-fence"));
    }
}

#[tokio::test]
async fn a_named_setting_wins_over_the_profile() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .profile("payments")
        .idempotency("required = false\nanonymous = \"share\"\nlifetime = \"1h\"")
        .route("path = \"/gin\"\nidempotency = { profile = \"redis-gin\", required = false }")
        .route("path = \"/off/{*rest}\"\nidempotency = false");
    let gateway = Gateway::start(settings).await;
    assert_eq!(gateway.post("/").send().await.status, 201);
    assert_eq!(gateway.post("/").key(OTHER_UUID).send().await.status, 201);
    let left = gateway.only_record().await["expires_in_seconds"]
        .as_u64()
        .unwrap();
    assert!((3500..=3600).contains(&left), "{left}");
    // What the profile says of the rest stays.
    assert_eq!(gateway.post("/").key("no-uuid").send().await.status, 400);

    // A route with a profile of its own.
    let gin = || gateway.post("/gin").header(PREFIXED, "no-uuid").send();
    assert_eq!(gin().await.body, gin().await.body);
    assert_ne!(
        gateway.post("/gin").key("x").send().await.body,
        gateway.post("/gin").key("x").send().await.body
    );
    // A route without protection: not even a bad key matters.
    for _ in 0..2 {
        assert_eq!(
            gateway.post("/off/x").key("no-uuid").send().await.status,
            201
        );
    }
    assert_eq!(upstream.last().header("idempotency-key"), Some("no-uuid"));
    assert_eq!(upstream.last().header("idempotency-attempt"), None);
}
