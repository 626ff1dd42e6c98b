//! The client commands: `trace get`, `search`, `tail`, `query` and `sql`, over the native HTTP API of a running server.

mod chart;
mod columns;
mod failure;
mod http;
mod query;
mod search_table;
mod series;
mod series_table;
mod sql_table;
mod tail;
mod text;
mod trace_tree;
mod trust;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::Ending;
use http::ApiClient;
use text::Style;

pub use query::{QueryOptions, query};
pub use tail::{TailOptions, tail};

/// Which server to ask, and how to print.
#[derive(Args, Clone, Debug)]
pub struct ServerOptions {
    #[command(flatten)]
    pub address: ServerAddress,
    /// The tenant to query, or several as `a|b`.
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Print the server's JSON response; `tail`, each trace in a line.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ServerAddress {
    /// The server's address: http:// or https://.
    #[arg(long, value_name = "URL", env = "TRACEHOUSE_URL", default_value = "http://127.0.0.1:3200")]
    pub url: String,
    /// For https://: a PEM file with the certificates of the authorities to trust [default: those of this machine].
    #[arg(long, value_name = "FILE", env = "TRACEHOUSE_CA_FILE")]
    pub ca_file: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct TraceOptions {
    /// The trace's id: 32 hexadecimal digits.
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub server: ServerOptions,
}

/// A trace is found if one span satisfies all conditions.
#[derive(Args, Clone, Debug)]
pub struct Conditions {
    /// The span's service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// The span's name.
    #[arg(long, value_name = "NAME")]
    pub operation: Option<String>,
    /// The span's status: error, ok or unset.
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// The span's kind: server, client, internal, producer or consumer.
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Minimum duration of the span, such as 200ms.
    #[arg(long, value_name = "DURATION")]
    pub min_duration: Option<String>,
    /// Maximum duration of the span.
    #[arg(long, value_name = "DURATION")]
    pub max_duration: Option<String>,
    /// A condition on an attribute: key=value; also != > >= < <= =~ !~. May be repeated.
    #[arg(long = "attr", value_name = "CONDITION")]
    pub attributes: Vec<String>,
    /// A TraceQL query, such as '{ resource.service.name = "cart" && duration > 200ms }'.
    #[arg(long, value_name = "TRACEQL")]
    pub query: Option<String>,
}

/// A trace is found if one span satisfies all conditions.
#[derive(Args, Clone, Debug)]
pub struct SearchOptions {
    #[command(flatten)]
    pub conditions: Conditions,
    /// Only spans that end after this time: RFC 3339 or Unix seconds.
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// Only spans that start before this time.
    #[arg(long, value_name = "TIME")]
    pub end: Option<String>,
    /// Which come first: start, root, duration, spans or errors; with - before it the other way round. Newest first if absent.
    #[arg(long, value_name = "ORDER", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// Maximum traces.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub limit: u32,
    #[command(flatten)]
    pub server: ServerOptions,
}

/// The tables and functions are described in docs/sql.md.
#[derive(Args, Clone, Debug)]
pub struct SqlOptions {
    /// The statement, such as "SELECT service_name, count(*) FROM spans GROUP BY 1".
    #[arg(value_name = "STATEMENT")]
    pub query: String,
    /// How to print the rows.
    #[arg(long, value_enum, default_value = "table", conflicts_with = "json")]
    pub output: SqlOutput,
    /// Maximum rows.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub limit: u32,
    #[command(flatten)]
    pub server: ServerOptions,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlOutput {
    Table,
    /// The server's JSON response.
    Json,
    /// With a header line; nulls are empty.
    Csv,
}

impl Conditions {
    fn parameters(&self) -> Vec<(&str, &str)> {
        let single = [
            ("service", &self.service),
            ("operation", &self.operation),
            ("status", &self.status),
            ("kind", &self.kind),
            ("minDuration", &self.min_duration),
            ("maxDuration", &self.max_duration),
            ("q", &self.query),
        ];
        let single = single.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        single.chain(self.attributes.iter().map(|condition| ("attr", condition.as_str()))).collect()
    }
}

/// Fetches a trace and prints it.
pub fn get_trace(options: &TraceOptions) -> anyhow::Result<Ending> {
    let id = options.id.trim().to_lowercase();
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        anyhow::bail!("{:?} is not a trace id: 32 hexadecimal digits", options.id);
    }
    let client = ApiClient::new(&options.server.address, options.server.tenant.as_deref())?;
    let answer = client.get_or_why(&format!("/api/v1/traces/{id}"), &[("targets", "true")])?;
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let body = match answer {
        Ok(body) => body,
        Err(why) => {
            let why = if why.is_empty() { format!("no trace {id}") } else { why };
            writeln!(io::stderr(), "{why}")?;
            return Ok(Ending::NotFound);
        }
    };
    if options.server.json {
        print_json(&mut stdout, &body)?;
    } else {
        let trace = serde_json::from_slice(&body).context("the server's response is not a trace")?;
        trace_tree::print(&mut stdout, &trace, &Style::of_terminal(io::stdout().is_terminal()))?;
    }
    stdout.flush()?;
    Ok(Ending::Done)
}

/// Searches and prints what was found.
pub fn search(options: &SearchOptions) -> anyhow::Result<Ending> {
    let mut parameters = options.conditions.parameters();
    let limit = options.limit.to_string();
    let single = [("start", &options.start), ("end", &options.end), ("sort", &options.sort)];
    parameters.extend(single.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
    parameters.extend([("limit", &*limit), ("targets", "true")]);
    let body =
        ask(&options.server, "/api/v1/search", &parameters)?.context("the server has no search; is it Tracehouse?")?;
    let answer: search_table::Answer =
        serde_json::from_slice(&body).context("the server's response is not a search result")?;
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    if options.server.json {
        print_json(&mut stdout, &body)?;
    } else {
        search_table::print(&mut stdout, &answer, &Style::of_terminal(io::stdout().is_terminal()))?;
    }
    stdout.flush()?;
    Ok(if answer.traces.is_empty() { Ending::NotFound } else { Ending::Done })
}

/// Runs a SQL statement and prints its rows. What an answer lacks is said on standard error.
pub fn sql(options: &SqlOptions) -> anyhow::Result<Ending> {
    let question = serde_json::json!({ "query": options.query, "limit": options.limit });
    let client = ApiClient::new(&options.server.address, options.server.tenant.as_deref())?;
    let body = client
        .post("/api/v1/sql", question.to_string().as_bytes())?
        .context("the server has no SQL; is it Tracehouse, and of this version?")?;
    let answer: sql_table::Answer =
        serde_json::from_slice(&body).context("the server's response is not a SQL result")?;
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    match options.output {
        _ if options.server.json => print_json(&mut stdout, &body)?,
        SqlOutput::Json => print_json(&mut stdout, &body)?,
        SqlOutput::Csv => sql_table::print_csv(&mut stdout, &answer)?,
        SqlOutput::Table => {
            sql_table::print(&mut stdout, &answer, &Style::of_terminal(io::stdout().is_terminal()))?;
        }
    }
    stdout.flush()?;
    if let Some(reason) = &answer.partial_reason {
        writeln!(io::stderr(), "not complete: {reason}")?;
    }
    Ok(Ending::Done)
}

/// Has a running server trust its machine's clock; returns what is still wrong with its store.
pub fn trust_clock(server: &ServerAddress) -> anyhow::Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Answer {
        troubles: Vec<String>,
    }
    let client = ApiClient::new(server, None)?;
    let body = client
        .post("/api/v1/admin/trust-clock", b"{}")?
        .context("the server has no such task; is it Tracehouse, and of this version?")?;
    let answer: Answer = serde_json::from_slice(&body).context("the server's response is not that of the task")?;
    Ok(answer.troubles)
}

/// The body of a successful answer; `None` for 404.
fn ask(server: &ServerOptions, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Option<Vec<u8>>> {
    ApiClient::new(&server.address, server.tenant.as_deref())?.get(path, parameters)
}

fn print_json(out: &mut impl Write, body: &[u8]) -> io::Result<()> {
    out.write_all(body)?;
    if body.ends_with(b"\n") { Ok(()) } else { out.write_all(b"\n") }
}
