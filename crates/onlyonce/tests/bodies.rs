//! Long bodies and streams, in both directions.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use onlyonce::http::RequestBody;
use onlyonce::{IdempotencyLayer, OnUnknown, Outcome, Policy, Profile};
use onlyonce_core::EntryState;
use support::{App, TestStore, full, post, until};
use tokio::sync::{Notify, mpsc};
use tower::{Layer as _, ServiceExt as _};

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

/// Reads the body to its end and answers its length.
fn measuring(layer: &IdempotencyLayer) -> App {
    App::new(layer, |number, request| async move {
        match request.into_body().collect().await {
            Ok(body) => Response::new(full(format!("{number}:{}", body.to_bytes().len()))),
            Err(_) => Response::builder().status(400).body(full("cut")).unwrap(),
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_long_body_streams_and_its_retry_is_compared_to_its_last_byte() {
    let store = TestStore::new();
    let app = measuring(&layer_with(&store, small()));
    let long = "x".repeat(100_000);
    assert_eq!(app.send(post("k", long.clone())).await.text(), "1:100000");
    assert!(store.only_entry().fingerprint.is_some());
    let retry = app.send(post("k", long.clone())).await;
    assert_eq!(
        (retry.outcome(), retry.text()),
        (Outcome::Replayed, "1:100000")
    );
    let mut other = long.clone();
    other.replace_range(99_999.., "y");
    assert_eq!(
        app.send(post("k", other)).await.outcome(),
        Outcome::Mismatch
    );
    assert_eq!(
        app.send(post("k", "short")).await.outcome(),
        Outcome::Mismatch
    );
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_handler_leaves_unread_is_hashed_all_the_same() {
    let store = TestStore::new();
    let app = App::counting(&layer_with(&store, small()));
    let long = "x".repeat(1000);
    assert_eq!(app.send(post("k", long.clone())).await.text(), "1");
    assert_eq!(
        app.send(post("k", long.clone())).await.outcome(),
        Outcome::Replayed
    );
    assert_eq!(
        app.send(post("k", format!("{long}!"))).await.outcome(),
        Outcome::Mismatch
    );
}

#[tokio::test(start_paused = true)]
async fn too_long_is_refused_before_anything_executes() {
    let store = TestStore::new();
    let app = measuring(&layer_with(&store, small().with_max_request_body(100)));
    let answer = app.send(post("k", "x".repeat(101))).await;
    assert_eq!(
        (answer.status, answer.problem_kind().as_str()),
        (413, "body-too-large")
    );
    assert_eq!(app.executions(), 0);
    assert_eq!(store.all_calls(), 0);
    assert_eq!(app.send(post("k", "x".repeat(100))).await.status, 200);
}

type Piece = Result<Frame<Bytes>, io::Error>;
type Pieces = mpsc::Receiver<Piece>;
type Upload = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

fn streamed(mut pieces: Pieces) -> Upload {
    let frames = futures_util::stream::poll_fn(move |cx| pieces.poll_recv(cx));
    StreamBody::new(frames).boxed_unsync()
}

/// A layer over a service that takes bodies which come piece by piece.
fn upload_app(
    layer: &IdempotencyLayer,
) -> impl Fn(Request<Upload>) -> tokio::task::JoinHandle<support::Answer> + use<> {
    let service = layer.layer(tower::service_fn(
        |request: Request<RequestBody<Upload>>| async move {
            let status = match request.into_body().collect().await {
                Ok(_) => StatusCode::OK,
                Err(_) => StatusCode::BAD_REQUEST,
            };
            Ok::<_, Infallible>(Response::builder().status(status).body(full("")).unwrap())
        },
    ));
    move |request| {
        let service = service.clone();
        tokio::spawn(async move {
            let response: Result<_, Infallible> = service.oneshot(request).await;
            support::read(response.unwrap()).await
        })
    }
}

fn upload(pieces: Pieces) -> Request<Upload> {
    Request::post("/")
        .header("idempotency-key", "k")
        .body(streamed(pieces))
        .unwrap()
}

fn piece(length: usize) -> Piece {
    Ok(Frame::data(Bytes::from(vec![b'x'; length])))
}

#[tokio::test(start_paused = true)]
async fn while_the_first_hash_is_unknown_a_concurrent_one_is_in_progress() {
    let store = TestStore::new();
    let send = upload_app(&layer_with(&store, small()));
    let (pieces, body) = mpsc::channel(8);
    let first = send(upload(body));
    pieces.send(piece(20)).await.unwrap();
    until("it is claimed", || !store.entries().is_empty()).await;
    assert_eq!(store.only_entry().fingerprint, None);
    let (other_pieces, other) = mpsc::channel(8);
    other_pieces.send(piece(40)).await.unwrap();
    let second = send(upload(other)).await.unwrap();
    assert_eq!(second.outcome(), Outcome::InProgress, "whatever its body");
    drop(pieces);
    assert_eq!(first.await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_store_learns_the_fingerprint_as_soon_as_the_body_is_read() {
    let store = TestStore::new();
    let gate = Arc::new(Notify::new());
    let app = App::new(&layer_with(&store, small()), {
        let gate = Arc::clone(&gate);
        move |_, request| {
            let gate = Arc::clone(&gate);
            async move {
                request.into_body().collect().await.unwrap();
                gate.notified().await;
                Response::new(full(""))
            }
        }
    });
    let call = tokio::spawn(app.start(post("k", "x".repeat(50))));
    until("the fingerprint is stored", || {
        store
            .entries()
            .first()
            .is_some_and(|entry| entry.fingerprint.is_some())
    })
    .await;
    assert!(store.only_entry().in_progress());
    gate.notify_one();
    assert_eq!(call.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_breaks_off_can_be_sent_again() {
    let store = TestStore::new();
    let send = upload_app(&layer_with(&store, small()));
    let (pieces, body) = mpsc::channel(8);
    let cut = send(upload(body));
    pieces.send(piece(20)).await.unwrap();
    pieces
        .send(Err(io::Error::other("connection reset")))
        .await
        .unwrap();
    assert_eq!(cut.await.unwrap().status, 400);
    until("the key is released", || store.entries().is_empty()).await;
    let (pieces, body) = mpsc::channel(8);
    pieces.send(piece(30)).await.unwrap();
    drop(pieces);
    assert_eq!(send(upload(body)).await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_turns_out_too_long_is_413_and_releases_the_key() {
    let store = TestStore::new();
    let send = upload_app(&layer_with(&store, small().with_max_request_body(100)));
    let (pieces, body) = mpsc::channel(8);
    for _ in 0..6 {
        pieces.send(piece(20)).await.unwrap();
    }
    drop(pieces);
    let answer = send(upload(body)).await.unwrap();
    assert_eq!(
        (answer.status, answer.problem_kind().as_str()),
        (413, "body-too-large")
    );
    assert!(store.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn hazard_20_a_response_over_the_cap_streams_and_is_never_released() {
    let store = TestStore::new();
    let app = App::new(&layer_with(&store, small()), |_, _| async {
        Response::new(full("x".repeat(65)))
    });
    let first = app.send(post("k", "")).await;
    assert_eq!((first.status, first.body.len()), (200, 65));
    assert_eq!(first.outcome(), Outcome::Executed);
    let retry = app.send(post("k", "")).await;
    assert_eq!(
        (retry.status, retry.problem_kind().as_str()),
        (409, "response-not-kept")
    );
    assert_eq!(retry.problem()["original_status"], 200);
    assert_eq!(app.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_response_without_a_length_streams_from_where_it_got_too_long() {
    let store = TestStore::new();
    let app = App::new(&layer_with(&store, small()), |_, _| async {
        let pieces = ["a".repeat(40), "b".repeat(40), "c".repeat(40)];
        let frames = pieces.map(|piece| Ok::<_, io::Error>(Frame::data(Bytes::from(piece))));
        Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
    });
    let first = app.send(post("k", "")).await;
    let expected = ["a".repeat(40), "b".repeat(40), "c".repeat(40)].concat();
    assert_eq!(first.text(), expected);
    assert_eq!(
        app.send(post("k", "")).await.problem_kind(),
        "response-not-kept"
    );
}

/// An event stream fed by the test.
fn event_app(policy: Policy, store: &TestStore) -> (App, mpsc::Sender<Piece>) {
    let (pieces, body) = mpsc::channel(8);
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let app = App::new(&layer_with(store, policy), move |_, _| {
        let body = body.lock().unwrap().take().expect("it runs once");
        async move {
            let mut response = Response::new(streamed(body));
            let value = HeaderValue::from_static("text/event-stream; charset=utf-8");
            response.headers_mut().insert("content-type", value);
            response
        }
    });
    (app, pieces)
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_goes_through_at_once_and_is_recorded_at_its_end() {
    let store = TestStore::new();
    let (app, pieces) = event_app(small(), &store);
    let mut response = app.start(post("k", "")).await;
    assert_eq!(response.status(), 200);
    pieces
        .send(Ok(Frame::data("data: 1\n\n".into())))
        .await
        .unwrap();
    let frame = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "data: 1\n\n");
    assert!(store.only_entry().in_progress(), "while it flows");
    assert_eq!(app.send(post("k", "")).await.outcome(), Outcome::InProgress);
    pieces
        .send(Ok(Frame::data("data: 2\n\n".into())))
        .await
        .unwrap();
    drop(pieces);
    let rest = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(rest, "data: 2\n\n");
    // Its client has seen the end: the record is there.
    let retry = app.send(post("k", "")).await;
    assert_eq!(
        (retry.outcome(), retry.text()),
        (Outcome::Replayed, "data: 1\n\ndata: 2\n\n")
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_has_gone_is_followed_only_so_long() {
    let store = TestStore::new();
    let (app, pieces) = event_app(small(), &store);
    let response = app.start(post("k", "")).await;
    pieces
        .send(Ok(Frame::data("data: 1\n\n".into())))
        .await
        .unwrap();
    drop(response);
    until("it is given up", || {
        matches!(
            store.only_entry().state,
            EntryState::Completed { kept: None, .. }
        )
    })
    .await;
    assert!(pieces.is_closed(), "the service's stream is closed");
    assert_eq!(
        app.send(post("k", "")).await.problem_kind(),
        "response-not-kept"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_does_not_read_is_given_up_too() {
    let store = TestStore::new();
    let policy = Policy::new(Profile::Standard).with_lease(Duration::from_secs(10));
    let (app, pieces) = event_app(policy, &store);
    let _unread = app.start(post("k", "")).await;
    let feeding = tokio::spawn(async move {
        while pieces.send(piece(1000)).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    until("it is given up", || !store.only_entry().in_progress()).await;
    feeding.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_is_unknown_and_its_client_sees_it() {
    let store = TestStore::new();
    let (app, pieces) = event_app(small().with_on_unknown(OnUnknown::Hold), &store);
    let response = app.start(post("k", "")).await;
    pieces
        .send(Ok(Frame::data("data: 1\n\n".into())))
        .await
        .unwrap();
    pieces
        .send(Err(io::Error::other("upstream died")))
        .await
        .unwrap();
    assert!(
        response.into_body().collect().await.is_err(),
        "no clean end"
    );
    assert_eq!(
        app.send(post("k", "")).await.problem_kind(),
        "outcome-unknown"
    );
}

#[tokio::test(start_paused = true)]
async fn request_trailers_reach_the_handler() {
    let store = TestStore::new();
    let service = layer_with(&store, small()).layer(tower::service_fn(
        |request: Request<RequestBody<Upload>>| async move {
            let collected = request.into_body().collect().await.unwrap();
            let trailer = collected.trailers().unwrap()["x-sum"].clone();
            let response = Response::builder()
                .header("x-seen", trailer)
                .body(full(""))
                .unwrap();
            Ok::<_, Infallible>(response)
        },
    ));
    for length in [5, 50] {
        let (pieces, body) = mpsc::channel(8);
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        pieces.send(piece(length)).await.unwrap();
        pieces.send(Ok(Frame::trailers(trailers))).await.unwrap();
        drop(pieces);
        let mut request = upload(body);
        request
            .headers_mut()
            .insert("idempotency-key", HeaderValue::from(length));
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["x-seen"], "7");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_before_the_claim_leaves_no_trace() {
    let store = TestStore::new();
    let send = upload_app(&layer_with(&store, small()));
    let (pieces, body) = mpsc::channel(8);
    pieces.send(piece(3)).await.unwrap();
    pieces.send(Err(io::Error::other("reset"))).await.unwrap();
    let answer = send(upload(body)).await.unwrap();
    assert_eq!(
        (answer.status, answer.problem_kind().as_str()),
        (400, "body-unreadable")
    );
    assert_eq!(store.all_calls(), 0);
    let plain = Request::post("/").body(Full::new(Bytes::new())).unwrap();
    assert_eq!(
        App::counting(&layer_with(&store, small()))
            .send(plain)
            .await
            .status,
        200
    );
}
