//! What reaches the upstream, and what comes back.

use super::harness::*;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use onlyonce_gateway::front::FrontOptions;
use onlyonce_gateway::upstream::HostRule;
use std::convert::Infallible;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_request_and_its_response_pass() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let mut client = gateway.connect().await;
    let path = "/a//b/../c%2f%2F/%7e;p?q=%20+&x=1,2&y[]={a}";
    for turn in 0..3 {
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: api.test\r\ncontent-length: 3\r\n\r\nabc");
        client.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = read_response(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(field(&head, "date").is_some());
        assert_eq!(body, "ok");
        let seen = upstream.head(turn);
        assert!(
            seen.starts_with(&format!("POST {path} HTTP/1.1\r\n")),
            "{seen}"
        );
        assert_eq!(field(&seen, "host").as_deref(), Some("api.test"));
        assert_eq!(field(&seen, "content-length").as_deref(), Some("3"));
        assert_eq!(
            field(&seen, "x-forwarded-for").as_deref(),
            Some("127.0.0.1")
        );
        assert_eq!(field(&seen, "via").as_deref(), Some("1.1 onlyonce"));
    }
    assert_eq!(upstream.connections(), 1, "the connection is kept");
    drop(client);
    assert!(gateway.stopped().await.all_finished());
}

#[tokio::test]
async fn hazard_52_a_client_cannot_have_our_fields_removed() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let names = "close, x-forwarded-for, x-forwarded-proto, x-forwarded-host, forwarded, via, \
                 host, content-length, x-own";
    let request = format!(
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: {names}\r\nkeep-alive: timeout=9\r\n\
         proxy-connection: close\r\nproxy-authorization: Basic eA==\r\nx-own: 1\r\nx-other: 2\r\n\
         x-forwarded-for: 6.6.6.6\r\nx-real-ip: 6.6.6.6\r\ncontent-length: 3\r\n\r\nabc"
    );
    let answer = gateway.send(request).await;
    assert!(answer.ends_with("ok"), "{answer}");
    let seen = upstream.head(0);
    assert_eq!(
        field(&seen, "x-forwarded-for").as_deref(),
        Some("127.0.0.1")
    );
    assert_eq!(field(&seen, "x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(field(&seen, "x-forwarded-host").as_deref(), Some("a"));
    let forwarded = "for=127.0.0.1;proto=http;host=\"a\"";
    assert_eq!(field(&seen, "forwarded").as_deref(), Some(forwarded));
    assert_eq!(field(&seen, "via").as_deref(), Some("1.1 onlyonce"));
    assert_eq!(field(&seen, "host").as_deref(), Some("a"));
    assert_eq!(field(&seen, "content-length").as_deref(), Some("3"));
    assert_eq!(field(&seen, "x-other").as_deref(), Some("2"));
    for gone in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "x-own",
        "x-real-ip",
    ] {
        assert_eq!(field(&seen, gone), None, "{seen}");
    }
}

#[tokio::test]
async fn hazard_52_fields_named_by_connection_are_gone_before_any_layer_adds_its_own() {
    // A layer behind the front, as the idempotency layer is.
    let gateway = Gateway::with_service(Default::default(), |mut request: Request<_>| async move {
        let own = HeaderValue::from_static("7");
        request.headers_mut().append("idempotency-fence", own);
        onlyonce_gateway::proxy::hop::strip(request.headers_mut());
        let fences: Vec<_> = request
            .headers()
            .get_all("idempotency-fence")
            .iter()
            .collect();
        Ok(answer(200, &format!("{fences:?}")))
    })
    .await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close, idempotency-fence\r\n\
                   idempotency-fence: 99\r\n\r\n";
    let answer = gateway.send(request).await;
    assert!(answer.ends_with("[\"7\"]"), "{answer}");
}

#[tokio::test]
async fn the_upstream_s_connection_fields_stay_with_its_connection() {
    let said = "HTTP/1.1 200 OK\r\nconnection: x-hop\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\n\
                proxy-authenticate: Basic\r\nupgrade: h2c\r\nx-end: 1\r\nset-cookie: a=1\r\n\
                set-cookie: b=2\r\ncontent-length: 2\r\n\r\nok";
    let upstream = RawUpstream::answering(said).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let mut client = gateway.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    let (head, _) = read_response(&mut client).await;
    for gone in [
        "connection",
        "keep-alive",
        "x-hop",
        "proxy-authenticate",
        "upgrade",
    ] {
        assert_eq!(field(&head, gone), None, "{head}");
    }
    assert_eq!(field(&head, "x-end").as_deref(), Some("1"));
    assert!(
        head.contains("set-cookie: a=1\r\nset-cookie: b=2\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn forwarded_fields_are_added_to_when_the_client_is_trusted() {
    let upstream = RawUpstream::answering(OK).await;
    let mut options = Options::default();
    options.proxy.trust_forwarded = true;
    options.proxy.host = HostRule::Upstream;
    let gateway = Gateway::before(&[upstream.addr], options).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-forwarded-for: 192.0.2.7\r\n\
                   x-forwarded-proto: https\r\nforwarded: for=192.0.2.7\r\nvia: 1.0 fred\r\n\r\n";
    gateway.send(request).await;
    let seen = upstream.head(0);
    assert_eq!(
        field(&seen, "x-forwarded-for").as_deref(),
        Some("192.0.2.7, 127.0.0.1")
    );
    assert_eq!(field(&seen, "x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(field(&seen, "x-forwarded-host").as_deref(), Some("a"));
    let forwarded = "for=192.0.2.7, for=127.0.0.1;proto=http;host=\"a\"";
    assert_eq!(field(&seen, "forwarded").as_deref(), Some(forwarded));
    assert!(
        seen.contains("via: 1.0 fred\r\nvia: 1.1 onlyonce\r\n"),
        "{seen}"
    );
    assert_eq!(field(&seen, "host"), Some(upstream.addr.to_string()));
}

#[tokio::test]
async fn bodies_and_statuses_without_bodies_come_as_they_are() {
    let gzip = b"\x1f\x8b\x08\x00\0\0\0\0\0\x03\xff\xfe";
    let upstream = RawUpstream::new(|mut talk| async move {
        while let Some(head) = talk.head().await {
            let said: &[u8] = match head.split(' ').nth(1).unwrap() {
                "/204" => b"HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => b"HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncontent-length: 50\r\n\r\n",
                "/empty" => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                "/head" => b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
                "/gzip" => {
                    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 12\r\n\r\n\
                      \x1f\x8b\x08\x00\0\0\0\0\0\x03\xff\xfe"
                }
                "/dated" => {
                    b"HTTP/1.1 299 Very Fine\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
                      x-bin: \xff\xfe\r\ncontent-length: 0\r\n\r\n"
                }
                "/1xx" => {
                    b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                      HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
                }
                path => panic!("{path}"),
            };
            talk.stream.write_all(said).await.unwrap();
        }
    })
    .await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let mut client = gateway.connect().await;
    let mut ask = async |request: String| {
        client.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut client).await.unwrap();
        let without = head.contains(" 304 ") || request.starts_with("HEAD");
        let length = content_length(&head).filter(|_| !without).unwrap_or(0);
        let mut body = vec![0; length];
        tokio::io::AsyncReadExt::read_exact(&mut client, &mut body)
            .await
            .unwrap();
        (head, body)
    };
    let (head, _) = ask(get("/204")).await;
    assert!(
        head.starts_with("HTTP/1.1 204 ") && content_length(&head).is_none(),
        "{head}"
    );
    let (head, _) = ask(get("/304")).await;
    assert_eq!(field(&head, "etag").as_deref(), Some("\"x\""));
    let (head, _) = ask(get("/empty")).await;
    assert_eq!(content_length(&head), Some(0));
    let (head, _) = ask(get("/head").replace("GET", "HEAD")).await;
    assert_eq!(content_length(&head), Some(1000));
    let (head, body) = ask(get("/gzip")).await;
    assert_eq!(field(&head, "content-encoding").as_deref(), Some("gzip"));
    assert_eq!(body, gzip);
    let (_, body) = ask(get("/1xx")).await;
    assert_eq!(body, b"ok");
    assert_eq!(upstream.connections(), 1);
    drop(client);
    let mut client = gateway.connect().await;
    client
        .write_all(get_close("/dated").as_bytes())
        .await
        .unwrap();
    let answer = read_to_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 299 "), "{answer}");
    assert!(
        answer.contains("date: Mon, 01 Jan 2024 00:00:00 GMT\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn absolute_form_names_the_host_and_goes_on_in_origin_form() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let request =
        "GET http://u@real.test:81/p?q HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n";
    assert!(gateway.send(request).await.ends_with("ok"));
    let seen = upstream.head(0);
    assert!(seen.starts_with("GET /p?q HTTP/1.1\r\n"), "{seen}");
    assert_eq!(field(&seen, "host").as_deref(), Some("real.test:81"));
    assert_eq!(
        field(&seen, "x-forwarded-host").as_deref(),
        Some("real.test:81")
    );
    let request = "OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    assert!(gateway.send(request).await.ends_with("ok"));
    assert!(upstream.head(1).starts_with("OPTIONS * HTTP/1.1\r\n"));
}

#[tokio::test]
async fn connect_is_405_and_other_expectations_417() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let connect = "CONNECT db.internal:5432 HTTP/1.1\r\nhost: db.internal:5432\r\n\r\n";
    let mut client = gateway.connect().await;
    client.write_all(connect.as_bytes()).await.unwrap();
    let (head, _) = read_response(&mut client).await;
    assert!(
        head.starts_with("HTTP/1.1 405 ") && field(&head, "allow").is_some(),
        "{head}"
    );
    let expect = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 200-ok\r\ncontent-length: 0\r\n\r\n";
    let answer = gateway.send(expect).await;
    assert!(answer.starts_with("HTTP/1.1 417 "), "{answer}");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn expect_continue_is_answered_when_the_body_is_wanted_and_not_before() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let expect = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    let mut client = gateway.connect().await;
    client.write_all(expect.as_bytes()).await.unwrap();
    let head = within("100", read_head(&mut client)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 100 Continue\r\n"), "{head}");
    client.write_all(b"abc").await.unwrap();
    let (_, body) = read_response(&mut client).await;
    assert_eq!(body, "ok");
    assert_eq!(field(&upstream.head(0), "expect"), None);
    drop(upstream);

    // Nobody there to take it: the final answer comes at once, without a 100.
    let gateway = Gateway::before(&["127.0.0.1:1".parse().unwrap()], Options::default()).await;
    let mut client = gateway.connect().await;
    client.write_all(expect.as_bytes()).await.unwrap();
    let (head, _) = read_response(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

#[tokio::test]
async fn chunked_bodies_and_trailers_pass_both_ways() {
    let upstream = RawUpstream::new(|mut talk| async move {
        let head = talk.head().await.unwrap();
        let mut body = Vec::new();
        while !body.ends_with(b"x-sum: 9\r\n\r\n") {
            body.push(
                tokio::io::AsyncReadExt::read_u8(&mut talk.stream)
                    .await
                    .unwrap(),
            );
        }
        assert!(String::from_utf8(body).unwrap().contains("hello"));
        assert_eq!(field(&head, "te").as_deref(), Some("trailers"));
        assert_eq!(field(&head, "connection").as_deref(), Some("te"));
        assert_eq!(
            field(&head, "transfer-encoding").as_deref(),
            Some("chunked")
        );
        assert_eq!(content_length(&head), None);
        talk.say(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n\
             2\r\nok\r\n0\r\nx-end: 1\r\n\r\n",
        )
        .await;
    })
    .await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    for method in ["POST", "GET"] {
        let request = format!(
            "{method} / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te, close\r\n\
             trailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 9\r\n\r\n"
        );
        let answer = gateway.send(request).await;
        assert!(
            answer.ends_with("2\r\nok\r\n0\r\nx-end: 1\r\n\r\n"),
            "{method}: {answer}"
        );
    }
}

#[tokio::test]
async fn an_http10_client_gets_an_answer_that_it_understands() {
    let said = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let upstream = RawUpstream::answering(said).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let answer = gateway.send("GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(
        answer.ends_with("\r\n\r\nok") && !answer.contains("chunked"),
        "{answer}"
    );
    let seen = upstream.head(0);
    assert!(seen.starts_with("GET / HTTP/1.1\r\n"), "{seen}");
    assert_eq!(field(&seen, "host"), Some(upstream.addr.to_string()));
    assert_eq!(field(&seen, "via").as_deref(), Some("1.0 onlyonce"));
}

#[tokio::test]
async fn an_h2c_client_reaches_an_http1_upstream() {
    let upstream = RawUpstream::new(|mut talk| async move {
        while let Some(head) = talk.head().await {
            talk.body(&head).await;
            talk.say(
                "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\
                 trailer: grpc-status\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n",
            )
            .await;
        }
    })
    .await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let io = TokioIo::new(gateway.connect().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    for turn in 0..2 {
        let request = Request::post("http://api.test/p?q")
            .header("te", "trailers")
            .header("cookie", "a=1")
            .body(Full::new(Bytes::from_static(b"abc")))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(
            (response.status(), response.version()),
            (StatusCode::OK, Version::HTTP_2)
        );
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), "ok");
        let seen = upstream.head(turn);
        assert!(seen.starts_with("POST /p?q HTTP/1.1\r\n"), "{seen}");
        assert_eq!(field(&seen, "host").as_deref(), Some("api.test"));
        assert_eq!(field(&seen, "te").as_deref(), Some("trailers"));
        assert_eq!(field(&seen, "via").as_deref(), Some("2.0 onlyonce"));
        assert_eq!(content_length(&seen), Some(3));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_h2c_upstream_takes_requests_and_trailers() {
    // hyper's own server, as somebody else's upstream.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async {
            let (parts, body) = request.into_parts();
            assert_eq!(parts.version, Version::HTTP_2);
            assert_eq!(parts.uri, "http://api.test/p");
            assert!(!parts.headers.contains_key("connection"));
            let body = body.collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["x-sum"], "9");
            let mut trailers = HeaderMap::new();
            trailers.insert("x-end", HeaderValue::from_static("1"));
            let frames = [
                http_body::Frame::data(body.to_bytes()),
                http_body::Frame::trailers(trailers),
            ];
            let frames = futures_util::stream::iter(frames.map(Ok::<_, Infallible>));
            Ok::<_, Infallible>(
                http::Response::builder()
                    .header("trailer", "x-end")
                    .body(StreamBody::new(frames))
                    .unwrap(),
            )
        });
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await
            .unwrap();
    });
    let mut options = Options::default();
    options.upstream.h2c = true;
    let gateway = Gateway::before(&[addr], options).await;
    for _ in 0..2 {
        let request = "POST /p HTTP/1.1\r\nhost: api.test\r\nconnection: close, te\r\nte: trailers\r\n\
                       trailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
                       5\r\nhello\r\n0\r\nx-sum: 9\r\n\r\n";
        let answer = gateway.send(request).await;
        assert!(
            answer.ends_with("5\r\nhello\r\n0\r\nx-end: 1\r\n\r\n"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_h2_client_s_host_comes_from_its_authority() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let io = TokioIo::new(gateway.connect().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://api.test/")
        .header("host", "evil.test")
        .body(Empty::<Bytes>::new())
        .unwrap();
    sender.send_request(request).await.unwrap();
    assert_eq!(
        field(&upstream.head(0), "host").as_deref(),
        Some("api.test")
    );
}

#[tokio::test]
async fn the_host_is_the_same_to_all_layers_whatever_the_protocol() {
    let gateway = Gateway::with_service(FrontOptions::default(), |request| async move {
        let hosts: Vec<&str> = request
            .headers()
            .get_all("host")
            .iter()
            .map(|host| host.to_str().unwrap())
            .collect();
        Ok(answer(200, &hosts.join(" ")))
    })
    .await;
    let absolute =
        "GET http://u@api.test/ HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n";
    assert!(gateway.send(absolute).await.ends_with("\r\n\r\napi.test"));
    let io = TokioIo::new(gateway.connect().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://api.test/")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "api.test");
}
