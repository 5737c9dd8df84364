//! The layer at work.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use onlyonce::IdempotencyLayer;
use onlyonce_core::{BoxError, ManualClock};
use onlyonce_memory::MemoryStore;
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceBuilder, ServiceExt as _, service_fn};

use super::*;
use crate::context::{self, ContextLayer, Identity};
use crate::{Answers, Code, Error, Refusal};

const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A layer whose lines and rows can be looked at.
struct Log {
    written: Written,
    lines: Lines,
    sink: Arc<MemorySink>,
    writer: RowWriter,
}

impl Log {
    fn new() -> Self {
        let written = Written::default();
        let sink = Arc::new(MemorySink::new(100));
        let options = WriterOptions {
            linger: Duration::ZERO,
            retention: None,
            ..WriterOptions::default()
        };
        Self {
            lines: Lines::to(written.clone(), LineFormat::Json).unwrap(),
            written,
            writer: RowWriter::start(Arc::clone(&sink) as Arc<dyn RowSink>, options),
            sink,
        }
    }

    fn layer(&self) -> AccessLogLayer {
        AccessLogLayer::new()
            .with_lines(self.lines.clone())
            .with_rows(self.writer.queue())
            .with_clock(Arc::new(ManualClock::new()))
    }

    /// All that was logged: the lines' text, and the rows.
    async fn end(self) -> (String, Vec<AccessRow>) {
        assert!(self.lines.flush(LIMIT).await);
        assert_eq!(self.writer.shutdown(LIMIT).await.lost, 0);
        let mut rows = Vec::new();
        for summary in self.sink.list(&RowQuery::default()).await.unwrap() {
            rows.push(self.sink.find(summary.id).await.unwrap().unwrap());
        }
        (self.written.text(), rows)
    }

    /// The one line and the one row.
    async fn one(self) -> (Value, AccessRow) {
        let (text, mut rows) = self.end().await;
        assert_eq!((text.lines().count(), rows.len()), (1, 1), "{text}");
        (serde_json::from_str(&text).unwrap(), rows.remove(0))
    }
}

type Answer<B> = Result<Response<B>, Infallible>;

fn post(path: &str, content_type: &str, body: &str) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "shop.example")
        .header("content-type", content_type.to_owned())
        .header("user-agent", "curl/8.5")
        .body(Full::from(body.to_owned()))
        .unwrap()
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).body(Full::default()).unwrap()
}

/// Reads the request's body to its end.
async fn hello<B>(request: Request<B>) -> Answer<Full<Bytes>>
where
    B: Body,
    B::Error: std::fmt::Debug,
{
    request.into_body().collect().await.unwrap();
    Ok(Response::new(Full::from("hello")))
}

async fn to_end<B: Body>(response: Response<B>)
where
    B::Error: std::fmt::Debug,
{
    response.into_body().collect().await.unwrap();
}

#[tokio::test]
async fn a_row_has_all_that_is_known() {
    let log = Log::new();
    let service = ServiceBuilder::new()
        .layer(log.layer())
        .layer(RecordBodyLayer::new())
        .layer(ContextLayer::new())
        .service(service_fn(
            async |request: Request<RecordedBody<Full<Bytes>>>| {
                let context = context::Context::of(request.extensions()).unwrap().clone();
                context.set_client_addr("192.0.2.7".parse().unwrap());
                context.set_identity(Arc::new(Identity::new("17", "admin")));
                request.into_body().collect().await.unwrap();
                let error = Error::new(30001, "user not created").wrap("try again");
                let answers = Answers::new();
                let asked = answers.asked(&Request::new(()));
                Ok::<_, Infallible>(answers.error(&Arc::new(error), &asked, None).map(Full::new))
            },
        ));
    let request = post("/admin/users?page=2", "application/json", r#"{"name":"x"}"#);
    let response = service.oneshot(request).await.unwrap();
    let trace_id = response.headers()["trace-id"].to_str().unwrap().to_owned();
    to_end(response).await;
    let (line, row) = log.one().await;
    assert_eq!(row.trace_id, trace_id);
    assert_eq!(line["trace_id"], trace_id);
    assert_eq!(line["user"], "17");
    assert_eq!(
        (row.module.as_str(), row.method.as_str(), row.host.as_str()),
        ("admin", "POST", "shop.example")
    );
    assert_eq!(
        (row.path.as_str(), row.query.as_str()),
        ("/admin/users", "page=2")
    );
    assert_eq!(row.body, r#"{"name":"x"}"#);
    assert_eq!(row.ip, Some("192.0.2.7".parse().unwrap()));
    assert_eq!((row.user.as_deref(), row.code), (Some("17"), Some(30001)));
    assert_eq!((row.message.as_str(), row.status), ("try again", 400));
    assert_eq!(row.stack[0], "1. try again");
    assert!(
        row.stack.contains(&"2. user not created".to_owned()),
        "{:?}",
        row.stack
    );
    assert_eq!(
        (row.user_agent.as_str(), row.ending),
        ("curl/8.5", Ending::Complete)
    );
    assert_eq!(row.created.as_millis(), 1_767_225_600_000);
    assert!(
        row.headers
            .contains(&("content-type".into(), "application/json".into()))
    );
}

#[tokio::test]
async fn the_log_has_the_real_message_whatever_the_client_got() {
    let log = Log::new();
    let service = log
        .layer()
        .layer(service_fn(async |request: Request<Full<Bytes>>| {
            let error = Error::new(Code::DATABASE, "password of db1 expired").internal();
            let answers = Answers::new();
            let asked = answers.asked(&request);
            Ok::<_, Infallible>(answers.error(&Arc::new(error), &asked, None).map(Full::new))
        }));
    let response = service.oneshot(get("/")).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(!String::from_utf8_lossy(&body).contains("db1"));
    let (line, row) = log.one().await;
    assert_eq!(row.message, "password of db1 expired");
    assert_eq!(line["message"], "password of db1 expired");
}

#[tokio::test]
async fn without_a_context_it_has_a_trace_id_of_its_own() {
    let log = Log::new();
    let service = log.layer().layer(service_fn(hello));
    to_end(service.oneshot(get("//x/y")).await.unwrap()).await;
    let (_, row) = log.one().await;
    assert_eq!(row.trace_id.len(), 32);
    assert!(
        row.trace_id
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    );
    assert_eq!(row.module, "x");
    assert_eq!(row.code, None);
}

#[tokio::test]
async fn the_peer_is_logged_where_nobody_finds_out_the_client() {
    let log = Log::new();
    let service = log
        .layer()
        .with_peer(|extensions| Peer {
            addr: extensions.get::<std::net::IpAddr>().copied(),
            secure: true,
        })
        .layer(service_fn(hello));
    let mut request = get("/");
    request
        .extensions_mut()
        .insert("::ffff:192.0.2.9".parse::<std::net::IpAddr>().unwrap());
    to_end(service.oneshot(request).await.unwrap()).await;
    let (line, row) = log.one().await;
    assert_eq!(row.ip, Some("192.0.2.9".parse().unwrap()));
    assert_eq!(
        (line["scheme"].as_str(), row.scheme.as_str()),
        (Some("https"), "https")
    );
}

#[tokio::test]
async fn idempotency_shows_as_outcome_and_key_hash_and_never_as_the_key() {
    let log = Log::new();
    let service = ServiceBuilder::new()
        .layer(log.layer())
        .layer(RecordBodyLayer::new())
        .layer(IdempotencyLayer::new(MemoryStore::new()))
        .service(service_fn(hello));
    for _ in 0..2 {
        let mut request = post("/pay", "application/json", "{}");
        let key = HeaderValue::from_static("k-secret-42");
        request.headers_mut().insert("idempotency-key", key);
        let response = service.clone().oneshot(request).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    let (text, rows) = log.end().await;
    let mut outcomes: Vec<_> = rows
        .iter()
        .map(|row| row.outcome.as_deref().unwrap())
        .collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["executed", "replayed"]);
    assert!(rows[0].key_hash.is_some());
    assert_eq!(rows[0].key_hash, rows[1].key_hash);
    assert!(!text.contains("k-secret-42"));
    assert!(!format!("{rows:?}").contains("k-secret-42"));
}

#[tokio::test]
async fn hazard_34_secrets_are_in_no_line_and_no_row() {
    let log = Log::new();
    let service = ServiceBuilder::new()
        .layer(log.layer())
        .layer(RecordBodyLayer::new())
        .service(service_fn(hello));
    for (content_type, body) in [
        ("application/json", r#"{"user":{"password":"s3cret"}}"#),
        ("application/json", r#"{"password":"s3cret""#),
        ("application/x-www-form-urlencoded", "a=1&pass%77ord=s3cret"),
        ("text/plain", r#"[{"token":"s3cret"}]"#),
        (
            "multipart/form-data; boundary=x",
            "--x\r\ncontent-disposition: form-data; name=\"password\"\r\n\r\ns3cret\r\n--x--",
        ),
        ("text/xml", "<password>s3cret</password>"),
    ] {
        let mut request = post("/login?token=s3cret&x=1", content_type, body);
        for name in [
            "authorization",
            "cookie",
            "proxy-authorization",
            "idempotency-key",
            "x-auth-token",
        ] {
            request
                .headers_mut()
                .append(name, "s3cret".parse().unwrap());
        }
        let referer = "https://u:s3cret@a/?access_token=s3cret".parse().unwrap();
        request.headers_mut().insert("referer", referer);
        to_end(service.clone().oneshot(request).await.unwrap()).await;
    }
    let (text, rows) = log.end().await;
    assert_eq!((text.lines().count(), rows.len()), (6, 6));
    assert!(!text.contains("s3cret"), "{text}");
    assert!(!format!("{rows:?}").contains("s3cret"), "{rows:#?}");
    assert!(text.contains("token=[redacted]&x=1"), "{text}");
}

#[tokio::test]
async fn bodies_are_recorded_up_to_a_size_and_not_on_listed_paths() {
    for (path, expected) in [("/a", "aaaa…"), ("/upload/1", "")] {
        let log = Log::new();
        let rules = Rules::new()
            .with_max_body(4)
            .with_skip_bodies(Paths::new(["/upload/{id}"]).unwrap());
        let service = ServiceBuilder::new()
            .layer(log.layer().with_rules(rules))
            .layer(RecordBodyLayer::new())
            .service(service_fn(
                async |request: Request<RecordedBody<Full<Bytes>>>| {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(body, "aaaabbbb", "the handler gets all of it");
                    Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                },
            ));
        let request = post(path, "text/plain", "aaaabbbb");
        to_end(service.oneshot(request).await.unwrap()).await;
        assert_eq!(log.one().await.1.body, expected, "{path}");
    }
}

#[tokio::test]
async fn rules_say_which_rows_are_kept() {
    let log = Log::new();
    let rules = Rules::new()
        .with_modules(["admin"])
        .with_skip_codes([Code::NOT_FOUND])
        .with_skip_paths(Paths::new(["/admin/healthz"]).unwrap());
    let service =
        log.layer()
            .with_rules(rules)
            .layer(service_fn(async |request: Request<Full<Bytes>>| {
                let code = match request.uri().path() {
                    "/admin/lost" => Code::NOT_FOUND,
                    _ => Code::OK,
                };
                Ok::<_, Infallible>(
                    Answers::new()
                        .refuse(&Refusal::new(code), &request)
                        .map(Full::new),
                )
            }));
    for path in [
        "/admin/a",
        "/admin/lost",
        "/admin/healthz",
        "/api/a",
        // Who serves them may think of /admin.
        "/Admin/a",
        "/%61dmin/a",
        "/api/../admin/a",
    ] {
        to_end(service.clone().oneshot(get(path)).await.unwrap()).await;
    }
    let (text, rows) = log.end().await;
    let mut kept: Vec<_> = rows.iter().map(|row| row.path.as_str()).collect();
    kept.sort_unstable();
    assert_eq!(
        kept,
        ["/%61dmin/a", "/Admin/a", "/admin/a", "/api/../admin/a"]
    );
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let lines: Vec<_> = lines
        .iter()
        .map(|line| line["uri"].as_str().unwrap())
        .collect();
    assert_eq!(lines[..3], ["/admin/a", "/admin/lost", "/api/a"]);
}

#[tokio::test]
async fn it_can_be_switched_off_while_it_runs() {
    let log = Log::new();
    let rules = Arc::new(arc_swap::ArcSwap::from_pointee(Rules::new()));
    let service = log
        .layer()
        .with_shared_rules(Arc::clone(&rules))
        .layer(service_fn(hello));
    to_end(service.clone().oneshot(get("/on")).await.unwrap()).await;
    rules.store(Arc::new(Rules::new().with_enabled(false)));
    to_end(service.oneshot(get("/off")).await.unwrap()).await;
    assert_eq!(log.one().await.1.path, "/on");
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_answer_is_499() {
    let log = Log::new();
    let service = ServiceBuilder::new()
        .layer(log.layer())
        .layer(ContextLayer::new())
        .service(service_fn(async |_: Request<Full<Bytes>>| {
            std::future::pending::<Answer<Full<Bytes>>>().await
        }));
    let mut answer = Box::pin(service.oneshot(get("/slow/x")));
    assert!(futures_util::poll!(&mut answer).is_pending());
    drop(answer);
    let (line, row) = log.one().await;
    assert_eq!(
        (row.status, row.ending, row.module.as_str()),
        (499, Ending::HungUp, "slow")
    );
    assert_eq!(
        (&line["status"], &line["ending"]),
        (&json!(499), &json!("hung-up"))
    );
}

#[tokio::test]
async fn a_panic_is_no_client_that_hung_up() {
    let log = Log::new();
    let layer = log.layer();
    let request = tokio::spawn(async move {
        let service = layer.layer(service_fn(
            async |request: Request<Full<Bytes>>| -> Answer<Full<Bytes>> {
                panic!("{}", request.uri())
            },
        ));
        service.oneshot(get("/")).await
    });
    assert!(request.await.is_err());
    let (_, row) = log.one().await;
    assert_eq!((row.status, row.ending), (500, Ending::Failed));
}

#[tokio::test]
async fn a_service_that_fails_is_logged() {
    let log = Log::new();
    let service = log
        .layer()
        .layer(service_fn(async |_: Request<Full<Bytes>>| {
            Err::<Response<Full<Bytes>>, _>(io::Error::other("no"))
        }));
    assert!(service.oneshot(get("/")).await.is_err());
    let (_, row) = log.one().await;
    assert_eq!((row.status, row.ending), (500, Ending::Failed));
}

/// Frames as they come; the test holds the other end.
type Stream = tokio::sync::mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>;

struct Frames(Stream);

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}

async fn streaming(
    log: &Log,
) -> (
    tokio::sync::mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>,
    LoggedBody<Frames>,
) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut body = Some(Frames(receiver));
    let mut service = log
        .layer()
        .layer(service_fn(move |_: Request<Full<Bytes>>| {
            let response = Response::new(body.take().unwrap());
            std::future::ready(Ok::<_, Infallible>(response))
        }));
    let response = service.call(get("/stream")).await.unwrap();
    (sender, response.into_body())
}

#[tokio::test(start_paused = true)]
async fn a_request_lasts_until_its_answer_s_body_has_ended() {
    let log = Log::new();
    let (sender, mut body) = streaming(&log).await;
    sender.send(Ok(Frame::data(Bytes::from("a")))).unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(log.writer.queue().written(), 0, "it is not over yet");
    tokio::time::advance(Duration::from_millis(1500)).await;
    drop(sender);
    assert!(body.frame().await.is_none());
    tokio::time::resume();
    let (line, row) = log.one().await;
    assert_eq!(
        (row.duration, row.ending),
        (Duration::from_millis(1500), Ending::Complete)
    );
    assert_eq!(line["duration_ms"], 1500);
}

#[tokio::test]
async fn a_body_that_breaks_off_and_one_that_is_left_are_told_apart() {
    let log = Log::new();
    let (sender, mut body) = streaming(&log).await;
    sender.send(Err("cut".into())).unwrap();
    assert!(body.frame().await.unwrap().is_err());
    drop(body);
    assert_eq!(log.one().await.1.ending, Ending::Failed);

    let log = Log::new();
    let (sender, mut body) = streaming(&log).await;
    sender.send(Ok(Frame::data(Bytes::from("a")))).unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    let row = log.one().await.1;
    assert_eq!((row.status, row.ending), (200, Ending::HungUp));
}

#[tokio::test]
async fn a_server_that_has_sent_all_does_not_ask_for_the_end() {
    // All bytes that the length announces.
    let log = Log::new();
    let service = log.layer().layer(service_fn(hello));
    let mut body = service.oneshot(get("/")).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(log.one().await.1.ending, Ending::Complete);
    // The same, with a body that does not know that it has ended.
    struct Unaware(Full<Bytes>);

    impl Body for Unaware {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Pin::new(&mut self.0).poll_frame(cx)
        }

        fn size_hint(&self) -> http_body::SizeHint {
            self.0.size_hint()
        }
    }

    let log = Log::new();
    let service = log
        .layer()
        .layer(service_fn(async |_: Request<Full<Bytes>>| {
            Ok::<_, Infallible>(Response::new(Unaware(Full::from("hello"))))
        }));
    let mut body = service.oneshot(get("/")).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(log.one().await.1.ending, Ending::Complete);
    // Nothing is sent for a HEAD or behind a 204, whatever the body would say.
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304)] {
        let log = Log::new();
        let service = log
            .layer()
            .layer(service_fn(async |_: Request<Full<Bytes>>| {
                let never = futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>();
                let response = Response::builder().status(status);
                Ok::<_, Infallible>(response.body(StreamBody::new(never)).unwrap())
            }));
        let mut request = get("/");
        *request.method_mut() = method;
        drop(service.oneshot(request).await.unwrap());
        assert_eq!(log.one().await.1.ending, Ending::Complete, "{status}");
    }
    // Trailers are the last there is.
    let log = Log::new();
    let (sender, mut body) = streaming(&log).await;
    sender
        .send(Ok(Frame::trailers(http::HeaderMap::new())))
        .unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(log.one().await.1.ending, Ending::Complete);
}

/// Never returns.
struct Stuck;

impl RowSink for Stuck {
    fn write<'a>(&'a self, _: &'a [AccessRow]) -> SinkFuture<'a, ()> {
        Box::pin(std::future::pending())
    }

    fn list<'a>(&'a self, _: &'a RowQuery) -> SinkFuture<'a, Vec<RowSummary>> {
        Box::pin(std::future::pending())
    }

    fn find(&self, _: RowId) -> SinkFuture<'_, Option<AccessRow>> {
        Box::pin(std::future::pending())
    }

    fn purge(&self, _: onlyonce_core::Timestamp, _: usize) -> SinkFuture<'_, u64> {
        Box::pin(std::future::pending())
    }
}

/// A disk that fills up in the middle of a line, until the test makes room.
struct Filling(Written, Arc<std::sync::atomic::AtomicUsize>);

impl io::Write for Filling {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.1.load(std::sync::atomic::Ordering::SeqCst);
        let room = room.saturating_sub(self.0.0.lock().unwrap().len());
        match self.0.write(&bytes[..bytes.len().min(room)])? {
            0 => Err(io::ErrorKind::StorageFull.into()),
            written => Ok(written),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_torn_line_does_not_become_the_beginning_of_the_next() {
    let (written, room) = (Written::default(), Arc::default());
    let filling = Filling(written.clone(), Arc::clone(&room));
    let lines = Lines::to(filling, LineFormat::Text).unwrap();
    let service = AccessLogLayer::new()
        .with_lines(lines.clone())
        .layer(service_fn(hello));
    // Half a line; nothing; the break and half a line; all there is.
    for most in [50, 50, 80, usize::MAX, usize::MAX] {
        room.store(most, std::sync::atomic::Ordering::SeqCst);
        to_end(service.clone().oneshot(get("/")).await.unwrap()).await;
        assert!(lines.flush(LIMIT).await);
    }
    let text = written.text();
    let lengths: Vec<_> = text.lines().map(str::len).collect();
    assert_eq!(&lengths[..2], [50, 29], "{text}");
    let whole = |line: &&str| line.ends_with("\"\", \"\"") && line.matches("GET").count() == 1;
    assert_eq!(text.lines().filter(whole).count(), 2, "{text}");
    assert_eq!(lengths.len(), 4, "{text}");
}

/// A terminal that somebody has stopped, until the test lets it go.
struct Stopped(std::sync::mpsc::Receiver<()>);

impl io::Write for Stopped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_for_a_log_that_stands_still() {
    let (go_on, stopped) = std::sync::mpsc::channel();
    let lines = Lines::with_room(Stopped(stopped), LineFormat::Text, 8).unwrap();
    let options = WriterOptions {
        queue: 8,
        timeout: Duration::from_secs(3600),
        ..WriterOptions::default()
    };
    let writer = RowWriter::start(Arc::new(Stuck), options);
    let layer = AccessLogLayer::new()
        .with_lines(lines.clone())
        .with_rows(writer.queue());
    let service = layer.layer(service_fn(hello));
    let begun = tokio::time::Instant::now();
    for _ in 0..1000 {
        // A step that waited for anything would not be ready at once.
        let mut answer = Box::pin(service.clone().oneshot(get("/")));
        let Poll::Ready(answer) = futures_util::poll!(&mut answer) else {
            panic!("the request waits");
        };
        let mut end = Box::pin(answer.unwrap().into_body().collect());
        assert!(futures_util::poll!(&mut end).is_ready());
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let queue = writer.queue();
    // What the queue has room for, and what the writer had taken out of it.
    assert!(queue.dropped() >= 1000 - 8 - 100, "{}", queue.dropped());
    // The same, and a full queue in the thread's hands.
    assert!(lines.dropped() >= 1000 - 8 - 9, "{}", lines.dropped());
    assert!(
        !lines.flush(Duration::from_secs(1)).await,
        "it says that it is not written"
    );
    let lost = writer.shutdown(Duration::from_secs(1)).await.lost;
    assert_eq!(lost + queue.dropped() + queue.written(), 1000);
    drop(go_on);
}

#[tokio::test]
async fn text_lines_reach_the_writer_whole_and_in_order() {
    let written = Written::default();
    let lines = Lines::to(written.clone(), LineFormat::Text).unwrap();
    let service = AccessLogLayer::new()
        .with_lines(lines.clone())
        .layer(service_fn(hello));
    for n in 0..50 {
        let mut request = get(&format!("/{n}"));
        let evil = HeaderValue::from_bytes("x\u{9b}2J\u{2028}\u{202e}\"".as_bytes()).unwrap();
        request.headers_mut().insert("user-agent", evil);
        to_end(service.clone().oneshot(request).await.unwrap()).await;
    }
    assert!(lines.flush(LIMIT).await);
    let text = written.text();
    assert_eq!(text.lines().count(), 50);
    for (n, line) in text.lines().enumerate() {
        assert!(line.contains(&format!(" - /{n} HTTP/1.1\"")), "{line}");
        assert!(line.ends_with(r#""x\u{9b}2J\u{2028}\u{202e}\"""#), "{line}");
    }
    assert!(!text.contains('\u{9b}') && !text.contains('\u{202e}'));
}

/// What a real server makes of bodies: it is the one that drops them.
mod served {
    use axum::Router;
    use axum::body::Body as AxumBody;
    use axum::routing::get;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use tokio::net::TcpListener;

    use super::*;

    static BEGUN: tokio::sync::Notify = tokio::sync::Notify::const_new();

    async fn never() -> &'static str {
        BEGUN.notify_one();
        std::future::pending().await
    }

    async fn connect(log: &Log) -> TcpStream {
        let app = Router::new()
            .route("/whole", get(async || "hello"))
            .route("/nothing", get(async || http::StatusCode::NO_CONTENT))
            .route("/never", get(never))
            .route(
                "/pieces",
                get(async || {
                    let pieces = ["a", "b"].map(Ok::<_, Infallible>);
                    AxumBody::from_stream(futures_util::stream::iter(pieces))
                }),
            )
            .route(
                "/endless",
                get(async || {
                    let piece = Bytes::from(vec![b'x'; 1 << 16]);
                    let pieces = std::iter::repeat_with(move || Ok::<_, Infallible>(piece.clone()));
                    AxumBody::from_stream(futures_util::stream::iter(pieces))
                }),
            )
            .layer(RecordBodyLayer::new())
            .layer(log.layer());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        TcpStream::connect(address).unwrap()
    }

    fn ask(client: &mut TcpStream, method: &str, path: &str) {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
    }

    async fn until_logged(log: &Log) {
        let logged = async {
            while log.writer.queue().written() == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LIMIT, logged).await.expect("a row");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn answers_that_were_sent_are_complete() {
        for (method, path, status) in [
            ("GET", "/whole", 200),
            ("HEAD", "/whole", 200),
            ("GET", "/nothing", 204),
            ("GET", "/pieces", 200),
            ("HEAD", "/endless", 200),
            ("GET", "/unknown", 404),
        ] {
            let log = Log::new();
            let mut client = connect(&log).await;
            ask(&mut client, method, path);
            // The connection stays open.
            until_logged(&log).await;
            let row = log.one().await.1;
            assert_eq!(
                (row.status, row.ending),
                (status, Ending::Complete),
                "{method} {path}"
            );
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn clients_that_hang_up_are_logged_as_such() {
        let log = Log::new();
        let mut client = connect(&log).await;
        ask(&mut client, "GET", "/endless");
        client.read_exact(&mut [0]).unwrap();
        drop(client);
        until_logged(&log).await;
        let row = log.one().await.1;
        assert_eq!((row.status, row.ending), (200, Ending::HungUp));

        let log = Log::new();
        let mut client = connect(&log).await;
        ask(&mut client, "GET", "/never");
        // Of a client that is gone before, hyper does not even begin to serve the request.
        BEGUN.notified().await;
        drop(client);
        until_logged(&log).await;
        let row = log.one().await.1;
        assert_eq!((row.status, row.ending), (499, Ending::HungUp));
    }
}
