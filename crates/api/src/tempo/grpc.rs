//! `tempopb.StreamingQuerier`: the same questions over gRPC, on the port of HTTP, as Grafana streams them. An answer is
//! one message, as it is whole at once, or several if it is large. A client that goes away takes its question with it.

use std::future::Future;
use std::vec::IntoIter;

use axum::Router;
use tokio_stream::Iter;
use tonic::{Request, Response, Status};
use tracehouse_model::Caller;

use super::shared::Found;
use super::tags::{self, NamesAsked, ValuesAsked};
use super::{metrics, search};
use crate::grpc::{caller, in_parts, in_time, with_compression, with_partial};
use crate::problem::Problem;
use crate::proto::tempopb::streaming_querier_server::{StreamingQuerier, StreamingQuerierServer};
use crate::proto::tempopb::{
    QueryInstantRequest, QueryInstantResponse, QueryRangeRequest, QueryRangeResponse, SearchRequest, SearchResponse,
    SearchTagValuesRequest, SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsRequest, SearchTagsResponse,
    SearchTagsV2Response,
};
use crate::state::ApiState;

pub(crate) fn routes(state: &ApiState) -> Router<ApiState> {
    let server = with_compression!(StreamingQuerierServer::new(Querier { state: state.clone() }));
    Router::new().route_service("/tempopb.StreamingQuerier/{method}", server)
}

struct Querier {
    state: ApiState,
}

type Messages<T> = Iter<IntoIter<Result<T, Status>>>;
type Answer<T> = Result<Response<Messages<T>>, Status>;

impl Querier {
    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        caller(&self.state, request)
    }
}

async fn answer<T>(work: impl Future<Output = Result<Found<T>, Problem>>) -> Answer<T> {
    answer_in_parts(work, |answer| vec![answer]).await
}

async fn answer_in_parts<T>(
    work: impl Future<Output = Result<Found<T>, Problem>>,
    divide: fn(T) -> Vec<T>,
) -> Answer<T> {
    let Found { answer, partial_reason } = in_time(work).await?;
    let messages: Vec<_> = divide(answer).into_iter().map(Ok).collect();
    Ok(with_partial(Response::new(tokio_stream::iter(messages)), partial_reason))
}

/// Clients take the metrics of any message.
fn by_traces(answer: SearchResponse) -> Vec<SearchResponse> {
    let SearchResponse { traces, metrics } = answer;
    in_parts(traces).into_iter().map(|traces| SearchResponse { traces, metrics }).collect()
}

/// Only the last message says whether the answer is whole.
fn by_series(answer: QueryRangeResponse) -> Vec<QueryRangeResponse> {
    let QueryRangeResponse { series, metrics, status, message } = answer;
    let part = |series| QueryRangeResponse { series, metrics, ..QueryRangeResponse::default() };
    let mut messages: Vec<QueryRangeResponse> = in_parts(series).into_iter().map(part).collect();
    if let Some(last) = messages.last_mut() {
        (last.status, last.message) = (status, message);
    }
    messages
}

#[async_trait::async_trait]
impl StreamingQuerier for Querier {
    type SearchStream = Messages<SearchResponse>;
    type SearchTagsStream = Messages<SearchTagsResponse>;
    type SearchTagsV2Stream = Messages<SearchTagsV2Response>;
    type SearchTagValuesStream = Messages<SearchTagValuesResponse>;
    type SearchTagValuesV2Stream = Messages<SearchTagValuesV2Response>;
    type MetricsQueryRangeStream = Messages<QueryRangeResponse>;
    type MetricsQueryInstantStream = Messages<QueryInstantResponse>;

    async fn search(&self, request: Request<SearchRequest>) -> Answer<SearchResponse> {
        let caller = self.caller(&request)?;
        answer_in_parts(search::streamed(&self.state, &caller, request.into_inner()), by_traces).await
    }

    async fn search_tags(&self, request: Request<SearchTagsRequest>) -> Answer<SearchTagsResponse> {
        let caller = self.caller(&request)?;
        let asked = NamesAsked::of_message(request.get_ref())?.of_first_version();
        answer(async { Ok(tags::names(&self.state, &caller, asked).await?.map(tags::without_scopes)) }).await
    }

    async fn search_tags_v2(&self, request: Request<SearchTagsRequest>) -> Answer<SearchTagsV2Response> {
        let caller = self.caller(&request)?;
        let asked = NamesAsked::of_message(request.get_ref())?;
        answer(tags::names(&self.state, &caller, asked)).await
    }

    async fn search_tag_values(&self, request: Request<SearchTagValuesRequest>) -> Answer<SearchTagValuesResponse> {
        let caller = self.caller(&request)?;
        let asked = ValuesAsked::of_message(request.into_inner())?.of_first_version();
        answer(async { Ok(tags::values(&self.state, &caller, asked).await?.map(tags::without_types)) }).await
    }

    async fn search_tag_values_v2(
        &self,
        request: Request<SearchTagValuesRequest>,
    ) -> Answer<SearchTagValuesV2Response> {
        let caller = self.caller(&request)?;
        let asked = ValuesAsked::of_message(request.into_inner())?;
        answer(tags::values(&self.state, &caller, asked)).await
    }

    async fn metrics_query_range(&self, request: Request<QueryRangeRequest>) -> Answer<QueryRangeResponse> {
        let caller = self.caller(&request)?;
        answer_in_parts(metrics::streamed_range(&self.state, &caller, request.into_inner()), by_series).await
    }

    async fn metrics_query_instant(&self, request: Request<QueryInstantRequest>) -> Answer<QueryInstantResponse> {
        let caller = self.caller(&request)?;
        answer(metrics::streamed_instant(&self.state, &caller, request.into_inner())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tempopb::{PartialStatus, Sample, SearchMetrics, TimeSeries, TraceSearchMetadata};

    const METRICS: Option<SearchMetrics> = Some(SearchMetrics {
        inspected_traces: 1,
        inspected_bytes: 2,
        total_blocks: 3,
        completed_jobs: 4,
        total_jobs: 5,
        inspected_spans: 6,
    });

    #[test]
    fn large_answers_come_in_several_messages() {
        let traces = |count: usize| {
            vec![TraceSearchMetadata { root_trace_name: "x".repeat(1000), ..TraceSearchMetadata::default() }; count]
        };
        for (count, messages) in [(0, 1), (1000, 1), (3000, 3)] {
            let parts = by_traces(SearchResponse { traces: traces(count), metrics: METRICS });
            assert_eq!(parts.len(), messages, "{count}");
            assert!(parts.iter().all(|part| part.metrics == METRICS), "{count}");
            assert_eq!(parts.iter().map(|part| part.traces.len()).sum::<usize>(), count);
        }
    }

    #[test]
    fn the_last_message_says_whether_all_was_looked_at() {
        let samples = (1..=10_000).map(|at| Sample { value: 0.5, timestamp_ms: i64::MAX - at }).collect();
        let series = vec![TimeSeries { samples, ..TimeSeries::default() }; 20];
        let status = PartialStatus::Partial.into();
        let message = "2 of 3 files were read".to_owned();
        let parts = by_series(QueryRangeResponse { series, metrics: METRICS, status, message });
        assert!(parts.len() > 2, "{}", parts.len());
        assert_eq!(parts.iter().map(|part| part.series.len()).sum::<usize>(), 20);
        for (at, part) in parts.iter().enumerate() {
            let is_last = at + 1 == parts.len();
            assert_eq!(part.metrics, METRICS);
            assert_eq!((part.status == status, !part.message.is_empty()), (is_last, is_last), "{at}");
        }
    }
}
