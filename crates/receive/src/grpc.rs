use axum::Router;

use crate::state::ReceiverState;

/// The OTLP/gRPC trace service.
pub fn grpc_router(_state: ReceiverState) -> Router {
    Router::new()
}
