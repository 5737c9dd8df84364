//! All layers together.

use tower_layer::{Identity, Layer};

use crate::catch_panic::{CatchPanic, CatchPanicLayer};
use crate::context::{ContextLayer, ContextService};
use crate::{Answers, ProblemsLayer};

/// All layers together, in the right order, whatever the order in which they are given.
///
/// From the outside in: access log, catcher of panics, context, client address, CORS, blocklist,
/// read-only mode, auth, idempotency, input filter, envelope. The catcher of panics and the
/// context are always there; what else is not given is left out. Inside of the idempotency
/// layer, which runs handlers on tasks of their own, the context is entered anew, so that
/// [`Context::current`](crate::context::Context::current) is there for handlers.
///
/// It is a [`Layer`]: put it around an axum `Router`, or any other service.
///
/// # Example
/// ```
/// use axum::{Router, routing::post};
/// use onlyonce::IdempotencyLayer;
/// use onlyonce_memory::MemoryStore;
/// use onlyonce_pipeline::envelope::{Envelope, EnvelopeLayer};
/// use onlyonce_pipeline::{Answers, Pipeline};
///
/// let answers = Answers::new();
/// let app: Router = Router::new()
///     .route("/orders", post(async || Envelope::new("ordered")))
///     .layer(
///         Pipeline::new(answers.clone())
///             .with_idempotency(IdempotencyLayer::new(MemoryStore::new()))
///             .with_envelope(EnvelopeLayer::new(answers)),
///     );
/// # let _ = app;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Pipeline<
    Log = Identity,
    Addr = Identity,
    Cors = Identity,
    Block = Identity,
    ReadOnly = Identity,
    Auth = Identity,
    Once = Identity,
    Filter = Identity,
    Form = Identity,
    Told = Identity,
> {
    answers: Answers,
    context: ContextLayer,
    access_log: Log,
    client_addr: Addr,
    cors: Cors,
    blocklist: Block,
    read_only: ReadOnly,
    auth: Auth,
    idempotency: Once,
    filter: Filter,
    envelope: Form,
    problems: Told,
}

impl Pipeline {
    /// A pipeline of the catcher of panics and the context alone; a panic is answered as
    /// `answers` say.
    pub fn new(answers: Answers) -> Self {
        Self {
            answers,
            context: ContextLayer::new(),
            access_log: Identity::new(),
            client_addr: Identity::new(),
            cors: Identity::new(),
            blocklist: Identity::new(),
            read_only: Identity::new(),
            auth: Identity::new(),
            idempotency: Identity::new(),
            filter: Identity::new(),
            envelope: Identity::new(),
            problems: Identity::new(),
        }
    }
}

macro_rules! setters {
    ($fields:tt $($(#[doc = $doc:literal])+ $method:ident($slot:ident) -> $params:tt)+) => {
        $(setter! { $fields $(#[doc = $doc])+ $method($slot) -> $params })+
    };
}

macro_rules! setter {
    (
        ($($field:ident)*)
        $(#[doc = $doc:literal])+ $method:ident($slot:ident) -> ($($param:ident)*)
    ) => {
        $(#[doc = $doc])+
        pub fn $method<L>(self, layer: L) -> Pipeline<$($param),*> {
            let Self { answers, context, $($field),* } = self;
            drop($slot);
            let $slot = layer;
            Pipeline { answers, context, $($field),* }
        }
    };
}

impl<Log, Addr, Cors, Block, ReadOnly, Auth, Once, Filter, Form, Told>
    Pipeline<Log, Addr, Cors, Block, ReadOnly, Auth, Once, Filter, Form, Told>
{
    /// Takes this context layer in place of [`ContextLayer::new`].
    pub fn with_context(mut self, context: ContextLayer) -> Self {
        self.context = context;
        self
    }

    setters! {
        (access_log client_addr cors blocklist read_only auth idempotency filter envelope problems)

        /// Outermost: logs every request.
        with_access_log(access_log) -> (L Addr Cors Block ReadOnly Auth Once Filter Form Told)
        /// Finds the client's address, for all that follow.
        with_client_addr(client_addr) -> (Log L Cors Block ReadOnly Auth Once Filter Form Told)
        /// Lets pages of other origins in.
        with_cors(cors) -> (Log Addr L Block ReadOnly Auth Once Filter Form Told)
        /// Keeps blocked addresses out.
        with_blocklist(blocklist) -> (Log Addr Cors L ReadOnly Auth Once Filter Form Told)
        /// Keeps the system from changes.
        with_read_only(read_only) -> (Log Addr Cors Block L Auth Once Filter Form Told)
        /// Finds out who calls, and whether that is allowed.
        with_auth(auth) -> (Log Addr Cors Block ReadOnly L Once Filter Form Told)
        /// Executes keyed requests once. Keys belong to whom auth has found.
        with_idempotency(idempotency) -> (Log Addr Cors Block ReadOnly Auth L Filter Form Told)
        /// Checks the input.
        with_filter(filter) -> (Log Addr Cors Block ReadOnly Auth Once L Form Told)
    }

    /// Innermost: puts every answer into one form; outside of idempotency, its refusals, too.
    pub fn with_envelope<L>(
        self,
        layer: L,
    ) -> Pipeline<Log, Addr, Cors, Block, ReadOnly, Auth, Once, Filter, L, ProblemsLayer> {
        Pipeline {
            problems: ProblemsLayer::new(self.answers.clone()),
            answers: self.answers,
            context: self.context,
            access_log: self.access_log,
            client_addr: self.client_addr,
            cors: self.cors,
            blocklist: self.blocklist,
            read_only: self.read_only,
            auth: self.auth,
            idempotency: self.idempotency,
            filter: self.filter,
            envelope: layer,
        }
    }
}

impl<S, Log, Addr, Cors, Block, ReadOnly, Auth, Once, Filter, Form, Told> Layer<S>
    for Pipeline<Log, Addr, Cors, Block, ReadOnly, Auth, Once, Filter, Form, Told>
where
    Form: Layer<S>,
    Filter: Layer<Form::Service>,
    Once: Layer<ContextService<CatchPanic<Filter::Service>>>,
    Told: Layer<Once::Service>,
    Auth: Layer<Told::Service>,
    ReadOnly: Layer<Auth::Service>,
    Block: Layer<ReadOnly::Service>,
    Cors: Layer<Block::Service>,
    Addr: Layer<Cors::Service>,
    Log: Layer<CatchPanic<ContextService<Addr::Service>>>,
{
    type Service = Log::Service;

    fn layer(&self, service: S) -> Log::Service {
        let service = self.envelope.layer(service);
        let service = self.filter.layer(service);
        // What clients are told of a panic is what a retry is told.
        let service = CatchPanicLayer::new(self.answers.clone()).layer(service);
        // Handlers run on tasks of their own from here on: what a task knows is told again.
        let service = self.context.layer(service);
        let service = self.idempotency.layer(service);
        let service = self.problems.layer(service);
        let service = self.auth.layer(service);
        let service = self.read_only.layer(service);
        let service = self.blocklist.layer(service);
        let service = self.cors.layer(service);
        let service = self.client_addr.layer(service);
        let service = self.context.layer(service);
        let service = CatchPanicLayer::new(self.answers.clone()).layer(service);
        self.access_log.layer(service)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::{self, Poll};

    use http::{Request, Response};
    use http_body_util::Empty;
    use onlyonce::{IdempotencyLayer, Policy, Profile};
    use onlyonce_memory::MemoryStore;
    use tower::{ServiceExt as _, service_fn};
    use tower_service::Service;

    use super::*;
    use crate::StatusMode;
    use crate::context::Context;

    /// Notes its name when a request passes.
    #[derive(Clone)]
    struct Noting(&'static str, Arc<Mutex<Vec<&'static str>>>);

    #[derive(Clone)]
    struct Noted<S>(S, Noting);

    impl<S> Layer<S> for Noting {
        type Service = Noted<S>;

        fn layer(&self, inner: S) -> Noted<S> {
            Noted(inner, self.clone())
        }
    }

    impl<S: Service<Request<()>>> Service<Request<()>> for Noted<S> {
        type Response = S::Response;
        type Error = S::Error;
        type Future = S::Future;

        fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
            self.0.poll_ready(cx)
        }

        fn call(&mut self, request: Request<()>) -> S::Future {
            let Noting(name, notes) = &self.1;
            notes.lock().unwrap().push(name);
            self.0.call(request)
        }
    }

    #[tokio::test]
    async fn the_order_is_right_whatever_is_given_first() {
        let notes = Arc::default();
        let noting = |name| Noting(name, Arc::clone(&notes));
        let pipeline = Pipeline::new(Answers::new())
            .with_envelope(noting("envelope"))
            .with_filter(noting("filter"))
            .with_access_log(noting("access log"))
            .with_auth(noting("auth"))
            .with_blocklist(noting("blocklist"))
            .with_idempotency(noting("idempotency"))
            .with_cors(noting("cors"))
            .with_read_only(noting("read-only"))
            .with_client_addr(noting("client address"));
        let service = pipeline.layer(service_fn(async |_: Request<()>| {
            Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
        }));
        service.oneshot(Request::new(())).await.unwrap();
        let order = [
            "access log",
            "client address",
            "cors",
            "blocklist",
            "read-only",
            "auth",
            "idempotency",
            "filter",
            "envelope",
        ];
        assert_eq!(*notes.lock().unwrap(), order);
    }

    #[tokio::test]
    async fn detached_handlers_have_their_context() {
        let pipeline = Pipeline::new(Answers::new())
            .with_idempotency(IdempotencyLayer::new(MemoryStore::new()));
        let service = pipeline.layer(service_fn(async |_: Request<_>| {
            let context = Context::current().expect("the context");
            let trace_id = context.trace_id().as_str().to_owned();
            Ok::<_, Infallible>(Response::new(http_body_util::Full::<bytes::Bytes>::from(
                trace_id,
            )))
        }));
        let request = Request::post("/").header("idempotency-key", "k");
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        let response = service.oneshot(request).await.unwrap();
        let shown = response.headers()["trace-id"].clone();
        let body = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap();
        assert_eq!(body.to_bytes(), shown.as_bytes());
    }

    /// What two requests with one key get of a handler that panics, and how often it ran.
    async fn panicking(profile: Profile) -> (Vec<(http::StatusCode, bytes::Bytes)>, u32) {
        let ran = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&ran);
        let idempotency = IdempotencyLayer::new(MemoryStore::new());
        let idempotency = idempotency.with_policy(Policy::new(profile)).unwrap();
        let answers = Answers::new().with_status_mode(StatusMode::Always200);
        let pipeline = Pipeline::new(answers).with_idempotency(idempotency);
        let service = pipeline.layer(service_fn(move |request: Request<_>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::task::yield_now().await;
                assert_ne!(request.uri().path(), "/", "a secret");
                Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
            }
        }));
        let mut answers = Vec::new();
        for _ in 0..2 {
            let request = Request::post("/")
                .header("idempotency-key", "k")
                .header("x-idempotency-key", "000000000000000000000000000000000036");
            let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
            let request = match profile {
                Profile::Fiber => request,
                _ => without(request, "x-idempotency-key"),
            };
            let response = service.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let body = http_body_util::BodyExt::collect(response.into_body()).await;
            answers.push((status, body.unwrap().to_bytes()));
        }
        (answers, ran.load(Ordering::SeqCst))
    }

    fn without<B>(mut request: Request<B>, name: &str) -> Request<B> {
        request.headers_mut().remove(name);
        request
    }

    #[tokio::test]
    async fn what_is_told_of_a_panic_is_told_again_where_it_is_stored() {
        let (answers, ran) = panicking(Profile::Stripe).await;
        assert_eq!(ran, 1);
        assert_eq!(answers[0].0, 200);
        assert!(answers[0].1.starts_with(br#"{"code":68,"#), "{answers:?}");
        assert_eq!(answers[0], answers[1]);
    }

    #[tokio::test]
    async fn a_panic_frees_its_key_where_service_errors_are_not_stored() {
        for profile in [Profile::Standard, Profile::Fiber] {
            let (answers, ran) = panicking(profile).await;
            assert_eq!(ran, 2, "{profile:?}");
            assert!(answers[1].1.starts_with(br#"{"code":68,"#), "{answers:?}");
        }
    }
}
