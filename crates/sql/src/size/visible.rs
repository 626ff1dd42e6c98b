//! What the name of a column stands for, where it is written.

use std::collections::HashMap;

use datafusion::sql::sqlparser::ast::Ident;

use super::relation::Column;

/// How many parts an expression has: as it is planned at first, and with each column written out as the expression that it
/// was made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) planned: u64,
    pub(super) written_out: u64,
}

impl Parts {
    pub(super) const ONE: Parts = Parts { planned: 1, written_out: 1 };

    fn larger(self, other: Parts) -> Parts {
        Parts { planned: self.planned.max(other.planned), written_out: self.written_out.max(other.written_out) }
    }
}

/// The columns that expressions of one query may name.
#[derive(Default)]
pub(super) struct Visible<'a> {
    columns: HashMap<String, u64>,
    /// Of columns that have the name of their expression, or another one that is not known.
    unnamed: u64,
    /// Expressions of the query itself that have a name.
    aliases: HashMap<String, Parts>,
    /// Parts of each window that has a name.
    windows: HashMap<String, Parts>,
    outer: Option<&'a Visible<'a>>,
}

pub(super) fn key(ident: &Ident) -> String {
    ident.value.to_lowercase()
}

impl<'a> Visible<'a> {
    pub(super) fn within(outer: Option<&'a Visible<'a>>) -> Self {
        Self { outer, ..Self::default() }
    }

    pub(super) fn add_columns(&mut self, columns: &[Column]) {
        for column in columns {
            match &column.name {
                Some(name) => {
                    let known = self.columns.entry(name.clone()).or_insert(1);
                    *known = (*known).max(column.written_out);
                }
                None => self.unnamed = self.unnamed.max(column.written_out),
            }
        }
    }

    pub(super) fn add_alias(&mut self, name: String, parts: Parts) {
        self.aliases.insert(name, parts);
    }

    pub(super) fn add_window(&mut self, name: String, parts: Parts) {
        self.windows.insert(name, parts);
    }

    pub(super) fn window(&self, name: &Ident) -> Option<Parts> {
        self.windows.get(&key(name)).copied()
    }

    /// What a name of one or more parts stands for, of which one is that of the column. What is named twice is the larger.
    pub(super) fn parts_of(&self, name: &[Ident]) -> Parts {
        let known = name.iter().filter_map(|ident| self.known(&key(ident)));
        known.reduce(Parts::larger).unwrap_or_else(|| self.of_unnamed())
    }

    fn known(&self, name: &str) -> Option<Parts> {
        let column = self.columns.get(name).map(|&written_out| Parts { planned: 1, written_out });
        match (column, self.aliases.get(name)) {
            (Some(column), Some(alias)) => Some(column.larger(*alias)),
            (Some(parts), None) => Some(parts),
            (None, Some(alias)) => Some(*alias),
            (None, None) => self.outer.and_then(|outer| outer.known(name)),
        }
    }

    fn of_unnamed(&self) -> Parts {
        let own = Parts { planned: 1, written_out: self.unnamed.max(1) };
        self.outer.map_or(own, |outer| own.larger(outer.of_unnamed()))
    }
}
