//! The examples of the TraceQL page do what the page says they can.

use tracehouse_model::TenantId;
use tracehouse_query::{MetricsRequest, SearchRequest};
use tracehouse_traceql::QueryExpr;

use crate::shop::Shop;
use crate::wild::{RANGE, wild_spans};

const PAGE: &str = include_str!("../../../../docs/traceql.md");

fn examples() -> Vec<&'static str> {
    PAGE.split("```traceql\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_has_an_answer() {
    let shop = Shop::open().await;
    for batch in wild_spans().0 {
        shop.append(batch).await;
    }
    let tenant = TenantId::default();
    assert!(examples().len() > 35, "{} examples", examples().len());
    for example in examples() {
        let query = tracehouse_traceql::compile(example).unwrap_or_else(|error| panic!("{}", error.render(example)));
        let found = match query.expr {
            QueryExpr::Spans(_) => {
                let traceql = Some(example.to_owned());
                let request = SearchRequest { traceql, limit: 20, spans_per_spanset: 3, ..SearchRequest::default() };
                shop.engine.search(&tenant, request).await.expect("an answer").traces.len()
            }
            QueryExpr::Metrics(_) => {
                let request = MetricsRequest {
                    traceql: example.to_owned(),
                    start_unix_nanos: RANGE.start,
                    end_unix_nanos: RANGE.end,
                    step_nanos: Some(10_000_000_000),
                    exemplars_max: 0,
                    ..MetricsRequest::default()
                };
                shop.engine.metrics(&tenant, request).await.expect("an answer").series.len()
            }
        };
        assert!(found > 0, "{example} finds nothing");
    }
}
