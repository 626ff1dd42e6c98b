//! Which requests a browser may make for which pages.
//!
//! A browser sends requests for any page that it shows, with the network of the person before it: a page of a stranger could
//! ask a Tracehouse on the same machine or in the same company. So:
//! - A request for a page of another origin is refused, unless the origin is configured (Fetch standard: `Origin`,
//!   `Sec-Fetch-Site`). Only then an answer says that the page may read it.
//! - A name that is not ours is refused on a loopback address, and elsewhere if names are configured: a page may let its own
//!   name point to another address ("DNS rebinding"), and is then of the same origin for the browser.
//! - What changes or costs something has to say that it is JSON, protobuf or the like, as no form and no simple request of a
//!   page can.

use std::fmt;
use std::net::IpAddr;

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::origin_pattern::OriginPattern;
use crate::refusal::problem;

/// Who may use a port from a browser.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    /// Whether the port listens on a loopback address.
    pub is_loopback: bool,
    /// Names under which the port may be asked, besides `localhost` and addresses; none: any, if it is not a loopback.
    pub host_names: Vec<String>,
    /// Origins whose pages may ask and read.
    pub allowed_origins: Vec<OriginPattern>,
    /// What those pages may send.
    pub allowed_headers: AllowedHeaders,
}

/// Headers that pages of configured origins may send: all that they ask for, or those that are listed.
#[derive(Clone, Debug, Default)]
pub struct AllowedHeaders(Option<HeaderValue>);

/// A text in the list of allowed headers that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHeadersError(String);

impl fmt::Display for AllowedHeadersError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} is no name of a header: write one such as x-api-key, or * for all", self.0)
    }
}

impl std::error::Error for AllowedHeadersError {}

impl AllowedHeaders {
    /// The names of headers; with none, or with `*` among them, all are allowed. `Content-Type` is in any case, as nothing
    /// could be sent without it.
    pub fn new<S: AsRef<str>>(names: &[S]) -> Result<Self, AllowedHeadersError> {
        let names = names.iter().map(AsRef::as_ref);
        let wrong = |name: &str| AllowedHeadersError(name.chars().take(100).collect());
        if let Some(name) = names.clone().find(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
            return Err(wrong(name));
        }
        if names.len() == 0 || names.clone().any(|name| name == "*") {
            return Ok(Self(None));
        }
        let listed = [CONTENT_TYPE.as_str()].into_iter().chain(names).collect::<Vec<_>>().join(", ");
        HeaderValue::try_from(&listed).map(Some).map(Self).map_err(|_| wrong(&listed))
    }

    /// Those of the headers asked for that are allowed, and perhaps further ones.
    fn answer(&self, asked: Option<&HeaderValue>) -> Option<HeaderValue> {
        self.0.as_ref().or(asked).cloned()
    }
}

/// What is known of a request before it is answered.
pub(crate) enum Verdict {
    /// It is answered; a page of this origin may read the answer.
    Allowed(Option<Reader>),
    /// It is answered with this.
    Answered(Response),
}

/// A page of a configured origin.
pub(crate) struct Reader {
    origin: HeaderValue,
    /// Whether the host was configured, and not just any: then requests may carry credentials, as those of `sendBeacon`
    /// always do. What lets any page in lets it in as a stranger.
    by_name: bool,
}

/// Headers of ours that pages may see beside those that they may anyway.
const EXPOSED_HEADERS: &str = "x-tracehouse-partial, x-tracehouse-partial-reason, retry-after, grpc-status, grpc-message, grpc-status-details-bin";
const PREFLIGHT_SECONDS: &str = "3600";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
/// Every answer depends on which page asks: for caches, which may not give it to another.
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("origin");
/// What the answer to a preflight depends on besides.
const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("access-control-request-method, access-control-request-headers");
/// A browser asks so before a page of the internet reaches a server in a private network or on the same machine.
/// Source: <https://wicg.github.io/private-network-access/>.
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

impl Sites {
    pub(crate) fn judge(&self, request: &Parts) -> Verdict {
        if let Some(host) = hosts_of(request).iter().find(|host| !self.is_our_name(name_of(host))) {
            let advice = "this is not a name of this server; add it to http.host_names";
            return refused(StatusCode::MISDIRECTED_REQUEST, &format!("{:?}: {advice}", shown(name_of(host))));
        }
        let reader = match self.reader(request) {
            Ok(reader) => reader,
            Err(foreign) => {
                let advice = "is not allowed to use this server; add it to http.allowed_origins (or, to send spans, otlp.browser_origins)";
                return refused(StatusCode::FORBIDDEN, &format!("{} {advice}", shown(&foreign)));
            }
        };
        if request.method == Method::OPTIONS
            && let Some(reader) = &reader
            && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return Verdict::Answered(reader.preflight(&request.headers, &self.allowed_headers));
        }
        if let Some(media_type) = wrong_media_type(request) {
            let advice = "say what is sent with Content-Type: application/json or application/x-protobuf";
            let mut verdict = refused(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                &format!("{:?} is not taken with {}; {advice}", shown(&media_type), request.method),
            );
            if let (Verdict::Answered(response), Some(reader)) = (&mut verdict, &reader) {
                reader.allow(response.headers_mut());
            }
            return verdict;
        }
        Verdict::Allowed(reader)
    }

    fn is_our_name(&self, name: &str) -> bool {
        let configured = || self.host_names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let is_local = name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
        let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        is_local || is_address || configured() || (!self.is_loopback && self.host_names.is_empty())
    }

    /// The page that may read the answer, if it is one of another origin; an error names one that may not.
    fn reader(&self, request: &Parts) -> Result<Option<Reader>, String> {
        let headers = &request.headers;
        let Some(origin) = headers.get(ORIGIN) else {
            return if is_foreign_fetch(request) { Err("a page of another site".into()) } else { Ok(None) };
        };
        let text = origin.to_str().unwrap_or_default();
        let allowed: Vec<&OriginPattern> =
            self.allowed_origins.iter().filter(|pattern| pattern.matches(text)).collect();
        if !allowed.is_empty() {
            let by_name = allowed.iter().any(|pattern| pattern.names_hosts());
            return Ok(Some(Reader { origin: origin.clone(), by_name }));
        }
        let hosts = hosts_of(request);
        let is_own = !hosts.is_empty() && hosts.iter().all(|host| is_same_host(text, host));
        if is_own { Ok(None) } else { Err(format!("a page of {text:?}")) }
    }
}

/// What every answer says, whoever asked.
pub(crate) fn say_what_it_depends_on(headers: &mut HeaderMap) {
    headers.append(VARY, VARY_ORIGIN);
}

impl Reader {
    /// Lets the page read an answer.
    pub(crate) fn allow(&self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        if self.by_name {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// The answer to the question whether the page may send a request. Source: Fetch standard, "CORS protocol".
    fn preflight(&self, asked: &HeaderMap, allowed_headers: &AllowedHeaders) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        self.allow(headers);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE"));
        if let Some(allowed) = allowed_headers.answer(asked.get(ACCESS_CONTROL_REQUEST_HEADERS)) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        }
        if self.by_name && asked.get(REQUEST_PRIVATE_NETWORK).is_some_and(|value| value == "true") {
            headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_SECONDS));
        headers.append(VARY, VARY_PREFLIGHT);
        response
    }
}

/// Whether a browser says that a page of another site asks, and not a person who opens a page of ours.
fn is_foreign_fetch(request: &Parts) -> bool {
    let text = |name: HeaderName| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let foreign = matches!(text(SEC_FETCH_SITE), "cross-site" | "same-site");
    // Not a frame of that page, and not one that is fetched before anybody wants to see it.
    let opens_page = request.method == Method::GET
        && text(SEC_FETCH_MODE) == "navigate"
        && text(SEC_FETCH_DEST) == "document"
        && !request.headers.contains_key(SEC_PURPOSE);
    foreign && !opens_page
}

/// All hosts that a request says it is for: a proxy and a router may each go by another one.
fn hosts_of(request: &Parts) -> Vec<String> {
    let authority = request.uri.authority().map(|authority| authority.as_str().to_owned());
    let named = request.headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or("?").to_owned());
    authority.into_iter().chain(named).collect()
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether an origin is that of the host that a request was sent to.
fn is_same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, of_origin)) = origin.split_once("://") else { return false };
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let bare = |host: &str| host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase();
    bare(of_origin) == bare(host)
}

/// The type of a body that no request may have, if it has one.
fn wrong_media_type(request: &Parts) -> Option<String> {
    if matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    let headers = &request.headers;
    let Some(media_type) = headers.get(CONTENT_TYPE) else {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let has_body = headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length > 0);
        return has_body.then(String::new);
    };
    let media_type = media_type.to_str().unwrap_or("?");
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // A page can send only text/plain, forms and nothing at all without asking first.
    let known = essence.starts_with("application/") && essence != "application/x-www-form-urlencoded";
    (!known).then_some(essence)
}

/// Texts of others in our messages.
fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}

fn refused(status: StatusCode, detail: &str) -> Verdict {
    Verdict::Answered(problem(status, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const OWN: &str = "127.0.0.1:3200";

    fn sites(origins: &[&str], names: &[&str], is_loopback: bool) -> Sites {
        Sites {
            is_loopback,
            host_names: names.iter().map(|name| (*name).to_owned()).collect(),
            allowed_origins: origins.iter().map(|origin| OriginPattern::new(origin).expect("an origin")).collect(),
            allowed_headers: AllowedHeaders::default(),
        }
    }

    fn judge(sites: &Sites, method: &str, headers: &[(&str, &str)]) -> (u16, Option<String>, bool) {
        let mut request = Request::builder().method(method).uri("/api/v1/sql");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let mut response = Response::new(Body::empty());
        let response = match sites.judge(&parts) {
            Verdict::Answered(answer) => answer,
            Verdict::Allowed(reader) => {
                if let Some(reader) = reader {
                    reader.allow(response.headers_mut());
                }
                response
            }
        };
        let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        (
            response.status().as_u16(),
            header(ACCESS_CONTROL_ALLOW_ORIGIN).map(str::to_owned),
            header(ACCESS_CONTROL_ALLOW_CREDENTIALS) == Some("true"),
        )
    }

    /// Method, headers, status of the answer.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16);

    #[test]
    fn pages_of_other_origins_are_refused() {
        let sites = sites(&[], &[], true);
        let json = ("content-type", "application/json");
        let foreign = ("sec-fetch-site", "cross-site");
        let navigate = ("sec-fetch-mode", "navigate");
        let document = ("sec-fetch-dest", "document");
        let cases: [Case<'_>; 17] = [
            ("GET", &[("host", OWN)], 200),
            ("POST", &[("host", OWN), json], 200),
            ("GET", &[("host", OWN), ("origin", "http://127.0.0.1:3200")], 200),
            ("POST", &[("host", OWN), ("origin", "http://127.0.0.1:3200"), json], 200),
            ("GET", &[("host", OWN), ("origin", "http://evil.example")], 403),
            ("POST", &[("host", OWN), ("origin", "http://evil.example"), json], 403),
            ("POST", &[("host", OWN), ("origin", "http://127.0.0.1:8080"), json], 403),
            ("POST", &[("host", OWN), ("origin", "null"), json], 403),
            (
                "OPTIONS",
                &[("host", OWN), ("origin", "http://evil.example"), ("access-control-request-method", "POST")],
                403,
            ),
            ("GET", &[("host", OWN), foreign, ("sec-fetch-mode", "no-cors")], 403),
            ("GET", &[("host", OWN), foreign, navigate, document], 200),
            ("GET", &[("host", OWN), foreign, navigate], 403),
            ("GET", &[("host", OWN), foreign, navigate, ("sec-fetch-dest", "iframe")], 403),
            ("GET", &[("host", OWN), foreign, navigate, document, ("sec-purpose", "prefetch")], 403),
            ("POST", &[("host", OWN), foreign, navigate, document, json], 403),
            ("GET", &[("host", OWN), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")], 200),
            ("GET", &[("host", OWN), ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], 200),
        ];
        for (method, headers, status) in cases {
            assert_eq!(judge(&sites, method, headers), (status, None, false), "{method} {headers:?}");
        }
    }

    #[test]
    fn configured_origins_may_ask_and_read() {
        let sites = sites(&["https://shop.example", "https://*.team.example"], &[], true);
        let asked = |origin: &'static str| {
            judge(&sites, "POST", &[("host", OWN), ("origin", origin), ("content-type", "application/json")])
        };
        for origin in
            ["https://shop.example", "https://a.team.example", "https://a.b.team.example", "https://SHOP.example"]
        {
            assert_eq!(asked(origin), (200, Some(origin.to_owned()), true), "{origin}");
        }
        for origin in [
            "http://shop.example",
            "https://shop.example.evil.example",
            "https://evilshop.example",
            "https://team.example.evil",
            "https://evil.example/.team.example",
            "https://shop.example:8443",
        ] {
            assert_eq!(asked(origin), (403, None, false), "{origin}");
        }
        let preflight = [("host", OWN), ("origin", "https://shop.example"), ("access-control-request-method", "POST")];
        assert_eq!(judge(&sites, "OPTIONS", &preflight), (204, Some("https://shop.example".to_owned()), true));
        for all in ["*", "https://*"] {
            let all = super::tests::sites(&[all], &[], true);
            let answer = judge(&all, "GET", &[("host", OWN), ("origin", "https://any.example")]);
            assert_eq!(
                answer,
                (200, Some("https://any.example".to_owned()), false),
                "credentials only for named hosts"
            );
        }
    }

    /// The answer to a preflight with these headers, by name.
    fn preflight(sites: &Sites, headers: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
        let mut request = Request::builder().method("OPTIONS").uri("/v1/traces").header(HOST, OWN);
        for (name, value) in headers.iter().chain([&("access-control-request-method", "POST")]) {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let Verdict::Answered(response) = sites.judge(&parts) else { panic!("a preflight is answered") };
        move |name| {
            let values = response.headers().get_all(name).iter();
            let values: Vec<_> = values.map(|value| value.to_str().expect("a text").to_owned()).collect();
            (!values.is_empty()).then(|| values.join(", "))
        }
    }

    #[test]
    fn preflights_allow_what_is_asked_for_or_listed() {
        const ASKED: &str = "authorization,baggage,content-type,traceparent,x-api-key";
        let shop = ("origin", "https://shop.example");
        let asked = [shop, ("access-control-request-headers", ASKED)];
        let mut sites = sites(&["https://shop.example", "*"], &[], true);
        let answer = preflight(&sites, &asked);
        let expected = [
            ("access-control-allow-origin", Some("https://shop.example")),
            ("access-control-allow-credentials", Some("true")),
            ("access-control-allow-headers", Some(ASKED)),
            ("access-control-allow-methods", Some("GET, HEAD, POST, PUT, DELETE")),
            ("access-control-max-age", Some("3600")),
            ("access-control-allow-private-network", None),
            ("vary", Some("access-control-request-method, access-control-request-headers")),
        ];
        for (name, value) in expected {
            assert_eq!(answer(name).as_deref(), value, "{name}");
        }
        let nothing = preflight(&sites, &[shop]);
        assert_eq!(nothing("access-control-allow-headers"), None);
        let private = ("access-control-request-private-network", "true");
        let name = "access-control-allow-private-network";
        assert_eq!(preflight(&sites, &[shop, private])(name).as_deref(), Some("true"));
        assert_eq!(preflight(&sites, &[("origin", "https://any.example"), private])(name), None);

        sites.allowed_headers = AllowedHeaders::new(&["X-Api-Key", "traceparent"]).expect("names");
        let answer = preflight(&sites, &asked);
        let listed = Some("content-type, X-Api-Key, traceparent");
        assert_eq!(answer("access-control-allow-headers").as_deref(), listed);
        sites.allowed_headers = AllowedHeaders::new(&["x-api-key", "*"]).expect("names");
        assert_eq!(preflight(&sites, &asked)("access-control-allow-headers").as_deref(), Some(ASKED));
        let wrong = AllowedHeaders::new(&["x-api-key", "no name"]).map(|_| ()).expect_err("no name");
        assert_eq!(wrong.to_string(), "\"no name\" is no name of a header: write one such as x-api-key, or * for all");
    }

    #[test]
    fn names_are_checked_against_rebinding() {
        let cases: [(&[&str], bool, &str, u16); 14] = [
            (&[], true, "localhost:3200", 200),
            (&[], true, "LOCALHOST.", 200),
            (&[], true, "shop.localhost:3200", 200),
            (&[], true, "[::1]:3200", 200),
            (&[], true, "10.1.2.3", 200),
            (&[], true, "evil.example:3200", 421),
            (&[], true, "localhost.evil.example", 421),
            (&[], true, "127.0.0.1.evil.example", 421),
            (&["traces.team"], true, "traces.team", 200),
            (&["traces.team"], true, "other.team", 421),
            (&[], false, "traces.team:3200", 200),
            (&["traces.team"], false, "traces.team:3200", 200),
            (&["traces.team"], false, "other.team", 421),
            (&["traces.team"], false, "192.0.2.1:3200", 200),
        ];
        for (names, is_loopback, host, status) in cases {
            let sites = sites(&[], names, is_loopback);
            assert_eq!(judge(&sites, "GET", &[("host", host)]).0, status, "{names:?} {is_loopback} {host}");
        }
        assert_eq!(judge(&sites(&[], &[], true), "GET", &[]).0, 200, "no browser leaves the name out");
    }

    #[test]
    fn all_names_of_a_request_are_checked() {
        let sites = sites(&[], &[], true);
        let cases = [
            ("localhost:3200", &["localhost:3200"][..], 200),
            ("localhost:3200", &[], 200),
            ("localhost:3200", &["evil.example"], 421),
            ("evil.example", &["localhost:3200"], 421),
            ("localhost:3200", &["localhost:3200", "evil.example"], 421),
        ];
        for (authority, hosts, status) in cases {
            let mut request = Request::builder().uri(format!("http://{authority}/"));
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let (parts, ()) = request.body(()).expect("a request").into_parts();
            let judged = match sites.judge(&parts) {
                Verdict::Answered(answer) => answer.status().as_u16(),
                Verdict::Allowed(_) => 200,
            };
            assert_eq!(judged, status, "{authority} {hosts:?}");
        }
    }

    #[test]
    fn what_changes_says_what_it_is() {
        let sites = sites(&[], &[], true);
        let cases: [Case<'_>; 12] = [
            ("POST", &[("content-type", "application/json; charset=utf-8")], 200),
            ("POST", &[("content-type", "application/x-protobuf")], 200),
            ("POST", &[("content-type", "application/grpc+proto")], 200),
            ("POST", &[("content-type", "application/vnd.apache.arrow.stream")], 200),
            ("POST", &[], 200),
            ("POST", &[("content-length", "0")], 200),
            ("POST", &[("content-length", "5")], 415),
            ("POST", &[("transfer-encoding", "chunked")], 415),
            ("POST", &[("content-type", "text/plain")], 415),
            ("POST", &[("content-type", "application/x-www-form-urlencoded")], 415),
            ("DELETE", &[("content-type", "multipart/form-data; boundary=x")], 415),
            ("GET", &[("content-type", "text/plain")], 200),
        ];
        for (method, headers, status) in cases {
            assert_eq!(judge(&sites, method, headers).0, status, "{method} {headers:?}");
        }
    }
}
