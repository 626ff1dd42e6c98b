//! What one SELECT asks for.

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, OrderBy, OrderByKind, Select, SelectItem, SelectItemQualifiedWildcardKind,
    Value, WildcardAdditionalOptions,
};

use super::amount::{Amount, check_expressions};
use super::expression::Sized;
use super::query::{Sizes, unknown};
use super::relation::{Column, Relation, Scope, Sources, largest, last};
use super::visible::{Parts, Visible, key};
use crate::error::SqlError;

/// Most expressions to group by: each is looked up among all that are selected.
const GROUPS_MAX: usize = 500;
/// A query in the making.
struct Selected<'a> {
    amount: Amount,
    columns: Vec<Column>,
    visible: Visible<'a>,
    /// Parts of each expression that is selected.
    items: Vec<Parts>,
}

impl Sizes {
    pub(super) fn select(
        &self,
        select: &Select,
        order_by: Option<&OrderBy>,
        scope: &Scope<'_>,
        outer: Option<&Visible<'_>>,
    ) -> Result<Relation, SqlError> {
        let mut sources = Sources::default();
        for from in &select.from {
            self.join(from, &mut sources, scope, outer)?;
        }
        let visible = sources.visible(outer);
        let mut selected = Selected { amount: sources.amount, columns: Vec::new(), visible, items: Vec::new() };
        // A filter is moved down to each table that it may be applied to.
        let filter = self.expressions(&select.selection, scope, &selected.visible)?;
        selected.amount.add(filter.amount_written_out().times(sources.amount.relations.max(1)));
        for window in &select.named_window {
            let parts = self.window(&window.1, scope, &selected.visible)?;
            selected.visible.add_window(key(&window.0), parts);
        }
        for item in &select.projection {
            self.select_item(item, &sources, scope, &mut selected)?;
        }
        self.group(select, scope, &mut selected)?;
        self.order(select, order_by, scope, &mut selected)?;
        selected.amount.add_relation(selected.columns.len());
        selected.amount.check()?;
        Ok(Relation { amount: selected.amount, columns: selected.columns })
    }

    fn select_item(
        &self,
        item: &SelectItem,
        sources: &Sources,
        scope: &Scope<'_>,
        selected: &mut Selected<'_>,
    ) -> Result<(), SqlError> {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let name = match expr {
                    Expr::Identifier(name) => Some(name),
                    Expr::CompoundIdentifier(parts) => parts.last(),
                    _ => None,
                };
                self.selected(expr, name, scope, selected)
            }
            SelectItem::ExprWithAlias { expr, alias } => self.selected(expr, Some(alias), scope, selected),
            SelectItem::Wildcard(options) => {
                let columns = sources.sources.iter().flat_map(|(_, columns)| columns.iter().cloned()).collect();
                self.wildcard(columns, options, scope, selected)
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(table), options) => {
                let table = last(table).map(key);
                let is_meant = |(name, _): &&(Option<String>, Vec<Column>)| *name == table;
                let columns = sources.sources.iter().filter(is_meant).flat_map(|(_, columns)| columns.iter().cloned());
                self.wildcard(columns.collect(), options, scope, selected)
            }
            _ => Err(unknown("this kind of selected expression")),
        }
    }

    fn selected(
        &self,
        expr: &Expr,
        name: Option<&Ident>,
        scope: &Scope<'_>,
        selected: &mut Selected<'_>,
    ) -> Result<(), SqlError> {
        let sized = self.expressions(expr, scope, &selected.visible)?;
        selected.amount.add(sized.amount());
        selected.amount.check()?;
        let written_out = sized.parts.written_out;
        selected.columns.push(Column { name: name.map(key), written_out });
        // A structure is unnested to a column for each of its fields.
        let is_unnested =
            matches!(expr, Expr::Function(call) if last(&call.name).is_some_and(|name| key(name) == "unnest"));
        if is_unnested {
            let further = self.arguments_max.saturating_sub(1);
            selected.columns.extend((0..further).map(|_| Column { name: None, written_out }));
        }
        selected.items.push(sized.parts);
        if let Some(name) = name {
            selected.visible.add_alias(key(name), sized.parts);
        }
        Ok(())
    }

    fn wildcard(
        &self,
        mut columns: Vec<Column>,
        options: &WildcardAdditionalOptions,
        scope: &Scope<'_>,
        selected: &mut Selected<'_>,
    ) -> Result<(), SqlError> {
        selected.amount.add_expressions(columns.len() as u64);
        selected.amount.check()?;
        let mut largest = largest(&columns);
        if let Some(replaced) = &options.opt_replace {
            for item in &replaced.items {
                let sized = self.expressions(&item.expr, scope, &selected.visible)?;
                selected.amount.add(sized.amount());
                largest = largest.max(sized.parts.written_out);
            }
        }
        if options.opt_replace.is_some() || options.opt_rename.is_some() || options.opt_alias.is_some() {
            columns.iter_mut().for_each(|column| *column = Column { name: None, written_out: largest });
        }
        let parts = |column: &Column| Parts { planned: 1, written_out: column.written_out };
        selected.items.extend(columns.iter().map(parts));
        selected.columns.append(&mut columns);
        Ok(())
    }

    /// GROUP BY, HAVING and QUALIFY.
    fn group(&self, select: &Select, scope: &Scope<'_>, selected: &mut Selected<'_>) -> Result<(), SqlError> {
        let mut parts = 0_u64;
        let mut sets = 1_u64;
        match &select.group_by {
            GroupByExpr::All(_) => parts = selected.items.iter().fold(0, |sum, item| sum.saturating_add(item.planned)),
            GroupByExpr::Expressions(groups, _) => {
                if groups.len() > GROUPS_MAX {
                    let count = groups.len();
                    return Err(SqlError::Invalid(format!(
                        "{count} expressions to group by are too many; at most {GROUPS_MAX} can be planned"
                    )));
                }
                for group in groups {
                    sets = sets.saturating_mul(grouping_sets(group));
                    parts = parts.saturating_add(self.named_or_numbered(group, scope, selected)?);
                }
            }
        }
        if parts > 0 {
            selected.amount.add_expressions(parts.saturating_mul(sets));
            selected.amount.add_relation(selected.columns.len());
        }
        for condition in [&select.having, &select.qualify] {
            selected.amount.add(self.expressions(condition, scope, &selected.visible)?.amount_written_out());
        }
        selected.amount.check()
    }

    /// DISTINCT and ORDER BY.
    fn order(
        &self,
        select: &Select,
        order_by: Option<&OrderBy>,
        scope: &Scope<'_>,
        selected: &mut Selected<'_>,
    ) -> Result<(), SqlError> {
        match &select.distinct {
            Some(Distinct::On(exprs)) => {
                for expr in exprs {
                    let parts = self.named_or_numbered(expr, scope, selected)?;
                    selected.amount.add_expressions(parts);
                }
                selected.amount.add_relation(selected.columns.len());
            }
            Some(_) => selected.amount.add_relation(selected.columns.len()),
            None => {}
        }
        match order_by.map(|order_by| &order_by.kind) {
            Some(OrderByKind::Expressions(exprs)) => {
                for order in exprs {
                    let parts = self.named_or_numbered(&order.expr, scope, selected)?;
                    selected.amount.add_expressions(parts);
                }
                selected.amount.add_relation(selected.columns.len());
            }
            Some(OrderByKind::All(_)) => {
                let parts = selected.items.iter().fold(0, |sum: u64, item| sum.saturating_add(item.planned));
                selected.amount.add_expressions(parts);
            }
            None => {}
        }
        selected.amount.check()
    }

    /// Parts of an expression, which may be the name or the number of one that is selected.
    fn named_or_numbered(&self, expr: &Expr, scope: &Scope<'_>, selected: &mut Selected<'_>) -> Result<u64, SqlError> {
        if let Expr::Value(value) = expr
            && matches!(value.value, Value::Number(..))
        {
            return Ok(selected.items.iter().map(|item| item.planned).max().unwrap_or(1));
        }
        let Sized { parts, queries } = self.expressions(expr, scope, &selected.visible)?;
        selected.amount.add(queries);
        check_expressions(parts.planned)?;
        Ok(parts.planned)
    }
}

/// How many sets an expression in GROUP BY stands for.
fn grouping_sets(group: &Expr) -> u64 {
    match group {
        Expr::Cube(groups) => 1_u64.checked_shl(groups.len() as u32).unwrap_or(u64::MAX),
        Expr::Rollup(groups) => groups.len() as u64 + 1,
        Expr::GroupingSets(sets) => {
            let of = |set: &Vec<Expr>| set.iter().map(grouping_sets).fold(1, u64::saturating_mul);
            sets.iter().map(of).fold(0, u64::saturating_add)
        }
        _ => 1,
    }
}
