//! What the server answers to the demo's traffic. The tests of the web interface read these answers, so that they meet what the server
//! says and not what somebody believes that it says.

use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::{Value, json};
use tracehouse_demo::batch::pack;
use tracehouse_demo::rhythm::{Arrivals, Timeline};
use tracehouse_demo::simulate::World;
use tracehouse_model::{Limits, SpanBatch};
use tracehouse_otlp::protobuf;

use crate::shop::{Layout, NOON, Shop};

const SEED: u64 = 7;
const TRAFFIC: Duration = Duration::from_secs(120);
const TRACES_PER_SECOND: f64 = 1.0;

/// The demo's spans of some minutes before noon, a request for each operation of its customers.
fn traffic() -> Vec<SpanBatch> {
    let begin = NOON as u64 - TRAFFIC.as_nanos() as u64;
    let timeline = Timeline::new(begin, Duration::ZERO, Some(TRAFFIC / 2), TRACES_PER_SECOND);
    let world = World::new(SEED, timeline);
    let requests = Arrivals::new(SEED, timeline)
        .map(|arrival| pack(arrival.index, world.request(arrival).spans.into_iter(), &world.fleet).request);
    requests.map(|request| decoded(&request)).collect()
}

fn decoded(request: &ExportTraceServiceRequest) -> SpanBatch {
    protobuf::decode_export_request(&request.encode_to_vec(), &Limits::default()).expect("the demo sends OTLP").batch
}

/// The trace with most spans, by what a search told.
fn richest(search: &Value) -> &Value {
    let traces = search["traces"].as_array().expect("traces");
    traces.iter().max_by_key(|trace| trace["spanCount"].as_u64()).expect("some trace")
}

/// The same texts in each run: what is timed by a clock that stands still.
async fn answers(shop: &Shop) -> Vec<(&'static str, Value)> {
    let mut answers = Vec::new();
    let query = json!({ "description": "What fails, by service", "address": "/query?q=%7Bstatus%3Derror%7D%7Crate()&range=6h" });
    let saved = shop.put("/api/v1/saved-queries/Errors%20by%20service", &query).await;
    assert_eq!(saved.status, http::StatusCode::OK);
    let range = format!("start={}&end={NOON}", NOON - TRAFFIC.as_nanos() as i64);
    let step = format!("{range}&step=20s&exemplars=2");
    let fixed = [
        ("services", "services".to_owned()),
        ("operations", "operations?service=gateway".to_owned()),
        ("keys", "attributes/keys".to_owned()),
        ("values", "attributes/values?scope=span&key=http.route&limit=10".to_owned()),
        ("search", format!("search?{range}&limit=20&targets=true")),
        ("search-errors", format!("search?{range}&limit=5&targets=true&status=error")),
        (
            "search-by",
            format!(
                "search?{range}&limit=5&targets=true&q=%7Bstatus%3Derror%7D%7Cby(resource.service.name)%7Ccount()%3E0"
            ),
        ),
        ("search-nothing", format!("search?{range}&service=nobody")),
        ("rate", format!("metrics?{step}&q=%7B%7D%7Crate()by(resource.service.name)")),
        ("quantiles", format!("metrics?{step}&q=%7B%7D%7Cquantile_over_time(duration,.5,.99)by(kind)")),
        ("histogram", format!("metrics?{step}&buckets=4&q=%7B%7D%7Chistogram_over_time(duration)")),
        ("tail", "tail?after=0&limit=3&status=error".to_owned()),
        ("compare", format!("metrics?{range}&instant=true&q=%7B%7D%7Ccompare(%7Bstatus%3Derror%7D,1)")),
        ("check", "query/check?q=%7Bstatus%3Derror%7D%7Crate()".to_owned()),
        ("check-wrong", "query/check?q=%7Bstatsu%3Derror%7D".to_owned()),
        ("saved-queries", "saved-queries".to_owned()),
        ("status", "status".to_owned()),
    ];
    for (name, question) in fixed {
        answers.push((name, shop.json(&format!("/api/v1/{question}")).await));
    }
    let searched = answers.iter().find(|(name, _)| *name == "search-errors").map(|(_, answer)| answer);
    let trace = richest(searched.expect("it was asked"))["traceId"].as_str().expect("an id").to_owned();
    let whole = shop.json(&format!("/api/v1/traces/{trace}?targets=true")).await;
    let spans = &whole["spans"];
    let is_exception = spans["exception"].as_array().expect("a column").iter().position(|known| *known == 1);
    let span = spans["id"][is_exception.unwrap_or(0)].as_str().expect("an id").to_owned();
    answers.push(("trace", whole));
    answers.push(("span", shop.json(&format!("/api/v1/traces/{trace}/spans/{span}")).await));
    answers.push(("find", shop.json(&format!("/api/v1/traces/{trace}/find?q=exception")).await));
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_interface_is_tested_with_what_the_server_answers() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../ui/recorded"));
    let shop = Shop::with(&traffic(), Layout::Memory).await;
    let is_update = std::env::var_os("UPDATE_RECORDED").is_some();
    let mut changed = Vec::new();
    for (name, answer) in answers(&shop).await {
        let path = folder.join(name).with_extension("json");
        let text = format!("{}\n", serde_json::to_string_pretty(&answer).expect("it came as JSON"));
        if is_update {
            std::fs::create_dir_all(&folder).expect("it can be made");
            std::fs::write(&path, &text).expect("it can be written");
        }
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            changed.push(name);
        }
    }
    assert!(
        changed.is_empty(),
        "{changed:?}: answers have changed; run this test with UPDATE_RECORDED=1, look at what that changes in ui/recorded, and \
         run the tests of the web interface"
    );
}
