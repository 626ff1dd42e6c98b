use std::sync::Arc;

use http::StatusCode;

use crate::fake::Fake;
use crate::{get, get_with};

#[tokio::test]
async fn routes_of_the_interface_get_the_page() {
    let fake = Arc::new(Fake::default());
    for path in ["/", "/trace/5b8efff798038103d269b633813fc60c?span=1", "/anything", "/index.html"] {
        let page = get(&fake, path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("cache-control"), "no-cache");
        assert!(page.header("content-security-policy").contains("script-src 'self'"), "{path}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        let again = get_with(&fake, path, &[("if-none-match", page.header("etag"))]).await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    }
}

#[tokio::test]
async fn a_missing_file_is_missing() {
    let fake = Arc::new(Fake::default());
    for path in ["/favicon.txt", "/_app/immutable/none", "/../Cargo.toml", "/%2e%2e/Cargo.toml"] {
        let answer = get(&fake, path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
}

/// The page names the scripts that it allows by their hashes as well, when it was built by SvelteKit; the header must
/// not forbid one of them.
#[tokio::test]
async fn both_policies_allow_the_same_scripts() {
    let page = get(&Arc::new(Fake::default()), "/").await;
    let policy = page.header("content-security-policy");
    let body = String::from_utf8(page.body.clone()).expect("UTF-8");
    for named in body.split("'sha256-").skip(1) {
        let hash = named.split('\'').next().expect("a hash");
        assert!(policy.contains(hash), "{hash} is not in {policy}");
    }
}
