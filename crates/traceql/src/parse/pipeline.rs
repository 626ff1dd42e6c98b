//! Stages joined by `|`.

use super::{PRECEDENCE_ANY, Parser, Tall};
use crate::STAGES_MAX;
use crate::error::{ErrorKind, ParseError};
use crate::parse::operand::{Operand, uncompared};
use crate::query::{MetricsExpr, Pipeline, ScalarExpr, SpansetExpr, Stage};
use crate::source::SourceRange;
use crate::token::Symbol;

/// What a sequence of stages amounts to.
pub(super) enum Body {
    Spans(Pipeline),
    /// Ends with a number per spanset; only of use inside a comparison. `stages` may be empty.
    Scalar {
        stages: Vec<Stage>,
        scalar: ScalarExpr,
    },
    Metrics(MetricsExpr),
}

impl Parser<'_> {
    pub(super) fn pipeline(&mut self) -> Result<Tall<Body>, ParseError> {
        if let Some(word) = self.peek_word().filter(|word| needs_input(word)) {
            let call = format!("`{{ }} | {word}(…)`");
            return Err(self.unexpected("spans to begin with, such as `{ }`").suggest(format!("write {call}")));
        }
        let mut body = self.stage(Tall { node: Vec::new(), height: 0 })?;
        while self.eat(Symbol::Pipe) {
            body = match body.node {
                Body::Spans(pipeline) => self.stage(Tall { node: pipeline.stages, height: body.height })?,
                Body::Metrics(metrics) => {
                    self.second_stage(Tall { node: metrics, height: body.height })?.map(Body::Metrics)
                }
                Body::Scalar { scalar, .. } => return Err(uncompared(scalar.at())),
            };
        }
        Ok(body)
    }

    /// The stages so far and one more. They stand side by side: the highest counts, the sequence adds no level.
    fn stage(&mut self, before: Tall<Vec<Stage>>) -> Result<Tall<Body>, ParseError> {
        let start = self.at();
        let mut stages = before.node;
        let word = self.peek_word().unwrap_or_default().to_owned();
        let stage = match word.as_str() {
            "by" => self.by_stage(start)?,
            "coalesce" => {
                self.bump();
                self.no_arguments()?;
                Tall::leaf(Stage::Coalesce { at: start.to(self.last_at()) })
            }
            "select" => {
                self.bump();
                let fields = self.field_list("`select()`")?;
                Tall::leaf(Stage::Select { fields, at: start.to(self.last_at()) })
            }
            name if super::metrics::is_metrics_function(name) => {
                return Ok(self.series(Pipeline { stages }, before.height)?.map(Body::Metrics));
            }
            _ => {
                let operand = self.operand(PRECEDENCE_ANY)?;
                let height = operand.height.max(before.height);
                let stage = match operand.node {
                    Operand::Spanset(spanset) => Stage::Spanset(spanset),
                    Operand::Filter { op, left, right, at } => Stage::ScalarFilter { op, left, right, at },
                    Operand::Scalar(scalar) => return Ok(Tall { node: Body::Scalar { stages, scalar }, height }),
                    Operand::Metrics(metrics) if stages.is_empty() => {
                        return Ok(Tall { node: Body::Metrics(metrics), height });
                    }
                    Operand::Metrics(metrics) => {
                        return Err(ParseError::syntax(metrics.at(), "a metrics query cannot be a stage of another"));
                    }
                };
                Tall { node: stage, height }
            }
        };
        stages.push(stage.node);
        // Filters that follow each other are one.
        let counts = |stage: &&Stage| !matches!(stage, Stage::Spanset(SpansetExpr::Filter { .. }));
        if stages.last().is_some_and(|last| counts(&last)) && stages.iter().filter(counts).count() > STAGES_MAX {
            let problem = format!("the pipeline has more than {STAGES_MAX} stages besides filters");
            return Err(ParseError::new(ErrorKind::Limit, start.to(self.last_at()), problem));
        }
        Ok(Tall { node: Body::Spans(Pipeline { stages }), height: stage.height.max(before.height) })
    }

    fn by_stage(&mut self, start: SourceRange) -> Result<Tall<Stage>, ParseError> {
        self.bump();
        self.expect(Symbol::ParenOpen, "`(`")?;
        let field = self.field_expr_any()?;
        if self.peek_symbol() == Some(Symbol::Comma) {
            return Err(self
                .unexpected("an operator or `)`")
                .suggest("the stage `by()` takes one field; use one stage after the other for more"));
        }
        self.expect(Symbol::ParenClose, "an operator or `)`")?;
        let at = start.to(self.last_at());
        Ok(field.map(|field| Stage::By { field, at }))
    }

    pub(super) fn no_arguments(&mut self) -> Result<(), ParseError> {
        self.expect(Symbol::ParenOpen, "`(`")?;
        self.expect(Symbol::ParenClose, "`)`, as it takes no arguments")?;
        Ok(())
    }
}

/// Words that begin a stage but never a pipeline.
fn needs_input(word: &str) -> bool {
    super::metrics::is_metrics_function(word) || matches!(word, "coalesce" | "topk" | "bottomk")
}
