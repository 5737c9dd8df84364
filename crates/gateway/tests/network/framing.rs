//! Hazard 51 over real sockets: nothing is smuggled in, and unread bodies are never requests.

use super::harness::*;
use http_body_util::BodyExt;
use onlyonce_gateway::front::FrontOptions;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn hazard_51_ambiguous_requests_get_400_and_the_connection_ends() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let heads = [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4, 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\nhost: a\ncontent-length: 0\n\n",
        "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    ];
    for head in heads {
        // Whatever it is cut into.
        for cut in [head.len(), 1, head.len() - 3] {
            let mut client = gateway.connect().await;
            client.write_all(&head.as_bytes()[..cut]).await.unwrap();
            client.flush().await.unwrap();
            tokio::task::yield_now().await;
            let rest = [&head[cut..], SMUGGLED].concat();
            // The gateway may have closed already.
            let _ = client.write_all(rest.as_bytes()).await;
            let answer = read_to_end(&mut client).await;
            assert!(
                answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
                "{head:?}: {answer:?}"
            );
            assert_eq!(
                answer.matches("HTTP/1.1").count(),
                1,
                "{head:?}: {answer:?}"
            );
        }
    }
    assert_eq!(upstream.requests(), 0, "nothing reached the upstream");
}

#[tokio::test]
async fn hazard_51_a_fault_behind_a_good_request_spoils_only_what_follows() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let bad = "POST /bad HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx";
    let answer = gateway.send([&get("/good"), bad, SMUGGLED].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("okHTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert_eq!(answer.matches("HTTP/1.1").count(), 2, "{answer}");
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn hazard_51_faults_in_chunks_are_400_and_the_end() {
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let bodies = [
        "5\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
    ];
    for body in bodies {
        let upstream = RawUpstream::new(|mut talk| async move {
            talk.head().await;
            read_to_end(&mut talk.stream).await;
        })
        .await;
        let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
        let answer = gateway.send([head, body, SMUGGLED].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer:?}");
        // Whether the head had left by then is a matter of time.
        assert!(answer.contains("ClientBody"), "{body:?}: {answer:?}");
        assert_eq!(
            answer.matches("HTTP/1.1").count(),
            1,
            "{body:?}: {answer:?}"
        );
        assert!(upstream.requests() <= 1);
    }
}

#[tokio::test]
async fn hazard_51_a_body_that_nobody_read_is_never_the_next_request() {
    // It answers at once, without looking at the body.
    let gateway = Gateway::with_service(FrontOptions::default(), |request| async move {
        Ok(answer(200, request.uri().path()))
    })
    .await;
    let inner = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    // More than is read away: not a clean end then, but the answer comes through.
    for padding in [0, 300_000, 5_000_000] {
        let body = [inner.repeat(3), "x".repeat(padding)].concat();
        let length = body.len();
        let request =
            format!("POST /first HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}");
        let mut client = gateway.connect().await;
        let (mut reader, mut writer) = client.split();
        let writing = async {
            let _ = writer.write_all(request.as_bytes()).await;
            let _ = writer.write_all(get_close("/second").as_bytes()).await;
        };
        let mut answers = Vec::new();
        let (_, end) = tokio::join!(writing, within("end", reader.read_to_end(&mut answers)));
        assert!(
            end.is_ok() || padding > 1_000_000,
            "a reset can overtake the answer: {end:?}"
        );
        let answers = String::from_utf8(answers).unwrap();
        assert!(
            answers.contains("/first"),
            "the answer came through: {answers}"
        );
        assert!(!answers.contains("smuggled"), "{answers}");
    }
}

#[tokio::test]
async fn hazard_51_an_early_answer_of_the_upstream_ends_its_connection() {
    // It answers after the head and takes the rest of the body for what comes next.
    let (ended, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::new(move |mut talk| {
        let ended = ended.clone();
        async move {
            while let Some(head) = talk.head().await {
                let path = head.split(' ').nth(1).unwrap().to_owned();
                let length = path.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{path}");
                talk.say(&answer).await;
                if head.starts_with("POST") {
                    // A proxy that went on here would send the next request as a body.
                    ended.send(read_to_end(&mut talk.stream).await).unwrap();
                    return;
                }
            }
        }
    })
    .await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let mut client = gateway.connect().await;
    let head = "POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc";
    client.write_all(head.as_bytes()).await.unwrap();
    let (_, body) = read_response(&mut client).await;
    assert_eq!(body, "/early");
    // The client is still there, and owes the rest of its body.
    let rest = within("end", seen.recv()).await.unwrap();
    assert!("abc".starts_with(&rest), "{rest}");
    let answer = gateway.send(get_close("/next")).await;
    assert!(answer.ends_with("/next"), "{answer}");
    assert_eq!(upstream.connections(), 2);
    assert_eq!(
        read_to_end(&mut client).await,
        "",
        "the client's connection is over as well"
    );
}

#[tokio::test]
async fn hazard_51_an_upload_that_is_still_open_keeps_its_connection_out_of_the_pool() {
    // Over HTTP/2 the client's stream stays open after the answer.
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let (client, connection) = h2::client::handshake(gateway.connect().await)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::post("http://a/early").body(()).unwrap();
    let (response, mut upload) = client.send_request(request, false).unwrap();
    upload.send_data("abc".into(), false).unwrap();
    let mut body = within("answer", response).await.unwrap().into_body();
    while let Some(data) = within("body", body.data()).await {
        data.unwrap();
    }
    let answer = gateway.send(get_close("/next")).await;
    assert!(answer.ends_with("ok"), "{answer}");
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn hazard_51_ambiguous_answers_of_the_upstream_are_refused() {
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx : y\r\ncontent-length: 2\r\n\r\nok",
        "SMTP ready\r\n\r\n",
    ];
    for answer in answers {
        let upstream = RawUpstream::answering(answer).await;
        let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
        let got = gateway.send(get_close("/")).await;
        assert!(got.starts_with("HTTP/1.1 502 "), "{answer:?}: {got:?}");
        assert_eq!(gateway.failure(), "Protocol Maybe", "{answer:?}");
    }
}

#[tokio::test]
async fn two_equal_lengths_of_the_upstream_become_one() {
    let twice = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok";
    let upstream = RawUpstream::answering(twice).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let answer = gateway.send(get_close("/")).await;
    assert_eq!(content_length(&answer), Some(2));
}

#[tokio::test]
async fn heads_that_are_too_large_get_431() {
    let upstream = RawUpstream::answering(OK).await;
    let mut options = Options::default();
    options.front.max_head = 4096;
    options.front.max_fields = 20;
    let gateway = Gateway::before(&[upstream.addr], options).await;
    let long = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "y".repeat(5000)
    );
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(20));
    for head in [long, many] {
        let answer = gateway.send(head).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let fits = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: {}\r\n\r\n",
        "y".repeat(3900)
    );
    let answer = gateway.send(fits).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let gateway = Gateway::with_service(FrontOptions::default(), |request| async move {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        // The first takes longest.
        tokio::time::sleep(Duration::from_millis(if path == "/1" { 30 } else { 0 })).await;
        Ok(answer(200, &format!("{path}{};", body.len())))
    })
    .await;
    let chunked =
        "POST /2 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;e\r\nabc\r\n0\r\n\r\n";
    let sized = "POST /3 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n\r\n\r\n";
    let answer = gateway
        .send([&get("/1"), chunked, sized, &get_close("/4")].concat())
        .await;
    let order: Vec<usize> = ["/10;", "/23;", "/34;", "/40;"]
        .iter()
        .map(|text| {
            answer
                .find(text)
                .unwrap_or_else(|| panic!("{text} in {answer}"))
        })
        .collect();
    assert!(order.is_sorted(), "{answer}");
}

#[tokio::test]
async fn hazard_51_http2_fields_that_frame_or_name_the_host_come_once() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let io = hyper_util::rt::TokioIo::new(gateway.connect().await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let cases: [&[(&str, &str)]; 3] = [
        &[("content-length", "0"), ("content-length", "5")],
        &[("host", "api.test"), ("host", "evil.test")],
        &[("host", "a\"b c/d")],
    ];
    for fields in cases {
        let mut request = http::Request::post("http://api.test/")
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        for (name, value) in fields {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let response = within("response", sender.send_request(request)).await;
        // A fault that h2 finds itself resets the stream.
        if let Ok(response) = response {
            assert_eq!(response.status(), 400, "{fields:?}");
        }
    }
    assert_eq!(upstream.requests(), 0);
}
