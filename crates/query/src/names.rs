//! Names for completion: services, operations, attribute keys and values.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use parking_lot::Mutex;
use parquet::errors::ParquetError;
use tracehouse_model::{AnyValue, AttributeLists, SpanBatch, UNKNOWN_SERVICE, double_text};
use tracehouse_scan::{Bounds, Contents, Field, Part, ReadRows, RowGroup, Window, contents_of};
use tracehouse_store::{ColumnType, FileContents, HotBatch, NameList, OpenFile, SpanFile};
use tracehouse_traceql::{Attribute, FieldExpr};

use crate::candidates::Scan;
use crate::column_eval::file_may_match;
use crate::compile::{Expression, attribute_scope};
use crate::error::QueryError;
use crate::metrics::{MetricsPlan, metrics};
use crate::operations::operations_by_kind;
use crate::plan::counts_by;
use crate::question::Question;
use crate::request::{AttributeKey, AttributeValueSeen, Listing, MetricsRequest, Scope};
use crate::row_eval::RowExpression;

type Result<T, E = ParquetError> = std::result::Result<T, E>;

/// Most names of one kind that are listed …
pub(crate) const NAMES_MAX: usize = 10_000;
/// … and the bytes that they may take together …
const NAMES_BYTES_MAX: usize = 1 << 20;
/// … as senders choose names. Longer ones help nobody to choose.
const NAME_BYTES_MAX: usize = 1024;
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

/// What is listed by its name.
trait Named: Ord {
    fn name(&self) -> &str;
}

impl Named for String {
    fn name(&self) -> &str {
        self
    }
}

impl Named for AttributeKey {
    fn name(&self) -> &str {
        &self.key
    }
}

/// The first names of some kind, in their order.
struct Names<T> {
    seen: BTreeSet<T>,
    bytes: usize,
    /// The first of those for which there was no room.
    left_out: Option<T>,
    has_too_long: bool,
}

impl<T: Named> Names<T> {
    fn new() -> Self {
        Self { seen: BTreeSet::new(), bytes: 0, left_out: None, has_too_long: false }
    }

    fn add(&mut self, name: T) {
        let bytes = name.name().len();
        self.has_too_long |= bytes > NAME_BYTES_MAX;
        let is_beyond = self.left_out.as_ref().is_some_and(|left_out| *left_out <= name);
        if bytes > NAME_BYTES_MAX || is_beyond || !self.seen.insert(name) {
            return;
        }
        self.bytes += bytes;
        while self.seen.len() > NAMES_MAX || self.bytes > NAMES_BYTES_MAX {
            let Some(last) = self.seen.pop_last() else { break };
            self.bytes -= last.name().len();
            self.left_out = Some(last);
        }
    }

    fn listing(self, question: Question<'_>, covered: &Covered) -> Listing<T> {
        let partial_reason = question.reach.partial_reason().or_else(|| covered.partial_reason());
        let has_all = self.left_out.is_none() && !self.has_too_long;
        let complete = has_all && covered.is_all && partial_reason.is_none();
        Listing { items: self.seen.into_iter().collect(), complete, partial_reason }
    }
}

/// What was looked at for names.
struct Covered {
    /// False if a file was left out, or does not list all that occurs in it.
    is_all: bool,
    files: usize,
    /// Files that list only a part of the names that occur in them.
    cut: usize,
    /// Why what was counted beside the lists is not all.
    reason: Option<String>,
}

impl Covered {
    fn partial_reason(&self) -> Option<String> {
        let Self { files, cut, .. } = self;
        let of_lists = (*cut > 0)
            .then(|| format!("{cut} of {files} files list only a part of their names, which are too many or too long"));
        of_lists.or_else(|| self.reason.clone())
    }
}

/// Shows the batches in memory and what occurs in the files with spans that begin in a range of times, as wholes.
fn each_in_range(
    question: Question<'_>,
    range: &Range<i64>,
    mut look_at_file: impl FnMut(&FileContents) -> bool,
    mut look_at_batch: impl FnMut(&SpanBatch),
) -> Covered {
    let mut covered = Covered { is_all: true, files: 0, cut: 0, reason: None };
    let window = Window::starting(range.clone());
    for file in question.snapshot.files.iter().filter(|file| window.may_select_of(file)) {
        if question.bounds.exceeded() {
            covered.is_all = false;
            break;
        }
        let lists_all = contents_of(file).known().map(&mut look_at_file);
        covered.files += 1;
        covered.cut += usize::from(lists_all == Some(false));
        covered.is_all &= lists_all == Some(true);
    }
    hot_in_range(question, range).for_each(|hot| look_at_batch(&hot.spans));
    covered
}

fn hot_in_range<'a>(
    question: Question<'a>,
    range: &'a Range<i64>,
) -> impl DoubleEndedIterator<Item = &'a Arc<HotBatch>> {
    let in_range = |hot: &&Arc<HotBatch>| hot.spans.start_unix_nanos.iter().any(|start| range.contains(start));
    question.snapshot.hot.iter().filter(in_range)
}

pub(crate) fn services(question: Question<'_>, range: &Range<i64>, known: &KnownValues) -> Listing<String> {
    let names = RefCell::new(Names::new());
    let has_other_types = Cell::new(false);
    let add = |name: &str| {
        let shown = if name.is_empty() { UNKNOWN_SERVICE } else { name };
        names.borrow_mut().add(shown.to_owned());
    };
    let of_file = |contents: &FileContents| {
        contents.services.keys().for_each(|name| add(name));
        has_other_types.set(has_other_types.get() || names_services_otherwise(contents));
        contents.lists_all(NameList::Services)
    };
    let of_batch = |spans: &SpanBatch| {
        (0..spans.resources.service_name.len())
            .for_each(|resource| names.borrow_mut().add(spans.shown_service(resource).into_owned()));
    };
    let mut covered = each_in_range(question, range, of_file, of_batch);
    if has_other_types.get() {
        // Files list only services whose name is a text by itself.
        let found = attribute_values(question, range, Scope::Resource, "service.name", VALUES_PER_FILE_MAX, known);
        covered.is_all &= found.complete;
        let is_no_number = |seen: &AttributeValueSeen| (seen.value_type, &*seen.value) == ("double", "NaN");
        found.items.iter().for_each(|seen| add(if is_no_number(seen) { UNKNOWN_SERVICE } else { &seen.value }));
    }
    names.into_inner().listing(question, &covered)
}

/// Whether a file has a `service.name` that is no text by itself: its list of services lacks those.
fn names_services_otherwise(contents: &FileContents) -> bool {
    let mut of_key = contents.resource_keys.iter().filter(|known| known.key == "service.name");
    of_key.any(|known| known.value_type != Some(ColumnType::String))
}

/// Whether a file has a `service.name` that is a list, or what else has no column of its own.
fn names_services_in_lists(contents: &FileContents) -> bool {
    contents.resource_keys.iter().any(|known| known.key == "service.name" && known.value_type.is_none())
}

/// Whether a name may be that of spans whose `service.name` is no text.
pub(crate) fn is_no_listed_service(name: &str) -> bool {
    name == UNKNOWN_SERVICE || name.parse::<f64>().is_ok() || name.parse::<bool>().is_ok()
}

pub(crate) fn operations(
    question: Question<'_>,
    range: &Range<i64>,
    service: Option<&str>,
) -> Result<Listing<String>, QueryError> {
    let names = RefCell::new(Names::new());
    let has_lists = Cell::new(false);
    let of_file = |contents: &FileContents| {
        let wanted = |name: &str| service.is_none_or(|service| service == name);
        let operations = contents.services.iter().filter(|(name, _)| wanted(name)).flat_map(|(_, names)| names);
        operations.for_each(|name| names.borrow_mut().add(name.clone()));
        has_lists.set(has_lists.get() || names_services_in_lists(contents));
        contents.lists_all(NameList::Operations)
    };
    let of_batch = |spans: &SpanBatch| {
        let resources = 0..spans.resources.service_name.len();
        let wanted: Vec<bool> =
            resources.map(|resource| service.is_none_or(|service| spans.shown_service(resource) == service)).collect();
        let rows = (0..spans.len()).filter(|&row| wanted[spans.resource[row] as usize]);
        let mut codes: Vec<u32> = rows.map(|row| spans.name[row]).collect();
        codes.sort_unstable();
        codes.dedup();
        codes.into_iter().for_each(|code| names.borrow_mut().add(spans.strings.get(code).to_owned()));
    };
    let mut covered = each_in_range(question, range, of_file, of_batch);
    if service.is_some() && has_lists.get() {
        let counted = operations_by_kind(question, range, service)?;
        covered.is_all &= counted.complete;
        covered.reason = counted.partial_reason;
        counted.items.into_iter().for_each(|operation| names.borrow_mut().add(operation.name));
    }
    Ok(names.into_inner().listing(question, &covered))
}

pub(crate) fn attribute_keys(
    question: Question<'_>,
    range: &Range<i64>,
    scope: Option<Scope>,
) -> Listing<AttributeKey> {
    let keys = RefCell::new(Names::new());
    let wanted = |candidate: Scope| scope.is_none_or(|scope| scope == candidate || scope == Scope::Either);
    let add = |scope: Scope, key: &str| {
        if wanted(scope) {
            keys.borrow_mut().add(AttributeKey { scope, key: key.to_owned() });
        }
    };
    let of_file = |contents: &FileContents| {
        contents.span_keys.iter().for_each(|key| add(Scope::Span, &key.key));
        contents.resource_keys.iter().for_each(|key| add(Scope::Resource, &key.key));
        contents.scope_keys.iter().for_each(|key| add(Scope::Instrumentation, key));
        contents.event_keys.iter().for_each(|key| add(Scope::Event, key));
        contents.link_keys.iter().for_each(|key| add(Scope::Link, key));
        contents.lists_all_keys()
    };
    let of_batch = |spans: &SpanBatch| {
        for (scope, lists) in all_lists(spans) {
            let codes: BTreeSet<u32> = lists.keys().iter().copied().collect();
            codes.into_iter().for_each(|code| add(scope, spans.strings.get(code)));
        }
    };
    let covered = each_in_range(question, range, of_file, of_batch);
    keys.into_inner().listing(question, &covered)
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
    question: Question<'_>,
    scope: Option<Scope>,
    filter: &Expression,
    range: &Range<i64>,
) -> Listing<AttributeKey> {
    let Question { snapshot, bounds, reach } = question;
    let mut keys = KeysOfSpans { scope, keys: Names::new(), spans: 0 };
    for hot in snapshot.hot.iter().rev() {
        let condition = RowExpression::new(filter, &hot.spans, None);
        let holds = |row: &usize| range.contains(&hot.spans.start_unix_nanos[*row]) && condition.holds(*row);
        keys.add(&hot.spans, (0..hot.spans.len()).filter(holds));
    }
    let scan = Scan { filter, exactly: &[], window: Window::starting(range.clone()), bounds };
    'files: for file in scan.files(snapshot) {
        if keys.enough() || bounds.exceeded() {
            break;
        }
        let contents = contents_of(file);
        if !file_may_match(filter, file, &contents) {
            continue;
        }
        let Some(open) = reach.open(file) else { continue };
        for row_group in 0..open.row_groups() {
            if keys.enough() || bounds.exceeded() {
                break 'files;
            }
            let (part, rows) = (Part::RowGroup(row_group), open.rows_of(row_group) as u64);
            // Keys are a set: those that were added before an error may be added again.
            reach.attempt(file, part, rows, |open| keys.add_row_group(&scan, &contents, open, row_group));
        }
    }
    let covered = Covered { is_all: !keys.enough() && !bounds.exceeded(), files: 0, cut: 0, reason: None };
    keys.keys.listing(question, &covered)
}

struct KeysOfSpans {
    scope: Option<Scope>,
    keys: Names<AttributeKey>,
    /// How many were looked at.
    spans: usize,
}

impl KeysOfSpans {
    fn enough(&self) -> bool {
        self.spans >= SPANS_FOR_KEYS_MAX
    }

    fn add_row_group(&mut self, scan: &Scan<'_>, contents: &Contents, open: &OpenFile, row_group: usize) -> Result<()> {
        let row_group = RowGroup { bounds: scan.bounds, open, contents, number: row_group };
        let wanted = scan.matching_rows(row_group)?;
        row_group.each_block(&wanted, None, ROWS_PER_BLOCK, |spans, _, inside| {
            self.add(spans, inside.iter().copied());
            Ok(!self.enough())
        })
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
                codes.into_iter().map(key).for_each(|key| self.keys.add(key));
            }
        }
    }
}

/// Values of a field on the spans that satisfy conditions: the groups of a count.
pub(crate) fn field_values(
    question: Question<'_>,
    field: &str,
    conditions: &[FieldExpr],
    range: &Range<i64>,
    limit: usize,
) -> Result<Listing<AttributeValueSeen>, QueryError> {
    let request =
        MetricsRequest { start_unix_nanos: range.start, end_unix_nanos: range.end, ..MetricsRequest::default() };
    let answer = metrics(question, &MetricsPlan::of(counts_by(field, conditions.to_vec())?, &request)?);
    let mut values = Values::new(limit);
    let labels = answer.series.into_iter().flat_map(|series| series.labels);
    labels.filter_map(|(_, value)| value).for_each(|value| values.add(value));
    let complete = answer.partial_reason.is_none();
    Ok(values.listing(question, complete))
}

/// An attribute as TraceQL names it.
pub(crate) fn field_of(scope: Scope, key: &str) -> String {
    let scope = attribute_scope(scope);
    Attribute { scope, name: key.to_owned(), of_parent: false }.to_string()
}

/// Values of an attribute of spans, resources or scopes, whatever the spans are, from memory and files from the newest back.
pub(crate) fn attribute_values(
    question: Question<'_>,
    range: &Range<i64>,
    scope: Scope,
    key: &str,
    limit: usize,
    known: &KnownValues,
) -> Listing<AttributeValueSeen> {
    let Question { snapshot, bounds, .. } = question;
    let mut values = Values::new(limit);
    for hot in hot_in_range(question, range).rev() {
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
    let window = Window::starting(range.clone());
    for file in snapshot.files.iter().filter(|file| window.may_select_of(file)) {
        if values.full() || bounds.exceeded() {
            complete = false;
            break;
        }
        let contents = contents_of(file);
        if !stored_field(scope, key).is_some_and(|field| field.may_occur(&contents)) {
            continue;
        }
        let of_file = known.of_file(question, file, &contents, scope, key);
        complete &= of_file.complete;
        of_file.values.iter().for_each(|(value_type, value)| values.add_text(value_type, value));
    }
    values.listing(question, complete)
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
        question: Question<'_>,
        file: &Arc<SpanFile>,
        contents: &Contents,
        scope: Scope,
        key: &str,
    ) -> Arc<FileValues> {
        let Question { bounds, reach, .. } = question;
        let attributed = (file.record.path.clone(), scope, key.to_owned());
        if let Some(known) = self.0.lock().by_attribute.get(&attributed) {
            return known.clone();
        }
        let read = reach.attempt(file, Part::Whole, file.record.spans, |open| {
            let mut values = Values::new(VALUES_PER_FILE_MAX);
            values_of_file(open, contents, scope, key, &mut values, bounds)?;
            Ok(values)
        });
        let Some(values) = read else {
            return Arc::new(FileValues { values: Vec::new(), complete: false });
        };
        let complete = !values.full() && !values.has_too_long;
        let found = Arc::new(FileValues { values: values.seen.into_iter().collect(), complete });
        if !bounds.exceeded() {
            self.0.lock().keep(attributed, found.clone());
        }
        found
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

/// Every time that is not before 1970.
pub(crate) const ALL_TIME: Range<i64> = 0..i64::MAX;

struct Values {
    /// Type and text.
    seen: BTreeSet<(&'static str, String)>,
    limit: usize,
    has_too_long: bool,
}

impl Values {
    fn new(limit: usize) -> Self {
        Self { seen: BTreeSet::new(), limit, has_too_long: false }
    }

    fn full(&self) -> bool {
        self.seen.len() > self.limit
    }

    /// Conditions hold for a list if they do for any of its values, so each of them is listed.
    fn add(&mut self, value: AnyValue) {
        let shown = match &value {
            AnyValue::String(text) => text.clone(),
            AnyValue::Int(value) => value.to_string(),
            AnyValue::Double(value) => double_text(*value),
            AnyValue::Bool(value) => value.to_string(),
            AnyValue::Array(_) => {
                let AnyValue::Array(items) = value else { return };
                return items.into_iter().for_each(|item| self.add(item));
            }
            AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::KeyValueList(_) => return,
        };
        self.add_text(value.type_name(), &shown);
    }

    fn add_all(&mut self, values: tracehouse_scan::Values) {
        let array = match values {
            tracehouse_scan::Values::Any(values) => {
                return values.iter().flatten().for_each(|value| self.add(value.clone()));
            }
            tracehouse_scan::Values::Typed(array) => array,
        };
        let mut add_text = |text: &str| self.add_text("string", text);
        if let Some(texts) = array.as_string_opt::<i32>() {
            texts.iter().flatten().for_each(&mut add_text);
        } else if let Some(texts) = array.as_string_view_opt() {
            texts.iter().flatten().for_each(&mut add_text);
        } else if let Some(ints) = array.as_primitive_opt::<Int64Type>() {
            let distinct: BTreeSet<i64> = ints.iter().flatten().collect();
            distinct.into_iter().for_each(|value| self.add(AnyValue::Int(value)));
        } else if let Some(doubles) = array.as_primitive_opt::<Float64Type>() {
            doubles.iter().flatten().for_each(|value| self.add(AnyValue::Double(value)));
        } else if let Some(bools) = array.as_boolean_opt() {
            bools.iter().flatten().for_each(|value| self.add(AnyValue::Bool(value)));
        }
    }

    fn add_text(&mut self, value_type: &'static str, shown: &str) {
        let is_too_long = shown.len() > VALUE_BYTES_MAX;
        self.has_too_long |= is_too_long;
        if !self.full() && !is_too_long {
            self.seen.insert((value_type, shown.to_owned()));
        }
    }

    fn listing(self, question: Question<'_>, complete: bool) -> Listing<AttributeValueSeen> {
        let partial_reason = question.reach.partial_reason();
        let complete = complete && !self.full() && !self.has_too_long && partial_reason.is_none();
        let items = self.seen.into_iter().map(|(value_type, value)| AttributeValueSeen { value_type, value });
        Listing { items: items.take(self.limit).collect(), complete, partial_reason }
    }
}

/// What is asked for as files hold it; `None` for what stands inside lists, where the groups of a count find it.
fn stored_field(scope: Scope, key: &str) -> Option<Field<'_>> {
    crate::column_eval::field_of(attribute_scope(scope), key)
}

fn values_of_file(
    open: &OpenFile,
    contents: &Contents,
    scope: Scope,
    key: &str,
    values: &mut Values,
    bounds: &Bounds,
) -> Result<()> {
    let places = stored_field(scope, key).map(|field| field.places(contents, open.layout())).unwrap_or_default();
    for place in places {
        for row_group in 0..open.row_groups() {
            if bounds.exceeded() || values.full() {
                return Ok(());
            }
            let row_group = RowGroup { bounds, open, contents, number: row_group };
            for batch in row_group.read(&[&place.column], &ReadRows::exactly(&row_group.readable()), usize::MAX)? {
                // Every value of a dictionary that we write is used by some row.
                values.add_all(place.values(batch?.column(0))?.values);
            }
        }
    }
    Ok(())
}
