//! Names for completion: services, operations, attribute keys and values.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use parquet::errors::Result;
use tracehouse_model::{AnyValue, AttributeLists, SpanBatch};
use tracehouse_store::{FileContents, Layout, Snapshot, SpanFile, StringForm};

use crate::request::{AttributeKey, AttributeValueSeen, Listing, Scope};

/// Most names of one kind that are listed.
const NAMES_MAX: usize = 10_000;
/// Values are looked for in so many of the newest files.
const FILES_FOR_VALUES_MAX: usize = 4;
/// Longer values help nobody to choose.
const VALUE_BYTES_MAX: usize = 256;

pub(crate) fn services(snapshot: &Snapshot) -> Listing<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut complete = true;
    for file in snapshot.files.iter() {
        complete &= file.contents.complete;
        names.extend(file.contents.services.keys().cloned());
    }
    for hot in &snapshot.hot {
        let spans = &hot.spans;
        names.extend(spans.resources.service_name.iter().map(|&code| spans.strings.get(code).to_owned()));
    }
    names.remove("");
    listing(names, complete, NAMES_MAX)
}

pub(crate) fn operations(snapshot: &Snapshot, service: Option<&str>) -> Listing<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut complete = true;
    for file in snapshot.files.iter() {
        complete &= file.contents.complete;
        let wanted = |name: &str| service.is_none_or(|service| service == name);
        for (_, operations) in file.contents.services.iter().filter(|(name, _)| wanted(name)) {
            names.extend(operations.iter().cloned());
        }
    }
    for hot in &snapshot.hot {
        let spans = &hot.spans;
        let code = service.map(|service| spans.strings.find(service.as_bytes()));
        let mut codes: Vec<u32> = (0..spans.len())
            .filter(|&row| code.is_none_or(|code| code == Some(spans.service_name(row))))
            .map(|row| spans.name[row])
            .collect();
        codes.sort_unstable();
        codes.dedup();
        names.extend(codes.into_iter().map(|code| spans.strings.get(code).to_owned()));
    }
    listing(names, complete, NAMES_MAX)
}

pub(crate) fn attribute_keys(snapshot: &Snapshot, scope: Option<Scope>) -> Listing<AttributeKey> {
    let mut keys: BTreeSet<AttributeKey> = BTreeSet::new();
    let wanted = |candidate: Scope| scope.is_none_or(|scope| scope == candidate || scope == Scope::Either);
    let mut complete = true;
    let mut add = |scope: Scope, key: &str| {
        if wanted(scope) {
            keys.insert(AttributeKey { scope, key: key.to_owned() });
        }
    };
    for file in snapshot.files.iter() {
        let contents = &file.contents;
        complete &= contents.complete && contents.span_keys.len() < FileContents::KEYS_MAX;
        contents.span_keys.iter().for_each(|key| add(Scope::Span, &key.key));
        contents.resource_keys.iter().for_each(|key| add(Scope::Resource, &key.key));
        contents.scope_keys.iter().for_each(|key| add(Scope::Instrumentation, key));
        contents.event_keys.iter().for_each(|key| add(Scope::Event, key));
        contents.link_keys.iter().for_each(|key| add(Scope::Link, key));
    }
    for hot in &snapshot.hot {
        let spans = &hot.spans;
        for (scope, lists) in all_lists(spans) {
            let codes: BTreeSet<u32> = lists.keys().iter().copied().collect();
            codes.into_iter().for_each(|code| add(scope, spans.strings.get(code)));
        }
    }
    listing(keys, complete, NAMES_MAX)
}

fn all_lists(spans: &SpanBatch) -> [(Scope, &AttributeLists); 5] {
    [
        (Scope::Span, &spans.attributes),
        (Scope::Resource, &spans.resources.attributes),
        (Scope::Instrumentation, &spans.scopes.attributes),
        (Scope::Event, &spans.events.attributes),
        (Scope::Link, &spans.links.attributes),
    ]
}

/// Values of an attribute, from memory and the newest files.
pub(crate) fn attribute_values(
    snapshot: &Snapshot,
    scope: Scope,
    key: &str,
    limit: usize,
) -> Result<Listing<AttributeValueSeen>> {
    let mut values = Values { seen: BTreeMap::new(), limit };
    for hot in snapshot.hot.iter().rev() {
        let spans = &hot.spans;
        let Some(code) = spans.strings.find(key.as_bytes()) else { continue };
        for (place, lists) in all_lists(spans) {
            let asked = place == scope || (scope == Scope::Either && matches!(place, Scope::Span | Scope::Resource));
            if asked {
                for owner in 0..lists.owners() {
                    if let Some(value) = lists.get(owner, code) {
                        values.add(value.resolve(&spans.strings));
                    }
                }
            }
        }
    }
    let holding: Vec<_> = snapshot.files.iter().filter(|file| file_has(&file.contents, scope, key)).collect();
    let mut read = 0;
    for file in holding.iter().take(FILES_FOR_VALUES_MAX) {
        if values.full() {
            break;
        }
        values_of_file(file, scope, key, &mut values)?;
        read += 1;
    }
    let complete = read == holding.len() && !values.full();
    let items = values.seen.into_keys().map(|(value_type, value)| AttributeValueSeen { value_type, value });
    Ok(Listing { items: items.take(limit).collect(), complete })
}

fn file_has(contents: &FileContents, scope: Scope, key: &str) -> bool {
    let span = || contents.span_keys.iter().any(|known| known.key == key);
    let resource = || contents.resource_keys.iter().any(|known| known.key == key);
    match scope {
        Scope::Either => span() || resource(),
        Scope::Span => span(),
        Scope::Resource => resource(),
        Scope::Instrumentation => contents.scope_keys.iter().any(|known| known == key),
        // Inside lists: values from memory have to do.
        Scope::Event | Scope::Link => false,
    }
}

struct Values {
    seen: BTreeMap<(&'static str, String), ()>,
    limit: usize,
}

impl Values {
    fn full(&self) -> bool {
        self.seen.len() > self.limit
    }

    fn add(&mut self, value: AnyValue) {
        if self.full() {
            return;
        }
        let shown = match &value {
            AnyValue::String(text) => text.clone(),
            AnyValue::Int(value) => value.to_string(),
            AnyValue::Double(value) => value.to_string(),
            AnyValue::Bool(value) => value.to_string(),
            AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::Array(_) | AnyValue::KeyValueList(_) => return,
        };
        if shown.len() <= VALUE_BYTES_MAX {
            self.seen.insert((value.type_name(), shown), ());
        }
    }
}

fn values_of_file(file: &std::sync::Arc<SpanFile>, scope: Scope, key: &str, values: &mut Values) -> Result<()> {
    let open = file.open().map_err(|error| error.source)?;
    let layout = open.layout();
    let mut columns: Vec<String> = Vec::new();
    if matches!(scope, Scope::Either | Scope::Span) {
        let promoted = layout.span_column(key).is_some();
        columns.push(if promoted { Layout::span_column_name(key) } else { "span_attributes".into() });
    }
    if matches!(scope, Scope::Either | Scope::Resource) {
        let promoted = layout.resource_column(key).is_some();
        columns.push(if promoted { Layout::resource_column_name(key) } else { "resource_attributes".into() });
    }
    if scope == Scope::Instrumentation {
        columns.push("scope_attributes".into());
    }
    for column in columns {
        for row_group in 0..open.row_groups() {
            let rows = open.rows_of(row_group).max(1);
            for batch in open.scan(row_group, &[&column], None, StringForm::Dictionary, rows)? {
                let batch = batch?;
                if JSON_COLUMNS.contains(&column.as_str()) {
                    values_of_texts(batch.column(0), key, values);
                } else {
                    values_of_column(batch.column(0), key, values);
                }
            }
            if values.full() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Columns in which a text holds all attributes that have no column.
const JSON_COLUMNS: [&str; 2] = ["resource_attributes", "scope_attributes"];

fn values_of_texts(array: &arrow::array::ArrayRef, key: &str, values: &mut Values) {
    let mut add = |text: &str| {
        if let Ok(AnyValue::KeyValueList(entries)) = AnyValue::from_canonical_json(text) {
            entries.into_iter().filter(|(known, _)| known == key).for_each(|(_, value)| values.add(value));
        }
    };
    if let Some(dictionary) = array.as_dictionary_opt::<Int32Type>() {
        dictionary.values().as_string::<i32>().iter().flatten().for_each(&mut add);
    } else if let Some(views) = array.as_string_view_opt() {
        let distinct: BTreeSet<&str> = views.iter().flatten().collect();
        distinct.into_iter().for_each(&mut add);
    }
}

fn values_of_column(array: &arrow::array::ArrayRef, key: &str, values: &mut Values) {
    if let Some(dictionary) = array.as_dictionary_opt::<Int32Type>() {
        // Every value of a dictionary that we write is used by some row.
        let texts = dictionary.values().as_string::<i32>();
        texts.iter().flatten().for_each(|text| values.add(AnyValue::String(text.to_owned())));
    } else if let Some(views) = array.as_string_view_opt() {
        views.iter().flatten().for_each(|text| values.add(AnyValue::String(text.to_owned())));
    } else if let Some(ints) = array.as_primitive_opt::<Int64Type>() {
        let distinct: BTreeSet<i64> = ints.iter().flatten().collect();
        distinct.into_iter().for_each(|value| values.add(AnyValue::Int(value)));
    } else if let Some(doubles) = array.as_primitive_opt::<Float64Type>() {
        doubles.iter().flatten().for_each(|value| values.add(AnyValue::Double(value)));
    } else if let Some(bools) = array.as_boolean_opt() {
        bools.iter().flatten().for_each(|value| values.add(AnyValue::Bool(value)));
    } else if let Some(map) = array.as_map_opt() {
        let (keys, json) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
        for at in (0..keys.len()).filter(|&at| keys.value(at) == key) {
            if let Ok(value) = AnyValue::from_canonical_json(json.value(at)) {
                values.add(value);
            }
        }
    }
}

fn listing<T: Ord>(items: BTreeSet<T>, complete: bool, most: usize) -> Listing<T> {
    let cut = items.len() > most;
    Listing { items: items.into_iter().take(most).collect(), complete: complete && !cut }
}
