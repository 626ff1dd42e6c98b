use axum::extract::State;
use axum::response::Response;
use http::Uri;

use super::answers::{OperationsAnswer, ServiceName, ServicesAnswer};
use crate::answer::json;
use crate::params::Parameters;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::tenant::Tenant;

/// Names of services that sent spans, in alphabetical order.
#[utoipa::path(
    get, path = "/api/v1/services", tag = "names",
    params(
        ("start" = Option<String>, Query, description = "Accepted and checked; names are of all time kept"),
        ("end" = Option<String>, Query, description = "Accepted and checked; names are of all time kept"),
    ),
    responses((status = 200, body = ServicesAnswer), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn services(State(state): State<ApiState>, tenant: Tenant, uri: Uri) -> Result<Response, Problem> {
    Parameters::strict(&uri, &["start", "end"])?.time_range()?;
    let found = state.answers.services(&tenant.0).await?;
    let services = found.items.into_iter().map(|name| ServiceName { name }).collect();
    Ok(json(&ServicesAnswer { services, complete: found.complete }))
}

/// Names of spans, of one service or of all.
#[utoipa::path(
    get, path = "/api/v1/operations", tag = "names",
    params(
        ("service" = Option<String>, Query, example = "cart"),
        ("start" = Option<String>, Query, description = "Accepted and checked; names are of all time kept"),
        ("end" = Option<String>, Query, description = "Accepted and checked; names are of all time kept"),
    ),
    responses((status = 200, body = OperationsAnswer), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn operations(State(state): State<ApiState>, tenant: Tenant, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::strict(&uri, &["service", "start", "end"])?;
    parameters.time_range()?;
    let found = state.answers.operations(&tenant.0, parameters.text("service")?).await?;
    Ok(json(&OperationsAnswer { operations: found.items, complete: found.complete }))
}
