//! The shapes of answers about TraceQL queries and the time series they compute. As in `answers.rs`, moments are texts.

use serde::Serialize;
use utoipa::ToSchema;

use super::answers::{AttributeAnswer, InspectedAnswer};
use super::terms::{QueryKind, SeriesShape, SeriesUnit};
use crate::json::Double;

/// Time series that share their steps. Step `i` covers the spans that begin in
/// `startTimeUnixNano + i * stepNanos .. startTimeUnixNano + (i + 1) * stepNanos`, cut to the range that was asked for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetricsAnswerBody {
    /// The begin of the first step: a multiple of the step, at or before `start`; `start` itself if there is one step.
    #[schema(example = "1769860800000000000")]
    pub(crate) start_time_unix_nano: String,
    pub(crate) step_nanos: i64,
    pub(crate) steps: usize,
    pub(crate) shape: SeriesShape,
    /// What `values` measure.
    pub(crate) unit: SeriesUnit,
    /// What the bounds of buckets measure, if these are the buckets of a histogram.
    pub(crate) bucket_unit: SeriesUnit,
    pub(crate) series: Vec<SeriesAnswer>,
    /// Whether everything that could matter was looked at.
    pub(crate) complete: bool,
    /// Why not, with `N of M`.
    pub(crate) partial_reason: Option<String>,
    pub(crate) weighting: WeightingAnswer,
    pub(crate) inspected: InspectedAnswer,
    pub(crate) elapsed_nanos: u64,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SeriesAnswer {
    /// Fields of `by()`; `p` for a quantile, `__bucket` for a histogram, `__meta_type` for `compare()`. A value that is
    /// missing has the type `empty`.
    pub(crate) labels: Vec<AttributeAnswer>,
    /// One for each step; null if there was nothing to compute from. Durations are in seconds.
    pub(crate) values: Vec<Option<Double>>,
    pub(crate) exemplars: Vec<ExemplarAnswer>,
}

/// A span that contributed to a series.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExemplarAnswer {
    #[schema(example = "5b8efff798038103d269b633813fc60c")]
    pub(crate) trace_id: String,
    #[schema(example = "eee19b7ec3c1b174")]
    pub(crate) span_id: String,
    /// When the span began.
    pub(crate) time_unix_nano: String,
    /// Of the field that is measured; the duration in seconds for counts and rates.
    pub(crate) value: Double,
}

/// Spans count as often as their sampling probability says.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WeightingAnswer {
    /// Spans that were counted, each once.
    pub(crate) spans: u64,
    /// Those of them without a probability: they weigh 1.
    pub(crate) spans_of_unknown_probability: u64,
}

/// What a TraceQL query is, or what is wrong with it.
#[derive(Serialize, ToSchema)]
pub(crate) struct QueryCheckAnswer {
    pub(crate) valid: bool,
    /// There if it is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<QueryKind>,
    /// The query in its canonical form; there if it is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "{ span:status = error }")]
    pub(crate) printed: Option<String>,
    /// There if it is not valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<QueryErrorAnswer>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct QueryErrorAnswer {
    /// One line: what is wrong, and what was expected.
    pub(crate) message: String,
    /// The place in the query: begin and end in UTF-16 code units, as JavaScript counts.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// What could stand there, one by one; empty if it is not a matter of syntax.
    pub(crate) expected: Vec<String>,
    /// What was probably meant, or what to do.
    pub(crate) suggestion: Option<String>,
    /// All of it on several lines with the place underlined, for a font of fixed width.
    pub(crate) rendered: String,
}

/// How a query would run.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExplanationAnswer {
    /// One step of the plan per line, indented by depth.
    pub(crate) plan: Vec<String>,
    /// Files in the time range.
    pub(crate) files_total: u64,
    /// Those of them that the catalogue can't rule out.
    pub(crate) files_to_read: u64,
    pub(crate) spans_in_memory: u64,
    pub(crate) spans_in_files: u64,
}
