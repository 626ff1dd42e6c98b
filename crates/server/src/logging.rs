//! What the process writes about itself, to standard error.

use std::backtrace::Backtrace;
use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Installs the logger of this process and lets panics be logged.
pub(crate) fn install(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level.0).with_context(|| format!("log.level: {:?}", log.level.0))?;
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
    match log.format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .context("installing the logger failed")?;
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        tracing::error!(%location, %thread, backtrace = %Backtrace::capture(), "panic: {message}");
    }));
    Ok(())
}
