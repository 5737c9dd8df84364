use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use onlyonce_core::ManualClock;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::paths::{ProtectedPath, is_protected};
use super::*;
use crate::{Answers, Language};

async fn send(entries: &[&str], peer: Option<&str>, language: Language) -> (u16, String) {
    let clock = Arc::new(ManualClock::new());
    let answers = Answers::new().with_language(language).with_clock(clock);
    let list = AllowList::parse(entries).unwrap();
    let layer = AllowListLayer::new(list, ["/gen/{*rest}"], answers).unwrap();
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("passed")))
    }));
    let mut request = Request::get("/gen/code").body(()).unwrap();
    if let Some(peer) = peer {
        let peer: SocketAddr = peer.parse().unwrap();
        request.extensions_mut().insert(peer);
    }
    let response = service.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn answer(message: &str) -> (u16, String) {
    let text = format!(r#"{{"code":59,"message":"{message}","timestamp":1767225600}}"#);
    (403, text)
}

#[test]
fn a_pattern_of_another_house_protects_nothing_and_is_refused() {
    let error = ProtectedPath::parse("/internal/*").unwrap_err().to_string();
    assert!(error.contains("write \"/internal/{*rest}\""), "{error}");
}

#[tokio::test]
async fn an_empty_list_lets_nobody_in() {
    let peer = Some("192.0.2.1:1");
    let said = send(&[], peer, Language::ZhCn).await;
    assert_eq!(said, answer("请配置生成白名单！"));
    let said = send(&[], peer, Language::En).await;
    assert_eq!(said, answer("Please set up the allow list!"));
}

#[tokio::test]
async fn only_listed_addresses_are_let_in() {
    let list = ["198.51.100.1", "192.0.2.0/24, 2001:db8::/32"];
    for peer in [
        "192.0.2.1:1",
        "[::ffff:192.0.2.1]:1",
        "[2001:db8::1]:1",
        "198.51.100.1:1",
    ] {
        let said = send(&list, Some(peer), Language::ZhCn).await;
        assert_eq!(said, (200, "passed".to_owned()), "{peer}");
    }
    let said = send(&list, Some("[::ffff:192.0.3.1]:1"), Language::ZhCn).await;
    assert_eq!(said, answer("当前IP[192.0.3.1]没有配置生成白名单！"));
    let said = send(&list, Some("192.0.3.1:1"), Language::En).await;
    assert_eq!(
        said,
        answer("The current IP [192.0.3.1] is not on the allow list!")
    );
    // Nobody knows whom.
    let said = send(&["*"], None, Language::ZhCn).await;
    assert_eq!(said, answer("当前IP[?]没有配置生成白名单！"));
}

#[test]
fn hazard_54_another_spelling_of_a_protected_path_is_protected() {
    let paths = [
        "/gen/{*rest}",
        "/users/{id}/keys",
        "/Setup/",
        "/k%C3%B6nig/{*rest}",
    ];
    let paths: Vec<_> = paths
        .iter()
        .map(|path| ProtectedPath::parse(path).unwrap())
        .collect();
    let protected = [
        "/gen/code",
        "/gen",
        "/gen/",
        "/GEN/code",
        "//gen/code",
        "/./gen/code",
        "/x/../gen/code",
        "/%67en/code",
        "/%2567en/code",
        "/gen%2fcode",
        "/gen;a=b/code",
        "/gen%3ba/code",
        "\\gen\\code",
        "/gen//",
        "/x/%2e%2e/gen/y",
        "/users/7/keys",
        "/users/7/keys/",
        "/setup",
        "/users//7/./keys",
        "/%252525252525252567",
        "/../gen/code",
        // Servers cut at `;` before they read escapes, or don't resolve `..`, or read part by part.
        "/%67en;%2f..%2fx",
        "/%67en/../x",
        "/%67en/x/../../y",
        "/x/../y",
        "//gen/../x",
        "/users/a%2Fb/keys",
        "/%75sers/a%2Fb/keys",
        "/%75sers/;x/keys",
        "//users/;x/keys",
        "/gen%00",
        "/%6b%c3%b6nig/x",
        "/K%c3%B6nig",
        "/%E2%84%AA%C3%96N%C4%B0G",
        "/%C5%BFetup",
        // Whatever it may be.
        "",
        "gen/code",
    ];
    for path in protected {
        assert!(is_protected(&paths, path), "{path}");
    }
    for path in [
        "/",
        "*",
        "/generate",
        "/a%2Fb//d",
        "/a;c//d",
        "/a%20b/%E4%BD%A0?",
        "/x/gen/code",
        "/users/7",
        "/users/7/keys/8",
        "/%zz",
        "/%",
    ] {
        assert!(!is_protected(&paths, path), "{path}");
    }
    assert!(!is_protected(&[], "/%2525252525252567"));
    let long = format!("/public/{}", "x".repeat(10_000));
    assert!(!is_protected(&paths, &long));
    assert!(
        is_protected(&paths, &format!("{long}%20")),
        "too long to tell"
    );
    let all = [ProtectedPath::parse("/{*rest}").unwrap()];
    assert!(
        ["/", "/x", "/x/y"]
            .iter()
            .all(|path| is_protected(&all, path))
    );
}

#[test]
fn what_is_wrong_is_named() {
    let error = AllowList::parse(["10.0.0.1", "10.0.0.0/99"]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("entry 2 of the allow list: item 1"),
        "{error}"
    );
    let error = ProtectedPath::parse("gen").unwrap_err().to_string();
    assert_eq!(
        error,
        "the protected path `gen` can't be used: it must begin with `/`"
    );
    let error = ProtectedPath::parse("/{a").unwrap_err().to_string();
    assert!(error.contains("`/reports/{id}`"), "{error}");
}
