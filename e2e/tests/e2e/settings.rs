//! Settings of the way through the gateway have the effect that they promise.

use onlyonce_e2e::{Gateway, RawUpstream, Reply, Settings, Upstream, Wire};

async fn with(upstream: &Upstream, section: &str, lines: &str) -> Gateway {
    Gateway::start(
        Settings::before(upstream)
            .in_memory()
            .section(section, lines),
    )
    .await
}

#[tokio::test]
async fn hazard_54_who_asked_is_passed_on_and_cannot_be_forged() {
    let upstream = Upstream::counting().await;
    let gateway = with(&upstream, "proxy", "").await;
    let forged = || {
        let call = gateway.post("/").header("x-forwarded-for", "6.6.6.6");
        call.header("forwarded", "for=6.6.6.6")
            .header("x-forwarded-proto", "https")
    };
    forged().send().await;
    let seen = upstream.last();
    let host = gateway.addr().to_string();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some(host.as_str()));
    assert_eq!(seen.header("via"), Some("1.1 onlyonce"));
    assert_eq!(seen.header("host"), Some(host.as_str()), "the client's");
    assert!(!seen.header("forwarded").unwrap().contains("6.6.6.6"));
    // Hazard 52: nor taken off.
    forged()
        .header("connection", "x-forwarded-for, via, forwarded, x-own")
        .header("x-own", "1")
        .send()
        .await;
    let seen = upstream.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("via"), Some("1.1 onlyonce"));
    assert_eq!(seen.header("x-own"), None);
}

#[tokio::test]
async fn behind_a_proxy_of_ones_own_its_word_is_believed() {
    let upstream = Upstream::counting().await;
    let lines = "trust_forwarded = true\nvia = \"edge\"\nhost = \"upstream\"";
    let gateway = with(&upstream, "proxy", lines).await;
    gateway
        .post("/")
        .header("x-forwarded-for", "10.1.2.3")
        .send()
        .await;
    let seen = upstream.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("10.1.2.3, 127.0.0.1"));
    assert_eq!(seen.header("via"), Some("1.1 edge"));
    assert_eq!(
        seen.header("host"),
        Some(upstream.addr().to_string().as_str())
    );

    let quiet = with(&upstream, "proxy", "via = \"off\"").await;
    quiet.post("/").send().await;
    assert_eq!(upstream.last().header("via"), None);
}

#[tokio::test]
async fn the_upstreams_head_is_bounded() {
    let upstream =
        Upstream::answering(|_| Reply::new(201).header("x-long", "x".repeat(20_000))).await;
    let gateway = with(&upstream, "proxy", "max_header_bytes = \"16KiB\"").await;
    assert_eq!(gateway.post("/").key("a").send().await.status, 502);
    let gateway = with(&upstream, "proxy", "max_header_bytes = \"32KiB\"").await;
    assert_eq!(gateway.post("/").key("a").send().await.status, 201);
}

#[tokio::test]
async fn an_upstream_that_pauses_in_a_body_is_given_up() {
    let upstream = RawUpstream::with(|mut wire, _| async move {
        wire.try_write("HTTP/1.1 201 Created\r\ncontent-length: 10\r\n\r\nabc")
            .await;
        // Waits for the other side's end, and says no more.
        wire.read_to_end().await;
    })
    .await;
    let settings = Settings::before_raw(&upstream).in_memory();
    for lines in ["idle_timeout = \"100ms\"", "total_timeout = \"300ms\""] {
        let gateway = Gateway::start(settings.clone().section("proxy", lines)).await;
        let answer = gateway.post("/").key("a").send().await;
        assert!([502, 504].contains(&answer.status), "{lines}: {answer:?}");
        let retry = gateway.post("/").key("a").send().await;
        assert_eq!(
            retry.problem().as_deref(),
            Some("outcome-unknown"),
            "{lines}"
        );
    }
}

#[tokio::test]
async fn the_clients_head_is_bounded() {
    let upstream = Upstream::counting().await;
    let lines = "max_header_bytes = \"8KiB\"\nmax_headers = 20";
    let gateway = with(&upstream, "limits", lines).await;
    let long = gateway
        .post("/")
        .header("x-long", "x".repeat(9000))
        .send()
        .await;
    assert_eq!(long.status, 431);
    let many = (0..30).fold(gateway.post("/"), |call, n| {
        call.header(&format!("x-{n}"), "x")
    });
    assert_eq!(many.send().await.status, 431);
    assert_eq!(upstream.total(), 0);
    let few = (0..10).fold(gateway.post("/"), |call, n| {
        call.header(&format!("x-{n}"), "x")
    });
    assert_eq!(few.send().await.status, 201);
}

#[tokio::test]
async fn bodies_without_a_key_are_bounded_where_it_is_asked_for() {
    let upstream = Upstream::counting().await;
    let gateway = with(&upstream, "limits", "max_request_body = \"100KiB\"").await;
    let known = gateway.post("/").body(vec![0; 102_401]).send().await;
    assert_eq!(known.status, 413);
    let unknown = gateway
        .post("/")
        .any_body(onlyonce_e2e::zeroes(150_000))
        .send()
        .await;
    assert_eq!(unknown.status, 413);
    assert_eq!(
        gateway.post("/").body(vec![0; 102_400]).send().await.status,
        201
    );
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn hazard_50_slow_clients_are_cut_off() {
    let upstream = Upstream::counting().await;
    let lines = "header_timeout = \"100ms\"\nbody_idle_timeout = \"100ms\"\n\
                 keep_alive_timeout = \"100ms\"";
    let gateway = with(&upstream, "limits", lines).await;
    // Half a head.
    let mut head = Wire::connect(gateway.addr()).await;
    head.write("POST / HTTP/1.1\r\nhost: a\r\n").await;
    let answer = head.read_to_end().await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
    // Half a body.
    let mut body = Wire::connect(gateway.addr()).await;
    body.write("POST / HTTP/1.1\r\nhost: a\r\nidempotency-key: a\r\ncontent-length: 9\r\n\r\nab")
        .await;
    let answer = body.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    // Nothing at all, and nothing more.
    assert_eq!(Wire::connect(gateway.addr()).await.read_to_end().await, "");
    let mut idle = Wire::connect(gateway.addr()).await;
    idle.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert!(
        idle.read_to_end()
            .await
            .starts_with("HTTP/1.1 201 Created\r\n")
    );
    assert_eq!(upstream.total(), 1);
    assert_eq!(
        gateway.post("/").key("a").send().await.status,
        201,
        "the key is free"
    );
}

#[tokio::test]
async fn hazard_50_a_client_that_takes_nothing_is_cut_off() {
    let upstream =
        Upstream::answering(|_| Reply::new(200).any_body(onlyonce_e2e::zeroes(64 << 20))).await;
    let gateway = with(&upstream, "limits", "write_timeout = \"200ms\"").await;
    let mut wire = Wire::connect(gateway.addr()).await;
    wire.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    onlyonce_e2e::eventually("the request", || async {
        (upstream.total() == 1).then_some(())
    })
    .await;
    // It reads nothing. All the same the connection ends, which the open ones show.
    onlyonce_e2e::eventually("the connection's end", || async {
        let open = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let port = format!(":{:04X} ", gateway.addr().port());
        // Local address is the gateway's, and the state is "established".
        let established = open.lines().any(|line| {
            let mut columns = line.split_whitespace();
            let local = columns
                .nth(1)
                .is_some_and(|local| format!("{local} ").ends_with(&port));
            local && columns.nth(1) == Some("01")
        });
        (!established).then_some(())
    })
    .await;
    drop(wire);
}

#[tokio::test]
async fn hazard_50_connections_beyond_the_limit_wait_for_a_place() {
    let (upstream, gate) = Upstream::gated().await;
    let gateway = with(&upstream, "limits", "max_connections = 2").await;
    let first = tokio::spawn(gateway.post("/").key("a").send());
    let second = tokio::spawn(gateway.post("/").key("b").send());
    gate.arrived(2).await;
    let third = tokio::spawn(gateway.post("/").key("c").send());
    // It is not refused, and not served before another has gone.
    let live = gateway.admin(http::Method::GET, "/livez").send().await;
    assert_eq!(live.status, 200, "operators have places of their own");
    assert_eq!(gate.arrivals(), 2);
    gate.open();
    for call in [first, second, third] {
        assert_eq!(call.await.unwrap().status, 201);
    }
}

#[tokio::test]
async fn hazard_50_running_out_of_file_descriptors_is_survived() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    gateway.limit_files(64);
    let mut open = Vec::new();
    for _ in 0..200 {
        let mut wire = Wire::connect(gateway.addr()).await;
        wire.try_write("POST / HTTP/1.1\r\nhost: a\r\n").await;
        open.push(wire);
    }
    drop(open);
    for number in 0..10 {
        let call = || gateway.post("/").key(&format!("key-{number}")).send();
        // The closed ones go one after another; until then there may be none for the upstream.
        let answer = onlyonce_e2e::eventually("an answer", || async {
            let answer = call().await;
            (answer.status != 502).then_some(answer)
        })
        .await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(call().await.is_replay());
    }
    assert_eq!(
        gateway
            .admin(http::Method::GET, "/readyz")
            .send()
            .await
            .status,
        200
    );
    assert_eq!(upstream.total(), 10);
}
