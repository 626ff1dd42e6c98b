//! Names for completion: services, operations, attribute keys and values.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use parking_lot::Mutex;
use parquet::errors::ParquetError;
use tracehouse_model::{AnyValue, AttributeLists, SpanBatch};
use tracehouse_store::{FileContents, OpenFile, Projection, ReadError, Snapshot, SpanFile, StringForm};
use tracehouse_traceql::{Attribute, AttributeScope, FieldExpr};

use crate::bounds::Bounds;
use crate::candidates::Scan;
use crate::column_eval::{column_of_attribute, columns_of_attribute, file_may_match};
use crate::compile::{Expression, attribute_scope};
use crate::engine::compile;
use crate::error::QueryError;
use crate::metrics::{MetricsPlan, metrics};
use crate::request::{AttributeKey, AttributeValueSeen, Listing, MetricsRequest, Scope};
use crate::row_eval::RowExpression;

type Result<T, E = ParquetError> = std::result::Result<T, E>;

/// Most names of one kind that are listed.
pub(crate) const NAMES_MAX: usize = 10_000;
/// Keys of matching spans are looked for on so many of the newest of them.
const SPANS_FOR_KEYS_MAX: usize = 20_000;
/// Rows that are turned into spans at once.
const ROWS_PER_BLOCK: usize = 1024;
/// Most values of one attribute that are remembered of a file.
const VALUES_PER_FILE_MAX: usize = 10_000;
/// What all remembered values of files may take.
const KNOWN_BYTES_MAX: usize = 16 << 20;
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

/// Keys on the spans that satisfy a condition, from the newest of them: in memory, then in files from the newest back.
pub(crate) fn attribute_keys_of(
    snapshot: &Snapshot,
    scope: Option<Scope>,
    filter: &Expression,
    range: &Range<i64>,
    bounds: &Bounds<'_>,
) -> Result<Listing<AttributeKey>, ReadError> {
    let mut keys = KeysOfSpans { scope, keys: BTreeSet::new(), spans: 0 };
    for hot in snapshot.hot.iter().rev() {
        let condition = RowExpression::new(filter, &hot.spans, None);
        let holds = |row: &usize| range.contains(&hot.spans.start_unix_nanos[*row]) && condition.holds(*row);
        keys.add(&hot.spans, (0..hot.spans.len()).filter(holds));
    }
    let scan = Scan { filter, start: range.clone(), bounds };
    for file in scan.files(snapshot).into_iter().filter(|file| file_may_match(filter, &file.contents)) {
        let open = file.open()?;
        for row_group in 0..open.row_groups() {
            if keys.enough() || bounds.exceeded() {
                return Ok(listing(keys.keys, false, NAMES_MAX));
            }
            keys.add_row_group(&scan, file, &open, row_group).map_err(|source| file.read_error(source))?;
        }
    }
    let complete = !keys.enough() && !bounds.exceeded();
    Ok(listing(keys.keys, complete, NAMES_MAX))
}

struct KeysOfSpans {
    scope: Option<Scope>,
    keys: BTreeSet<AttributeKey>,
    /// How many were looked at.
    spans: usize,
}

impl KeysOfSpans {
    fn enough(&self) -> bool {
        self.spans >= SPANS_FOR_KEYS_MAX
    }

    fn add_row_group(&mut self, scan: &Scan<'_>, file: &SpanFile, open: &OpenFile, row_group: usize) -> Result<()> {
        let wanted = scan.matching_rows(file, open, row_group)?;
        let mut begin = 0;
        while begin < wanted.len() && !self.enough() {
            let end = (begin + ROWS_PER_BLOCK).min(wanted.len());
            let rows = wanted.slice(begin, end - begin);
            if rows.count_set_bits() > 0 {
                let bytes = open.bytes_of(row_group, None);
                scan.bounds.count_scanned(bytes, end - begin, wanted.len());
                self.add(&open.read_rows(row_group, begin..end, Projection::All)?, rows.set_indices());
            }
            begin = end;
        }
        Ok(())
    }

    fn add(&mut self, spans: &SpanBatch, rows: impl Iterator<Item = usize>) {
        let mut codes: [BTreeSet<u32>; 5] = Default::default();
        let lists = all_lists(spans);
        let mut owner = |place: usize, owner: usize| codes[place].extend(lists[place].1.of(owner).map(|(key, _)| key));
        for row in rows {
            self.spans += 1;
            owner(0, row);
            owner(1, spans.resource[row] as usize);
            owner(2, spans.scope[row] as usize);
            spans.event_range(row).for_each(|event| owner(3, event));
            spans.link_range(row).for_each(|link| owner(4, link));
        }
        for ((scope, _), codes) in lists.into_iter().zip(codes) {
            if self.scope.is_none_or(|asked| asked == scope || asked == Scope::Either) {
                let key = |code| AttributeKey { scope, key: spans.strings.get(code).to_owned() };
                self.keys.extend(codes.into_iter().map(key));
            }
        }
    }
}

/// Values of a field on the spans that satisfy conditions: the groups of a count.
pub(crate) fn field_values(
    snapshot: &Snapshot,
    field: &str,
    conditions: &[FieldExpr],
    range: &Range<i64>,
    limit: usize,
    bounds: &Bounds<'_>,
) -> Result<Listing<AttributeValueSeen>, QueryError> {
    let conditions: Vec<String> = conditions.iter().map(|condition| format!("({condition})")).collect();
    let traceql = format!("{{ {} }} | count_over_time() by ({field})", conditions.join(" && "));
    let request = MetricsRequest {
        start_unix_nanos: range.start,
        end_unix_nanos: range.end,
        traceql,
        ..MetricsRequest::default()
    };
    let answer = metrics(snapshot, &MetricsPlan::of(compile(&request.traceql)?, &request)?, bounds)?;
    let mut values = Values { seen: BTreeSet::new(), limit };
    for value in answer.series.into_iter().flat_map(|series| series.labels).filter_map(|(_, value)| value) {
        match value {
            AnyValue::Array(items) => items.into_iter().for_each(|item| values.add(item)),
            value => values.add(value),
        }
    }
    let complete = answer.partial_reason.is_none();
    Ok(values.listing(complete))
}

/// An attribute as TraceQL names it.
pub(crate) fn field_of(scope: Scope, key: &str) -> String {
    let scope = attribute_scope(scope);
    Attribute { scope, name: key.to_owned(), of_parent: false }.to_string()
}

/// Values of an attribute of spans, resources or scopes, whatever the spans are, from memory and files from the newest back.
pub(crate) fn attribute_values(
    snapshot: &Snapshot,
    scope: Scope,
    key: &str,
    limit: usize,
    known: &KnownValues,
    bounds: &Bounds<'_>,
) -> Result<Listing<AttributeValueSeen>, ReadError> {
    let mut values = Values { seen: BTreeSet::new(), limit };
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
    let mut complete = true;
    for file in snapshot.files.iter().filter(|file| file_has(&file.contents, scope, key)) {
        if values.full() || bounds.exceeded() {
            complete = false;
            break;
        }
        let of_file = known.of_file(file, scope, key, bounds)?;
        complete &= of_file.complete;
        of_file.values.iter().for_each(|(value_type, value)| values.add_text(value_type, value));
    }
    Ok(values.listing(complete))
}

/// The values that attributes take in files, which never change: each is read once. The oldest knowledge goes when it takes
/// too much memory.
#[derive(Default)]
pub(crate) struct KnownValues(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_attribute: HashMap<Attributed, Arc<FileValues>>,
    in_order: VecDeque<Attributed>,
    bytes: usize,
}

/// Path of a file (which is in a folder of its tenant), and an attribute.
type Attributed = (String, Scope, String);

struct FileValues {
    values: Vec<(&'static str, String)>,
    /// False if there are more.
    complete: bool,
}

impl KnownValues {
    fn of_file(
        &self,
        file: &Arc<SpanFile>,
        scope: Scope,
        key: &str,
        bounds: &Bounds<'_>,
    ) -> Result<Arc<FileValues>, ReadError> {
        let attributed = (file.record.path.clone(), scope, key.to_owned());
        if let Some(known) = self.0.lock().by_attribute.get(&attributed) {
            return Ok(known.clone());
        }
        let mut values = Values { seen: BTreeSet::new(), limit: VALUES_PER_FILE_MAX };
        values_of_file(file, scope, key, &mut values, bounds).map_err(|source| file.read_error(source))?;
        let complete = !values.full();
        let found = Arc::new(FileValues { values: values.seen.into_iter().collect(), complete });
        if !bounds.exceeded() {
            self.0.lock().keep(attributed, found.clone());
        }
        Ok(found)
    }
}

impl Known {
    fn keep(&mut self, attributed: Attributed, values: Arc<FileValues>) {
        self.bytes += bytes_of(&attributed, &values);
        if self.by_attribute.insert(attributed.clone(), values.clone()).is_some() {
            self.bytes -= bytes_of(&attributed, &values);
            return;
        }
        self.in_order.push_back(attributed);
        while self.bytes > KNOWN_BYTES_MAX {
            let Some(oldest) = self.in_order.pop_front() else { break };
            if let Some(values) = self.by_attribute.remove(&oldest) {
                self.bytes -= bytes_of(&oldest, &values);
            }
        }
    }
}

/// About what an entry takes, with its key twice.
fn bytes_of((path, _, key): &Attributed, values: &FileValues) -> usize {
    let texts: usize = values.values.iter().map(|(_, value)| value.len() + size_of::<(&str, String)>()).sum();
    2 * (path.len() + key.len() + size_of::<Attributed>()) + texts
}

/// What lies in a range of times, going by whole files and batches in memory.
pub(crate) fn within(snapshot: Snapshot, range: &Range<i64>) -> Snapshot {
    if *range == ALL_TIME {
        return snapshot;
    }
    let in_range = |spans: &SpanBatch| spans.start_unix_nanos.iter().any(|start| range.contains(start));
    let of_file = |file: &&Arc<SpanFile>| file.record.start_max >= range.start && file.record.start_min < range.end;
    Snapshot {
        hot: snapshot.hot.into_iter().filter(|hot| in_range(&hot.spans)).collect(),
        files: Arc::new(snapshot.files.iter().filter(of_file).cloned().collect()),
    }
}

/// Every time that is not before 1970.
pub(crate) const ALL_TIME: Range<i64> = 0..i64::MAX;

fn file_has(contents: &FileContents, scope: Scope, key: &str) -> bool {
    let span = || contents.span_keys.iter().any(|known| known.key == key);
    let resource = || contents.resource_keys.iter().any(|known| known.key == key);
    match scope {
        Scope::Either => span() || resource(),
        Scope::Span => span(),
        Scope::Resource => resource(),
        Scope::Instrumentation => contents.scope_keys.iter().any(|known| known == key),
        // They stand inside lists, where the groups of a count find them.
        Scope::Event | Scope::Link => false,
    }
}

struct Values {
    /// Type and text.
    seen: BTreeSet<(&'static str, String)>,
    limit: usize,
}

impl Values {
    fn full(&self) -> bool {
        self.seen.len() > self.limit
    }

    fn add(&mut self, value: AnyValue) {
        let shown = match &value {
            AnyValue::String(text) => text.clone(),
            AnyValue::Int(value) => value.to_string(),
            AnyValue::Double(value) => value.to_string(),
            AnyValue::Bool(value) => value.to_string(),
            AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::Array(_) | AnyValue::KeyValueList(_) => return,
        };
        self.add_text(value.type_name(), &shown);
    }

    fn add_text(&mut self, value_type: &'static str, shown: &str) {
        if !self.full() && shown.len() <= VALUE_BYTES_MAX {
            self.seen.insert((value_type, shown.to_owned()));
        }
    }

    fn listing(self, complete: bool) -> Listing<AttributeValueSeen> {
        let complete = complete && !self.full();
        let items = self.seen.into_iter().map(|(value_type, value)| AttributeValueSeen { value_type, value });
        Listing { items: items.take(self.limit).collect(), complete }
    }
}

fn values_of_file(
    file: &Arc<SpanFile>,
    scope: Scope,
    key: &str,
    values: &mut Values,
    bounds: &Bounds<'_>,
) -> Result<()> {
    let open = file.open().map_err(|error| error.source)?;
    let layout = open.layout();
    let mut columns: Vec<String> = Vec::new();
    let places = [(Scope::Span, AttributeScope::Span), (Scope::Resource, AttributeScope::Resource)];
    for (_, place) in places.into_iter().filter(|(place, _)| scope == *place || scope == Scope::Either) {
        match column_of_attribute(place, key, &file.contents, layout) {
            Some(alone) => columns.extend(alone),
            None => columns.extend(columns_of_attribute(place, key, layout)),
        }
    }
    if scope == Scope::Instrumentation {
        columns.push("scope_attributes".into());
    }
    for column in columns {
        for row_group in 0..open.row_groups() {
            if bounds.exceeded() {
                return Ok(());
            }
            for batch in bounds.scan(&open, row_group, &[&column], None, StringForm::Dictionary)? {
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
