//! The binary `tracehouse`: command line, configuration, roles, and the client commands.
//!
//! Entry point: [`run`], called by `main`. `serve` loads a [`config::Config`], then starts the roles of one table
//! (`roles.rs`) in their order on one `Node` (`node.rs`), waits for a signal and stops them in reverse. The commands
//! `trace` and `search` are small clients of the native HTTP API (`client.rs`); `demo` is the crate of that name; `store`
//! looks after a store that does not run (`store_command.rs`).
//!
//! Invariants: all settings come through [`config::load`]; receivers, queries and the store's background work each have
//! threads of their own, so that none starves another; a span is acknowledged only after the store has taken it
//! (`sink.rs`); a stop ends within a bound.
//!
//! This is the only crate that knows all others, reads the environment and installs process-wide things (allocator,
//! logger, metrics recorder, panic hook, the rights of what is made on disk). No other crate may depend on it, and it must
//! never know how spans are encoded or stored.
//!
//! Tests: `tests/it` for the configuration and the table of roles; the whole program is tested from outside, in `tests/`
//! of the repository.

pub mod cli;
pub mod client;
pub mod config;
mod data_dir;
mod front;
mod logging;
mod node;
mod plain;
mod process_metrics;
pub mod roles;
mod serve;
mod sink;
mod store_command;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use cli::{Cli, Command, ConfigCommand, TraceCommand};

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// The command worked and found nothing.
    NotFound,
    /// The command worked and found something wrong.
    Faults,
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let command = Cli::parse().command;
    match execute(command) {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::NotFound | Ending::Faults) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done if standard error is closed.
            let _ = writeln!(io::stderr(), "tracehouse: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn execute(command: Command) -> anyhow::Result<Ending> {
    match command {
        Command::Serve(options) => serve::serve(&options).map(|()| Ending::Done),
        Command::Demo(options) => demo(options).map(|()| Ending::Done),
        Command::Config(command) => config_command(&command).map(|()| Ending::Done),
        Command::Trace(TraceCommand::Get(options)) => client::get_trace(&options),
        Command::Search(options) => client::search(&options),
        Command::Tail(options) => client::tail(&options),
        Command::Query(options) => client::query(&options),
        Command::Sql(options) => client::sql(&options),
        Command::Store(command) => store_command::run(&command),
        Command::Version => {
            writeln!(io::stdout(), "tracehouse {}", env!("CARGO_PKG_VERSION"))?;
            Ok(Ending::Done)
        }
    }
}

fn config_command(command: &ConfigCommand) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match command {
        ConfigCommand::Check(options) => {
            let loaded = config::load(&options.layers(environment()))?;
            for warning in &loaded.warnings {
                writeln!(stdout, "warning: {warning}")?;
            }
            let (set, plural) = (loaded.sources.len(), if loaded.sources.len() == 1 { "" } else { "s" });
            writeln!(stdout, "the configuration is valid; {set} key{plural} set, the rest are defaults")?;
        }
        ConfigCommand::Show(options) => {
            let loaded = config::load(&options.layers(environment()))?;
            stdout.write_all(config::show(&loaded).as_bytes())?;
        }
        ConfigCommand::Schema => {
            serde_json::to_writer_pretty(&mut stdout, &config::schema())?;
            writeln!(stdout)?;
        }
    }
    Ok(())
}

fn demo(options: tracehouse_demo::DemoOptions) -> anyhow::Result<()> {
    logging::install(&config::Logging::default())?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting threads failed")?;
    let summary = runtime.block_on(tracehouse_demo::run(options, async {
        if let Err(error) = serve::stop_asked().await {
            tracing::error!(%error, "signals can't be received");
            std::future::pending::<()>().await;
        }
    }))?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&summary)?)?;
    Ok(())
}

/// All environment variables that are text.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Whether standard output was closed by a reader who had enough (`| head`).
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}
