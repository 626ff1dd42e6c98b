use std::fmt;
use std::sync::Arc;

/// Whose data it is. Appears in paths, in the catalogue and in every query.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

/// Why a request names no tenant that there can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    #[error("{0:?} is not a tenant: use 1 to 64 of the characters a-z A-Z 0-9 _ - and no other")]
    Invalid(String),
    #[error("the header X-Scope-OrgID holds bytes that are not ASCII")]
    NotAscii,
    #[error("the header X-Scope-OrgID names several tenants; name one")]
    Several,
}

/// The header, or metadata of gRPC, that names a tenant, as Grafana's systems have it.
pub const TENANT_HEADER: &str = "x-scope-orgid";

impl TenantId {
    /// The tenant of requests that name none.
    pub const DEFAULT: &'static str = "default";
    pub const LENGTH_MAX: usize = 64;

    /// A tenant's name becomes the name of a folder, so its characters are few.
    pub fn new(name: &str) -> Result<Self, TenantError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > Self::LENGTH_MAX || !name.chars().all(allowed) {
            return Err(TenantError::Invalid(name.chars().take(Self::LENGTH_MAX).collect()));
        }
        Ok(Self(name.into()))
    }

    /// The tenant that the values of [`TENANT_HEADER`] in a request name; `None` if they name none. Grafana sends the header
    /// twice when it streams, and proxies join the two as `a, a`: that is one name all the same.
    pub fn in_header<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Result<Option<Self>, TenantError> {
        let mut only: Option<&str> = None;
        for value in values {
            let value =
                std::str::from_utf8(value).ok().filter(|value| value.is_ascii()).ok_or(TenantError::NotAscii)?;
            for name in value.split(',').map(str::trim) {
                if *only.get_or_insert(name) != name {
                    return Err(TenantError::Several);
                }
            }
        }
        only.filter(|name| !name.is_empty()).map(Self::new).transpose()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of the tenant that headers with these values name.
    fn named(values: &[&str]) -> Option<String> {
        let tenant = TenantId::in_header(values.iter().map(|value| value.as_bytes()));
        tenant.ok().map(|name| name.map_or("none".to_owned(), |tenant| tenant.to_string()))
    }

    #[test]
    fn a_tenant_may_be_named_again_but_not_another() {
        let table: [(&[&str], Option<&str>); 13] = [
            (&[], Some("none")),
            (&[""], Some("none")),
            (&["  "], Some("none")),
            (&["a"], Some("a")),
            (&["a", "a"], Some("a")),
            (&["a, a"], Some("a")),
            (&["a,a", "a"], Some("a")),
            (&["a", "b"], None),
            (&["a, b"], None),
            (&["a", ""], None),
            (&["", "a"], None),
            (&["../a"], None),
            (&["ä"], None),
        ];
        for (values, expected) in table {
            assert_eq!(named(values).as_deref(), expected, "{values:?}");
        }
    }
}
