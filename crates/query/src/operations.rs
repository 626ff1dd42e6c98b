//! Names of spans, also with the kinds that spans of the name have.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use tracehouse_model::{AnyValue, SpanBatch, UNKNOWN_SERVICE, kind, shown_service_of};
use tracehouse_spanfile::NameList;

use crate::conditions::condition_expr;
use crate::error::QueryError;
use crate::groups::{field_of, groups_of};
use crate::names::{ListedFile, Names, each_in_range};
use crate::question::Question;
use crate::request::{Condition, Listing, Operation, Scope};
use crate::services::{SERVICE_NAME, names_services_in_lists};

/// Of one service or of all, going by the lists of files where they say it, else by spans.
pub(crate) fn operations(
    question: Question<'_>,
    range: &Range<i64>,
    service: Option<&str>,
) -> Result<Listing<String>, QueryError> {
    if service.is_some_and(is_no_listed_service) {
        let counted = operations_by_kind(question, range, service)?;
        let mut items: Vec<String> = counted.items.into_iter().map(|operation| operation.name).collect();
        items.dedup();
        return Ok(Listing { items, complete: counted.complete, partial_reason: counted.partial_reason });
    }
    let names = RefCell::new(Names::new());
    let has_lists = Cell::new(false);
    let of_file = |ListedFile { listed, .. }: ListedFile<'_>| {
        // Under no name stand spans whose name is no text.
        let wanted = |name: &str| service.is_none_or(|service| service == name && !name.is_empty());
        let operations = listed.services.iter().filter(|(name, _)| wanted(name)).flat_map(|(_, names)| names);
        operations.for_each(|name| names.borrow_mut().add(name.clone()));
        has_lists.set(has_lists.get() || names_services_in_lists(listed));
        listed.lists_all(NameList::Operations)
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

/// Whether a name may be that of spans whose `service.name` is no text: files list the names of spans by texts.
fn is_no_listed_service(name: &str) -> bool {
    name == UNKNOWN_SERVICE || name.parse::<f64>().is_ok() || name.parse::<bool>().is_ok()
}

/// Names with kinds: the groups of a count.
pub(crate) fn operations_by_kind(
    question: Question<'_>,
    range: &Range<i64>,
    service: Option<&str>,
) -> Result<Listing<Operation>, QueryError> {
    let condition = service.map(|service| condition_expr(&Condition::Service(service.to_owned())));
    let by_service = format!("name, kind, {}", field_of(Scope::Resource, SERVICE_NAME));
    let fields = if service.is_some() { &by_service } else { "name, kind" };
    let groups = groups_of(question, fields, &condition.into_iter().collect::<Vec<_>>(), range)?;
    let operation = |group: Vec<Option<AnyValue>>| {
        // A list is found by each of its values, and shown under one name.
        let shown = || shown_service_of(group.get(2).and_then(Option::as_ref));
        if service.is_some_and(|service| shown() != service) {
            return None;
        }
        let mut texts = group.into_iter().map(|value| match value {
            Some(AnyValue::String(text)) => text,
            _ => String::new(),
        });
        let name = texts.next().filter(|name| !name.is_empty())?;
        Some(Operation { name, kind: kind::from_name(&texts.next()?)? })
    };
    let mut items: Vec<Operation> = groups.items.into_iter().filter_map(operation).collect();
    items.sort_unstable();
    items.dedup();
    Ok(Listing { items, complete: groups.complete, partial_reason: groups.partial_reason })
}
