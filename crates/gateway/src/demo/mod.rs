//! `onlyonce demo`: a retried charge happens once, before your eyes.

mod payments;

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::cli::DemoArgs;
use crate::config::{Flag, Settings, Sources};
use crate::front::{self, FrontOptions};
use crate::serve::{Gateway, stop_on};
use crate::upstream::{HostRule, Upstream, UpstreamBody, UpstreamOptions};

/// Starts a sample payments API and a gateway before it, sends a charge and its retry, and runs
/// until it is interrupted.
pub(crate) async fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let interrupt = signal(SignalKind::interrupt()).context("signals can't be handled")?;
    let terminate = signal(SignalKind::terminate()).context("signals can't be handled")?;

    let api = TcpListener::bind(("127.0.0.1", 0))
        .await
        .context("the sample API")?;
    let api_address = api.local_addr()?;
    let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
    let _stop_at_the_end = stop.clone().drop_guard();
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(front::serve(
        api,
        None,
        FrontOptions::default(),
        payments::router(),
        stopped,
    ));

    // Dropped last: the folder goes when the gateway has closed its store.
    let folder = tempfile::tempdir().context("no temporary folder for the records")?;
    let store = args
        .store
        .clone()
        .unwrap_or_else(|| format!("file:{}", folder.path().join("records").display()));
    let sources = Sources::none()
        .with_flag(Flag::Upstream, format!("http://{api_address}"))
        .with_flag(
            Flag::Listen,
            own_or_free(args.listen.as_deref(), 8080).await,
        )
        .with_flag(
            Flag::AdminListen,
            own_or_free(args.admin_listen.as_deref(), 9090).await,
        )
        .with_flag(Flag::Store, store)
        .with_flag(Flag::LogLevel, "warn")
        // So that of a concurrent pair the second waits for the first one's answer.
        .with_variable("ONLYONCE_IDEMPOTENCY__CONCURRENT", "wait")
        .with_variable("ONLYONCE_IDEMPOTENCY__ANONYMOUS", "share");
    let (settings, _) = Settings::load(&sources)?;
    let store = settings.store.url.to_string();
    let gateway = Gateway::open(sources, settings).await?;
    let (address, admin) = (gateway.address()?, gateway.admin_address());
    let serving = tokio::spawn(gateway.serve(
        stop.clone().cancelled_owned(),
        hurry.clone().cancelled_owned(),
    ));

    say(&format!(
        "A sample payments API runs on http://{api_address},\n\
         and the gateway before it on http://{address} (records in {store}).\n\n"
    ));
    show(address).await?;
    say(&go_on(address, admin));

    let stopping = stop_on([interrupt, terminate], stop.clone(), hurry);
    let _stopping = AbortOnDropHandle::new(tokio::spawn(stopping));
    stop.cancelled().await;
    say("\nShutting down.\n");
    serving.await.context("the gateway broke off")?
}

/// Sends a charge and its retry, and prints what came of them.
async fn show(address: SocketAddr) -> anyhow::Result<()> {
    let gateway = Upstream::new(
        [format!("http://{address}").parse()?],
        UpstreamOptions::default(),
    )?;
    for title in [
        "A charge, with the key demo-1:",
        "The same request again, as a retry:",
    ] {
        let mut request = Request::post("/charges")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(
                br#"{"amount":4200,"currency":"EUR"}"#,
            )))?;
        request
            .headers_mut()
            .insert("idempotency-key", HeaderValue::from_static("demo-1"));
        let response = gateway.send(request, HostRule::Upstream, false).await?;
        say(&format!("{title}\n{}\n", text(response).await?));
    }
    let request = Request::get("/charges").body(Full::new(Bytes::new()))?;
    let response = gateway.send(request, HostRule::Upstream, false).await?;
    let body = response.into_body().collect().await?.to_bytes();
    let count = serde_json::from_slice::<serde_json::Value>(&body)?["count"].clone();
    say(&format!(
        "Two requests were sent. Charges made: {count}\n\n"
    ));
    Ok(())
}

/// A response for the eye: what matters of its head, and its body.
async fn text(response: Response<UpstreamBody>) -> anyhow::Result<String> {
    let (head, body) = response.into_parts();
    let replayed = head.headers.get("idempotent-replayed");
    let mark = if replayed.is_some() {
        "    Idempotent-Replayed: true\n"
    } else {
        ""
    };
    let body = body.collect().await?.to_bytes();
    Ok(format!(
        "    HTTP {}\n{mark}    {}\n",
        head.status,
        String::from_utf8_lossy(&body)
    ))
}

fn go_on(address: SocketAddr, admin: Option<SocketAddr>) -> String {
    let url = format!("http://{address}");
    let json = "-H 'Content-Type: application/json'";
    let mut text = format!(
        "Go on in another terminal:\n\n\
         # a concurrent pair: one charge, two equal answers\n\
         curl -s '{url}/charges?delay=1' {json} -H 'Idempotency-Key: pair' -d '{{\"amount\":100}}' & \
         curl -s '{url}/charges?delay=1' {json} -H 'Idempotency-Key: pair' -d '{{\"amount\":100}}'; \
         wait\n\n\
         # the same key for another amount: refused, 422\n\
         curl -si {url}/charges {json} -H 'Idempotency-Key: demo-1' -d '{{\"amount\":9999}}'\n\n\
         # a client that hangs up after half a second, and its retry: charged once\n\
         curl -sm 0.5 '{url}/charges?delay=2' {json} -H 'Idempotency-Key: hang-up' \
         -d '{{\"amount\":7}}'; \
         curl -si '{url}/charges?delay=2' {json} -H 'Idempotency-Key: hang-up' -d '{{\"amount\":7}}'\n\n\
         # the charges that were made\n\
         curl -s {url}/charges\n\n"
    );
    if let Some(admin) = admin {
        text.push_str(&format!(
            "# what the gateway knows of its keys, and its metrics\n\
             curl -s http://{admin}/api/keys; curl -s http://{admin}/metrics\n\n"
        ));
    }
    text.push_str("Ctrl-C ends it.\n");
    text
}

/// The address that was asked for; else the usual port, or any other when that is taken.
async fn own_or_free(asked: Option<&str>, usual: u16) -> String {
    if let Some(asked) = asked {
        return asked.to_owned();
    }
    match TcpListener::bind(("127.0.0.1", usual)).await {
        Ok(_) => format!("127.0.0.1:{usual}"),
        Err(_) => "127.0.0.1:0".to_owned(),
    }
}

fn say(text: &str) {
    // Whoever reads may have had enough, which is no fault.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}
