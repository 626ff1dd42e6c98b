//! What can be read from, and what planning it takes.

use std::collections::HashMap;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart, TableAlias};

use super::amount::Amount;
use super::visible::{Visible, key};
use crate::error::SqlError;

/// Something to read from, and what planning it takes.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) amount: Amount,
    pub(super) columns: Vec<Column>,
}

/// A column of a relation.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// In small letters; `None` if it is not known.
    pub(super) name: Option<String>,
    /// Parts of the expression that it is made by, down to the columns of tables.
    pub(super) written_out: u64,
}

impl Relation {
    pub(super) fn table(names: Vec<String>) -> Self {
        let columns: Vec<Column> = names.into_iter().map(|name| Column { name: Some(name), written_out: 1 }).collect();
        Self { amount: Amount { relations: 1, expressions: 0, fields: columns.len() as u64 }, columns }
    }

    pub(super) fn unnamed(columns: usize) -> Self {
        let mut relation = Self::table(vec![String::new(); columns]);
        relation.columns.iter_mut().for_each(|column| column.name = None);
        relation
    }

    /// Under another name, and perhaps with other names of its columns: which becomes which is not followed up.
    pub(super) fn renamed(mut self, alias: Option<&TableAlias>) -> Self {
        let Some(alias) = alias else { return self };
        self.amount.add_relation(self.columns.len());
        if !alias.columns.is_empty() {
            let written_out = largest(&self.columns);
            let new = alias.columns.iter().map(|column| Column { name: Some(key(&column.name)), written_out });
            self.columns.iter_mut().for_each(|column| column.written_out = written_out);
            let mut columns: Vec<Column> = new.collect();
            columns.extend(self.columns.drain(..).skip(columns.len()));
            self.columns = columns;
        }
        self
    }
}

pub(super) fn largest(columns: &[Column]) -> u64 {
    columns.iter().map(|column| column.written_out).max().unwrap_or(1)
}

/// Common table expressions by their names.
#[derive(Default)]
pub(super) struct Scope<'a> {
    pub(super) named: HashMap<String, Relation>,
    pub(super) outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    pub(super) fn find(&self, name: &str) -> Option<&Relation> {
        self.named.get(name).or_else(|| self.outer.and_then(|outer| outer.find(name)))
    }
}

/// What a query reads from.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) amount: Amount,
    pub(super) sources: Vec<(Option<String>, Vec<Column>)>,
}

impl Sources {
    pub(super) fn columns(&self) -> usize {
        self.sources.iter().map(|(_, columns)| columns.len()).sum()
    }

    /// Another one beside those that are there.
    pub(super) fn join(&mut self, name: Option<String>, relation: Relation) -> Result<(), SqlError> {
        self.amount.add(relation.amount);
        let is_first = self.sources.is_empty();
        self.sources.push((name, relation.columns));
        if !is_first {
            self.amount.add_relation(self.columns());
        }
        self.amount.check()
    }

    pub(super) fn visible<'a>(&self, outer: Option<&'a Visible<'a>>) -> Visible<'a> {
        let mut visible = Visible::within(outer);
        self.sources.iter().for_each(|(_, columns)| visible.add_columns(columns));
        visible
    }
}

/// Both sides of a UNION or its like.
pub(super) fn united(left: Relation, right: Relation, relations: u64) -> Relation {
    let mut amount = left.amount;
    amount.add(right.amount);
    for _ in 0..relations {
        amount.add_relation(left.columns.len());
    }
    let of_right = largest(&right.columns);
    let mut columns = left.columns;
    columns.iter_mut().for_each(|column| column.written_out = column.written_out.max(of_right));
    Relation { amount, columns }
}

pub(super) fn last(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(ObjectNamePart::as_ident)
}
