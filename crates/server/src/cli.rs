//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::client::{QueryOptions, SearchOptions, SqlOptions, TraceOptions};
use crate::config::Layers;

/// Receive traces, keep them safely, find them, look at them.
#[derive(Parser)]
#[command(name = "tracehouse", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Receive, keep and serve traces.
    Serve(ServeOptions),
    /// Send the traces of a simulated shop, with known problems.
    Demo(tracehouse_demo::DemoOptions),
    /// Check, show or describe the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at one trace of a running server.
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Search the traces of a running server.
    Search(SearchOptions),
    /// Run a TraceQL query on a running server: find traces, or compute time series.
    Query(QueryOptions),
    /// Ask a running server with SQL.
    Sql(SqlOptions),
    /// Print the version.
    Version,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Read the configuration and say whether it is right.
    Check(ServeOptions),
    /// Print the effective configuration as YAML, with the source of each value that is not the default.
    Show(ServeOptions),
    /// Print the JSON schema of the configuration file.
    Schema,
}

#[derive(Subcommand)]
pub enum TraceCommand {
    /// Print a trace as a tree, or as JSON.
    Get(TraceOptions),
}

/// Where settings come from. A flag wins over the environment (TRACEHOUSE_LISTEN, TRACEHOUSE_STORE__RETENTION, …), which
/// wins over the file.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeOptions {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE", env = "TRACEHOUSE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The folder that holds everything kept [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where the user interface and the APIs are served [default: 127.0.0.1:3200].
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where OTLP/gRPC is received [default: 127.0.0.1:4317].
    #[arg(long, value_name = "ADDRESS")]
    pub otlp_grpc: Option<SocketAddr>,
    /// Where OTLP/HTTP is received [default: 127.0.0.1:4318].
    #[arg(long, value_name = "ADDRESS")]
    pub otlp_http: Option<SocketAddr>,
}

impl ServeOptions {
    /// The layers of configuration with these flags on top, given the process's environment.
    pub fn layers(&self, environment: Vec<(String, String)>) -> Layers {
        let mut flags = Vec::new();
        let mut flag = |key, name, value: Option<String>| flags.extend(value.map(|value| (key, name, value)));
        flag("data_dir", "--data-dir", self.data_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned()));
        flag("listen", "--listen", self.listen.map(|address| address.to_string()));
        flag("otlp.grpc", "--otlp-grpc", self.otlp_grpc.map(|address| address.to_string()));
        flag("otlp.http", "--otlp-http", self.otlp_http.map(|address| address.to_string()));
        Layers { file: self.config.clone(), environment, flags }
    }
}
