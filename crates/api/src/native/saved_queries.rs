//! Queries that people saved under a name, for all who read the tenant's traces.
//!
//! A query is kept as the address of the page that shows it, without the tenant.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{HOST, IF_NONE_MATCH, ORIGIN};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use tracehouse_model::{Caller, TenantId};
use utoipa::ToSchema;

use crate::answer::json;
use crate::caller::one_tenant;
use crate::engine::AdminError;
use crate::problem::Problem;
use crate::state::ApiState;

/// A query that somebody saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SavedQuery {
    /// No other of the tenant has it.
    name: String,
    /// What it is for; may be empty.
    description: String,
    /// Path and query of the page that shows it.
    #[schema(example = "/query?q=%7B%20status%20%3D%20error%20%7D")]
    address: String,
    /// When it was saved last.
    saved_time_unix_nano: String,
}

/// All saved queries of a tenant, by name.
#[derive(Serialize, ToSchema)]
pub(crate) struct SavedQueriesAnswer {
    queries: Vec<SavedQuery>,
    /// How many there may be.
    limit: usize,
}

/// What is to be saved under a name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedQueryBody {
    /// At most 1,000 characters.
    #[serde(default)]
    description: String,
    /// At most 8 KiB: a path of this server, such as `/query?q=…`, without the tenant.
    address: String,
}

const NOT_A_NAME: &str = "the name in the address is not UTF-8, percent-encoded";
const QUERIES_MAX: usize = 500;
/// Of all queries of a tenant: they are written as one.
const ALL_BYTES_MAX: usize = 512 * 1024;
const NAME_CHARS_MAX: usize = 100;
const DESCRIPTION_CHARS_MAX: usize = 1000;
const ADDRESS_BYTES_MAX: usize = 8 * 1024;

/// Lists the queries that were saved.
#[utoipa::path(
    get, path = "/api/v1/saved-queries", tag = "queries",
    responses((status = 200, body = SavedQueriesAnswer), (status = 400, body = Problem), (status = 500, body = Problem))
)]
pub(crate) async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Response, Problem> {
    let queries = read(&state, one_tenant(&caller)?).await?;
    Ok(json(&SavedQueriesAnswer { queries, limit: QUERIES_MAX }))
}

/// Saves a query under a name, in place of what was saved under it; with `If-None-Match: *` only if nothing was.
#[utoipa::path(
    put, path = "/api/v1/saved-queries/{name}", tag = "queries",
    params(("name" = String, Path, description = "1 to 100 characters")),
    request_body = SavedQueryBody,
    responses(
        (status = 200, body = SavedQuery), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 409, body = Problem, description = "There are 500, or they take 512 KiB together"),
        (status = 412, body = Problem), (status = 500, body = Problem),
    )
)]
pub(crate) async fn save(
    State(state): State<ApiState>,
    caller: Caller,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let (tenant, Path(name)) = (one_tenant(&caller)?, name.map_err(|_| Problem::invalid_query(NOT_A_NAME))?);
    refuse_other_sites(&headers)?;
    let expected = r#"the body is expected to be {"description": "…", "address": "/query?q=…"}"#;
    let refused = |reason: String| Problem::invalid_query(format!("{expected}: {reason}"));
    // A list of its values would be taken as well.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(refused("it is no object".to_owned()));
    }
    let body: SavedQueryBody = serde_json::from_slice(&body).map_err(|error| refused(error.to_string()))?;
    let saved_time_unix_nano = state.clock.now_unix_nanos().to_string();
    let query = SavedQuery { name, description: body.description, address: body.address, saved_time_unix_nano };
    query.check()?;
    let _alone = state.saving_queries.lock().await;
    let mut queries = read(&state, tenant).await?;
    match queries.binary_search_by(|other| other.name.cmp(&query.name)) {
        Ok(_) if headers.get(IF_NONE_MATCH).is_some_and(|known| known == "*") => {
            let detail = format!(
                "there is a saved query {:?} already; choose another name, or save it in its place",
                query.name
            );
            return Err(Problem::precondition_failed(detail));
        }
        Ok(at) => queries[at] = query.clone(),
        Err(at) => queries.insert(at, query.clone()),
    }
    if queries.len() > QUERIES_MAX {
        return Err(full(&format!("{QUERIES_MAX} queries are saved, which is the most")));
    }
    write(&state, tenant, &queries).await?;
    Ok(json(&query))
}

/// Removes a saved query.
#[utoipa::path(
    delete, path = "/api/v1/saved-queries/{name}", tag = "queries",
    params(("name" = String, Path, description = "Under which it was saved")),
    responses(
        (status = 204), (status = 400, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 500, body = Problem),
    )
)]
pub(crate) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (tenant, Path(name)) = (one_tenant(&caller)?, name.map_err(|_| Problem::invalid_query(NOT_A_NAME))?);
    refuse_other_sites(&headers)?;
    let _alone = state.saving_queries.lock().await;
    let mut queries = read(&state, tenant).await?;
    let before = queries.len();
    queries.retain(|query| query.name != name);
    if queries.len() == before {
        return Err(Problem::not_found("no query is saved under this name; somebody may have removed it"));
    }
    write(&state, tenant, &queries).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl SavedQuery {
    fn check(&self) -> Result<(), Problem> {
        let is_named = self.name.chars().any(|one| !one.is_whitespace() && !takes_no_room(one));
        let is_trimmed = self.name.trim() == self.name;
        if !is_named || !is_trimmed || self.name.chars().count() > NAME_CHARS_MAX || self.name.chars().any(is_command) {
            let expected = format!(
                "1 to {NAME_CHARS_MAX} characters that can be seen, none of them a control character, no space at either end"
            );
            return Err(Problem::parameter("name", &self.name, &expected));
        }
        if self.description.chars().count() > DESCRIPTION_CHARS_MAX {
            let detail = format!("the description is longer than {DESCRIPTION_CHARS_MAX} characters; shorten it");
            return Err(Problem::invalid_parameter("description", detail));
        }
        if self.description.chars().any(|one| is_command(one) && !matches!(one, '\n' | '\t')) {
            return Err(Problem::invalid_parameter(
                "description",
                "the description has control characters; leave them out",
            ));
        }
        // Nobody may be led to another site by it: browsers take `//host` and `/\host` for one, and `/..//host` for `//host`.
        let path = self.address.split(['?', '#']).next().unwrap_or_default();
        let is_of_here = path.strip_prefix('/').is_some_and(|rest| {
            let is_step = |part: &str| matches!(&*part.to_ascii_lowercase().replace("%2e", "."), "" | "." | "..");
            rest.is_empty() || !rest.contains('\\') && !rest.split('/').any(is_step)
        });
        let is_written = self.address.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_of_here || !is_written || self.address.len() > ADDRESS_BYTES_MAX {
            let expected = "path and query of a page, percent-encoded, of at most 8 KiB, such as /query?q=%7B%7D";
            return Err(Problem::parameter("address", &self.address, expected));
        }
        Ok(())
    }
}

/// What tells a screen to do something, such as to write from right to left from here on.
fn is_command(one: char) -> bool {
    one.is_control() || matches!(one, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What joins or parts its neighbours, or shows nothing.
fn takes_no_room(one: char) -> bool {
    matches!(
        one,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2065}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}'
    )
}

async fn read(state: &ApiState, tenant: &TenantId) -> Result<Vec<SavedQuery>, Problem> {
    let text = state.answers.saved_queries(tenant).await.map_err(|error| failed("reading", error))?;
    let Some(text) = text else { return Ok(Vec::new()) };
    let not_understood = |error| AdminError(format!("a newer version may have written them: {error}"));
    serde_json::from_str(&text).map_err(|error| failed("reading", not_understood(error)))
}

async fn write(state: &ApiState, tenant: &TenantId, queries: &[SavedQuery]) -> Result<(), Problem> {
    let text = serde_json::to_string(queries).map_err(|error| failed("writing", AdminError(error.to_string())))?;
    if text.len() > ALL_BYTES_MAX {
        return Err(full(&format!("all saved queries together would take more than {} KiB", ALL_BYTES_MAX / 1024)));
    }
    state.answers.save_queries(tenant, text).await.map_err(|error| failed("writing", error))
}

fn full(what: &str) -> Problem {
    Problem::full(format!("{what}; remove some that nobody needs"))
}

fn failed(what: &str, AdminError(reason): AdminError) -> Problem {
    tracing::error!(what, %reason, "saved queries could not be read or written");
    Problem::internal(format!("{what} the saved queries failed: {reason}"))
}

/// Only this server's own pages, and programs, may write here: a page whose origin may ask questions may not. Browsers say which site a
/// page is of, but not to servers without TLS that are no localhost; those are told the page's origin.
fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(HOST).map(|host| host.as_bytes());
    let is_of_here = match (headers.get("sec-fetch-site").map(|site| site.as_bytes()), headers.get(ORIGIN)) {
        (Some(site), _) => matches!(site, b"same-origin" | b"none"),
        (None, Some(origin)) => origin.as_bytes().strip_prefix(b"http://").is_some_and(|origin| Some(origin) == host),
        (None, None) => true,
    };
    let refused = || Problem::forbidden("a page of another site may not change what is saved here");
    if is_of_here { Ok(()) } else { Err(refused()) }
}
