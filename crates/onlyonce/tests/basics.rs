//! One client after the other: what executes, what is replayed, what is refused.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use onlyonce::{
    Claimed, Control, Engine, IdempotencyLayer, Outcome, Policy, Principal, Profile, RouteLabel,
    RoutePolicy, StatusSet, TraceId,
};
use onlyonce_core::{ManualClock, Operation};
use std::sync::Arc;
use std::time::Duration;
use support::{App, TestStore, full, post, until};
use tokio::sync::Notify;

fn layer(store: &TestStore) -> IdempotencyLayer {
    IdempotencyLayer::new(store.clone())
}

fn layer_with(store: &TestStore, policy: Policy) -> IdempotencyLayer {
    layer(store).with_policy(policy).unwrap()
}

fn standard() -> Policy {
    Policy::new(Profile::Standard)
}

#[tokio::test(start_paused = true)]
async fn a_retry_gets_the_first_answer_and_executes_nothing() {
    let store = TestStore::new();
    let app = App::counting(&layer(&store));
    let first = app.send(post("k", "x")).await;
    assert_eq!((first.status, first.text()), (200, "1"));
    assert_eq!(first.outcome(), Outcome::Executed);
    assert!(first.verdict.was_recorded() && !first.verdict.is_replayed());
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(
        store.all_calls(),
        2,
        "a first execution costs two round trips"
    );

    let retry = app.send(post("k", "x")).await;
    assert_eq!((retry.status, retry.text()), (200, "1"));
    assert_eq!(retry.outcome(), Outcome::Replayed);
    assert_eq!(retry.header("idempotent-replayed"), Some("true"));
    assert!(retry.verdict.is_replayed() && !retry.verdict.was_recorded());
    assert_eq!(app.executions(), 1);
    assert_eq!(store.all_calls(), 3, "a replay costs one round trip");
}

#[tokio::test(start_paused = true)]
async fn safe_methods_and_requests_without_a_key_pass_untouched() {
    let store = TestStore::new();
    let app = App::counting(&layer(&store));
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
        let mut request = post("k", "");
        *request.method_mut() = method;
        assert_eq!(app.send(request).await.outcome(), Outcome::Bypassed);
    }
    let mut bare = post("k", "");
    bare.headers_mut().clear();
    assert_eq!(app.send(bare).await.outcome(), Outcome::Bypassed);
    assert_eq!(app.executions(), 5);
    assert_eq!(store.all_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_required_key_that_is_missing_is_asked_for() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, standard().with_required(true)));
    let answer = app
        .send(Request::post("/").body(Full::default()).unwrap())
        .await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.problem_kind(), "key-missing");
    assert_eq!(answer.outcome(), Outcome::Rejected);
    assert_eq!(app.executions(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_problem_document_says_all_that_rfc_9457_asks() {
    let store = TestStore::new();
    let policy = standard().with_docs_url("https://api.example/docs");
    let app = App::counting(&layer_with(&store, policy));
    app.send(post("k", "one")).await;
    let mut other = post("k", "two");
    other
        .extensions_mut()
        .insert(TraceId::new("0af7651916cd43dd8448eb211c80319c"));
    let answer = app.send(other).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.outcome(), Outcome::Mismatch);
    assert_eq!(
        answer.header("link"),
        Some("<https://api.example/docs>; rel=\"describedby\"")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let problem = answer.problem();
    assert_eq!(problem["type"], "https://api.example/docs#key-reused");
    assert_eq!(problem["title"], "Idempotency key used for another request");
    assert_eq!(problem["status"], 422);
    assert_eq!(problem["instance"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(problem["retryable"], false);
    assert!(problem["detail"].as_str().unwrap().contains("new key"));
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn hazard_31_one_caller_never_sees_anothers_answer() {
    let store = TestStore::new();
    let app = App::counting(&layer(&store));
    let by = |authorization: &'static str| {
        let mut request = post("k", "x");
        request
            .headers_mut()
            .insert("authorization", HeaderValue::from_static(authorization));
        request
    };
    assert_eq!(app.send(by("Bearer a")).await.text(), "1");
    assert_eq!(app.send(by("Bearer b")).await.text(), "2");
    assert_eq!(app.send(by("Bearer a")).await.text(), "1");
    let mut principal = by("Bearer a");
    principal.extensions_mut().insert(Principal::new("alice"));
    assert_eq!(app.send(principal).await.text(), "3");
    // Another body under another's key learns nothing of it: it just executes.
    let mut prying = post("k", "other");
    prying
        .headers_mut()
        .insert("authorization", HeaderValue::from_static("Bearer c"));
    assert_eq!(app.send(prying).await.outcome(), Outcome::Executed);
}

#[tokio::test(start_paused = true)]
async fn anonymous_callers_are_refused_by_payments() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, Policy::new(Profile::Payments)));
    let key = "8e03978e-40d5-43dd-bc93-6894a57f9324";
    let answer = app.send(post(key, "x")).await;
    assert_eq!(
        (answer.status, answer.problem_kind().as_str()),
        (400, "key-unscoped")
    );
    let answer = app.send(post("short", "x")).await;
    assert_eq!(
        (answer.status, answer.problem_kind().as_str()),
        (400, "key-invalid")
    );
    assert_eq!(app.executions(), 0);
}

#[tokio::test(start_paused = true)]
async fn hazard_24_a_response_without_a_body_is_replayed_as_such() {
    for status in [204_u16, 304, 200] {
        let store = TestStore::new();
        let policy = standard().with_store(StatusSet::ALL);
        let app = App::new(&layer_with(&store, policy), move |_, _| async move {
            Response::builder().status(status).body(full("")).unwrap()
        });
        app.send(post("k", "")).await;
        let retry = app.send(post("k", "")).await;
        assert_eq!((retry.status, retry.text()), (status, ""));
        assert_eq!(app.executions(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn hazard_25_bytes_repeats_order_and_trailers_come_back() {
    let store = TestStore::new();
    let app = App::new(&layer(&store), |_, _| async {
        let mut trailers = HeaderMap::new();
        trailers.append("grpc-status", HeaderValue::from_static("0"));
        let frames = [
            Ok::<_, std::io::Error>(Frame::data("\u{0}gzip".into())),
            Ok(Frame::trailers(trailers)),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let mut response = Response::new(BodyExt::boxed_unsync(body));
        *response.status_mut() = StatusCode::CREATED;
        let headers = response.headers_mut();
        headers.append("set-cookie", HeaderValue::from_static("a=1"));
        headers.append("set-cookie", HeaderValue::from_static("b=2"));
        headers.insert("location", HeaderValue::from_bytes(b"/caf\xe9").unwrap());
        headers.insert("content-encoding", HeaderValue::from_static("gzip"));
        headers.insert("connection", HeaderValue::from_static("x-hop"));
        headers.insert("x-hop", HeaderValue::from_static("gone"));
        headers.insert("date", HeaderValue::from_static("yesterday"));
        headers.insert("content-length", HeaderValue::from_static("999"));
        response
    });
    app.send(post("k", "")).await;
    let retry = app.send(post("k", "")).await;
    assert_eq!(retry.status, 201);
    assert_eq!(&retry.body[..], b"\0gzip");
    let cookies: Vec<_> = retry.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(retry.headers["location"].as_bytes(), b"/caf\xe9");
    assert_eq!(retry.header("content-encoding"), Some("gzip"));
    assert_eq!(retry.trailers.unwrap()["grpc-status"], "0");
    for gone in ["connection", "x-hop", "date", "content-length"] {
        assert!(
            !retry.headers.contains_key(gone),
            "{gone} belongs to the first response alone"
        );
    }
    assert_eq!(
        retry.headers["cache-control"], "no-store",
        "hazard 53: no cache keeps a replay"
    );
}

#[tokio::test(start_paused = true)]
async fn hazard_23_what_is_not_final_releases_the_key() {
    for (status, executions) in [
        (429_u16, 2),
        (408, 2),
        (425, 2),
        (500, 2),
        (503, 2),
        (404, 1),
    ] {
        let store = TestStore::new();
        let app = App::new(&layer(&store), move |_, _| async move {
            Response::builder().status(status).body(full("")).unwrap()
        });
        for _ in 0..2 {
            assert_eq!(app.send(post("k", "")).await.status, status);
        }
        assert_eq!(app.executions(), executions, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_decides_for_itself_by_header_or_extension() {
    let answer = |control: &'static str, number: usize| {
        let mut response = Response::new(full(number.to_string()));
        match control {
            "extension" => {
                response.extensions_mut().insert(Control::NoStore);
            }
            control => {
                let value = HeaderValue::from_static(control);
                response.headers_mut().insert("idempotency-control", value);
            }
        }
        response
    };
    for (control, second, status) in [
        ("no-store", "2", 200),
        ("extension", "2", 200),
        ("lifetime=60", "1", 200),
        ("hold", "", 409),
    ] {
        let store = TestStore::new();
        let app = App::new(
            &layer(&store),
            move |n, _| async move { answer(control, n) },
        );
        let first = app.send(post("k", "")).await;
        assert_eq!(first.header("idempotency-control"), None, "stripped");
        assert_eq!(first.text(), "1");
        let retry = app.send(post("k", "")).await;
        assert_eq!(retry.status, status, "{control}");
        if status == 409 {
            assert_eq!(retry.problem_kind(), "outcome-unknown");
        } else {
            assert_eq!(retry.text(), second, "{control}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_sets_its_own_lifetime() {
    let store = TestStore::new();
    let app = App::new(&layer(&store), |n, _| async move {
        let mut response = Response::new(full(n.to_string()));
        response
            .extensions_mut()
            .insert(Control::Lifetime(Duration::from_secs(60)));
        response
    });
    app.send(post("k", "")).await;
    tokio::time::advance(Duration::from_millis(59_999)).await;
    assert_eq!(app.send(post("k", "")).await.text(), "1");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(app.send(post("k", "")).await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn verdict_headers_show_outcome_and_expiry() {
    let store = TestStore::new();
    let engine = Engine::builder(store).clock(ManualClock::new()).build();
    let layer = IdempotencyLayer::from_engine(engine);
    let policy = standard().with_verdict_headers(true);
    let app = App::counting(&layer.with_policy(policy).unwrap());
    let first = app.send(post("k", "")).await;
    assert_eq!(first.header("idempotency-outcome"), Some("executed"));
    // A day after the beginning of 2026, where that clock stands.
    let expires = first.header("idempotency-expires");
    assert_eq!(expires, Some("Fri, 02 Jan 2026 00:00:00 GMT"));
    let retry = app.send(post("k", "")).await;
    assert_eq!(retry.header("idempotency-outcome"), Some("replayed"));
    let mismatch = app.send(post("k", "other")).await;
    assert_eq!(mismatch.header("idempotency-outcome"), Some("mismatch"));
}

#[tokio::test(start_paused = true)]
async fn header_lists_choose_what_is_kept() {
    let respond = |_, _| async {
        let mut response = Response::new(full("x"));
        response
            .headers_mut()
            .insert("set-cookie", HeaderValue::from_static("s=1"));
        response
            .headers_mut()
            .insert("location", HeaderValue::from_static("/1"));
        response
    };
    let dropping = standard().with_drop_headers([http::header::SET_COOKIE]);
    let keeping = standard().with_keep_headers([http::header::LOCATION]);
    for policy in [dropping, keeping] {
        let store = TestStore::new();
        let app = App::new(&layer_with(&store, policy), respond);
        assert!(
            app.send(post("k", ""))
                .await
                .headers
                .contains_key("set-cookie")
        );
        let retry = app.send(post("k", "")).await;
        assert!(!retry.headers.contains_key("set-cookie"));
        assert_eq!(retry.header("location"), Some("/1"));
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_fields_are_dropped_from_trailers_too() {
    let respond = |_, _| async {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trace", HeaderValue::from_static("1"));
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let frames = [
            Ok(Frame::data(Bytes::from("x"))),
            Ok(Frame::trailers(trailers)),
        ];
        Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
    };
    let trace = HeaderName::from_static("x-trace");
    let dropping = standard().with_drop_headers([trace]);
    // An allow list is one of headers.
    let keeping = standard().with_keep_headers([]);
    for (policy, left) in [(dropping, 1), (keeping, 2)] {
        let app = App::new(&layer_with(&TestStore::new(), policy), respond);
        assert_eq!(app.send(post("k", "")).await.trailers.unwrap().len(), 2);
        let replayed = app.send(post("k", "")).await.trailers.unwrap();
        assert_eq!(replayed.len(), left);
        assert_eq!(replayed["grpc-status"], "0");
    }
}

/// The gateway before a service that has the layer itself, and whose own retries are under way.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_an_inner_layer_is_not_the_keys_answer() {
    let gate = Arc::new(Notify::new());
    let inner_gate = Arc::clone(&gate);
    let inner = App::new(&layer(&TestStore::new()), move |number, _| {
        let gate = Arc::clone(&inner_gate);
        async move {
            gate.notified().await;
            Response::new(full(number.to_string()))
        }
    });
    let running = tokio::spawn(inner.start(post("k", "")));
    until("it runs", || inner.executions() == 1).await;
    let through = inner.clone();
    let outer = App::new(&layer(&TestStore::new()), move |_, _| {
        let answer = through.start(post("k", ""));
        // Over a network: the extensions stay behind.
        async move {
            let (head, body) = answer.await.into_parts();
            let mut response = Response::new(body.map_err(std::io::Error::other).boxed_unsync());
            *response.status_mut() = head.status;
            *response.headers_mut() = head.headers;
            response
        }
    });
    let refused = outer.send(post("k", "")).await;
    assert_eq!(
        (refused.status, refused.problem_kind().as_str()),
        (409, "in-progress")
    );
    gate.notify_one();
    running.await.unwrap();
    let retry = outer.send(post("k", "")).await;
    assert_eq!((retry.status, retry.text()), (200, "1"));
    assert_eq!(inner.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn hazard_34_no_raw_key_or_credential_reaches_the_store() {
    let store = TestStore::new();
    let app = App::counting(&layer(&store));
    let mut request = post("visible-key", "visible-body");
    request
        .headers_mut()
        .insert("authorization", HeaderValue::from_static("visible-token"));
    app.send(request).await;
    let stored = format!("{:?}", store.only_entry());
    assert!(!stored.contains("visible"), "{stored}");
    assert_eq!(&*store.only_entry().label, "POST /charges");
}

#[tokio::test(start_paused = true)]
async fn the_handler_sees_its_claim() {
    let store = TestStore::new();
    let app = App::new(&layer(&store), |_, request| async move {
        let claimed = request
            .extensions()
            .get::<Claimed>()
            .expect("a claim")
            .clone();
        let derived = claimed.derive(&["stripe"]);
        let text = format!("{} {} {derived}", claimed.attempt(), claimed.key().as_str());
        Response::new(full(text))
    });
    let first = app.send(post("k", "")).await;
    let other = app.send(post("l", "")).await;
    let derived = |text: &str| text.rsplit(' ').next().unwrap().to_owned();
    assert!(first.text().starts_with("1 k "));
    assert!(other.text().starts_with("1 l "));
    assert_ne!(derived(first.text()), derived(other.text()));
}

#[tokio::test(start_paused = true)]
async fn a_route_has_a_policy_of_its_own_or_none() {
    let store = TestStore::new();
    let app = App::counting(&layer(&store));
    let mut off = post("k", "");
    off.extensions_mut().insert(RoutePolicy::disabled());
    assert_eq!(app.send(off.clone()).await.outcome(), Outcome::Bypassed);
    let mut strict = post("k", "");
    strict
        .extensions_mut()
        .insert(RoutePolicy::new(Policy::new(Profile::Ietf)));
    strict.extensions_mut().insert(RouteLabel::new("/charges"));
    assert_eq!(app.send(strict).await.problem_kind(), "key-invalid");
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_with_a_key_is_refused() {
    let store = TestStore::new();
    let app = App::counting(&layer(&store));
    let mut request = post("k", "");
    request
        .headers_mut()
        .insert("upgrade", HeaderValue::from_static("websocket"));
    let answer = app.send(request).await;
    assert_eq!(
        (answer.status, answer.problem_kind().as_str()),
        (400, "key-invalid")
    );
    assert_eq!(app.executions(), 0);
}

#[tokio::test(start_paused = true)]
async fn expired_is_as_good_as_absent() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(
        &store,
        standard().with_lifetime(Duration::from_secs(5)),
    ));
    app.send(post("k", "")).await;
    tokio::time::advance(Duration::from_millis(4_999)).await;
    assert_eq!(app.send(post("k", "")).await.text(), "1");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(app.send(post("k", "other")).await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_decoded_is_a_failure_never_a_miss() {
    let store = TestStore::new();
    let app = App::counting(&layer(&store));
    app.send(post("k", "")).await;
    store.meddle(|entry| {
        entry.state = onlyonce_core::EntryState::Completed {
            status: 200,
            kept: Some("R\u{9}nonsense".into()),
        };
    });
    let answer = app.send(post("k", "")).await;
    assert_eq!(
        (answer.status, answer.problem_kind().as_str()),
        (503, "store-unavailable")
    );
    assert_eq!(app.executions(), 1);
    assert_eq!(store.calls(Operation::Release), 0);
}

#[tokio::test(start_paused = true)]
async fn the_profiles_differ_as_their_table_says() {
    let uuid = "8e03978e-40d5-43dd-bc93-6894a57f9324";
    let send = async |profile, header: &'static str, key: &str, bodies: [&'static str; 2]| {
        let store = TestStore::new();
        let app = App::counting(&layer_with(&store, Policy::new(profile)));
        let mut answers = Vec::new();
        for body in bodies {
            let mut request = post("unused", body);
            request.headers_mut().clear();
            request.headers_mut().insert(header, key.parse().unwrap());
            request
                .headers_mut()
                .insert("authorization", HeaderValue::from_static("a"));
            answers.push(app.send(request).await);
        }
        answers
    };
    let answers = send(Profile::Stripe, "idempotency-key", "k", ["a", "b"]).await;
    assert_eq!(answers[1].status, 400, "stripe: a mismatch is 400");
    let answers = send(Profile::Fiber, "x-idempotency-key", uuid, ["a", "b"]).await;
    assert_eq!(
        (answers[1].status, answers[1].text()),
        (200, "1"),
        "fiber: no fingerprint"
    );
    assert_eq!(
        answers[1].header("idempotent-replayed"),
        None,
        "fiber: no mark"
    );
    let answers = send(Profile::Fiber, "x-idempotency-key", "short", ["a", "a"]).await;
    assert_eq!(answers[0].status, 400, "fiber: 36 characters");
    let answers = send(Profile::Ietf, "idempotency-key", "bare", ["a", "a"]).await;
    assert_eq!(answers[0].status, 400, "ietf: quoted alone");
    let answers = send(Profile::Ietf, "idempotency-key", "\"q\"", ["a", "b"]).await;
    assert_eq!(answers[1].status, 422);
    let answers = send(Profile::RedisGin, "x-idempotency-key", "k", ["a", "b"]).await;
    assert_eq!(answers[1].text(), "1", "redis-gin: no fingerprint");
    let answers = send(Profile::Payments, "idempotency-key", uuid, ["a", "a"]).await;
    assert_eq!(answers[1].header("idempotent-replayed"), Some("true"));
}
