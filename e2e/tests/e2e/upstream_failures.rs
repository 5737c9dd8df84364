//! The service behind the gateway fails: refused, silent, cut off, malformed, or with an error.
//! Each request is sent upstream once, whatever happens (hazard 55).

use http::Method;
use onlyonce_e2e::{Answer, Gateway, RawUpstream, Reply, Settings, Upstream, eventually};
use rustix::process::Signal;

const RETRY: &str = "on_unknown = \"retry\"\nlease = \"1s\"\nstore_timeout = \"300ms\"";

async fn post(gateway: &Gateway) -> Answer {
    gateway.post("/charges").key("a").body("10").send().await
}

async fn records(gateway: &Gateway) -> usize {
    let list = gateway.admin(Method::GET, "/api/keys").send().await;
    list.json()["keys"].as_array().unwrap().len()
}

/// A port on which nobody listens.
async fn nowhere() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn an_upstream_that_is_not_there_leaves_the_key_free() {
    let gateway = Gateway::start(Settings::before_url(nowhere().await)).await;
    let answer = post(&gateway).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(answer.json()["retryable"], true);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(records(&gateway).await, 0);

    // Once it is there, the same request executes, for the first time.
    let upstream = Upstream::counting().await;
    gateway.home().write(&Settings::before(&upstream));
    gateway.signal(Signal::HUP);
    gateway.logs("settings reloaded").await;
    let answer = post(&gateway).await;
    assert_eq!((answer.status, answer.text()), (201, "1"));
    assert_eq!(upstream.last().header("idempotency-attempt"), Some("1"));
}

#[tokio::test]
async fn a_silent_upstream_is_a_504_and_the_key_is_held() {
    let (upstream, gate) = Upstream::gated().await;
    let settings = Settings::before(&upstream).section("proxy", "response_timeout = \"200ms\"");
    let gateway = Gateway::start(settings).await;
    let answer = post(&gateway).await;
    assert_eq!(answer.status, 504, "{answer:?}");
    assert_eq!(answer.json()["retryable"], false);
    // At once, and it stays so even if the upstream is done in the meantime.
    gate.open();
    for _ in 0..2 {
        let retry = post(&gateway).await;
        assert_eq!(
            (retry.status, retry.problem().as_deref()),
            (409, Some("outcome-unknown"))
        );
    }
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn a_silent_upstream_may_be_asked_again_once_the_lease_has_run_out() {
    let (upstream, gate) = Upstream::gated().await;
    let settings = Settings::before(&upstream)
        .section("proxy", "response_timeout = \"200ms\"")
        .idempotency(RETRY);
    let gateway = Gateway::start(settings).await;
    assert_eq!(post(&gateway).await.status, 504);
    // Never earlier: it may still be at work.
    let retry = post(&gateway).await;
    assert_eq!(
        (retry.status, retry.problem().as_deref()),
        (409, Some("in-progress"))
    );
    assert_eq!(upstream.total(), 1);
    gate.open();
    let second = eventually("the end of the lease", || async {
        let answer = post(&gateway).await;
        (answer.status != 409).then_some(answer)
    })
    .await;
    assert_eq!((second.status, second.text()), (201, "2"));
    let seen = upstream.seen();
    let header = |place: usize, name| seen[place].header(name).unwrap().parse::<u64>().unwrap();
    assert_eq!(header(1, "idempotency-attempt"), 2);
    assert!(header(1, "idempotency-fence") > header(0, "idempotency-fence"));
    assert!(post(&gateway).await.is_replay());
    assert_eq!(upstream.total(), 2);
}

#[tokio::test]
async fn hazard_55_whatever_is_cut_off_is_sent_once_and_held() {
    let cuts: [(&str, &str); 8] = [
        ("without a byte", ""),
        ("in the status line", "HTTP/1.1 201 Cre"),
        ("in the head", "HTTP/1.1 201 Created\r\ncontent-le"),
        (
            "before the body",
            "HTTP/1.1 201 Created\r\ncontent-length: 10\r\n\r\n",
        ),
        (
            "in the body",
            "HTTP/1.1 201 Created\r\ncontent-length: 10\r\n\r\nabc",
        ),
        (
            "in a chunk",
            "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        ),
        (
            "before the last chunk",
            "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ];
    for (place, bytes) in cuts {
        let upstream = RawUpstream::answering(bytes).await;
        let gateway = Gateway::start(Settings::before_raw(&upstream).in_memory()).await;
        let answer = post(&gateway).await;
        assert_eq!(answer.status, 502, "{place}: {answer:?}");
        assert_eq!(answer.json()["retryable"], false, "{place}");
        let retry = post(&gateway).await;
        assert_eq!(
            retry.problem().as_deref(),
            Some("outcome-unknown"),
            "{place}"
        );
        assert_eq!(upstream.requests(), 1, "{place}");
    }
}

#[tokio::test]
async fn what_is_cut_off_may_be_asked_again_once_the_lease_has_run_out() {
    let upstream = RawUpstream::with(|mut wire, number| async move {
        let all = "HTTP/1.1 201 Created\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
        wire.try_write(if number == 1 { &all[..30] } else { all })
            .await;
    })
    .await;
    let gateway = Gateway::start(Settings::before_raw(&upstream).idempotency(RETRY)).await;
    assert_eq!(post(&gateway).await.status, 502);
    let retry = post(&gateway).await;
    assert_eq!(retry.problem().as_deref(), Some("in-progress"));
    let second = eventually("the end of the lease", || async {
        let answer = post(&gateway).await;
        (answer.status != 409).then_some(answer)
    })
    .await;
    assert_eq!((second.status, second.text()), (201, "hello"));
    assert_eq!(upstream.requests(), 2);
}

#[tokio::test]
async fn hazard_21_a_long_body_that_is_cut_off_reaches_the_client_as_cut_off() {
    // Longer than what is kept, so that the client has the beginning before the cut.
    let upstream = Upstream::answering(|_| {
        let reply = Reply::new(200)
            .body(vec![1; 700_000])
            .body(vec![2; 700_000]);
        reply.cut()
    })
    .await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let mut answer = gateway
        .post("/charges")
        .key("a")
        .body("10")
        .start()
        .await
        .unwrap();
    assert_eq!(answer.response.status(), 200);
    let broken = loop {
        match answer.piece().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("looks whole"),
            Err(error) => break error,
        }
    };
    assert!(!broken.to_string().is_empty());
    let retry = post(&gateway).await;
    assert_eq!(retry.problem().as_deref(), Some("outcome-unknown"));
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn hazard_23_answers_that_say_try_again_are_not_stored() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let upstream = Upstream::answering(move |request| {
            let status = if request.number == 1 { status } else { 201 };
            Reply::new(status).header("retry-after", "7").body("x")
        })
        .await;
        let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
        let first = post(&gateway).await;
        assert_eq!(
            (first.status, first.header("retry-after")),
            (status, Some("7"))
        );
        let second = post(&gateway).await;
        assert_eq!(
            (second.status, second.is_replay()),
            (201, false),
            "after {status}"
        );
        // The key was given back: as if it had never been.
        assert_eq!(upstream.last().header("idempotency-attempt"), Some("1"));
        assert!(post(&gateway).await.is_replay());
        assert_eq!(upstream.total(), 2);
    }
}

#[tokio::test]
async fn final_answers_are_stored_also_those_that_refuse() {
    for status in [200, 201, 204, 302, 400, 404, 409, 422, 499] {
        let upstream = Upstream::answering(move |_| Reply::new(status)).await;
        let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
        assert_eq!(post(&gateway).await.status, status);
        let retry = post(&gateway).await;
        assert_eq!((retry.status, retry.is_replay()), (status, true));
        assert_eq!(upstream.total(), 1);
    }
}

#[tokio::test]
async fn the_upstream_decides_about_its_own_answer_and_nobody_else_sees_it() {
    // (what it says, what a retry gets, how often it executed by then)
    let cases = [
        ("no-store", 201, false, 2),
        ("hold", 409, false, 1),
        ("lifetime=3600", 201, true, 1),
    ];
    for (control, status, replayed, total) in cases {
        let upstream = Upstream::answering(move |request| {
            let reply = Reply::new(201).body(request.number.to_string());
            reply.header("idempotency-control", control)
        })
        .await;
        let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
        let first = post(&gateway).await;
        assert_eq!((first.status, first.text()), (201, "1"), "{control}");
        assert_eq!(first.header("idempotency-control"), None);
        let retry = post(&gateway).await;
        assert_eq!(
            (retry.status, retry.is_replay()),
            (status, replayed),
            "{control}"
        );
        // A refusal of the gateway's own has a word for another gateway before it.
        let own = (status == 409).then_some("no-store");
        assert_eq!(retry.header("idempotency-control"), own, "{control}");
        assert_eq!(upstream.total(), total, "{control}");
        if control.starts_with("lifetime") {
            let left = gateway.only_record().await["expires_in_seconds"]
                .as_u64()
                .unwrap();
            assert!((3500..=3600).contains(&left), "{left}");
        }
    }
    // Without a key there is nothing to decide, and still nothing to see.
    let upstream =
        Upstream::answering(|_| Reply::new(200).header("idempotency-control", "hold")).await;
    let gateway = Gateway::start(Settings::before(&upstream).in_memory()).await;
    assert_eq!(
        gateway.post("/").send().await.header("idempotency-control"),
        None
    );
}

#[tokio::test]
async fn a_lifetime_of_the_upstreams_own_ends() {
    let upstream = Upstream::answering(|request| {
        let reply = Reply::new(201).body(request.number.to_string());
        reply.header("idempotency-control", "lifetime=1")
    })
    .await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    assert_eq!(post(&gateway).await.text(), "1");
    assert!(post(&gateway).await.is_replay());
    let again = eventually("the end of the lifetime", || async {
        let answer = post(&gateway).await;
        (!answer.is_replay()).then_some(answer)
    })
    .await;
    assert_eq!(again.text(), "2");
    assert_eq!(
        upstream.last().header("idempotency-attempt"),
        Some("1"),
        "as if never seen"
    );
}

#[tokio::test]
async fn interim_answers_are_not_the_answer() {
    let upstream = RawUpstream::answering(
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
         HTTP/1.1 201 Created\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    )
    .await;
    let gateway = Gateway::start(Settings::before_raw(&upstream).in_memory()).await;
    for replayed in [false, true] {
        let answer = post(&gateway).await;
        assert_eq!((answer.status, answer.text()), (201, "ok"));
        assert_eq!(
            (answer.is_replay(), answer.header("link")),
            (replayed, None)
        );
    }
}

#[tokio::test]
async fn an_upstream_that_ends_its_connections_without_a_word_costs_no_request() {
    // It promises to keep the connection, and closes it behind each answer.
    let upstream =
        RawUpstream::answering("HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok").await;
    let gateway = Gateway::start(Settings::before_raw(&upstream).in_memory()).await;
    for number in 0..50 {
        let answer = gateway.post("/").key(&format!("key-{number}")).send().await;
        assert_eq!(
            (answer.status, answer.text()),
            (201, "ok"),
            "{number}: {answer:?}"
        );
    }
    assert_eq!(upstream.requests(), 50);
}

#[tokio::test]
async fn several_upstreams_share_the_work_and_one_that_is_gone_is_no_matter() {
    let (one, two) = (Upstream::counting().await, Upstream::counting().await);
    let settings = Settings::before(&one)
        .and_url(two.url())
        .and_url(nowhere().await);
    let gateway = Gateway::start(settings.in_memory()).await;
    for number in 0..12 {
        let call = || gateway.post("/").key(&format!("key-{number}")).send();
        let answer = eventually("an answer", || async {
            let answer = call().await;
            (answer.status != 502).then_some(answer)
        })
        .await;
        assert_eq!(answer.status, 201);
    }
    assert!(one.total() >= 3 && two.total() >= 3);
    assert_eq!(one.total() + two.total(), 12);
}
