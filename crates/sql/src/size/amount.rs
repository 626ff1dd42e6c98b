//! What planning makes of a part of a statement.

use crate::error::SqlError;

/// Most tables, joins, queries and unions of a plan, each as often as it is named.
const RELATIONS_MAX: u64 = 2_000;
/// Most parts of all expressions of a plan: columns, values, operators, calls. Planning takes 5 to 15 KiB for each.
const EXPRESSIONS_MAX: u64 = 12_000;
/// Most columns that the relations of a plan have together: each knows the names and types of all of its own.
const FIELDS_MAX: u64 = 100_000;

/// An upper bound. Sums do not wrap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) relations: u64,
    pub(super) expressions: u64,
    pub(super) fields: u64,
}

impl Amount {
    pub(super) fn add(&mut self, other: Amount) {
        self.relations = self.relations.saturating_add(other.relations);
        self.expressions = self.expressions.saturating_add(other.expressions);
        self.fields = self.fields.saturating_add(other.fields);
    }

    /// One more relation with so many columns.
    pub(super) fn add_relation(&mut self, columns: usize) {
        self.add(Amount { relations: 1, expressions: 0, fields: columns as u64 });
    }

    pub(super) fn add_expressions(&mut self, count: u64) {
        self.expressions = self.expressions.saturating_add(count);
    }

    pub(super) fn times(self, factor: u64) -> Amount {
        Amount {
            relations: self.relations.saturating_mul(factor),
            expressions: self.expressions.saturating_mul(factor),
            fields: self.fields.saturating_mul(factor),
        }
    }

    /// Fails if it is too much to be planned.
    pub(super) fn check(&self) -> Result<(), SqlError> {
        if self.relations > RELATIONS_MAX {
            return Err(too_large("tables, joins and queries", self.relations, RELATIONS_MAX));
        }
        if self.fields > FIELDS_MAX {
            return Err(too_large("columns of tables, joins and queries", self.fields, FIELDS_MAX));
        }
        check_expressions(self.expressions)
    }
}

/// Fails if one expression has too many parts when each column in it is written out.
pub(super) fn check_expressions(count: u64) -> Result<(), SqlError> {
    if count > EXPRESSIONS_MAX {
        return Err(too_large("columns, values, operators and calls", count, EXPRESSIONS_MAX));
    }
    Ok(())
}

fn too_large(what: &str, count: u64, most: u64) -> SqlError {
    SqlError::Invalid(format!(
        "the statement is too large: written out, it has {count} or more {what}; at most {most} can be planned. A common table \
         expression, view, alias or window counts as often as it is named, a filter for each table it may be applied to; name \
         them less often"
    ))
}
