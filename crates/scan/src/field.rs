//! What a question looks at in a span, and where a file holds it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array};
use tracehouse_model::AnyValue;
use tracehouse_spanfile::{ColumnType, FileContents, KeyCount, Layout, NameList};

use crate::fault::Contents;

/// The parents of spans as ids, null for roots: no column of a file, but read like one. An [`OWN_ID`], or the id of a span that is elsewhere.
pub const PARENT: &str = "parent";

/// The ids of spans, where each has its own: that of the half of a call that shares its id with the other half is made ([`TreeIds`]). No column of a
/// file, but read like one.
///
/// [`TreeIds`]: tracehouse_spanfile::TreeIds
pub const OWN_ID: &str = "own_id";

/// The key that names the service of a span.
const SERVICE_NAME: &str = "service.name";

/// Of what the attributes are that a key stands among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Span,
    Resource,
    Scope,
}

impl Owner {
    /// The column with the attributes that have none of their own.
    pub fn rest(self) -> &'static str {
        match self {
            Owner::Span => "span_attributes",
            Owner::Resource => "resource_attributes",
            Owner::Scope => "scope_attributes",
        }
    }

    fn names(self) -> NameList {
        match self {
            Owner::Span => NameList::SpanKeys,
            Owner::Resource => NameList::ResourceKeys,
            Owner::Scope => NameList::ScopeKeys,
        }
    }

    /// The name and type of a key's own column, if it has one.
    fn column_of(self, key: &str, layout: &Layout) -> Option<(String, ColumnType)> {
        match self {
            Owner::Span => layout.span_column(key).map(|(_, known)| (layout.span_column_name(key), known)),
            Owner::Resource => layout.resource_column(key).map(|(_, known)| (layout.resource_column_name(key), known)),
            Owner::Scope => None,
        }
    }

    fn keys(self, contents: &FileContents) -> &[KeyCount] {
        match self {
            Owner::Span => &contents.span_keys,
            Owner::Resource => &contents.resource_keys,
            Owner::Scope => &[],
        }
    }

    fn may_have(self, key: &str, contents: &Contents) -> bool {
        contents.known().is_none_or(|known| known.may_have(self.names(), key))
    }

    /// Whether values of a key may stand among those without a column, given the type of its own column.
    fn has_in_rest(self, key: &str, column: Option<ColumnType>, contents: &Contents) -> bool {
        let Some(known) = contents.known().filter(|known| known.lists_all(self.names())) else { return true };
        column.is_none() || self.keys(known).iter().any(|count| count.key == key && count.value_type != column)
    }

    /// Whether there may be attributes without a column of their own.
    pub fn has_rest(self, contents: &Contents, layout: &Layout) -> bool {
        let Some(known) = contents.known().filter(|known| known.lists_all(self.names())) else { return true };
        let apart = |count: &KeyCount| {
            let column = self.column_of(&count.key, layout);
            column.is_none_or(|(_, column)| count.value_type != Some(column))
        };
        self.keys(known).iter().any(apart)
    }
}

/// What is looked at in a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// A column that every file has under this name, [`PARENT`] or [`OWN_ID`].
    Column(&'a str),
    /// The value of a key: that of the first owner that has one.
    Attribute(&'static [Owner], &'a str),
}

/// A column in which a file holds values of a field. Where there are several, the first that has a value for a row counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    pub column: String,
    pub(crate) owner: Option<Owner>,
    /// Set if the values stand among those of other keys.
    pub(crate) key: Option<&'a str>,
}

impl<'a> Field<'a> {
    /// Where a file may hold values; nowhere if none of its spans has one.
    pub fn places(self, contents: &Contents, layout: &Layout) -> Vec<Place<'a>> {
        let (owners, key) = match self {
            Field::Column(name) => return vec![Place { column: name.to_owned(), owner: None, key: None }],
            Field::Attribute(owners, key) => (owners, key),
        };
        let mut places = Vec::new();
        for &owner in owners {
            let own = owner.column_of(key, layout);
            // The file says so itself, mostly: its names need not be read.
            let is_alone = own.as_ref().is_some_and(|(column, _)| contents.stands_alone(column));
            if is_alone {
                places.extend(own.map(|(column, _)| Place { column, owner: Some(owner), key: None }));
                continue;
            }
            if !owner.may_have(key, contents) {
                continue;
            }
            let in_rest = owner.has_in_rest(key, own.as_ref().map(|(_, known)| *known), contents);
            places.extend(own.map(|(column, _)| Place { column, owner: Some(owner), key: None }));
            if in_rest {
                places.push(Place { column: owner.rest().to_owned(), owner: Some(owner), key: Some(key) });
            }
        }
        places
    }

    /// The column that alone holds the field: `Some(None)` if no span has it, `None` if it takes more.
    pub fn only_column(self, contents: &Contents, layout: &Layout) -> Option<Option<String>> {
        let mut places = self.places(contents, layout).into_iter();
        match (places.next(), places.next()) {
            (None, _) => Some(None),
            (Some(place), None) if place.key.is_none() => Some(Some(place.column)),
            _ => None,
        }
    }

    /// Whether a file may hold values among attributes that have no column of their own.
    pub fn needs_rest(self, contents: &Contents, layout: &Layout) -> bool {
        self.places(contents, layout).iter().any(|place| place.key.is_some())
    }

    /// Whether any span of a file may have it.
    pub fn may_occur(self, contents: &Contents) -> bool {
        match self {
            Field::Column(_) => true,
            Field::Attribute(owners, key) => owners.iter().any(|owner| owner.may_have(key, contents)),
        }
    }

    /// Whether no span of a file has a text for a value, as the file's filter of values says; false if that can't tell. May read the file.
    pub(crate) fn lacks_text(self, text: &str, contents: &Contents) -> bool {
        let Field::Attribute(owners, key) = self else { return false };
        let Some(open) = contents.opened() else { return false };
        let layout = open.layout();
        // Few keys have columns of texts.
        let is_text =
            |owner: &Owner| owner.column_of(key, layout).is_some_and(|(_, known)| known == ColumnType::String);
        // A filter that can't be read says nothing.
        let lacks = |column: &str| matches!(open.may_have_text(column, text), Ok(Some(false)));
        owners.iter().any(is_text)
            && self.places(contents, layout).iter().all(|place| place.key.is_none() && lacks(&place.column))
    }

    /// All texts that are values of it in a file, if the file lists them. There may be spans without a value.
    pub(crate) fn known_texts(self, contents: &Contents) -> Option<KnownTexts<'_>> {
        // Names are asked for only where they help: to read them takes as long as to read a column.
        match self {
            Field::Column("name") => {
                contents.known().filter(|known| known.lists_all(NameList::Operations)).map(KnownTexts::Operations)
            }
            Field::Attribute(owners, SERVICE_NAME) => {
                let known = contents.known().filter(|known| known.lists_all(NameList::Services))?;
                let of_others =
                    owners.iter().any(|owner| *owner != Owner::Resource && owner.may_have(SERVICE_NAME, contents));
                // Only services whose name is a text are listed.
                let other_type =
                    |count: &KeyCount| count.key == SERVICE_NAME && count.value_type != Some(ColumnType::String);
                let only_texts = known.lists_all(NameList::ResourceKeys) && !known.resource_keys.iter().any(other_type);
                (!of_others && only_texts).then_some(KnownTexts::Services(known))
            }
            _ => None,
        }
    }
}

/// Texts that a file lists.
pub(crate) enum KnownTexts<'c> {
    Services(&'c FileContents),
    Operations(&'c FileContents),
}

impl<'c> KnownTexts<'c> {
    pub(crate) fn has(&self, text: &str) -> bool {
        match self {
            KnownTexts::Services(known) => text.is_empty() || known.services.contains_key(text),
            KnownTexts::Operations(known) => {
                known.services.values().any(|names| names.binary_search_by(|name| name.as_str().cmp(text)).is_ok())
            }
        }
    }

    pub(crate) fn texts(&self) -> Vec<&'c str> {
        match self {
            // An empty name may be listed, or left out.
            KnownTexts::Services(known) => known.services.keys().map(String::as_str).chain([""]).collect(),
            KnownTexts::Operations(known) => known.services.values().flatten().map(String::as_str).collect(),
        }
    }
}

/// Values that stand side by side.
#[derive(Debug)]
pub enum Values {
    /// Of one type, as the file has them; never a dictionary. Null where there is none.
    Typed(ArrayRef),
    /// Of any type. Several conditions on one key look at the same.
    Any(Arc<Vec<Option<AnyValue>>>),
}

/// Values in a column that was read.
#[derive(Debug)]
pub struct ValuesOfRows<'a> {
    pub values: Values,
    /// Which of the values each row has; `None`: there is one for each row.
    pub numbers: Option<&'a Int32Array>,
}

impl Values {
    /// Texts, none of them missing.
    pub(crate) fn of_texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        Values::Typed(Arc::new(arrow::array::StringArray::from_iter_values(texts)))
    }
}
