//! Which columns a file has.

use std::borrow::Cow;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::errors::ParquetError;
use parquet::schema::types::Type;
use serde::{Deserialize, Serialize};
use tracehouse_model::ValueTag;

/// Version of the layout of files that are written, in the footer of every file. Version 3 has the same columns under the keys
/// as they are. Older ones have no index either; what else they lack, [`super::older`] says.
pub(crate) const LAYOUT_VERSION: u32 = 4;
/// The oldest version that is read.
pub(crate) const LAYOUT_VERSION_MIN: u32 = 1;
/// The oldest version that marks capitals in names of columns.
const CAPITALS_MARKED_VERSION: u32 = 4;
/// Stands before each capital letter of a key in the name of its column. To most engines (DuckDB, Spark, Trino) names have no
/// case: the keys `userId` and `userid` would be one column, in one file or in several that are read together, and answer with
/// each other's values. What a column is called goes by the key alone, so that every file calls it the same.
const CAPITAL_MARK: char = '^';
/// Footer key under which the layout stands as JSON.
pub(crate) const LAYOUT_FOOTER_KEY: &str = "tracehouse.layout";

/// Attributes that have a column of their own in a file. All others are in the residual columns (`resource_attributes` and
/// `scope_attributes`, texts of JSON; `span_attributes`, a map from key to JSON), where attributes of a promoted key stand as
/// well when their type differs from the column's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    pub version: u32,
    pub span: Vec<PromotedAttribute>,
    pub resource: Vec<PromotedAttribute>,
}

/// One attribute with a column of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotedAttribute {
    pub key: String,
    pub value_type: ColumnType,
}

/// The types that promoted columns have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    String,
    Int,
    Double,
    Bool,
}

impl ColumnType {
    pub fn from_tag(tag: ValueTag) -> Option<Self> {
        match tag {
            ValueTag::String => Some(ColumnType::String),
            ValueTag::Int => Some(ColumnType::Int),
            ValueTag::Double => Some(ColumnType::Double),
            ValueTag::Bool => Some(ColumnType::Bool),
            ValueTag::Empty | ValueTag::Bytes | ValueTag::Json => None,
        }
    }

    pub fn tag(self) -> ValueTag {
        match self {
            ColumnType::String => ValueTag::String,
            ColumnType::Int => ValueTag::Int,
            ColumnType::Double => ValueTag::Double,
            ColumnType::Bool => ValueTag::Bool,
        }
    }
}

/// Names of the fixed columns.
pub mod column {
    pub const TRACE_ID: &str = "trace_id";
    pub const SPAN_ID: &str = "span_id";
    pub const PARENT_SPAN_ID: &str = "parent_span_id";
    pub const PARENT_OFFSET: &str = "parent_offset";
    pub const START_TIME: &str = "start_time";
    pub const DURATION_NANOS: &str = "duration_nanos";
    pub const NAME: &str = "name";
    pub const KIND: &str = "kind";
    pub const STATUS: &str = "status";
    pub const STATUS_MESSAGE: &str = "status_message";
    pub const TRACE_STATE: &str = "trace_state";
    pub const FLAGS: &str = "flags";
    pub const SAMPLING_THRESHOLD: &str = "sampling_threshold";
    pub const MARKS: &str = "marks";
    pub const DROPPED_ATTRIBUTES: &str = "dropped_attributes";
    pub const DROPPED_EVENTS: &str = "dropped_events";
    pub const DROPPED_LINKS: &str = "dropped_links";
    pub const SCOPE_NAME: &str = "scope_name";
    pub const SCOPE_VERSION: &str = "scope_version";
    pub const SCOPE_SCHEMA_URL: &str = "scope_schema_url";
    pub const SCOPE_DROPPED_ATTRIBUTES: &str = "scope_dropped_attributes";
    pub const RESOURCE_SCHEMA_URL: &str = "resource_schema_url";
    pub const RESOURCE_DROPPED_ATTRIBUTES: &str = "resource_dropped_attributes";
    pub const RESOURCE_ATTRIBUTES: &str = "resource_attributes";
    pub const SCOPE_ATTRIBUTES: &str = "scope_attributes";
    pub const SPAN_ATTRIBUTES: &str = "span_attributes";
    pub const EVENTS: &str = "events";
    pub const LINKS: &str = "links";

    /// To whoever reads: the events with nothing but their names. No column of the file is called so.
    pub const EVENT_NAMES: &str = "events[].name";
    /// As many links as there are, with nothing of them but the trace that each leads to.
    pub const LINKED_TRACES: &str = "links[].trace_id";
}

impl Layout {
    /// What the column of a promoted span attribute is called.
    pub fn span_column_name(&self, key: &str) -> String {
        format!("span.{}", self.marked(key))
    }

    /// What the column of a promoted resource attribute is called.
    pub fn resource_column_name(&self, key: &str) -> String {
        format!("resource.{}", self.marked(key))
    }

    fn marked<'a>(&self, key: &'a str) -> Cow<'a, str> {
        if self.version < CAPITALS_MARKED_VERSION { Cow::Borrowed(key) } else { with_marked_capitals(key) }
    }

    /// The promoted column of a span attribute: its place among the promoted ones, and its type.
    pub fn span_column(&self, key: &str) -> Option<(usize, ColumnType)> {
        find(&self.span, key)
    }

    pub fn resource_column(&self, key: &str) -> Option<(usize, ColumnType)> {
        find(&self.resource, key)
    }

    /// The Parquet schema of a file with this layout. Writer and reader both take the order of columns from here.
    pub(crate) fn schema(&self) -> Result<Arc<Type>, ParquetError> {
        const REQUIRED: Repetition = Repetition::REQUIRED;
        const OPTIONAL: Repetition = Repetition::OPTIONAL;
        let mut fields = vec![
            fixed(column::TRACE_ID, REQUIRED, 16)?,
            fixed(column::SPAN_ID, REQUIRED, 8)?,
            fixed(column::PARENT_SPAN_ID, OPTIONAL, 8)?,
            primitive(column::PARENT_OFFSET, OPTIONAL, Physical::INT32)?,
            timestamp(column::START_TIME)?,
            primitive(column::DURATION_NANOS, REQUIRED, Physical::INT64)?,
            string(column::NAME, REQUIRED)?,
            string(column::KIND, REQUIRED)?,
            string(column::STATUS, REQUIRED)?,
            string(column::STATUS_MESSAGE, OPTIONAL)?,
            string(column::TRACE_STATE, OPTIONAL)?,
            primitive(column::FLAGS, REQUIRED, Physical::INT32)?,
            primitive(column::SAMPLING_THRESHOLD, OPTIONAL, Physical::INT64)?,
            primitive(column::MARKS, REQUIRED, Physical::INT32)?,
            primitive(column::DROPPED_ATTRIBUTES, REQUIRED, Physical::INT32)?,
            primitive(column::DROPPED_EVENTS, REQUIRED, Physical::INT32)?,
            primitive(column::DROPPED_LINKS, REQUIRED, Physical::INT32)?,
            string(column::SCOPE_NAME, OPTIONAL)?,
            string(column::SCOPE_VERSION, OPTIONAL)?,
            string(column::SCOPE_SCHEMA_URL, OPTIONAL)?,
            primitive(column::SCOPE_DROPPED_ATTRIBUTES, REQUIRED, Physical::INT32)?,
            string(column::RESOURCE_SCHEMA_URL, OPTIONAL)?,
            primitive(column::RESOURCE_DROPPED_ATTRIBUTES, REQUIRED, Physical::INT32)?,
        ];
        for attribute in &self.resource {
            fields.push(promoted(&self.resource_column_name(&attribute.key), attribute.value_type)?);
        }
        for attribute in &self.span {
            fields.push(promoted(&self.span_column_name(&attribute.key), attribute.value_type)?);
        }
        // Resources and scopes are few: as one text each they cost one number a row, whatever they hold.
        fields.push(string(column::RESOURCE_ATTRIBUTES, OPTIONAL)?);
        fields.push(string(column::SCOPE_ATTRIBUTES, OPTIONAL)?);
        fields.push(map(column::SPAN_ATTRIBUTES)?);
        fields.push(events()?);
        fields.push(links()?);
        Ok(Arc::new(Type::group_type_builder("spans").with_fields(fields).build()?))
    }
}

/// A key as names of columns have it: no two keys that [`can_be_column`] become the same text without case.
pub(super) fn with_marked_capitals(key: &str) -> Cow<'_, str> {
    let is_marked = |letter: char| letter.is_ascii_uppercase() || letter == CAPITAL_MARK;
    if !key.contains(is_marked) {
        return Cow::Borrowed(key);
    }
    let mut marked = String::with_capacity(2 * key.len());
    for letter in key.chars() {
        marked.extend(is_marked(letter).then_some(CAPITAL_MARK));
        marked.push(letter);
    }
    Cow::Owned(marked)
}

/// Whether a key may name a column. Capitals beyond ASCII may not: some engines take them for the small letters and some do not,
/// and several of them have the same small letter.
pub(super) fn can_be_column(key: &str) -> bool {
    key.chars().all(|letter| letter.is_ascii() || letter.to_lowercase().eq([letter]))
}

fn find(promoted: &[PromotedAttribute], key: &str) -> Option<(usize, ColumnType)> {
    let at = promoted.iter().position(|attribute| attribute.key == key)?;
    Some((at, promoted[at].value_type))
}

type Field = Result<Arc<Type>, ParquetError>;

fn primitive(name: &str, repetition: Repetition, physical: Physical) -> Field {
    Ok(Arc::new(Type::primitive_type_builder(name, physical).with_repetition(repetition).build()?))
}

fn fixed(name: &str, repetition: Repetition, length: i32) -> Field {
    let builder = Type::primitive_type_builder(name, Physical::FIXED_LEN_BYTE_ARRAY);
    Ok(Arc::new(builder.with_repetition(repetition).with_length(length).build()?))
}

fn timestamp(name: &str) -> Field {
    let builder = Type::primitive_type_builder(name, Physical::INT64).with_repetition(Repetition::REQUIRED);
    let logical = LogicalType::timestamp(true, TimeUnit::NANOS);
    Ok(Arc::new(builder.with_logical_type(Some(logical)).build()?))
}

fn string(name: &str, repetition: Repetition) -> Field {
    let builder = Type::primitive_type_builder(name, Physical::BYTE_ARRAY).with_repetition(repetition);
    Ok(Arc::new(builder.with_logical_type(Some(LogicalType::String)).build()?))
}

fn promoted(name: &str, value_type: ColumnType) -> Field {
    match value_type {
        ColumnType::String => string(name, Repetition::OPTIONAL),
        ColumnType::Int => primitive(name, Repetition::OPTIONAL, Physical::INT64),
        ColumnType::Double => primitive(name, Repetition::OPTIONAL, Physical::DOUBLE),
        ColumnType::Bool => primitive(name, Repetition::OPTIONAL, Physical::BOOLEAN),
    }
}

/// A map from key to the canonical JSON of the value, which any engine reads as `MAP(VARCHAR, VARCHAR)`.
fn map(name: &str) -> Field {
    let entry = Type::group_type_builder("key_value")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![string("key", Repetition::REQUIRED)?, string("value", Repetition::REQUIRED)?])
        .build()?;
    let builder = Type::group_type_builder(name).with_repetition(Repetition::REQUIRED);
    let builder = builder.with_logical_type(Some(LogicalType::Map)).with_converted_type(ConvertedType::MAP);
    Ok(Arc::new(builder.with_fields(vec![Arc::new(entry)]).build()?))
}

fn list(name: &str, fields: Vec<Arc<Type>>) -> Field {
    let element = Type::group_type_builder("element").with_repetition(Repetition::REQUIRED).with_fields(fields);
    let repeated = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(element.build()?)])
        .build()?;
    let builder = Type::group_type_builder(name).with_repetition(Repetition::REQUIRED);
    let builder = builder.with_logical_type(Some(LogicalType::List)).with_converted_type(ConvertedType::LIST);
    Ok(Arc::new(builder.with_fields(vec![Arc::new(repeated)]).build()?))
}

fn events() -> Field {
    let fields = vec![
        timestamp("time")?,
        string("name", Repetition::REQUIRED)?,
        primitive("dropped_attributes", Repetition::REQUIRED, Physical::INT32)?,
        map("attributes")?,
    ];
    list(column::EVENTS, fields)
}

fn links() -> Field {
    let fields = vec![
        fixed("trace_id", Repetition::REQUIRED, 16)?,
        fixed("span_id", Repetition::REQUIRED, 8)?,
        string("trace_state", Repetition::REQUIRED)?,
        primitive("flags", Repetition::REQUIRED, Physical::INT32)?,
        primitive("dropped_attributes", Repetition::REQUIRED, Physical::INT32)?,
        map("attributes")?,
    ];
    list(column::LINKS, fields)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn layout(version: u32, keys: &[&str]) -> Layout {
        let span = keys.iter().map(|key| PromotedAttribute { key: (*key).to_owned(), value_type: ColumnType::Int });
        Layout { version, span: span.collect(), resource: Vec::new() }
    }

    #[test]
    fn capitals_are_marked_in_names_of_columns() {
        let cases = [
            ("http.route", "span.http.route"),
            ("userId", "span.user^Id"),
            ("URL", "span.^U^R^L"),
            ("a^b^C", "span.a^^b^^^C"),
            ("größe", "span.größe"),
        ];
        for (key, name) in cases {
            assert_eq!(layout(LAYOUT_VERSION, &[]).span_column_name(key), name);
            assert_eq!(
                layout(3, &[]).span_column_name(key),
                format!("span.{key}"),
                "files of before have keys as they are"
            );
        }
        assert_eq!(layout(LAYOUT_VERSION, &[]).resource_column_name("hostName"), "resource.host^Name");
    }

    /// Also in files that are read together with the folders' names as columns.
    #[test]
    fn no_two_columns_have_the_same_name_without_case() {
        let keys = ["Id", "id", "ID", "^id", "^Id", "_id", "attributes", "span_id", "trace_id", "tenant", "Date"];
        let schema = layout(LAYOUT_VERSION, &keys).schema().expect("a schema");
        let names = schema.get_fields().iter().map(|field| field.name()).chain(["tenant", "date", "hour"]);
        let mut without_case = BTreeSet::new();
        for name in names {
            assert!(without_case.insert(name.to_lowercase()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn different_keys_differ_without_case(left in "[aAbB^.ß]{0,6}", right in "[aAbB^.ß]{0,6}") {
            prop_assume!(left != right);
            let [left, right] = [left, right].map(|key| with_marked_capitals(&key).to_lowercase());
            prop_assert_ne!(left, right);
        }
    }
}
