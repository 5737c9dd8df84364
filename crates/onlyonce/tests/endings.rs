//! Bodies that do not end as they should, on either side: held back, cut, panicking, too long.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use onlyonce::http::RequestBody;
use onlyonce::{
    BodyFingerprint, Control, FingerprintRule, IdempotencyLayer, OnUnknown, Outcome, Policy,
    Profile, StatusSet,
};
use onlyonce_core::{EntryState, Operation};
use support::{App, HandlerRequest, TestBody, TestStore, full, post, until};
use tokio::sync::mpsc;
use tower::{Layer as _, ServiceExt as _};

const HOUR: Duration = Duration::from_secs(3600);

type Piece = Result<Frame<Bytes>, io::Error>;

fn layer_with(store: &TestStore, policy: Policy) -> IdempotencyLayer {
    IdempotencyLayer::new(store.clone())
        .with_policy(policy)
        .unwrap()
}

fn small() -> Policy {
    Policy::new(Profile::Standard)
        .with_buffer(16)
        .with_max_response_body(64)
}

fn piece(text: &'static str) -> Piece {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn streamed(mut pieces: mpsc::Receiver<Piece>) -> TestBody {
    let frames = futures_util::stream::poll_fn(move |cx| pieces.poll_recv(cx));
    StreamBody::new(frames).boxed_unsync()
}

/// A body of one frame that keeps something alive for as long as it lives itself.
struct Holding<T>(Option<Bytes>, T);

impl<T: Unpin + Send> Body for Holding<T> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Piece>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }
}

/// A body that panics when it is read.
struct Panicking;

impl Body for Panicking {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Piece>> {
        panic!("the body panics");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_holds_the_unread_request_is_recorded_all_the_same() {
    for length in [5, 500] {
        let store = TestStore::new();
        let app = App::new(
            &layer_with(&store, small()),
            move |n, request: HandlerRequest| {
                let text = n.to_string().repeat(length);
                let body = Holding(Some(text.into()), request.into_body());
                async move { Response::new(body.boxed_unsync()) }
            },
        );
        let answer = app.send(post("k", "x".repeat(100)));
        let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
        assert_eq!(answer.expect("an answer in time").status, 200);
        let retry = app.send(post("k", "x".repeat(100))).await;
        let expected = if length == 5 {
            Outcome::Replayed
        } else {
            Outcome::NotKept
        };
        assert_eq!(retry.outcome(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_is_kept_elsewhere_does_not_hold_the_answer_for_ever() {
    let store = TestStore::new();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let app = App::new(
        &layer_with(&store, small()),
        move |n, request: HandlerRequest| {
            keep.lock().unwrap().push(request.into_body());
            async move { Response::new(full(n.to_string())) }
        },
    );
    let answer = app.send(post("k", "x".repeat(100)));
    let answer = tokio::time::timeout(Duration::from_secs(600), answer).await;
    let answer = answer.expect("an answer in time");
    assert_eq!(
        (answer.status, answer.text()),
        (200, "1"),
        "it is the handler's"
    );
    // What was asked for was never seen whole: no record could tell a retry from another request.
    let retry = app.send(post("k", "x".repeat(100))).await;
    assert_eq!(retry.problem_kind(), "outcome-unknown");
    assert_eq!(app.executions(), 1);
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_behind_an_early_answer_does_not_hold_the_key_for_ever() {
    let store = TestStore::new();
    let service = layer_with(&store, small()).layer(tower::service_fn(
        |_: Request<RequestBody<TestBody>>| async { Ok::<_, Infallible>(Response::new(full("1"))) },
    ));
    let (pieces, body) = mpsc::channel(8);
    pieces
        .send(piece("more than sixteen bytes of it"))
        .await
        .unwrap();
    let request = Request::post("/").header("idempotency-key", "k");
    let call = service.oneshot(request.body(streamed(body)).unwrap());
    let answer = tokio::time::timeout(Duration::from_secs(600), call).await;
    let answer = support::read(answer.expect("an answer in time").unwrap()).await;
    assert_eq!((answer.status, answer.text()), (200, "1"));
    assert!(!answer.verdict.was_recorded());
    assert_eq!(store.only_entry().state, EntryState::Unknown);
    drop(pieces);
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_that_goes_on_is_waited_for() {
    let store = TestStore::new();
    let service = layer_with(&store, small()).layer(tower::service_fn(
        |_: Request<RequestBody<TestBody>>| async { Ok::<_, Infallible>(Response::new(full("1"))) },
    ));
    let (pieces, body) = mpsc::channel(8);
    pieces
        .send(piece("more than sixteen bytes of it"))
        .await
        .unwrap();
    let request = Request::post("/").header("idempotency-key", "k");
    let call = tokio::spawn(service.oneshot(request.body(streamed(body)).unwrap()));
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(50)).await;
        pieces.send(piece("and more")).await.unwrap();
    }
    drop(pieces);
    let answer = support::read(call.await.unwrap().unwrap()).await;
    assert!(
        answer.verdict.was_recorded(),
        "in all longer than any patience, but never idle"
    );
}

/// An event stream fed by the test.
fn events(store: &TestStore) -> (App, mpsc::Sender<Piece>) {
    let (pieces, body) = mpsc::channel(8);
    let body = Arc::new(Mutex::new(Some(body)));
    let app = App::new(&layer_with(store, small()), move |_, _| {
        let body = body.lock().unwrap().take().expect("it runs once");
        async move {
            let mut response = Response::new(streamed(body));
            let value = HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert("content-type", value);
            response
        }
    });
    (app, pieces)
}

#[tokio::test(start_paused = true)]
async fn hazard_21_a_stream_that_was_given_up_never_ends_as_if_it_were_whole() {
    let store = TestStore::new();
    let (app, pieces) = events(&store);
    let response = app.start(post("k", "")).await;
    for text in ["one", "two", "three", "four"] {
        pieces.send(piece(text)).await.unwrap();
    }
    // The client reads nothing for longer than anybody waits for it.
    until("it is given up", || !store.only_entry().in_progress()).await;
    let read = response.into_body().collect().await;
    assert!(read.is_err(), "cut short, and it must show");
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_body_panics_is_a_cut_one() {
    for long in [false, true] {
        let store = TestStore::new();
        let app = App::new(&layer_with(&store, small()), move |_, _| async move {
            let mut response = Response::new(Panicking.boxed_unsync());
            if long {
                let value = HeaderValue::from_static("text/event-stream");
                response.headers_mut().insert("content-type", value);
            }
            response
        });
        let response = app.start(post("k", "")).await;
        if long {
            assert!(response.into_body().collect().await.is_err());
        } else {
            assert_eq!(
                support::read(response).await.problem_kind(),
                "outcome-unknown"
            );
        }
        assert_eq!(
            store.only_entry().state,
            EntryState::Unknown,
            "held at once"
        );
        assert_eq!(app.executions(), 1);
    }
}

/// An upload that breaks off under a handler that answers what it is told to.
async fn cut_upload(
    policy: Policy,
    status: u16,
    control: Option<Control>,
    body: fn() -> TestBody,
) -> TestStore {
    let store = TestStore::new();
    let service = layer_with(&store, policy).layer(tower::service_fn(
        move |request: Request<RequestBody<TestBody>>| async move {
            let read = request.into_body().collect().await;
            assert!(read.is_err());
            let mut response = Response::new(body());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            control.map(|control| response.extensions_mut().insert(control));
            Ok::<_, Infallible>(response)
        },
    ));
    let (pieces, body) = mpsc::channel(8);
    pieces
        .send(piece("more than sixteen bytes of it"))
        .await
        .unwrap();
    pieces.send(Err(io::Error::other("reset"))).await.unwrap();
    let request = Request::post("/").header("idempotency-key", "k");
    let response = service.oneshot(request.body(streamed(body)).unwrap()).await;
    support::read(response.unwrap()).await;
    store
}

#[tokio::test(start_paused = true)]
async fn a_service_that_says_hold_is_heard_even_when_the_upload_broke_off() {
    for control in [Control::Hold, Control::Ambiguous] {
        let store = cut_upload(small(), 502, Some(control), || full("")).await;
        assert_eq!(store.only_entry().state, EntryState::Unknown, "{control:?}");
        assert_eq!(store.calls(Operation::Release), 0);
    }
    for control in [None, Some(Control::NoStore), Some(Control::NotExecuted)] {
        let store = cut_upload(small(), 400, control, || full("")).await;
        assert!(store.entries().is_empty(), "{control:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_that_breaks_off_with_its_upload_is_unknown() {
    let broken = || {
        let frames = [piece("half"), Err(io::Error::other("cut"))];
        StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
    };
    let store = cut_upload(small(), 200, None, broken).await;
    assert_eq!(store.only_entry().state, EntryState::Unknown);
    let store = cut_upload(small(), 400, None, broken).await;
    assert!(store.entries().is_empty(), "refused: nothing was done");
}

#[tokio::test(start_paused = true)]
async fn where_a_500_is_final_one_to_a_broken_upload_is_not_forgotten() {
    let store = cut_upload(small().with_store(StatusSet::ALL), 500, None, || full("")).await;
    assert_eq!(store.only_entry().state, EntryState::Unknown);
    let store = cut_upload(small().with_store(StatusSet::ALL), 400, None, || full("")).await;
    assert!(store.entries().is_empty(), "refused: nothing was done");
}

#[tokio::test(start_paused = true)]
async fn one_frame_beyond_the_limit_is_too_long_before_anything_executes() {
    let store = TestStore::new();
    let service = layer_with(&store, small().with_max_request_body(16)).layer(tower::service_fn(
        |_: Request<RequestBody<TestBody>>| async { Ok::<_, Infallible>(Response::new(full("1"))) },
    ));
    let (pieces, body) = mpsc::channel(8);
    pieces.send(piece("seventeen bytes!!")).await.unwrap();
    drop(pieces);
    let request = Request::post("/").header("idempotency-key", "k");
    let response = service.oneshot(request.body(streamed(body)).unwrap()).await;
    let answer = support::read(response.unwrap()).await;
    assert_eq!(answer.status, 413);
    assert_eq!(store.all_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_long_body_that_does_not_count_takes_over_like_a_short_one() {
    let none = FingerprintRule::On {
        body: BodyFingerprint::None,
        headers: vec![],
    };
    for rule in [FingerprintRule::Off, none] {
        let store = TestStore::new();
        let policy = small()
            .with_fingerprint(rule)
            .with_on_unknown(OnUnknown::Retry);
        let app = App::new(&layer_with(&store, policy), |n, request| async move {
            request.into_body().collect().await.unwrap();
            Response::new(full(n.to_string()))
        });
        let long = || Full::new(Bytes::from("x".repeat(1000)));
        let request = || Request::post("/").header("idempotency-key", "k");
        let first = app.send(request().body(long()).unwrap()).await;
        assert_eq!(first.text(), "1");
        // As after `kill -9`: in progress, and nobody renews.
        store.meddle(|entry| {
            entry.state = EntryState::InProgress {
                lease_until: onlyonce_core::Timestamp::from_millis(0),
                keep: Duration::from_secs(3600),
            };
        });
        let second = app.send(request().body(long()).unwrap()).await;
        assert_eq!((second.text(), second.verdict.attempt()), ("2", Some(2)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_beyond_all_calendars_is_cut_to_the_longest() {
    let store = TestStore::new();
    let policy = Policy::new(Profile::Standard).with_verdict_headers(true);
    let app = App::new(&layer_with(&store, policy), |n, _| async move {
        let mut response = Response::new(full(n.to_string()));
        let value = HeaderValue::from_static("lifetime=99999999999999999");
        response.headers_mut().insert("idempotency-control", value);
        response
    });
    for outcome in [Outcome::Executed, Outcome::Replayed] {
        let answer = app.send(post("k", "")).await;
        assert_eq!((answer.outcome(), answer.text()), (outcome, "1"));
        let expires = answer.header("idempotency-expires").unwrap();
        assert!(httpdate::parse_http_date(expires).is_ok(), "{expires}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_with_tens_of_thousands_of_fields_is_replayed() {
    let store = TestStore::new();
    let app = App::new(&layer_with(&store, small()), |_, _| async {
        let mut response = Response::new(full("x"));
        for n in 0..30_000 {
            response
                .headers_mut()
                .append("set-cookie", HeaderValue::from(n));
        }
        response
    });
    app.send(post("k", "")).await;
    let retry = app.send(post("k", "")).await;
    assert_eq!(retry.headers.get_all("set-cookie").iter().count(), 30_000);
}

// On the real clock: the paused one stands still for as long as anything is ready.
#[tokio::test]
async fn a_stream_that_always_has_more_leaves_room_for_others_and_is_given_up() {
    let endless = || futures_util::stream::repeat_with(|| piece("more"));
    for (patience, given_up) in [(Duration::from_millis(100), true), (HOUR, false)] {
        let store = TestStore::new();
        let mut policy = small();
        policy.abandoned_stream_timeout = patience;
        let app = App::new(&layer_with(&store, policy), move |number, _| async move {
            if number == 1 {
                return Response::new(StreamBody::new(endless()).boxed_unsync());
            }
            Response::new(full("2"))
        });
        drop(app.start(post("k", "")).await);
        // There is but one thread: who spins on it without a pause lets nobody else run.
        assert_eq!(app.send(post("other", "")).await.text(), "2");
        if given_up {
            until("it is given up", || {
                store.entries().iter().all(|entry| !entry.in_progress())
            })
            .await;
            assert_eq!(app.send(post("k", "")).await.outcome(), Outcome::NotKept);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn learning_a_fingerprint_costs_one_renewal() {
    let store = TestStore::new();
    let app = App::new(&layer_with(&store, small()), |_, request| async move {
        request.into_body().collect().await.unwrap();
        Response::new(full("1"))
    });
    store.order(
        Operation::Complete,
        support::Fault::Late(Duration::from_millis(500)),
    );
    app.send(post("k", "x".repeat(100))).await;
    assert_eq!(store.calls(Operation::Renew), 1);
}
