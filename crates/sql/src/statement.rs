//! Parses a statement, refuses what is not a question or may need too much, and spells out calls of `attr`.

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Distinct, ExactNumberInfo, Expr, FunctionArg,
    FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart, OrderBy, OrderByKind, Query, Select,
    SelectItem, SetExpr, Statement as SqlStatement, UnaryOperator, Value, VisitMut, VisitorMut,
};

use crate::error::SqlError;
use crate::functions::AttributeFunction;
use crate::limits::{Amounts, is_bounded, is_left_out, left_out};
use crate::size::check_size;

/// Longer statements are refused: planning takes time and depth of stack by their length.
const STATEMENT_BYTES_MAX: usize = 64 * 1024;
/// How deep brackets and subqueries may be nested.
const NESTING_MAX: usize = 50;

/// How deep an expression may be, of which `a + b + c` has a depth of 2. DataFusion recurses over it with large frames.
const EXPRESSION_DEPTH_MAX: usize = 400;
/// How many queries one may join by UNION and its like.
const UNIONS_MAX: usize = 400;

/// What is left out of the message when a statement is refused.
const ONLY_QUESTIONS: &str =
    "only questions are answered here: SELECT, WITH, VALUES, EXPLAIN, SHOW and DESCRIBE; nothing can be changed by SQL";

/// A statement, ready to be planned.
pub(crate) struct Parsed {
    pub(crate) statement: Statement,
    pub(crate) amounts: Amounts,
}

/// The one statement in a text.
pub(crate) fn parse(text: &str) -> Result<Parsed, SqlError> {
    if text.len() > STATEMENT_BYTES_MAX {
        let length = text.len();
        return Err(SqlError::Invalid(format!(
            "the statement has {length} bytes; at most {STATEMENT_BYTES_MAX} are read; shorten it"
        )));
    }
    let wrong = |error| SqlError::of_statement(&error);
    let parser = DFParserBuilder::new(text).with_recursion_limit(NESTING_MAX).build();
    let mut statements = parser.and_then(|mut parser| parser.parse_statements()).map_err(wrong)?;
    let statement = statements.pop_front().ok_or_else(|| SqlError::Invalid("the statement is empty".into()))?;
    if !statements.is_empty() {
        let count = statements.len() + 1;
        return Err(SqlError::Invalid(format!("{count} statements were sent; send one at a time")));
    }
    check(&statement)?;
    let (statement, calls) = with_attributes_spelled_out(statement)?;
    check_size(&statement)?;
    Ok(Parsed { statement, amounts: Amounts::new(text.len(), calls) })
}

fn check(statement: &Statement) -> Result<(), SqlError> {
    let refused = |what: String| Err(SqlError::Invalid(format!("{what} is not allowed: {ONLY_QUESTIONS}")));
    match statement {
        Statement::Explain(explain) => check(&explain.statement),
        Statement::Statement(statement) => match statement.as_ref() {
            SqlStatement::Query(_)
            | SqlStatement::Explain { .. }
            | SqlStatement::ExplainTable { .. }
            | SqlStatement::ShowTables { .. }
            | SqlStatement::ShowColumns { .. }
            | SqlStatement::ShowFunctions { .. }
            | SqlStatement::ShowVariable { .. } => Ok(()),
            other => refused(first_word(&other.to_string())),
        },
        other => refused(first_word(&other.to_string())),
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or("this").to_uppercase()
}

/// The statement in which `attr('k')` is `attr(attributes, resource_attributes, 'k')`, and `s.attr('k')` the same of
/// the columns of `s`; and the number of its calls that may make much of little.
fn with_attributes_spelled_out(mut statement: Statement) -> Result<(Statement, usize), SqlError> {
    let mut spell_out = SpellOut { depth: 0, calls: 0 };
    let inner = match &mut statement {
        Statement::Statement(inner) => Some(inner.as_mut()),
        Statement::Explain(explain) => match explain.statement.as_mut() {
            Statement::Statement(inner) => Some(inner.as_mut()),
            _ => None,
        },
        _ => None,
    };
    if let Some(inner) = inner
        && let ControlFlow::Break(error) = inner.visit(&mut spell_out)
    {
        return Err(error);
    }
    Ok((statement, spell_out.calls))
}

struct SpellOut {
    /// Of the expression that is being visited.
    depth: usize,
    /// Calls and operators so far that may make much of little.
    calls: usize,
}

/// The name of a function without that of a schema.
fn called(name: &ObjectName) -> &str {
    name.0.last().and_then(ObjectNamePart::as_ident).map_or("", |ident| ident.value.as_str())
}

/// Lists of a fixed size may be of any size, even where they are null.
fn has_fixed_size(data_type: &DataType) -> bool {
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(_, Some(_))) => true,
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(element, None)
            | ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::Parenthesis(element),
        ) => has_fixed_size(element),
        DataType::Struct(fields, _) => fields.iter().any(|field| has_fixed_size(&field.field_type)),
        _ => false,
    }
}

/// How many queries a body joins by UNION and its like. Such chains grow to the left.
fn unions(mut body: &SetExpr) -> usize {
    let mut count = 0;
    while let SetExpr::SetOperation { left, .. } = body {
        count += 1;
        body = left;
    }
    count
}

fn too_deep(what: &str, most: usize) -> ControlFlow<SqlError> {
    ControlFlow::Break(SqlError::Invalid(format!(
        "{what}; at most {most} can be planned. A list of values fits into IN (…)"
    )))
}

/// LIKE and SIMILAR TO as operators, which are bounded when they are planned. A text that is only looked for at the beginning,
/// at the end or anywhere needs no bound, and DataFusion knows how to do it well.
fn as_operator(expr: &mut Expr) -> Option<Expr> {
    let (operator, left, pattern) = match expr {
        Expr::Like { negated, any: false, expr, pattern, escape_char: None } if !is_simple(pattern) => {
            let operator = if *negated { BinaryOperator::PGNotLikeMatch } else { BinaryOperator::PGLikeMatch };
            (operator, expr, pattern)
        }
        Expr::ILike { negated, any: false, expr, pattern, escape_char: None } if !is_simple(pattern) => {
            let operator = if *negated { BinaryOperator::PGNotILikeMatch } else { BinaryOperator::PGILikeMatch };
            (operator, expr, pattern)
        }
        Expr::SimilarTo { negated, expr, pattern, escape_char: None } => {
            let operator = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
            (operator, expr, pattern)
        }
        _ => return None,
    };
    let nothing = || Box::new(Expr::Value(Value::Null.into()));
    let (left, right) = (std::mem::replace(left, nothing()), std::mem::replace(pattern, nothing()));
    Some(Expr::BinaryOp { left, op: operator, right })
}

/// Whether a pattern of LIKE has its wildcards only at its ends, and only `%`.
fn is_simple(pattern: &Expr) -> bool {
    let Expr::Value(value) = pattern else { return false };
    let Value::SingleQuotedString(text) = &value.value else { return false };
    !text.trim_matches('%').contains(['%', '_', '\\'])
}

/// A literal beside a comparison, as a decimal if no double is as exact: from 2^53 on doubles have neighbours between them.
fn be_exact(expr: &mut Expr) {
    const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
    const DIGITS_MAX: usize = 38;
    let (literal, is_negative) = match expr {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => (&mut **expr, true),
        Expr::UnaryOp { expr, .. } => return be_exact(expr),
        literal => (literal, false),
    };
    let Expr::Value(value) = literal else { return };
    let Value::Number(text, _) = &value.value else { return };
    let is_integer = if is_negative { format!("-{text}").parse::<i64>().is_ok() } else { text.parse::<u64>().is_ok() };
    let (Some((whole, fraction)), Ok(double)) = (digits_of(text), text.parse::<f64>()) else { return };
    let is_exact = is_integer || fraction.is_empty() && whole == format!("{double:.0}");
    let digits = whole.len() + fraction.len();
    // A fraction may be too small for the double to have one.
    let is_told_apart = double < EXACT_BELOW && (fraction.is_empty() || double.fract() != 0.0);
    if is_exact || is_told_apart || digits > DIGITS_MAX {
        return;
    }
    let data_type = DataType::Decimal(ExactNumberInfo::PrecisionAndScale(digits as u64, fraction.len() as i64));
    let text = Expr::Value(Value::SingleQuotedString(format!("{whole}.{fraction}0")).into());
    *literal = Expr::Cast { kind: CastKind::Cast, expr: Box::new(text), data_type, array: false, format: None };
}

/// The digits of a number before and behind its point, without an exponent; `None` for what is below one or beyond all decimals.
fn digits_of(text: &str) -> Option<(String, String)> {
    const POINT_MAX: usize = 60;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse().ok()?),
        None => (text, 0_i32),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    let point = usize::try_from(i64::try_from(whole.len()).ok()? + i64::from(exponent)).ok()?;
    if point > POINT_MAX || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    while digits.len() < point {
        digits.push('0');
    }
    let (whole, fraction) = digits.split_at(point);
    Some((whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned()))
}

/// `a IS DISTINCT FROM b AND c` compares with `b`, as in PostgreSQL; the parser takes all of `b AND c` for what it is compared with.
fn bind_distinct(expr: &mut Expr) {
    let (Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right)) = expr else { return };
    if !joins(right) {
        return;
    }
    let nothing = || Expr::Value(Value::Null.into());
    let mut whole = std::mem::replace(&mut **right, nothing());
    let mut compared = std::mem::replace(expr, nothing());
    let mut first = &mut whole;
    while joins(first)
        && let Expr::BinaryOp { left, .. } = first
    {
        first = left;
    }
    if let Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right) = &mut compared {
        **right = std::mem::replace(first, nothing());
    }
    compare_exactly(&mut compared);
    *first = compared;
    *expr = whole;
}

fn joins(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. })
}

fn compare_exactly(expr: &mut Expr) {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    match expr {
        Expr::BinaryOp { left, op: Eq | NotEq | Lt | LtEq | Gt | GtEq, right } => {
            be_exact(left);
            be_exact(right);
        }
        Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
            be_exact(left);
            be_exact(right);
        }
        Expr::Between { low, high, .. } => {
            be_exact(low);
            be_exact(high);
        }
        Expr::InList { list, .. } => list.iter_mut().for_each(be_exact),
        Expr::Case { operand: Some(_), conditions, .. } => {
            conditions.iter_mut().for_each(|when| be_exact(&mut when.condition));
        }
        _ => {}
    }
}

/// What is ordered by is what is selected, where the two are the same expression: DataFusion looks for the names of columns in
/// `SELECT DISTINCT upper(name) … ORDER BY upper(name)`.
fn order_distinct_by_place(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = &mut query.order_by else { return };
    let selected: Option<Vec<&Expr>> = select.projection.iter().map(selected_expr).collect();
    // Of `*` nobody knows yet how many columns it is.
    let (Some(Distinct::Distinct), Some(selected)) = (&select.distinct, selected) else { return };
    let places: Vec<Option<usize>> = keys
        .iter()
        .map(|key| match &key.expr {
            Expr::Value(_) | Expr::Identifier(_) | Expr::CompoundIdentifier(_) => None,
            expr => selected.iter().position(|selected| *selected == expr),
        })
        .collect();
    for (key, place) in keys.iter_mut().zip(places) {
        if let Some(place) = place {
            key.expr = Expr::Value(Value::Number((place + 1).to_string(), false).into());
        }
    }
}

fn selected_expr(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

impl VisitorMut for SpellOut {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        if unions(&query.body) > UNIONS_MAX {
            return too_deep("too many queries are joined by UNION, INTERSECT or EXCEPT", UNIONS_MAX);
        }
        order_distinct_by_place(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        self.depth += 1;
        if self.depth > EXPRESSION_DEPTH_MAX {
            return too_deep("an expression has too many operators in a row", EXPRESSION_DEPTH_MAX);
        }
        match expr {
            Expr::Function(call) if is_left_out(called(&call.name)) => {
                return ControlFlow::Break(SqlError::Invalid(left_out(called(&call.name))));
            }
            Expr::Cast { data_type, .. } if has_fixed_size(data_type) => {
                let refused =
                    format!("{data_type} is a list of a fixed size, of which none are made here; leave out the size");
                return ControlFlow::Break(SqlError::Invalid(refused));
            }
            Expr::Function(call) if is_bounded(called(&call.name)) => self.calls += 1,
            Expr::BinaryOp { op: BinaryOperator::StringConcat, .. }
            | Expr::Array(_)
            | Expr::Map(_)
            | Expr::Overlay { .. } => self.calls += 1,
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// The answer's column is named as it was written.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && expr.to_string().to_lowercase().contains("attr")
                && !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
            {
                let alias = Ident::with_quote('"', expr.to_string());
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        self.depth -= 1;
        if let Some(matching) = as_operator(expr) {
            *expr = matching;
        }
        bind_distinct(expr);
        compare_exactly(expr);
        let Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        let Some((ObjectNamePart::Identifier(name), table)) = call.name.0.split_last() else {
            return ControlFlow::Continue(());
        };
        let Some(function) = AttributeFunction::named(&name.value) else { return ControlFlow::Continue(()) };
        let FunctionArguments::List(arguments) = &mut call.args else { return wrong_call(&name.value) };
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(key)))] = arguments.args.as_slice() else {
            return wrong_call(&name.value);
        };
        if !matches!(key.value, Value::SingleQuotedString(_)) {
            return wrong_call(&name.value);
        }
        let table: Vec<Ident> = table.iter().filter_map(|part| part.as_ident().cloned()).collect();
        let column = |column: &&str| {
            let ident = Ident { span: name.span, ..Ident::new(*column) };
            let expr = if table.is_empty() {
                Expr::Identifier(ident)
            } else {
                Expr::CompoundIdentifier(table.iter().cloned().chain([ident]).collect())
            };
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        };
        let columns: Vec<FunctionArg> = function.columns().iter().map(column).collect();
        arguments.args.splice(0..0, columns);
        call.name = ObjectName(vec![ObjectNamePart::Identifier(name.clone())]);
        ControlFlow::Continue(())
    }
}

fn wrong_call(name: &str) -> ControlFlow<SqlError> {
    ControlFlow::Break(SqlError::Invalid(format!(
        "{name} takes the key of an attribute as a text in single quotes, as in {name}('http.route'); \
         in a join, name the table before it: s.{name}('http.route')"
    )))
}
