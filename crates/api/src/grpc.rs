//! What the gRPC interfaces share: tenants, limits of time, and errors as gRPC has them.

use std::future::Future;

use http::{HeaderMap, StatusCode};
use tonic::{Request, Status};
use tracehouse_model::TenantId;

use crate::QUERY_TIMEOUT;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::tenant::Tenant;

/// Whose data a call asks for, as its metadata say.
pub(crate) fn tenant<T>(state: &ApiState, request: &Request<T>) -> Result<TenantId, Status> {
    let headers: HeaderMap = request.metadata().clone().into_headers();
    Ok(Tenant::of(&headers, state)?.0)
}

/// What `work` gives, if it does so in time.
pub(crate) async fn in_time<T, E: Into<Problem>>(work: impl Future<Output = Result<T, E>>) -> Result<T, Status> {
    match tokio::time::timeout(QUERY_TIMEOUT, work).await {
        Ok(outcome) => outcome.map_err(|error| error.into().into()),
        Err(_) => Err(Problem::timeout(QUERY_TIMEOUT).into()),
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match status {
            StatusCode::NOT_FOUND => Status::not_found(problem.detail),
            StatusCode::FORBIDDEN => Status::permission_denied(problem.detail),
            StatusCode::SERVICE_UNAVAILABLE => Status::unavailable(problem.detail),
            StatusCode::GATEWAY_TIMEOUT => Status::deadline_exceeded(problem.detail),
            refused if refused.is_client_error() => Status::invalid_argument(problem.detail),
            _ => Status::internal(problem.detail),
        }
    }
}
