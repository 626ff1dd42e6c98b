//! `tempopb.StreamingQuerier`: the same questions over gRPC, on the port of HTTP, as Grafana streams them. Each answer is
//! one message, as it is whole at once. A client that goes away takes its question with it.

use std::future::Future;

use axum::Router;
use tokio_stream::Once;
use tonic::{Request, Response, Status};
use tracehouse_model::TenantId;

use super::tags::{self, NamesAsked, ValuesAsked};
use super::{metrics, search};
use crate::grpc::{in_time, tenant};
use crate::problem::Problem;
use crate::proto::tempopb::streaming_querier_server::{StreamingQuerier, StreamingQuerierServer};
use crate::proto::tempopb::{
    QueryInstantRequest, QueryInstantResponse, QueryRangeRequest, QueryRangeResponse, SearchRequest, SearchResponse,
    SearchTagValuesRequest, SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsRequest, SearchTagsResponse,
    SearchTagsV2Response,
};
use crate::state::ApiState;

pub(crate) fn routes(state: &ApiState) -> Router<ApiState> {
    let server = StreamingQuerierServer::new(Querier { state: state.clone() });
    Router::new().route_service("/tempopb.StreamingQuerier/{method}", server)
}

struct Querier {
    state: ApiState,
}

type Answer<T> = Result<Response<Once<Result<T, Status>>>, Status>;

impl Querier {
    fn tenant<T>(&self, request: &Request<T>) -> Result<TenantId, Status> {
        tenant(&self.state, request)
    }
}

async fn answer<T>(work: impl Future<Output = Result<T, Problem>>) -> Answer<T> {
    Ok(Response::new(tokio_stream::once(Ok(in_time(work).await?))))
}

#[async_trait::async_trait]
impl StreamingQuerier for Querier {
    type SearchStream = Once<Result<SearchResponse, Status>>;
    type SearchTagsStream = Once<Result<SearchTagsResponse, Status>>;
    type SearchTagsV2Stream = Once<Result<SearchTagsV2Response, Status>>;
    type SearchTagValuesStream = Once<Result<SearchTagValuesResponse, Status>>;
    type SearchTagValuesV2Stream = Once<Result<SearchTagValuesV2Response, Status>>;
    type MetricsQueryRangeStream = Once<Result<QueryRangeResponse, Status>>;
    type MetricsQueryInstantStream = Once<Result<QueryInstantResponse, Status>>;

    async fn search(&self, request: Request<SearchRequest>) -> Answer<SearchResponse> {
        let tenant = self.tenant(&request)?;
        answer(search::streamed(&self.state, &tenant, request.into_inner())).await
    }

    async fn search_tags(&self, request: Request<SearchTagsRequest>) -> Answer<SearchTagsResponse> {
        let tenant = self.tenant(&request)?;
        let asked = NamesAsked::of_message(request.get_ref())?;
        answer(async { Ok(tags::without_scopes(tags::names(&self.state, &tenant, asked).await?)) }).await
    }

    async fn search_tags_v2(&self, request: Request<SearchTagsRequest>) -> Answer<SearchTagsV2Response> {
        let tenant = self.tenant(&request)?;
        let asked = NamesAsked::of_message(request.get_ref())?;
        answer(tags::names(&self.state, &tenant, asked)).await
    }

    async fn search_tag_values(&self, request: Request<SearchTagValuesRequest>) -> Answer<SearchTagValuesResponse> {
        let tenant = self.tenant(&request)?;
        let asked = ValuesAsked::of_message(request.into_inner())?;
        answer(async { Ok(tags::without_types(tags::values(&self.state, &tenant, asked).await?)) }).await
    }

    async fn search_tag_values_v2(
        &self,
        request: Request<SearchTagValuesRequest>,
    ) -> Answer<SearchTagValuesV2Response> {
        let tenant = self.tenant(&request)?;
        let asked = ValuesAsked::of_message(request.into_inner())?;
        answer(tags::values(&self.state, &tenant, asked)).await
    }

    async fn metrics_query_range(&self, request: Request<QueryRangeRequest>) -> Answer<QueryRangeResponse> {
        let tenant = self.tenant(&request)?;
        answer(metrics::streamed_range(&self.state, &tenant, request.into_inner())).await
    }

    async fn metrics_query_instant(&self, request: Request<QueryInstantRequest>) -> Answer<QueryInstantResponse> {
        let tenant = self.tenant(&request)?;
        answer(metrics::streamed_instant(&self.state, &tenant, request.into_inner())).await
    }
}
