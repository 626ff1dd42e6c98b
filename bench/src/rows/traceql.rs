//! TraceQL over the stored spans of the query rows, and the same questions asked of DuckDB over the same files.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::data::Stream;
use crate::http::escape;
use crate::measure::Latencies;
use crate::report::Row;
use crate::server::Server;

/// How often each question is asked; the first times are not counted.
const RUNS: usize = 9;
const WARM_UP_RUNS: usize = 2;
/// Of the time series.
const STEP: &str = "60s";
const STEP_S: f64 = 60.0;
/// Ours may take so many times what DuckDB takes.
const DUCKDB_BAR: f64 = 1.1;
/// No span has this value, though files have smaller and larger ones.
const ABSENT_USER: &str = "u-1500000-";

/// One row: a question, how it is asked and how long it may take.
struct Question {
    row: &'static str,
    traceql: String,
    is_metrics: bool,
    bar_s: f64,
}

fn questions() -> [Question; 8] {
    let question =
        |row, traceql: &str, is_metrics, bar_s| Question { row, traceql: traceql.to_owned(), is_metrics, bar_s };
    [
        question(
            "TraceQL: rate of errors by service",
            "{ status = error } | rate() by (resource.service.name)",
            true,
            0.25,
        ),
        question(
            "TraceQL: two attributes, newest 20",
            r#"{ span.http.response.status_code = 404 && resource.service.name = "cart" }"#,
            false,
            0.03,
        ),
        question(
            "TraceQL: an attribute value that nobody has",
            &format!(r#"{{ span.enduser.id = "{ABSENT_USER}" }}"#),
            false,
            0.6,
        ),
        question(
            "TraceQL: descendants, newest 20",
            r#"{ resource.service.name = "gateway" } >> { span.db.system.name = "postgresql" && duration > 50ms }"#,
            false,
            0.5,
        ),
        question(
            "TraceQL: three quantiles by name",
            "{ } | quantile_over_time(duration, .5, .95, .99) by (name)",
            true,
            0.8,
        ),
        question("TraceQL: compare errors with the rest", "{ } | compare({ status = error })", true, 3.0),
        question("TraceQL: all spans by service", "{ } | count_over_time() by (resource.service.name)", true, 0.3),
        question(
            "TraceQL: rate of descendants",
            r#"{ resource.service.name = "gateway" } >> { span.db.system.name = "postgresql" } | rate()"#,
            true,
            1.5,
        ),
    ]
}

/// Asks everything of the server, and what SQL can say of DuckDB.
pub(super) async fn measure(server: &Server, stream: &Stream, rounds: u64, python: &Path) -> anyhow::Result<Vec<Row>> {
    let store = &server.store_directory();
    let range = stream.begin_ns..stream.begin_ns + rounds * stream.dataset.length_ns;
    let mut rows = Vec::new();
    let mut answers = Vec::new();
    for question in questions() {
        let path = path(&question, &range);
        let mut latencies = Latencies::default();
        let mut answer = Value::Null;
        for run in 0..WARM_UP_RUNS + RUNS {
            let begin = Instant::now();
            answer = server.api.get_json(&path).await?;
            if run >= WARM_UP_RUNS {
                latencies.push(begin.elapsed());
            }
        }
        let row = Row::absolute(question.row, latencies.quantile_ms(0.5) / 1000.0, "s", question.bar_s)
            .note(format!("`{}`: {}; {}", question.traceql, latencies.summary(), size(&answer)))
            .require(answer["complete"] == true, format!("the answer is partial: {}", answer["partialReason"]));
        rows.push(row);
        answers.push(answer);
    }
    let ours = |question: usize| rows[question].value;
    let theirs = duckdb(python, store)?;
    let errors = total(&answers[0]) * STEP_S;
    let rate = against("TraceQL against DuckDB: rate of errors", ours(0), &theirs.rate).require(
        (errors - theirs.rate.spans as f64).abs() < 0.5,
        format!("{errors} spans with errors, DuckDB counts {}", theirs.rate.spans),
    );
    let quantiles = against("TraceQL against DuckDB: three quantiles", ours(4), &theirs.quantiles);
    let absent = against("TraceQL against DuckDB: an absent value", ours(2), &theirs.absent)
        .require(theirs.absent.spans == 0, "DuckDB finds spans with the value");
    let by_service =
        Row::relative("TraceQL against DuckDB: all spans by service", ours(6), "s", theirs.by_service.seconds, 1.0)
            .note(format!("DuckDB: `{}`", theirs.by_service.sql))
            .require(
                (total(&answers[6]) - theirs.by_service.spans as f64).abs() < 0.5,
                format!("{} spans, DuckDB counts {}", total(&answers[6]), theirs.by_service.spans),
            );
    let times: Vec<f64> = [0, 4, 2].map(ours).to_vec();
    rows.extend([rate, quantiles, absent, by_service]);
    for ((row, statement), traceql_s) in STATEMENTS.into_iter().zip(times) {
        rows.push(sql(server, row, statement, &range, traceql_s).await?);
    }
    Ok(rows)
}

fn path(question: &Question, range: &std::ops::Range<u64>) -> String {
    let query = escape(&question.traceql);
    let (start, end) = (range.start, range.end);
    if question.is_metrics {
        format!("/api/v1/metrics?q={query}&start={start}&end={end}&step={STEP}")
    } else {
        format!("/api/v1/search?q={query}&limit=20")
    }
}

/// The questions that DuckDB answers too, in SQL over our own files: errors by service, quantiles by name, a value that nobody has.
const STATEMENTS: [(&str, &str); 3] = [
    (
        "SQL against TraceQL: rate of errors",
        "SELECT service_name, date_bin(INTERVAL '1 minute', start_time) AS minute, count(*) FROM spans \
         WHERE status = 'error' AND RANGE GROUP BY 1, 2",
    ),
    (
        "SQL against TraceQL: three quantiles",
        "SELECT name, date_bin(INTERVAL '1 minute', start_time) AS minute, approx_percentile_cont(duration_nanos, 0.5), \
         approx_percentile_cont(duration_nanos, 0.95), approx_percentile_cont(duration_nanos, 0.99) FROM spans \
         WHERE RANGE GROUP BY 1, 2",
    ),
    (
        "SQL against TraceQL: an absent value",
        "SELECT count(*) FROM spans WHERE attr('enduser.id') = 'u-1500000-' AND RANGE",
    ),
];
/// SQL may take so many times what TraceQL takes.
const SQL_BAR: f64 = 1.1;

async fn sql(
    server: &Server,
    row: &'static str,
    statement: &str,
    range: &std::ops::Range<u64>,
    traceql_s: f64,
) -> anyhow::Result<Row> {
    let times =
        format!("start_time >= to_timestamp_nanos({}) AND start_time < to_timestamp_nanos({})", range.start, range.end);
    let body = json!({"query": statement.replace("RANGE", &times), "limit": 100_000});
    let mut latencies = Latencies::default();
    let mut answer = Value::Null;
    for run in 0..WARM_UP_RUNS + RUNS {
        let begin = Instant::now();
        answer = server.api.post_json("/api/v1/sql", &body).await?;
        if run >= WARM_UP_RUNS {
            latencies.push(begin.elapsed());
        }
    }
    Ok(Row::relative(row, latencies.quantile_ms(0.5) / 1000.0, "s", traceql_s, SQL_BAR)
        .note(format!("`{statement}`: {}; {} rows", latencies.summary(), answer["rows"].as_array().map_or(0, Vec::len)))
        .require(answer["complete"] == true, format!("the answer is partial: {}", answer["partialReason"])))
}

/// How much is in an answer, in words.
fn size(answer: &Value) -> String {
    let count = |key: &str| answer[key].as_array().map(Vec::len);
    let spans = &answer["inspected"]["spans"];
    match (count("series"), count("traces")) {
        (Some(series), _) => format!("{series} series of {} steps over {spans} spans", answer["steps"]),
        (_, Some(traces)) => format!("{traces} traces, {spans} spans looked at"),
        _ => "no answer".to_owned(),
    }
}

/// The sum of all values of all series.
fn total(answer: &Value) -> f64 {
    let series = answer["series"].as_array().into_iter().flatten();
    series.flat_map(|series| series["values"].as_array().into_iter().flatten()).filter_map(Value::as_f64).sum()
}

fn against(row: &'static str, ours_s: f64, theirs: &Theirs) -> Row {
    Row::relative(row, ours_s, "s", theirs.seconds, DUCKDB_BAR)
        .note(format!("DuckDB: {:.3} s as the middle of {RUNS}, `{}`", theirs.seconds, theirs.sql))
}

/// What DuckDB took and found.
#[derive(Deserialize)]
struct Theirs {
    seconds: f64,
    spans: u64,
    sql: String,
}

#[derive(Deserialize)]
struct DuckDb {
    rate: Theirs,
    quantiles: Theirs,
    absent: Theirs,
    by_service: Theirs,
}

/// Runs the same questions in DuckDB, with as many threads as there are cores.
fn duckdb(python: &Path, store: &Path) -> anyhow::Result<DuckDb> {
    const SCRIPT: &str = include_str!("duckdb.py");
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(store.join("tenant=*/spans/**/*.parquet"))
        .args([ABSENT_USER, &WARM_UP_RUNS.to_string(), &RUNS.to_string()])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", python.display()))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "DuckDB's part failed (`make bench` installs DuckDB): {}", error.trim_end());
    serde_json::from_slice(&output.stdout).context("read what DuckDB's part printed")
}
