//! Who asks: the tenants that the header names, or the default one if there is none. A handler whose answer is of one tenant asks for
//! [`one_tenant`].

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use tracehouse_model::{Caller, TenantError, TenantId};

use crate::problem::Problem;
use crate::state::ApiState;

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        caller_of(&parts.headers, state)
    }
}

/// The caller of a request with these headers, which are the metadata of a gRPC call.
pub(crate) fn caller_of(headers: &HeaderMap, state: &ApiState) -> Result<Caller, Problem> {
    let values = |name| headers.get_all(name).iter().map(|value| value.as_bytes());
    Caller::of_request(values, &state.default_tenant).map_err(refused)
}

/// Whose data a question is about that can be asked of one tenant only.
pub(crate) fn one_tenant(caller: &Caller) -> Result<&TenantId, Problem> {
    caller.tenant().map_err(refused)
}

fn refused(error: TenantError) -> Problem {
    Problem::invalid_tenant(error.to_string())
}
