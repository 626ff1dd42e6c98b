//! Measures Tracehouse from outside, against what a plain program needs for the same spans.
//!
//! `tracehouse-bench` starts the real server, sends it realistic spans over OTLP/gRPC from this process, and reads the
//! server's CPU time, memory, and disk from the operating system; see [`rows`] for the table it prints. `load` and
//! `yardstick` run those two parts alone. The data come from [`data`], the sender is [`send`], and [`yardstick`] is the
//! measure that the bars are multiples of. Nothing here links to Tracehouse: it knows the product by its ports only.

// This is a tool that measures real time and whose output is its purpose.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)]

mod data;
mod load;
mod measure;
mod send;
mod yardstick;

use clap::{Parser, Subcommand};

/// The allocator of the server, so that neither side of a comparison has the better one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
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
    match Arguments::parse().command {
        Command::Load(arguments) => load::load(&arguments).await,
        Command::Yardstick(arguments) => load::yardstick(&arguments),
    }
}
