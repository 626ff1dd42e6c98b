use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use serde_json::Value;

use crate::answer::json;
use crate::engine::AdminError;
use crate::params::Parameters;
use crate::problem::Problem;
use crate::state::ApiState;

/// Writes all spans in memory to files; answers when that is done.
#[utoipa::path(
    post, path = "/api/v1/admin/flush", tag = "operation",
    responses((status = 200, description = "Done; what was written", body = Object), (status = 500, body = Problem))
)]
pub(crate) async fn flush(State(state): State<ApiState>, headers: HeaderMap, uri: Uri) -> Result<Response, Problem> {
    Parameters::strict(&uri, &[])?;
    refuse_other_sites(&headers)?;
    report("flush", state.answers.flush().await)
}

/// Merges small files into larger ones until nothing is left to merge; answers when that is done.
#[utoipa::path(
    post, path = "/api/v1/admin/compact", tag = "operation",
    responses((status = 200, description = "Done; what was merged", body = Object), (status = 500, body = Problem))
)]
pub(crate) async fn compact(State(state): State<ApiState>, headers: HeaderMap, uri: Uri) -> Result<Response, Problem> {
    Parameters::strict(&uri, &[])?;
    refuse_other_sites(&headers)?;
    report("compaction", state.answers.compact().await)
}

/// A page of another site that someone has open must not start work here. Browsers send this header; programs don't.
fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(Problem::forbidden("a page of another site may not ask for this; ask from a program")),
    }
}

fn report(task: &str, done: Result<Value, AdminError>) -> Result<Response, Problem> {
    match done {
        Ok(report) => Ok(json(&report)),
        Err(AdminError(reason)) => {
            tracing::error!(task, %reason, "a task of an administrator failed");
            Err(Problem::internal(format!("the {task} failed: {reason}")))
        }
    }
}
