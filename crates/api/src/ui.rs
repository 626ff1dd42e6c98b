//! The user interface: files that are part of the binary.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

use crate::answer::{accepts_gzip, gzipped};
use crate::problem::Problem;

#[derive(RustEmbed)]
#[folder = "../../ui/build"]
struct Files;

/// The page that all routes of the user interface begin with.
const INDEX: &str = "index.html";
/// Files here have a hash of their content in their name.
const IMMUTABLE_PREFIX: &str = "_app/immutable/";
const GZIP_BYTES_MIN: usize = 1024;
/// Done once for each file at the first request, so it may take its time.
const GZIP_LEVEL: u32 = 9;

static ASSETS: LazyLock<HashMap<String, Asset>> = LazyLock::new(|| {
    Files::iter().filter_map(|name| Files::get(&name).map(|file| (name.to_string(), Asset::new(&name, file)))).collect()
});

struct Asset {
    body: Bytes,
    gzip: Option<Bytes>,
    content_type: HeaderValue,
    etag: HeaderValue,
    cache_control: HeaderValue,
    /// For pages.
    security_policy: Option<HeaderValue>,
}

impl Asset {
    fn new(name: &str, file: rust_embed::EmbeddedFile) -> Self {
        let mime_type = file.metadata.mimetype().to_owned();
        let is_text = mime_type.starts_with("text/")
            || matches!(mime_type.as_str(), "application/javascript" | "application/json" | "image/svg+xml");
        let body = match file.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        };
        let gzip = (is_text && body.len() >= GZIP_BYTES_MIN).then(|| Bytes::from(gzipped(&body, GZIP_LEVEL)));
        let content_type = if is_text { format!("{mime_type}; charset=utf-8") } else { mime_type };
        // Weak, as the compressed and the plain body share it.
        let etag = format!("W/\"{}\"", hex::encode(&file.metadata.sha256_hash()[..16]));
        let immutable = name.starts_with(IMMUTABLE_PREFIX);
        Self {
            security_policy: name.ends_with(".html").then(|| header(&security_policy(&body))),
            body,
            gzip,
            content_type: header(&content_type),
            etag: header(&etag),
            cache_control: HeaderValue::from_static(if immutable {
                "public, max-age=31536000, immutable"
            } else {
                "no-cache"
            }),
        }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let compressed = self.gzip.as_ref().filter(|_| accepts_gzip(headers));
        let mut response = if self.is_known_to(headers) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            compressed.unwrap_or(&self.body).clone().into_response()
        };
        let not_modified = response.status() == StatusCode::NOT_MODIFIED;
        let answer = response.headers_mut();
        answer.insert(ETAG, self.etag.clone());
        answer.insert(CACHE_CONTROL, self.cache_control.clone());
        answer.insert(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
        if let Some(policy) = &self.security_policy {
            answer.insert(CONTENT_SECURITY_POLICY, policy.clone());
        }
        if !not_modified {
            answer.insert(CONTENT_TYPE, self.content_type.clone());
            if compressed.is_some() {
                answer.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        response
    }

    fn is_known_to(&self, headers: &HeaderMap) -> bool {
        let mut known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let etag = self.etag.to_str().unwrap_or_default();
        known.any(|tags| tags.split(',').map(str::trim).any(|tag| tag == etag || tag == "*"))
    }
}

fn header(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("types, hashes and policies are ASCII")
}

/// Whatever no other route takes: a file, or the page for a route of the user interface.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    if path == "/api" || path.starts_with("/api/") {
        let detail = format!("there is no {path:.100} here; /api/v1/openapi.json describes what there is");
        return Problem::not_found(detail).into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = Problem::method_not_allowed("only GET is answered here").into_response();
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let name = path.trim_start_matches('/');
    if let Some(asset) = ASSETS.get(name) {
        return asset.answer(&headers);
    }
    // Routes of the user interface have no dots; a missing file is missing.
    let is_file = name.contains('.') || name.starts_with("_app/");
    match ASSETS.get(INDEX) {
        Some(index) if !is_file => index.answer(&headers),
        _ => Problem::not_found(format!("there is no file {path:.100} here")).into_response(),
    }
}

/// Everything comes from the server itself; of inline scripts only those that are in the page, named by their hashes.
fn security_policy(page: &[u8]) -> String {
    let mut script_sources = String::from("'self'");
    for script in inline_scripts(&String::from_utf8_lossy(page)) {
        let hash = STANDARD.encode(Sha256::digest(script.as_bytes()));
        script_sources.push_str(&format!(" 'sha256-{hash}'"));
    }
    format!(
        "default-src 'self'; script-src {script_sources}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         font-src 'self'; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'"
    )
}

/// The contents of the `<script>` elements that have no `src`.
fn inline_scripts(page: &str) -> Vec<&str> {
    let mut scripts = Vec::new();
    let mut rest = page;
    while let Some(begin) = rest.find("<script") {
        let element = &rest[begin..];
        let (Some(tag_end), Some(close)) = (element.find('>'), element.find("</script>")) else {
            break;
        };
        if !element[..tag_end].contains("src=") && tag_end < close {
            scripts.push(&element[tag_end + 1..close]);
        }
        rest = &element[close + "</script>".len()..];
    }
    scripts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_scripts_are_allowed_by_their_hash() {
        let page = "<head><script src=\"/a.js\"></script><script nonce>\n\tlet a = 1 > 0;\n</script></head>\
                    <body><script type=\"module\">go()</script></body>";
        assert_eq!(inline_scripts(page), ["\n\tlet a = 1 > 0;\n", "go()"]);
        // The hash of the empty text, as any implementation of SHA-256 has it.
        let policy = security_policy(b"<script></script>");
        assert!(policy.contains("'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"), "{policy}");
    }
}
