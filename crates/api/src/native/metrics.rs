use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use tracehouse_model::{AnyValue, Caller};
use tracehouse_query::{Exemplar, HistogramBuckets, MetricsAnswer, MetricsRequest, Series};

use super::query_answers::{ExemplarAnswer, MetricsAnswerBody, SeriesAnswer, WeightingAnswer};
use super::span_answer::attributes;
use super::terms::{SeriesShape, SeriesUnit};
use crate::answer::{JSON, items_of, large, until_sent};
use crate::json::Double;
use crate::params::Parameters;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::steps::{EXEMPLARS_MAX, metrics_range, step_nanos};

/// Computes time series from spans.
#[utoipa::path(
    get, path = "/api/v1/metrics", tag = "metrics",
    params(
        ("q" = String, Query, description = "A TraceQL query that ends in a metrics function", example = "{ } | rate() by (resource.service.name)"),
        ("start" = Option<String>, Query, description = "Spans that begin at this moment or later; an hour before `end` if absent", example = "2026-01-31T12:00:00Z"),
        ("end" = Option<String>, Query, description = "Spans that begin before this moment; now if absent"),
        ("step" = Option<String>, Query, description = "Length of a step; one that gives about 120 steps if absent. At most 11000 steps", example = "15s"),
        ("instant" = Option<bool>, Query, description = "true: one step, the whole range"),
        ("buckets" = Option<u32>, Query, description = "Buckets of `histogram_over_time` for each power of two: 1, 2 or 4; 1 if absent"),
        ("exemplars" = Option<u32>, Query, description = "How many spans to name for each series: 0 to 1000; 0 if absent"),
    ),
    responses((status = 200, body = MetricsAnswerBody), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn metrics(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let parameters = Parameters::strict(&uri, &["q", "start", "end", "step", "instant", "exemplars", "buckets"])?;
    let request = request(&parameters, state.clock.now_unix_nanos())?;
    let begun = state.clock.monotonic();
    let found = state.answers.metrics(&caller, request).await?;
    let elapsed_nanos = state.elapsed_nanos(begun);
    let memory = vec![found.memory.clone()];
    let answer = large(&state, &headers, items_of(&found.series), JSON, move || {
        serde_json::to_vec(&body(found, elapsed_nanos)).expect("writing plain data to memory can't fail")
    });
    Ok(until_sent(answer.await?, memory))
}

fn request(parameters: &Parameters, now_unix_nanos: i64) -> Result<MetricsRequest, Problem> {
    let traceql = parameters.required("q", "a TraceQL metrics query, such as { } | rate()")?.to_owned();
    let range = metrics_range(parameters.moment("start")?, parameters.moment("end")?, None, now_unix_nanos)?;
    let step = parameters.duration("step")?;
    let step_nanos = match (parameters.flag("instant")?, step) {
        (false, step) => Some(step_nanos(&range, step)?),
        (true, None) => None,
        (true, Some(_)) => {
            let detail = "`instant` means one step, the whole range, so `step` can't be met; leave one of them out";
            return Err(Problem::invalid_parameter("step", detail));
        }
    };
    Ok(MetricsRequest {
        traceql,
        start_unix_nanos: range.start,
        end_unix_nanos: range.end,
        step_nanos,
        exemplars_max: parameters.count("exemplars", 0, 0..=EXEMPLARS_MAX)?,
        exemplars_in_all_max: None,
        histogram: parameters.parsed("buckets", histogram_buckets, "1, 2 or 4")?.unwrap_or_default(),
    })
}

fn histogram_buckets(per_octave: &str) -> Option<HistogramBuckets> {
    match per_octave {
        "1" => Some(HistogramBuckets::PowersOfTwo),
        "2" => Some(HistogramBuckets::Halves),
        "4" => Some(HistogramBuckets::Quarters),
        _ => None,
    }
}

fn body(found: MetricsAnswer, elapsed_nanos: u64) -> MetricsAnswerBody {
    MetricsAnswerBody {
        start_time_unix_nano: found.start_unix_nanos.to_string(),
        step_nanos: found.step_nanos,
        steps: found.steps,
        shape: SeriesShape::of(found.meaning),
        unit: SeriesUnit::of(found.meaning.unit),
        bucket_unit: SeriesUnit::of(found.meaning.bucket_unit),
        series: found.series.into_iter().map(series).collect(),
        complete: found.partial_reason.is_none(),
        partial_reason: found.partial_reason,
        weighting: WeightingAnswer {
            spans: found.weighting.spans,
            spans_of_unknown_probability: found.weighting.spans_of_unknown_probability,
        },
        inspected: found.inspected.into(),
        elapsed_nanos,
    }
}

fn series(series: Series) -> SeriesAnswer {
    let labels = series.labels.into_iter().map(|(key, value)| (key, value.unwrap_or(AnyValue::Empty)));
    SeriesAnswer {
        labels: attributes(labels.collect()),
        values: series.values.into_iter().map(|value| value.map(Double)).collect(),
        exemplars: series.exemplars.into_iter().map(exemplar).collect(),
    }
}

fn exemplar(exemplar: Exemplar) -> ExemplarAnswer {
    ExemplarAnswer {
        trace_id: exemplar.trace_id.to_string(),
        span_id: exemplar.span_id.to_string(),
        time_unix_nano: exemplar.start_unix_nanos.to_string(),
        value: Double(exemplar.value),
    }
}
