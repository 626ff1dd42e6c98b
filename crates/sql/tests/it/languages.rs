//! What both languages can say has one answer, wherever the spans lie.

use std::collections::BTreeSet;

use tracehouse_model::TenantId;
use tracehouse_query::{QueryEngine, QueryLimits, SearchRequest};

use crate::shop::{LAYOUTS, Shop};

/// Conditions in TraceQL, and the same in SQL, where an attribute that is not there is null.
const CONDITIONS: [(&str, &str); 24] = [
    ("resource.service.name = \"cart\"", "service_name = 'cart'"),
    ("resource.service.name != \"cart\"", "service_name <> 'cart'"),
    ("resource.service.name =~ \"c.*|g.*\"", "service_name LIKE 'c%' OR service_name LIKE 'g%'"),
    ("resource.service.name = nil", "service_name IS NULL"),
    ("name = \"SELECT\"", "name = 'SELECT'"),
    ("name =~ \".*C.*\"", "name LIKE '%C%'"),
    ("kind = server", "kind = 'server'"),
    ("status != error", "status <> 'error'"),
    ("duration > 500ms", "duration_nanos > 500000000"),
    ("duration <= 500ms && status = error", "duration_nanos <= 500000000 AND status = 'error'"),
    ("statusMessage = \"\"", "status_message IS NULL"),
    ("parent = nil", "parent_span_id IS NULL"),
    ("parent != nil", "parent_span_id IS NOT NULL"),
    (".http.route = \"/route/3\"", "attr('http.route') = '/route/3'"),
    (".http.status >= 404", "attr_int('http.status') >= 404"),
    (".http.status = nil", "attr('http.status') IS NULL"),
    (".code != nil", "attr('code') IS NOT NULL"),
    (".code = 7.5", "attr_float('code') = 7.5"),
    (".cache.hit", "attr_bool('cache.hit')"),
    (".both = \"from span\"", "attr('both') = 'from span'"),
    ("resource.both = \"from resource\" && span.both = nil", "span_attr('both') IS NULL"),
    (".rare.key = \"needle\" || .ratio > 9", "attr('rare.key') = 'needle' OR attr_float('ratio') > 9"),
    ("!(.cache.hit = true)", "attr_bool('cache.hit') IS NOT TRUE"),
    (".no.such.key = nil && kind = client", "attr('no.such.key') IS NULL AND kind = 'client'"),
];

#[tokio::test]
async fn both_languages_find_the_same_spans() {
    for layout in LAYOUTS {
        let (shop, spans) = Shop::filled(layout).await;
        let engine = QueryEngine::new(shop.store.clone(), QueryLimits::default(), shop.clock.clone());
        for (traceql, sql) in CONDITIONS {
            let request = SearchRequest {
                traceql: Some(format!("{{ {traceql} }}")),
                start_unix_nanos: Some(0),
                end_unix_nanos: Some(i64::MAX),
                limit: 1000,
                spans_per_spanset: usize::MAX,
                ..SearchRequest::default()
            };
            let answer = engine.search(&TenantId::default(), request).await.expect("answers");
            assert_eq!(answer.partial_reason, None, "{traceql}");
            let of_traces = answer.traces.iter().flat_map(|trace| &trace.spansets);
            let found: BTreeSet<String> =
                of_traces.flat_map(|spanset| &spanset.spans).map(|span| span.span_id.to_string()).collect();
            let rows = shop.rows(&format!("SELECT span_id FROM spans WHERE {sql}")).await;
            assert!(!rows.is_empty() && rows.len() < spans.len(), "{layout:?}: {sql}");
            assert_eq!(found, rows.into_iter().collect(), "{layout:?}: {traceql} and {sql}");
        }
    }
}
