//! Which names occur in a file: for completion, for pruning, and to choose columns when files are merged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracehouse_model::SeededSet;

use super::layout::ColumnType;

/// Names in a file, kept in the file as JSON. Senders choose names, so all of them together are bounded in bytes: what is
/// longer or more is left out, and the file says of which lists.
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
    /// The lists that lack names. Files of older layout versions don't say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) cut: Vec<NameList>,
}

/// A list of [`FileContents`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameList {
    Services,
    /// Of all services.
    Operations,
    SpanKeys,
    ResourceKeys,
    ScopeKeys,
    EventKeys,
    LinkKeys,
}

/// How often a key occurs with values of a type. `None`: bytes, arrays, lists, empty values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCount {
    pub key: String,
    pub value_type: Option<ColumnType>,
    pub spans: u64,
}

/// Longer names are not listed. Statements of SQL, which some give as names, mostly fit.
pub(super) const NAME_BYTES_MAX: usize = 1024;
/// Names of services of a file take no more together …
const SERVICES_BYTES_MAX: usize = 32 * 1024;
/// … nor the names of all operations …
const OPERATIONS_BYTES_MAX: usize = 128 * 1024;
/// … nor those of one service, so that one does not crowd out the others …
const OPERATIONS_OF_SERVICE_BYTES_MAX: usize = OPERATIONS_BYTES_MAX / 4;
/// … nor the keys of a list.
pub(super) const KEYS_BYTES_MAX: usize = 32 * 1024;

impl FileContents {
    pub const SERVICES_MAX: usize = 2_000;
    pub const OPERATIONS_PER_SERVICE_MAX: usize = 1_000;
    pub const KEYS_MAX: usize = 4_000;

    /// Whether a list has all names that occur in the file.
    pub fn lists_all(&self, list: NameList) -> bool {
        let keys = match list {
            // A file of an older layout version does not say which of its lists is cut, apart from the lengths of the others.
            NameList::Services | NameList::Operations => {
                return self.complete || !(self.cut.is_empty() || self.cut.contains(&list));
            }
            NameList::SpanKeys => self.span_keys.len(),
            NameList::ResourceKeys => self.resource_keys.len(),
            NameList::ScopeKeys => self.scope_keys.len(),
            NameList::EventKeys => self.event_keys.len(),
            NameList::LinkKeys => self.link_keys.len(),
        };
        !self.cut.contains(&list) && keys < Self::KEYS_MAX
    }

    /// Whether a name may occur in the file, given those of its list.
    pub fn may_have(&self, list: NameList, name: &str) -> bool {
        let counted = |keys: &[KeyCount]| keys.iter().any(|known| known.key == name);
        let named = |keys: &[String]| keys.iter().any(|known| known == name);
        let is_listed = match list {
            NameList::Services => self.services.contains_key(name),
            NameList::Operations => self.services.values().any(|names| named(names)),
            NameList::SpanKeys => counted(&self.span_keys),
            NameList::ResourceKeys => counted(&self.resource_keys),
            NameList::ScopeKeys => named(&self.scope_keys),
            NameList::EventKeys => named(&self.event_keys),
            NameList::LinkKeys => named(&self.link_keys),
        };
        is_listed || !self.lists_all(list)
    }

    /// The type that all values of a key of spans or resources have, if it is known and one that columns have.
    pub fn only_type(&self, list: NameList, key: &str) -> Option<ColumnType> {
        let keys = if list == NameList::SpanKeys { &self.span_keys } else { &self.resource_keys };
        let mut types = keys.iter().filter(|known| known.key == key).map(|known| known.value_type);
        match (types.next(), types.next()) {
            (Some(only), None) if self.lists_all(list) => only,
            _ => None,
        }
    }

    /// Whether all keys of attributes are listed, of whatever they are attributes.
    pub fn lists_all_keys(&self) -> bool {
        use NameList::{EventKeys, LinkKeys, ResourceKeys, ScopeKeys, SpanKeys};
        [SpanKeys, ResourceKeys, ScopeKeys, EventKeys, LinkKeys].into_iter().all(|list| self.lists_all(list))
    }

    /// About what this takes in memory.
    pub fn memory_bytes(&self) -> usize {
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
}

/// Gathers names until there are too many.
pub(super) struct NameSet {
    names: SeededSet<String>,
    bytes: usize,
    most: usize,
    bytes_max: usize,
    is_cut: bool,
}

impl NameSet {
    fn new(most: usize, bytes_max: usize) -> Self {
        Self { names: SeededSet::default(), bytes: 0, most, bytes_max, is_cut: false }
    }

    pub(super) fn of_keys() -> Self {
        Self::new(FileContents::KEYS_MAX - 1, KEYS_BYTES_MAX)
    }

    /// Adds a name if there is room; gives the bytes by which the set grew.
    pub(super) fn add(&mut self, name: &str) -> usize {
        if self.names.contains(name) {
            return 0;
        }
        if name.len() > NAME_BYTES_MAX || self.names.len() >= self.most || self.bytes + name.len() > self.bytes_max {
            self.is_cut = true;
            return 0;
        }
        self.names.insert(name.to_owned());
        self.bytes += name.len();
        name.len()
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(super) fn sorted(self) -> Vec<String> {
        let mut names: Vec<String> = self.names.into_iter().collect();
        names.sort_unstable();
        names
    }
}

/// Gathers services and their operations.
#[derive(Default)]
pub(super) struct ServiceNames {
    operations: BTreeMap<String, NameSet>,
    services_bytes: usize,
    operations_bytes: usize,
    /// Whether a service is missing.
    is_cut: bool,
    /// Whether an operation of a listed service is missing, for want of room for all of them.
    operations_are_cut: bool,
}

impl ServiceNames {
    pub(super) fn add(&mut self, service: &str, operation: &str) {
        if !self.operations.contains_key(service) {
            let bytes = self.services_bytes + service.len();
            let is_full = self.operations.len() >= FileContents::SERVICES_MAX || bytes > SERVICES_BYTES_MAX;
            if is_full || service.len() > NAME_BYTES_MAX {
                self.is_cut = true;
                return;
            }
            let names = NameSet::new(FileContents::OPERATIONS_PER_SERVICE_MAX, OPERATIONS_OF_SERVICE_BYTES_MAX);
            self.operations.insert(service.to_owned(), names);
            self.services_bytes = bytes;
        }
        let left = OPERATIONS_BYTES_MAX - self.operations_bytes;
        let operations = self.operations.get_mut(service).expect("inserted above");
        if operation.len() <= left {
            self.operations_bytes += operations.add(operation);
        } else if !operations.names.contains(operation) {
            self.operations_are_cut = true;
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(super) fn operations_are_cut(&self) -> bool {
        self.is_cut || self.operations_are_cut || self.operations.values().any(NameSet::is_cut)
    }

    pub(super) fn sorted(self) -> BTreeMap<String, Vec<String>> {
        self.operations.into_iter().map(|(service, names)| (service, names.sorted())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name that a sender may choose, chosen to be many and long: what is kept stays small, and says that it is cut.
    #[test]
    fn names_are_bounded_in_bytes() {
        let mut keys = NameSet::of_keys();
        let mut services = ServiceNames::default();
        for number in 0..20_000 {
            let long = format!("{number:0200}");
            keys.add(&long);
            services.add(&long, "one");
            services.add("cart", &long);
        }
        keys.add("short and late");
        assert!(keys.is_cut() && services.is_cut() && services.operations_are_cut());
        assert!(keys.sorted().iter().map(String::len).sum::<usize>() <= KEYS_BYTES_MAX);
        let services = services.sorted();
        assert!(services.keys().map(String::len).sum::<usize>() <= SERVICES_BYTES_MAX);
        assert!(services.values().flatten().map(String::len).sum::<usize>() <= OPERATIONS_BYTES_MAX);
        let of_cart = services["cart"].iter().map(String::len).sum::<usize>();
        assert!((1..=OPERATIONS_OF_SERVICE_BYTES_MAX).contains(&of_cart), "{of_cart}");
        let mut ids_in_names = ServiceNames::default();
        for number in 0..20_000 {
            ids_in_names.add("cart", &format!("GET /carts/{number}"));
            ids_in_names.add("shop", "GET /");
        }
        assert!(!ids_in_names.is_cut() && ids_in_names.operations_are_cut(), "all services are listed");
        assert_eq!(ids_in_names.sorted()["shop"], ["GET /"], "one service does not crowd out the others");
        let mut one = NameSet::of_keys();
        one.add(&"k".repeat(NAME_BYTES_MAX + 1));
        assert!(one.is_cut() && one.sorted().is_empty(), "a name that is too long is left out, whole");
    }

    #[test]
    fn a_list_says_whether_it_is_cut() {
        let version_1 = r#"{"services":{},"span_keys":[],"resource_keys":[],"scope_keys":[],"event_keys":[],"link_keys":[],
            "complete":false}"#;
        let of_version_1: FileContents = serde_json::from_str(version_1).expect("it can be read");
        for list in [NameList::Services, NameList::Operations] {
            assert!(!of_version_1.lists_all(list), "it may be this one");
        }
        assert!(of_version_1.lists_all(NameList::SpanKeys), "it would be as long as it may be");
        let cut = FileContents { cut: vec![NameList::EventKeys], complete: false, ..FileContents::default() };
        assert!(!cut.lists_all(NameList::EventKeys) && !cut.lists_all_keys());
        assert!(cut.lists_all(NameList::Services) && cut.lists_all(NameList::LinkKeys));
    }
}
