//! The guide's examples, byte for byte: time and trace ID are given.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use onlyonce_core::{Clock, Timestamp};
use onlyonce_pipeline::Answers;
use onlyonce_pipeline::access_log::{AccessLogLayer, LineFormat, Lines};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;

use crate::app::{Parts, app};

/// The second in which the guide's example was made.
#[derive(Debug)]
struct GuidesClock;

impl Clock for GuidesClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_684_146_313_000)
    }
}

/// The guide's trace ID, as a caller would send it.
const PARENT: &str = "00-b4f90e16264a5f17cd3fc27141aba448-00f067aa0ba902b7-01";
const TRACE: &str = "b4f90e16264a5f17cd3fc27141aba448";

async fn with_answers(answers: Answers) -> Router {
    let parts = Parts {
        answers,
        clock: Arc::new(GuidesClock),
        log: AccessLogLayer::new(),
    };
    app(parts).await.unwrap()
}

async fn server() -> Router {
    with_answers(Answers::new()).await
}

struct Call {
    request: http::request::Builder,
    body: String,
}

fn call(method: Method, path: &str) -> Call {
    let request = Request::builder().method(method).uri(path);
    Call {
        request: request.header("traceparent", PARENT),
        body: String::new(),
    }
}

fn get(path: &str) -> Call {
    call(Method::GET, path)
}

fn post(path: &str, form: &str) -> Call {
    let call = call(Method::POST, path);
    Call {
        body: form.to_owned(),
        ..call
    }
    .header("content-type", "application/x-www-form-urlencoded")
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect(&self.body)
    }

    fn code(&self) -> i64 {
        self.json()["code"].as_i64().unwrap()
    }
}

impl Call {
    fn header(self, name: &str, value: &str) -> Self {
        Self {
            request: self.request.header(name, value.as_bytes()),
            ..self
        }
    }

    fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    async fn to(self, app: &Router) -> Answer {
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 40_000)));
        let request = self.request.extension(peer).body(Body::from(self.body));
        let response = app.clone().oneshot(request.unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

async fn login(app: &Router, name: &str) -> String {
    let form = format!("name={name}&password=open-sesame");
    let answer = post("/admin/login", &form).to(app).await;
    answer.json()["data"]["token"].as_str().unwrap().to_owned()
}

async fn program(app: &Router) -> String {
    let answer = post("/api/login", "app_key=till-17").to(app).await;
    answer.json()["data"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_rewritten_message() {
    let app = server().await;
    let token = login(&app, "eve").await;
    let answer = get("/admin/demo/message").bearer(&token).to(&app).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body,
        r#"{"code":-1,"message":"用户创建失败，请稍后重试！~","timestamp":1684146313,"traceID":"b4f90e16264a5f17cd3fc27141aba448"}"#
    );
}

#[tokio::test]
async fn a_rewritten_message_with_debug_on() {
    let app = with_answers(Answers::new().with_debug(true)).await;
    let token = login(&app, "eve").await;
    let answer = get("/admin/demo/message").bearer(&token).to(&app).await;
    let (start, rest) = answer
        .body
        .split_at(r#"{"code":-1,"message":"用户创建失败，请稍后重试！~","error":["#.len());
    assert_eq!(
        start,
        r#"{"code":-1,"message":"用户创建失败，请稍后重试！~","error":["#
    );
    assert!(
        rest.ends_with(r#"],"timestamp":1684146313,"traceID":"b4f90e16264a5f17cd3fc27141aba448"}"#),
        "{rest}"
    );
    let document = answer.json();
    let lines: Vec<&str> = document["error"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l.as_str().unwrap())
        .collect();
    // The program's places are this program's own; all else is as in the guide.
    assert_eq!(lines[0], "1. 用户创建失败，请稍后重试！~");
    assert!(
        lines[1].starts_with("   1).  ") && lines[1].contains("rewritten_message"),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("        ") && lines[2].contains("admin_api/admin.rs:"),
        "{lines:?}"
    );
    let second = lines
        .iter()
        .position(|line| *line == "2. 这是一个sql执行错误")
        .unwrap();
    assert!(lines[second + 1].contains("insert"), "{lines:?}");
    assert_eq!(lines.last(), Some(&""));
}

#[tokio::test]
async fn a_code_of_its_own() {
    let app = server().await;
    let token = login(&app, "eve").await;
    let answer = get("/admin/demo/code").bearer(&token).to(&app).await;
    assert_eq!(
        answer.body,
        r#"{"code":30001,"message":"用户创建失败，请稍后重试！~","timestamp":1684146313,"traceID":"b4f90e16264a5f17cd3fc27141aba448"}"#
    );
    assert_eq!(answer.headers["trace-id"], TRACE);
}

#[tokio::test]
async fn xml_by_declared_type_and_by_header() {
    let app = server().await;
    for path in ["/api/hello", "/api/hello-by-header"] {
        let answer = get(path).to(&app).await;
        assert!(
            answer.headers[header::CONTENT_TYPE]
                .to_str()
                .unwrap()
                .starts_with("text/xml")
        );
        assert_eq!(
            answer.body,
            "<doc><code>0</code><data><tips>hello hotgo, this is the api for HotGo applications.</tips></data><message>操作成功</message><timestamp>1684146313</timestamp><traceID>b4f90e16264a5f17cd3fc27141aba448</traceID></doc>"
        );
    }
    let injected = get("/api/hello?name=%3C%2Ftips%3E%3Cadmin%2F%3E")
        .to(&app)
        .await;
    assert!(
        injected.body.contains("hello &lt;/tips&gt;&lt;admin/&gt;,"),
        "{}",
        injected.body
    );
    // An error of a route that answers in XML is XML, in the client's language.
    let long = format!("/api/hello?name={}", "x".repeat(41));
    let refused = get(&long).header("accept-language", "en").to(&app).await;
    assert!(
        refused.body.starts_with("<doc><code>51</code><message>"),
        "{}",
        refused.body
    );
}

#[tokio::test]
async fn pages_and_their_errors() {
    let app = server().await;
    let page = get("/home").to(&app).await;
    assert_eq!(page.body, "<h1>Welcome to home</h1>");
    let failed = get("/home/fails?name=%3Cscript%3E").to(&app).await;
    assert!(
        failed.headers[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    assert!(
        failed.body.contains("no such page: &lt;script&gt;"),
        "{}",
        failed.body
    );
    let nowhere = get("/home/nowhere").to(&app).await;
    assert!(
        nowhere
            .body
            .contains("404 - 你似乎来到了没有知识存在的荒原…"),
        "{}",
        nowhere.body
    );
}

#[tokio::test]
async fn custom_answers_and_event_streams_pass() {
    let app = server().await;
    let custom = get("/home/custom").to(&app).await;
    assert_eq!(
        (custom.status.as_u16(), custom.body.as_str()),
        (202, "自定义响应内容")
    );
    assert_eq!(custom.headers["x-kind"], "custom");
    let events = get("/home/events").to(&app).await;
    assert_eq!(events.headers[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(events.body, "data: one\n\ndata: two\n\n");
}

#[tokio::test]
async fn each_module_has_its_own_logins() {
    let app = server().await;
    let none = get("/admin/members").to(&app).await;
    assert_eq!(none.code(), 61);
    assert_eq!(none.json()["message"], "登录身份已失效，请重新登录！");
    let of_api = program(&app).await;
    assert_eq!(
        get("/admin/members").bearer(&of_api).to(&app).await.code(),
        61
    );
    let editor = login(&app, "eve").await;
    assert_eq!(
        get("/admin/members").bearer(&editor).to(&app).await.code(),
        0
    );
    let denied = post("/admin/read-only", "on=true")
        .bearer(&editor)
        .to(&app)
        .await;
    assert_eq!(denied.code(), 62);
    assert_eq!(denied.json()["message"], "你没有访问权限！");
    assert_eq!(
        post("/admin/login", "name=eve&password=guess")
            .to(&app)
            .await
            .code(),
        61
    );
}

#[tokio::test]
async fn a_retried_member_is_added_once() {
    let app = server().await;
    let token = login(&app, "eve").await;
    let add = |key: &str, form: &str| {
        post("/admin/members", form)
            .bearer(&token)
            .header("idempotency-key", key)
    };
    let first = add("k", "name=%20Li%20&age=30").to(&app).await;
    assert_eq!(
        first.json()["data"],
        serde_json::json!({"id": 1, "by": "eve"})
    );
    let again = add("k", "name=%20Li%20&age=30").to(&app).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.body, first.body);
    // Another caller's key of the same name is another key.
    let boss = login(&app, "boss").await;
    let other = post("/admin/members", "name=Wu&age=40").bearer(&boss);
    let other = other.header("idempotency-key", "k").to(&app).await;
    assert_eq!(other.json()["data"]["id"], 2);
    let list = get("/admin/members").bearer(&token).to(&app).await;
    assert_eq!(
        list.json()["data"],
        serde_json::json!([{"name": "Li", "age": 30}, {"name": "Wu", "age": 40}])
    );
}

#[tokio::test]
async fn a_key_that_is_used_again_is_told_as_everything_else_is() {
    let app = server().await;
    let token = login(&app, "eve").await;
    let add = |form: &str| {
        post("/admin/members", form)
            .bearer(&token)
            .header("idempotency-key", "k")
    };
    assert_eq!(add("name=Li&age=30").to(&app).await.code(), 0);
    let other = add("name=Wu&age=40").to(&app).await;
    assert_eq!((other.status.as_u16(), other.code()), (200, 300));
    assert_eq!(
        other.json()["message"],
        "该幂等键已用于另一个请求，新的请求请使用新的键"
    );
    assert_eq!(other.json()["error"]["status"], 422);
}

#[tokio::test]
async fn a_refused_input_leaves_the_key_free() {
    let app = server().await;
    let token = login(&app, "eve").await;
    let add = |form: &str| {
        post("/admin/members", form)
            .bearer(&token)
            .header("idempotency-key", "k")
    };
    assert_eq!(add("name=Li&age=3").to(&app).await.code(), 51);
    let taken = add("name=admin&age=30").to(&app).await;
    assert_eq!(
        (taken.code(), taken.json()["message"].as_str()),
        (300, Some("该名称已被占用"))
    );
    let corrected = add("name=Li&age=30").to(&app).await;
    assert_eq!(corrected.code(), 0);
    assert!(!corrected.headers.contains_key("idempotent-replayed"));
}

#[tokio::test]
async fn read_only_and_blocked() {
    let app = server().await;
    let boss = login(&app, "boss").await;
    let switch = |on: &str| post("/admin/read-only", &format!("on={on}")).bearer(&boss);
    assert_eq!(switch("true").to(&app).await.code(), 0);
    let refused = post("/admin/members", "name=Li&age=30")
        .bearer(&boss)
        .to(&app)
        .await;
    assert_eq!(
        (refused.code(), refused.json()["message"].as_str()),
        (59, Some("演示系统禁止操作！"))
    );
    assert_eq!(switch("false").to(&app).await.code(), 0);

    let wrong = post("/admin/blocklist", "ip=10.0.0.0%2F33")
        .bearer(&boss)
        .to(&app)
        .await;
    assert_eq!(wrong.code(), 53, "{}", wrong.body);
    let block = post("/admin/blocklist", "ip=192.0.2.0%2F24&remark=spam");
    let id = block.bearer(&boss).to(&app).await.json()["data"]["id"].clone();
    // The proxy on this machine is believed, and only the hop next to it.
    let client = |forwarded: &str| get("/home").header("x-forwarded-for", forwarded);
    let blocked = client("192.0.2.9")
        .header("accept", "application/json")
        .to(&app)
        .await;
    assert!(
        blocked
            .body
            .contains("请求异常，已被封禁，如有疑问请联系管理员！"),
        "{}",
        blocked.body
    );
    let forged = client("192.0.2.9, 198.51.100.1").to(&app).await;
    assert_eq!(forged.body, "<h1>Welcome to home</h1>");
    let path = format!("/admin/blocklist/{id}");
    assert_eq!(
        call(Method::DELETE, &path)
            .bearer(&boss)
            .to(&app)
            .await
            .code(),
        0
    );
    assert_eq!(
        client("192.0.2.9").to(&app).await.body,
        "<h1>Welcome to home</h1>"
    );
}

#[tokio::test]
async fn a_panic_is_code_68_and_tells_nothing() {
    std::panic::set_hook(Box::new(|_| {}));
    let app = server().await;
    let boss = login(&app, "boss").await;
    let answer = get("/admin/demo/panic").bearer(&boss).to(&app).await;
    assert_eq!(
        answer.body,
        r#"{"code":68,"message":"内部异常","timestamp":1684146313,"traceID":"b4f90e16264a5f17cd3fc27141aba448"}"#
    );
}

#[tokio::test]
async fn pages_of_other_origins() {
    let app = server().await;
    let preflight = call(Method::OPTIONS, "/admin/members")
        .header("origin", "https://example.org")
        .header("access-control-request-method", "POST")
        .to(&app)
        .await;
    assert_eq!(
        preflight.headers["access-control-allow-origin"],
        "https://example.org"
    );
    assert_eq!(
        preflight.headers["access-control-allow-credentials"],
        "true"
    );
    assert_eq!(preflight.headers["access-control-max-age"], "3628800");
}

#[tokio::test]
async fn every_request_is_a_line() {
    let (read, write) = std::io::pipe().unwrap();
    let parts = Parts {
        answers: Answers::new(),
        clock: Arc::new(GuidesClock),
        log: AccessLogLayer::new().with_lines(Lines::to(write, LineFormat::Text).unwrap()),
    };
    let app = app(parts).await.unwrap();
    let call = get("/home?x=1").header("host", "localhost:8000");
    call.header("user-agent", "a browser\u{9b}31m")
        .to(&app)
        .await;
    drop(app);
    let mut line = String::new();
    tokio::task::spawn_blocking(move || {
        std::io::BufRead::read_line(&mut std::io::BufReader::new(read), &mut line).unwrap();
        let (before, after) = line
            .split_once("{b4f90e16264a5f17cd3fc27141aba448} ")
            .expect(&line);
        assert_eq!(before.len(), "2023-05-15 18:05:07.776 ".len(), "{line}");
        let start = "200 \"GET http localhost:8000 /home?x=1 HTTP/1.1\" ";
        assert!(after.starts_with(start), "{line}");
        assert!(after.contains(", 127.0.0.1, "), "{line}");
        assert!(!line.contains('\u{9b}'), "{line:?}");
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_websocket_is_opened_with_a_ticket_once() {
    let app = server().await;
    let token = program(&app).await;
    let ticket = post("/api/ticket", "").bearer(&token).to(&app).await.json();
    let ticket = ticket["data"]["ticket"].as_str().unwrap().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async { axum::serve(listener, service).await });
    let open = async |query: String| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /socket/echo?{query} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        // The greeting is a text frame: 0x81, its length, its text.
        while !String::from_utf8_lossy(&got).contains("hello till-17")
            && !String::from_utf8_lossy(&got).contains("\"code\":61")
        {
            let mut piece = [0; 1024];
            match stream.read(&mut piece).await.unwrap() {
                0 => break,
                length => got.extend_from_slice(&piece[..length]),
            }
        }
        String::from_utf8_lossy(&got).into_owned()
    };
    assert!(
        open(format!("ticket={ticket}"))
            .await
            .starts_with("HTTP/1.1 101 ")
    );
    for refused in [
        format!("ticket={ticket}"),
        format!("token={token}"),
        String::new(),
    ] {
        let answer = open(refused).await;
        assert!(answer.contains("\"code\":61"), "{answer}");
    }
    serving.abort();
}
