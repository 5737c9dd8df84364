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

