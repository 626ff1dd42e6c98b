//! Where a file holds the values of a key.

use tracehouse_store::{ColumnType, KeyCount, Layout, NameList};

use crate::fault::Contents;

/// With which types a key occurs in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTypes {
    pub may_occur: bool,
    /// All its values have this type, so all are in its column if it has one.
    pub only: Option<ColumnType>,
}

impl KeyTypes {
    const UNKNOWN: Self = Self { may_occur: true, only: None };
}

/// How a key of spans or resources occurs.
pub fn key_types(owner: Owner, key: &str, contents: &Contents) -> KeyTypes {
    let Some(contents) = contents.known() else { return KeyTypes::UNKNOWN };
    let (keys, list) = match owner {
        Owner::Span => (&contents.span_keys, NameList::SpanKeys),
        Owner::Resource => (&contents.resource_keys, NameList::ResourceKeys),
    };
    let mut types = keys.iter().filter(|known| known.key == key).map(|known| known.value_type);
    let cut = !contents.lists_all(list);
    match (types.next(), types.next()) {
        (None, _) => KeyTypes { may_occur: cut, only: None },
        (Some(only), None) if !cut => KeyTypes { may_occur: true, only },
        _ => KeyTypes::UNKNOWN,
    }
}

/// Whether an owner may have attributes that stand in no column of their own.
pub fn has_rest(owner: Owner, contents: &Contents, layout: &Layout) -> bool {
    let list = match owner {
        Owner::Span => NameList::SpanKeys,
        Owner::Resource => NameList::ResourceKeys,
    };
    let Some(contents) = contents.known().filter(|contents| contents.lists_all(list)) else { return true };
    let apart = |key: &KeyCount, column: Option<(usize, ColumnType)>| {
        column.is_none_or(|(_, known)| key.value_type != Some(known))
    };
    match owner {
        Owner::Span => contents.span_keys.iter().any(|key| apart(key, layout.span_column(&key.key))),
        Owner::Resource => contents.resource_keys.iter().any(|key| apart(key, layout.resource_column(&key.key))),
    }
}

/// Of what the attributes are that a key stands among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Span,
    Resource,
}

/// The residual column of an owner.
pub fn rest_column(owner: Owner) -> &'static str {
    match owner {
        Owner::Span => "span_attributes",
        Owner::Resource => "resource_attributes",
    }
}

/// The column that alone holds a key: `Some(None)` if nothing in the file has it, `None` if it takes more than one column.
pub fn column_of_key(owner: Owner, key: &str, contents: &Contents, layout: &Layout) -> Option<Option<String>> {
    let column = own_column(owner, key, layout);
    if column.is_some() && contents.stands_alone(&column_name(owner, key)) {
        return Some(Some(column_name(owner, key)));
    }
    let types = key_types(owner, key, contents);
    if !types.may_occur {
        return Some(None);
    }
    let column_type = column?;
    (types.only == Some(column_type)).then(|| Some(column_name(owner, key)))
}

/// The columns in which a key may stand: the residual one, and its own if it has one.
pub fn columns_of_key(owner: Owner, key: &str, layout: &Layout) -> Vec<String> {
    let own = own_column(owner, key, layout).map(|_| column_name(owner, key));
    [rest_column(owner).to_owned()].into_iter().chain(own).collect()
}

/// The type of a key's own column, if it has one.
pub fn own_column(owner: Owner, key: &str, layout: &Layout) -> Option<ColumnType> {
    let column = match owner {
        Owner::Span => layout.span_column(key),
        Owner::Resource => layout.resource_column(key),
    };
    column.map(|(_, column_type)| column_type)
}

/// The name of a key's own column.
pub fn column_name(owner: Owner, key: &str) -> String {
    match owner {
        Owner::Span => Layout::span_column_name(key),
        Owner::Resource => Layout::resource_column_name(key),
    }
}
