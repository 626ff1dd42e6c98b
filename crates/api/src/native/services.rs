use axum::extract::State;
use axum::response::Response;
use http::Uri;
use tracehouse_model::Caller;

use super::answers::{OperationsAnswer, ServiceName, ServicesAnswer};
use crate::answer::{json, with_partial_header};
use crate::params::Parameters;
use crate::problem::Problem;
use crate::state::ApiState;

/// Names of services that sent spans, in alphabetical order.
#[utoipa::path(
    get, path = "/api/v1/services", tag = "names",
    params(
        ("q" = Option<String>, Query, description = "TraceQL, which may be unfinished: only names on spans that satisfy its conditions, as far as they are certain"),
        ("start" = Option<String>, Query, description = "Spans that begin from here on, going by whole files"),
        ("end" = Option<String>, Query, description = "Spans that begin before this, going by whole files"),
    ),
    responses((status = 200, body = ServicesAnswer), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn services(State(state): State<ApiState>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::strict(&uri, &["q", "start", "end"])?;
    let among = parameters.time_range()?.among(parameters.text("q")?);
    let found = state.answers.services(&caller, &among).await?;
    let services = found.items.into_iter().map(|name| ServiceName { name }).collect();
    let answer = json(&ServicesAnswer { services, complete: found.complete });
    Ok(with_partial_header(answer, found.partial_reason))
}

/// Names of spans, of one service or of all.
#[utoipa::path(
    get, path = "/api/v1/operations", tag = "names",
    params(
        ("service" = Option<String>, Query, example = "cart"),
        ("q" = Option<String>, Query, description = "TraceQL, which may be unfinished: without `service`, only names of spans that satisfy its conditions, as far as they are certain"),
        ("start" = Option<String>, Query, description = "Spans that begin from here on, going by whole files"),
        ("end" = Option<String>, Query, description = "Spans that begin before this, going by whole files"),
    ),
    responses((status = 200, body = OperationsAnswer), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn operations(State(state): State<ApiState>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::strict(&uri, &["service", "q", "start", "end"])?;
    let among = parameters.time_range()?.among(parameters.text("q")?);
    let found = state.answers.operations(&caller, parameters.text("service")?, &among).await?;
    let answer = json(&OperationsAnswer { operations: found.items, complete: found.complete });
    Ok(with_partial_header(answer, found.partial_reason))
}
