//! Functions that turn spans into time series, and what can be done with the series.

use super::operand::{Operand, folded, ordering};
use super::{PRECEDENCE_SUM, Parser, Tall};
use crate::QUANTILES_MAX;
use crate::error::{ErrorKind, ParseError};
use crate::literal::Static;
use crate::query::{MetricsExpr, MetricsFunction, Pipeline, SecondStage};
use crate::source::SourceRange;
use crate::token::{Symbol, TokenKind};

const FUNCTIONS: [&str; 9] = [
    "rate",
    "count_over_time",
    "sum_over_time",
    "min_over_time",
    "max_over_time",
    "avg_over_time",
    "histogram_over_time",
    "quantile_over_time",
    "compare",
];

pub(super) fn is_metrics_function(word: &str) -> bool {
    FUNCTIONS.contains(&word)
}

pub(super) fn function_names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.into_iter()
}

impl Parser<'_> {
    /// `rate() by(…) > 10`, after the spans and the pipe.
    pub(super) fn series(&mut self, spans: Pipeline, height: usize) -> Result<Tall<MetricsExpr>, ParseError> {
        let start = self.at();
        let name = self.peek_word().unwrap_or_default().to_owned();
        self.bump();
        self.expect(Symbol::ParenOpen, "`(`")?;
        let function = self.metrics_function(&name)?;
        self.expect(Symbol::ParenClose, "`)`")?;
        let by = if self.peek_word() == Some("by") {
            self.bump();
            self.field_list("`by()` of a metrics function")?
        } else {
            Vec::new()
        };
        let at = start.to(self.last_at());
        let height = self.above([height, function.height], at)?;
        let node = MetricsExpr::Series { spans, function: function.node, by, at };
        self.filters(Tall { node, height })
    }

    fn metrics_function(&mut self, name: &str) -> Result<Tall<MetricsFunction>, ParseError> {
        let whose = format!("`{name}()`");
        let function = match name {
            "rate" => MetricsFunction::Rate,
            "count_over_time" => MetricsFunction::CountOverTime,
            "sum_over_time" => MetricsFunction::SumOverTime(self.plain_field(&whose)?),
            "min_over_time" => MetricsFunction::MinOverTime(self.plain_field(&whose)?),
            "max_over_time" => MetricsFunction::MaxOverTime(self.plain_field(&whose)?),
            "avg_over_time" => MetricsFunction::AvgOverTime(self.plain_field(&whose)?),
            "histogram_over_time" => MetricsFunction::HistogramOverTime(self.plain_field(&whose)?),
            "quantile_over_time" => {
                let field = self.plain_field(&whose)?;
                MetricsFunction::QuantileOverTime { field, quantiles: self.quantiles()? }
            }
            _ => return self.compare(),
        };
        Ok(Tall::leaf(function))
    }

    fn quantiles(&mut self) -> Result<Vec<f64>, ParseError> {
        let mut quantiles = Vec::new();
        loop {
            self.expect(Symbol::Comma, if quantiles.is_empty() { "`,` and a quantile" } else { "`,` or `)`" })?;
            let at = self.at();
            match self.literal("a quantile, such as `.99`")? {
                Static::Float(value) => quantiles.push(value),
                // Only 0 and 1 are quantiles, and those are exact.
                Static::Int(value) => quantiles.push(value as f64),
                _ => return Err(ParseError::syntax(at, "a quantile is a number between 0 and 1")),
            }
            if self.peek_symbol() == Some(Symbol::ParenClose) {
                return Ok(quantiles);
            }
            if quantiles.len() == QUANTILES_MAX {
                let problem = format!("more than {QUANTILES_MAX} quantiles are asked for");
                return Err(ParseError::new(ErrorKind::Limit, at, problem));
            }
        }
    }

    /// `compare({ … }, top, start, end)`; the last two come together or not at all.
    fn compare(&mut self) -> Result<Tall<MetricsFunction>, ParseError> {
        let selection = self.braces()?;
        let top = if self.eat(Symbol::Comma) { Some(self.integer("the number of values to report")?) } else { None };
        let window = if top.is_some() && self.eat(Symbol::Comma) {
            let from = self.integer("the start of the window in nanoseconds")?;
            self.expect(Symbol::Comma, "`,` and the end of the window")?;
            // Clients write zeros for no window.
            Some((from, self.integer("the end of the window in nanoseconds")?)).filter(|window| *window != (0, 0))
        } else {
            None
        };
        Ok(selection.map(|selection| MetricsFunction::Compare { selection, top, window }))
    }

    /// `topk(10)` and the like, after the pipe.
    pub(super) fn second_stage(&mut self, input: Tall<MetricsExpr>) -> Result<Tall<MetricsExpr>, ParseError> {
        let make = match self.peek_word() {
            Some("topk") => SecondStage::TopK,
            Some("bottomk") => SecondStage::BottomK,
            _ => return Err(self.unexpected("`topk(…)` or `bottomk(…)`")),
        };
        self.bump();
        self.expect(Symbol::ParenOpen, "`(`")?;
        let stage = make(self.integer("the number of series to keep")?);
        self.expect(Symbol::ParenClose, "`)`")?;
        let then = self.then(input, stage, self.last_at())?;
        self.filters(then)
    }

    /// `> 10` after a function.
    fn filters(&mut self, mut input: Tall<MetricsExpr>) -> Result<Tall<MetricsExpr>, ParseError> {
        while let Some(op) = self.peek_symbol().and_then(ordering) {
            self.bump();
            let at = self.at();
            let value = self.constant()?.ok_or_else(|| {
                ParseError::syntax(at, "metrics can be compared with a number or a duration only")
                    .found(&self.source[at.bytes()])
            })?;
            input = self.then(input, SecondStage::Filter { op, value }, self.last_at())?;
        }
        Ok(input)
    }

    /// A number or duration, or numbers that are calculated with; `None` for anything else that can be read.
    fn constant(&mut self) -> Result<Option<Static>, ParseError> {
        match self.peek() {
            TokenKind::String(_) => self.literal("a number or a duration").map(|_| None),
            TokenKind::Word(word) if Static::from_word(word).is_some_and(|word| !matches!(word, Static::Int(_))) => {
                self.literal("a number or a duration").map(|_| None)
            }
            TokenKind::End => Err(self.unexpected("a number or a duration")),
            _ => match self.operand(PRECEDENCE_SUM)?.node {
                Operand::Scalar(scalar) => Ok(folded(&scalar)),
                _ => Ok(None),
            },
        }
    }

    fn then(
        &self,
        input: Tall<MetricsExpr>,
        stage: SecondStage,
        end: SourceRange,
    ) -> Result<Tall<MetricsExpr>, ParseError> {
        let at = input.node.at().to(end);
        let height = self.above([input.height], at)?;
        Ok(Tall { node: MetricsExpr::Then { input: Box::new(input.node), stage, at }, height })
    }

    fn integer(&mut self, expected: &str) -> Result<i64, ParseError> {
        let at = self.at();
        match self.peek() {
            TokenKind::Int(_) | TokenKind::Symbol(Symbol::Minus) => match self.literal(expected)? {
                Static::Int(value) => Ok(value),
                _ => Err(ParseError::syntax(at, "a whole number is needed here").expected(expected)),
            },
            _ => Err(self.unexpected(expected)),
        }
    }
}
