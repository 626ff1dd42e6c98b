//! `jaeger.api_v3.QueryService` on the port of HTTP. Traces come in messages of at most some thousand spans, made while
//! the client takes them.

use axum::Router;
use futures::stream::{self, BoxStream, StreamExt};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};
use tracehouse_query::{Among, Trace};

use super::messages;
use super::query::{Search, nanos_of, required_range, trace_id};
use crate::answer::off_runtime;
use crate::dependencies;
use crate::grpc::{in_time, tenant};
use crate::otlp_out::resource_spans;
use crate::proto::jaeger::query_service_server::{QueryService, QueryServiceServer};
use crate::proto::jaeger::{
    DependenciesResponse, FindTraceSummariesRequest, FindTraceSummariesResponse, FindTracesRequest,
    GetDependenciesRequest, GetOperationsRequest, GetOperationsResponse, GetServicesRequest, GetServicesResponse,
    GetTraceRequest,
};
use crate::state::ApiState;
use crate::whole::{self, Whole};

pub(crate) fn routes(state: &ApiState) -> Router<ApiState> {
    let server = QueryServiceServer::new(Queries { state: state.clone() });
    Router::new().route_service("/jaeger.api_v3.QueryService/{method}", server)
}

struct Queries {
    state: ApiState,
}

type Messages<T> = BoxStream<'static, Result<T, Status>>;

impl Queries {
    fn stream(&self, whole: Whole) -> Response<Messages<TracesData>> {
        let partial = whole.partial_reason();
        let state = self.state.clone();
        let messages = stream::iter(whole.traces)
            .then(move |trace| {
                let state = state.clone();
                async move { messages_of(&state, trace).await }
            })
            .flat_map(stream::iter);
        with_partial(Response::new(messages.boxed()), partial)
    }
}

async fn messages_of(state: &ApiState, trace: Trace) -> Vec<Result<TracesData, Status>> {
    let make = move || {
        let message = |message| Ok(TracesData { resource_spans: vec![message] });
        resource_spans(&trace.spans).map(message).collect()
    };
    off_runtime(state, make).await.unwrap_or_else(|problem| vec![Err(problem.into())])
}

/// Metadata say why an answer is not whole, as Jaeger's messages have no place for it.
fn with_partial<T>(mut response: Response<T>, reason: Option<String>) -> Response<T> {
    if let Some(reason) = reason.and_then(|reason| MetadataValue::try_from(reason).ok()) {
        response.metadata_mut().insert("x-tracehouse-partial", reason);
    }
    response
}

#[async_trait::async_trait]
impl QueryService for Queries {
    type GetTraceStream = Messages<TracesData>;
    type FindTracesStream = Messages<TracesData>;
    type FindTraceSummariesStream = Messages<FindTraceSummariesResponse>;

    async fn get_trace(&self, request: Request<GetTraceRequest>) -> Result<Response<Self::GetTraceStream>, Status> {
        let tenant = tenant(&self.state, &request)?;
        let id = trace_id("trace_id", &request.get_ref().trace_id)?;
        Ok(self.stream(in_time(whole::by_id(&self.state, &tenant, id)).await?))
    }

    async fn find_traces(
        &self,
        request: Request<FindTracesRequest>,
    ) -> Result<Response<Self::FindTracesStream>, Status> {
        let tenant = tenant(&self.state, &request)?;
        let search = Search::of_message(request.into_inner().query)?.request()?;
        Ok(self.stream(in_time(whole::search(&self.state, &tenant, search)).await?))
    }

    async fn find_trace_summaries(
        &self,
        request: Request<FindTraceSummariesRequest>,
    ) -> Result<Response<Self::FindTraceSummariesStream>, Status> {
        let tenant = tenant(&self.state, &request)?;
        let search = Search::of_message(request.into_inner().query)?.request()?;
        let found = in_time(self.state.answers.search(&tenant, search)).await?;
        let partial = found.partial_reason.clone();
        let message = messages::summaries(found.traces);
        Ok(with_partial(Response::new(stream::iter([Ok(message)]).boxed()), partial))
    }

    async fn get_services(
        &self,
        request: Request<GetServicesRequest>,
    ) -> Result<Response<GetServicesResponse>, Status> {
        let tenant = tenant(&self.state, &request)?;
        Ok(Response::new(messages::services(in_time(self.state.answers.services(&tenant, &Among::default())).await?)))
    }

    async fn get_operations(
        &self,
        request: Request<GetOperationsRequest>,
    ) -> Result<Response<GetOperationsResponse>, Status> {
        let tenant = tenant(&self.state, &request)?;
        let GetOperationsRequest { service, span_kind } = request.into_inner();
        messages::check_kind(&span_kind)?;
        let service = (!service.is_empty()).then_some(service);
        let found = in_time(self.state.answers.operations(&tenant, service.as_deref(), &Among::default())).await?;
        Ok(Response::new(messages::operations(found)))
    }

    async fn get_dependencies(
        &self,
        request: Request<GetDependenciesRequest>,
    ) -> Result<Response<DependenciesResponse>, Status> {
        let tenant = tenant(&self.state, &request)?;
        let nanos = |time: Option<prost_types::Timestamp>| time.map(|time| nanos_of(time.seconds, time.nanos));
        let asked = request.into_inner();
        let range = required_range(nanos(asked.start_time), nanos(asked.end_time))?;
        let found = in_time(dependencies::dependencies(&self.state, &tenant, range)).await?;
        let partial = found.partial_reason.clone();
        Ok(with_partial(Response::new(messages::dependencies(found)), partial))
    }
}
