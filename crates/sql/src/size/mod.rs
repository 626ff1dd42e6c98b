//! How large a plan a statement asks for, told from its text alone, before anything is planned.
//!
//! A name stands for all that it names: DataFusion plans a common table expression anew wherever it is named, puts the
//! expression of a column in the place of the column when it moves filters down, repeats the definition of a window for each
//! function over it, makes `2^n` sets of `CUBE`, and writes some operators out with an operand twice. So a statement of a few
//! hundred bytes may ask for millions of nodes, in steps that nothing can interrupt. [`check_size`] adds up what each name
//! stands for and refuses what is too large.
//!
//! `query` and `select` go through queries and what they read from, `expression` through expressions; `relation` knows what the
//! name of a table stands for, `visible` that of a column; `amount` counts. What they do not know, they refuse: a new kind of syntax must be counted before it is
//! planned. Counts are upper bounds, so that some statements are refused that could have been planned. What a rule of
//! DataFusion makes beyond that is seen between its rules (`plan::checkpoint`).

mod amount;
mod expression;
mod query;
mod relation;
mod select;
mod visible;

use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Expr, FunctionArguments, Query, Statement as SqlStatement, Visit, Visitor};

use crate::error::SqlError;
use crate::tables::TRACES_VIEW;

use query::Sizes;
use relation::{Relation, Scope};

/// Fails if planning a statement would make too much of it.
pub(crate) fn check_size(statement: &Statement) -> Result<(), SqlError> {
    let Some(query) = query_of(statement) else { return Ok(()) };
    let sizes = Sizes { traces: traces()?, arguments_max: arguments_max(query) };
    sizes.query(query, &Scope::default(), None)?.amount.check()
}

/// The query of a statement, also of one that is only explained.
fn query_of(statement: &Statement) -> Option<&Query> {
    match statement {
        Statement::Statement(statement) => query_of_sql(statement),
        Statement::Explain(explain) => query_of(&explain.statement),
        _ => None,
    }
}

fn query_of_sql(statement: &SqlStatement) -> Option<&Query> {
    match statement {
        SqlStatement::Query(query) => Some(query),
        SqlStatement::Explain { statement, .. } => query_of_sql(statement),
        _ => None,
    }
}

/// What the view `traces` stands for.
fn traces() -> Result<Relation, SqlError> {
    static TRACES: LazyLock<Option<Relation>> = LazyLock::new(|| {
        let parsed = DFParserBuilder::new(TRACES_VIEW).build().and_then(|mut parser| parser.parse_statement()).ok()?;
        let sizes = Sizes { traces: Relation::table(Vec::new()), arguments_max: 0 };
        sizes.query(query_of(&parsed)?, &Scope::default(), None).ok()
    });
    TRACES.clone().ok_or(SqlError::Ended)
}

/// The most arguments of one call in a statement: no structure has more fields, and `unnest` makes a column of each.
fn arguments_max(query: &Query) -> u64 {
    struct Arguments(usize);
    impl Visitor for Arguments {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let arguments = match expr {
                Expr::Function(call) => match &call.args {
                    FunctionArguments::List(list) => list.args.len(),
                    _ => 1,
                },
                Expr::Struct { values, .. } => values.len(),
                Expr::Tuple(values) => values.len(),
                Expr::Dictionary(fields) => fields.len(),
                _ => 0,
            };
            self.0 = self.0.max(arguments);
            ControlFlow::Continue(())
        }
    }
    let mut most = Arguments(1);
    // It never breaks off.
    let _ = query.visit(&mut most);
    most.0 as u64
}

#[cfg(test)]
mod tests;
