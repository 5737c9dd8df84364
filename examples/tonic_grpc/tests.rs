//! The service over a real socket: through tonic's client, and frame by frame.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use super::charges::{CHARGE, ChargeReply, ChargeRequest};
use super::*;

async fn start() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let charges = Charges::default();
    let executions = Arc::clone(&charges.executions);
    tokio::spawn(serve(listener, charges));
    (address, executions)
}

struct Client(tonic::client::Grpc<Channel>);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        Self(tonic::client::Grpc::new(channel.connect().await.unwrap()))
    }

    async fn charge(
        &mut self,
        key: &'static str,
        amount: u64,
    ) -> Result<tonic::Response<ChargeReply>, Status> {
        let customer = "ann".to_owned();
        let mut request = tonic::Request::new(ChargeRequest { customer, amount });
        request
            .metadata_mut()
            .insert("idempotency-key", key.parse().unwrap());
        self.0.ready().await.unwrap();
        let codec: ProstCodec<ChargeRequest, ChargeReply> = ProstCodec::default();
        self.0
            .unary(request, http::uri::PathAndQuery::from_static(CHARGE), codec)
            .await
    }
}

#[tokio::test]
async fn a_call_that_is_made_again_charges_once() {
    let (address, executions) = start().await;
    let mut client = Client::connect(address).await;
    let first = client.charge("a", 500).await.unwrap();
    assert_eq!(first.get_ref().number, 1);
    assert_eq!(
        first.get_ref().downstream_key.len(),
        32,
        "the handler saw its claim"
    );
    assert!(!first.metadata().contains_key("idempotent-replayed"));

    // tonic's client refuses a response without a grpc-status in its trailers.
    let retry = client.charge("a", 500).await.unwrap();
    assert_eq!(retry.metadata().get("idempotent-replayed").unwrap(), "true");
    assert_eq!(retry.get_ref(), first.get_ref());
    assert_eq!(executions.load(SeqCst), 1);

    let other = client.charge("a", 900).await.unwrap_err();
    assert_eq!(other.code(), Code::FailedPrecondition);
    assert_eq!(executions.load(SeqCst), 1);
}

#[tokio::test]
async fn final_errors_are_replayed_and_others_tried_again() {
    let (address, executions) = start().await;
    let mut client = Client::connect(address).await;
    for _ in 0..2 {
        let refused = client.charge("a", 0).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(refused.message(), "there is nothing to charge");
        assert_eq!(executions.load(SeqCst), 1);
    }
    for times in [2, 3] {
        let down = client.charge("b", 503).await.unwrap_err();
        assert_eq!(down.code(), Code::Unavailable);
        assert_eq!(executions.load(SeqCst), times);
    }
}

#[tokio::test]
async fn the_trailers_of_a_replay_are_those_of_the_first_answer() {
    let (address, executions) = start().await;
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);

    let message = ChargeRequest {
        customer: "ann".to_owned(),
        amount: 500,
    }
    .encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    let body = [&[0][..], &length.to_be_bytes(), &message].concat();
    for replayed in [false, true] {
        let request = http::Request::post(format!("http://{address}{CHARGE}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("idempotency-key", "a")
            .body(Full::new(Bytes::from(body.clone())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(
            response.headers().contains_key("idempotent-replayed"),
            replayed
        );
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        let data = collected.to_bytes();
        assert_eq!(ChargeReply::decode(&data[5..]).unwrap().number, 1);
    }
    assert_eq!(executions.load(SeqCst), 1);
}
