//! Who the client is, and who is kept out by that.

use http::Method;
use onlyonce_e2e::{Gateway, Settings, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Everybody is on this machine: it stands for a proxy that names its clients.
const BEHIND_PROXY: &str = "trusted_proxies = [\"127.0.0.1\"]\nheader = \"x-forwarded-for\"";

fn settings(upstream: &Upstream) -> Settings {
    Settings::before(upstream)
        .in_memory()
        .section("blocklist", "enabled = true\nstore = \"memory:\"")
}

async fn block(gateway: &Gateway, ip: &str) -> u16 {
    let body = serde_json::json!({"ip": ip, "remark": "spam"}).to_string();
    let call = gateway.admin(Method::POST, "/api/blocklist");
    call.header("onlyonce-admin", "1")
        .json(&body)
        .send()
        .await
        .status
}

#[tokio::test]
async fn whom_the_blocklist_names_is_refused_from_then_on() {
    let upstream = Upstream::counting().await;
    let settings = settings(&upstream)
        .section("client_address", BEHIND_PROXY)
        .route("path = \"/open\"\nblocklist = false");
    let gateway = Gateway::start(settings).await;
    let from = |ip: &str| gateway.get("/").header("x-forwarded-for", ip).send();
    assert_eq!(from("192.0.2.7").await.status, 201);
    assert!(block(&gateway, "192.0.2.0/24").await < 300);
    let refused = from("192.0.2.7").await;
    assert_eq!((refused.status, &refused.json()["code"]), (403, &63.into()));
    assert_eq!(from("192.0.3.7").await.status, 201);
    // Only the hop that the proxy names counts, not what the client has written before.
    assert_eq!(from("192.0.2.7, 192.0.3.7").await.status, 201);
    assert_eq!(from("192.0.3.7, 192.0.2.7").await.status, 403);
    assert_eq!(from("::ffff:192.0.2.7").await.status, 403);
    let open = gateway
        .get("/open")
        .header("x-forwarded-for", "192.0.2.7")
        .send()
        .await;
    assert_eq!(open.status, 201);
    // Which other servers may read as other paths.
    for path in ["/open/..;/orders", "/x/../open", "//open", "/%6fpen"] {
        let refused = gateway.get(path).header("x-forwarded-for", "192.0.2.7");
        assert_eq!(refused.send().await.status, 403, "{path}");
    }
    let elsewhere = gateway
        .get("/open")
        .header("x-forwarded-for", "192.0.2.7")
        .header("x-original-url", "/orders");
    assert_eq!(elsewhere.send().await.status, 201);
    assert_eq!(upstream.last().header("x-original-url"), None);
    for wrong in ["192.0.2.0/33", "nobody", "10.0.0.9-10.0.0.1", ""] {
        assert_eq!(block(&gateway, wrong).await, 422, "{wrong}");
    }
}

#[tokio::test]
async fn a_forged_address_of_an_untrusted_peer_means_nothing() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(settings(&upstream)).await;
    assert!(block(&gateway, "127.0.0.1").await < 300);
    for (name, value) in [
        ("x-forwarded-for", "198.51.100.1"),
        ("forwarded", "for=198.51.100.1"),
        ("x-real-ip", "198.51.100.1"),
    ] {
        assert_eq!(
            gateway.get("/").header(name, value).send().await.status,
            403,
            "{name}"
        );
    }
    assert_eq!(upstream.total(), 0);
}

#[tokio::test]
async fn the_command_line_blocks_and_unblocks() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(settings(&upstream)).await;
    let added = gateway
        .command(["blocklist", "add", "127.0.0.1", "--remark", "me"])
        .await;
    assert!(added.code == Some(0), "{added:?}");
    assert_eq!(gateway.get("/").send().await.status, 403);
    let listed = gateway.command(["blocklist", "list", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap_or_default();
    let text = listed.to_string();
    assert!(text.contains("127.0.0.1") && text.contains("me"), "{text}");
    let removed = gateway.command(["blocklist", "remove", "1"]).await;
    assert!(removed.code == Some(0), "{removed:?}");
    assert_eq!(gateway.get("/").send().await.status, 201);
    let line = gateway.logs("\"unblock\"").await;
    assert!(line.contains("\"ip\":\"127.0.0.1\""), "{line}");
}

#[tokio::test]
async fn a_path_for_few_is_closed_in_every_spelling() {
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream)
        .in_memory()
        .section("client_address", BEHIND_PROXY)
        .section(
            "allow_list",
            "paths = [\"/dev/{*rest}\"]\naddresses = [\"192.0.2.0/24\"]",
        );
    let gateway = Gateway::start(settings).await;
    let from = |path: &str, ip: &str| gateway.get(path).header("x-forwarded-for", ip).send();
    assert_eq!(from("/dev/code", "192.0.2.1").await.status, 201);
    assert_eq!(from("/else", "198.51.100.1").await.status, 201);
    for path in [
        "/dev/code",
        "//dev/code",
        "/dev/./code",
        "/x/../dev/code",
        "/%64ev/code",
        "/dev",
        "/%64ev;%2f..%2fcode",
        "/%64ev/../code",
    ] {
        let refused = from(path, "198.51.100.1").await;
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (403, &59.into()),
            "{path}"
        );
    }
    let disguised = gateway.get("/else").header("x-rewrite-url", "/dev/code");
    assert_eq!(disguised.send().await.status, 201);
    assert_eq!(upstream.last().header("x-rewrite-url"), None);
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client() {
    let upstream = Upstream::counting().await;
    let settings = settings(&upstream).section(
        "client_address",
        "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true",
    );
    let gateway = Gateway::start(settings).await;
    assert!(block(&gateway, "192.0.2.7").await < 300);
    let ask = async |client: &str| {
        let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
        let request = format!(
            "PROXY TCP4 {client} 127.0.0.1 4000 80\r\n\
             GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(ask("192.0.2.7").await.starts_with("HTTP/1.1 403 "));
    assert!(ask("192.0.2.8").await.starts_with("HTTP/1.1 201 "));
    // Who comes without it is let go, and the first of them is seen in the log.
    for _ in 0..2 {
        let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, b"");
    }
    gateway.logs("without the PROXY protocol").await;
    let told = gateway.log().matches("without the PROXY protocol").count();
    assert_eq!(told, 1);
}
