//! The pipeline, and what stands behind it.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::FromRef;
use http::Extensions;
use onlyonce::IdempotencyLayer;
use onlyonce_core::Clock;
use onlyonce_memory::MemoryStore;
use onlyonce_pipeline::access_log::{AccessLogLayer, Peer, RecordBodyLayer};
use onlyonce_pipeline::auth::{AuthLayer, MemoryTokenStore, Module, Roles, TokenKeys, Tokens};
use onlyonce_pipeline::blocklist::{Blocklist, BlocklistLayer, MemoryBlocklist};
use onlyonce_pipeline::client_addr::{AddrHeader, AddrRule, ClientAddrLayer, TrustedProxies};
use onlyonce_pipeline::context::ContextLayer;
use onlyonce_pipeline::cors::{Cors, CorsLayer};
use onlyonce_pipeline::envelope::EnvelopeLayer;
use onlyonce_pipeline::read_only::{ReadOnly, ReadOnlyLayer};
use onlyonce_pipeline::{Answers, ContentKind, Pipeline, StatusMode};

use crate::{admin, api, home, socket};

/// What is another one in tests.
pub(crate) struct Parts {
    pub(crate) answers: Answers,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: AccessLogLayer,
}

/// What handlers share.
#[derive(Clone, FromRef)]
pub(crate) struct App {
    pub(crate) members: Members,
    pub(crate) logins: Logins,
    pub(crate) blocklist: Blocklist,
    pub(crate) read_only: ReadOnly,
}

/// The members, in the order in which they came.
pub(crate) type Members = Arc<Mutex<Vec<admin::Member>>>;

/// One kind of token for each module: none is good for another.
#[derive(Clone)]
pub(crate) struct Logins {
    pub(crate) admin: Tokens,
    pub(crate) api: Tokens,
}

/// In an application it comes from a file or the environment.
const SECRET: &[u8] = b"5f1c0c4e-an-example-s-secret-a7e2";

pub(crate) async fn app(parts: Parts) -> Result<Router, Box<dyn Error>> {
    // As HotGo answers: always 200, the code tells; Chinese unless English is asked for.
    let answers = parts
        .answers
        .with_status_mode(StatusMode::Always200)
        .with_fallback_language(onlyonce_pipeline::Language::ZhCn)
        .with_clock(Arc::clone(&parts.clock))
        .with_kind("/api/hello", ContentKind::Xml)?
        .with_kind("/home", ContentKind::Html)?
        .with_kind("/home/{*rest}", ContentKind::Html)?
        .with_kind("/home/events", ContentKind::EventStream)?;

    let tokens = |app: &str| {
        let keys = TokenKeys::hs256(SECRET)?;
        let tokens = Tokens::builder(app, keys).with_store(MemoryTokenStore::new());
        Ok::<_, Box<dyn Error>>(tokens.build()?)
    };
    let logins = Logins {
        admin: tokens("admin")?,
        api: tokens("api")?,
    };
    let roles = Roles::new(admin::POLICY.parse()?).with_super_role("super");
    let auth = AuthLayer::new([
        Module::admin(logins.admin.clone(), roles)
            .with_login_exempt(["POST /admin/login"])?
            .with_permission_exempt(["POST /admin/logout"])?,
        Module::api(logins.api.clone()).with_login_exempt([
            "GET /api/hello",
            "GET /api/hello-by-header",
            "POST /api/login",
        ])?,
        Module::websocket(logins.api.clone()),
        Module::home(logins.api.clone()),
    ])?
    .with_answers(answers.clone());

    let state = App {
        members: Arc::default(),
        logins,
        blocklist: Blocklist::load(MemoryBlocklist::new()).await?,
        read_only: ReadOnly::off(),
    };

    // A proxy on this machine may stand in front; nobody else is believed.
    let nearby = AddrRule::new(
        TrustedProxies::parse(["127.0.0.1"])?,
        AddrHeader::XForwardedFor,
    );
    let pipeline = Pipeline::new(answers.clone())
        .with_context(ContextLayer::new().with_clock(Arc::clone(&parts.clock)))
        .with_access_log((parts.log.with_peer(peer), RecordBodyLayer::new()))
        .with_client_addr(ClientAddrLayer::new(nearby).with_peer(|e| Some(connected(e)?.ip())))
        .with_cors(CorsLayer::new(&Cors::hotgo())?)
        .with_blocklist(BlocklistLayer::new(
            state.blocklist.clone(),
            answers.clone(),
        ))
        .with_read_only(
            ReadOnlyLayer::new(state.read_only.clone(), answers.clone()).with_exempt([
                "/admin/login",
                "/admin/read-only",
                "/api/login",
            ])?,
        )
        .with_auth(auth)
        .with_idempotency(IdempotencyLayer::new(MemoryStore::new()))
        .with_envelope(EnvelopeLayer::new(answers));

    Ok(Router::new()
        .nest("/admin", admin::routes())
        .nest("/api", api::routes())
        .nest("/home", home::routes())
        .route("/home", axum::routing::get(home::page))
        .nest("/socket", socket::routes())
        .layer(pipeline)
        .with_state(state))
}

fn connected(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get().map(|ConnectInfo(peer)| *peer)
}

fn peer(extensions: &Extensions) -> Peer {
    Peer {
        addr: connected(extensions).map(|peer| peer.ip()),
        ..Peer::default()
    }
}
