//! What the catalogue remembered beside its list of files and no longer tells: a row is damaged, or is not there any more.
//!
//! A store starts without it and takes the safe side: it deletes nothing for its age, compares all files before they count, and
//! reads the log again. It writes down anew what it assumes, and under [`LOST_META`] what it does not know, so that the operator
//! is told until `tracehouse store repair` has mended it.

use std::collections::BTreeSet;

use tracehouse_catalogue::{CatalogueContents, DamagedNote, NoteKind};

use crate::clock;
use crate::log_losses::{LOSSES_META, Losses};
use crate::notes::{CLOCK_META, HELD_BACK_META, LOST_META, SAVED_QUERIES_META, STORE_META};
use tracehouse_log::{LOG_META, LogMark};
use tracehouse_model::TenantId;

/// What a store remembers.
const NAMES: [&str; 5] = [STORE_META, CLOCK_META, LOG_META, LOSSES_META, HELD_BACK_META];

/// What was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Of [`NAMES`].
    names: BTreeSet<&'static str>,
    /// Those of them that the catalogue knows to be lost.
    noted: BTreeSet<&'static str>,
    /// Other rows, as they are called.
    others: BTreeSet<String>,
    /// How many positions of the log.
    positions: usize,
}

impl Lost {
    pub(crate) fn of(contents: &CatalogueContents) -> Self {
        let noted = contents.meta.get(LOST_META).map_or("", String::as_str);
        let is_noted = |name: &str| noted.split_whitespace().any(|other| other == name);
        let noted: BTreeSet<&'static str> = NAMES.into_iter().filter(|name| is_noted(name)).collect();
        let lost_now = NAMES.into_iter().filter(|name| is_lost(contents, name));
        let of_kind = |kind| contents.damaged_notes.iter().filter(move |note| note.kind == kind);
        let name_of = |note: &DamagedNote| note.name.clone().unwrap_or_else(|| "a row without a name".to_owned());
        let is_other = |name: &String| !NAMES.contains(&name.as_str());
        Self {
            names: noted.iter().copied().chain(lost_now).collect(),
            noted,
            others: of_kind(NoteKind::Meta).map(name_of).filter(is_other).collect(),
            positions: of_kind(NoteKind::LogPosition).count(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.names.len() + self.others.len() + self.positions
    }

    /// Whose saved queries were lost.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &str> {
        self.others.iter().filter_map(|name| of_tenant(name))
    }

    /// The clock was confirmed.
    pub(crate) fn find_clock(&mut self) {
        self.names.remove(CLOCK_META);
    }

    /// What the catalogue has to remember, if it does not yet.
    pub(crate) fn to_remember(&self) -> Option<(String, String)> {
        let words: Vec<&str> = self.names.iter().copied().collect();
        (self.names != self.noted).then(|| (LOST_META.to_owned(), words.join(" ")))
    }

    /// It was committed.
    pub(crate) fn is_remembered(&mut self) {
        self.noted.clone_from(&self.names);
    }

    /// The same, with nothing lost any more.
    pub(crate) fn to_forget() -> (String, String) {
        (LOST_META.to_owned(), String::new())
    }

    /// What is lost and what follows from it, one sentence each. To a tenant alone, of others' rows only how many there are.
    pub(crate) fn findings(&self, only: Option<&TenantId>) -> Vec<String> {
        let mut findings: Vec<String> =
            self.names.iter().map(|name| format!("{LOST_ROW} {}", consequence(name))).collect();
        let is_told = |name: &&String| only.is_none_or(|only| of_tenant(name) == Some(only.as_str()));
        let (told, others): (Vec<&String>, Vec<&String>) = self.others.iter().partition(is_told);
        findings.extend(told.into_iter().map(|name| {
            format!(
                "a row of what the catalogue remembers is damaged or lost ({}); {}",
                name.escape_debug(),
                consequence_of_other(name)
            )
        }));
        if !others.is_empty() {
            let rows = if others.len() == 1 { "row" } else { "rows" };
            findings
                .push(format!("{} other {rows} of the catalogue can't be read; see the server's log", others.len()));
        }
        if self.positions > 0 {
            findings.push(format!(
                "{LOST_ROW} how much of the log stands in files: the log is read again, and what is stored is recognised"
            ));
        }
        findings
    }
}

const LOST_ROW: &str = "the catalogue lost, as a row is damaged or gone,";

fn consequence(name: &str) -> &'static str {
    match name {
        STORE_META => "the store's name: it goes by the one in the folder in which the listed files lie",
        CLOCK_META => {
            "what time it was: nothing is deleted for its age before the store has run as long as the retention, or \
             `tracehouse store trust-clock` confirms the machine's clock"
        }
        LOG_META => "how far the log had come: if the log lost its end meanwhile, nobody can tell",
        LOSSES_META => "what of the log was found to be lost at earlier starts",
        _ => "which files may hold copies of spans in others: all are compared before they count",
    }
}

fn consequence_of_other(name: &str) -> &'static str {
    match of_tenant(name) {
        Some(_) => "the saved queries of this tenant are gone, and none can be saved before `tracehouse store repair`",
        None => "it is not used",
    }
}

/// Whose saved queries stand in a row.
fn of_tenant(name: &str) -> Option<&str> {
    name.strip_prefix(SAVED_QUERIES_META)
}

/// Whether something was remembered under a name and can't be told any more.
pub(crate) fn is_lost(contents: &CatalogueContents, name: &str) -> bool {
    let is_readable = |value: &String| match name {
        CLOCK_META => clock::can_be_read(value),
        LOG_META => LogMark::parse(value).is_some(),
        LOSSES_META => Losses::parse(value).is_some(),
        _ => true,
    };
    contents.meta.get(name).map_or_else(|| contents.is_lost(name), |value| !is_readable(value))
}
