//! The server's HTTP side: one keep-alive connection, one question at a time.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Queries that take longer have failed.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Flushing and compacting twenty million spans takes its time.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(Clone)]
pub(crate) struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

impl Api {
    pub(crate) fn new(address: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { client: Client::builder(TokioExecutor::new()).build(connector), base: format!("http://{address}") }
    }

    /// The whole body is read before this returns.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        tokio::time::timeout(QUERY_TIMEOUT, self.ask(Method::GET, path, Bytes::new()))
            .await
            .with_context(|| format!("GET {path} took longer than {QUERY_TIMEOUT:?}"))?
    }

    pub(crate) async fn get_json(&self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.get(path).await?;
        if status != StatusCode::OK {
            bail!("GET {path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("read the answer to GET {path}"))
    }

    /// Flushes or compacts; the answer comes when it is done.
    pub(crate) async fn admin(&self, action: &str) -> anyhow::Result<()> {
        let path = format!("/api/v1/admin/{action}");
        let (status, body) = tokio::time::timeout(ADMIN_TIMEOUT, self.ask(Method::POST, &path, Bytes::new()))
            .await
            .with_context(|| format!("POST {path} took longer than {ADMIN_TIMEOUT:?}"))??;
        if !status.is_success() {
            bail!("POST {path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }

    /// Asks with a document.
    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let asked = self.ask(Method::POST, path, body.to_string().into());
        let (status, body) = tokio::time::timeout(QUERY_TIMEOUT, asked)
            .await
            .with_context(|| format!("POST {path} took longer than {QUERY_TIMEOUT:?}"))??;
        if status != StatusCode::OK {
            bail!("POST {path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("read the answer to POST {path}"))
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(body))?;
        let response = self.client.request(request).await.with_context(|| format!("ask for {path}"))?;
        let status = response.status();
        let body = response.into_body().collect().await.context("read the answer")?.to_bytes();
        Ok((status, body))
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
