use std::fmt;
use std::sync::Arc;

/// Whose data it is. Appears in paths, in the catalogue and in every query.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a tenant: use 1 to 64 of the characters a-z A-Z 0-9 _ - and no other")]
pub struct TenantError(String);

impl TenantId {
    /// The tenant of requests that name none.
    pub const DEFAULT: &'static str = "default";
    pub const LENGTH_MAX: usize = 64;

    /// A tenant's name becomes the name of a folder, so its characters are few.
    pub fn new(name: &str) -> Result<Self, TenantError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > Self::LENGTH_MAX || !name.chars().all(allowed) {
            return Err(TenantError(name.chars().take(Self::LENGTH_MAX).collect()));
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
