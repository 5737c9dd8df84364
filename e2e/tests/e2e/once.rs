//! A retried request takes effect once: one after another, all at once, and after a hang-up.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Method;
use onlyonce_e2e::{Answer, Gateway, Settings, Upstream, Wire, eventually};

/// A figure of the metrics; 0 before it is first set.
pub(crate) async fn figure(gateway: &Gateway, name: &str) -> f64 {
    let metrics = gateway.admin(Method::GET, "/metrics").send().await;
    let line = metrics.text().lines().find_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        (series == name).then(|| value.parse::<f64>().unwrap())
    });
    line.unwrap_or(0.0)
}

async fn waiting(gateway: &Gateway, count: u32) {
    eventually("waiters", || async {
        let waiters = figure(gateway, "onlyonce_waiters").await;
        (waiters == f64::from(count)).then_some(())
    })
    .await;
}

fn assert_in_progress(answer: &Answer) {
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(answer.problem().as_deref(), Some("in-progress"));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn retries_one_after_another_get_the_first_answer() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    for turn in 0..5 {
        let answer = gateway.post("/charges").key("a").body("10").send().await;
        assert_eq!((answer.status, answer.text()), (201, "1"));
        assert_eq!(answer.is_replay(), turn > 0);
    }
    assert_eq!(upstream.executions("a"), 1);
    let seen = upstream.last();
    assert_eq!((seen.path(), &seen.body[..]), ("/charges", &b"10"[..]));
    assert_eq!(seen.header("idempotency-attempt"), Some("1"));
    assert!(seen.header("idempotency-fence").is_some());
}

#[tokio::test]
async fn hazard_01_of_a_hundred_at_once_one_executes_and_the_others_are_told_to_wait() {
    let (upstream, gate) = Upstream::gated().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let calls = (0..100).map(|_| gateway.post("/charges").key("a").body("10").send());
    let mut answers: FuturesUnordered<_> = calls.collect();
    for _ in 0..99 {
        assert_in_progress(&answers.next().await.unwrap());
    }
    gate.arrived(1).await;
    assert_eq!(upstream.total(), 1);
    gate.open();
    let owner = answers.next().await.unwrap();
    assert_eq!((owner.status, owner.text()), (201, "1"));
    assert!(!owner.is_replay());
    let retry = gateway.post("/charges").key("a").body("10").send().await;
    assert_eq!((retry.status, retry.text()), (201, "1"));
    assert!(retry.is_replay());
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn a_hundred_at_once_wait_for_the_one_that_executes() {
    let (upstream, gate) = Upstream::gated().await;
    let settings = Settings::before(&upstream)
        .idempotency("concurrent = \"wait\"\nwait_timeout = \"30s\"\nmax_waiters = 200");
    let gateway = Gateway::start(settings).await;
    let calls = (0..100).map(|_| gateway.post("/charges").key("a").body("10").send());
    let mut answers: FuturesUnordered<_> = calls.collect();
    tokio::select! {
        early = answers.next() => panic!("answered before the effect: {early:?}"),
        () = waiting(&gateway, 99) => {}
    }
    gate.open();
    let answers: Vec<Answer> = answers.collect().await;
    assert!(
        answers
            .iter()
            .all(|answer| (answer.status, answer.text()) == (201, "1"))
    );
    let replays = answers.iter().filter(|answer| answer.is_replay()).count();
    assert_eq!((answers.len(), replays), (100, 99));
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn a_hundred_at_once_on_one_http2_connection_execute_once() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream)
        .idempotency("concurrent = \"wait\"\nwait_timeout = \"30s\"\nmax_waiters = 200");
    let gateway = Gateway::start(settings).await;
    let call = || gateway.post("/charges").http2().key("a").body("10");
    let connection = call().connection().await.unwrap();
    let calls = (0..100).map(|_| {
        let mut connection = connection.another();
        let call = call();
        async move { connection.send(call).await.unwrap() }
    });
    let answers: Vec<_> = calls.collect::<FuturesUnordered<_>>().collect().await;
    for answer in answers {
        assert_eq!((answer.status, answer.text()), (201, "1"));
    }
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn hazard_40_waiters_are_capped() {
    let (upstream, gate) = Upstream::gated().await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .idempotency("concurrent = \"wait\"\nwait_timeout = \"30s\"\nmax_waiters = 4");
    let gateway = Gateway::start(settings).await;
    let calls = (0..10).map(|_| gateway.post("/").key("a").send());
    let mut answers: FuturesUnordered<_> = calls.collect();
    for _ in 0..5 {
        assert_in_progress(&answers.next().await.unwrap());
    }
    gate.open();
    let rest: Vec<Answer> = answers.collect().await;
    assert!(rest.iter().all(|answer| answer.status == 201) && rest.len() == 5);
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn hazard_08_a_waiter_whose_patience_ends_changes_nothing() {
    let (upstream, gate) = Upstream::gated().await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .idempotency("concurrent = \"wait\"\nwait_timeout = \"50ms\"");
    let gateway = Gateway::start(settings).await;
    let owner = gateway.post("/").key("a").send();
    let others = async {
        gate.arrived(1).await;
        for _ in 0..3 {
            assert_in_progress(&gateway.post("/").key("a").send().await);
        }
        gate.open();
    };
    let (owner, ()) = tokio::join!(owner, others);
    assert_eq!(owner.status, 201);
    assert!(gateway.post("/").key("a").send().await.is_replay());
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn hazard_09_a_request_may_take_longer_than_its_lease() {
    let (upstream, gate) = Upstream::gated().await;
    let settings = Settings::before(&upstream)
        .idempotency("on_unknown = \"retry\"\nlease = \"1s\"\nstore_timeout = \"300ms\"");
    let gateway = Gateway::start(settings).await;
    let owner = tokio::spawn(gateway.post("/charges").key("a").body("10").send());
    gate.arrived(1).await;
    // One comes every third of the lease.
    eventually("renewals for twice the lease", || async {
        let series = "onlyonce_store_duration_seconds_count{operation=\"renew\",result=\"ok\"}";
        let renewals = figure(&gateway, series).await;
        let retry = gateway.post("/charges").key("a").body("10").send().await;
        assert_in_progress(&retry);
        (renewals >= 6.0).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(owner.await.unwrap().text(), "1");
    assert!(
        gateway
            .post("/charges")
            .key("a")
            .body("10")
            .send()
            .await
            .is_replay()
    );
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn hazard_18_when_the_owner_fails_its_waiters_do_not_all_execute() {
    let gate = onlyonce_e2e::Gate::closed();
    let inside = gate.clone();
    // The first is refused by the service, in a way that is not stored.
    let upstream = Upstream::with(move |request| {
        let gate = inside.clone();
        async move {
            gate.pass().await;
            let status = if request.number == 1 { 503 } else { 201 };
            onlyonce_e2e::Reply::new(status).body(request.number.to_string())
        }
    })
    .await;
    let settings =
        Settings::before(&upstream).idempotency("concurrent = \"wait\"\nwait_timeout = \"30s\"");
    let gateway = Gateway::start(settings).await;
    let calls = (0..20).map(|_| gateway.post("/").key("a").send());
    let mut answers: FuturesUnordered<_> = calls.collect();
    tokio::select! {
        early = answers.next() => panic!("answered before the effect: {early:?}"),
        () = waiting(&gateway, 19) => {}
    }
    gate.open();
    let answers: Vec<Answer> = answers.collect().await;
    let with = |status| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    assert_eq!((with(503), with(201)), (1, 19));
    assert_eq!(
        upstream.total(),
        2,
        "the first, and one of those who waited"
    );
}

#[tokio::test]
async fn hazard_22_who_has_the_answer_can_retry_at_once() {
    // The record is there before the first byte of the answer leaves.
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    for number in 0..100 {
        let call = || gateway.post("/").key(&format!("key-{number}")).send();
        let (first, retry) = (call().await, call().await);
        assert_eq!((first.status, retry.status), (201, 201));
        assert!(retry.is_replay() && retry.body == first.body);
    }
    assert_eq!(upstream.total(), 100);
}

#[tokio::test]
async fn many_keys_at_once_execute_once_each() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let calls = (0..200).map(|number| {
        let key = format!("key-{}", number % 40);
        let gateway = &gateway;
        // What a client does: again and again, until there is an answer.
        async move {
            eventually("an answer", || async {
                let answer = gateway.post("/charges").key(&key).body("10").send().await;
                (answer.status != 409).then_some((key.clone(), answer))
            })
            .await
        }
    });
    let answers: Vec<_> = calls.collect::<FuturesUnordered<_>>().collect().await;
    for number in 0..40 {
        let key = format!("key-{number}");
        let own: Vec<_> = answers.iter().filter(|(owner, _)| *owner == key).collect();
        assert_eq!(own.len(), 5);
        assert!(own.iter().all(|(_, answer)| answer.body == own[0].1.body));
        assert_eq!(upstream.executions(&key), 1, "{key}");
    }
    assert_eq!(upstream.total(), 40);
}

#[tokio::test]
async fn hazard_15_a_client_that_hangs_up_gets_its_answer_by_retrying() {
    for http2 in [false, true] {
        let (upstream, gate) = Upstream::gated().await;
        let gateway = Gateway::start(Settings::before(&upstream)).await;
        let call = || {
            let call = gateway.post("/charges").key("a").body("10");
            if http2 { call.http2() } else { call }
        };
        tokio::select! {
            answer = call().send() => panic!("answered before the effect: {answer:?}"),
            () = gate.arrived(1) => {}
        }
        // Hung up. The work goes on behind it.
        assert_in_progress(&call().send().await);
        gate.open();
        let retry = eventually("the answer", || async {
            let answer = call().send().await;
            (answer.status != 409).then_some(answer)
        })
        .await;
        assert_eq!((retry.status, retry.text()), (201, "1"));
        assert!(retry.is_replay());
        assert_eq!(upstream.total(), 1);
    }
}

#[tokio::test]
async fn hazard_16_a_hang_up_does_not_leave_the_key_in_progress() {
    let (upstream, gate) = Upstream::gated().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let mut wire = Wire::connect(gateway.addr()).await;
    wire.write("POST / HTTP/1.1\r\nhost: a\r\nidempotency-key: a\r\ncontent-length: 0\r\n\r\n")
        .await;
    gate.arrived(1).await;
    drop(wire);
    gate.open();
    let record = eventually("the record", || async {
        let record = gateway.only_record().await;
        (record["state"] == "completed").then_some(record)
    })
    .await;
    assert_eq!(record["status"], 201);
}

#[tokio::test]
async fn a_hang_up_in_the_middle_of_the_request_leaves_the_key_free() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    // A short body, which is read before the claim, and a long one, which is passed on at once.
    for (length, first) in [(10, "abc".to_owned()), (300_000, "x".repeat(200_000))] {
        let mut wire = Wire::connect(gateway.addr()).await;
        let head = format!(
            "POST / HTTP/1.1\r\nhost: a\r\nidempotency-key: k{length}\r\n\
             content-length: {length}\r\n\r\n"
        );
        wire.write(head + first.as_str()).await;
        drop(wire);
        let body = "y".repeat(length);
        let answer = eventually("an answer", || async {
            let call = gateway
                .post("/")
                .key(&format!("k{length}"))
                .body(body.clone());
            let answer = call.send().await;
            (answer.status != 409).then_some(answer)
        })
        .await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(!answer.is_replay());
        assert_eq!(upstream.last().body.len(), length);
    }
    // What broke off was never handed over whole.
    assert_eq!(upstream.total(), 2);
}
