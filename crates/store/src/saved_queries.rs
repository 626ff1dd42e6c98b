//! The queries that people saved: one text for each tenant, which is remembered in the catalogue. What it says is for others to know.

use tracehouse_catalogue::{CatalogueContents, CatalogueError, Commit};
use tracehouse_model::TenantId;

use crate::lost::is_lost;
use crate::notes::SAVED_QUERIES_META;
use crate::store::Store;

impl Store {
    /// The saved queries of a tenant; `None` if none were saved.
    pub async fn saved_queries(&self, tenant: &TenantId) -> Result<Option<String>, CatalogueError> {
        Ok(self.catalogue().remembered(&name_of(tenant)).await?.filter(|text| !text.is_empty()))
    }

    /// Puts them in the place of those that were saved. Whoever does both must see that nobody else does meanwhile.
    pub async fn save_queries(&self, tenant: &TenantId, queries: String) -> Result<(), CatalogueError> {
        self.catalogue().commit(Commit { meta: vec![(name_of(tenant), queries)], ..Commit::default() }).await
    }
}

fn name_of(tenant: &TenantId) -> String {
    format!("{SAVED_QUERIES_META}{tenant}")
}

/// Of each tenant whose saved queries are lost what takes their place: none.
pub(crate) fn lost(contents: &CatalogueContents) -> impl Iterator<Item = (String, String)> {
    let names = contents.meta_names.iter().flatten().filter(|name| name.starts_with(SAVED_QUERIES_META));
    names.filter(|name| is_lost(contents, name)).map(|name| (name.clone(), String::new()))
}
