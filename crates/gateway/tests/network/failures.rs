//! Upstreams that fail, at every stage, and what is said of it.

use super::harness::*;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use onlyonce_gateway::upstream::{FailureKind, HostRule, Sent, Upstream, UpstreamOptions};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const POST: &str =
    "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

fn short(options: &mut Options) {
    options.upstream.head_timeout = Duration::from_millis(100);
    options.upstream.idle_timeout = Duration::from_millis(100);
}

/// What a POST gets from a gateway before an upstream that reads it and then plays `rest`.
async fn failing<F, Fut>(rest: F) -> (String, Gateway, RawUpstream)
where
    F: Fn(Conversation) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let upstream = RawUpstream::new(move |mut talk| {
        let rest = rest.clone();
        async move {
            let head = talk.head().await.unwrap();
            talk.body(&head).await;
            rest(talk).await;
        }
    })
    .await;
    let mut options = Options::default();
    short(&mut options);
    let gateway = Gateway::before(&[upstream.addr], options).await;
    let answer = gateway.send(POST).await;
    (answer, gateway, upstream)
}

#[tokio::test]
async fn a_refused_connection_is_502_and_not_sent() {
    let gateway = Gateway::before(&[nobody().await], Options::default()).await;
    let answer = gateway.send(POST).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(gateway.failure(), "Connect No");
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_502_and_not_sent() {
    // A backlog of one that is full: the kernel drops what comes next.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    loop {
        let connect = tokio::net::TcpStream::connect(addr);
        match tokio::time::timeout(Duration::from_millis(200), connect).await {
            Ok(stream) => waiting.push(stream.unwrap()),
            Err(_) => break,
        }
    }
    let mut options = Options::default();
    options.upstream.connect_timeout = Duration::from_millis(100);
    let gateway = Gateway::before(&[addr], options).await;
    let answer = gateway.send(POST).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(gateway.failure(), "ConnectTimeout No");
}

#[tokio::test]
async fn closed_or_reset_before_the_head_is_a_reset() {
    for reset in [false, true] {
        let (answer, gateway, _upstream) = failing(move |talk| async move {
            if reset {
                talk.reset();
            }
        })
        .await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(gateway.failure(), "Reset Maybe");
    }
}

#[tokio::test]
async fn closed_in_the_middle_of_the_head_is_a_cut() {
    let (answer, gateway, _upstream) = failing(|mut talk| async move {
        talk.say("HTTP/1.1 200 OK\r\ncontent-le").await;
    })
    .await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(gateway.failure(), "CutResponse Maybe");
}

#[tokio::test]
async fn no_head_in_time_is_504() {
    let (answer, gateway, _upstream) = failing(|mut talk| async move {
        // Also one that sends a little now and then never gets to the end.
        talk.say("HTTP/1.1 ").await;
        read_to_end(&mut talk.stream).await;
    })
    .await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert_eq!(gateway.failure(), "HeadTimeout Maybe");
}

#[tokio::test]
async fn a_cut_body_never_ends_cleanly() {
    let cuts = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", false),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n",
            false,
        ),
        // Without a length only a reset tells a cut from the end.
        ("HTTP/1.1 200 OK\r\n\r\nabc", true),
    ];
    for (said, reset) in cuts {
        for version in ["1.1", "1.0"] {
            let upstream = RawUpstream::new(move |mut talk| async move {
                talk.head().await;
                talk.say(said).await;
                if reset {
                    // The reset must not overtake what was said.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    talk.reset();
                }
            })
            .await;
            let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
            let mut client = gateway.connect().await;
            let request = format!("GET / HTTP/{version}\r\nhost: a\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let end = within("end", client.read_to_end(&mut answer)).await;
            let answer = String::from_utf8(answer).unwrap();
            if content_length(&answer).is_some() {
                assert!(answer.ends_with("abc"), "{answer}");
            } else if version == "1.1" {
                assert!(!answer.ends_with("0\r\n\r\n"), "{said}: {answer}");
            } else {
                // HTTP/1.0 without a length: only a reset says that it is not the end.
                assert!(end.is_err(), "{said}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_cut_in_time() {
    let upstream = RawUpstream::new(|mut talk| async move {
        talk.head().await;
        talk.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
            .await;
        read_to_end(&mut talk.stream).await;
    })
    .await;
    let mut options = Options::default();
    short(&mut options);
    let gateway = Gateway::before(&[upstream.addr], options).await;
    let answer = gateway.send(get("/")).await;
    assert!(answer.ends_with("abc"), "{answer}");
}

#[tokio::test]
async fn the_total_time_counts_body_and_head() {
    let upstream = RawUpstream::new(|mut talk| async move {
        let head = talk.head().await.unwrap();
        if head.contains("/slow-body") {
            talk.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await;
        }
        // Never idle for long, never at the end.
        while head.contains("/slow-body") {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if talk.stream.write_all(b"1\r\nx\r\n").await.is_err() {
                return;
            }
        }
        read_to_end(&mut talk.stream).await;
    })
    .await;
    let mut options = Options::default();
    options.upstream.total_timeout = Some(Duration::from_millis(200));
    let gateway = Gateway::before(&[upstream.addr], options).await;
    let answer = gateway.send(get("/slow-body")).await;
    assert!(
        answer.contains("1\r\nx\r\n") && !answer.ends_with("0\r\n\r\n"),
        "{answer}"
    );
    let answer = gateway.send(get_close("/slow-head")).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert_eq!(gateway.failure(), "TotalTimeout Maybe");
}

#[tokio::test]
async fn hazard_55_what_was_sent_is_never_sent_again() {
    // Both upstreams take the request and hang up; a retry would be seen by one of them.
    let play = |mut talk: Conversation| async move {
        let head = talk.head().await.unwrap();
        talk.body(&head).await;
    };
    let (one, two) = (RawUpstream::new(play).await, RawUpstream::new(play).await);
    let gateway = Gateway::before(&[one.addr, two.addr], Options::default()).await;
    for request in [
        POST.to_owned(),
        get_close("/"),
        get_close("/").replace("GET", "DELETE"),
    ] {
        let before = one.requests() + two.requests();
        let answer = gateway.send(request).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(one.requests() + two.requests(), before + 1);
        let error = gateway.errors.lock().unwrap().pop().unwrap();
        assert_eq!(
            (error.kind(), error.sent()),
            (FailureKind::Reset, Sent::Maybe)
        );
    }
}

#[tokio::test]
async fn hazard_55_a_kept_connection_that_dies_with_the_request_is_not_tried_again() {
    // The first request is answered; the second is read and the connection closed.
    let upstream = RawUpstream::new(|mut talk| async move {
        talk.head().await;
        talk.say(OK).await;
        talk.head().await;
    })
    .await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    assert!(gateway.send(get_close("/1")).await.ends_with("ok"));
    let answer = gateway.send(get_close("/2")).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(gateway.failure(), "Reset Maybe");
    assert_eq!((upstream.requests(), upstream.connections()), (2, 1));
}

#[tokio::test]
async fn a_kept_connection_closed_meanwhile_is_replaced_before_anything_is_sent() {
    // Each connection answers once and closes, without saying so.
    let upstream = RawUpstream::new(|mut talk| async move {
        let head = talk.head().await.unwrap();
        talk.body(&head).await;
        talk.say(OK).await;
    })
    .await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    for turn in 1..=20 {
        let answer = gateway.send(POST).await;
        assert!(answer.ends_with("ok"), "{answer}");
        assert_eq!((upstream.requests(), upstream.connections()), (turn, turn));
    }
    assert!(gateway.errors.lock().unwrap().is_empty());
}

#[tokio::test]
async fn unused_connections_are_closed_in_time() {
    let (closed, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::new(move |mut talk| {
        let closed = closed.clone();
        async move {
            talk.head().await;
            talk.say(OK).await;
            let rest = read_to_end(&mut talk.stream).await;
            closed.send(rest).unwrap();
        }
    })
    .await;
    let mut options = Options::default();
    options.upstream.pool_idle = Duration::from_millis(50);
    let gateway = Gateway::before(&[upstream.addr], options).await;
    assert!(gateway.send(get_close("/")).await.ends_with("ok"));
    assert_eq!(within("close", seen.recv()).await.as_deref(), Some(""));
}

#[tokio::test]
async fn requests_go_round_and_past_an_upstream_that_is_down() {
    let (one, two) = (
        RawUpstream::answering(OK).await,
        RawUpstream::answering(OK).await,
    );
    let upstreams = [one.addr, nobody().await, two.addr];
    let gateway = Gateway::before(&upstreams, Options::default()).await;
    for _ in 0..12 {
        assert!(gateway.send(POST).await.ends_with("ok"));
    }
    assert_eq!(one.requests() + two.requests(), 12);
    assert!(one.requests() >= 4 && two.requests() >= 4);
    assert!(gateway.errors.lock().unwrap().is_empty());
}

#[tokio::test]
async fn when_all_are_down_they_are_tried_anyway() {
    let addr = nobody().await;
    let mut options = Options::default();
    options.upstream.unhealthy_after = 1;
    options.upstream.cool_down = Duration::from_secs(3600);
    let gateway = Gateway::before(&[addr], options).await;
    assert!(gateway.send(POST).await.starts_with("HTTP/1.1 502 "));
    // It comes up within its cool-down.
    let listener = TcpListener::bind(addr).await.unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    });
    assert!(gateway.send(get_close("/")).await.ends_with("ok"));
}

#[tokio::test]
async fn a_client_that_hangs_up_takes_its_request_with_it() {
    let (closed, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::new(move |mut talk| {
        let closed = closed.clone();
        async move {
            let head = talk.head().await.unwrap();
            talk.body(&head).await;
            closed.send("request").unwrap();
            read_to_end(&mut talk.stream).await;
            closed.send("closed").unwrap();
        }
    })
    .await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let mut client = gateway.connect().await;
    client.write_all(POST.as_bytes()).await.unwrap();
    assert_eq!(within("request", seen.recv()).await, Some("request"));
    drop(client);
    assert_eq!(within("closed", seen.recv()).await, Some("closed"));
}

#[tokio::test]
async fn a_cut_upload_aborts_the_request_upstream() {
    let (closed, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::new(move |mut talk| {
        let closed = closed.clone();
        async move {
            talk.head().await;
            closed.send("request".to_owned()).unwrap();
            closed.send(read_to_end(&mut talk.stream).await).unwrap();
        }
    })
    .await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let heads = [
        "content-length: 10\r\n\r\nabc",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ];
    for rest in heads {
        let mut client = gateway.connect().await;
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\n{rest}");
        client.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(
            within("request", seen.recv()).await.as_deref(),
            Some("request")
        );
        drop(client);
        let body = within("closed", seen.recv()).await.unwrap();
        assert!(
            body.ends_with("abc") || body.ends_with("abc\r\n"),
            "no end: {body:?}"
        );
    }
}

#[tokio::test]
async fn hazard_55_a_close_that_the_runtime_has_not_heard_of_yet_is_seen_before_sending() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let (close, closing) = std::sync::mpsc::channel::<()>();
    let (closed, is_closed) = std::sync::mpsc::channel();
    // Outside of the runtime: two connections, one answer each.
    let thread = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
            stream.write_all(OK.as_bytes()).unwrap();
            closing.recv().unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    });
    let upstream = Upstream::new([uri], UpstreamOptions::default()).unwrap();
    for _ in 0..2 {
        let request = Request::get("/").body(Full::<Bytes>::default()).unwrap();
        let response = upstream
            .send(request, HostRule::Upstream, false)
            .await
            .unwrap();
        response.into_body().collect().await.unwrap();
        // Let the connection come to rest, then have it closed without giving the runtime a turn.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        close.send(()).unwrap();
        is_closed.recv().unwrap();
    }
    thread.join().unwrap();
}

#[tokio::test]
async fn an_upstream_that_had_begun_to_answer_has_seen_enough() {
    // The client's body breaks off, and nobody can say what the half answer meant.
    let (begun, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::new(move |mut talk| {
        let begun = begun.clone();
        async move {
            talk.head().await;
            talk.stream
                .read_exact(&mut [0; b"3\r\nabc\r\n".len()])
                .await
                .unwrap();
            talk.say("HTTP/1.1 102 Processing\r\n\r\n").await;
            begun.send(()).unwrap();
            // Whoever has passed this on has had the time to read the above.
            talk.stream
                .read_exact(&mut [0; b"1\r\nx\r\n".len()])
                .await
                .unwrap();
            begun.send(()).unwrap();
            read_to_end(&mut talk.stream).await;
        }
    })
    .await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let mut client = gateway.connect().await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    within("the upstream's word", seen.recv()).await.unwrap();
    client.write_all(b"1\r\nx\r\n").await.unwrap();
    within("the next chunk", seen.recv()).await.unwrap();
    client.write_all(b"no chunk\r\n").await.unwrap();
    let answer = read_to_end(&mut client).await;
    assert!(answer.contains("HTTP/1.1 502 "), "{answer}");
    assert_eq!(gateway.failure(), "CutResponse Maybe");
}

#[tokio::test]
async fn a_body_that_breaks_off_behind_its_last_byte_was_a_whole_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        // Never answers, but takes all that comes.
        let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async {
            let _ = request.into_body().collect().await;
            std::future::pending::<Result<http::Response<Full<Bytes>>, std::io::Error>>().await
        });
        let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        let _ = server.serve_connection(io, service).await;
    });
    let mut options = UpstreamOptions::default();
    options.h2c = true;
    let upstream = Upstream::new([uri.parse().unwrap()], options).unwrap();
    let request = Request::post("/").body(Announced(Some(3))).unwrap();
    let sent = upstream.send(request, HostRule::Upstream, false);
    let error = within("the failure", sent).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.sent()),
        (FailureKind::Reset, Sent::Maybe)
    );
}

/// A body of three bytes, as announced, and then an error in place of its end.
struct Announced(Option<u64>);

impl http_body::Body for Announced {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Ready(Some(match self.0.take() {
            Some(_) => Ok(http_body::Frame::data(Bytes::from_static(b"abc"))),
            None => Err(std::io::Error::other("reset")),
        }))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.0.unwrap_or(0))
    }
}

#[tokio::test]
async fn hazard_48_an_answer_that_nobody_asked_for_reaches_nobody() {
    // Two answers to one request, in one piece: the second is not the next client's.
    let stolen = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen";
    let upstream = RawUpstream::answering([OK, stolen].concat()).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    for turn in 1..=20 {
        let answer = gateway.send(get_close("/")).await;
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
        assert_eq!(upstream.connections(), turn);
    }
}

#[tokio::test]
async fn time_that_is_up_before_anything_is_sent_sends_nothing() {
    let upstream = RawUpstream::answering(OK).await;
    let mut options = Options::default();
    options.upstream.total_timeout = Some(Duration::ZERO);
    let gateway = Gateway::before(&[upstream.addr], options).await;
    let answer = gateway.send(POST).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(gateway.failure(), "TotalTimeout No");
    assert_eq!(upstream.requests(), 0);
}
