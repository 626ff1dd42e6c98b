use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use utoipa::OpenApi;

use crate::answer::JSON;
use crate::native::NativeApi;

/// The description of the native API, made from the code.
static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| NativeApi::openapi().to_pretty_json().expect("the description is plain data"));

/// The OpenAPI description of the native API, as JSON.
pub fn openapi_json() -> &'static str {
    &DOCUMENT
}

pub(crate) async fn serve() -> Response {
    ([(CONTENT_TYPE, JSON), (CACHE_CONTROL, http::HeaderValue::from_static("no-cache"))], openapi_json())
        .into_response()
}
