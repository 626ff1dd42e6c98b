use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use tracehouse_query::QueryError;

use crate::answer::{JSON, bytes, json};
use crate::params::Parameters;
use crate::problem::Problem;

const INDENT: &[u8] = b"    ";

/// How an answer of the classic interface is written: with `prettyPrint`, for people to read.
#[derive(Clone, Copy)]
pub(super) enum Layout {
    Plain,
    Pretty,
}

impl<S: Send + Sync> FromRequestParts<S> for Layout {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let parameters = Parameters::lenient(&parts.uri).ok();
        // As in Jaeger, any value but one.
        let pretty = parameters.is_some_and(|all| all.all("prettyPrint").next().is_some_and(|value| value != "false"));
        Ok(if pretty { Self::Pretty } else { Self::Plain })
    }
}

impl Layout {
    pub(super) fn write(self, value: &impl Serialize) -> Vec<u8> {
        let mut out = Vec::new();
        let written = match self {
            Self::Plain => value.serialize(&mut Serializer::new(&mut out)),
            Self::Pretty => {
                let formatter = PrettyFormatter::with_indent(INDENT);
                value.serialize(&mut Serializer::with_formatter(&mut out, formatter))
            }
        };
        written.expect("writing plain data to memory can't fail");
        out
    }

    /// A small answer.
    pub(super) fn respond(self, value: &impl Serialize) -> Response {
        bytes(JSON, self.write(value))
    }
}

/// Every answer of the classic interface.
#[derive(Serialize)]
pub(super) struct Envelope<T> {
    pub(super) data: Option<T>,
    pub(super) total: usize,
    pub(super) limit: usize,
    pub(super) offset: usize,
    /// `null` if there are none.
    pub(super) errors: Option<Vec<JaegerError>>,
}

#[derive(Serialize)]
pub(super) struct JaegerError {
    pub(super) code: u16,
    pub(super) msg: String,
    #[serde(rename = "traceID", skip_serializing_if = "Option::is_none")]
    pub(super) trace_id: Option<String>,
}

impl JaegerError {
    /// An answer that is not whole, which Jaeger has no other place for. 206 is "partial content".
    pub(super) fn partial(reason: String) -> Self {
        Self { code: StatusCode::PARTIAL_CONTENT.as_u16(), msg: format!("not everything: {reason}"), trace_id: None }
    }
}

impl<T: Serialize> Envelope<Vec<T>> {
    pub(super) fn new(data: Vec<T>, errors: Vec<JaegerError>) -> Self {
        let errors = (!errors.is_empty()).then_some(errors);
        Self { total: data.len(), data: Some(data), limit: 0, offset: 0, errors }
    }
}

/// A problem as Jaeger's clients read it.
pub(super) struct Refused(Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<QueryError> for Refused {
    fn from(error: QueryError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let error = JaegerError { code: problem.status, msg: problem.detail, trace_id: None };
        let mut response =
            json(&Envelope::<()> { data: None, total: 0, limit: 0, offset: 0, errors: Some(vec![error]) });
        *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(wait) = problem.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}
