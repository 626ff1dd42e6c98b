use std::convert::Infallible;
use std::io;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tower::ServiceExt;
use tracehouse_listen::{Port, Sites};

/// Answers on the HTTP port from the first moment of the process on: until the APIs are there, that it is starting.
/// Reading back the write-ahead log can take a while after a crash, in which those who watch should see a process that is up.
#[derive(Clone, Default)]
pub(crate) struct Front {
    router: Arc<OnceLock<Router>>,
}

impl Front {
    /// From now on the router answers.
    pub(crate) fn open(&self, router: Router) {
        // A second call would be a defect, but one that leaves a working router in place.
        let _ = self.router.set(router);
    }

    /// Serves until `shutdown` completes, then finishes the answers in the making.
    pub(crate) fn serve(
        self,
        listener: TcpListener,
        sites: Sites,
        shutdown: BoxFuture<'static, ()>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let router = Router::new().fallback(answer).with_state(self);
        Port { name: "query", router, sites }.serve(listener, shutdown)
    }
}

async fn answer(State(front): State<Front>, request: Request) -> Response {
    let Some(router) = front.router.get() else {
        return starting(request.uri().path());
    };
    router.clone().oneshot(request).await.unwrap_or_else(|never: Infallible| match never {})
}

fn starting(path: &str) -> Response {
    const PROBLEM: &str = r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the server is starting and reads back its write-ahead log; try again in a moment"}"#;
    if path == "/healthz" {
        return "ok\n".into_response();
    }
    let headers = [(header::CONTENT_TYPE, "application/problem+json"), (header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, headers, PROBLEM).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::routing::get;

    async fn ask(front: &Front, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).expect("the path is one");
        let response = answer(State(front.clone()), request).await;
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("the body is short");
        (status, String::from_utf8(body.to_vec()).expect("the body is text"))
    }

    #[tokio::test]
    async fn says_that_it_starts_until_it_has_started() {
        let front = Front::default();
        assert_eq!(ask(&front, "/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
        let (status, body) = ask(&front, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let problem: serde_json::Value = serde_json::from_str(&body).expect("a problem is JSON");
        assert_eq!(problem["status"], 503);
        front.open(Router::new().route("/readyz", get(async || "ready\n")));
        assert_eq!(ask(&front, "/readyz").await, (StatusCode::OK, "ready\n".to_owned()));
        assert_eq!(ask(&front, "/other").await.0, StatusCode::NOT_FOUND);
    }
}
