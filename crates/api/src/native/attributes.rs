use axum::extract::State;
use axum::response::Response;
use http::Uri;
use tracehouse_model::Caller;
use tracehouse_query::Scope;

use super::answers::{AttributeKeyAnswer, AttributeKeysAnswer, AttributeValueAnswer, AttributeValuesAnswer};
use super::terms::{AttributeScope, ValueType};
use crate::answer::{json, with_partial_header};
use crate::params::Parameters;
use crate::problem::Problem;
use crate::scope::{SCOPES, parse_scope};
use crate::state::ApiState;

const VALUES_DEFAULT: usize = 100;
const VALUES_MAX: usize = 10_000;

/// Keys under which spans carry attributes.
#[utoipa::path(
    get, path = "/api/v1/attributes/keys", tag = "names",
    params(
        ("scope" = Option<String>, Query, description = "span, resource, instrumentation, event or link; all if absent"),
        ("q" = Option<String>, Query, description = "TraceQL, which may be unfinished: only what is on spans that satisfy its conditions, as far as they are certain"),
        ("start" = Option<String>, Query, description = "Spans that begin from here on, going by whole files"),
        ("end" = Option<String>, Query, description = "Spans that begin before this, going by whole files"),
    ),
    responses((status = 200, body = AttributeKeysAnswer), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn keys(State(state): State<ApiState>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::strict(&uri, &["scope", "q", "start", "end"])?;
    let among = parameters.time_range()?.among(parameters.text("q")?);
    let scope = parameters.parsed("scope", parse_scope, SCOPES)?;
    let found = state.answers.attribute_keys(&caller, scope, &among).await?;
    let keys =
        found.items.into_iter().map(|seen| AttributeKeyAnswer { scope: AttributeScope::of(seen.scope), key: seen.key });
    let answer = json(&AttributeKeysAnswer { keys: keys.collect(), complete: found.complete });
    Ok(with_partial_header(answer, found.partial_reason))
}

/// Values that an attribute takes.
#[utoipa::path(
    get, path = "/api/v1/attributes/values", tag = "names",
    params(
        ("key" = String, Query, example = "http.route"),
        ("scope" = Option<String>, Query, description = "span, resource, instrumentation, event or link; span or resource if absent"),
        ("limit" = Option<u32>, Query, description = "1 to 10000; 100 if absent"),
        ("q" = Option<String>, Query, description = "TraceQL, which may be unfinished: only what is on spans that satisfy its conditions, as far as they are certain"),
        ("start" = Option<String>, Query, description = "Spans that begin from here on, going by whole files"),
        ("end" = Option<String>, Query, description = "Spans that begin before this, going by whole files"),
    ),
    responses((status = 200, body = AttributeValuesAnswer), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn values(State(state): State<ApiState>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::strict(&uri, &["scope", "key", "limit", "q", "start", "end"])?;
    let among = parameters.time_range()?.among(parameters.text("q")?);
    let scope = parameters.parsed("scope", parse_scope, SCOPES)?.unwrap_or(Scope::Either);
    let key = parameters.required("key", "the key of an attribute, such as http.route")?;
    let limit = parameters.count("limit", VALUES_DEFAULT, 1..=VALUES_MAX)?;
    let found = state.answers.attribute_values(&caller, scope, key, limit, &among).await?;
    let value = |seen: tracehouse_query::AttributeValueSeen| AttributeValueAnswer {
        value_type: ValueType::named(seen.value_type),
        value: seen.value,
    };
    let values = found.items.into_iter().map(value).collect();
    Ok(with_partial_header(json(&AttributeValuesAnswer { values, complete: found.complete }), found.partial_reason))
}
