use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use tracehouse_model::TenantId;

use crate::problem::Problem;
use crate::state::ApiState;

/// The header that names a tenant, as Grafana's systems have it.
pub const TENANT_HEADER: &str = "x-scope-orgid";

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
        let mut named = headers.get_all(TENANT_HEADER).iter();
        let Some(first) = named.next() else {
            return Ok(Self(state.default_tenant.clone()));
        };
        if named.next().is_some() {
            return Err(Problem::invalid_tenant("the header X-Scope-OrgID is there twice; send it once"));
        }
        let name = first
            .to_str()
            .map_err(|_| Problem::invalid_tenant("the header X-Scope-OrgID holds bytes that are not ASCII"))?;
        if name.is_empty() {
            return Ok(Self(state.default_tenant.clone()));
        }
        TenantId::new(name).map(Self).map_err(|error| Problem::invalid_tenant(error.to_string()))
    }
}
