use axum::Router;

use crate::state::ReceiverState;

/// The OTLP/HTTP receiver: `POST /v1/traces`.
pub fn http_router(_state: ReceiverState) -> Router {
    Router::new()
}
