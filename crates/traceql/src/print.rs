//! Tree to text, in one canonical form that reads back as the same tree.
//!
//! Parentheses appear only where the tree needs them, except that a mix of `&&` and `||` always gets them: TraceQL
//! reads `a || b && c` from left to right, which nobody expects.

use std::fmt::{self, Display, Formatter, Write};

use crate::field::{ArithmeticOp, Attribute, AttributeScope, FieldExpr};
use crate::lexer::is_attribute_part;
use crate::query::{
    MetricsExpr, MetricsFunction, Pipeline, Query, QueryExpr, ScalarExpr, SecondStage, SpansetExpr, SpansetOp, Stage,
};

/// How tightly a printed expression holds together; the order of the parser's precedences.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Loose,
    Logical,
    Compare,
    Sum,
    Product,
    Unary,
    Power,
    Atom,
}

impl Binding {
    fn of_arithmetic(op: ArithmeticOp) -> Binding {
        match op {
            ArithmeticOp::Add | ArithmeticOp::Subtract => Binding::Sum,
            ArithmeticOp::Multiply | ArithmeticOp::Divide | ArithmeticOp::Modulo => Binding::Product,
            ArithmeticOp::Power => Binding::Power,
        }
    }

    /// What the operands must exceed or reach: left-associative operators need a tighter right side, `^` a tighter left.
    fn sides(self) -> (Binding, Binding) {
        match self {
            Binding::Power => (Binding::Atom, Binding::Power),
            Binding::Product => (self, Binding::Unary),
            Binding::Sum => (self, Binding::Product),
            Binding::Compare => (self, Binding::Sum),
            _ => (self, Binding::Compare),
        }
    }
}

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.expr {
            QueryExpr::Spans(pipeline) => write!(f, "{pipeline}")?,
            QueryExpr::Metrics(metrics) => write!(f, "{metrics}")?,
        }
        if self.hints.is_empty() {
            return Ok(());
        }
        f.write_str(" with(")?;
        list(f, self.hints.iter(), |f, hint| write!(f, "{} = {}", hint.key, hint.value))?;
        f.write_char(')')
    }
}

impl Display for Pipeline {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.stages.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{stage}")?;
        }
        Ok(())
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Spanset(spanset) => write!(f, "{spanset}"),
            Stage::ScalarFilter { op, left, right, .. } => {
                scalar(f, left, Binding::Sum)?;
                write!(f, " {} ", op.symbol())?;
                scalar(f, right, Binding::Sum)
            }
            Stage::By { field, .. } => write!(f, "by({field})"),
            Stage::Coalesce { .. } => f.write_str("coalesce()"),
            Stage::Select { fields, .. } => {
                f.write_str("select(")?;
                list(f, fields.iter(), |f, field| write!(f, "{field}"))?;
                f.write_char(')')
            }
        }
    }
}

impl Display for SpansetExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        spanset(f, self, Binding::Loose)
    }
}

impl Display for ScalarExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        scalar(f, self, Binding::Loose)
    }
}

/// With `#` as answers name it: see [`FieldExpr::label`].
impl Display for FieldExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        field(f, self, Binding::Loose)
    }
}

impl Display for MetricsExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            MetricsExpr::Series { spans, function, by, .. } => {
                write!(f, "{spans} | {function}")?;
                if by.is_empty() {
                    return Ok(());
                }
                f.write_str(" by(")?;
                list(f, by.iter(), |f, field| write!(f, "{field}"))?;
                f.write_char(')')
            }
            MetricsExpr::Then { input, stage, .. } => match stage {
                SecondStage::TopK(count) => write!(f, "{input} | topk({count})"),
                SecondStage::BottomK(count) => write!(f, "{input} | bottomk({count})"),
                SecondStage::Filter { op, value } => write!(f, "{input} {} {value}", op.symbol()),
            },
            MetricsExpr::Arithmetic { .. } => metrics_operand(f, self, Binding::Loose),
            MetricsExpr::Literal { value, .. } => write!(f, "{value}"),
        }
    }
}

impl Display for MetricsFunction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name())?;
        match self {
            MetricsFunction::QuantileOverTime { field, quantiles } => {
                write!(f, "{field}")?;
                for quantile in quantiles {
                    write!(f, ", {quantile:?}")?;
                }
            }
            MetricsFunction::Compare { selection, top, window } => {
                braces(f, selection.as_ref())?;
                if let Some(top) = top {
                    write!(f, ", {top}")?;
                }
                if let Some((from, until)) = window {
                    write!(f, ", {from}, {until}")?;
                }
            }
            other => {
                if let Some(field) = other.field() {
                    write!(f, "{field}")?;
                }
            }
        }
        f.write_char(')')
    }
}

impl Display for Attribute {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.of_parent {
            f.write_str("parent.")?;
        }
        f.write_str(self.scope.prefix())?;
        if !(self.of_parent && self.scope == AttributeScope::Any) {
            f.write_char('.')?;
        }
        if self.can_stand_bare() { f.write_str(&self.name) } else { f.write_str(&self.quoted_name()) }
    }
}

impl Attribute {
    /// How answers name it: quoted only if a bare name would end early, or be read as a scope.
    pub(crate) fn label(&self) -> String {
        let scope_of_name = self.name.split_once('.').and_then(|(prefix, _)| AttributeScope::from_prefix(prefix));
        let like_a_scope = self.of_parent && self.scope == AttributeScope::Any && scope_of_name.is_some();
        let bare = self.name.chars().all(|character| character != '"' && is_attribute_part(character));
        let name = if bare && !like_a_scope { self.name.clone() } else { self.quoted_name() };
        let parent = if self.of_parent { "parent." } else { "" };
        match (self.of_parent, self.scope) {
            (true, AttributeScope::Any) => format!("{parent}{name}"),
            (_, scope) => format!("{parent}{}.{name}", scope.prefix()),
        }
    }

    fn quoted_name(&self) -> String {
        let escaped = self.name.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    }

    /// Bare names are printed only when made of characters that no reader, ours or another, could take otherwise.
    fn can_stand_bare(&self) -> bool {
        let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-' | '/');
        let like_a_number =
            self.scope == AttributeScope::Any && self.name.starts_with(|first: char| first.is_ascii_digit());
        // `parent.span.x` is the attribute `x` of the parent's span scope.
        let like_a_scope = self.of_parent && self.scope == AttributeScope::Any && self.name.contains('.');
        self.name.chars().all(plain) && !like_a_number && !like_a_scope
    }
}

fn field(f: &mut Formatter<'_>, expr: &FieldExpr, least: Binding) -> fmt::Result {
    if field_binding(expr) < least {
        f.write_char('(')?;
        field(f, expr, Binding::Loose)?;
        return f.write_char(')');
    }
    match expr {
        FieldExpr::Logical { op, terms, .. } => {
            for (index, term) in terms.iter().enumerate() {
                if index > 0 {
                    write!(f, " {} ", op.symbol())?;
                }
                field(f, term, Binding::Compare)?;
            }
            Ok(())
        }
        FieldExpr::Compare { op, left, right, .. } => {
            let (left_least, right_least) = Binding::Compare.sides();
            field(f, left, left_least)?;
            write!(f, " {} ", op.symbol())?;
            field(f, right, right_least)
        }
        FieldExpr::Arithmetic { op, left, right, .. } => {
            let (left_least, right_least) = Binding::of_arithmetic(*op).sides();
            field(f, left, left_least)?;
            write!(f, " {} ", op.symbol())?;
            field(f, right, right_least)
        }
        FieldExpr::Not { operand, .. } => {
            f.write_char('!')?;
            field(f, operand, Binding::Atom)
        }
        FieldExpr::Negate { operand, .. } => {
            f.write_char('-')?;
            // A number right after the minus would be read as a negative literal.
            let number = matches!(**operand, FieldExpr::Literal { .. });
            if number { write!(f, "({operand})") } else { field(f, operand, Binding::Atom) }
        }
        FieldExpr::Literal { value, .. } => write!(f, "{value}"),
        FieldExpr::Attribute { attribute, .. } if f.alternate() => f.write_str(&attribute.label()),
        FieldExpr::Attribute { attribute, .. } => write!(f, "{attribute}"),
        FieldExpr::Intrinsic { intrinsic, .. } if f.alternate() => f.write_str(intrinsic.short_name()),
        FieldExpr::Intrinsic { intrinsic, .. } => write!(f, "{intrinsic}"),
    }
}

fn field_binding(expr: &FieldExpr) -> Binding {
    match expr {
        FieldExpr::Logical { .. } => Binding::Logical,
        FieldExpr::Compare { .. } => Binding::Compare,
        FieldExpr::Arithmetic { op, .. } => Binding::of_arithmetic(*op),
        FieldExpr::Not { .. } | FieldExpr::Negate { .. } => Binding::Unary,
        FieldExpr::Literal { value, .. } if value.is_signed_negative() => Binding::Unary,
        FieldExpr::Literal { .. } | FieldExpr::Attribute { .. } | FieldExpr::Intrinsic { .. } => Binding::Atom,
    }
}

fn scalar(f: &mut Formatter<'_>, expr: &ScalarExpr, least: Binding) -> fmt::Result {
    if scalar_binding(expr) < least {
        f.write_char('(')?;
        scalar(f, expr, Binding::Loose)?;
        return f.write_char(')');
    }
    match expr {
        ScalarExpr::Literal { value, .. } => write!(f, "{value}"),
        ScalarExpr::Aggregate { function, .. } => match function.field() {
            Some(field) => write!(f, "{}({field})", function.name()),
            None => write!(f, "{}()", function.name()),
        },
        ScalarExpr::Arithmetic { op, left, right, .. } => {
            let (left_least, right_least) = Binding::of_arithmetic(*op).sides();
            scalar(f, left, left_least)?;
            write!(f, " {} ", op.symbol())?;
            scalar(f, right, right_least)
        }
        ScalarExpr::Negate { operand, .. } => {
            f.write_char('-')?;
            let number = matches!(**operand, ScalarExpr::Literal { .. });
            if number { write!(f, "({operand})") } else { scalar(f, operand, Binding::Atom) }
        }
        ScalarExpr::Pipeline { pipeline, scalar, .. } => write!(f, "({pipeline} | {scalar})"),
    }
}

fn scalar_binding(expr: &ScalarExpr) -> Binding {
    match expr {
        ScalarExpr::Arithmetic { op, .. } => Binding::of_arithmetic(*op),
        ScalarExpr::Negate { .. } => Binding::Unary,
        ScalarExpr::Literal { value, .. } if value.is_signed_negative() => Binding::Unary,
        ScalarExpr::Literal { .. } | ScalarExpr::Aggregate { .. } | ScalarExpr::Pipeline { .. } => Binding::Atom,
    }
}

fn spanset(f: &mut Formatter<'_>, expr: &SpansetExpr, least: Binding) -> fmt::Result {
    match expr {
        SpansetExpr::Filter { condition, .. } => braces(f, condition.as_ref()),
        SpansetExpr::Pipeline { pipeline, .. } => write!(f, "({pipeline})"),
        SpansetExpr::Combine { op, left, right, .. } => {
            let binding = spanset_binding(*op);
            if binding < least {
                return write!(f, "({expr})");
            }
            let same_op = matches!(**left, SpansetExpr::Combine { op: inner, .. } if inner == *op);
            let mixes_logic = binding == Binding::Logical && !same_op;
            spanset(f, left, if mixes_logic { Binding::Compare } else { binding })?;
            write!(f, " {} ", op.symbol())?;
            spanset(f, right, if binding == Binding::Logical { Binding::Compare } else { Binding::Sum })
        }
    }
}

fn spanset_binding(op: SpansetOp) -> Binding {
    match op {
        SpansetOp::And | SpansetOp::Or => Binding::Logical,
        SpansetOp::Structural { .. } => Binding::Compare,
    }
}

/// One side of metrics arithmetic: queries in parentheses, numbers bare.
fn metrics_operand(f: &mut Formatter<'_>, expr: &MetricsExpr, least: Binding) -> fmt::Result {
    match expr {
        MetricsExpr::Arithmetic { op, left, right, .. } => {
            let binding = Binding::of_arithmetic(*op);
            if binding < least {
                return write!(f, "({expr})");
            }
            let (left_least, right_least) = binding.sides();
            metrics_operand(f, left, left_least)?;
            write!(f, " {} ", op.symbol())?;
            metrics_operand(f, right, right_least)
        }
        MetricsExpr::Literal { value, .. } => write!(f, "{value}"),
        MetricsExpr::Series { .. } | MetricsExpr::Then { .. } => write!(f, "({expr})"),
    }
}

fn braces(f: &mut Formatter<'_>, condition: Option<&FieldExpr>) -> fmt::Result {
    match condition {
        Some(condition) => write!(f, "{{ {condition} }}"),
        None => f.write_str("{ }"),
    }
}

fn list<T>(
    f: &mut Formatter<'_>,
    items: impl Iterator<Item = T>,
    print: impl Fn(&mut Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        print(f, item)?;
    }
    Ok(())
}
