use crate::attributes::AttributeLists;
use crate::batch::SpanBatch;
use crate::strings::StringCode;

/// A batch that holds nothing beside its spans: every string of its table, every resource and every scope is of a span
/// that is in it.
///
/// Only such a batch can be written down ([`ExactBatch::encode`]). While a batch is built, its table of strings also takes
/// what turns out not to be kept: the texts of a refused span, the first value of a key that comes twice, a resource
/// without spans. None of that may reach a disk, and the type is what makes sure of it.
#[derive(Clone)]
pub struct ExactBatch(SpanBatch);

impl SpanBatch {
    /// Leaves out strings, resources and scopes that no span uses. A batch without any such is not copied; to find that
    /// out takes some 20 ns a span.
    pub fn into_exact(self) -> ExactBatch {
        if self.is_exact() {
            return ExactBatch(self);
        }
        let mut exact = SpanBatch::new();
        exact.append(&self);
        assert!(exact.is_exact(), "appending takes over what the spans use and nothing else");
        ExactBatch(exact)
    }

    fn is_exact(&self) -> bool {
        uses_all(&self.resource, self.resources.attributes.owners())
            && uses_all(&self.scope, self.scopes.attributes.owners())
            && self.uses_all_strings()
    }

    fn uses_all_strings(&self) -> bool {
        let mut used = vec![false; self.strings.len()];
        // The empty string is always in the table.
        used[0] = true;
        let columns = [
            &self.name,
            &self.status_message,
            &self.trace_state,
            &self.events.name,
            &self.links.trace_state,
            &self.resources.schema_url,
            &self.resources.service_name,
            &self.scopes.name,
            &self.scopes.version,
            &self.scopes.schema_url,
        ];
        columns.into_iter().for_each(|column| mark(&mut used, column));
        let lists = [
            &self.attributes,
            &self.events.attributes,
            &self.links.attributes,
            &self.resources.attributes,
            &self.scopes.attributes,
        ];
        lists.into_iter().for_each(|list| mark_attributes(&mut used, list));
        all(&used)
    }
}

impl ExactBatch {
    /// The spans.
    pub fn spans(&self) -> &SpanBatch {
        &self.0
    }

    /// The spans, to be kept in memory.
    pub fn into_spans(self) -> SpanBatch {
        self.0
    }
}

/// Whether each of so many owners is named in the column.
fn uses_all(column: &[u32], owners: usize) -> bool {
    let mut used = vec![false; owners];
    mark(&mut used, column);
    all(&used)
}

fn mark(used: &mut [bool], codes: &[StringCode]) {
    codes.iter().for_each(|&code| used[code as usize] = true);
}

fn mark_attributes(used: &mut [bool], lists: &AttributeLists) {
    mark(used, &lists.keys);
    for (&tag, &payload) in lists.tags.iter().zip(&lists.payloads) {
        // Without a branch that depends on the data: a value that is no text marks the empty string.
        let code = if AttributeLists::holds_code(tag) { payload } else { 0 };
        used[code as usize] = true;
    }
}

fn all(used: &[bool]) -> bool {
    used.iter().all(|&used| used)
}
