use std::time::Duration;

use http::header::ACCEPT_LANGUAGE;
use onlyonce::TraceId;
use onlyonce_core::Timestamp;

use super::*;
use crate::Text;
use crate::error::Frame;

const TRACE: &str = "b4f90e16264a5f17cd3fc27141aba448";

fn answers() -> Answers {
    Answers::new().with_clock(Arc::new(GoldenClock))
}

#[derive(Debug)]
struct GoldenClock;

impl Clock for GoldenClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_684_146_313_999)
    }
}

fn request(path: &str) -> Request<()> {
    let mut request = Request::get(path).body(()).unwrap();
    request.extensions_mut().insert(TraceId::new(TRACE));
    request
}

fn chinese(path: &str) -> Request<()> {
    let mut request = request(path);
    request
        .headers_mut()
        .insert(ACCEPT_LANGUAGE, "zh-CN".parse().unwrap());
    request
}

fn text(response: &Response<Bytes>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

fn failed() -> Arc<Error> {
    Arc::new(
        Error::new(
            30001,
            Text::both("Not created", "用户创建失败，请稍后重试！~"),
        )
        .with_frames(vec![]),
    )
}

#[test]
fn the_golden_error() {
    let answers = answers();
    let response = answers.error(&failed(), &answers.asked(&chinese("/")), None);
    assert_eq!(
        text(&response),
        r#"{"code":30001,"message":"用户创建失败，请稍后重试！~","timestamp":1684146313,"traceID":"b4f90e16264a5f17cd3fc27141aba448"}"#
    );
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
}

#[test]
fn with_debug_the_chain_stands_before_the_timestamp() {
    let answers = answers().with_debug(true);
    let error = Error::new(30001, "inner")
        .with_frames(vec![Frame::new("create", "user.rs", 7)])
        .wrap("outer")
        .with_frames(vec![]);
    let response = answers.error(&Arc::new(error), &answers.asked(&request("/")), None);
    assert_eq!(
        text(&response),
        r#"{"code":30001,"message":"outer","error":["1. outer","2. inner","   1).  create","        user.rs:7",""],"timestamp":1684146313,"traceID":"b4f90e16264a5f17cd3fc27141aba448"}"#
    );
}

#[test]
fn internal_messages_are_hidden_without_debug() {
    let error = Arc::new(Error::from("x".parse::<u8>().unwrap_err()));
    let quiet = answers();
    let response = quiet.error(&error, &quiet.asked(&request("/")), None);
    assert!(text(&response).contains(r#""message":"Operation failed, please try again later""#));
    assert!(!text(&response).contains("digit"));
    let response = quiet.error(&error, &quiet.asked(&chinese("/")), None);
    assert!(text(&response).contains("操作失败，请稍后重试！~"));
    let note = response.extensions().get::<AnswerNote>().unwrap();
    let kept = note.error.as_ref().expect("the log keeps it");
    assert!(kept.message(Language::En).contains("digit"));

    let debug = answers().with_debug(true);
    let response = debug.error(&error, &debug.asked(&request("/")), None);
    assert!(text(&response).contains("digit"));
}

#[test]
fn results_in_json() {
    let answers = answers();
    let data = RawValue::from_string(r#"{"b":1,"a":[]}"#.into()).unwrap();
    let response = answers.result(Some(&data), None, &answers.asked(&request("/")), None);
    assert_eq!(
        text(&response),
        format!(
            r#"{{"code":0,"message":"OK","data":{{"b":1,"a":[]}},"timestamp":1684146313,"traceID":"{TRACE}"}}"#
        )
    );
    assert!(!response.headers().contains_key(CACHE_CONTROL));
    let null = RawValue::from_string("null".into()).unwrap();
    let response = answers.result(Some(&null), Some(""), &answers.asked(&chinese("/")), None);
    assert_eq!(
        text(&response),
        format!(r#"{{"code":0,"timestamp":1684146313,"traceID":"{TRACE}"}}"#)
    );
}

#[test]
fn the_golden_xml() {
    let answers = answers();
    let data = RawValue::from_string(r#"{"tips":"hi"}"#.into()).unwrap();
    let asked = answers.asked(&chinese("/"));
    let response = answers.result(Some(&data), None, &asked, Some(ContentKind::Xml));
    assert_eq!(
        text(&response),
        format!(
            "<doc><code>0</code><data><tips>hi</tips></data><message>操作成功</message><timestamp>1684146313</timestamp><traceID>{TRACE}</traceID></doc>"
        )
    );
    assert_eq!(response.headers()[CONTENT_TYPE], "text/xml; charset=utf-8");
}

#[test]
fn data_too_deep_for_xml_is_left_out() {
    let answers = answers();
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let data = RawValue::from_string(deep).unwrap();
    let asked = answers.asked(&request("/"));
    let response = answers.result(Some(&data), None, &asked, Some(ContentKind::Xml));
    assert!(text(&response).starts_with("<doc><code>0</code><message>OK</message>"));
}

#[test]
fn errors_come_in_the_routes_form() {
    let answers = answers()
        .with_kind("/xml/{*rest}", ContentKind::Xml)
        .and_then(|answers| answers.with_kind("/text", ContentKind::Text))
        .and_then(|answers| answers.with_kind("/page/{id}", ContentKind::Html))
        .and_then(|answers| answers.with_kind("/events", ContentKind::EventStream))
        .unwrap();
    let refusal = Refusal::new(Code::NOT_AUTHORIZED);
    let xml = answers.refuse(&refusal, &request("/xml/a/b"));
    assert!(text(&xml).starts_with("<doc><code>61</code><message>Not Authorized</message>"));
    let plain = answers.refuse(&refusal, &request("/text"));
    assert_eq!(text(&plain), "Not Authorized");
    let page = answers.refuse(&refusal, &request("/page/7"));
    assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(text(&page).contains("<h1>Not Authorized</h1>"));
    // An event stream that never began is no stream.
    let stream = answers.refuse(&refusal, &request("/events"));
    assert_eq!(stream.headers()[CONTENT_TYPE], "application/json");
}

#[test]
fn pages_are_escaped() {
    let answers = answers().with_error_page("<p>{{ message }}</p>").unwrap();
    let error = Arc::new(Error::plain("<script>alert('x')</script>"));
    let asked = answers.asked(&request("/"));
    let page = answers.error(&error, &asked, Some(ContentKind::Html));
    assert_eq!(
        text(&page),
        "<p>&lt;script&gt;alert(&#x27;x&#x27;)&lt;&#x2f;script&gt;</p>"
    );
}

#[test]
fn a_wrong_template_is_named_with_its_line() {
    let error = answers()
        .with_error_page("<p>\n{{ message </p>")
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the template for error pages, line 2: "),
        "{error}"
    );
}

#[test]
fn a_template_that_shows_what_is_not_there_is_refused() {
    let error = answers()
        .with_error_page("<p>\n{{ message }}{{ trace_id }}</p>")
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the template for error pages, line 2: there is no `trace_id`, but code, message, \
         status, error, timestamp, traceID, language"
    );
    let all = "{% for line in error %}{{ loop.index }}{{ line }}{% endfor %}{{ code }}{{ status }}\
               {{ timestamp }}{{ traceID }}{{ language }}{% set x = range(3) %}{{ x }}";
    assert!(answers().with_error_page(all).is_ok());
}

#[test]
fn a_wrong_pattern_is_named() {
    let error = answers().with_kind("/{a", ContentKind::Xml).unwrap_err();
    assert!(
        error.to_string().starts_with("route pattern \"/{a\": "),
        "{error}"
    );
}

#[test]
fn refusals_carry_status_text_and_patience() {
    let refusal = Refusal::new(Code::SERVER_BUSY)
        .with_text(Text::both("blocked", "封禁"))
        .with_status(StatusCode::FORBIDDEN)
        .with_retry_after(Duration::from_millis(1500));
    let mapped = answers().refuse(&refusal, &chinese("/"));
    assert_eq!(mapped.status(), 403);
    assert_eq!(mapped.headers()[RETRY_AFTER], "2");
    assert!(mapped.extensions().get::<EffectiveStatus>().is_none());
    let note = mapped.extensions().get::<AnswerNote>().unwrap();
    assert_eq!((note.code, &*note.message), (Code::SERVER_BUSY, "封禁"));

    let always = answers()
        .with_status_mode(StatusMode::Always200)
        .refuse(&refusal, &request("/"));
    assert_eq!(always.status(), 200);
    let meant = always.extensions().get::<EffectiveStatus>().unwrap();
    assert_eq!(meant.0, 403);
}

#[test]
fn a_fixed_language_is_not_negotiated() {
    let answers = answers().with_language(Language::ZhCn);
    let response = answers.refuse(&Refusal::new(Code::NOT_FOUND), &request("/"));
    assert!(text(&response).contains("资源不存在"));
}
