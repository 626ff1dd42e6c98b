//! Values of attributes and other fields for completion.

use std::ops::Range;

use tracehouse_scan::{Window, contents_of};
use tracehouse_spanfile::{FileContents, NameList};

use crate::known_values::{Asked, KnownValues};
use crate::names::{all_lists, hot_in_range};
use crate::question::Question;
use crate::request::{AttributeValueSeen, Listing, Scope};
use crate::seen_values::Values;
use crate::services::{SERVICE_NAME, names_services_otherwise};
use crate::stored_values::{each_value_of_file, stored_field};

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
        if let Some(listed) = contents.known().filter(|listed| lists_values(listed, scope, key)) {
            listed.services.keys().for_each(|name| values.add_text("string", name));
            continue;
        }
        let asked = Asked::Attribute(scope, key.to_owned());
        let of_file = known.of_file(question, file, asked, |open, values| {
            each_value_of_file(open, &contents, (scope, key), bounds, |value| {
                values.add(value);
                !values.full()
            })
        });
        complete &= of_file.complete;
        of_file.values.iter().for_each(|(value_type, value)| values.add_text(value_type, value));
    }
    values.listing(question, complete)
}

/// Whether the list of services of a file has all values of an attribute, so that it need not be read.
fn lists_values(listed: &FileContents, scope: Scope, key: &str) -> bool {
    let is_of_resources = match scope {
        Scope::Resource => true,
        Scope::Either => !listed.may_have(NameList::SpanKeys, key),
        _ => false,
    };
    key == SERVICE_NAME
        && is_of_resources
        && listed.lists_all(NameList::Services)
        && !names_services_otherwise(listed)
        // This may be an empty name, or none.
        && !listed.services.contains_key("")
}
