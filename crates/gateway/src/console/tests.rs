use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use onlyonce_core::Timestamp;
use onlyonce_pipeline::access_log::{
    AccessRow, Ending, MemorySink, RowId, RowQuery, RowSummary, SinkError, SinkFuture,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;

const NEW_YEAR: u64 = 1_767_225_600_000;

fn row(n: u64) -> AccessRow {
    let created = Timestamp::from_millis(NEW_YEAR + n * 1000);
    AccessRow {
        id: RowId::new(created),
        trace_id: format!("{n:032x}"),
        module: "admin".to_owned(),
        method: "POST".to_owned(),
        scheme: "https".to_owned(),
        host: "shop.example".to_owned(),
        path: format!("/admin/users/{n}"),
        query: "page=2".to_owned(),
        headers: vec![("x-tenant".to_owned(), "tenant-7".to_owned())],
        body: r#"{"name":"x"}"#.to_owned(),
        ip: Some("192.0.2.7".parse().unwrap()),
        user: Some("17".to_owned()),
        code: Some(30001),
        message: "user not created".to_owned(),
        stack: vec![
            "1. user not created".to_owned(),
            "   1).  create".to_owned(),
        ],
        status: 400,
        user_agent: "curl/8.5".to_owned(),
        duration: Duration::from_millis(12),
        ending: Ending::Complete,
        responded: Timestamp::from_millis(NEW_YEAR + n * 1000 + 12),
        created,
        outcome: Some("executed".to_owned()),
        key_hash: Some("0a1b2c3d".to_owned()),
    }
}

async fn console(rows: &[AccessRow]) -> Router {
    let sink = MemorySink::new(1000);
    sink.write(rows).await.unwrap();
    router(Console::new(Arc::new(sink), || false))
}

async fn get(console: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = console.clone().oneshot(request).await.unwrap();
    assert!(response.headers().contains_key("content-security-policy"));
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    // minijinja writes a slash as an entity.
    (status, text.replace("&#x2f;", "/"))
}

async fn json_of(console: &Router, path: &str) -> (StatusCode, Value) {
    let (status, body) = get(console, path).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn the_list_has_the_newest_first_and_pages_to_the_end() {
    let rows: Vec<_> = (0..25).map(row).collect();
    let console = console(&rows).await;
    let mut urls = Vec::new();
    let mut path = "/api/access-log?limit=10&module=admin".to_owned();
    loop {
        let (status, page) = json_of(&console, &path).await;
        assert_eq!(status, 200);
        let page_of = page["rows"].as_array().unwrap();
        urls.extend(
            page_of
                .iter()
                .map(|row| row["url"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/api/access-log?limit=10&module=admin&before={next}");
    }
    let expected: Vec<_> = (0..25).rev().map(|n| format!("/admin/users/{n}")).collect();
    assert_eq!(urls, expected);

    let (_, page) = get(&console, "/console/access-log?limit=10&user=17").await;
    let link = page
        .split("rel=\"next\" href=\"")
        .nth(1)
        .expect("a link to older ones");
    let link = link.split('"').next().unwrap().replace("&amp;", "&");
    assert!(
        link.starts_with("/console/access-log?user=17&limit=10&before="),
        "{link}"
    );
    let (_, page) = get(&console, &link).await;
    assert!(page.contains("/admin/users/14") && !page.contains("/admin/users/15"));
    assert!(page.contains("value=\"17\""), "the filters stay");
}

#[tokio::test]
async fn each_filter_is_heeded() {
    let odd = AccessRow {
        path: "/home/x".to_owned(),
        module: "home".to_owned(),
        method: "GET".to_owned(),
        user: None,
        ip: Some("2001:db8::1".parse().unwrap()),
        code: Some(0),
        duration: Duration::from_secs(3),
        ..row(5000)
    };
    let console = console(&[row(0), row(1), odd]).await;
    for filter in [
        "url=/home",
        "url=ome",
        "module=home",
        "method=get",
        "ip=2001:db8::1",
        "code=0",
        "min_ms=3000",
        "from=2026-01-01T01:00",
        "trace_id=00000000000000000000000000001388",
    ] {
        let (_, page) = json_of(&console, &format!("/api/access-log?{filter}")).await;
        let rows = page["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 1, "{filter}: {page}");
        assert_eq!(rows[0]["url"], "/home/x", "{filter}");
        let (_, page) = get(&console, &format!("/console/access-log?{filter}")).await;
        assert!(
            page.contains("/home/x") && !page.contains("/admin/users"),
            "{filter}"
        );
    }
    let (_, page) = json_of(&console, "/api/access-log?until=2026-01-01T01:00&user=17").await;
    assert_eq!(page["rows"].as_array().unwrap().len(), 2);
    let (_, page) = get(&console, "/console/access-log?user=nobody").await;
    assert!(page.contains("No request fits."));
}

#[tokio::test]
async fn a_row_s_page_is_in_hotgo_s_order() {
    let row = row(0);
    let console = console(std::slice::from_ref(&row)).await;
    let (status, page) = get(&console, &format!("/console/access-log/{}", row.id)).await;
    assert_eq!(status, 200);
    let page = page.replace("&quot;", "\"");
    let mut rest = page.split_once("<main>").unwrap().1;
    for part in [
        "POST",
        "https://shop.example/admin/users/0",
        "12 ms",
        "192.0.2.7",
        "00000000000000000000000000000000",
        "2026-01-01 00:00:00.012",
        "2026-01-01 00:00:00.000",
        "curl/8.5",
        "30001",
        "user not created",
        "1. user not created\n   1).  create",
        "x-tenant",
        "tenant-7",
        "page=2",
        "{\n  \"name\": \"x\"\n}",
        "400",
        "executed",
        "0a1b2c3d",
    ] {
        let (_, after) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("{part} in {rest}"));
        rest = after;
    }
    let (_, shown) = json_of(&console, &format!("/api/access-log/{}", row.id)).await;
    assert_eq!(shown["headers"], json!([["x-tenant", "tenant-7"]]));
    assert_eq!(shown["url"], "https://shop.example/admin/users/0");
    assert_eq!(shown["stack"][0], "1. user not created");
}

#[tokio::test]
async fn headers_are_hidden_while_read_only_mode_is_on() {
    let row = row(0);
    let sink = MemorySink::new(10);
    sink.write(std::slice::from_ref(&row)).await.unwrap();
    let on = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&on);
    let read_only = move || switch.load(Ordering::SeqCst);
    let console = router(Console::new(Arc::new(sink), read_only));
    let (page, api) = (
        format!("/console/access-log/{}", row.id),
        format!("/api/access-log/{}", row.id),
    );
    for path in [&page, &api] {
        let (_, text) = get(&console, path).await;
        assert!(
            !text.contains("tenant-7") && !text.contains("x-tenant"),
            "{text}"
        );
    }
    assert!(
        get(&console, &page)
            .await
            .1
            .contains("Hidden while read-only mode is on.")
    );
    on.store(false, Ordering::SeqCst);
    for path in [&page, &api] {
        assert!(get(&console, path).await.1.contains("tenant-7"));
    }
}

#[tokio::test]
async fn hazard_54_nothing_that_was_logged_becomes_html() {
    let evil = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>{{ 'az' ~ 'zq' }}\u{202e}\u{1b}[2J";
    let row = AccessRow {
        trace_id: evil.to_owned(),
        module: evil.to_owned(),
        method: evil.to_owned(),
        host: evil.to_owned(),
        path: format!("/{evil}"),
        query: evil.to_owned(),
        headers: vec![(evil.to_owned(), evil.to_owned())],
        body: evil.to_owned(),
        user: Some(evil.to_owned()),
        message: evil.to_owned(),
        stack: vec![evil.to_owned()],
        user_agent: evil.to_owned(),
        outcome: Some(evil.to_owned()),
        key_hash: Some(evil.to_owned()),
        ..row(0)
    };
    let console = console(std::slice::from_ref(&row)).await;
    let typed = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E%3Cimg%20src=x%20onerror='alert(2)'%3E%7B%7B%20'az'%20~%20'zq'%20%7D%7D";
    for path in [
        "/console/access-log".to_owned(),
        format!("/console/access-log/{}", row.id),
        format!("/console/access-log?url={typed}"),
        format!("/console/access-log?code={typed}&user={typed}&before={typed}"),
        format!("/console/access-log?{typed}=1"),
        format!("/console/access-log/{typed}"),
    ] {
        let (_, page) = get(&console, &path).await;
        for harm in ["<script", "<img", "azzq", "\u{202e}", "\u{1b}"] {
            assert!(!page.contains(harm), "{harm:?} on {path}: {page}");
        }
        assert!(!page.contains(" onerror='"), "{page}");
    }
    let shown = get(&console, &format!("/console/access-log/{}", row.id))
        .await
        .1;
    assert!(
        shown.contains("&lt;script&gt;") && shown.contains("{{ &#x27;az&#x27; ~ &#x27;zq&#x27; }}"),
        "{shown}"
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_said_and_the_rest_stays() {
    let console = console(&[row(0)]).await;
    let (status, page) = get(&console, "/console/access-log?ip=home&user=17").await;
    assert_eq!(status, 400);
    assert!(
        page.contains("`ip`: expected an address such as 192.0.2.7"),
        "{page}"
    );
    assert!(page.contains("value=\"17\"") && page.contains("value=\"home\""));
    let (status, problem) = json_of(&console, "/api/access-log?ip=home").await;
    assert_eq!((status.as_u16(), &problem["status"]), (400, &json!(400)));
    assert_eq!(
        problem["detail"],
        "`ip`: expected an address such as 192.0.2.7"
    );
    let (status, problem) = json_of(&console, "/api/access-log?uesr=1").await;
    assert_eq!(status, 400);
    assert!(
        problem["detail"].as_str().unwrap().contains("uesr"),
        "{problem}"
    );
    for id in ["x", &"0".repeat(32)] {
        assert_eq!(
            get(&console, &format!("/console/access-log/{id}")).await.0,
            404
        );
        assert_eq!(get(&console, &format!("/api/access-log/{id}")).await.0, 404);
    }
}

/// Its database has gone.
struct Broken;

impl RowSink for Broken {
    fn write<'a>(&'a self, _: &'a [AccessRow]) -> SinkFuture<'a, ()> {
        unreachable!()
    }

    fn list<'a>(&'a self, _: &'a RowQuery) -> SinkFuture<'a, Vec<RowSummary>> {
        Box::pin(async { Err(SinkError::new("read", "connect to user:pw@db1")) })
    }

    fn find(&self, _: RowId) -> SinkFuture<'_, Option<AccessRow>> {
        Box::pin(async { Err(SinkError::new("read", "connect to user:pw@db1")) })
    }

    fn purge(&self, _: Timestamp, _: usize) -> SinkFuture<'_, u64> {
        unreachable!()
    }
}

#[tokio::test]
async fn a_database_that_fails_is_503_without_its_secrets() {
    let console = router(Console::new(Arc::new(Broken), || false));
    let id = "0".repeat(32);
    for path in [
        "/console/access-log".to_owned(),
        format!("/console/access-log/{id}"),
        "/api/access-log".to_owned(),
        format!("/api/access-log/{id}"),
    ] {
        let (status, body) = get(&console, &path).await;
        assert_eq!(status, 503, "{path}");
        assert!(!body.contains("db1"), "{body}");
    }
}

/// Its database does not answer.
struct Stuck;

impl RowSink for Stuck {
    fn write<'a>(&'a self, _: &'a [AccessRow]) -> SinkFuture<'a, ()> {
        unreachable!()
    }

    fn list<'a>(&'a self, _: &'a RowQuery) -> SinkFuture<'a, Vec<RowSummary>> {
        Box::pin(std::future::pending())
    }

    fn find(&self, _: RowId) -> SinkFuture<'_, Option<AccessRow>> {
        Box::pin(std::future::pending())
    }

    fn purge(&self, _: Timestamp, _: usize) -> SinkFuture<'_, u64> {
        unreachable!()
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_does_not_answer_is_not_waited_for_without_end() {
    let console = router(Console::new(Arc::new(Stuck), || false));
    let (status, page) = get(&console, "/console/access-log?url=x").await;
    assert_eq!(status, 503);
    assert!(page.contains("did not answer within 15s"), "{page}");
    let (status, _) = get(&console, &format!("/api/access-log/{}", "0".repeat(32))).await;
    assert_eq!(status, 503);
}

#[tokio::test]
async fn pages_need_nothing_from_elsewhere() {
    let console = console(&[row(0)]).await;
    let (_, page) = get(&console, "/console/access-log").await;
    assert_eq!(page.matches("<link").count(), 1);
    assert!(page.contains("href=\"/console/style.css\""));
    for foreign in ["http://", "https://", "<script", "style=\"", " on"] {
        assert!(
            !page.replace(" one", "").contains(&format!("<{foreign}")),
            "{foreign}"
        );
    }
    let (status, style) = get(&console, "/console/style.css").await;
    assert_eq!(status, 200);
    assert!(!style.contains("url(") && !style.contains("@import"));
}
