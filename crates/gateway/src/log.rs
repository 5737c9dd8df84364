//! What the gateway says of itself, on standard error.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

use crate::cli::local::colours_wanted;
use crate::config::{LogFormat, LogLevel, LogSettings};

/// Begins to log. The handle changes the level later.
pub(crate) fn start(settings: &LogSettings) -> reload::Handle<LevelFilter, Registry> {
    let (level, handle) = reload::Layer::new(filter(settings.level));
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colours_wanted())
        .with_target(true);
    let lines = match settings.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // A second start in one process (the demo, tests) keeps the first one's.
    let _ = tracing_subscriber::registry()
        .with(level)
        .with(lines)
        .try_init();
    handle
}

pub(crate) fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
