//! Measures Tracehouse from outside, against what a plain program needs for the same spans.
//!
//! `tracehouse-bench` starts the real server, sends it realistic spans over OTLP/gRPC from this process, and reads the
//! server's CPU time, memory, and disk from the operating system; see [`rows`] for the table it prints. `load` and
//! `yardstick` run those two parts alone. The data come from [`data`], the sender is [`send`], and [`yardstick`] is the
//! measure that the bars are multiples of. Nothing here links to Tracehouse: it must know the product by its ports
//! only. Tests are beside the code, in `data` and `yardstick`.

// This is a tool that measures real time and whose output is its purpose.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)]

mod data;
mod http;
mod load;
mod measure;
mod progress;
mod report;
mod rows;
mod send;
mod server;
mod yardstick;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// The allocator of the server, so that neither side of a comparison has the better one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: rows::RunArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Send spans to a running server and print what came back.
    Load(load::LoadArguments),
    /// Measure the yardstick alone.
    Yardstick(load::YardstickArguments),
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Load(arguments)) => load::load(&arguments).await,
        Some(Command::Yardstick(arguments)) => load::yardstick(&arguments),
        None => run(&arguments.run).await,
    }
}

/// A missed bar is a result, not a failure; a row that could not be measured is one.
async fn run(arguments: &rows::RunArguments) -> anyhow::Result<()> {
    let report = rows::run(arguments).await;
    print!("{}", report.table());
    if let Some(path) = &arguments.json {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("write {}", path.display()))?;
    }
    anyhow::ensure!(report.errors.is_empty(), "{} groups of rows could not be measured", report.errors.len());
    Ok(())
}
