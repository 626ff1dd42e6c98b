use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use tracehouse_model::{TENANT_HEADER, TenantId};

use crate::problem::Problem;
use crate::state::ApiState;

/// Whose data a request asks for: the tenant in the header, or the default one if there is none.
pub(crate) struct Tenant(pub(crate) TenantId);

impl FromRequestParts<ApiState> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        Self::of(&parts.headers, state)
    }
}

impl Tenant {
    /// The tenant of a request's headers, which are the metadata of a gRPC call.
    pub(crate) fn of(headers: &HeaderMap, state: &ApiState) -> Result<Self, Problem> {
        let values = headers.get_all(TENANT_HEADER).iter().map(|value| value.as_bytes());
        let named = TenantId::in_header(values).map_err(|error| Problem::invalid_tenant(error.to_string()))?;
        Ok(Self(named.unwrap_or_else(|| state.default_tenant.clone())))
    }
}
