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
    #[error(
        "the header X-Scope-OrgID is there with different values; send it once, with one tenant or, \
         to read several, as a|b"
    )]
    Differing,
    #[error(
        "the header X-Scope-OrgID names several tenants, which is for reading traces, searches, series and \
         names only; name one"
    )]
    Several,
    #[error(
        "the header X-Scope-OrgID names more than {} tenants, as many as are read at once; name fewer",
        Tenants::AT_ONCE_MAX
    )]
    TooMany,
}

/// The header, or metadata of gRPC, that names a tenant, as Grafana's systems have it.
pub(crate) const TENANT_HEADER: &str = "x-scope-orgid";

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

/// Whose data a question is about: one tenant or several different ones, in the order in which they were named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tenants(Arc<[TenantId]>);

impl Tenants {
    /// Most tenants that a question may name: each is asked by itself.
    pub const AT_ONCE_MAX: usize = 16;
    /// Between names, as Grafana's systems have it.
    pub const SEPARATOR: char = '|';

    /// The tenants that the values of [`TENANT_HEADER`] in a request name, as `a` or `a|b`; `None` if they name none. A tenant that
    /// is named again counts once.
    pub fn in_header<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Result<Option<Self>, TenantError> {
        let Some(names) = only_value(values)? else { return Ok(None) };
        let mut tenants: Vec<TenantId> = Vec::new();
        for name in names.split(Self::SEPARATOR) {
            let tenant = TenantId::new(name)?;
            if tenants.contains(&tenant) {
                continue;
            }
            if tenants.len() == Self::AT_ONCE_MAX {
                return Err(TenantError::TooMany);
            }
            tenants.push(tenant);
        }
        Ok(Some(Self(tenants.into())))
    }

    /// Whether those values name tenants as `a|b`, be it one of them twice.
    pub(crate) fn are_several<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Result<bool, TenantError> {
        Ok(only_value(values)?.is_some_and(|names| names.contains(Self::SEPARATOR)))
    }

    /// The tenant, if it is one alone.
    pub fn only(&self) -> Option<&TenantId> {
        match &*self.0 {
            [only] => Some(only),
            _ => None,
        }
    }

    /// All of them, at least one.
    pub fn all(&self) -> &[TenantId] {
        &self.0
    }
}

impl From<TenantId> for Tenants {
    fn from(tenant: TenantId) -> Self {
        Self([tenant].into())
    }
}

impl fmt::Display for Tenants {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, tenant) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "|" };
            write!(formatter, "{separator}{tenant}")?;
        }
        Ok(())
    }
}

/// The one value of the header; `None` if there is none, or an empty one. Grafana sends the header twice when it streams, and
/// proxies join the two as `a, a`: that is one value all the same.
fn only_value<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Result<Option<&'v str>, TenantError> {
    let mut only: Option<&str> = None;
    for value in values {
        let value = std::str::from_utf8(value).ok().filter(|value| value.is_ascii()).ok_or(TenantError::NotAscii)?;
        for one in value.split(',').map(str::trim) {
            if *only.get_or_insert(one) != one {
                return Err(TenantError::Differing);
            }
        }
    }
    Ok(only.filter(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of the one tenant that headers with these values name.
    fn named(values: &[&str]) -> Option<String> {
        let tenants = Tenants::in_header(values.iter().map(|value| value.as_bytes())).ok()?;
        tenants.map_or(Some("none".to_owned()), |tenants| tenants.only().map(ToString::to_string))
    }

    #[test]
    fn a_tenant_may_be_named_again_but_not_another() {
        let table: [(&[&str], Option<&str>); 16] = [
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
            (&["a|b"], None),
            (&["a|a"], Some("a")),
            (&["|"], None),
        ];
        for (values, expected) in table {
            assert_eq!(named(values).as_deref(), expected, "{values:?}");
        }
    }

    #[test]
    fn several_tenants_may_be_named_for_reading() {
        let invalid = |name: &str| Err(TenantError::Invalid(name.to_owned()));
        let many = |count: usize| (0..count).map(|number| format!("t{number}")).collect::<Vec<_>>().join("|");
        let (sixteen, seventeen) = (many(16), many(17));
        let again = format!("{sixteen}|t0");
        let table: [(&[&str], Result<&str, TenantError>); 20] = [
            (&[], Ok("none")),
            (&[""], Ok("none")),
            (&["a"], Ok("a")),
            (&["a|b"], Ok("a|b")),
            (&["b|a"], Ok("b|a")),
            (&["a|a"], Ok("a")),
            (&["b|a|b"], Ok("b|a")),
            (&["a|b", "a|b"], Ok("a|b")),
            (&["a|b, a|b"], Ok("a|b")),
            (&[&sixteen], Ok(&sixteen)),
            (&[&again], Ok(&sixteen)),
            (&[&seventeen], Err(TenantError::TooMany)),
            (&["a|b", "a|c"], Err(TenantError::Differing)),
            (&["a|b, b|a"], Err(TenantError::Differing)),
            (&["|"], invalid("")),
            (&["a|"], invalid("")),
            (&["|a"], invalid("")),
            (&["a||b"], invalid("")),
            (&["a|../b"], invalid("../b")),
            (&["a | b"], invalid("a ")),
        ];
        for (values, expected) in table {
            let found = Tenants::in_header(values.iter().map(|value| value.as_bytes()));
            let found = found.map(|tenants| tenants.map_or("none".to_owned(), |tenants| tenants.to_string()));
            assert_eq!(found, expected.map(str::to_owned), "{values:?}");
        }
    }
}
