use std::sync::Arc;

use crate::tenant::{TENANT_HEADER, TenantError, TenantId, Tenants};

/// Who sends or asks: for which tenants, as whom, with which rights. Every interface makes one of a request, by
/// [`Caller::of_request`] or, for who sends spans, [`Caller::of_sender`], and hands it on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    tenants: Tenants,
    subject: Option<Arc<str>>,
    roles: Roles,
}

/// What a caller may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Send spans.
    Write,
    /// Ask for traces, searches, series and names.
    Read,
    /// What changes the server itself.
    Administer,
}

/// A set of [`Role`]s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roles(u8);

impl Roles {
    /// Those of a caller who need not say who it is.
    pub const ALL: Self = Self::of(&[Role::Write, Role::Read, Role::Administer]);

    pub const fn of(roles: &[Role]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < roles.len() {
            bits |= 1 << roles[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    pub const fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }
}

impl Caller {
    /// The caller of a request, by its headers, which are the metadata of a gRPC call: `values` gives the values of one. Where they
    /// name no tenant it is the `default` one. Nobody says yet who they are, and everybody may do everything.
    pub fn of_request<'v, V: IntoIterator<Item = &'v [u8]>>(
        values: impl Fn(&'static str) -> V,
        default: &TenantId,
    ) -> Result<Self, TenantError> {
        let named = Tenants::in_header(values(TENANT_HEADER))?;
        Ok(Self::anonymous(named.unwrap_or_else(|| default.clone().into())))
    }

    /// The same of who sends spans, which are one tenant's.
    pub fn of_sender<'v, V: IntoIterator<Item = &'v [u8]>>(
        values: impl Fn(&'static str) -> V,
        default: &TenantId,
    ) -> Result<Self, TenantError> {
        if Tenants::are_several(values(TENANT_HEADER))? {
            return Err(TenantError::Several);
        }
        Self::of_request(values, default)
    }

    /// Who did not say who it is.
    pub fn anonymous(tenants: impl Into<Tenants>) -> Self {
        Self { tenants: tenants.into(), subject: None, roles: Roles::ALL }
    }

    /// For whom, at least one.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// For whom, where that has to be one alone.
    pub fn tenant(&self) -> Result<&TenantId, TenantError> {
        self.tenants.only().ok_or(TenantError::Several)
    }

    /// As whom; `None`: it did not say.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    pub fn may(&self, role: Role) -> bool {
        self.roles.has(role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &[&'static str]) -> Result<Caller, TenantError> {
        let values = |name| if name == TENANT_HEADER { header } else { &[] };
        let default = TenantId::new("shop").expect("a tenant");
        Caller::of_request(|name| values(name).iter().map(|value| value.as_bytes()), &default)
    }

    #[test]
    fn a_request_names_tenants_or_is_the_default_ones() {
        for (header, tenants) in
            [(&[][..], "shop"), (&[""], "shop"), (&["a"], "a"), (&["a", "a"], "a"), (&["a|b"], "a|b")]
        {
            assert_eq!(of(header).expect("valid").tenants().to_string(), tenants, "{header:?}");
        }
        assert_eq!(of(&["a|b"]).expect("valid").tenant(), Err(TenantError::Several));
        assert_eq!(of(&["a", "b"]), Err(TenantError::Differing));
        let caller = of(&[]).expect("valid");
        assert_eq!(caller.subject(), None);
        assert!([Role::Write, Role::Read, Role::Administer].into_iter().all(|role| caller.may(role)));
        assert!(!Roles::of(&[Role::Read]).has(Role::Administer));
    }
}
