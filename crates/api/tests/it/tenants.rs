//! Answers over several tenants in every interface, over spans in a store: each result names its tenant, and nothing is of another.

use axum::body::Body;
use axum::serve::ListenerExt;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint};
use tracehouse_api::proto::jaeger::query_service_client::QueryServiceClient;
use tracehouse_api::proto::jaeger::{FindTracesRequest, GetServicesRequest, TraceQueryParameters};
use tracehouse_api::proto::tempopb::streaming_querier_client::StreamingQuerierClient;
use tracehouse_api::proto::tempopb::{QueryInstantRequest, SearchRequest};
use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId, TenantId, kind};

use crate::grpc::all;
use crate::shop::{Layout, NOON, Shop, put, trace_id};
use crate::{Answer, send_to};

const LAYOUTS: [Layout; 2] = [Layout::Memory, Layout::Files];
const HEADER: &str = "x-scope-orgid";
const START: i64 = NOON - 60_000_000_000;
/// The whole minute in which the spans are, as Tempo's and as Jaeger's interface have it.
const RANGE: &str = "start=1769860740&end=1769860800";
const RANGE_V3: &str = "query.startTimeMin=2026-01-31T11:00:00Z&query.startTimeMax=2026-01-31T13:00:00Z";

/// A service with spans of trace 1, as (id, parent); parent 0 is none. Each span says of itself that it is of another tenant.
fn batch(service: &str, spans: &[(u8, u8)]) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let name = AnyValue::String(service.to_owned());
    put(&mut batch.strings, &mut batch.resources.attributes, "service.name", &name);
    let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
    for &(id, parent) in spans {
        put(&mut batch.strings, &mut batch.attributes, "tenant", &AnyValue::String("own words".to_owned()));
        let name = batch.strings.intern_str(&format!("{service} {id}"));
        batch.finish_span(SpanFields {
            trace_id: trace_id(1),
            span_id: SpanId([id; 8]),
            parent_span_id: SpanId([parent; 8]),
            start_unix_nanos: START + i64::from(id) * 1_000_000,
            duration_nanos: 5_000_000,
            name,
            kind: if parent == 0 { kind::CLIENT } else { kind::SERVER },
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

/// Tenant `a` calls `b`; `c` has spans of the same trace and is never asked.
async fn shop(layout: Layout) -> Shop {
    let of = |tenant: &str, batch| (TenantId::new(tenant).expect("a name"), batch);
    let (front, back) = (batch("front", &[(1, 0)]), batch("back", &[(2, 1), (3, 2)]));
    Shop::of_tenants(vec![of("a", front), of("b", back), of("c", batch("secret", &[(9, 1)]))], layout).await
}

async fn get(shop: &Shop, tenants: &str, uri: &str) -> Answer {
    let request = Request::get(uri).header(HEADER, tenants).body(Body::empty());
    send_to(shop.app.clone(), request.expect("a request")).await
}

/// The answer over both tenants.
async fn both(shop: &Shop, uri: &str) -> Value {
    let answer = get(shop, "a|b", uri).await;
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, StatusCode::OK, "{uri}: {text}");
    assert!(!text.contains("secret"), "{uri}: {text}");
    assert_eq!(answer.header("x-tracehouse-partial"), "", "{uri}");
    answer.json()
}

fn id(id: u8) -> String {
    format!("{id:02x}").repeat(8)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The texts at a place of each item, in their order.
fn texts<'a>(list: &'a Value, place: &str) -> Vec<&'a str> {
    items(list).iter().map(|item| item.pointer(place).and_then(Value::as_str).unwrap_or("none")).collect()
}

/// The texts of an attribute, of each of its owners.
fn attribute<'a>(owner: &'a Value, key: &str) -> Vec<&'a str> {
    let named = items(&owner["attributes"]).iter().filter(|attribute| attribute["key"] == key);
    named.filter_map(|attribute| attribute["value"]["stringValue"].as_str()).collect()
}

#[tokio::test]
async fn native() {
    let trace = format!("/api/v1/traces/{}", trace_id(1));
    for layout in LAYOUTS {
        let shop = shop(layout).await;
        let found = both(&shop, "/api/v1/search").await;
        assert_eq!(texts(&found["traces"], "/tenant"), ["b", "a"], "{layout:?}");
        assert_eq!(texts(&found["traces"], "/rootServiceName"), ["back", "front"]);

        let compact = both(&shop, &trace).await;
        assert_eq!(compact["tenants"], json!(["a", "b"]));
        assert_eq!(compact["spans"]["tenant"], json!([0, 1, 1]));
        assert_eq!(compact["spans"]["id"], json!([id(1), id(2), id(3)]));
        assert_eq!(compact["spans"]["parent"], json!([-1, 0, 1]), "{layout:?}");
        assert_eq!((compact["rootServiceName"].as_str(), compact["complete"].as_bool()), (Some("front"), Some(true)));

        let span = both(&shop, &format!("{trace}/spans/{}", id(2))).await;
        let of_resource = items(&span["resource"]["attributes"]).last().expect("attributes");
        assert_eq!(*of_resource, json!({"key": "tenant", "type": "string", "value": "b"}));
        assert_eq!(both(&shop, &format!("{trace}/find?q=front")).await["total"], 1);

        let series = both(&shop, "/api/v1/metrics?q=%7B%7D%7Ccount_over_time()&instant=true").await;
        let shown: Vec<_> =
            items(&series["series"]).iter().map(|series| (&series["labels"][0]["value"], &series["values"])).collect();
        assert_eq!(shown, [(&json!("a"), &json!([1.0])), (&json!("b"), &json!([2.0]))]);
        assert_eq!(texts(&both(&shop, "/api/v1/services").await["services"], "/name"), ["back", "front"]);
        let operations = both(&shop, "/api/v1/operations").await;
        assert_eq!(operations["operations"], json!(["back 2", "back 3", "front 1"]));
        let explained = both(&shop, "/api/v1/query/explain?q=%7B%7D").await;
        assert_eq!(
            explained["spansInMemory"].as_u64().zip(explained["spansInFiles"].as_u64()).map(|(a, b)| a + b),
            Some(3)
        );
    }
}

/// Nothing about tenants is in the answers to questions about one.
#[tokio::test]
async fn one_tenant_is_asked_as_ever() {
    let shop = shop(Layout::Files).await;
    let trace = trace_id(1);
    for uri in [
        "/api/v1/search?q=%7B%7D".to_owned(),
        format!("/api/v1/traces/{trace}"),
        "/api/v1/metrics?q=%7B%7D%7Ccount_over_time()&instant=true".to_owned(),
        format!("/api/search?q=%7B%7D&{RANGE}"),
        format!("/api/metrics/query?q=%7B%7D%7Ccount_over_time()&{RANGE}"),
        format!("/jaeger/api/v3/trace-summaries?query.serviceName=back&{RANGE_V3}"),
    ] {
        for tenants in ["b", "b|b", "b|b, b|b"] {
            let answer = get(&shop, tenants, &uri).await;
            let text = String::from_utf8_lossy(&answer.body);
            assert_eq!(answer.status, StatusCode::OK, "{uri}: {text}");
            assert!(!text.contains("tenant") && !text.contains("front"), "{uri}: {text}");
        }
    }
}

#[tokio::test]
async fn tempo() {
    for layout in LAYOUTS {
        let shop = shop(layout).await;
        // Grafana knows a trace by its id, so it is there once.
        let found = both(&shop, &format!("/api/search?q=%7B%7D%7Cselect(span.tenant)&{RANGE}")).await;
        let [line] = items(&found["traces"]) else { panic!("one trace: {found}") };
        assert_eq!((&line["rootServiceName"], &line["rootTraceName"]), (&json!("front"), &json!("front 1")));
        assert_eq!(line["durationMs"], 7);
        assert_eq!(line["serviceStats"], json!({"back": {"spanCount": 2}, "front": {"spanCount": 1}}));
        let spans = items(&line["spanSets"]).iter().flat_map(|set| items(&set["spans"]));
        let shown: Vec<_> = spans.map(|span| (span["spanID"].clone(), attribute(span, "tenant").concat())).collect();
        let expected = [(2, "b"), (3, "b"), (1, "a")].map(|(at, tenant)| (json!(id(at)), tenant.to_owned()));
        assert_eq!(shown, expected, "{layout:?}");

        for (uri, place) in [("/api/traces", "/batches"), ("/api/v2/traces", "/trace/resourceSpans")] {
            let trace = both(&shop, &format!("{uri}/{}", trace_id(1))).await;
            let resources = items(trace.pointer(place).expect("resources"));
            let of = |part: &Value| {
                [attribute(&part["resource"], "service.name"), attribute(&part["resource"], "tenant")]
                    .concat()
                    .join(" ")
            };
            let mut all: Vec<String> = resources.iter().map(of).collect();
            all.dedup();
            assert_eq!(all, ["front a", "back b"], "{uri}");
        }

        let values = both(&shop, "/api/v2/search/tag/resource.service.name/values").await;
        assert_eq!(texts(&values["tagValues"], "/value"), ["back", "front"]);
        let tags = both(&shop, "/api/v2/search/tags?scope=resource").await;
        assert_eq!(tags["scopes"][0]["tags"], json!(["service.name"]), "what no search finds is not offered");

        for query in ["%7B%7D%7Ccount_over_time()", "%7B%7D%7Ccount_over_time()by(resource.service.name)"] {
            let series = both(&shop, &format!("/api/metrics/query_range?q={query}&{RANGE}&step=61s")).await;
            let of = |series: &Value| -> (String, f64) {
                let tenant = items(&series["labels"]).iter().find(|label| label["key"] == "tenant").expect("a tenant");
                let values =
                    items(&series["samples"]).iter().map(|sample| sample["value"].as_f64().unwrap_or_default());
                (tenant["value"]["stringValue"].as_str().expect("a text").to_owned(), values.sum())
            };
            let mut all: Vec<_> = items(&series["series"]).iter().map(of).collect();
            all.sort_by(|one, other| one.0.cmp(&other.0));
            assert_eq!(all, [("a".to_owned(), 1.0), ("b".to_owned(), 2.0)], "{query}");
        }
    }
}

#[tokio::test]
async fn jaeger_and_zipkin() {
    for layout in LAYOUTS {
        let shop = shop(layout).await;
        let services = both(&shop, "/jaeger/api/services").await;
        assert_eq!(services["data"], json!(["back", "front"]));
        for uri in ["/jaeger/api/traces?service=back".to_owned(), format!("/jaeger/api/traces/{}", trace_id(1))] {
            let found = both(&shop, &uri).await;
            let [trace] = items(&found["data"]) else { panic!("one trace: {found}") };
            let of = |span: &Value| {
                let process = &trace["processes"][span["processID"].as_str().expect("a process")];
                let tenant = items(&process["tags"]).iter().find(|tag| tag["key"] == "tenant").expect("a tenant");
                let parent = span.pointer("/references/0/spanID").and_then(Value::as_str).unwrap_or("none");
                [process["serviceName"].as_str(), tenant["value"].as_str(), Some(parent)]
                    .map(|text| text.unwrap_or("").to_owned())
            };
            let all: Vec<_> = items(&trace["spans"]).iter().map(of).collect();
            assert_eq!(all, [["front", "a", "none"], ["back", "b", &id(1)], ["back", "b", &id(2)]], "{uri} {layout:?}");
        }
        let summaries = both(&shop, &format!("/jaeger/api/v3/trace-summaries?{RANGE_V3}")).await;
        let [summary] = items(&summaries["summaries"]) else { panic!("one trace: {summaries}") };
        assert_eq!((&summary["rootServiceName"], &summary["spanCount"]), (&json!("front"), &json!(3)));
        // A call from one tenant to the other is one.
        let calls = both(&shop, "/jaeger/api/dependencies?endTs=1769860800000&lookback=3600000").await;
        assert_eq!(calls["data"], json!([{"parent": "front", "child": "back", "callCount": 1}]));

        for uri in [
            "/zipkin/api/v2/traces?serviceName=back&endTs=1769860800000".to_owned(),
            format!("/zipkin/api/v2/traceMany?traceIds={}", trace_id(1)),
        ] {
            let found = both(&shop, &uri).await;
            let [spans] = items(&found) else { panic!("one trace: {found}") };
            assert_eq!(texts(spans, "/tags/tenant"), ["a", "b", "b"], "{uri}");
            assert_eq!(texts(spans, "/parentId"), ["none", &id(1), &id(2)], "{uri}");
        }
        assert_eq!(both(&shop, "/zipkin/api/v2/services").await, json!(["back", "front"]));
    }
}

async fn channel(shop: &Shop) -> Channel {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (app, listener) = (shop.app.clone(), listener.tap_io(|stream| stream.set_nodelay(true).expect("it is open")));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("the server listens")
}

fn of_both<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert(HEADER, "a|b".parse().expect("ASCII"));
    request
}

#[tokio::test]
async fn over_grpc() {
    let shop = shop(Layout::Files).await;
    let channel = channel(&shop).await;
    let mut tempo = StreamingQuerierClient::new(channel.clone());
    let search = SearchRequest { query: "{ }".to_owned(), ..SearchRequest::default() };
    let found = all(tempo.search(of_both(search)).await).await.expect("an answer");
    let text = format!("{found:?}");
    assert_eq!((found[0].traces.len(), text.contains("secret")), (1, false), "{text}");
    assert_eq!(found[0].traces[0].span_sets.len(), 2);
    let query =
        QueryInstantRequest { query: "{ } | count_over_time()".to_owned(), start: START as u64, end: NOON as u64 };
    let series = all(tempo.metrics_query_instant(of_both(query)).await).await.expect("an answer").swap_remove(0).series;
    let counts: Vec<_> = series.iter().map(|series| (series.labels[0].key.as_str(), series.value)).collect();
    assert_eq!(counts, [("tenant", 1.0), ("tenant", 2.0)]);

    let mut jaeger = QueryServiceClient::new(channel);
    let services = jaeger.get_services(of_both(GetServicesRequest {})).await.expect("an answer").into_inner().services;
    assert_eq!(services, ["back", "front"]);
    let moment = |nanos: i64| Some(prost_types::Timestamp { seconds: nanos / 1_000_000_000, nanos: 0 });
    let (start_time_min, start_time_max) = (moment(START), moment(NOON));
    let query = Some(TraceQueryParameters { start_time_min, start_time_max, ..TraceQueryParameters::default() });
    let messages = all(jaeger.find_traces(of_both(FindTracesRequest { query })).await).await.expect("an answer");
    let spans = messages.iter().flat_map(|message| &message.resource_spans).flat_map(|part| &part.scope_spans);
    assert_eq!(spans.map(|part| part.spans.len()).sum::<usize>(), 3);
}

#[tokio::test]
async fn what_is_of_one_tenant_says_so() {
    let shop = shop(Layout::Memory).await;
    let sql = Request::post("/api/v1/sql").header(HEADER, "a|b").body(Body::from(r#"{"query":"SELECT * FROM spans"}"#));
    let answers = [send_to(shop.app.clone(), sql.expect("a request")).await, get(&shop, "a|b", "/api/v1/status").await];
    for answer in answers {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let detail = answer.json()["detail"].as_str().expect("a detail").to_owned();
        assert!(detail.contains("several tenants") && detail.ends_with("name one"), "{detail}");
    }
}
