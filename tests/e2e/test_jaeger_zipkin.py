"""What clients of Jaeger and Zipkin read: version 3 of Jaeger's by a generated gRPC client, the others over HTTP."""

import importlib
import json
import sys
import time
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_tools import protoc

from otlp import by_span, hex_json_to_traces, request, span
from tracehouse import Tracehouse

PROTO = Path(__file__).parents[2] / "crates/api/proto"
WELL_KNOWN = Path(protoc.__file__).parent / "_proto"
SECOND = 10**9
TRACES = 12


def sent_request(number, begin):
    """A trace of two services; the client's and the server's span of one call."""
    start = begin + number * SECOND
    trace = number.to_bytes(16)
    call = span(
        trace,
        (number * 10).to_bytes(8),
        start,
        duration_nanos=number * 100_000_000,
        name="GET /cart",
        kind=3,
        attributes={"http.route": "/cart" if number % 2 else "/check out", "number": number, "even": number % 2 == 0},
        events=[{"time_unix_nano": start + 1000, "name": "retry"}],
    )
    answer = span(
        trace,
        (number * 10 + 1).to_bytes(8),
        start + 1_000_000,
        name="cart",
        kind=2,
        parent_span_id=(number * 10).to_bytes(8),
        status={"code": 2, "message": "no stock"} if number % 3 == 0 else {},
    )
    made = request([call], service="gateway", resource={"host.name": "a"})
    made.MergeFrom(request([answer], service="cart"))
    return made


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Traces a second apart, half of them in files."""
    server = Tracehouse(tmp_path_factory.mktemp("jaeger")).start()
    begin = (time.time_ns() // SECOND - 600) * SECOND
    for number in range(1, TRACES + 1):
        server.post_otlp(sent_request(number, begin).SerializeToString())
        if number == TRACES // 2:
            server.flush()
    yield server, begin
    server.kill()


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    out = tmp_path_factory.mktemp("jaeger-v3")
    includes = [f"-I{PROTO}", f"-I{WELL_KNOWN}"]
    assert protoc.main(["protoc", *includes, f"--python_out={out}", f"--grpc_python_out={out}", "jaeger.proto"]) == 0
    sys.path.insert(0, str(out))
    return importlib.import_module("jaeger_pb2")


@pytest.fixture(scope="module")
def client(filled, messages):
    with grpc.insecure_channel(filled[0].url.removeprefix("http://")) as channel:
        yield importlib.import_module("jaeger_pb2_grpc").QueryServiceStub(channel)


def trace_id(number):
    return f"{number:032x}"


def timestamp(nanos):
    return Timestamp(seconds=nanos // SECOND, nanos=nanos % SECOND)


def query(messages, begin, **fields):
    times = {"start_time_min": timestamp(begin), "start_time_max": timestamp(begin + 3600 * SECOND)}
    return messages.TraceQueryParameters(**times | fields)


def joined(stream):
    """The spans of all messages of a stream, in OpenTelemetry's own classes."""
    found = {}
    for message in stream:
        found |= by_span(message)
    return found


def test_v3_grpc_trace_is_what_was_sent(client, messages, filled):
    found = joined(client.GetTrace(messages.GetTraceRequest(trace_id=trace_id(3))))
    assert found == by_span(sent_request(3, filled[1]))
    with pytest.raises(grpc.RpcError) as unknown:
        list(client.GetTrace(messages.GetTraceRequest(trace_id="abc")))
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_v3_grpc_searches(client, messages, filled):
    _, begin = filled
    asked = query(
        messages,
        begin,
        service_name="gateway",
        operation_name="GET /cart",
        attributes={"http.route": "/check out", "even": "true"},
        duration_min=Duration(nanos=500_000_000),
        duration_max=Duration(seconds=1),
    )
    found = joined(client.FindTraces(messages.FindTracesRequest(query=asked)))
    assert {trace for trace, _ in found} == {trace_id(number) for number in (6, 8, 10)}
    assert len(found) == 6
    (answer,) = client.FindTraceSummaries(messages.FindTraceSummariesRequest(query=asked))
    assert [summary.trace_id for summary in answer.summaries] == [trace_id(number) for number in (10, 8, 6)]
    last = answer.summaries[-1]
    assert (last.root_service_name, last.root_operation_name) == ("gateway", "GET /cart")
    assert (last.span_count, last.error_span_count, last.orphan_span_count) == (2, 1, 0)
    assert last.min_start_time_unix_nano == begin + 6 * SECOND
    assert last.max_end_time_unix_nano == begin + 6 * SECOND + 600_000_000
    assert [(service.name, service.error_span_count) for service in last.services] == [("cart", 1), ("gateway", 0)]
    newest = query(messages, begin, search_depth=2)
    (answer,) = client.FindTraceSummaries(messages.FindTraceSummariesRequest(query=newest))
    assert [summary.trace_id for summary in answer.summaries] == [trace_id(TRACES), trace_id(TRACES - 1)]


def test_v3_grpc_names(client, messages, filled):
    _, begin = filled
    assert list(client.GetServices(messages.GetServicesRequest()).services) == ["cart", "gateway"]
    operations = client.GetOperations(messages.GetOperationsRequest(service="cart")).operations
    assert [operation.name for operation in operations] == ["cart"]
    times = {"start_time": timestamp(begin), "end_time": timestamp(begin + 3600 * SECOND)}
    (link,) = client.GetDependencies(messages.GetDependenciesRequest(**times)).dependencies
    assert (link.parent, link.child, link.call_count) == ("gateway", "cart", TRACES)


def test_v3_over_http(filled):
    server, begin = filled
    answer = server.json(f"/api/v3/traces/{trace_id(3)}")
    assert by_span(hex_json_to_traces(answer["result"])) == by_span(sent_request(3, begin))
    times = {
        "query.startTimeMin": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin // SECOND)),
        "query.startTimeMax": time.strftime("%Y-%m-%dT%H:%M:%S.5Z", time.gmtime(begin // SECOND + 600)),
    }
    asked = times | {"query.serviceName": "cart", "query.attributes": json.dumps({"error": "true"})}
    found = server.json("/api/v3/trace-summaries", params=asked)["summaries"]
    assert [summary["traceId"] for summary in found] == [trace_id(number) for number in (12, 9, 6, 3)]
    nothing = server.request("GET", "/api/v3/traces", expect=404, params=times | {"query.serviceName": "none"})
    assert nothing.json()["error"]["httpCode"] == 404


def test_classic(filled):
    server, begin = filled
    assert server.json("/api/services")["data"] == ["cart", "gateway"]
    asked = {"service": "cart", "tags": json.dumps({"error": "true"}), "limit": 2, "lookback": "1h"}
    found = server.json("/jaeger/api/traces", params=asked)
    assert [trace["traceID"] for trace in found["data"]] == [trace_id(12), trace_id(9)]
    (trace,) = server.json(f"/jaeger/api/traces/{trace_id(3)}")["data"]
    call, answer = trace["spans"]
    assert (call["startTime"], call["duration"]) == ((begin + 3 * SECOND) // 1000, 300_000)
    services = [trace["processes"][each["processID"]]["serviceName"] for each in (call, answer)]
    assert services == ["gateway", "cart"]
    tags = {tag["key"]: tag["value"] for tag in call["tags"]}
    assert (tags["http.route"], tags["number"], tags["even"], tags["span.kind"]) == ("/cart", 3, False, "client")
    assert answer["references"] == [{"refType": "CHILD_OF", "traceID": trace_id(3), "spanID": f"{30:016x}"}]
    links = server.json("/api/dependencies", params={"endTs": begin // 1_000_000 + 3_600_000})["data"]
    assert links == [{"parent": "gateway", "child": "cart", "callCount": TRACES}]


def test_zipkin(filled):
    server, begin = filled
    for root in ("/api/v2", "/zipkin/api/v2"):
        assert server.json(f"{root}/services") == ["cart", "gateway"]
        assert server.json(f"{root}/spans", params={"serviceName": "cart"}) == ["cart"]
        asked = {"serviceName": "gateway", "annotationQuery": "retry and http.route=/check out", "limit": 3}
        found = server.json(f"{root}/traces", params=asked | {"minDuration": 500_000})
        assert [trace[0]["traceId"] for trace in found] == [trace_id(number) for number in (12, 10, 8)]
        call, answer = server.json(f"{root}/trace/{trace_id(3)}")
        assert (call["kind"], call["name"], call["localEndpoint"]) == ("CLIENT", "GET /cart", {"serviceName": "gateway"})
        assert (call["timestamp"], call["duration"]) == ((begin + 3 * SECOND) // 1000, 300_000)
        assert call["tags"]["number"] == "3" and call["annotations"][0]["value"] == "retry"
        assert (answer["parentId"], answer["tags"]["error"]) == (call["id"], "no stock")
        (link,) = server.json(f"{root}/dependencies", params={"endTs": begin // 1_000_000 + 3_600_000})
        assert link == {"parent": "gateway", "child": "cart", "callCount": TRACES, "errorCount": TRACES // 3}
    assert server.request("GET", "/api/v2/trace/abc", expect=404).json()["status"] == 404


def test_what_answers_show_finds_the_span(client, messages, filled):
    """Fields that are shown as tags, names of events, attributes of the resource."""
    server, begin = filled
    times = {
        "query.startTimeMin": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin // SECOND)),
        "query.startTimeMax": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin // SECOND + 600)),
    }
    everything = set(range(1, TRACES + 1))
    table = [
        ({"event": "retry"}, everything),
        ({"host.name": "a"}, everything),
        ({"span.kind": "client", "number": "7"}, {7}),
        ({"otel.status_description": "no stock"}, {3, 6, 9, 12}),
        ({"otel.status_code": "ERROR", "error": "true"}, {3, 6, 9, 12}),
        ({"event": "nothing"}, set()),
    ]
    for tags, numbers in table:
        expected = {trace_id(number) for number in numbers}
        found = server.json("/jaeger/api/traces", params={"tags": json.dumps(tags), "limit": 100})["data"]
        assert {trace["traceID"] for trace in found} == expected, tags
        asked = times | {"query.attributes": json.dumps(tags)}
        found = server.json("/api/v3/trace-summaries", params=asked)["summaries"]
        assert {summary["traceId"] for summary in found} == expected, tags
        request = messages.FindTracesRequest(query=query(messages, begin, attributes=tags))
        assert {trace for trace, _ in joined(client.FindTraces(request))} == expected, tags
    operations = server.json("/jaeger/api/operations", params={"service": "cart"})["data"]
    assert operations == [{"name": "cart", "spanKind": "server"}]
    nothing = server.json("/jaeger/api/operations", params={"service": "cart", "spanKind": "client"})["data"]
    assert nothing == []
    assert server.json("/zipkin/config.json")["searchEnabled"] is True
