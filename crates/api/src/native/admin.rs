use axum::extract::State;
use axum::response::Response;
use http::header::ORIGIN;
use http::{HeaderMap, Uri};

use super::answers::{CompactionAnswer, FlushAnswer, TrustClockAnswer};
use crate::answer::json;
use crate::engine::AdminError;
use crate::params::Parameters;
use crate::problem::Problem;
use crate::state::ApiState;

/// Writes all spans in memory to files; answers when that is done.
#[utoipa::path(
    post, path = "/api/v1/admin/flush", tag = "operation",
    responses((status = 200, body = FlushAnswer), (status = 403, body = Problem), (status = 500, body = Problem))
)]
pub(crate) async fn flush(State(state): State<ApiState>, headers: HeaderMap, uri: Uri) -> Result<Response, Problem> {
    Parameters::strict(&uri, &[])?;
    refuse_other_sites(&headers)?;
    let done = state.answers.flush().await.map_err(|error| failed("flush", error))?;
    Ok(json(&FlushAnswer { spans: done.spans, files: done.files, bytes: done.bytes, duplicates: done.duplicates }))
}

/// Merges small files into larger ones until nothing is left to merge; answers when that is done.
#[utoipa::path(
    post, path = "/api/v1/admin/compact", tag = "operation",
    responses((status = 200, body = CompactionAnswer), (status = 403, body = Problem), (status = 500, body = Problem))
)]
pub(crate) async fn compact(State(state): State<ApiState>, headers: HeaderMap, uri: Uri) -> Result<Response, Problem> {
    Parameters::strict(&uri, &[])?;
    refuse_other_sites(&headers)?;
    let done = state.answers.compact().await.map_err(|error| failed("compaction", error))?;
    Ok(json(&CompactionAnswer {
        merges: done.merges,
        files_before: done.files_before,
        files_after: done.files_after,
        spans: done.spans,
        bytes_before: done.bytes_before,
        bytes_after: done.bytes_after,
        duplicates: done.duplicates,
    }))
}

/// Confirms that the machine's clock is right, when the store does not believe it: retention goes by it from now on.
#[utoipa::path(
    post, path = "/api/v1/admin/trust-clock", tag = "operation",
    responses((status = 200, body = TrustClockAnswer), (status = 403, body = Problem), (status = 500, body = Problem))
)]
pub(crate) async fn trust_clock(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    Parameters::strict(&uri, &[])?;
    refuse_other_sites(&headers)?;
    state.answers.trust_clock().await.map_err(|error| failed("change of the store's time", error))?;
    Ok(json(&TrustClockAnswer { troubles: state.answers.troubles(None) }))
}

/// A page that someone has open must not start work here, also not one whose origin may ask questions. Browsers say which site a
/// page is of, but not to servers without TLS that are no localhost; to those they name the origin of whatever is posted. Programs
/// send neither.
fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Problem> {
    let is_of_none = match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
        None => !headers.contains_key(ORIGIN),
        Some(site) => matches!(site, b"same-origin" | b"none"),
    };
    let refused = || Problem::forbidden("a page of another site may not ask for this; ask from a program");
    if is_of_none { Ok(()) } else { Err(refused()) }
}

fn failed(task: &str, AdminError(reason): AdminError) -> Problem {
    tracing::error!(task, %reason, "a task of an administrator failed");
    Problem::internal(format!("the {task} failed: {reason}"))
}
