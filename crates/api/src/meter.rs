use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use crate::state::ApiState;

const REQUESTS: &str = "tracehouse_http_requests_total";
const SECONDS: &str = "tracehouse_http_request_duration_seconds";

pub(crate) fn describe() {
    describe_counter!(REQUESTS, "Requests answered by the query API and UI, by route, method and status");
    describe_counter!(
        "tracehouse_api_still_bodies_ended_total",
        "Bodies of requests that did not move on, ended because others needed their room"
    );
    describe_histogram!(SECONDS, Unit::Seconds, "Time until the head of an answer was ready, by route");
}

/// Counts and times requests. Labels are routes, not paths, so that their number is bounded.
pub(crate) async fn measure(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| path.as_str()).to_owned();
    let method = method_label(request.method());
    let begun = state.clock.monotonic();
    let response = next.run(request).await;
    let elapsed = state.clock.monotonic().saturating_sub(begun);
    let status = response.status().as_u16().to_string();
    counter!(REQUESTS, "route" => route.clone(), "method" => method, "status" => status).increment(1);
    histogram!(SECONDS, "route" => route).record(elapsed.as_secs_f64());
    response
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
