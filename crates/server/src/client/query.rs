use std::io::{self, IsTerminal, Write};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracehouse_model::{Clock, SystemClock};

use super::series::{self, Unit};
use super::text::Style;
use super::{ServerOptions, ask, chart, print_json, search_table, series_table};
use crate::Ending;
use crate::config::Period;

/// Runs a TraceQL query: one that selects spans searches traces, one that ends in a metrics function computes time series.
#[derive(Args, Clone, Debug)]
pub struct QueryOptions {
    /// Such as '{ status = error }' or '{ } | rate() by (resource.service.name)'.
    #[arg(value_name = "TRACEQL")]
    pub query: String,
    /// Only spans that end (for time series: start) after this time: RFC 3339 or Unix seconds.
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// Only spans that start before this time.
    #[arg(long, value_name = "TIME")]
    pub end: Option<String>,
    /// Start this long ago, such as 15m.
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["start", "end"])]
    pub since: Option<Period>,
    /// Step of time series, such as 15s [default: one that suits the time range].
    #[arg(long, value_name = "DURATION")]
    pub step: Option<String>,
    /// Maximum traces (newest first) or series (highest first).
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub limit: usize,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Show how the query would run, without running it.
    #[arg(long)]
    pub explain: bool,
    #[command(flatten)]
    pub server: ServerOptions,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// A table.
    Table,
    /// The server's JSON response.
    Json,
    /// A chart of time series in the terminal.
    Chart,
}

/// What the server says of a query before it runs.
#[derive(Deserialize)]
struct Check {
    kind: Option<Kind>,
    #[serde(default)]
    printed: String,
    error: Option<CheckError>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Spans,
    Metrics,
}

#[derive(Deserialize)]
struct CheckError {
    rendered: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    plan: Vec<String>,
    files_total: u64,
    files_to_read: u64,
    spans_in_memory: u64,
    spans_in_files: u64,
}

/// Runs the query and prints what it gives.
pub fn query(options: &QueryOptions) -> anyhow::Result<Ending> {
    let check: Check = parsed(&get(options, "/api/v1/query/check", &[("q", &options.query)])?)?;
    if let Some(error) = check.error {
        bail!("the query is invalid\n{}", error.rendered.trim_end());
    }
    let kind = check.kind.context("the server does not say what the query is")?;
    if options.explain {
        return explain(options);
    }
    match kind {
        Kind::Spans => spans(options),
        Kind::Metrics => metrics(options, Unit::of(&check.printed)),
    }
}

fn spans(options: &QueryOptions) -> anyhow::Result<Ending> {
    if options.output == Output::Chart {
        bail!("a query that selects spans has no chart; end it with a metrics function such as `| rate()`");
    }
    if options.step.is_some() {
        bail!("a query that selects spans has no steps; omit --step");
    }
    let (start, limit) = (start(options), options.limit.to_string());
    let mut parameters = vec![("q", options.query.as_str()), ("limit", &limit), ("targets", "true")];
    parameters.extend(range(options, start.as_deref()));
    let body = get(options, "/api/v1/search", &parameters)?;
    let answer: search_table::Answer = parsed(&body)?;
    printed(options, &body, |mut out, style| search_table::print(&mut out, &answer, style))?;
    Ok(if answer.traces.is_empty() { Ending::NotFound } else { Ending::Done })
}

fn metrics(options: &QueryOptions, unit: Unit) -> anyhow::Result<Ending> {
    let start = start(options);
    let mut parameters = vec![("q", options.query.as_str())];
    parameters.extend(range(options, start.as_deref()));
    parameters.extend(options.step.as_deref().map(|step| ("step", step)));
    let body = get(options, "/api/v1/metrics", &parameters)?;
    let mut answer: series::Answer = parsed(&body)?;
    answer.sort_by_height();
    printed(options, &body, |out, style| match options.output {
        Output::Chart => chart::print(out, &answer, unit, options.limit, style),
        _ => series_table::print(out, &answer, unit, options.limit, style),
    })?;
    Ok(if answer.series.is_empty() { Ending::NotFound } else { Ending::Done })
}

fn explain(options: &QueryOptions) -> anyhow::Result<Ending> {
    let start = start(options);
    let mut parameters = vec![("q", options.query.as_str())];
    parameters.extend(range(options, start.as_deref()));
    let body = get(options, "/api/v1/query/explain", &parameters)?;
    let explanation: Explanation = parsed(&body)?;
    printed(options, &body, |out, _| {
        for line in &explanation.plan {
            writeln!(out, "{line}")?;
        }
        let Explanation { files_total, files_to_read, spans_in_memory, spans_in_files, .. } = explanation;
        writeln!(out)?;
        writeln!(out, "reads {files_to_read} of {files_total} files with {spans_in_files} spans")?;
        writeln!(out, "and {spans_in_memory} spans in memory")
    })?;
    Ok(Ending::Done)
}

/// The begin of the range, in nanoseconds if it is counted back from now.
fn start(options: &QueryOptions) -> Option<String> {
    let Some(Period(since)) = options.since else {
        return options.start.clone();
    };
    let since_nanos = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    Some(SystemClock::default().now_unix_nanos().saturating_sub(since_nanos).to_string())
}

fn range<'a>(options: &'a QueryOptions, start: Option<&'a str>) -> impl Iterator<Item = (&'static str, &'a str)> {
    let end = options.end.as_deref().map(|end| ("end", end));
    start.map(|start| ("start", start)).into_iter().chain(end)
}

fn get(options: &QueryOptions, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
    ask(&options.server, path, parameters)?
        .with_context(|| format!("the server has no {path}; is it Tracehouse, and of this version?"))
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).context("the server's response can't be read; is the server of another version?")
}

fn printed(
    options: &QueryOptions,
    body: &[u8],
    print: impl FnOnce(&mut dyn Write, &Style) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    if options.server.json || options.output == Output::Json {
        print_json(&mut stdout, body)?;
    } else {
        print(&mut stdout, &Style::of_terminal(io::stdout().is_terminal()))?;
    }
    stdout.flush()?;
    Ok(())
}
