//! Names for completion: what is listed of them, and the keys of attributes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use parquet::errors::ParquetError;
use tracehouse_model::{AttributeLists, SpanBatch};
use tracehouse_scan::{Contents, Part, RowGroup, Window, contents_of};
use tracehouse_spanfile::{FileContents, OpenFile};
use tracehouse_store::{HotBatch, SpanFile};

use crate::candidates::SpanFinder;
use crate::column_eval::file_may_match;
use crate::compile::Expression;
use crate::question::Question;
use crate::request::{AttributeKey, Listing, Scope};
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
/// Every time that is not before 1970.
pub(crate) const ALL_TIME: Range<i64> = 0..i64::MAX;

/// What is listed by its name.
pub(crate) trait Named: Ord {
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
pub(crate) struct Names<T> {
    seen: BTreeSet<T>,
    bytes: usize,
    /// The first of those for which there was no room.
    left_out: Option<T>,
    has_too_long: bool,
}

impl<T: Named> Names<T> {
    pub(crate) fn new() -> Self {
        Self { seen: BTreeSet::new(), bytes: 0, left_out: None, has_too_long: false }
    }

    pub(crate) fn add(&mut self, name: T) {
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

    pub(crate) fn listing(self, question: Question<'_>, covered: &Covered) -> Listing<T> {
        let partial_reason = question.reach.partial_reason().or_else(|| covered.partial_reason());
        self.listing_of(covered.is_all, partial_reason)
    }

    /// `complete`: whether all names were looked at.
    pub(crate) fn listing_of(self, complete: bool, partial_reason: Option<String>) -> Listing<T> {
        let has_all = self.left_out.is_none() && !self.has_too_long;
        let complete = has_all && complete && partial_reason.is_none();
        Listing { items: self.seen.into_iter().collect(), complete, partial_reason }
    }
}

/// What was looked at for names.
pub(crate) struct Covered {
    /// False if a file was left out, or does not list all that occurs in it.
    pub(crate) is_all: bool,
    files: usize,
    /// Files that list only a part of the names that occur in them.
    cut: usize,
    /// Files whose lists can't be read.
    unread: usize,
    /// How far it came, if the time was over before.
    stopped: Option<String>,
    /// Why what was counted beside the lists is not all.
    pub(crate) reason: Option<String>,
}

impl Covered {
    fn partial_reason(&self) -> Option<String> {
        let Self { files, cut, unread, .. } = self;
        let of_damage = (*unread > 0).then(|| format!("the names in {unread} of {files} files could not be read"));
        let of_lists = (*cut > 0)
            .then(|| format!("{cut} of {files} files list only a part of their names, which are too many or too long"));
        of_damage.or(of_lists).or_else(|| self.stopped.clone()).or_else(|| self.reason.clone())
    }
}

/// A file, and what it lists of what occurs in it.
pub(crate) struct ListedFile<'a> {
    pub(crate) file: &'a Arc<SpanFile>,
    pub(crate) contents: &'a Contents,
    pub(crate) listed: &'a FileContents,
}

/// Shows the batches in memory and the files with spans that begin in a range of times, as wholes. `look_at_file` says whether the
/// file lists all names.
pub(crate) fn each_in_range(
    question: Question<'_>,
    range: &Range<i64>,
    mut look_at_file: impl FnMut(ListedFile<'_>) -> bool,
    mut look_at_batch: impl FnMut(&SpanBatch),
) -> Covered {
    let mut covered = Covered { is_all: true, files: 0, cut: 0, unread: 0, stopped: None, reason: None };
    let window = Window::starting(range.clone());
    let files: Vec<&Arc<SpanFile>> = question.snapshot.files.iter().filter(|file| window.may_select_of(file)).collect();
    for file in &files {
        if question.bounds.exceeded() {
            covered.is_all = false;
            covered.stopped = Some(question.bounds.stopped(covered.files, files.len(), "files looked at"));
            break;
        }
        let contents = contents_of(file);
        let lists_all = contents.known().map(|listed| look_at_file(ListedFile { file, contents: &contents, listed }));
        covered.files += 1;
        covered.cut += usize::from(lists_all == Some(false));
        covered.unread += usize::from(lists_all.is_none());
        covered.is_all &= lists_all == Some(true);
    }
    hot_in_range(question, range).for_each(|hot| look_at_batch(&hot.spans));
    covered
}

pub(crate) fn hot_in_range<'a>(
    question: Question<'a>,
    range: &'a Range<i64>,
) -> impl DoubleEndedIterator<Item = &'a Arc<HotBatch>> {
    let in_range = |hot: &&Arc<HotBatch>| hot.spans.start_unix_nanos.iter().any(|start| range.contains(start));
    question.snapshot.hot.iter().filter(in_range)
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
    let of_file = |ListedFile { listed, .. }: ListedFile<'_>| {
        listed.span_keys.iter().for_each(|key| add(Scope::Span, &key.key));
        listed.resource_keys.iter().for_each(|key| add(Scope::Resource, &key.key));
        listed.scope_keys.iter().for_each(|key| add(Scope::Instrumentation, key));
        listed.event_keys.iter().for_each(|key| add(Scope::Event, key));
        listed.link_keys.iter().for_each(|key| add(Scope::Link, key));
        listed.lists_all_keys()
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

pub(crate) fn all_lists(spans: &SpanBatch) -> [(Scope, &AttributeLists); 5] {
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
    let finder = SpanFinder { filter, exactly: &[], window: Window::starting(range.clone()), bounds };
    'files: for file in finder.files(snapshot) {
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
            reach.attempt(file, part, rows, |open| keys.add_row_group(&finder, &contents, open, row_group));
        }
    }
    let covered = Covered {
        is_all: !keys.enough() && !bounds.exceeded(),
        files: 0,
        cut: 0,
        unread: 0,
        stopped: None,
        reason: None,
    };
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

    fn add_row_group(
        &mut self,
        finder: &SpanFinder<'_>,
        contents: &Contents,
        open: &OpenFile,
        row_group: usize,
    ) -> Result<()> {
        let row_group = RowGroup { bounds: finder.bounds, open, contents, number: row_group };
        let wanted = finder.matching_rows(row_group)?;
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
