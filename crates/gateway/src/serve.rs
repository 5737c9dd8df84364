//! `onlyonce serve`: everything put together, until a signal says stop.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use onlyonce::Engine;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::access_log::AccessLogs;
use crate::admin::{self, Admin, Tally};
use crate::config::{Settings, Sources};
use crate::front::{self, FrontOptions};
use crate::log;
use crate::pipeline::Shared;
use crate::records::Records;
use crate::reload::Reloader;
use crate::stack::Live;
use crate::tls::TlsAcceptor;

/// Buckets of durations, in seconds: from a memory store's to a time-out's.
const BUCKETS: [f64; 14] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

/// How long calls to the admin listener may go on when all else has ended.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// How long the access log may take to write what waits.
const LOG_DRAIN: Duration = Duration::from_secs(5);

/// A gateway whose listeners are bound and whose store is open.
pub(crate) struct Gateway {
    settings: Settings,
    listener: TcpListener,
    admin_listener: Option<TcpListener>,
    tls: Option<TlsAcceptor>,
    records: Records,
    shared: Shared,
    logs: AccessLogs,
    engine: Engine,
    reloader: Arc<Reloader>,
    prometheus: PrometheusHandle,
}

impl Gateway {
    /// Opens the store and binds the listeners; serves nothing yet.
    ///
    /// # Errors
    /// Each names the setting and the remedy.
    pub(crate) async fn open(sources: Sources, settings: Settings) -> anyhow::Result<Self> {
        let level = log::start(&settings.log);
        let prometheus = start_metrics()?;

        let tls = settings
            .tls
            .as_ref()
            .map(|tls| TlsAcceptor::new(&tls.tls_options()));
        let tls = tls.transpose().context("[tls]")?;
        let listener = bind(settings.listen, "listen", "--listen").await?;
        let admin_listener = match settings.admin.listen {
            Some(addr) => Some(bind(addr, "`listen` of [admin]", "--admin-listen").await?),
            None => None,
        };

        let given = settings.secret.clone();
        let store = settings.store.clone();
        let limit = settings.idempotency.store_timeout;
        let records = tokio::task::spawn_blocking(move || Records::open(&store, given, limit))
            .await
            .context("opening the store broke off")??;
        let engine = Engine::builder(records.store.clone())
            .secret(records.secret.clone())
            .build();
        let (shared, logs) = Shared::open(&settings).await?;
        let live = Live::new(&settings, engine.clone(), shared.clone())?;
        let reloader = Arc::new(Reloader {
            sources,
            live,
            tls: tls.clone(),
            level,
            keys: records.keys.clone(),
            started: settings.clone(),
            turn: Mutex::default(),
        });
        Ok(Self {
            settings,
            listener,
            admin_listener,
            tls,
            records,
            shared,
            logs,
            engine,
            reloader,
            prometheus,
        })
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where operators connect.
    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `stop`, then drains: no new connections and claims, what runs gets its time,
    /// and what does not end by then is left in progress, so that its outcome counts as unknown.
    /// `hurry` ends the waiting; the store is closed all the same.
    pub(crate) async fn serve(
        self,
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let Self {
            settings,
            listener,
            admin_listener,
            tls,
            records,
            shared,
            logs,
            engine,
            reloader,
            prometheus,
        } = self;
        let closing = CancellationToken::new();
        let closed = CancellationToken::new();

        // Without it, samples of durations pile up as long as nobody scrapes.
        let upkeep = tokio::spawn(keep_up(prometheus.clone()));
        let _upkeep = AbortOnDropHandle::new(upkeep);

        let service = reloader.live.service();
        let options = settings.limits.front_options();
        let public = FrontOptions {
            proxy_protocol: settings.client_address.proxy_protocol(),
            ..options.clone()
        };
        let public = front::serve(
            listener,
            tls,
            public,
            service,
            closing.clone().cancelled_owned(),
        );
        let public = AbortOnDropHandle::new(tokio::spawn(public));
        let admin = admin_listener.map(|listener| {
            let admin = Admin {
                tally: Tally::default(),
                records: records.clone(),
                blocklist: shared.blocklist.clone(),
                logins: shared.logins.clone(),
                read_only: settings
                    .read_only
                    .is_there()
                    .then(|| shared.read_only.clone()),
                console: logs.console({
                    let switch = shared.read_only.clone();
                    move || switch.is_on()
                }),
                prometheus,
                reloader,
                hosts: settings.admin.hosts().map(Box::from).collect(),
                closing: closing.clone(),
            };
            // Operators can look on while the rest drains, but must not hold up the end.
            let stop = closed.clone().cancelled_owned();
            let options = FrontOptions {
                drain_timeout: options.drain_timeout.min(ADMIN_DRAIN),
                ..options
            };
            let router = admin::router(admin);
            tokio::spawn(front::serve(listener, None, options, router, stop))
        });

        stop.await;
        let drain = settings.limits.drain_timeout;
        tracing::info!(running = engine.running(), ?drain, "shutting down");
        closing.cancel();
        let draining = async { tokio::join!(public, engine.shutdown(drain)) };
        let cut = tokio::select! {
            (drained, ended) = draining => {
                let drained = drained.context("the listener broke off")?;
                (!drained.all_finished() || !ended).then_some(drained.cut)
            }
            () = hurry => {
                tracing::warn!("told again to stop: not waiting any longer");
                (engine.running() > 0).then_some(0)
            }
        };
        if let Some(connections) = cut {
            tracing::warn!(
                connections,
                requests = engine.running(),
                "not all requests ended in time; the outcome of those that run is unknown"
            );
        }
        closed.cancel();
        if let Some(admin) = admin {
            let _ = admin.await;
        }
        if let Some(blocklist) = shared.blocklist
            && let Err(error) = blocklist.flush_hits().await
        {
            tracing::warn!(%error, "the last hits of the blocklist are lost");
        }
        // What the last requests left to be written.
        logs.shutdown(LOG_DRAIN).await;
        tokio::task::spawn_blocking(move || records.close())
            .await
            .context("closing the store broke off")??;
        tracing::info!("bye");
        Ok(())
    }

    pub(crate) fn reloader(&self) -> Arc<Reloader> {
        Arc::clone(&self.reloader)
    }
}

/// Opens, serves until SIGTERM or SIGINT, reloads at SIGHUP.
pub(crate) async fn run(sources: Sources, settings: Settings) -> anyhow::Result<()> {
    // Before anything else, so that no signal ends the process half-way.
    let (terminate, interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let hangup = on(SignalKind::hangup())?;
    let gateway = Gateway::open(sources, settings).await?;
    tokio::spawn(reload_on(hangup, gateway.reloader()));

    let settings = &gateway.settings;
    let upstreams: Vec<String> = settings.upstreams.iter().map(ToString::to_string).collect();
    tracing::info!(
        listen = %gateway.address()?,
        tls = settings.tls.is_some(),
        admin = gateway.admin_address().map(tracing::field::display),
        upstream = upstreams.join(" "),
        store = %settings.store.url,
        "onlyonce {} is ready", env!("CARGO_PKG_VERSION")
    );
    let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
    let stopping = stop_on([terminate, interrupt], stop.clone(), hurry.clone());
    let _stopping = AbortOnDropHandle::new(tokio::spawn(stopping));
    gateway
        .serve(stop.cancelled_owned(), hurry.cancelled_owned())
        .await
}

/// The first signal says stop, the second that waiting is over.
pub(crate) async fn stop_on(
    [mut one, mut other]: [Signal; 2],
    stop: CancellationToken,
    hurry: CancellationToken,
) {
    for told in [stop, hurry] {
        tokio::select! {
            _ = one.recv() => {}
            _ = other.recv() => {}
        }
        told.cancel();
    }
}

fn on(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("signals can't be handled")
}

async fn reload_on(mut hangup: Signal, reloader: Arc<Reloader>) {
    while hangup.recv().await.is_some() {
        // It has been logged, whatever came of it.
        let _ = reloader.reload().await;
    }
}

async fn bind(addr: SocketAddr, setting: &str, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::AddrInUse => {
                format!("another program uses the port: stop it, or choose another with {flag}")
            }
            ErrorKind::PermissionDenied => {
                "ports below 1024 need a permission: choose a higher one".to_owned()
            }
            ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
            _ => "choose another address".to_owned(),
        };
        anyhow!(error).context(format!("{setting}: can't listen on {addr}; {remedy}"))
    })
}

async fn keep_up(prometheus: PrometheusHandle) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        prometheus.run_upkeep();
    }
}

fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?;
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    // A second gateway in one process (tests) reports to the first one's recorder.
    if metrics::set_global_recorder(recorder).is_ok() {
        onlyonce::describe_metrics();
        onlyonce_near::describe_metrics();
        onlyonce_sealed::describe_metrics();
        onlyonce_guard::describe_metrics();
        onlyonce_pipeline::describe_metrics();
        admin::describe_metrics();
    }
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::config::Flag;

    /// Longer than anything here takes, unless something hangs.
    const DEADLINE: Duration = Duration::from_secs(20);

    async fn gateway(upstream: SocketAddr) -> Gateway {
        let sources = Sources::none()
            .with_flag(Flag::Upstream, format!("http://{upstream}"))
            .with_flag(Flag::Listen, "127.0.0.1:0")
            .with_flag(Flag::AdminListen, "127.0.0.1:0")
            .with_flag(Flag::Store, "memory:")
            .with_variable("ONLYONCE_LIMITS__DRAIN_TIMEOUT", "1h")
            .with_variable("ONLYONCE_LIMITS__MAX_REQUEST_BODY", "10");
        let (settings, _) = Settings::load(&sources).unwrap();
        Gateway::open(sources, settings).await.unwrap()
    }

    async fn send(address: SocketAddr, fields: &str) -> TcpStream {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nidempotency-key: a\r\n\
             content-length: 0\r\n{fields}\r\n"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        client
    }

    async fn answer(mut client: TcpStream) -> String {
        let mut text = String::new();
        timeout(DEADLINE, client.read_to_string(&mut text))
            .await
            .expect("an answer")
            .unwrap();
        text
    }

    #[tokio::test]
    async fn told_twice_to_stop_it_does_not_wait() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = gateway(upstream.local_addr().unwrap()).await;
        let (address, admin) = (gateway.address().unwrap(), gateway.admin_address().unwrap());
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let serving = tokio::spawn(gateway.serve(
            stop.clone().cancelled_owned(),
            hurry.clone().cancelled_owned(),
        ));
        let _client = send(address, "").await;
        // It is at work, and never answered.
        let _at_work = timeout(DEADLINE, upstream.accept()).await.expect("it");
        // An operator's tool that has stopped in the middle of its request.
        let mut tool = TcpStream::connect(admin).await.unwrap();
        tool.write_all(b"POST /api/keys/find HTTP/1.1\r\nhost: localhost\r\n")
            .await
            .unwrap();
        stop.cancel();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!serving.is_finished());
        hurry.cancel();
        let ended = timeout(DEADLINE, serving).await.expect("the end");
        ended.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_operator_s_tool_does_not_hold_up_the_end() {
        let gateway = gateway(SocketAddr::from(([127, 0, 0, 1], 1))).await;
        let admin = gateway.admin_address().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn(gateway.serve(stopped, std::future::pending()));
        let mut tool = TcpStream::connect(admin).await.unwrap();
        let head = "POST /api/keys/find HTTP/1.1\r\nhost: localhost\r\nonlyonce-admin: 1\r\n\
                    content-type: application/json\r\nexpect: 100-continue\r\n\
                    content-length: 9\r\n\r\n";
        tool.write_all(head.as_bytes()).await.unwrap();
        // The call is under way when its body is asked for.
        timeout(DEADLINE, tool.read_u8())
            .await
            .expect("100")
            .unwrap();
        stop.cancel();
        let ended = timeout(DEADLINE, serving).await.expect("the end");
        ended.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_body_beyond_the_listener_s_limit_is_413_with_a_key_too() {
        let gateway = gateway(SocketAddr::from(([127, 0, 0, 1], 1))).await;
        let address = gateway.address().unwrap();
        let serving = tokio::spawn(gateway.serve(std::future::pending(), std::future::pending()));
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = "POST / HTTP/1.1\r\nhost: a\r\nidempotency-key: a\r\nconnection: close\r\n\
                       transfer-encoding: chunked\r\n\r\n6\r\nabcdef\r\n6\r\nghijkl\r\n0\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        let refused = answer(client).await;
        assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
        assert!(refused.contains("body-too-large"), "{refused}");
        serving.abort();
    }

    #[tokio::test]
    async fn a_refused_expectation_is_not_kept_for_the_key() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = gateway(upstream.local_addr().unwrap()).await;
        let address = gateway.address().unwrap();
        let serving = tokio::spawn(gateway.serve(std::future::pending(), std::future::pending()));
        let refused = answer(send(address, "expect: 200-ok\r\n").await).await;
        assert!(refused.starts_with("HTTP/1.1 417 "), "{refused}");
        let retry = send(address, "").await;
        let (mut connection, _) = timeout(DEADLINE, upstream.accept())
            .await
            .expect("it")
            .unwrap();
        let reply = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n";
        connection.write_all(reply).await.unwrap();
        let retry = answer(retry).await;
        assert!(retry.starts_with("HTTP/1.1 201 "), "{retry}");
        serving.abort();
    }
}
