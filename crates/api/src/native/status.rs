use axum::extract::State;
use axum::response::Response;
use http::Uri;
use tracehouse_model::Caller;

use super::answers::ServerStatus;
use crate::answer::json;
use crate::caller::one_tenant;
use crate::params::Parameters;
use crate::problem::Problem;
use crate::state::ApiState;

/// How much is stored and how fast spans come in.
#[utoipa::path(
    get, path = "/api/v1/status", tag = "operation",
    responses((status = 200, body = ServerStatus), (status = 400, body = Problem))
)]
pub(crate) async fn status(State(state): State<ApiState>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    Parameters::strict(&uri, &[])?;
    let tenant = one_tenant(&caller)?;
    let stored = state.answers.stored(tenant);
    let now = state.clock.monotonic();
    let rate = state.ingest_rates.observe(tenant, now, stored.spans_hot + stored.spans_stored);
    Ok(json(&ServerStatus {
        version: env!("CARGO_PKG_VERSION"),
        tenant: tenant.to_string(),
        spans_stored: stored.spans_stored,
        spans_hot: stored.spans_hot,
        files: stored.files,
        bytes_stored: stored.bytes_stored,
        uptime_nanos: u64::try_from(now.saturating_sub(state.started).as_nanos()).unwrap_or(u64::MAX),
        ingest_spans_per_second: rate,
        troubles: state.answers.troubles(Some(tenant)),
    }))
}
