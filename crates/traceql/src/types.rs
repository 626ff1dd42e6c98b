//! Finds queries that can be read but never mean anything, without looking at data.
//!
//! An attribute may hold anything, so it fits everywhere ([`ValueType::Any`]). Integers, floats and durations compare
//! and calculate with each other. Everything else compares with its own type, and anything compares with `nil`.

mod expression;

use std::fmt;

use crate::error::{ErrorKind, ParseError, quote};
use crate::field::FieldExpr;
use crate::literal::Static;
use crate::query::{
    MetricsExpr, MetricsFunction, Pipeline, Query, QueryExpr, ScalarExpr, SecondStage, SpansetExpr, Stage,
};
use crate::source::SourceRange;
use expression::Checker;

/// The type of an expression, as far as it is known without data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// An attribute.
    Any,
    String,
    Int,
    Float,
    Duration,
    /// Calculated from an attribute: an integer, float or duration.
    Number,
    Bool,
    Status,
    Kind,
    Nil,
    /// A span as such: the intrinsic `parent`.
    Span,
    Array,
}

impl ValueType {
    /// Integers, floats and durations, and attributes, which may hold one.
    pub fn may_be_number(self) -> bool {
        self.is_number() || self == ValueType::Any
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, ValueType::Int | ValueType::Float | ValueType::Duration | ValueType::Number)
    }

    pub(crate) fn may_be_bool(self) -> bool {
        matches!(self, ValueType::Bool | ValueType::Any)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueType::Any => "an attribute",
            ValueType::String => "a string",
            ValueType::Int => "an integer",
            ValueType::Float => "a float",
            ValueType::Duration => "a duration",
            ValueType::Number => "a number",
            ValueType::Bool => "a boolean",
            ValueType::Status => "a status",
            ValueType::Kind => "a kind",
            ValueType::Nil => "nil",
            ValueType::Span => "a span",
            ValueType::Array => "an array",
        })
    }
}

/// Checks types, regular expressions and arguments; gives the first error from left to right.
pub fn validate(query: &Query) -> Result<(), ParseError> {
    let mut checker = Checker::default();
    match &query.expr {
        QueryExpr::Spans(pipeline) => checker.pipeline(pipeline),
        QueryExpr::Metrics(metrics) => checker.metrics(metrics),
    }
}

impl Checker {
    fn pipeline(&mut self, pipeline: &Pipeline) -> Result<(), ParseError> {
        pipeline.stages.iter().try_for_each(|stage| self.stage(stage))
    }

    fn stage(&mut self, stage: &Stage) -> Result<(), ParseError> {
        match stage {
            Stage::Spanset(spanset) => self.spanset(spanset),
            Stage::ScalarFilter { left, right, .. } => {
                self.scalar(left)?;
                self.scalar(right)
            }
            Stage::By { field, .. } => {
                self.expression(field)?;
                self.depends_on_span(field, "`by()`")
            }
            Stage::Coalesce { .. } | Stage::Select { .. } => Ok(()),
        }
    }

    fn spanset(&mut self, spanset: &SpansetExpr) -> Result<(), ParseError> {
        match spanset {
            SpansetExpr::Filter { condition, .. } => self.condition(condition.as_ref()),
            SpansetExpr::Combine { left, right, .. } => {
                self.spanset(left)?;
                self.spanset(right)
            }
            SpansetExpr::Pipeline { pipeline, .. } => self.pipeline(pipeline),
        }
    }

    fn condition(&mut self, condition: Option<&FieldExpr>) -> Result<(), ParseError> {
        let Some(condition) = condition else {
            return Ok(());
        };
        let found = self.expression(condition)?;
        if found.may_be_bool() {
            return Ok(());
        }
        let problem = format!("{} is {found}, not a condition", quote(&condition.to_string()));
        Err(type_error(condition.at(), problem).suggest("compare it with something"))
    }

    fn scalar(&mut self, scalar: &ScalarExpr) -> Result<(), ParseError> {
        match scalar {
            ScalarExpr::Literal { .. } => Ok(()),
            ScalarExpr::Aggregate { function, .. } => match function.field() {
                None => Ok(()),
                Some(field) => {
                    let whose = format!("`{}()`", function.name());
                    self.numeric(field, &whose)?;
                    self.depends_on_span(field, &whose)
                }
            },
            ScalarExpr::Arithmetic { left, right, .. } => {
                self.scalar(left)?;
                self.scalar(right)
            }
            ScalarExpr::Negate { operand, .. } => self.scalar(operand),
            ScalarExpr::Pipeline { pipeline, scalar, .. } => {
                self.pipeline(pipeline)?;
                self.scalar(scalar)
            }
        }
    }

    fn metrics(&mut self, metrics: &MetricsExpr) -> Result<(), ParseError> {
        match metrics {
            MetricsExpr::Series { spans, function, by, at } => {
                self.pipeline(spans)?;
                if matches!(function, MetricsFunction::Compare { .. }) && !by.is_empty() {
                    return Err(type_error(*at, "`compare()` cannot be grouped: it counts each attribute by itself"));
                }
                self.metrics_function(function, *at)
            }
            MetricsExpr::Then { input, stage, at } => {
                self.metrics(input)?;
                stands_alone(input)?;
                match stage {
                    SecondStage::TopK(count) => positive(*count, *at, "`topk()` keeps"),
                    SecondStage::BottomK(count) => positive(*count, *at, "`bottomk()` keeps"),
                    SecondStage::Filter { .. } => Ok(()),
                }
            }
            MetricsExpr::Arithmetic { left, right, .. } => {
                self.metrics(left)?;
                self.metrics(right)?;
                stands_alone(left)?;
                stands_alone(right)
            }
            MetricsExpr::Literal { .. } => Ok(()),
        }
    }

    fn metrics_function(&mut self, function: &MetricsFunction, at: SourceRange) -> Result<(), ParseError> {
        if let Some(field) = function.field() {
            self.numeric(field, &format!("`{}()`", function.name()))?;
        }
        match function {
            MetricsFunction::QuantileOverTime { quantiles, .. } => {
                match quantiles.iter().find(|quantile| !(0.0..=1.0).contains(*quantile)) {
                    None => Ok(()),
                    Some(outside) => {
                        let percent =
                            (1.0..=100.0).contains(outside).then(|| format!("did you mean `{}`?", outside / 100.0));
                        let problem = format!("{outside} is no quantile: quantiles are between 0 and 1");
                        Err(type_error(at, problem).suggest_option(percent))
                    }
                }
            }
            MetricsFunction::Compare { selection, top, window } => {
                self.condition(selection.as_ref())?;
                if let Some(top) = top {
                    positive(*top, at, "`compare()` reports")?;
                }
                match window {
                    Some((from, until)) if from >= until => {
                        Err(type_error(at, "the window of `compare()` ends before it starts"))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn numeric(&mut self, field: &FieldExpr, whose: &str) -> Result<(), ParseError> {
        let found = self.expression(field)?;
        if found.may_be_number() {
            return Ok(());
        }
        let problem = format!("{whose} takes numbers, but {} is {found}", quote(&field.to_string()));
        Err(type_error(field.at(), problem))
    }

    fn depends_on_span(&self, field: &FieldExpr, whose: &str) -> Result<(), ParseError> {
        if field.references_span() {
            return Ok(());
        }
        Err(type_error(field.at(), format!("{whose} of {} is the same for every span", quote(&field.to_string()))))
    }
}

/// Refuses `compare()`, whose answer is no time series to go on with.
fn stands_alone(input: &MetricsExpr) -> Result<(), ParseError> {
    match input {
        MetricsExpr::Series { function: MetricsFunction::Compare { .. }, at, .. } => {
            Err(type_error(*at, "nothing can be done with the answer of `compare()`")
                .suggest("its second argument says how many values of each attribute it reports"))
        }
        _ => Ok(()),
    }
}

fn type_error(at: SourceRange, problem: impl Into<String>) -> ParseError {
    ParseError::new(ErrorKind::Type, at, problem)
}

fn positive(count: i64, at: SourceRange, whose: &str) -> Result<(), ParseError> {
    if count > 0 { Ok(()) } else { Err(type_error(at, format!("{whose} at least 1, not {count}"))) }
}

/// The word a string was probably meant to be: `status = "error"`.
fn unquoted(text: &str, wanted: ValueType) -> Option<String> {
    let word = text.to_lowercase();
    let value = Static::from_word(&word)?;
    (value.value_type() == wanted).then(|| format!("write `{word}` without quotes"))
}
