//! `jaeger.api_v3.QueryService` on the port of HTTP. Traces come in messages of at most some thousand spans and
//! about a mebibyte, made while the client takes them.

use axum::Router;
use futures::stream::{self, BoxStream, StreamExt};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, TracesData};
use prost::Message;
use tonic::{Request, Response, Status};
use tracehouse_query::{Among, Trace};

use super::query::{Search, nanos_of, required_range, trace_id};
use super::{messages, operations};
use crate::answer::off_runtime;
use crate::dependencies;
use crate::grpc::{MESSAGE_BYTES_MAX, caller, in_parts, in_time, with_compression, with_partial};
use crate::proto::jaeger::query_service_server::{QueryService, QueryServiceServer};
use crate::proto::jaeger::{
    DependenciesResponse, FindTraceSummariesRequest, FindTraceSummariesResponse, FindTracesRequest,
    GetDependenciesRequest, GetOperationsRequest, GetOperationsResponse, GetServicesRequest, GetServicesResponse,
    GetTraceRequest,
};
use crate::state::ApiState;
use crate::unique_ids::{Halves, make_unique};
use crate::whole::{self, Whole};
use tracehouse_otlp::encode::resource_spans;

pub(crate) fn routes(state: &ApiState) -> Router<ApiState> {
    let server = with_compression!(QueryServiceServer::new(Queries { state: state.clone() }));
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

async fn messages_of(state: &ApiState, mut trace: Trace) -> Vec<Result<TracesData, Status>> {
    let make = move || {
        make_unique(&mut trace, Halves::Apart);
        let message = |message| Ok(TracesData { resource_spans: vec![message] });
        resource_spans(&trace.spans).flat_map(bounded).map(message).collect()
    };
    off_runtime(state, make).await.unwrap_or_else(|problem| vec![Err(problem.into())])
}

/// The same spans in messages that clients take.
fn bounded(message: ResourceSpans) -> Vec<ResourceSpans> {
    if message.encoded_len() <= MESSAGE_BYTES_MAX {
        return vec![message];
    }
    let ResourceSpans { resource, scope_spans, schema_url } = message;
    let of_scope = |ScopeSpans { scope, spans, schema_url: scope_url }: ScopeSpans| {
        let part = move |spans| ScopeSpans { scope: scope.clone(), spans, schema_url: scope_url.clone() };
        in_parts(spans).into_iter().map(part)
    };
    let part = |scope_spans| ResourceSpans {
        resource: resource.clone(),
        scope_spans: vec![scope_spans],
        schema_url: schema_url.clone(),
    };
    scope_spans.into_iter().flat_map(of_scope).map(part).collect()
}

#[async_trait::async_trait]
impl QueryService for Queries {
    type GetTraceStream = Messages<TracesData>;
    type FindTracesStream = Messages<TracesData>;
    type FindTraceSummariesStream = Messages<FindTraceSummariesResponse>;

    async fn get_trace(&self, request: Request<GetTraceRequest>) -> Result<Response<Self::GetTraceStream>, Status> {
        let caller = caller(&self.state, &request)?;
        let id = trace_id("trace_id", &request.get_ref().trace_id)?;
        Ok(self.stream(in_time(whole::by_id(&self.state, &caller, id)).await?))
    }

    async fn find_traces(
        &self,
        request: Request<FindTracesRequest>,
    ) -> Result<Response<Self::FindTracesStream>, Status> {
        let caller = caller(&self.state, &request)?;
        let search = Search::of_message(request.into_inner().query)?.request()?;
        Ok(self.stream(in_time(whole::search(&self.state, &caller, search)).await?))
    }

    async fn find_trace_summaries(
        &self,
        request: Request<FindTraceSummariesRequest>,
    ) -> Result<Response<Self::FindTraceSummariesStream>, Status> {
        let caller = caller(&self.state, &request)?;
        let search = Search::of_message(request.into_inner().query)?.request()?;
        let found = in_time(self.state.answers.search(&caller, search)).await?;
        let partial = found.partial_reason.clone();
        let message = messages::summaries(found.traces);
        Ok(with_partial(Response::new(stream::iter([Ok(message)]).boxed()), partial))
    }

    async fn get_services(
        &self,
        request: Request<GetServicesRequest>,
    ) -> Result<Response<GetServicesResponse>, Status> {
        let caller = caller(&self.state, &request)?;
        let found = in_time(self.state.answers.services(&caller, &Among::default())).await?;
        let partial = messages::cut_reason(&found);
        Ok(with_partial(Response::new(messages::services(found)), partial))
    }

    async fn get_operations(
        &self,
        request: Request<GetOperationsRequest>,
    ) -> Result<Response<GetOperationsResponse>, Status> {
        let caller = caller(&self.state, &request)?;
        let GetOperationsRequest { service, span_kind } = request.into_inner();
        let service = (!service.is_empty()).then_some(service);
        let found = in_time(operations::operations(&self.state, &caller, service.as_deref(), &span_kind)).await?;
        let partial = messages::cut_reason(&found);
        Ok(with_partial(Response::new(messages::operations(found)), partial))
    }

    async fn get_dependencies(
        &self,
        request: Request<GetDependenciesRequest>,
    ) -> Result<Response<DependenciesResponse>, Status> {
        let caller = caller(&self.state, &request)?;
        let nanos = |time: Option<prost_types::Timestamp>| time.map(|time| nanos_of(time.seconds, time.nanos));
        let asked = request.into_inner();
        let range = required_range(nanos(asked.start_time), nanos(asked.end_time))?;
        let found = in_time(dependencies::dependencies(&self.state, &caller, range)).await?;
        let partial = found.partial_reason.clone();
        Ok(with_partial(Response::new(messages::dependencies(found)), partial))
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::Span;

    use super::*;

    /// Two scopes with so many spans, each of about a kibibyte.
    fn message(spans: usize) -> ResourceSpans {
        let scope_spans = ["one", "other"].map(|name| ScopeSpans {
            scope: Some(InstrumentationScope { name: name.to_owned(), ..InstrumentationScope::default() }),
            spans: vec![Span { name: "x".repeat(1000), ..Span::default() }; spans],
            schema_url: format!("scope {name}"),
        });
        let resource = Some(Resource { dropped_attributes_count: 7, ..Resource::default() });
        ResourceSpans { resource, scope_spans: scope_spans.to_vec(), schema_url: "resource".to_owned() }
    }

    #[test]
    fn messages_are_bounded() {
        for (spans, messages) in [(10, 1), (600, 2), (3000, 6)] {
            let parts = bounded(message(spans));
            assert_eq!(parts.len(), messages, "{spans}");
            for part in &parts {
                assert!(part.encoded_len() < MESSAGE_BYTES_MAX + 1000, "{spans}: {}", part.encoded_len());
                assert_eq!((part.schema_url.as_str(), part.resource.is_some()), ("resource", true));
            }
            for (name, schema_url) in [("one", "scope one"), ("other", "scope other")] {
                let scopes = parts.iter().flat_map(|part| &part.scope_spans);
                let of_name = scopes.filter(|scope| scope.scope.as_ref().is_some_and(|scope| scope.name == name));
                let (urls, counts): (Vec<&str>, Vec<usize>) =
                    of_name.map(|scope| (scope.schema_url.as_str(), scope.spans.len())).unzip();
                assert_eq!(counts.iter().sum::<usize>(), spans, "{spans} {name}");
                assert!(urls.iter().all(|url| *url == schema_url), "{spans} {name}");
            }
        }
    }
}
