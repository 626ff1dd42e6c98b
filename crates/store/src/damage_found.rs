//! What readers found damaged in stored files: the server's log names the files, status pages tell how many there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracehouse_model::TenantId;
use tracehouse_spanfile::{Part, is_damage};

use crate::error::chain;
use crate::shared::Shared;
use crate::span_file::SpanFile;

/// Sets aside files of which nothing can be read; those of which a part can't are named, and the catalogue remembers them.
pub(crate) fn look_after_damage(shared: &Shared) {
    look_after_damaged_parts(shared);
    for file in shared.access.take_suspected() {
        match file.damage() {
            Some(damage) if damage.is_none() => {
                tracing::warn!(
                    path = file.record.path,
                    "a stored file was read wrong once, yet all of it is right now"
                );
            }
            Some(damage) => {
                metrics::counter!("tracehouse_store_damaged_files_total").increment(1);
                metrics::counter!("tracehouse_store_unreadable_spans_total").increment(damage.rows());
                tracing::error!(
                    path = file.record.path,
                    spans = damage.rows(),
                    of = file.record.spans,
                    columns = damage.columns(),
                    "a stored file is damaged: these spans can't be read, the others can"
                );
                shared.remember_damage(&file.record.id, damage.rows());
            }
            None => match file.open() {
                Err(error) if is_damage(&error.source) => shared.set_damaged_file_aside(&file, &chain(&error.source)),
                _ => {}
            },
        }
    }
}

/// Names the files of which a filter or a list is damaged.
fn look_after_damaged_parts(shared: &Shared) {
    for file in shared.access.take_with_damaged_parts() {
        metrics::counter!("tracehouse_store_damaged_parts_total").increment(1);
        tracing::error!(
            path = file.record.path,
            damaged = in_words(&file.damaged_parts()),
            "a part of a stored file is damaged that saves reading its rows: answers are whole, and take longer"
        );
    }
}

/// What is known of files of which a filter or a list is damaged.
pub(crate) fn trouble_of_damaged_parts(shared: &Shared, only: Option<&TenantId>) -> Option<String> {
    let files = files_of(shared, only);
    let damaged = files.iter().map(|file| file.damaged_parts()).filter(|parts| !parts.is_empty());
    let damaged: Vec<Vec<Part>> = damaged.collect();
    (!damaged.is_empty()).then(|| {
        let parts: BTreeSet<Part> = damaged.iter().flatten().copied().collect();
        let parts = in_words(&parts.into_iter().collect::<Vec<_>>());
        format!(
            "of {} of {} stored files, which the server's log names, parts are damaged that save reading rows ({parts}): answers are \
             whole, and take longer; put intact copies anywhere in the store's folder, stop the server and run `tracehouse store repair`",
            damaged.len(),
            files.len()
        )
    })
}

/// What is known of files that stay in their place although pages of them are damaged.
pub(crate) fn trouble_of_damaged_pages(shared: &Shared, only: Option<&TenantId>) -> Option<String> {
    let files = files_of(shared, only);
    let damaged: Vec<u64> = files.iter().map(|file| file.damaged_spans()).filter(|spans| *spans > 0).collect();
    let spans: u64 = damaged.iter().sum();
    (spans > 0).then(|| {
        format!(
            "damaged pages were found in {} of {} stored files: {spans} spans in them can't be read whole, which the server's log \
             names; put intact copies anywhere in the store's folder, stop the server and run `tracehouse store repair`",
            damaged.len(),
            files.len()
        )
    })
}

fn files_of(shared: &Shared, only: Option<&TenantId>) -> Vec<Arc<SpanFile>> {
    let mut files = shared.state.all_files();
    files.retain(|file| only.is_none_or(|tenant| file.record.tenant == *tenant));
    files
}

fn in_words(parts: &[Part]) -> String {
    parts.iter().map(Part::to_string).collect::<Vec<_>>().join(", ")
}
