//! What a TraceQL query is and how it would run, without running it.

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use tracehouse_model::Caller;
use tracehouse_traceql::{ParseError, QueryExpr, compile};

use super::query_answers::{ExplanationAnswer, QueryCheckAnswer, QueryErrorAnswer};
use super::terms::QueryKind;
use crate::answer::json;
use crate::params::Parameters;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::steps::metrics_range;

/// Reads a TraceQL query, and says what is wrong with it if it can't be run.
#[utoipa::path(
    get, path = "/api/v1/query/check", tag = "queries",
    params(("q" = Option<String>, Query, description = "A TraceQL query; may be empty or wrong", example = "{ status = error }")),
    responses((status = 200, body = QueryCheckAnswer), (status = 400, body = Problem))
)]
pub(crate) async fn check(uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::strict(&uri, &["q"])?;
    let source = parameters.text("q")?.unwrap_or_default();
    Ok(json(&match compile(source) {
        Ok(query) => QueryCheckAnswer {
            valid: true,
            kind: Some(match query.expr {
                QueryExpr::Metrics(_) => QueryKind::METRICS,
                QueryExpr::Spans(_) => QueryKind::SPANS,
            }),
            printed: Some(query.to_string()),
            error: None,
        },
        Err(error) => {
            QueryCheckAnswer { valid: false, kind: None, printed: None, error: Some(error_answer(&error, source)) }
        }
    }))
}

fn error_answer(error: &ParseError, source: &str) -> QueryErrorAnswer {
    let at = error.at.utf16(source);
    QueryErrorAnswer {
        message: error.message(),
        start: at.start,
        end: at.end,
        expected: error.alternatives().into_iter().map(str::to_owned).collect(),
        suggestion: error.suggestion.clone(),
        rendered: error.render(source),
    }
}

/// Says how a TraceQL query would run, without running it.
#[utoipa::path(
    get, path = "/api/v1/query/explain", tag = "queries",
    params(
        ("q" = String, Query, description = "A TraceQL query", example = "{ status = error }"),
        ("start" = Option<String>, Query, description = "As in the search, or as in the metrics if the query computes them"),
        ("end" = Option<String>, Query, description = "As in the search, or as in the metrics if the query computes them"),
    ),
    responses((status = 200, body = ExplanationAnswer), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn explain(State(state): State<ApiState>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::strict(&uri, &["q", "start", "end"])?;
    let traceql = parameters.required("q", "a TraceQL query, such as { status = error }")?;
    let query = compile(traceql).map_err(|error| Problem::invalid_query(error.render(traceql)))?;
    let range = match query.expr {
        QueryExpr::Metrics(_) => {
            let (start, end) = (parameters.moment("start")?, parameters.moment("end")?);
            metrics_range(start, end, None, state.clock.now_unix_nanos())?
        }
        QueryExpr::Spans(_) => {
            let range = parameters.time_range()?;
            range.start_unix_nanos.unwrap_or(i64::MIN)..range.end_unix_nanos.unwrap_or(i64::MAX)
        }
    };
    let explained = state.answers.explain(&caller, traceql, range).await?;
    Ok(json(&ExplanationAnswer {
        plan: explained.plan,
        files_total: explained.files_total,
        files_to_read: explained.files_to_read,
        spans_in_memory: explained.spans_in_memory,
        spans_in_files: explained.spans_in_files,
    }))
}
