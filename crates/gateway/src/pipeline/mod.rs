//! What stands around the idempotency layer, route by route.
//!
//! Each route has a stack of its own, made when settings are read: a layer that is off on a route
//! is not there at all. A route without any takes the plain stack, which nothing is boxed in.

mod boxed;
mod overrides;
mod rescued;
mod shared;

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use onlyonce::http::RequestBody;
use onlyonce::{Engine, IdempotencyLayer};
use onlyonce_core::BoxError;
use onlyonce_pipeline::access_log::RecordBodyLayer;
use onlyonce_pipeline::auth::AuthLayer;
use onlyonce_pipeline::blocklist::{AllowListLayer, BlocklistLayer};
use onlyonce_pipeline::catch_panic::CatchPanicLayer;
use onlyonce_pipeline::cors::CorsLayer;
use onlyonce_pipeline::envelope::{EnvelopeLayer, ReadCodesLayer};
use onlyonce_pipeline::filter::schema::SchemaLayer;
use onlyonce_pipeline::read_only::ReadOnlyLayer;
use onlyonce_pipeline::{Answers, ProblemsLayer};
use tower::Layer;
use tower_service::Service;

use crate::config::{RouteLayers, Settings};
use crate::front::FrontBody;
use crate::rescue::Origin;

use boxed::{Stack, boxed};
pub(crate) use boxed::{StackBody, StackFuture};
pub(crate) use overrides::OVERRIDES;
use overrides::Overrides;
pub(crate) use shared::Shared;

/// The stack of one route, if it has more layers than idempotency.
#[derive(Clone)]
pub(crate) struct RouteStack(Stack<FrontBody>);

impl RouteStack {
    /// The stack of a route with these layers; `None`: the plain one will do.
    pub(crate) fn new(
        settings: &Settings,
        layers: &RouteLayers,
        shared: &Shared,
        auth: Option<&AuthLayer>,
        engine: &Engine,
        origin: &Origin,
    ) -> Option<Self> {
        let recipe = Recipe::new(settings, layers, shared, auth, engine, origin)?;
        Some(Self(match &shared.access_log {
            // Outermost: it sees every answer, and every body on its way in.
            Some(log) => boxed(log.layer(RecordBodyLayer::new().layer(recipe.outside()))),
            None => recipe.outside(),
        }))
    }

    pub(crate) fn call(&self, request: Request<FrontBody>) -> StackFuture {
        self.0.call(request)
    }
}

/// What the stack of one route is made of.
struct Recipe<'s> {
    settings: &'s Settings,
    engine: &'s Engine,
    origin: &'s Origin,
    answers: Answers,
    cors: Option<CorsLayer>,
    blocklist: Option<BlocklistLayer>,
    allow_list: Option<AllowListLayer>,
    read_only: Option<ReadOnlyLayer>,
    overrides: Overrides,
    auth: Option<AuthLayer>,
    filter: Option<SchemaLayer>,
    envelope: bool,
}

impl<'s> Recipe<'s> {
    fn new(
        settings: &'s Settings,
        layers: &RouteLayers,
        shared: &Shared,
        auth: Option<&AuthLayer>,
        engine: &'s Engine,
        origin: &'s Origin,
    ) -> Option<Self> {
        let answers = settings.envelope.answers();
        // Within one route there is but one form: the pattern is everything.
        let answers = answers
            .clone()
            .with_kind("/{*everything}", layers.envelope.kind)
            .and_then(|answers| answers.with_kind("/", layers.envelope.kind))
            .unwrap_or(answers);
        let read_only = settings.read_only.is_there().then(|| {
            let exempt = layers.read_only == Some(false);
            settings
                .read_only
                .layer(&shared.read_only, answers.clone(), exempt)
        });
        let blocklist = shared.blocklist.as_ref().map(|list| {
            let layer = BlocklistLayer::new(list.clone(), answers.clone());
            match layers.blocklist {
                Some(false) => layer.on_open_route(),
                _ => layer,
            }
        });
        let allow_list = settings.allow_list.layer(answers.clone());
        let overrides = Overrides {
            always: allow_list.is_some()
                || (blocklist.is_some() && layers.blocklist == Some(false)),
            while_on: read_only.is_some().then(|| shared.read_only.clone()),
        };
        let recipe = Self {
            settings,
            engine,
            origin,
            cors: layers.cors.layer(&settings.cors),
            blocklist,
            allow_list,
            read_only,
            overrides,
            auth: auth.map(|auth| auth.clone().with_answers(answers.clone())),
            filter: layers.filter.layer(&settings.filter, answers.clone()),
            envelope: layers.envelope.on.unwrap_or(settings.envelope.enabled),
            answers,
        };
        let is_plain = recipe.cors.is_none()
            && recipe.blocklist.is_none()
            && recipe.allow_list.is_none()
            && recipe.read_only.is_none()
            && recipe.auth.is_none()
            && recipe.filter.is_none()
            && !recipe.envelope
            && !settings.envelope.read_codes
            && !settings.context.enabled
            && shared.access_log.is_none();
        (!is_plain).then_some(recipe)
    }

    /// What stands outside of idempotency, and all that is inside.
    fn outside<B>(&self) -> Stack<B>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // A keyed request is executed at most once from here on; the policy comes with it.
        let idempotency = IdempotencyLayer::from_engine(self.engine.clone());
        let stack = boxed(idempotency.layer(self.filtered::<RequestBody<B>>()));
        // What it refuses is told as everything else is.
        let problems = self
            .envelope
            .then(|| ProblemsLayer::new(self.answers.clone()));
        let stack = optional(problems.as_ref(), stack);
        // Who calls, and so whose keys they are; a replay, too, is only for who may see it.
        let stack = optional(self.auth.as_ref(), stack);
        // What the layers outside decided on is what the upstream is asked for.
        let stack = self.overrides.before(stack);
        let stack = optional(self.read_only.as_ref(), stack);
        // Who may not come at all, before anything costs much.
        let stack = optional(self.allow_list.as_ref(), stack);
        let stack = optional(self.blocklist.as_ref(), stack);
        // Preflights carry no credentials: they are answered before anybody asks for them.
        let stack = optional(self.cors.as_ref(), stack);
        // Whose request it is: for the blocklist and the log.
        let stack = boxed(self.settings.client_address.layer().layer(stack));
        // Which request it is: everything inside, and the log outside, names it so.
        let stack = boxed(self.settings.context.layer().layer(stack));
        // Whatever breaks in our own layers is an answer, not a broken connection.
        boxed(CatchPanicLayer::new(self.answers.clone()).layer(stack))
    }

    /// What stands inside of idempotency: a body that does not fit leaves its key free.
    fn filtered<B>(&self) -> Stack<B>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + Send,
    {
        match &self.filter {
            Some(filter) => boxed(filter.layer(self.inside())),
            None => self.inside(),
        }
    }

    fn inside<B>(&self) -> Stack<B>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // The upstream: it always answers.
        let stack = boxed(self.origin.clone());
        // An upstream that makes envelopes itself: what its codes mean, not its 200.
        let read_codes = self.settings.envelope.read_codes.then(ReadCodesLayer::new);
        let stack = optional(read_codes.as_ref(), stack);
        if !self.envelope {
            return stack;
        }
        // Our own errors, and answers without a body, get their envelope: what is recorded is
        // what clients get.
        let stack = rescued::in_envelope(stack);
        boxed(EnvelopeLayer::new(self.answers.clone()).layer(stack))
    }
}

fn optional<L, B, R>(layer: Option<&L>, stack: Stack<B>) -> Stack<B>
where
    L: Layer<Stack<B>>,
    L::Service: Service<Request<B>, Response = Response<R>, Error = Infallible, Future: Send>,
    L::Service: Clone + Send + Sync + 'static,
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    match layer {
        Some(layer) => boxed(layer.layer(stack)),
        None => stack,
    }
}

/// What every stack answers.
pub(crate) type StackResponse = Response<StackBody>;
