//! Requests and answers of the HTTP surface: most with a stand-in for the engines behind it, some (`completion`, `shown`, `ended`) with a store.

mod as_tempo;
mod completion;
mod ended;
mod fake;
mod grpc;
mod jaeger;
mod jaeger_v3;
mod metrics;
mod native;
mod otlp;
mod recorded;
mod saved_queries;
mod shop;
mod shown;
mod sql;
mod tempo;
mod tenants;
mod ui;
mod zipkin;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use tower::ServiceExt;
use tracehouse_api::ApiState;
use tracehouse_model::{ManualClock, TenantId};
use tracehouse_query::{Condition, Scope};

use crate::fake::Fake;

/// What is asked of the engine for a tag that a field of the span may be, or an attribute in one of these places.
pub(crate) fn tag_condition(fields: &[Condition], places: &[Scope], key: &str, text: &str) -> Condition {
    let of_attribute = |scope: &Scope| Condition::ShownAs { scope: *scope, key: key.to_owned(), text: text.to_owned() };
    Condition::Any(fields.iter().cloned().chain(places.iter().map(of_attribute)).collect())
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }
}

pub(crate) fn app(fake: &Arc<Fake>) -> Router {
    let prometheus = PrometheusBuilder::new().build_recorder().handle();
    let clock = Arc::new(ManualClock::default());
    tracehouse_api::router(ApiState::with_answers(fake.clone(), prometheus, clock, TenantId::default()))
}

pub(crate) async fn send(fake: &Arc<Fake>, request: Request<Body>) -> Answer {
    send_to(app(fake), request).await
}

pub(crate) async fn send_to(app: Router, request: Request<Body>) -> Answer {
    let response = app.oneshot(request).await.expect("routers don't fail");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("the body is whole").to_bytes().to_vec();
    Answer { status: head.status, headers: head.headers, body }
}

pub(crate) async fn get(fake: &Arc<Fake>, uri: &str) -> Answer {
    get_with(fake, uri, &[]).await
}

pub(crate) async fn get_with(fake: &Arc<Fake>, uri: &str, headers: &[(&str, &str)]) -> Answer {
    let request = headers.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
    send(fake, request.body(Body::empty()).expect("a request")).await
}
