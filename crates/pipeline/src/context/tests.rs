use std::convert::Infallible;

use http::{Request, Response};
use onlyonce_core::{Clock as _, ManualClock};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;

async fn call(layer: ContextLayer, request: Request<()>) -> Response<(Context, Request<()>)> {
    let service = layer.layer(service_fn(async |request: Request<()>| {
        tokio::task::yield_now().await;
        let context = Context::current().expect("set by the layer");
        Ok::<_, Infallible>(Response::new((context, request)))
    }));
    service.oneshot(request).await.unwrap()
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn with_parent(lines: &[&str]) -> Request<()> {
    let mut request = get("/");
    for line in lines {
        request
            .headers_mut()
            .append("traceparent", line.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn module_is_the_first_segment() {
    for (path, module) in [
        ("/admin/user/list", "admin"),
        ("/api", "api"),
        ("/", "default"),
        ("//home/x", "home"),
        ("/?q=/admin", "default"),
    ] {
        let response = call(ContextLayer::new(), get(path)).await;
        assert_eq!(response.body().0.module(), module, "{path}");
    }
}

#[tokio::test]
async fn a_valid_traceparent_is_taken_up_and_passed_on() {
    let response = call(ContextLayer::new(), with_parent(&[PARENT])).await;
    assert_eq!(response.headers()["trace-id"], TRACE);
    let (context, request) = response.body();
    assert_eq!(context.trace_id().as_str(), TRACE);
    assert_eq!(request.headers()["traceparent"], PARENT);
    assert_eq!(
        request.extensions().get::<TraceId>().unwrap().as_str(),
        TRACE
    );
}

#[tokio::test]
async fn an_unsound_traceparent_is_replaced() {
    for lines in [
        &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"][..],
        &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
        &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
        &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"],
        &["00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01"],
        &["nonsense"],
        &[PARENT, PARENT],
        &[],
    ] {
        let response = call(ContextLayer::new(), with_parent(lines)).await;
        let shown = response.headers()["trace-id"].to_str().unwrap().to_owned();
        assert_ne!(shown, TRACE, "{lines:?}");
        assert!(shown.len() == 32 && shown.bytes().all(|b| b"0123456789abcdef".contains(&b)));
        let passed: Vec<_> = response
            .body()
            .1
            .headers()
            .get_all("traceparent")
            .iter()
            .collect();
        assert_eq!(passed.len(), 1);
        assert!(
            passed[0]
                .to_str()
                .unwrap()
                .starts_with(&format!("00-{shown}-"))
        );
    }
}

#[tokio::test]
async fn strangers_traces_are_ignored_on_demand() {
    let layer = ContextLayer::new().with_trace_context(TraceContext::Ignore);
    let mut request = with_parent(&[PARENT]);
    request
        .headers_mut()
        .insert("tracestate", "vendor=1".parse().unwrap());
    let response = call(layer, request).await;
    assert_ne!(response.headers()["trace-id"], TRACE);
    assert!(!response.body().1.headers().contains_key("tracestate"));
}

#[tokio::test]
async fn trace_ids_are_the_requests_own() {
    let first = call(ContextLayer::new(), get("/")).await;
    let second = call(ContextLayer::new(), get("/")).await;
    assert_ne!(first.headers()["trace-id"], second.headers()["trace-id"]);
}

#[tokio::test]
async fn a_second_layer_takes_up_the_first_ones_context() {
    let inner = ContextLayer::new().layer(service_fn(async |request: Request<()>| {
        assert_eq!(
            Context::of(request.extensions()).unwrap().trace_id(),
            Context::current().unwrap().trace_id()
        );
        Ok::<_, Infallible>(Response::new(()))
    }));
    // Between them the work moves to another task, as the idempotency layer does.
    let spawned = service_fn(move |request: Request<()>| {
        let inner = inner.clone();
        async { tokio::spawn(inner.oneshot(request)).await.unwrap() }
    });
    let response = ContextLayer::new()
        .layer(spawned)
        .oneshot(get("/"))
        .await
        .unwrap();
    assert_eq!(response.headers().get_all("trace-id").iter().count(), 1);
}

#[tokio::test]
async fn what_layers_find_out_is_seen_everywhere() {
    let clock = Arc::new(ManualClock::new());
    let from = clock.now().as_millis();
    clock.advance(std::time::Duration::from_millis(5));
    let mut request = get("/admin");
    let slot = ContextSlot::of(request.extensions_mut());
    let response = call(ContextLayer::new().with_clock(clock), request).await;
    let outside = slot.context().expect("the slot is filled");
    let inside = &response.body().0;
    assert_eq!(outside.started().as_millis(), from + 5);

    assert!(inside.set_client_addr("::ffff:192.0.2.7".parse().unwrap()));
    assert!(
        !inside.set_client_addr("192.0.2.8".parse().unwrap()),
        "the first word holds"
    );
    assert_eq!(outside.client_addr(), Some("192.0.2.7".parse().unwrap()));

    assert!(inside.set_identity(Arc::new(Identity::new("7", "admin").with_role("boss"))));
    assert_eq!(outside.identity().unwrap().role.as_deref(), Some("boss"));

    assert_eq!(inside.set_data("order", 5), None);
    assert_eq!(outside.data("order"), Some(Value::from(5)));
    assert_eq!(outside.data("nothing"), None);
}

#[test]
fn outside_of_a_request_there_is_none() {
    assert!(Context::current().is_none());
}
