//! Whose data a request asks for: the tenant in the header, or the default one if there is none. A handler takes [`Tenants`] if its
//! answer may be over several at once, [`TenantId`] if it is of one.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use tracehouse_model::{TENANT_HEADER, TenantError, TenantId, Tenants};

use crate::problem::Problem;
use crate::state::ApiState;

impl FromRequestParts<ApiState> for Tenants {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        tenants_of(&parts.headers, state)
    }
}

impl FromRequestParts<ApiState> for TenantId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let tenants = tenants_of(&parts.headers, state)?;
        let several = || Problem::invalid_tenant(TenantError::Several.to_string());
        tenants.only().cloned().ok_or_else(several)
    }
}

/// The tenants of a request's headers, which are the metadata of a gRPC call.
pub(crate) fn tenants_of(headers: &HeaderMap, state: &ApiState) -> Result<Tenants, Problem> {
    let values = headers.get_all(TENANT_HEADER).iter().map(|value| value.as_bytes());
    let named = Tenants::in_header(values).map_err(|error| Problem::invalid_tenant(error.to_string()))?;
    Ok(named.unwrap_or_else(|| state.default_tenant.clone().into()))
}
