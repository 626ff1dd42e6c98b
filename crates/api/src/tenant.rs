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
        match name_in(headers)? {
            None => Ok(Self(state.default_tenant.clone())),
            Some(name) => TenantId::new(name).map(Self).map_err(|error| Problem::invalid_tenant(error.to_string())),
        }
    }
}

/// Grafana sends the header twice when it streams, and proxies join the two as `a, a`: that is one name all the same.
fn name_in(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut names = Vec::new();
    for value in headers.get_all(TENANT_HEADER) {
        let not_ascii = |_| Problem::invalid_tenant("the header X-Scope-OrgID holds bytes that are not ASCII");
        names.extend(value.to_str().map_err(not_ascii)?.split(',').map(str::trim));
    }
    let name = names.first().copied().unwrap_or_default();
    if names.iter().any(|other| *other != name) {
        return Err(Problem::invalid_tenant("the header X-Scope-OrgID names several tenants; name one"));
    }
    Ok(Some(name).filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// The name of the tenant that headers with these values name.
    fn named(values: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TENANT_HEADER, HeaderValue::from_static(value));
        }
        name_in(&headers).ok().map(|name| name.unwrap_or("none").to_owned())
    }

    #[test]
    fn a_tenant_may_be_named_again_but_not_another() {
        let table: [(&[&str], Option<&str>); 9] = [
            (&[], Some("none")),
            (&[""], Some("none")),
            (&["a"], Some("a")),
            (&["a", "a"], Some("a")),
            (&["a, a"], Some("a")),
            (&["a,a", "a"], Some("a")),
            (&["a", "b"], None),
            (&["a, b"], None),
            (&["a", ""], None),
        ];
        for (values, expected) in table {
            assert_eq!(named(values).as_deref(), expected, "{values:?}");
        }
    }
}
