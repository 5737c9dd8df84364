//! From the command line to what it asks for.

use std::io::Write as _;

use anyhow::Context as _;

use crate::access_log::AccessLogs;
use crate::cli::local::{self, Streams, colours_wanted};
use crate::cli::{AdminArgs, AdminError, Cli, Command, Exit, SettingsArgs};
use crate::config::{ConfigErrors, Settings, StoreUrl};
use crate::{block, call, demo, keys, migrate, serve};

/// Carries out a command; says how the process should end.
#[must_use]
pub fn run(cli: Cli) -> Exit {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let mut streams = Streams {
        out: &mut out,
        err: &mut err,
        colours: colours_wanted(),
    };
    match cli.command {
        Command::Serve(args) => match local::load(&args.sources(), &mut streams) {
            Ok(loaded) => finish(block_on(serve::run(args.sources(), loaded.settings))),
            Err(exit) => exit,
        },
        Command::Check(args) => check(&args, &mut streams),
        Command::Demo(args) => finish(block_on(demo::run(&args))),
        Command::PrintConfig(args) => local::print_config(&args, &mut streams),
        Command::Init(args) => local::write_settings(&args, &mut streams),
        Command::Keys(args) => finish(block_on(keys::run(&args))),
        Command::Blocklist(args) => finish(block_on(block::run(&args))),
        Command::Migrate(args) => finish(block_on(migrate::run(&args))),
        Command::Health(args) => finish(block_on(health(&args))),
        Command::Completions(args) => local::completions(&args, &mut streams),
    }
}

/// The settings, and what they point to, as far as that can be told without starting.
fn check(args: &SettingsArgs, streams: &mut Streams<'_>) -> Exit {
    let settings = match local::load(&args.sources(), streams) {
        Ok(loaded) => loaded.settings,
        Err(exit) => return exit,
    };
    let praise = local::praise(&settings);
    let checked = check_files(&settings).and_then(|()| block_on(check_store(settings)));
    if checked.is_ok() {
        local::say(streams.out, &praise);
    }
    finish(checked)
}

async fn check_store(settings: Settings) -> anyhow::Result<()> {
    let records = settings.store.url.clone();
    let mut warnings = crate::records::examine(records, settings.secret).await?;
    if let Some(list) = crate::blocklist::open(&settings.blocklist, &settings.store.url).await? {
        let unreadable = list.unreadable().into_iter();
        warnings.extend(unreadable.map(|one| format!("the blocklist leaves out {}", one.reason)));
    }
    match settings.auth.state() {
        Some(StoreUrl::Redis(_) | StoreUrl::Postgres(_)) => {
            settings.auth.open_state().await?;
        }
        // A running gateway holds it: nothing more can be asked.
        Some(StoreUrl::File(folder)) => {
            crate::folder::examine(folder).context("`state` in [auth]")?;
        }
        Some(StoreUrl::Memory) | None => {}
    }
    AccessLogs::examine(&settings.access_log).await?;
    for warning in warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    Ok(())
}

fn check_files(settings: &Settings) -> anyhow::Result<()> {
    if let Some(tls) = &settings.tls {
        crate::tls::TlsAcceptor::new(&tls.tls_options())?;
    }
    let options = settings.proxy.upstream_options();
    crate::upstream::Upstream::new(settings.upstreams.iter().cloned(), options)?;
    Ok(())
}

async fn health(args: &AdminArgs) -> anyhow::Result<()> {
    let admin = call::AdminClient::new(args.url()?)?;
    let answer = admin.get("/readyz").await?;
    let _ = writeln!(
        std::io::stdout(),
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    anyhow::ensure!(answer.status.is_success(), "the gateway is not ready");
    Ok(())
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(work);
    // All that matters has ended: a look-up of a name that hangs must not hold up the process.
    runtime.shutdown_background();
    result
}

fn finish(result: anyhow::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Success,
        Err(error) if error.is::<AdminError>() || error.is::<ConfigErrors>() => {
            // Settings say "error" themselves, once for each fault.
            let _ = writeln!(std::io::stderr(), "{}", prefixed(&error));
            Exit::Usage
        }
        Err(error) => {
            // The whole chain: what was tried, and why it failed.
            let _ = writeln!(std::io::stderr(), "error: {}", chain(&error));
            Exit::Failure
        }
    }
}

/// What was tried, and why it failed; what an outer error has said already is not said again.
fn chain(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = cause;
        } else if !said.ends_with(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

fn prefixed(error: &anyhow::Error) -> String {
    let text = error.to_string();
    if text.starts_with("error") {
        text
    } else {
        format!("error: {text}")
    }
}
