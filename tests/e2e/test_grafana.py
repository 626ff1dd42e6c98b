"""The calls that Grafana's data sources for Tempo, Jaeger and Zipkin make, and what they read from the answers.

Paths, parameters and the fields that are read are those of Grafana 12's data sources and its Traces Drilldown app.
"""

import time
from urllib.parse import quote

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from otlp import TraceByIDResponse, by_span, request, span
from tracehouse import Tracehouse

SECOND = 10**9
TRACES = 20
# What strict readers of protobuf's JSON mapping know; anything else they refuse.
METRICS = {"inspectedTraces", "inspectedBytes", "totalBlocks", "completedJobs", "totalJobs", "inspectedSpans"}


def trace_id(number):
    return f"{number:032x}"


def sent_request(number, begin):
    start = begin + number * SECOND
    ids = [(number * 10 + at).to_bytes(8) for at in range(3)]
    root = span(
        number.to_bytes(16),
        ids[0],
        start,
        duration_nanos=number * 50_000_000,
        name="GET /cart",
        kind=2,
        attributes={"http.route": "/cart", "http.response.status_code": 500 if number % 4 == 0 else 200},
    )
    call = span(number.to_bytes(16), ids[1], start + 10, name="SELECT", kind=3, parent_span_id=ids[0])
    failed = {"status": {"code": 2}} if number % 4 == 0 else {}
    answer = span(number.to_bytes(16), ids[2], start + 20, name="query", kind=2, parent_span_id=ids[1], **failed)
    made = request([root, call], service="cart")
    made.MergeFrom(request([answer], service="stock"))
    return made


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    server = Tracehouse(tmp_path_factory.mktemp("grafana")).start()
    begin = (time.time_ns() // SECOND - 900) * SECOND
    for number in range(1, TRACES + 1):
        server.post_otlp(sent_request(number, begin).SerializeToString())
        if number == TRACES // 2:
            server.flush()
    yield server, begin
    server.kill()


@pytest.fixture
def times(filled):
    begin = filled[1] // SECOND
    return {"start": begin, "end": begin + 600}


# Tempo


def test_connection(filled):
    server, _ = filled
    assert server.get("/api/echo").text == "echo"
    version = server.json("/api/status/buildinfo")["version"]
    # From 2.2 on Grafana streams searches, from 2.7 on metrics.
    assert tuple(int(part) for part in version.split(".")) >= (2, 7, 0)


@pytest.mark.parametrize("with_times", [True, False])
def test_trace_by_id(filled, times, with_times):
    server, begin = filled
    parameters = times if with_times else {}
    headers = {"Accept": "application/protobuf"}
    newer = server.get(f"/api/v2/traces/{trace_id(3)}", params=parameters, headers=headers)
    older = server.get(f"/api/traces/{trace_id(3)}", params=parameters, headers=headers)
    assert {newer.headers["Content-Type"], older.headers["Content-Type"]} == {"application/protobuf"}
    expected = by_span(sent_request(3, begin))
    assert by_span(TraceByIDResponse.FromString(newer.content).trace) == expected
    assert by_span(TracesData.FromString(older.content)) == expected
    # As Tempo has it: an empty trace at the newer address, and none at the older.
    unknown = server.get(f"/api/v2/traces/{'a' * 32}", headers=headers)
    assert by_span(TraceByIDResponse.FromString(unknown.content).trace) == {}
    server.request("GET", f"/api/traces/{'a' * 32}", expect=404, headers=headers)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        # As the builder writes them.
        ('{resource.service.name="cart" && name="GET /cart" && span.http.response.status_code>=400}', (20, 16, 12, 8, 4)),
        ('{resource.service.name=~"cart|stock" && status=error}', (20, 16, 12, 8, 4)),
        ("{duration>850ms && kind=server}", (20, 19, 18)),
        ('{.http.route="/cart" && traceDuration>900ms} with (most_recent=true)', (20, 19)),
        # As Traces Drilldown writes them.
        ("{nestedSetParent<0 && true && duration>900ms}", (20, 19)),
        ("{nestedSetParent<0} >> {status = error}", (20, 16, 12, 8, 4)),
    ],
)
def test_search(filled, times, query, numbers):
    server, begin = filled
    answer = server.json("/api/search", params={"q": query, "limit": 20, "spss": 10} | times)
    assert [trace["traceID"] for trace in answer["traces"]] == [trace_id(number) for number in numbers]
    for number, trace in zip(numbers, answer["traces"], strict=True):
        assert trace["startTimeUnixNano"] == str(begin + number * SECOND)
        assert trace["durationMs"] == number * 50
        assert (trace["rootServiceName"], trace["rootTraceName"]) == ("cart", "GET /cart")
        assert trace["spanSets"][0] == trace["spanSet"]
        for found in trace["spanSet"]["spans"]:
            assert int(found["startTimeUnixNano"]) >= begin and int(found["durationNanos"]) > 0
            assert len(found["spanID"]) == 16
            assert all(set(attribute) == {"key", "value"} for attribute in found["attributes"])
    assert answer["metrics"].keys() <= METRICS


def test_structure_of_the_drilldown(filled, times):
    server, _ = filled
    query = (
        "{nestedSetParent<0 && true} &>> {status = error}"
        " | select(status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)"
    )
    found = server.json("/api/search", params={"q": query, "limit": 200, "spss": 20} | times)["traces"]
    assert len(found) == 5
    for trace in found:
        fields = [
            {attribute["key"]: attribute["value"] for attribute in each["attributes"]}
            for each in trace["spanSet"]["spans"]
        ]
        assert [each["nestedSetParent"]["intValue"] for each in fields] == ["-1", "2"]
        assert [each["nestedSetLeft"]["intValue"] for each in fields] == ["1", "3"]
        assert [each["service.name"]["stringValue"] for each in fields] == ["cart", "stock"]


def test_tags(filled, times):
    server, _ = filled
    for parameters in ({"limit": 5000}, {"limit": 5000} | times):
        scopes = {each["name"]: each["tags"] for each in server.json("/api/v2/search/tags", params=parameters)["scopes"]}
        assert "service.name" in scopes["resource"] and "http.route" in scopes["span"]
        assert {"duration", "name", "status", "kind", "rootName", "rootServiceName"} <= set(scopes["intrinsic"])


@pytest.mark.parametrize(
    ("tag", "query", "values"),
    [
        ("resource.service.name", None, ["cart", "stock"]),
        ("resource.service.name", "{status=error}", ["stock"]),
        ("resource.service.name", '{name="SELECT" && kind=client}', ["cart"]),
        ("name", '{resource.service.name="stock"}', ["query"]),
        ("span.http.response.status_code", "{}", ["200", "500"]),
        ("status", None, ["error", "ok", "unset"]),
        ('span."no such key"', None, []),
    ],
)
def test_tag_values(filled, times, tag, query, values):
    server, _ = filled
    parameters = {"limit": 5000} | ({"q": query} if query else {}) | times
    found = server.json(f"/api/v2/search/tag/{quote(tag, safe='')}/values", params=parameters)["tagValues"]
    assert [value["value"] for value in found] == values
    assert all(value["type"] for value in found)


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("{nestedSetParent<0 && true} | rate() by(resource.service.name)", {"resource.service.name"}),
        ("{nestedSetParent<0 && duration>500ms} | rate()", {"__name__"}),
        ("{nestedSetParent<0 && true} | quantile_over_time(duration, 0.9)", {"p"}),
        ("{nestedSetParent<0 && true} | histogram_over_time(duration)", {"__bucket"}),
        ("{nestedSetParent<0 && true} | compare({status = error})", {"__meta_type"}),
        ("{nestedSetParent<0 && true} | compare({duration>500ms}, 10, START, END)", {"__meta_type"}),
    ],
)
def test_metrics(filled, times, query, labels):
    server, _ = filled
    for word, moment in times.items():
        query = query.replace(word.upper(), str(moment * SECOND))
    asked = {"q": query, "step": "60s", "exemplars": 10} | times
    answer = server.json("/api/metrics/query_range", params=asked)
    assert answer.keys() == {"series", "metrics"}
    for series in answer["series"]:
        assert series.keys() <= {"labels", "samples", "promLabels", "exemplars"}
        assert labels <= {label["key"] for label in series["labels"]}
        assert all(int(sample["timestampMs"]) % 60_000 == 0 for sample in series["samples"])
        for exemplar in series.get("exemplars", []):
            assert "trace:id" in {label["key"] for label in exemplar["labels"]}
    assert any(sample["value"] for series in answer["series"] for sample in series["samples"])
    instant = server.json("/api/metrics/query", params={"q": query} | times)
    assert instant.keys() == {"series", "metrics"}
    for series in instant["series"]:
        assert series.keys() <= {"labels", "value", "promLabels"}


def test_a_wrong_query_says_why(filled, times):
    server, _ = filled
    answer = server.request("GET", "/api/search", expect=400, params={"q": "{ statsu = error }"} | times)
    assert "did you mean" in answer.text


# Jaeger: the address in its settings ends in /jaeger; its search goes to the root all the same.


def test_jaeger(filled, times):
    server, begin = filled
    assert server.json("/jaeger/api/services")["data"] == ["cart", "stock"]
    assert server.json("/jaeger/api/services/cart/operations")["data"] == ["GET /cart", "SELECT"]
    asked = {"service": "stock", "tags": '{"error":"true"}', "minDuration": "1us", "maxDuration": "1s", "limit": 3}
    for path in ("/api/traces", "/jaeger/api/traces"):
        found = server.json(path, params=asked)["data"]
        assert [trace["traceID"] for trace in found] == [trace_id(number) for number in (20, 16, 12)]
    micros = {name: moment * 1_000_000 for name, moment in times.items()}
    [trace] = server.json(f"/jaeger/api/traces/{trace_id(4)}", params=micros)["data"]
    assert [each["operationName"] for each in trace["spans"]] == ["GET /cart", "SELECT", "query"]
    window = {"endTs": times["end"] * 1000, "lookback": 600_000}
    assert server.json("/jaeger/api/dependencies", params=window)["data"] == [
        {"parent": "cart", "child": "stock", "callCount": TRACES}
    ]


def test_jaeger_v3(filled, times):
    server, _ = filled
    assert server.json("/jaeger/api/v3/services")["services"] == ["cart", "stock"]
    operations = server.json("/jaeger/api/v3/operations", params={"service": "cart"})["operations"]
    assert [operation["name"] for operation in operations] == ["GET /cart", "SELECT"]
    # Times are not escaped.
    moment = {name: time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at)) for name, at in times.items()}
    path = f"query.service_name=stock&query.start_time_min={moment['start']}&query.start_time_max={moment['end']}"
    found = server.json(f"/jaeger/api/v3/traces?{path}")["result"]["resourceSpans"]
    spans = [each for resource in found for scope in resource["scopeSpans"] for each in scope["spans"]]
    assert len(spans) == 3 * TRACES
    one = f"/jaeger/api/v3/traces/{trace_id(4)}?start_time={moment['start']}&end_time={moment['end']}"
    assert server.json(one)["result"]["resourceSpans"]


# Zipkin


def test_zipkin(filled):
    server, _ = filled
    assert server.json("/api/v2/services") == ["cart", "stock"]
    assert server.json("/api/v2/spans", params={"serviceName": "cart"}) == ["GET /cart", "SELECT"]
    asked = {"serviceName": "cart", "spanName": "GET /cart"}
    assert len(server.json("/api/v2/traces", params=asked)) == 10
    trace = server.json(f"/api/v2/trace/{trace_id(4)}")
    assert [(each["name"], each.get("parentId")) for each in trace] == [
        ("GET /cart", None),
        ("SELECT", f"{40:016x}"),
        ("query", f"{41:016x}"),
    ]
