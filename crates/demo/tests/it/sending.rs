//! Delivery against a scripted receiver, and a whole run.

use crate::receiver::{Answer, Receiver};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use serde_json::Value;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tonic::{Code, Status};
use tracehouse_demo::send::{Delivery, Exporter};
use tracehouse_demo::{DemoOptions, run};

const PATIENCE: Duration = Duration::from_secs(5);

/// `google.rpc.Status` with a `RetryInfo` of 300 ms, encoded by hand.
fn retry_in_300_ms() -> Vec<u8> {
    let type_url = b"type.googleapis.com/google.rpc.RetryInfo";
    // Duration { nanos: 300_000_000 } in RetryInfo.retry_delay.
    let info = [0x0a, 0x06, 0x10, 0x80, 0xc6, 0x86, 0x8f, 0x01];
    let mut any = vec![0x0a, type_url.len() as u8];
    any.extend(type_url);
    any.extend([0x12, info.len() as u8]);
    any.extend(info);
    let mut status = vec![0x08, 0x08, 0x1a, any.len() as u8];
    status.extend(any);
    status
}

fn partial(rejected_spans: i64) -> Answer {
    let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message: "no".to_owned() });
    Ok(ExportTraceServiceResponse { partial_success })
}

#[tokio::test]
async fn answers_are_understood() {
    let busy = || Err(Status::with_details(Code::ResourceExhausted, "busy", retry_in_300_ms().into()));
    let down = || Err(Status::unavailable("down"));
    // (script, expected outcome: spans rejected or the final code, retries)
    let cases: Vec<(Vec<Answer>, Result<u64, Code>, u64)> = vec![
        (vec![], Ok(0), 0),
        (vec![partial(3)], Ok(3), 0),
        (vec![down(), down()], Ok(0), 2),
        (vec![busy()], Ok(0), 1),
        (vec![Err(Status::resource_exhausted("no delay given"))], Ok(0), 1),
        (vec![Err(Status::invalid_argument("malformed"))], Err(Code::InvalidArgument), 0),
        (vec![Err(Status::unauthenticated("who?"))], Err(Code::Unauthenticated), 0),
    ];
    for (script, expected, retries) in cases {
        let receiver = Receiver::with_script(script);
        let endpoint = receiver.start().await;
        let exporter = Exporter::connect(&endpoint, Some("acme"), PATIENCE).await.expect("the receiver is up");
        let delivered = exporter.deliver(&ExportTraceServiceRequest::default(), 1, 0).await;
        let outcome = match delivered.delivery {
            Delivery::Acknowledged { spans_rejected, .. } => Ok(spans_rejected),
            Delivery::Abandoned(status) => Err(status.code()),
        };
        assert_eq!((outcome, delivered.retries), (expected, retries));
        let received = receiver.received();
        assert_eq!(received.len() as u64, retries + 1);
        assert!(received.iter().all(|received| received.tenant.as_deref() == Some("acme")));
    }
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "measures real waiting")]
async fn the_delay_of_retry_info_is_kept() {
    let busy = Err(Status::with_details(Code::ResourceExhausted, "busy", retry_in_300_ms().into()));
    let receiver = Receiver::with_script(vec![busy]);
    let endpoint = receiver.start().await;
    let exporter = Exporter::connect(&endpoint, None, PATIENCE).await.expect("the receiver is up");
    let begun = Instant::now();
    exporter.deliver(&ExportTraceServiceRequest::default(), 1, 0).await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(receiver.received().iter().all(|received| received.tenant.is_none()));
}

#[tokio::test]
async fn a_silent_endpoint_is_named_with_advice() {
    let error = Exporter::connect("http://127.0.0.1:1", None, Duration::from_millis(400))
        .await
        .err()
        .expect("nothing listens on port 1");
    let text = format!("{error:#}");
    assert!(text.contains("http://127.0.0.1:1") && text.contains("tracehouse serve"), "{text}");
}

fn options(endpoint: String, facts: std::path::PathBuf) -> DemoOptions {
    DemoOptions {
        endpoint,
        rate: 60.0,
        seed: 9,
        facts: Some(facts),
        duration: Some(Duration::from_secs(2)),
        history: Some(Duration::from_secs(120)),
        tenant: Some("acme".to_owned()),
    }
}

#[tokio::test]
async fn a_run_delivers_everything_and_says_so() {
    let receiver = Receiver::default();
    let endpoint = receiver.start().await;
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let facts_path = directory.path().join("facts.json");
    let summary =
        run(options(endpoint, facts_path.clone()), std::future::pending()).await.expect("the run ends by itself");

    // How many there are in the time depends on the machine.
    assert!(summary.traces_generated > 0, "{summary:?}");
    assert_eq!(summary.traces_acknowledged, summary.traces_generated);
    assert_eq!(summary.spans_acknowledged, summary.spans_generated);
    let received = receiver.received();
    let spans: Vec<_> = received
        .iter()
        .flat_map(|received| &received.request.resource_spans)
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .collect();
    let unique: HashSet<_> = spans.iter().map(|span| (&span.trace_id, &span.span_id)).collect();
    assert_eq!(unique.len() as u64, summary.spans_generated);
    let text = std::fs::read_to_string(&facts_path).expect("the facts were written");
    let facts: Value = serde_json::from_str(&text).expect("the facts are JSON");
    assert_eq!(facts["finished"], true);
    assert_eq!(facts["totals"]["spansAcknowledged"], summary.spans_acknowledged);
    let copies = facts["problems"]["redelivered_batch"]["byDetail"]["spans"].as_u64().unwrap_or(0);
    assert_eq!(spans.len() as u64, summary.spans_generated + copies, "only redelivered spans come twice");
}

#[tokio::test]
async fn a_shutdown_ends_the_run_with_whole_traces() {
    let receiver = Receiver::default();
    let endpoint = receiver.start().await;
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let forever = DemoOptions { duration: None, ..options(endpoint, directory.path().join("facts.json")) };
    let summary = run(forever, tokio::time::sleep(Duration::from_millis(900))).await.expect("the run ends");
    assert!(summary.spans_generated > 0);
    assert_eq!(summary.spans_acknowledged, summary.spans_generated);
}
