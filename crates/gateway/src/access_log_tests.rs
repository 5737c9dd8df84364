use std::convert::Infallible;
use std::path::Path;

use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use onlyonce_pipeline::access_log::{RecordBodyLayer, RecordedBody};
use serde_json::Value;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

use super::*;
use crate::config::{Flag, Settings, Sources};

fn settings(folder: &Path, more: &[(&str, &str)]) -> AccessLogSettings {
    let mut sources = Sources::none()
        .with_flag(Flag::Upstream, "http://127.0.0.1:1")
        .with_variable("ONLYONCE_ACCESS_LOG__ENABLED", "true")
        .with_variable(
            "ONLYONCE_ACCESS_LOG__LINES",
            format!("file:{}", folder.join("access.log").display()),
        )
        .with_variable(
            "ONLYONCE_ACCESS_LOG__STORE",
            format!("sqlite:{}", folder.join("access.db").display()),
        );
    for (key, value) in more {
        let name = format!("ONLYONCE_ACCESS_LOG__{}", key.to_uppercase());
        sources = sources.with_variable(name, *value);
    }
    let (settings, _) = Settings::load(&sources).unwrap();
    settings.access_log
}

const LIMIT: Duration = Duration::from_secs(30);

async fn call(logs: &AccessLogs, path: &str, body: &str) {
    let service = ServiceBuilder::new()
        .layer(logs.layer().expect("it is on"))
        .layer(RecordBodyLayer::new())
        .service(service_fn(
            async |request: Request<RecordedBody<Full<Bytes>>>| {
                request.into_body().collect().await.unwrap();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("ok"))))
            },
        ));
    let mut request = Request::post(path)
        .header("payment-key", "k-s3cret")
        .header("x-card", "s3cret")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    request.extensions_mut().insert(Peer {
        addr: "192.0.2.7:5000".parse().unwrap(),
        local: "127.0.0.1:443".parse().unwrap(),
        tls: true,
    });
    let response = service.oneshot(request).await.unwrap();
    response.into_body().collect().await.unwrap();
}

async fn rows(console: &Router) -> Vec<Value> {
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = console.clone().oneshot(request).await.unwrap();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    let list = get("/api/access-log").await;
    let mut rows = Vec::new();
    for row in list["rows"].as_array().unwrap() {
        let id = row["id"].as_str().unwrap();
        rows.push(get(&format!("/api/access-log/{id}")).await);
    }
    rows
}

#[tokio::test]
async fn settings_reach_lines_rows_and_the_console() {
    let folder = tempfile::tempdir().unwrap();
    let more = [
        ("skip_paths", "/healthz"),
        ("redact", "card_number"),
        ("redact_headers", "X-Card"),
        ("max_body", "64B"),
    ];
    let settings = settings(folder.path(), &more);
    let keys = [HeaderName::from_static("payment-key")];
    let logs = AccessLogs::open(&settings, &keys).await.unwrap();
    let console = crate::console::router(logs.console(|| false).unwrap());
    call(&logs, "/healthz", "").await;
    call(&logs, "/pay?a=1", r#"{"cardNumber":"s3cret","n":1}"#).await;
    call(&logs, "/long", &"x".repeat(100)).await;
    let written = async {
        loop {
            let rows = rows(&console).await;
            if rows.len() == 2 {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let rows = tokio::time::timeout(LIMIT, written)
        .await
        .expect("two rows");
    logs.shutdown(LIMIT).await;
    // Closed as it should be: nothing is left beside the file.
    let beside = std::fs::metadata(folder.path().join("access.db-wal"));
    assert_eq!(beside.map_or(0, |file| file.len()), 0);
    let mut urls: Vec<_> = rows
        .iter()
        .map(|row| row["url"].as_str().unwrap())
        .collect();
    urls.sort_unstable();
    assert_eq!(urls, ["https:///long", "https:///pay"]);
    let pay = rows.iter().find(|row| row["query"] == "a=1").unwrap();
    assert_eq!(pay["ip"], "192.0.2.7");
    assert_eq!(pay["body"], r#"{"cardNumber":"[redacted]","n":1}"#);
    let long = rows.iter().find(|row| row["query"] == "").unwrap();
    assert_eq!(long["body"], format!("{}…", "x".repeat(64)));
    let lines = std::fs::read_to_string(folder.path().join("access.log")).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(
        lines.contains("\"POST https - /pay?a=1 HTTP/1.1\""),
        "{lines}"
    );
    assert!(!format!("{lines}{rows:?}").contains("s3cret"));
}

#[tokio::test]
async fn new_rules_hold_from_the_next_request_on() {
    let folder = tempfile::tempdir().unwrap();
    let on = settings(folder.path(), &[("store", "off")]);
    let logs = AccessLogs::open(&on, &[]).await.unwrap();
    assert!(logs.console(|| false).is_none());
    call(&logs, "/a", "").await;
    let mut off = on.clone();
    off.enabled = false;
    logs.rules().store(Arc::new(off.rules(&[])));
    call(&logs, "/b", "").await;
    logs.rules().store(Arc::new(on.rules(&[])));
    call(&logs, "/c", "").await;
    logs.shutdown(LIMIT).await;
    let lines = std::fs::read_to_string(folder.path().join("access.log")).unwrap();
    let has = |path: &str| lines.contains(&format!(" {path} HTTP"));
    assert!(has("/a") && !has("/b") && has("/c"), "{lines}");
}

#[tokio::test]
async fn off_means_that_nothing_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let mut off = settings(folder.path(), &[]);
    off.enabled = false;
    let logs = AccessLogs::open(&off, &[]).await.unwrap();
    assert!(logs.layer().is_none() && logs.console(|| false).is_none());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // A folder is in the place of the file.
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    let lines = format!("file:{}", taken.display());
    let store = format!("sqlite:{}", taken.display());
    for (key, value) in [("lines", lines), ("store", store)] {
        let settings = settings(folder.path(), &[(key, &value)]);
        let Err(error) = AccessLogs::open(&settings, &[]).await else {
            panic!("{key} can't be there");
        };
        let said = format!("{error:#}");
        let place = format!("`{key}` in [access_log]");
        assert!(said.starts_with(&place), "{said}");
        assert!(said.contains("taken"), "{said}");
    }
}
