//! Which names occur in a file: for completion, for pruning, and to choose columns when files are merged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::layout::ColumnType;

/// Names in a file, kept in the catalogue as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FileContents {
    /// Operations (span names) by service.
    pub services: BTreeMap<String, Vec<String>>,
    /// How many spans carry a span attribute, by key and type.
    pub span_keys: Vec<KeyCount>,
    /// How many spans belong to a resource with an attribute, by key and type.
    pub resource_keys: Vec<KeyCount>,
    /// Keys of attributes of scopes, events and links, without counts.
    pub scope_keys: Vec<String>,
    pub event_keys: Vec<String>,
    pub link_keys: Vec<String>,
    /// False if some names were left out because there were more than the limits.
    pub complete: bool,
}

/// How often a key occurs with values of a type. `None`: bytes, arrays, lists, empty values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCount {
    pub key: String,
    pub value_type: Option<ColumnType>,
    pub spans: u64,
}

impl FileContents {
    /// About what this takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        /// Of a text apart from its bytes, in a list.
        const TEXT_BYTES: usize = 40;
        let texts = |texts: &[String]| texts.iter().map(|text| text.len() + TEXT_BYTES).sum::<usize>();
        let counts = |keys: &[KeyCount]| keys.iter().map(|count| count.key.len() + 2 * TEXT_BYTES).sum::<usize>();
        let of_services = |(service, names): (&String, &Vec<String>)| service.len() + 3 * TEXT_BYTES + texts(names);
        self.services.iter().map(of_services).sum::<usize>()
            + counts(&self.span_keys)
            + counts(&self.resource_keys)
            + texts(&self.scope_keys)
            + texts(&self.event_keys)
            + texts(&self.link_keys)
            + size_of::<Self>()
    }

    pub const SERVICES_MAX: usize = 2_000;
    pub const OPERATIONS_PER_SERVICE_MAX: usize = 1_000;
    pub const KEYS_MAX: usize = 4_000;
}
