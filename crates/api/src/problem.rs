use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use tracehouse_model::error_chain;
use tracehouse_query::QueryError;
use tracehouse_sql::SqlError;
use utoipa::ToSchema;

/// What went wrong and what to do about it, as RFC 9457 (problem details) has it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem for programs, such as `urn:tracehouse:problem:invalid-parameter`.
    #[serde(rename = "type")]
    pub problem_type: &'static str,
    pub title: &'static str,
    /// The HTTP status code once more.
    pub status: u16,
    /// What to do, for people.
    pub detail: String,
    /// The parameter that is wrong, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

impl Problem {
    fn new(status: StatusCode, problem_type: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { problem_type, title, status: status.as_u16(), detail: detail.into(), parameter: None, retry_after: None }
    }

    /// `expected` completes the sentence "`parameter` is `given`; expected …".
    pub(crate) fn parameter(parameter: &str, given: &str, expected: &str) -> Self {
        let given: String = given.chars().take(GIVEN_CHARS_MAX).collect();
        Self::invalid_parameter(parameter, format!("parameter `{parameter}` is {given:?}; expected {expected}"))
    }

    pub(crate) fn invalid_parameter(parameter: &str, detail: impl Into<String>) -> Self {
        let kind = "urn:tracehouse:problem:invalid-parameter";
        let problem = Self::new(StatusCode::BAD_REQUEST, kind, "A parameter is wrong", detail);
        Self { parameter: Some(parameter.chars().take(GIVEN_CHARS_MAX).collect()), ..problem }
    }

    pub(crate) fn invalid_query(detail: impl Into<String>) -> Self {
        let kind = "urn:tracehouse:problem:invalid-query";
        Self::new(StatusCode::BAD_REQUEST, kind, "The query is wrong", detail)
    }

    pub(crate) fn invalid_tenant(detail: impl Into<String>) -> Self {
        let kind = "urn:tracehouse:problem:invalid-tenant";
        Self::new(StatusCode::BAD_REQUEST, kind, "The tenant's name is wrong", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "urn:tracehouse:problem:not-found", "Not found", detail)
    }

    pub(crate) fn method_not_allowed(detail: impl Into<String>) -> Self {
        let kind = "urn:tracehouse:problem:method-not-allowed";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, kind, "Method not allowed", detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "urn:tracehouse:problem:forbidden", "Forbidden", detail)
    }

    pub(crate) fn precondition_failed(detail: impl Into<String>) -> Self {
        let kind = "urn:tracehouse:problem:exists";
        Self::new(StatusCode::PRECONDITION_FAILED, kind, "It exists already", detail)
    }

    pub(crate) fn full(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "urn:tracehouse:problem:full", "There is no room for more", detail)
    }

    pub(crate) fn not_implemented(detail: impl Into<String>) -> Self {
        let kind = "urn:tracehouse:problem:not-implemented";
        Self::new(StatusCode::NOT_IMPLEMENTED, kind, "Not implemented", detail)
    }

    pub(crate) fn uri_too_long(detail: impl Into<String>) -> Self {
        let kind = "urn:tracehouse:problem:too-large";
        Self::new(StatusCode::URI_TOO_LONG, kind, "The request is too large", detail)
    }

    pub(crate) fn unavailable(detail: impl Into<String>, retry_after: Duration) -> Self {
        let kind = "urn:tracehouse:problem:unavailable";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, "Not now", detail);
        Self { retry_after: Some(retry_after), ..problem }
    }

    pub(crate) fn timeout(after: Duration) -> Self {
        let kind = "urn:tracehouse:problem:timeout";
        let detail =
            format!("the answer took longer than {} s; ask for a shorter time range or fewer traces", after.as_secs());
        Self::new(StatusCode::GATEWAY_TIMEOUT, kind, "The answer took too long", detail)
    }

    pub(crate) fn too_costly(detail: impl Into<String>) -> Self {
        let kind = "urn:tracehouse:problem:too-costly";
        Self::new(StatusCode::BAD_REQUEST, kind, "The query needs too much", detail)
    }

    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        let kind = "urn:tracehouse:problem:internal";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, kind, "Tracehouse failed", detail)
    }
}

/// How much of a wrong value is repeated to the sender.
const GIVEN_CHARS_MAX: usize = 100;
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The content type of problem details.
pub(crate) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Invalid(detail) => Problem::invalid_query(detail),
            busy @ (QueryError::Busy { .. } | QueryError::Memory) => {
                Problem::unavailable(busy.to_string(), BUSY_RETRY_AFTER)
            }
            unreadable @ QueryError::Unreadable(_) => Problem::not_found(unreadable.to_string()),
            failed => {
                tracing::error!(error = %error_chain(&failed), "a query failed");
                Problem::internal(format!("{failed}; the server's log says why"))
            }
        }
    }
}

impl From<SqlError> for Problem {
    fn from(error: SqlError) -> Self {
        let detail = error.to_string();
        match error {
            SqlError::Invalid(_) => Problem::invalid_query(detail),
            SqlError::Busy { .. } => Problem::unavailable(detail, BUSY_RETRY_AFTER),
            SqlError::Timeout { .. } => Problem { detail, ..Problem::timeout(Duration::ZERO) },
            SqlError::Memory { .. } => Problem::too_costly(detail),
            SqlError::Ended => Problem::internal(detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}
