//! The service `payments.Charges`: what a `.proto` file would be compiled to, by hand.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http_body::Body;
use onlyonce::{Claimed, Control};
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// `message ChargeRequest { string customer = 1; uint64 amount = 2; }`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ChargeRequest {
    #[prost(string, tag = "1")]
    pub(crate) customer: String,
    #[prost(uint64, tag = "2")]
    pub(crate) amount: u64,
}

/// `message ChargeReply { uint64 number = 1; string downstream_key = 2; }`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ChargeReply {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(string, tag = "2")]
    pub(crate) downstream_key: String,
}

/// The only method.
pub(crate) const CHARGE: &str = "/payments.Charges/Charge";

#[derive(Clone, Default)]
pub(crate) struct Charges {
    pub(crate) executions: Arc<AtomicU64>,
}

impl Charges {
    async fn charge(
        self,
        request: Request<ChargeRequest>,
    ) -> Result<Response<ChargeReply>, Status> {
        let number = self.executions.fetch_add(1, Ordering::SeqCst) + 1;
        let claimed = request.extensions().get::<Claimed>();
        let downstream_key = claimed.map(|claimed| claimed.derive(&["provider", "charge"]));
        match request.get_ref().amount {
            0 => Err(Status::invalid_argument("there is nothing to charge")),
            // Stands for a provider that is down.
            503 => Err(Status::unavailable("the provider is down")),
            _ => Ok(Response::new(ChargeReply {
                number,
                downstream_key: downstream_key.unwrap_or_default(),
            })),
        }
    }
}

impl<B> Service<http::Request<B>> for Charges
where
    B: Body + Send + 'static,
    B::Error: Into<tonic::codegen::StdError> + Send,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let charges = self.clone();
        Box::pin(async move {
            if request.uri().path() != CHARGE {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let method = tower::service_fn(|request| charges.clone().charge(request));
            let mut response = Grpc::new(ProstCodec::default())
                .unary(method, request)
                .await;
            // To HTTP every answer is a 200, so the layer would keep them all. One that says
            // "try again" must not be the answer for good.
            let status = response.extensions().get::<Status>().map(Status::code);
            if matches!(status, Some(Code::Unavailable | Code::ResourceExhausted)) {
                response.extensions_mut().insert(Control::NoStore);
            }
            Ok(response)
        })
    }
}

impl NamedService for Charges {
    const NAME: &'static str = "payments.Charges";
}
