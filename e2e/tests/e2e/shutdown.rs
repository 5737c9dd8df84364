//! SIGTERM: what runs is finished and recorded, nothing new begins.

use onlyonce_e2e::{Gateway, Settings, Upstream, Wire, eventually};
use rustix::process::Signal;

#[tokio::test]
async fn what_runs_at_sigterm_is_finished_recorded_and_answered() {
    for signal in [Signal::TERM, Signal::INT] {
        let (upstream, gate) = Upstream::gated().await;
        let mut gateway = Gateway::start(Settings::before(&upstream)).await;
        let call = || gateway.post("/charges").key("a").body("10").send();
        let first = tokio::spawn(call());
        gate.arrived(1).await;
        gateway.signal(signal);
        gateway.logs("shutting down").await;
        gate.open();
        let first = first.await.unwrap();
        assert_eq!((first.status, first.text()), (201, "1"));
        assert_eq!(gateway.end().await.code(), Some(0));

        let gateway = gateway.home().start().await;
        let retry = gateway.post("/charges").key("a").body("10").send().await;
        assert!(retry.is_replay());
        assert_eq!((retry.text(), upstream.total()), ("1", 1));
    }
}

#[tokio::test]
async fn while_it_drains_nothing_new_is_taken_and_operators_are_told() {
    let (upstream, gate) = Upstream::gated().await;
    let mut gateway = Gateway::start(Settings::before(&upstream)).await;
    // A connection that is there already, and idle.
    let mut idle = Wire::connect(gateway.addr()).await;
    idle.write("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let first = tokio::spawn(gateway.post("/").key("a").send());
    gate.arrived(2).await;
    gateway.signal(Signal::TERM);
    gateway.logs("shutting down").await;
    eventually("the listener's end", || async {
        let refused = gateway.post("/").key("b").try_send().await;
        refused.is_err().then_some(())
    })
    .await;
    let ready = gateway.admin(http::Method::GET, "/readyz").send().await;
    assert_eq!(
        (ready.status, &ready.json()["draining"]),
        (503, &true.into())
    );
    let live = gateway.admin(http::Method::GET, "/livez").send().await;
    assert_eq!(live.status, 200);
    gate.open();
    assert_eq!(first.await.unwrap().status, 201);
    assert!(
        idle.read_to_end()
            .await
            .starts_with("HTTP/1.1 201 Created\r\n")
    );
    assert_eq!(gateway.end().await.code(), Some(0));
    assert_eq!(upstream.total(), 2);
}

#[tokio::test]
async fn what_outlasts_the_drain_stays_in_progress_and_becomes_unknown() {
    let (upstream, gate) = Upstream::gated().await;
    let settings = Settings::before(&upstream)
        .section("limits", "drain_timeout = \"200ms\"")
        .idempotency("lease = \"1s\"\nstore_timeout = \"300ms\"");
    let mut gateway = Gateway::start(settings).await;
    let first = tokio::spawn(gateway.post("/").key("a").try_send());
    gate.arrived(1).await;
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.end().await.code(), Some(0));
    assert!(first.await.unwrap().is_err(), "cut off");
    assert!(
        gateway.log().contains("not all requests ended in time"),
        "{}",
        gateway.log()
    );
    gate.open();

    let gateway = gateway.home().start().await;
    let answer = eventually("the end of the lease", || async {
        let answer = gateway.post("/").key("a").send().await;
        (answer.problem().as_deref() != Some("in-progress")).then_some(answer)
    })
    .await;
    assert_eq!(answer.problem().as_deref(), Some("outcome-unknown"));
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn a_detached_request_whose_client_has_gone_is_waited_for_too() {
    let (upstream, gate) = Upstream::gated().await;
    let mut gateway = Gateway::start(Settings::before(&upstream)).await;
    tokio::select! {
        answer = gateway.post("/").key("a").send() => panic!("{answer:?}"),
        () = gate.arrived(1) => {}
    }
    gateway.signal(Signal::TERM);
    gateway.logs("shutting down").await;
    gate.open();
    assert_eq!(gateway.end().await.code(), Some(0));
    let gateway = gateway.home().start().await;
    assert!(gateway.post("/").key("a").send().await.is_replay());
    assert_eq!(upstream.total(), 1);
}
