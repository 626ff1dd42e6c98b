use std::net::IpAddr;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde::Deserialize;
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::{Agent, Body, Proxy, RequestBuilder};

use super::ServerAddress;
use super::failure::Failure;
use super::trust::tls_config;

/// Asks one server's native API.
pub(super) struct ApiClient {
    base: String,
    tenant: Option<String>,
    agent: Agent,
}

/// An RFC 9457 problem, as far as a person wants to read it.
#[derive(Deserialize)]
struct Problem {
    title: String,
    #[serde(default)]
    detail: String,
}

const ANSWER_BYTES_MAX: u64 = 1024 * 1024 * 1024;
pub(super) const TIMEOUT: Duration = Duration::from_secs(120);

impl ApiClient {
    /// Fails if the address is not one of HTTP, or if the certificates of the authorities to trust can't be read.
    pub(super) fn new(address: &ServerAddress, tenant: Option<&str>) -> anyhow::Result<Self> {
        let url = &address.url;
        let uri: Uri = url.parse().unwrap_or_default();
        let (Some(scheme @ ("http" | "https")), Some(host)) = (uri.scheme_str(), uri.host()) else {
            bail!("--url {url:?}: write http://HOST:PORT or https://HOST:PORT");
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // The answer to a POST that was led elsewhere would be that to a GET.
            .max_redirects(0)
            .timeout_global(Some(TIMEOUT))
            // `HTTPS_PROXY` and its like, but not for this machine, as Go's clients do it.
            .proxy(if is_this_machine(host) { None } else { Proxy::try_from_env() });
        if scheme == "https" {
            config = config.tls_config(tls_config(address.ca_file.as_deref())?);
        }
        let base = url.trim_end_matches('/').to_owned();
        Ok(Self { base, tenant: tenant.map(str::to_owned), agent: config.build().into() })
    }

    /// The body of a successful answer; `None` for 404; an error with the server's words for all else.
    pub(super) fn get(&self, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.get_or_why(path, parameters)?.ok())
    }

    /// The same; the server's words for 404, which may be none.
    pub(super) fn get_or_why(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<Result<Vec<u8>, String>> {
        let request = self.agent.get(self.uri(path)).query_pairs(parameters.iter().copied());
        self.body_of(self.with_headers(request).call())
    }

    /// The same of a request with a body of JSON.
    pub(super) fn post(&self, path: &str, body: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        let request = self.agent.post(self.uri(path)).header(header::CONTENT_TYPE, "application/json");
        Ok(self.body_of(self.with_headers(request).send(body))?.ok())
    }

    fn uri(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn with_headers<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        let request = request.header(header::ACCEPT, "application/json");
        match &self.tenant {
            Some(tenant) => request.header("x-scope-orgid", tenant),
            None => request,
        }
    }

    fn body_of(&self, answer: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Result<Vec<u8>, String>> {
        let mut answer = answer.map_err(|error| Failure::of(&self.base, error))?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| Failure::of(&self.base, error))?;
        match answer.status() {
            status if status.is_success() => Ok(Ok(body)),
            StatusCode::NOT_FOUND => {
                Ok(Err(serde_json::from_slice(&body).map_or_else(|_| String::new(), |problem: Problem| problem.detail)))
            }
            status => Err(self.refusal(status, &answer, &body)),
        }
    }

    fn refusal(&self, status: StatusCode, answer: &Response<Body>, body: &[u8]) -> anyhow::Error {
        let Self { base, .. } = self;
        if let Ok(problem) = serde_json::from_slice::<Problem>(body) {
            return anyhow!("{}", if problem.detail.is_empty() { problem.title } else { problem.detail });
        }
        if let Some(target) = answer.headers().get(header::LOCATION).and_then(|target| target.to_str().ok()) {
            return anyhow!("{base} redirects to {target}; give the server's own address as --url");
        }
        // Many a server tells so who speaks plain HTTP to its TLS.
        let https = status == StatusCode::BAD_REQUEST && base.starts_with("http:");
        anyhow!("{base} answered {status}{}", if https { "; if it expects https://, write that" } else { "" })
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
