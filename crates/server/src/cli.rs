//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::client::{QueryOptions, SearchOptions, ServerAddress, SqlOptions, TailOptions, TraceOptions};
use crate::config::Layers;

/// Receive, store, find and show traces.
#[derive(Parser)]
#[command(name = "tracehouse", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the server: receive, store and serve traces.
    Serve(ServeOptions),
    /// Send traces of a simulated shop with known problems.
    Demo(tracehouse_demo::DemoOptions),
    /// Check, show or describe the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show one trace of a running server.
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Search the traces of a running server.
    Search(SearchOptions),
    /// Print traces of a running server as they come.
    Tail(TailOptions),
    /// Run a TraceQL query on a running server: find traces, or compute time series.
    Query(QueryOptions),
    /// Run a SQL statement on a running server.
    Sql(SqlOptions),
    /// Check and repair the store of a stopped server.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print the version.
    Version,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration.
    Check(ServeOptions),
    /// Print the effective configuration as YAML, with the source of each value that is not a default.
    Show(ServeOptions),
    /// Print the JSON schema of the configuration file.
    Schema,
}

#[derive(Subcommand)]
pub enum TraceCommand {
    /// Print a trace as a tree, or as JSON.
    Get(TraceOptions),
}

#[derive(Subcommand)]
pub enum StoreCommand {
    /// Read all stored files, the catalogue and the write-ahead log, and report damage. Changes nothing.
    Check(CheckOptions),
    /// Make the catalogue and the files agree again: adopt files that the catalogue does not know, restore the names of
    /// files, take back files that can be read again. Deletes nothing.
    Repair(RepairOptions),
    /// Confirm that the machine's clock is right although the store's own time differs.
    TrustClock(TrustClockOptions),
}

/// Which store.
#[derive(Args, Clone, Debug, Default)]
pub struct StoreOptions {
    /// The configuration file (YAML), for its data_dir.
    #[arg(long, value_name = "FILE", env = "TRACEHOUSE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The folder for all data [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl StoreOptions {
    /// These as options of a server.
    pub fn serve_options(&self) -> ServeOptions {
        ServeOptions { config: self.config.clone(), data_dir: self.data_dir.clone(), ..ServeOptions::default() }
    }
}

#[derive(Args, Clone, Debug)]
pub struct CheckOptions {
    #[command(flatten)]
    pub store: StoreOptions,
    /// Read only the footer of each file.
    #[arg(long)]
    pub quick: bool,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct RepairOptions {
    #[command(flatten)]
    pub store: StoreOptions,
    /// Say what would be done, without doing it.
    #[arg(long)]
    pub dry_run: bool,
    /// Remove missing files from the catalogue: they are gone for good.
    #[arg(long)]
    pub forget_missing: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct TrustClockOptions {
    #[command(flatten)]
    pub store: StoreOptions,
    /// The address of a running server to confirm it to, instead of the store of a stopped one.
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "data_dir"])]
    pub url: Option<String>,
    /// For https://: a PEM file with the certificates of the authorities to trust [default: those of this machine].
    #[arg(long, value_name = "FILE", env = "TRACEHOUSE_CA_FILE")]
    pub ca_file: Option<PathBuf>,
}

impl TrustClockOptions {
    /// The running server to tell.
    pub fn server(&self) -> Option<ServerAddress> {
        self.url.clone().map(|url| ServerAddress { url, ca_file: self.ca_file.clone() })
    }
}

/// Where settings come from. A flag wins over the environment (TRACEHOUSE_LISTEN, TRACEHOUSE_STORE__RETENTION, …), which
/// wins over the file.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeOptions {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE", env = "TRACEHOUSE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The folder for all data [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the user interface and the APIs [default: 127.0.0.1:3200].
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Address of OTLP/gRPC [default: 127.0.0.1:4317].
    #[arg(long, value_name = "ADDRESS")]
    pub otlp_grpc: Option<SocketAddr>,
    /// Address of OTLP/HTTP [default: 127.0.0.1:4318].
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
