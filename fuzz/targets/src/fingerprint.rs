//! The request fingerprint, through the layer: what tells a retry from another request.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty};
use onlyonce::http::RequestBody;
use onlyonce::{
    BodyFingerprint, FingerprintRule, IdempotencyLayer, Outcome, Policy, Profile, Verdict,
};
use onlyonce_memory::MemoryStore;
use tower::{Layer as _, ServiceExt as _};

use crate::input::Input;

/// Longer bodies are hashed as they stream by: both ways are taken.
const BUFFER: usize = 48;

/// The first bytes choose the rule and how the body is cut, the rest is a request's body.
///
/// # Panics
/// When a retry is not replayed, however its body comes in, or another request is.
pub fn fingerprint(data: &[u8]) {
    let mut input = Input(data);
    let (mode, first_cut, second_cut) = (input.byte(), input.byte(), input.byte());
    let body = input.0;
    let rule = match mode % 4 {
        0 => BodyFingerprint::Bytes,
        1 => BodyFingerprint::Json,
        2 => BodyFingerprint::Pointers(vec!["/a".into(), "/b/0".into()]),
        _ => BodyFingerprint::None,
    };
    let content_type = match mode & 4 {
        0 => "application/json",
        _ => "multipart/form-data; boundary=ab",
    };
    let counts = rule != BodyFingerprint::None;
    let by_pointers = matches!(rule, BodyFingerprint::Pointers(_));

    let exchange = Exchange::new(rule, content_type);
    assert_eq!(exchange.send(body, first_cut), Outcome::Executed);
    assert_eq!(exchange.send(body, second_cut), Outcome::Replayed);
    // A letter in front is another request: no JSON stays the same by it, and it stands in
    // front of the first part's delimiter. (Pointers may find nothing in both.)
    let other = [b"x", body].concat();
    let outcome = exchange.send(&other, first_cut);
    if !counts {
        assert_eq!(outcome, Outcome::Replayed);
    } else if !by_pointers {
        assert_eq!(outcome, Outcome::Mismatch);
    }
    // White space around JSON counts by the byte, or not at all: never as an error.
    let spaced = [b" ", body, b"\n"].concat();
    let outcome = exchange.send(&spaced, second_cut);
    assert!(
        matches!(outcome, Outcome::Replayed | Outcome::Mismatch),
        "{outcome}"
    );
}

/// One key, one layer, one counting service.
struct Exchange {
    layer: IdempotencyLayer,
    content_type: &'static str,
}

impl Exchange {
    fn new(body: BodyFingerprint, content_type: &'static str) -> Self {
        let headers = Vec::new();
        let policy = Policy::new(Profile::Standard)
            .with_buffer(BUFFER)
            .with_fingerprint(FingerprintRule::On { body, headers });
        let store = MemoryStore::builder().shards(1).build();
        let layer = IdempotencyLayer::new(store).with_policy(policy);
        let layer = layer.expect("the policy can work");
        Self {
            layer,
            content_type,
        }
    }

    /// What becomes of a request whose body comes in pieces of `cut + 1` bytes.
    fn send(&self, body: &[u8], cut: u8) -> Outcome {
        let chunks = body
            .chunks(usize::from(cut) + 1)
            .map(Bytes::copy_from_slice);
        let request = Request::post("/")
            .header("idempotency-key", "k")
            .header("content-type", self.content_type)
            .body(Chunks(chunks.collect()))
            .expect("the head is well-formed");
        let service = self.layer.layer(tower::service_fn(answer));
        RUNTIME.with(|runtime| {
            runtime.block_on(async {
                let response = service
                    .oneshot(request)
                    .await
                    .unwrap_or_else(|never| match never {});
                let verdict = response.extensions().get::<Verdict>();
                verdict.expect("every response has a verdict").outcome()
            })
        })
    }
}

async fn answer(
    request: Request<RequestBody<Chunks>>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let read = request.into_body().collect().await;
    assert!(read.is_ok(), "a body that comes whole is read whole");
    Ok(Response::new(Empty::new()))
}

struct Chunks(VecDeque<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without threads can be started");
}
