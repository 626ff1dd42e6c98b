//! Says how a query would run, without running it.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tracehouse_store::Snapshot;
use tracehouse_traceql::{MetricsExpr, Query, QueryExpr, SecondStage};

use crate::bounds::Bounds;
use crate::candidates::Scan;
use crate::column_eval::file_may_match;
use crate::compile::{Expression, Node};
use crate::error::QueryError;
use crate::metrics::SeriesPlan;
use crate::plan::{Plan, PlanStage};
use crate::request::Explanation;

pub(crate) fn explain(snapshot: &Snapshot, query: &Query, range: Range<i64>) -> Result<Explanation, QueryError> {
    let mut explained = Explained { snapshot, range, explanation: Explanation::default() };
    explained.explanation.spans_in_memory = snapshot.hot.iter().map(|hot| hot.spans.len() as u64).sum();
    match &query.expr {
        QueryExpr::Spans(pipeline) => {
            let plan = Plan::of(pipeline.clone(), Vec::new())?;
            explained.line(0, "search: newest traces first, until the limit is reached");
            explained.pipeline(1, &plan);
        }
        QueryExpr::Metrics(expr) => explained.metrics(0, expr)?,
    }
    Ok(explained.explanation)
}

struct Explained<'a> {
    snapshot: &'a Snapshot,
    range: Range<i64>,
    explanation: Explanation,
}

impl Explained<'_> {
    fn line(&mut self, depth: usize, text: impl AsRef<str>) {
        self.explanation.plan.push(format!("{:1$}{2}", "", 2 * depth, text.as_ref()));
    }

    fn metrics(&mut self, depth: usize, expr: &MetricsExpr) -> Result<(), QueryError> {
        match expr {
            MetricsExpr::Series { spans, function, by, .. } => {
                let series = SeriesPlan::of(spans.clone(), function, by, 0)?;
                let by: Vec<&str> = series.by.iter().map(|field| field.name.as_str()).collect();
                let grouped = if by.is_empty() { String::new() } else { format!(" by ({})", by.join(", ")) };
                self.line(depth, format!("{}{grouped}", function.name()));
                match series.spans_alone() {
                    Some(filter) => {
                        self.line(depth + 1, "computed from columns, row groups side by side");
                        self.scan(depth + 1, filter);
                    }
                    None => self.pipeline(depth + 1, &series.plan),
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

    fn pipeline(&mut self, depth: usize, plan: &Plan) {
        let stages = plan.stages.len();
        let by = plan.stages.iter().filter(|stage| matches!(stage, PlanStage::By(_))).count();
        self.line(depth, format!("whole traces through {stages} stages ({by} of them by())"));
        match plan.drivers() {
            Some(drivers) => {
                self.line(depth, format!("traces with a span that satisfies one of {} conditions", drivers.len()));
                self.scan(depth, &Expression::any(&drivers));
            }
            None => {
                self.line(depth, "no condition on a single span narrows this: every trace of the time range");
                self.scan(depth, &Expression::always());
            }
        }
    }

    fn scan(&mut self, depth: usize, filter: &Expression) {
        let (never, no_time) = (AtomicBool::new(false), || Duration::ZERO);
        let bounds = Bounds { threads: 1, time_max: Duration::MAX, elapsed: &no_time, cancelled: &never };
        let scan = Scan { filter, start: self.range.clone(), bounds: &bounds };
        let files = scan.files(self.snapshot);
        let read: Vec<_> = files.iter().filter(|file| file_may_match(filter, &file.contents)).collect();
        let spans: u64 = read.iter().map(|file| file.record.spans).sum();
        let known: Vec<String> = filter.keys.iter().map(|key| format!("`{key}`")).collect();
        let keys = if known.is_empty() { String::new() } else { format!(", attributes {}", known.join(", ")) };
        let how = if matches!(filter.node, Node::Literal(_)) { "all spans" } else { "spans by condition" };
        let line = format!("scan of {how}{keys}: {} of {} files, {spans} spans", read.len(), files.len());
        let (total, reading) = (files.len() as u64, read.len() as u64);
        self.line(depth + 1, line);
        self.explanation.files_total += total;
        self.explanation.files_to_read += reading;
        self.explanation.spans_in_files += spans;
    }
}
