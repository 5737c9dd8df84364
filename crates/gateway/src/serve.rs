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

use crate::admin::{self, Admin};
use crate::config::{Settings, Sources};
use crate::front;
use crate::log;
use crate::records::Records;
use crate::reload::Reloader;
use crate::stack::{Live, stack};
use crate::tls::TlsAcceptor;

/// Buckets of durations, in seconds: from a memory store's to a time-out's.
const BUCKETS: [f64; 14] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

/// A gateway whose listeners are bound and whose store is open.
pub(crate) struct Gateway {
    settings: Settings,
    listener: TcpListener,
    admin_listener: Option<TcpListener>,
    tls: Option<TlsAcceptor>,
    records: Records,
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
        let live = Live::new(&settings)?;
        let listener = bind(settings.listen, "listen", "--listen").await?;
        let admin_listener = match settings.admin.listen {
            Some(addr) => Some(bind(addr, "`listen` of [admin]", "--admin-listen").await?),
            None => None,
        };

        let given = settings.secret.clone();
        let store = settings.store.clone();
        let records = tokio::task::spawn_blocking(move || Records::open(&store, given))
            .await
            .context("opening the store broke off")??;
        let engine = Engine::builder(records.store.clone())
            .secret(records.secret.clone())
            .build();
        let reloader = Arc::new(Reloader {
            sources,
            live,
            tls: tls.clone(),
            level,
            started: settings.clone(),
            turn: Mutex::default(),
        });
        Ok(Self {
            settings,
            listener,
            admin_listener,
            tls,
            records,
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
    pub(crate) async fn serve(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self {
            settings,
            listener,
            admin_listener,
            tls,
            records,
            engine,
            reloader,
            prometheus,
        } = self;
        let closing = CancellationToken::new();
        let closed = CancellationToken::new();

        // Without it, samples of durations pile up as long as nobody scrapes.
        let upkeep = tokio::spawn(keep_up(prometheus.clone()));
        let _upkeep = tokio_util::task::AbortOnDropHandle::new(upkeep);

        let service = stack(&reloader.live, engine.clone());
        let options = settings.limits.front_options();
        let public = front::serve(
            listener,
            tls,
            options.clone(),
            service,
            closing.clone().cancelled_owned(),
        );
        let public = tokio::spawn(public);
        let admin = admin_listener.map(|listener| {
            let admin = Admin {
                records: records.clone(),
                prometheus,
                reloader,
                closing: closing.clone(),
            };
            // Operators can look on while the rest drains.
            let stop = closed.clone().cancelled_owned();
            tokio::spawn(front::serve(
                listener,
                None,
                options,
                admin::router(admin),
                stop,
            ))
        });

        stop.await;
        let drain = settings.limits.drain_timeout;
        tracing::info!(running = engine.running(), ?drain, "shutting down");
        closing.cancel();
        let (drained, ended) = tokio::join!(public, engine.shutdown(drain));
        let drained = drained.context("the listener broke off")?;
        if !drained.all_finished() || !ended {
            tracing::warn!(
                connections = drained.cut,
                requests = engine.running(),
                "not all requests ended in time; the outcome of those that run is unknown"
            );
        }
        closed.cancel();
        if let Some(admin) = admin {
            let _ = admin.await;
        }
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
    gateway.serve(first_of(terminate, interrupt)).await
}

async fn first_of(mut one: Signal, mut other: Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
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
    }
    Ok(handle)
}
