use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Bytes;
use axum::http::request::Builder;
use axum::http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

/// Asks one server's native API.
pub(super) struct ApiClient {
    base: String,
    tenant: Option<String>,
}

/// An RFC 9457 problem, as far as a person wants to read it.
#[derive(Deserialize)]
struct Problem {
    title: String,
    #[serde(default)]
    detail: String,
}

const ANSWER_BYTES_MAX: usize = 1024 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(120);

impl ApiClient {
    pub(super) fn new(url: &str, tenant: Option<&str>) -> anyhow::Result<Self> {
        if !url.starts_with("http://") {
            bail!("--url {url:?}: write http://HOST:PORT");
        }
        Ok(Self { base: url.trim_end_matches('/').to_owned(), tenant: tenant.map(str::to_owned) })
    }

    /// The body of a successful answer; `None` for 404; an error with the server's words for all else.
    pub(super) async fn get(&self, path_and_query: &str) -> anyhow::Result<Option<Vec<u8>>> {
        self.ask(Request::get(self.uri(path_and_query)), Bytes::new()).await
    }

    /// The same of a request with a body of JSON.
    pub(super) async fn post(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Option<Vec<u8>>> {
        let request = Request::post(self.uri(path)).header(header::CONTENT_TYPE, "application/json");
        self.ask(request, body.into()).await
    }

    fn uri(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.base)
    }

    async fn ask(&self, request: Builder, body: Bytes) -> anyhow::Result<Option<Vec<u8>>> {
        let exchange = self.exchange(request, body);
        let (status, body) = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .with_context(|| format!("{} gave no answer within {} s", self.base, TIMEOUT.as_secs()))??;
        if status.is_success() {
            return Ok(Some(body));
        }
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if problem.detail.is_empty() => bail!("{}", problem.title),
            Ok(problem) => bail!("{}", problem.detail),
            Err(_) => bail!("{} answered {status}", self.base),
        }
    }

    async fn exchange(&self, request: Builder, body: Bytes) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let mut request = request.header(header::ACCEPT, "application/json");
        if let Some(tenant) = &self.tenant {
            request = request.header("x-scope-orgid", tenant);
        }
        let request = request.body(Full::new(body)).context("the address or the tenant has characters it may not")?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = client
            .request(request)
            .await
            .with_context(|| format!("no connection to {}; is the server running, and is --url right?", self.base))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        Ok((status, body.to_bytes().to_vec()))
    }
}

/// `a=1&b=2`, with everything escaped that could mean something else.
pub(super) fn query_string(parameters: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                write!(text, "%{byte:02X}").expect("writing to a String cannot fail");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_parameters() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[], ""),
            (&[("service", "cart"), ("limit", "20")], "service=cart&limit=20"),
            (&[("q", "{ a = \"ü&=\" }")], "q=%7B%20a%20%3D%20%22%C3%BC%26%3D%22%20%7D"),
        ];
        for (parameters, expected) in cases {
            assert_eq!(query_string(parameters), *expected);
        }
    }
}
