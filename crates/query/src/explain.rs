//! Says how a query would run, without running it.

use std::ops::Range;

use std::sync::Arc;
use tracehouse_scan::{Window, contents_of, open};

use tracehouse_store::SpanFile;
use tracehouse_traceql::{MetricsExpr, Pipeline, Query, QueryExpr, SecondStage};

use crate::candidates::SpanFinder;
use crate::column_eval::{columns_of, file_may_match};
use crate::compile::Expression;
use crate::error::QueryError;
use crate::metrics::{Exemplars, SeriesPlan};
use crate::plan::Plan;
use crate::question::Question;
use crate::request::Explanation;

/// Columns are looked up in so many of the newest files: most have the same, and each has to be opened for it.
const OPENED_FILES_MAX: usize = 64;

pub(crate) fn explain(question: Question<'_>, query: &Query, window: Window) -> Result<Explanation, QueryError> {
    let mut explained = Explained { question, window, explanation: Explanation::default() };
    explained.explanation.spans_in_memory = question.snapshot.hot.iter().map(|hot| hot.spans.len() as u64).sum();
    match &query.expr {
        QueryExpr::Spans(pipeline) => {
            let plan = Plan::of(pipeline.clone(), Vec::new())?;
            explained.line(0, "search: newest traces first, until the limit is reached");
            explained.pipeline(1, pipeline, &plan);
        }
        QueryExpr::Metrics(expr) => explained.metrics(0, expr)?,
    }
    Ok(explained.explanation)
}

struct Explained<'a> {
    question: Question<'a>,
    window: Window,
    explanation: Explanation,
}

/// Searches look for what overlaps a range, series count what begins in it.
pub(crate) fn window_of(query: &Query, range: Range<i64>) -> Window {
    match query.expr {
        QueryExpr::Spans(_) => Window::overlapping(range),
        QueryExpr::Metrics(_) => Window::starting(range),
    }
}

impl Explained<'_> {
    fn line(&mut self, depth: usize, text: impl AsRef<str>) {
        self.explanation.plan.push(format!("{:1$}{2}", "", 2 * depth, text.as_ref()));
    }

    fn metrics(&mut self, depth: usize, expr: &MetricsExpr) -> Result<(), QueryError> {
        match expr {
            MetricsExpr::Series { spans, function, by, .. } => {
                let series = SeriesPlan::of(spans.clone(), function, by, Exemplars::NONE)?;
                let by: Vec<&str> = series.by.iter().map(|field| field.name.as_str()).collect();
                let grouped = if by.is_empty() { String::new() } else { format!(" by ({})", by.join(", ")) };
                self.line(depth, format!("{}{grouped}", function.name()));
                match series.spans_alone() {
                    Some(filter) => {
                        self.line(depth + 1, "from columns, row groups side by side:");
                        self.files_to_read(depth + 2, filter);
                    }
                    None => self.pipeline(depth + 1, spans, &series.plan),
                }
            }
            MetricsExpr::Then { input, stage, .. } => {
                self.line(
                    depth,
                    match stage {
                        SecondStage::TopK(count) => format!("the {count} largest of each step"),
                        SecondStage::BottomK(count) => format!("the {count} smallest of each step"),
                        SecondStage::Filter { op, value } => format!("points {} {value}", op.symbol()),
                    },
                );
                self.metrics(depth + 1, input)?;
            }
            MetricsExpr::Arithmetic { op, left, right, .. } => {
                self.line(depth, format!("point by point, series with equal labels: {}", op.symbol()));
                self.metrics(depth + 1, left)?;
                self.metrics(depth + 1, right)?;
            }
            MetricsExpr::Literal { value, .. } => self.line(depth, value.to_string()),
        }
        Ok(())
    }

    fn pipeline(&mut self, depth: usize, pipeline: &Pipeline, plan: &Plan) {
        if plan.single_filter().is_none_or(|filter| filter.needs_trace) {
            self.line(depth, "each candidate as a whole trace through");
            pipeline.stages.iter().for_each(|stage| self.line(depth + 1, stage.to_string()));
        }
        let drivers = &plan.drivers;
        let every = drivers.span.text == "true";
        self.line(depth, if every { "candidates: every trace" } else { "candidates: traces that have any of the" });
        self.files_to_read(depth + 1, &drivers.span);
        drivers.trace.in_words().iter().for_each(|words| self.line(depth + 1, words));
    }

    /// Which files are read, and which columns of them.
    fn files_to_read(&mut self, depth: usize, filter: &Expression) {
        let Question { snapshot, bounds, .. } = self.question;
        let finder = SpanFinder { filter, exactly: &[], window: self.window.clone(), bounds };
        let files = finder.files(snapshot);
        let may_match = |file: &Arc<SpanFile>| !bounds.exceeded() && file_may_match(filter, file, &contents_of(file));
        let read: Vec<_> = files.iter().filter(|file| may_match(file)).collect();
        let spans: u64 = read.iter().map(|file| file.record.spans).sum();
        let opened = read.iter().take(OPENED_FILES_MAX).filter_map(|file| open(file).ok());
        let mut columns: Vec<String> = opened.flat_map(|open| columns_of(filter, open.layout())).collect();
        columns.sort_unstable();
        columns.dedup();
        let (total, reading) = (files.len() as u64, read.len() as u64);
        let which = if filter.text == "true" { "all spans".to_owned() } else { format!("spans where {}", filter.text) };
        self.line(depth, which);
        self.line(depth, format!("reads {reading} of {total} files in the range of time, {spans} spans"));
        if !columns.is_empty() {
            self.line(depth, format!("looks at {}", columns.join(", ")));
        }
        self.explanation.files_total += total;
        self.explanation.files_to_read += reading;
        self.explanation.spans_in_files += spans;
    }
}
