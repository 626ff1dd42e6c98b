//! Names of services: of each span the one that answers show ([`SpanBatch::shown_service`]), wherever it is stored.
//!
//! A file lists the services whose name is a text. What else names a service is read, value by value, and so is whether there are
//! spans without any name.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use parquet::errors::ParquetError;
use tracehouse_model::{AnyValue, SpanBatch, UNKNOWN_SERVICE, shown_service_of};
use tracehouse_scan::{Contents, RowGroup, Window};
use tracehouse_spanfile::{ColumnType, FileContents, NameList, OpenFile};
use tracehouse_traceql::FieldExpr;

use crate::candidates::SpanFinder;
use crate::compile::Expression;
use crate::conditions::no_service_name;
use crate::error::QueryError;
use crate::groups::{field_of, groups_of};
use crate::known_values::{Asked, KnownValues};
use crate::names::{ListedFile, Names, each_in_range};
use crate::question::Question;
use crate::request::{Listing, Scope};
use crate::seen_values::Values;
use crate::stored_values::each_value_of_file;

pub(crate) const SERVICE_NAME: &str = "service.name";

/// Of spans that begin in a range of times, going by whole files.
pub(crate) fn services(
    question: Question<'_>,
    range: &Range<i64>,
    known: &KnownValues,
) -> Result<Listing<String>, QueryError> {
    let (names, has_all) = (RefCell::new(Names::new()), Cell::new(true));
    let nameless = Expression::of(&no_service_name())?;
    let of_file = |ListedFile { file, contents, listed }: ListedFile<'_>| {
        let texts = listed.services.keys().filter(|name| !name.is_empty());
        texts.for_each(|name| names.borrow_mut().add(name.clone()));
        if names_services_otherwise(listed) {
            let others = known.of_file(question, file, Asked::OtherServices, |open, values| {
                other_services(question, (open, contents), &nameless, values)
            });
            has_all.set(has_all.get() && others.complete);
            others.values.iter().for_each(|(_, name)| names.borrow_mut().add(name.clone()));
        } else if listed.services.contains_key("") {
            names.borrow_mut().add(UNKNOWN_SERVICE.to_owned());
        }
        listed.lists_all(NameList::Services)
    };
    let of_batch = |spans: &SpanBatch| {
        (0..spans.resources.service_name.len())
            .for_each(|resource| names.borrow_mut().add(spans.shown_service(resource).into_owned()));
    };
    let mut covered = each_in_range(question, range, of_file, of_batch);
    covered.is_all &= has_all.get();
    Ok(names.into_inner().listing(question, &covered))
}

/// Of spans that satisfy conditions.
pub(crate) fn services_among(
    question: Question<'_>,
    conditions: &[FieldExpr],
    range: &Range<i64>,
) -> Result<Listing<String>, QueryError> {
    let groups = groups_of(question, &field_of(Scope::Resource, SERVICE_NAME), conditions, range)?;
    let mut names = Names::new();
    let shown = groups.items.iter().map(|group| shown_service_of(group.first().and_then(Option::as_ref)));
    shown.for_each(|name| names.add(name.into_owned()));
    Ok(names.listing_of(groups.complete, groups.partial_reason))
}

/// Names of services in a file that are no texts, and the one of spans without a name.
fn other_services(
    question: Question<'_>,
    (open, contents): (&OpenFile, &Contents),
    nameless: &Expression,
    values: &mut Values,
) -> Result<(), ParquetError> {
    let bounds = question.bounds;
    each_value_of_file(open, contents, (Scope::Resource, SERVICE_NAME), bounds, |value| {
        if !matches!(value, AnyValue::String(_)) {
            values.add_text("string", &shown_service_of(Some(&value)));
        }
        !values.full()
    })?;
    let finder = SpanFinder { filter: nameless, exactly: &[], window: Window::starting(i64::MIN..i64::MAX), bounds };
    for number in 0..open.row_groups() {
        let row_group = RowGroup { bounds, open, contents, number };
        if finder.matching_rows(row_group)?.count_set_bits() > 0 {
            values.add_text("string", UNKNOWN_SERVICE);
            break;
        }
        if bounds.exceeded() {
            break;
        }
    }
    Ok(())
}

/// Whether a file may have a `service.name` that is no text by itself: its list of services lacks those.
pub(crate) fn names_services_otherwise(listed: &FileContents) -> bool {
    let mut of_key = listed.resource_keys.iter().filter(|known| known.key == SERVICE_NAME);
    !listed.lists_all(NameList::ResourceKeys) || of_key.any(|known| known.value_type != Some(ColumnType::String))
}

/// Whether a file may have a `service.name` that is a list, or what else has no column of its own.
pub(crate) fn names_services_in_lists(listed: &FileContents) -> bool {
    let mut of_key = listed.resource_keys.iter().filter(|known| known.key == SERVICE_NAME);
    !listed.lists_all(NameList::ResourceKeys) || of_key.any(|known| known.value_type.is_none())
}

/// The columns of a file that hold the names of services, whatever their type.
pub(crate) fn columns_of_services(open: &OpenFile) -> impl Iterator<Item = &'static str> {
    let has_column = open.layout().resource_column(SERVICE_NAME).is_some();
    let has_others = !open.holds_alone("resource.service.name");
    has_column.then_some("resource.service.name").into_iter().chain(has_others.then_some("resource_attributes"))
}
