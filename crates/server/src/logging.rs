//! What the process writes about itself, to standard error.

use std::backtrace::Backtrace;
use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Logging};

/// Installs the logger of this process and lets panics be logged.
pub(crate) fn install(log: &Logging) -> anyhow::Result<()> {
    let filter = filter(&log.level.0).with_context(|| format!("log.level: {:?}", log.level.0))?;
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

/// What libraries say of single connections is said as often as peers like: it would fill a disk. `listen` counts them.
const OF_CONNECTIONS: &str = "h2=off,hyper=off,hyper_util=off,tonic=off,tower=off,tower_http=off";

/// A level may ask for what libraries say by the name of a library, such as `info,h2=debug`.
fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(format!("{OF_CONNECTIONS},{level}"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Once, each connection that reset its streams had a line of its own.
    #[test]
    fn what_a_peer_does_is_not_logged_by_libraries_unless_asked_for() {
        for (level, of_h2, of_ours) in [("info", 0, 1), ("debug", 0, 1), ("info,h2=warn", 1, 1), ("error", 0, 0)] {
            let lines = Lines::default();
            let writer = lines.clone();
            let log = tracing_subscriber::fmt()
                .with_env_filter(filter(level).expect("a level"))
                .with_writer(move || writer.clone());
            tracing::subscriber::with_default(log.finish(), || {
                tracing::warn!(target: "h2::proto::streams::recv", "of h2");
                tracing::warn!(target: "tracehouse_listen::port", "of ours");
            });
            let written = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("a text");
            let count = |what: &str| written.matches(what).count();
            assert_eq!((count("of h2"), count("of ours")), (of_h2, of_ours), "{level}: {written}");
        }
    }
}
