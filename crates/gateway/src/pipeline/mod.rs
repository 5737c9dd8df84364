//! What stands around the idempotency layer, route by route.
//!
//! Each route has a stack of its own, made when settings are read: a layer that is off on a route
//! is not there at all. A route without any takes the plain stack, which nothing is boxed in.

mod boxed;
mod problem;
mod rescued;

use std::sync::Arc;

use http::{Request, Response};
use onlyonce::{Engine, IdempotencyLayer};
use onlyonce_pipeline::Answers;
use onlyonce_pipeline::catch_panic::CatchPanicLayer;
use onlyonce_pipeline::envelope::{EnvelopeLayer, ReadCodesLayer};
use tower::Layer as _;

use crate::config::{RouteLayers, Settings};
use crate::front::FrontBody;
use crate::rescue::Origin;

use boxed::{Stack, boxed};
pub(crate) use boxed::{StackBody, StackFuture};

/// The stack of one route, if it has more layers than idempotency.
#[derive(Clone)]
pub(crate) struct RouteStack(Stack<FrontBody>);

impl RouteStack {
    /// The stack of a route with these layers; `None`: the plain one will do.
    pub(crate) fn new(
        settings: &Settings,
        layers: &RouteLayers,
        engine: &Engine,
        origin: &Origin,
    ) -> Option<Self> {
        let envelope = layers.envelope.on.unwrap_or(settings.envelope.enabled);
        let read_codes = settings.envelope.read_codes;
        if !(envelope || read_codes || settings.context.enabled) {
            return None;
        }
        let answers = settings.envelope.answers();
        // Within one route there is but one form: the pattern is everything.
        let answers = answers
            .clone()
            .with_kind("/{*everything}", layers.envelope.kind)
            .and_then(|answers| answers.with_kind("/", layers.envelope.kind))
            .unwrap_or(answers);
        let context = settings.context.layer();

        // From the inside out. The upstream: it always answers.
        let stack = boxed(origin.clone());
        // An upstream that makes envelopes itself: what its codes mean, not its 200.
        let stack = if read_codes {
            boxed(ReadCodesLayer::new().layer(stack))
        } else {
            stack
        };
        // Our own errors, and answers without a body, get their envelope: what is recorded is
        // what clients get.
        let stack = if envelope {
            boxed(EnvelopeLayer::new(answers.clone()).layer(rescued::in_envelope(stack)))
        } else {
            stack
        };
        // A keyed request is executed at most once from here on; the policy comes with it.
        let stack = boxed(idempotency(engine, envelope.then_some(&answers)).layer(stack));
        // Which request it is: everything inside, and the log outside, names it so.
        let stack = boxed(context.layer(stack));
        // Whatever breaks in our own layers is an answer, not a broken connection.
        let stack = boxed(CatchPanicLayer::new(answers).layer(stack));
        Some(Self(stack))
    }

    pub(crate) fn call(&self, request: Request<FrontBody>) -> StackFuture {
        self.0.call(request)
    }
}

fn idempotency(engine: &Engine, envelope: Option<&Answers>) -> IdempotencyLayer {
    let layer = IdempotencyLayer::from_engine(engine.clone());
    match envelope {
        None => layer,
        Some(answers) => {
            let answers = Arc::new(answers.clone());
            layer.with_renderer(move |problem| problem::in_envelope(problem, &answers))
        }
    }
}

/// What every stack answers.
pub(crate) type StackResponse = Response<StackBody>;
