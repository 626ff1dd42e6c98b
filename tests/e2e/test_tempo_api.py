"""Requests as Grafana's Tempo data source makes them, and the answers it understands."""

import time

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from otlp import TraceByIDResponse, by_span, request, span, trace_as_json, trace_as_protobuf

SECOND = 10**9
TRACES = 30


def trace_id(number):
    return f"{number:032x}"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Traces a second apart, the highest number the newest, half of them in files. Numbers decide on all they are."""
    from tracehouse import Tracehouse

    server = Tracehouse(tmp_path_factory.mktemp("tempo")).start()
    base = (time.time_ns() // SECOND - 600) * SECOND
    for number in range(1, TRACES + 1):
        start = base + number * SECOND
        spans = [
            span(
                number.to_bytes(16),
                (number * 100 + at).to_bytes(8),
                start + at * 1_000_000,
                # The root takes as many milliseconds as the trace has hundreds in its number.
                duration_nanos=number * 100_000_000 if at == 0 else 1_000_000,
                parent_span_id=b"" if at == 0 else (number * 100).to_bytes(8),
                name="GET /cart" if at == 0 else f"step {at}",
                kind=2 if at == 0 else 3,
                status={"code": 2} if number % 5 == 0 and at == 1 else {},
                attributes={
                    "http.route": "/cart" if number % 2 else "/check out",
                    "http.response.status_code": 500 if number % 5 == 0 else 200,
                    "step": at,
                    "ratio": number / 4,
                    "even": number % 2 == 0,
                    "with space": at,
                    "k8s.labels.app.kubernetes.io/name": "cart",
                },
            )
            for at in range(4)
        ]
        made = request(spans, service=f"service-{number % 3}", resource={"deployment.environment.name": "test"})
        server.post_otlp(made.SerializeToString())
        if number == TRACES // 2:
            server.flush()
    yield server, base
    server.kill()


def ids(answer):
    return [trace["traceID"] for trace in answer["traces"]]


def expected_ids(accept):
    """Newest first."""
    return [trace_id(number) for number in range(TRACES, 0, -1) if accept(number)]


def test_is_there(filled):
    server, _ = filled
    assert server.get("/api/echo").text == "echo"
    assert "version" in server.json("/api/status/buildinfo")


def test_search_with_nothing_else_is_newest_first(filled):
    server, _ = filled
    answer = server.json("/api/search", params={"q": "{}", "limit": 100})
    assert ids(answer) == expected_ids(lambda number: True)
    first = answer["traces"][0]
    assert first["rootServiceName"] == f"service-{TRACES % 3}" and first["rootTraceName"] == "GET /cart"
    assert isinstance(first["startTimeUnixNano"], str) and first["durationMs"] == TRACES * 100
    assert first["serviceStats"] == {f"service-{TRACES % 3}": {"spanCount": 4, "errorCount": 1}}
    # Only the fields that tempopb.SearchResponse has: clients in Go refuse others.
    assert set(answer) == {"traces", "metrics"}
    known = {"traceID", "rootServiceName", "rootTraceName", "startTimeUnixNano", "durationMs", "spanSet", "spanSets"}
    assert set(first) <= known | {"serviceStats"}
    # The same question has the same answer, before and after the spans move.
    assert answer["traces"] == server.json("/api/search", params={"limit": 100})["traces"]


def test_limit(filled):
    server, _ = filled
    everything = expected_ids(lambda number: True)
    assert ids(server.json("/api/search")) == everything[:20]
    for limit in (1, 7, 30):
        assert ids(server.json("/api/search", params={"limit": limit})) == everything[:limit]
    server.get("/api/search", params={"limit": "no"}, expect=400)


@pytest.mark.parametrize(
    ("parameters", "accept"),
    [
        ({"tags": "service.name=service-1"}, lambda number: number % 3 == 1),
        ({"tags": "service.name=service-1 http.route=/cart"}, lambda number: number % 3 == 1 and number % 2),
        ({"tags": 'http.route="/check out"'}, lambda number: number % 2 == 0),
        ({"tags": "http.response.status_code=500"}, lambda number: number % 5 == 0),
        ({"tags": 'name="GET /cart" error=true'}, lambda number: False),
        ({"tags": "status=error"}, lambda number: number % 5 == 0),
        ({"minDuration": "2s"}, lambda number: number >= 20),
        ({"maxDuration": "500ms"}, lambda number: number <= 5),
        ({"minDuration": "500ms", "maxDuration": "1.2s"}, lambda number: 5 <= number <= 12),
        ({"tags": "service.name=service-2", "minDuration": "2s"}, lambda number: number % 3 == 2 and number >= 20),
        ({"q": '{ resource.service.name = "service-0" }'}, lambda number: number % 3 == 0),
        ({"q": '{ .http.route = "/cart" && status = error }'}, lambda number: number % 5 == 0 and number % 2),
        (
            {"q": '{ resource.service.name = "service-2" && duration > 2s }'},
            lambda number: number % 3 == 2 and number > 20,
        ),
        ({"q": '{ name = "GET /cart" && kind = server && duration >= 2900ms }'}, lambda number: number >= 29),
        ({"q": "{ span.http.response.status_code >= 500 }"}, lambda number: number % 5 == 0),
        ({"q": "{ span.ratio < 0.6 }"}, lambda number: number <= 2),
        ({"q": "{ span.even = true && span.step = 3 }"}, lambda number: number % 2 == 0),
        ({"q": '{ span.http.route =~ "/ca.*" }'}, lambda number: number % 2),
        ({"q": '{ span.http.route !~ "/ca.*" }'}, lambda number: number % 2 == 0),
        ({"q": '{ span.http.route != "/cart" }'}, lambda number: number % 2 == 0),
        ({"q": "{ span.step = 1 || span.step = 77 }"}, lambda number: True),
        ({"q": '{ resource.deployment.environment.name = "test" && span.nothing = 1 }'}, lambda number: False),
        ({"q": '{ rootServiceName = "service-1" && rootName = "GET /cart" }'}, lambda number: number % 3 == 1),
        ({"q": "{ traceDuration > 2s }"}, lambda number: number > 20),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_search(filled, parameters, accept):
    server, _ = filled
    answer = server.json("/api/search", params=parameters | {"limit": 100})
    assert ids(answer) == expected_ids(accept)
    assert server.json("/api/search", params=parameters | {"limit": 100})["traces"] == answer["traces"]


def test_search_by_time(filled):
    server, base = filled
    begin = base // SECOND
    answer = server.json("/api/search", params={"start": begin + 10, "end": begin + 20, "limit": 100})
    # Whole seconds, both ends included.
    assert ids(answer) == expected_ids(lambda number: 10 <= number <= 20)
    assert ids(server.json("/api/search", params={"start": 1, "end": 2})) == []
    server.get("/api/search", params={"start": begin + 20, "end": begin + 10}, expect=400)


def test_spans_that_matched(filled):
    server, _ = filled
    [found] = server.json("/api/search", params={"q": "{ span.step >= 1 && span.ratio = 2.5 }", "spss": 2})["traces"]
    assert found["traceID"] == trace_id(10)
    assert found["spanSets"] == [found["spanSet"]]
    assert found["spanSet"]["matched"] == 3 and len(found["spanSet"]["spans"]) == 2
    first = found["spanSet"]["spans"][0]
    assert first["spanID"] == f"{1001:016x}" and first["durationNanos"] == "1000000"
    assert all(isinstance(first[field], str) for field in ("spanID", "startTimeUnixNano", "durationNanos"))


def test_fields_are_called_and_written_as_in_tempo(filled):
    server, _ = filled
    query = '{ span.ratio = 2.5 && span."with space" = 2 } | select(duration) | by(duration)'
    [found] = server.json("/api/search", params={"q": query})["traces"]
    fields = {each["key"]: each["value"] for each in found["spanSet"]["spans"][0]["attributes"]}
    assert fields["with space"] == {"intValue": "2"}
    assert fields["duration"] == {"stringValue": "1ms"}
    assert found["spanSet"]["attributes"] == [{"key": "by(duration)", "value": {"stringValue": "1ms"}}]


def test_values_of_floats(filled):
    server, _ = filled
    found = server.json("/api/v2/search/tag/span.ratio/values")["tagValues"]
    assert {value["type"] for value in found} == {"float"} and len(found) == TRACES
    assert {"0.25", "1.0", "7.5"} <= {value["value"] for value in found}


def test_labels_of_series(filled):
    server, base = filled
    times = {"start": base // SECOND, "end": base // SECOND + 60, "step": "1m"}

    def labels(query, name="q"):
        answer = server.json("/api/metrics/query_range", params={name: query} | times)
        return [{each["key"]: each["value"]["stringValue"] for each in series["labels"]} for series in answer["series"]]

    assert labels("{ } | rate()", name="query") == [{"__name__": "rate"}]
    assert labels("({ } | rate()) * 60") == [{"__name__": "rate"}]
    assert labels("{ span.step = 1 } | rate() by (duration, span.none)") == [{"duration": "1ms"}]
    assert labels("{ } | rate() by (span.none, span.nor)") == [{"span.none": "nil"}]
    assert labels("{ span.step = 1 && resource.service.name = \"service-1\" } | rate() by (parent.service.name)") == [
        {"parent.service.name": "service-1"}
    ]


def test_wrong_queries_say_where(filled):
    server, _ = filled
    for query in ("{", "{ status = }", '{ .a = "b" } | ', "nonsense", '{ duration > "x" }'):
        answer = server.get("/api/search", params={"q": query}, expect=400)
        assert len(answer.text) > 20, query
    for tags in ('a="b', "=b"):
        server.get("/api/search", params={"tags": tags}, expect=400)


def test_trace_by_id(filled):
    server, base = filled
    for number in (1, TRACES):
        expected = base + number * SECOND
        for ask in (trace_as_json, trace_as_protobuf):
            found = by_span(ask(server, trace_id(number)))
            assert len(found) == 4
            assert min(fields["start_time_unix_nano"] for fields in found.values()) == expected
        # The older interface: tempopb.Trace itself.
        answer = server.get(f"/api/traces/{trace_id(number)}", headers={"Accept": "application/protobuf"})
        assert by_span(TracesData.FromString(answer.content)) == found
        answer = server.json(f"/api/traces/{trace_id(number)}")
        assert sum(len(scope["spans"]) for batch in answer["batches"] for scope in batch["scopeSpans"]) == 4
        # Grafana sends the time range along and asks for gzip.
        parameters = {"start": expected // SECOND - 3600, "end": expected // SECOND + 3600}
        headers = {"Accept": "application/protobuf", "Accept-Encoding": "gzip"}
        answer = server.get(f"/api/v2/traces/{trace_id(number)}", params=parameters, headers=headers)
        assert by_span(TraceByIDResponse.FromString(answer.content).trace) == found


def test_ids_in_other_forms(filled):
    """Leading zeros may be left out, as Tempo and Jaeger have it; digits may be capitals."""
    server, _ = filled
    for form in (f"{10:x}", f"{10:016x}", trace_id(10).upper()):
        assert len(by_span(trace_as_protobuf(server, form))) == 4


def test_an_unknown_trace_is_empty_in_version_2_and_404_in_version_1(filled):
    server, _ = filled
    unknown = "ab" * 16
    assert server.json(f"/api/v2/traces/{unknown}") == {"trace": {}, "metrics": {}}
    answer = server.get(f"/api/v2/traces/{unknown}", headers={"Accept": "application/protobuf"})
    assert by_span(TraceByIDResponse.FromString(answer.content).trace) == {}
    for accept in ("application/protobuf", "application/json", "*/*"):
        server.get(f"/api/traces/{unknown}", headers={"Accept": accept}, expect=404)
    for path in ("/api/v2/traces", "/api/traces"):
        for wrong in ("xyz", "1" * 33, "0"):
            server.get(f"{path}/{wrong}", expect=400)


def test_tags(filled):
    server, _ = filled
    names = server.json("/api/search/tags")["tagNames"]
    assert {"http.route", "service.name", "step", "deployment.environment.name"} <= set(names)
    assert not {"duration", "rootName", "status"} & set(names)
    assert {"duration", "trace:id"} <= set(server.json("/api/search/tags", params={"scope": "intrinsic"})["tagNames"])
    assert names == sorted(names)
    assert server.json("/api/search/tag/service.name/values")["tagValues"] == ["service-0", "service-1", "service-2"]
    assert server.json("/api/search/tag/http.route/values")["tagValues"] == ["/cart", "/check out"]
    assert server.json("/api/search/tag/nothing/values")["tagValues"] == []


def test_tags_v2(filled):
    server, _ = filled
    scopes = {scope["name"]: scope["tags"] for scope in server.json("/api/v2/search/tags")["scopes"]}
    assert {"service.name", "deployment.environment.name"} <= set(scopes["resource"])
    attributes = {"http.route", "http.response.status_code", "step", "ratio", "even"}
    assert attributes | {"with space", "k8s.labels.app.kubernetes.io/name"} == set(scopes["span"])
    assert {"duration", "name", "status", "kind", "rootName"} <= set(scopes["intrinsic"])
    for scope, tags in scopes.items():
        [only] = server.json("/api/v2/search/tags", params={"scope": scope})["scopes"]
        assert (only["name"], only["tags"]) == (scope, tags)


@pytest.mark.parametrize(
    ("tag", "kind", "values"),
    [
        ("resource.service.name", "string", ["service-0", "service-1", "service-2"]),
        (".http.route", "string", ["/cart", "/check out"]),
        ("span.http.response.status_code", "int", ["200", "500"]),
        ("span.even", "bool", ["false", "true"]),
        ("span.k8s.labels.app.kubernetes.io/name", "string", ["cart"]),
        ("span.k8s.labels.app.kubernetes.io%2Fname", "string", ["cart"]),
        ("span.step", "int", ["0", "1", "2", "3"]),
        ("name", "string", ["GET /cart", "step 1", "step 2", "step 3"]),
        ("rootServiceName", "string", ["service-0", "service-1", "service-2"]),
        ("status", "keyword", ["error", "ok", "unset"]),
    ],
)
def test_tag_values_v2(filled, tag, kind, values):
    server, _ = filled
    found = server.json(f"/api/v2/search/tag/{tag}/values")["tagValues"]
    assert [value["value"] for value in found] == values
    assert {value["type"] for value in found} == {kind}


@pytest.mark.parametrize(
    ("query", "routes"),
    [
        ("{ span.step = 3 && span.http.", ["/cart", "/check out"]),
        ('{ resource.service.name = "service-0" && even = ', ["/cart", "/check out"]),
        ("{ span.ratio = 2.5 && span.http.route = ", ["/check out"]),
        ("{ span.ratio = 1000 }", []),
        ("{ not a query", ["/cart", "/check out"]),
    ],
)
def test_values_among_what_an_unfinished_query_selects(filled, query, routes):
    server, _ = filled
    found = server.json("/api/v2/search/tag/span.http.route/values", params={"q": query})["tagValues"]
    assert [value["value"] for value in found] == routes
    [scope] = server.json("/api/v2/search/tags", params={"q": query, "scope": "span"})["scopes"] or [{"tags": []}]
    assert ("http.route" in scope["tags"]) == bool(routes)


def test_names_of_a_time(filled):
    server, base = filled
    long_ago = {"start": base // SECOND - 7200, "end": base // SECOND - 3600}
    assert server.json("/api/v2/search/tag/span.http.route/values", params=long_ago)["tagValues"] == []
    assert server.json("/api/search/tag/service.name/values", params=long_ago)["tagValues"] == []


def test_nothing_changes_by_moving(filled):
    """Last, since it moves everything to files."""
    server, base = filled
    questions = [
        ("/api/search", {"limit": 100}),
        ("/api/search", {"q": "{ status = error }", "spss": 5}),
        ("/api/search/tags", {}),
        ("/api/v2/search/tags", {}),
        ("/api/v2/search/tag/span.http.route/values", {}),
        (f"/api/v2/traces/{trace_id(TRACES)}", {}),
        ("/api/v1/search", {"service": "service-1", "limit": 7}),
        (f"/api/v1/traces/{trace_id(TRACES)}", {}),
        (f"/api/v1/traces/{trace_id(TRACES)}/spans/{TRACES * 100:016x}", {}),
    ]

    def answers():
        found = [server.json(path, params=parameters) for path, parameters in questions]
        for answer in found:
            # How it was found may change; what was found may not.
            for how in ("metrics", "inspected", "elapsedNanos"):
                answer.pop(how, None)
        return [with_sorted_attributes(answer) for answer in found]

    before = answers()
    for step in (server.flush, server.compact, server.restart):
        step()
        for question, now, then in zip(questions, answers(), before, strict=True):
            assert now == then, question


def with_sorted_attributes(node):
    """Attributes are a set: files keep them in another order than memory."""
    if isinstance(node, dict):
        return {key: with_sorted_attributes(value) for key, value in node.items()}
    if isinstance(node, list):
        items = [with_sorted_attributes(item) for item in node]
        if all(isinstance(item, dict) and {"key", "value"} <= item.keys() for item in items):
            items.sort(key=lambda item: item["key"])
        return items
    return node
