//! `[client_address]`, `[cors]`, `[read_only]`, `[filter]`, and what routes say of them.

use http::header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use onlyonce_pipeline::Answers;
use onlyonce_pipeline::client_addr::ClientAddr;
use onlyonce_pipeline::read_only::ReadOnly;
use tower::{Layer, ServiceExt as _, service_fn};

use super::*;
use crate::front::Peer;

type Body = Full<bytes::Bytes>;

#[test]
fn faults_of_the_client_address() {
    snapshot!(gallery(&[
        "[client_address]\ntrusted_proxies = \"10.0.0.0/8\"\n",
        "[client_address]\ntrusted_proxies = [\"10.0.0.0/8\", \"proxy.internal\"]\n",
        "[client_address]\ntrusted_proxies = [\"10.0.0.1/8\"]\n",
        "[client_address]\ntrusted_proxies = [10]\n",
        "[client_address]\ntrusted_proxies = [\"10.0.0.0/33\"]\n",
        "[client_address]\ntrusted_proxies = [\"0.0.0.0/0\"]\n",
        "[client_address]\nheader = \"forwarded-for\"\n",
        "[client_address]\nheader = \"x-real-ip\"\n",
        "[client_address]\nproxy_protocol = true\n",
        "[client_address]\nproxy_protocol = \"v2\"\n",
        "[client_address]\ntrusted_proxies = [\"::1\"]\nproxy_protocol_timeout = \"0s\"\n",
        "[client_address]\ntrusted = [\"::1\"]\n",
    ]));
}

#[test]
fn faults_of_cors() {
    snapshot!(gallery(&[
        "[cors]\norigins = \"https://shop.example\"\n",
        "[cors]\norigins = [\"shop.example\"]\n",
        "[cors]\norigins = [\"https://shop.example\", \"https://shop.example/\"]\n",
        "[cors]\norigins = [\"*\"]\n",
        "[cors]\norigins = \"*\"\n",
        "[cors]\norigins = [\"null\"]\n",
        "[cors]\norigins = [\"https://*shop.example\"]\n",
        "[cors]\norigins = [3]\n",
        "[cors]\npreset = \"gf\"\n",
        "[cors]\npreset = \"hotgo\"\n",
        "[cors]\norigins = \"any\"\ncredentials = true\n",
        "[cors]\npreset = \"hotgo\"\norigins = \"any\"\n",
        "[cors]\ncredentials = true\n",
        "[cors]\norigins = \"any\"\ncredentials = 1\n",
        "[cors]\norigins = \"any\"\nmethods = [\"post\"]\n",
        "[cors]\norigins = \"any\"\nheaders = [\"X App\"]\n",
        "[cors]\norigins = \"any\"\nheaders = [\"*\"]\n",
        "[cors]\norigins = [\".a.example\"]\ncredentials = true\nheaders = [\"X-App\", \"*\"]\nmethods = [\"*\"]\n",
        "[cors]\norigins = \"any\"\nexpose_headers = \"X-Total\"\n",
        "[cors]\norigins = \"any\"\nmax_age = 600\n",
        "[cors]\norigin = [\"https://shop.example\"]\n",
        "[[route]]\npath = \"/a\"\ncors = true\n",
        "[[route]]\npath = \"/a\"\ncors = \"any\"\n",
        "[[route]]\npath = \"/a\"\ncors = { origins = \"any\", credentials = true }\n",
        "cors.origins = \"any\"\n[[route]]\npath = \"/a\"\ncors = { credentials = true }\n",
    ]));
}

#[test]
fn faults_of_the_read_only_mode() {
    snapshot!(gallery(&[
        "[read_only]\nenabled = \"yes\"\n",
        "[read_only]\nmethods = \"unsave\"\n",
        "[read_only]\nmethods = [\"POST\"]\n",
        "[read_only]\nexempt = \"/login\"\n",
        "[read_only]\nexempt = [\"login\"]\n",
        "[read_only]\nexempt = [\"/a/../login\"]\n",
        "[read_only]\nexempt = [\"/a/{id}\", \"/a/{name}\"]\n",
        "[read_only]\nexcept = [\"/login\"]\n",
        "[read_only]\nexempt = [\"/login\"]\n",
        "[read_only]\nenabled = true\nexempt = [\"POST /login\"]\n",
        "[read_only]\nenabled = true\nexempt = [\"/login/*\"]\n",
        "[[route]]\npath = \"/a\"\nread_only = true\n",
        "[[route]]\npath = \"/a\"\nread_only = \"off\"\n",
    ]));
}

#[test]
fn faults_of_the_filter() {
    snapshot!(gallery(&[
        "[filter]\nschema = \"nowhere.json\"\n",
        "[filter]\nschema = \".\"\n",
        "[filter]\nschema = {}\n",
        "[filter]\nschema = \"~/x.json\"\n",
        "[filter]\nmax_body = \"1 megabyte\"\n",
        "[filter]\nschemas = \"x.json\"\n",
        "[[route]]\npath = \"/a\"\nfilter = true\n",
        "[[route]]\npath = \"/a\"\nfilter = {}\n",
        "[[route]]\npath = \"/a\"\nfilter = \"x.json\"\n",
        "[[route]]\npath = \"/a\"\nfilter = { schema = \"nowhere.json\" }\n",
    ]));
}

#[test]
fn a_file_that_is_no_schema_is_named_with_the_place_in_it() {
    for (text, part) in [
        ("{", "charge.json: not JSON: EOF"),
        (
            r#"{"type": "objekt"}"#,
            "charge.json: not a JSON Schema: at /type: ",
        ),
    ] {
        let given = Given::nothing();
        let file = given.folder.path().join("charge.json");
        std::fs::write(&file, text).unwrap();
        let given = given
            .upstream()
            .variable("ONLYONCE_FILTER__SCHEMA", &file.display().to_string());
        let said = given.messages();
        assert!(said.contains("`schema` in `[filter]`"), "{said}");
        assert!(said.contains(part), "{said}");
    }
}

fn settings(content: &str) -> Settings {
    Given::file(format!("{UPSTREAM}{QUIET}{content}")).settings()
}

/// Who the client is, as the layer says.
async fn client(settings: &Settings, peer: &str) -> String {
    let layer = settings.client_address.layer();
    let service = layer.layer(service_fn(async |request: Request<()>| {
        let addr = request.extensions().get::<ClientAddr>();
        Ok::<_, std::convert::Infallible>(
            addr.map_or(String::new(), |ClientAddr(addr)| addr.to_string()),
        )
    }));
    let peer = Peer {
        addr: peer.parse().unwrap(),
        local: "127.0.0.1:80".parse().unwrap(),
        tls: false,
    };
    let request = Request::builder()
        .extension(peer)
        .header("x-forwarded-for", "192.0.2.1")
        .header("x-real-ip", "192.0.2.2");
    service.oneshot(request.body(()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_client_s_address_is_found_by_the_settings() {
    assert_eq!(client(&settings(""), "10.0.0.1:1").await, "10.0.0.1");
    let behind = "[client_address]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n";
    let by_default = settings(behind);
    assert_eq!(client(&by_default, "10.0.0.1:1").await, "192.0.2.1");
    assert_eq!(client(&by_default, "[::1]:1").await, "192.0.2.1");
    assert_eq!(client(&by_default, "11.0.0.1:1").await, "11.0.0.1");
    let real_ip = settings(&format!("{behind}header = \"x-real-ip\"\n"));
    assert_eq!(client(&real_ip, "10.0.0.1:1").await, "192.0.2.2");
    assert_eq!(real_ip.client_address.proxy_protocol(), None);
    let proxied = settings(&format!(
        "{behind}proxy_protocol = true\nproxy_protocol_timeout = \"1s\"\n"
    ));
    let protocol = proxied.client_address.proxy_protocol().unwrap();
    assert_eq!(protocol.timeout, Duration::from_secs(1));
    assert!(protocol.trusted.contains("10.1.1.1".parse().unwrap()));
}

/// Which origin, and whether credentials, a page of `origin` is let in with; on the first route,
/// or elsewhere.
async fn let_in(settings: &Settings, on_route: bool, origin: &str) -> (Option<String>, bool) {
    let rule = settings.routes.iter().next().filter(|_| on_route);
    let rule = rule
        .map(|route| route.layers().cors.clone())
        .unwrap_or_default();
    let Some(layer) = rule.layer(&settings.cors) else {
        return (None, false);
    };
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, std::convert::Infallible>(Response::new(Body::default()))
    }));
    let request = Request::builder()
        .header("origin", origin)
        .body(())
        .unwrap();
    let response = service.oneshot(request).await.unwrap();
    let header = |name| {
        let value: Option<&HeaderValue> = response.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    (
        header(ACCESS_CONTROL_ALLOW_ORIGIN),
        header(ACCESS_CONTROL_ALLOW_CREDENTIALS).is_some(),
    )
}

#[tokio::test]
async fn origins_are_let_in_by_the_settings_and_by_route() {
    let (shop, other) = ("https://m.shop.example", "https://other.example");
    let yes = |origin: &str, credentials| (Some(origin.to_owned()), credentials);
    let no = (None, false);

    assert_eq!(let_in(&settings(""), false, shop).await, no);
    let cors = "[cors]\norigins = [\".shop.example\"]\ncredentials = true\n";
    let plain = settings(cors);
    assert_eq!(let_in(&plain, false, shop).await, yes(shop, true));
    assert_eq!(let_in(&plain, false, other).await, no);

    let route =
        |cors_here: &str| settings(&format!("{cors}[[route]]\npath = \"/a\"\n{cors_here}\n"));
    assert_eq!(let_in(&route(""), true, shop).await, yes(shop, true));
    assert_eq!(
        let_in(&route("cors = true"), true, shop).await,
        yes(shop, true)
    );
    assert_eq!(let_in(&route("cors = false"), true, shop).await, no);
    let credentials = route("cors = { credentials = false }");
    assert_eq!(let_in(&credentials, true, shop).await, yes(shop, false));
    let origins = route("cors = { origins = [\"https://other.example\"] }");
    assert_eq!(let_in(&origins, true, other).await, yes(other, true));
    assert_eq!(let_in(&origins, true, shop).await, no);
    assert_eq!(let_in(&origins, false, shop).await, yes(shop, true));
    // A preset starts anew.
    let preset = route("cors = { preset = \"hotgo\" }");
    assert_eq!(let_in(&preset, true, other).await, yes(other, true));
}

#[tokio::test]
async fn read_only_mode_by_the_settings() {
    let on = settings(
        "[read_only]\nenabled = true\nmethods = \"post\"\nexempt = [\"/login\", \"/open/{*rest}\"]\n",
    );
    assert!(on.read_only.is_there() && !settings("").read_only.is_there());
    assert!(
        settings("[read_only]\nswitchable = true\n")
            .read_only
            .is_there()
    );
    let switch = ReadOnly::new(on.read_only.enabled);
    let status = async |exempt, method: &str, path: &str| {
        let layer = on.read_only.layer(&switch, Answers::new(), exempt);
        let service = layer.layer(service_fn(async |_: Request<()>| {
            Ok::<_, std::convert::Infallible>(Response::new(Body::default()))
        }));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(())
            .unwrap();
        service.oneshot(request).await.unwrap().status().as_u16()
    };
    for (method, path, code) in [
        ("POST", "/orders", 403),
        ("PUT", "/orders", 200),
        ("POST", "/login", 200),
        ("POST", "/open", 200),
        ("POST", "/open/a/b", 200),
        ("POST", "/open/../orders", 403),
    ] {
        assert_eq!(status(false, method, path).await, code, "{method} {path}");
    }
    assert_eq!(status(true, "POST", "/orders").await, 200);
    assert_eq!(status(true, "POST", "/").await, 200);
    assert_eq!(status(true, "POST", "/x/%2e%2e/orders").await, 403);
    let route = settings("[[route]]\npath = \"/a\"\nread_only = false\n");
    let route = route.routes.iter().next().unwrap();
    assert_eq!(route.layers().read_only, Some(false));
}

/// What a body is answered with, on the first route or elsewhere; `None`: it passes unread.
async fn checked(settings: &Settings, on_route: bool, body: &'static str) -> Option<StatusCode> {
    let rule = settings.routes.iter().next().filter(|_| on_route);
    let rule = rule
        .map(|route| route.layers().filter.clone())
        .unwrap_or_default();
    let layer = rule.layer(&settings.filter, Answers::new())?;
    let service = layer.layer(service_fn(async |request: Request<_>| {
        let body: onlyonce_pipeline::filter::FilterBody<Body> = request.into_body();
        let bytes = body.collect().await.unwrap().to_bytes();
        Ok::<_, std::convert::Infallible>(Response::new(Body::new(bytes)))
    }));
    let request = Request::post("/")
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .unwrap();
    Some(service.oneshot(request).await.unwrap().status())
}

#[tokio::test]
async fn bodies_are_checked_by_the_settings_and_by_route() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let numbers = file("numbers.json", r#"{"type": "number"}"#);
    let texts = file("texts.json", r#"{"type": "string"}"#);
    let filter = format!("[filter]\nschema = \"{numbers}\"\n");
    let route = |here: &str| settings(&format!("{filter}[[route]]\npath = \"/a\"\n{here}\n"));
    let status = |code: u16| Some(StatusCode::from_u16(code).unwrap());

    assert_eq!(checked(&settings(""), false, "1").await, None);
    assert_eq!(checked(&settings(&filter), false, "1").await, status(200));
    assert_eq!(
        checked(&settings(&filter), false, "\"x\"").await,
        status(400)
    );
    assert_eq!(checked(&route(""), true, "\"x\"").await, status(400));
    assert_eq!(
        checked(&route("filter = true"), true, "\"x\"").await,
        status(400)
    );
    assert_eq!(checked(&route("filter = false"), true, "\"x\"").await, None);
    let own = route(&format!("filter = {{ schema = \"{texts}\" }}"));
    assert_eq!(checked(&own, true, "\"x\"").await, status(200));
    assert_eq!(checked(&own, true, "1").await, status(400));
    assert_eq!(checked(&own, false, "1").await, status(200));
    let short = route("filter = { max_body = 2 }");
    assert_eq!(checked(&short, true, "12").await, status(200));
    assert_eq!(checked(&short, true, "123").await, status(413));
}

#[test]
fn what_is_printed_gives_the_same_settings_again() {
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("schema.json");
    std::fs::write(&schema, "{}").unwrap();
    let schema = schema.display();
    let given = Given::file(format!(
        "{UPSTREAM}{QUIET}[client_address]\ntrusted_proxies = [\"10.0.0.0/8\"]\nheader = \"forwarded\"\n\
         [cors]\npreset = \"hotgo\"\norigins = [\".shop.example\"]\nmax_age = \"5s\"\n\
         [read_only]\nswitchable = true\nexempt = [\"/login\"]\n\
         [filter]\nschema = \"{schema}\"\n\
         [[route]]\npath = \"/a\"\ncors = {{ origins = \"any\", credentials = false }}\n\
         read_only = false\nfilter = {{ max_body = \"1KiB\" }}\n\
         [[route]]\npath = \"/b\"\ncors = false\nfilter = false\n"
    ));
    let (settings, printed) = match Loaded::load(&given.sources) {
        Ok(loaded) => (loaded.settings.clone(), loaded.print()),
        Err(errors) => panic!("{errors}"),
    };
    let again = Given::file(&printed).settings();
    assert_eq!(again.client_address, settings.client_address);
    assert_eq!(again.cors, settings.cors);
    assert_eq!(again.read_only, settings.read_only);
    assert_eq!(again.filter, settings.filter);
    let layers = |settings: &Settings| -> Vec<RouteLayers> {
        settings
            .routes
            .iter()
            .map(|route| route.layers().clone())
            .collect()
    };
    assert_eq!(layers(&again), layers(&settings), "{printed}");
}
