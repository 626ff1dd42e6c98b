//! What queries, and the tables that they read from, ask for.

use datafusion::sql::sqlparser::ast::{
    Cte, ObjectName, OrderBy, Query, SetExpr, SetOperator, TableFactor, TableWithJoins, With,
};

use super::amount::Amount;
use super::relation::{Relation, Scope, Sources, last, united};
use super::visible::{Visible, key};
use crate::error::SqlError;
use crate::tables::Table;

/// Of tables that describe the others.
const DESCRIBING_COLUMNS: usize = 16;

/// What all parts of a statement are measured with.
pub(super) struct Sizes {
    pub(super) traces: Relation,
    pub(super) arguments_max: u64,
}

impl Sizes {
    /// What a query asks for, with the common table expressions and the columns that it may name.
    pub(super) fn query(
        &self,
        query: &Query,
        scope: &Scope<'_>,
        outer: Option<&Visible<'_>>,
    ) -> Result<Relation, SqlError> {
        if !query.pipe_operators.is_empty() {
            return Err(unknown("|>"));
        }
        let mut inner = Scope { named: Default::default(), outer: Some(scope) };
        let mut amount = Amount::default();
        if let Some(with) = &query.with {
            self.common_tables(with, &mut inner, outer, &mut amount)?;
        }
        let order_by = query.order_by.as_ref();
        let mut relation = self.body(&query.body, order_by, &inner, outer)?;
        amount.add(self.expressions(&query.limit_clause, &inner, &Visible::within(outer))?.amount());
        amount.add(self.expressions(&query.fetch, &inner, &Visible::within(outer))?.amount());
        relation.amount.add(amount);
        relation.amount.check()?;
        Ok(relation)
    }

    fn common_tables(
        &self,
        with: &With,
        scope: &mut Scope<'_>,
        outer: Option<&Visible<'_>>,
        amount: &mut Amount,
    ) -> Result<(), SqlError> {
        for table in &with.cte_tables {
            let relation = match table.query.body.as_ref() {
                SetExpr::SetOperation { left, right, .. } if with.recursive && table.query.with.is_none() => {
                    self.recursive(table, left, right, scope, outer)?
                }
                _ => self.query(&table.query, scope, outer)?,
            };
            // It is planned where it is defined, even if nobody names it.
            amount.add(relation.amount);
            amount.check()?;
            scope.named.insert(key(&table.alias.name), relation.renamed(Some(&table.alias)));
        }
        Ok(())
    }

    /// A table that names itself on its right side, where it is what its left side gives.
    fn recursive(
        &self,
        table: &Cte,
        left: &SetExpr,
        right: &SetExpr,
        scope: &Scope<'_>,
        outer: Option<&Visible<'_>>,
    ) -> Result<Relation, SqlError> {
        let first = self.body(left, None, scope, outer)?;
        let itself = Relation { amount: Amount::default(), columns: first.columns.clone() };
        let mut inner = Scope { named: Default::default(), outer: Some(scope) };
        inner.named.insert(key(&table.alias.name), itself.renamed(Some(&table.alias)));
        let second = self.body(right, None, &inner, outer)?;
        Ok(united(first, second, 1))
    }

    fn body(
        &self,
        body: &SetExpr,
        order_by: Option<&OrderBy>,
        scope: &Scope<'_>,
        outer: Option<&Visible<'_>>,
    ) -> Result<Relation, SqlError> {
        let mut relation = match body {
            SetExpr::Select(select) => return self.select(select, order_by, scope, outer),
            SetExpr::Query(query) => self.query(query, scope, outer)?,
            SetExpr::SetOperation { left, op, right, .. } => {
                let left = self.body(left, None, scope, outer)?;
                let right = self.body(right, None, scope, outer)?;
                // All but UNION become joins of what is distinct on each side.
                united(left, right, if *op == SetOperator::Union { 1 } else { 3 })
            }
            SetExpr::Values(values) => {
                let sized = self.expressions(values, scope, &Visible::within(outer))?;
                let mut relation = Relation::unnamed(values.rows.first().map_or(0, |row| row.content.len()));
                relation.columns.iter_mut().for_each(|column| column.written_out = sized.parts.written_out);
                relation.amount.add(sized.amount());
                relation
            }
            SetExpr::Table(table) => self.named(table.table_name.as_deref().unwrap_or_default(), scope),
            _ => return Err(unknown("this kind of query")),
        };
        if let Some(order_by) = order_by {
            let mut visible = Visible::within(outer);
            visible.add_columns(&relation.columns);
            relation.amount.add(self.expressions(order_by, scope, &visible)?.amount_written_out());
        }
        relation.amount.check()?;
        Ok(relation)
    }

    pub(super) fn join(
        &self,
        from: &TableWithJoins,
        sources: &mut Sources,
        scope: &Scope<'_>,
        outer: Option<&Visible<'_>>,
    ) -> Result<(), SqlError> {
        self.factor(&from.relation, sources, scope, outer)?;
        for join in &from.joins {
            self.factor(&join.relation, sources, scope, outer)?;
            // As a filter it may be moved down to each of them.
            let condition = self.expressions(&join.join_operator, scope, &sources.visible(outer))?;
            sources.amount.add(condition.amount_written_out().times(sources.amount.relations));
            sources.amount.check()?;
        }
        Ok(())
    }

    fn factor(
        &self,
        factor: &TableFactor,
        sources: &mut Sources,
        scope: &Scope<'_>,
        outer: Option<&Visible<'_>>,
    ) -> Result<(), SqlError> {
        match factor {
            TableFactor::Table { name, alias, args, .. } => {
                let mut relation = self.table(name, scope);
                if let Some(args) = args {
                    let sized = self.expressions(args, scope, &sources.visible(outer))?;
                    relation = Relation::unnamed(1);
                    relation.amount.add(sized.amount());
                }
                let named = alias.as_ref().map(|alias| key(&alias.name)).or_else(|| last(name).map(key));
                sources.join(named, relation.renamed(alias.as_ref()))
            }
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                let beside = sources.visible(outer);
                let relation = self.query(subquery, scope, if *lateral { Some(&beside) } else { outer })?;
                sources.join(alias.as_ref().map(|alias| key(&alias.name)), relation.renamed(alias.as_ref()))
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let mut inner = Sources::default();
                self.join(table_with_joins, &mut inner, scope, outer)?;
                let Some(alias) = alias else {
                    let amount = inner.amount;
                    for (name, columns) in inner.sources {
                        sources.join(name, Relation { amount: Amount::default(), columns })?;
                    }
                    sources.amount.add(amount);
                    return sources.amount.check();
                };
                let columns = inner.sources.into_iter().flat_map(|(_, columns)| columns).collect();
                let relation = Relation { amount: inner.amount, columns };
                sources.join(Some(key(&alias.name)), relation.renamed(Some(alias)))
            }
            TableFactor::UNNEST { alias, array_exprs, .. } => {
                let sized = self.expressions(array_exprs, scope, &sources.visible(outer))?;
                let columns = array_exprs.len().saturating_mul(self.arguments_max as usize);
                let mut relation = Relation::unnamed(columns);
                relation.amount.add(sized.amount());
                relation.columns.iter_mut().for_each(|column| column.written_out = sized.parts.written_out);
                sources.join(alias.as_ref().map(|alias| key(&alias.name)), relation.renamed(alias.as_ref()))
            }
            TableFactor::Function { name, args, alias, .. } => {
                let sized = self.expressions(args, scope, &sources.visible(outer))?;
                let mut relation = Relation::unnamed(1);
                relation.amount.add(sized.amount());
                let named = alias.as_ref().map(|alias| key(&alias.name)).or_else(|| last(name).map(key));
                sources.join(named, relation.renamed(alias.as_ref()))
            }
            _ => Err(unknown("this kind of table")),
        }
    }

    /// What the name of a table stands for. Only a name without that of a schema can be that of a common table expression.
    fn table(&self, name: &ObjectName, scope: &Scope<'_>) -> Relation {
        let table = last(name).map(key).unwrap_or_default();
        if name.0.len() > 1 { self.named(&table, &Scope::default()) } else { self.named(&table, scope) }
    }

    fn named(&self, name: &str, scope: &Scope<'_>) -> Relation {
        let name = name.to_lowercase();
        if let Some(known) = scope.find(&name) {
            return known.clone();
        }
        match Table::ALL.into_iter().find(|table| table.name() == name) {
            Some(table) => Relation::table(table.columns().iter().map(|column| column.name()).collect()),
            None if name == "traces" => self.traces.clone(),
            None => Relation::unnamed(DESCRIBING_COLUMNS),
        }
    }
}

pub(super) fn unknown(what: &str) -> SqlError {
    SqlError::Invalid(format!("{what} can't be planned here; write it as SELECT … FROM … with joins and subqueries"))
}
