"""The OTLP specification's own example, and every field of OTLP at once, come out as they went in."""

import base64
import gzip
import json
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otlp import attributes, by_span, hex_json_to_traces, middle_of_hour, request, span, trace_as_json, trace_as_protobuf

EXAMPLE = Path(__file__).parents[1] / "data" / "otlp-trace.json"
EXAMPLE_TRACE = "5b8efff798038103d269b633813fc60c"
# The example is of 2018, older than the default retention allows.
KEEP_ALWAYS = {"store": {"retention": "36500d"}}


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_the_specifications_example(new_tracehouse, compression):
    server = new_tracehouse(KEEP_ALWAYS).start()
    body = EXAMPLE.read_bytes()
    headers = {}
    if compression:
        body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
    answer = server.post_otlp(body, "application/json", headers=headers)
    assert answer.json() == {}
    expected = by_span(hex_json_to_traces(json.loads(EXAMPLE.read_text())))
    assert list(expected) == [(EXAMPLE_TRACE, "eee19b7ec3c1b174")]
    for stage in (lambda: None, server.flush, server.compact, server.restart):
        stage()
        for ask in (trace_as_json, trace_as_protobuf):
            assert by_span(ask(server, EXAMPLE_TRACE)) == expected, stage
    # A hundred years are not too far back for a search, either.
    found = server.search(service="my.service", attr="my.span.attr=some value", start="2018-12-13T00:00:00Z")
    assert [trace["traceId"] for trace in found["traces"]] == [EXAMPLE_TRACE]
    [file] = server.parquet_files()
    assert "/date=2018-12-13/hour=14/" in str(file)


def test_spans_older_than_what_is_kept_are_refused(new_tracehouse):
    """They would be acknowledged and then deleted: the sender is told instead, and what to do."""
    server = new_tracehouse().start()
    # A new store knows no time, and takes nothing for old before somebody vouches for the clock.
    server.request("POST", "/api/v1/admin/trust-clock", json={})
    refused = server.post_otlp(EXAMPLE.read_bytes(), "application/json").json()["partialSuccess"]
    assert refused["rejectedSpans"] == "1"
    assert "store.retention" in refused["errorMessage"] and "168 h" in refused["errorMessage"]
    server.get(f"/api/v1/traces/{EXAMPLE_TRACE}", expect=404)
    sample = 'tracehouse_pipeline_refused_spans_total{reason="older_than_retention"}'
    assert server.metrics()[sample] == 1


# Every field of OTLP's trace messages, by hand: no SDK sends all of them.
NESTED = {"list": [1, "two", None, {"three": [3.0, b"\x03"]}], "map": {"a": {"b": {"c": True}}}, "none": None}


def everything():
    made = ExportTraceServiceRequest()
    for number in (1, 2):
        resource_spans = made.resource_spans.add(schema_url=f"https://schema.example/resource/{number}")
        resource_spans.resource.attributes.extend(attributes({"service.name": f"s{number}", "nested": NESTED}))
        resource_spans.resource.dropped_attributes_count = 10 + number
        for scope_number in (1, 2):
            scope_spans = resource_spans.scope_spans.add(schema_url=f"https://schema.example/scope/{scope_number}")
            scope_spans.scope.name = f"scope {scope_number}"
            scope_spans.scope.version = f"v{scope_number}"
            scope_spans.scope.attributes.extend(attributes({"scope.nested": NESTED, "n": scope_number}))
            scope_spans.scope.dropped_attributes_count = 20 + scope_number
            for kind in range(6):
                full_span(scope_spans.spans.add(), bytes([number, scope_number, kind + 1, 0, 0, 0, 0, 9]), kind)
    # Neither resource nor scope are said.
    bare = made.resource_spans.add().scope_spans.add().spans.add()
    bare.trace_id, bare.span_id = TRACE, b"\xff" * 8
    bare.start_time_unix_nano = bare.end_time_unix_nano = START
    return made


TRACE = bytes(range(16))
START = 1_750_000_000_123_456_789


def full_span(made, span_id, kind):
    made.trace_id, made.span_id, made.parent_span_id = TRACE, span_id, b"\x77" * 8
    made.trace_state = f"ot=th:c;rv:{kind:014x},vendor=x"
    made.flags = 0x301
    made.name = f"kind {kind}"
    made.kind = kind
    made.start_time_unix_nano = START + kind
    made.end_time_unix_nano = START + 5_000_000_001
    made.attributes.extend(attributes({"nested": NESTED, "kind": kind, "double": -0.5, "": "empty key"}))
    made.dropped_attributes_count = 2**32 - 1
    made.dropped_events_count, made.dropped_links_count = 4, 5
    made.status.code, made.status.message = kind % 3, "words" if kind % 3 else ""
    for number in range(3):
        event = made.events.add(time_unix_nano=START - number, name=f"event {number}", dropped_attributes_count=number)
        event.attributes.extend(attributes({"nested": NESTED, "number": number}))
        link = made.links.add(trace_id=bytes([number + 1] * 16), span_id=bytes([number + 1] * 8), flags=0x100 + number)
        link.trace_state, link.dropped_attributes_count = f"l={number}", number
        link.attributes.extend(attributes({"nested": NESTED, "number": number}))


def test_every_field_of_otlp(new_tracehouse):
    server = new_tracehouse(KEEP_ALWAYS).start()
    sent = everything()
    rejected = server.post_otlp(sent.SerializeToString())
    assert rejected.content == b""
    expected = by_span(sent)
    assert len(expected) == 25
    for stage in (lambda: None, server.flush, server.compact, server.restart):
        stage()
        for ask in (trace_as_json, trace_as_protobuf):
            found = by_span(ask(server, TRACE.hex()))
            assert found.keys() == expected.keys()
            for key, fields in expected.items():
                assert found[key] == fields


def test_json_is_read_as_the_specification_says(new_tracehouse):
    """64-bit integers as texts and as numbers, unknown fields, base64 bytes, ids in both cases, doubles by name."""
    server = new_tracehouse(KEEP_ALWAYS).start()
    start = "1750000000000000001"
    spans = [
        {
            "traceId": "ABCDEFABCDEFABCDEFABCDEFABCDEFAB",
            "spanId": f"00000000000000{number:02x}",
            "parentSpanId": "",
            "name": "json",
            "kind": 3,
            "startTimeUnixNano": form(start),
            "endTimeUnixNano": form("1750000000000000003"),
            "futureField": {"is": ["ignored"]},
            "status": {"code": 2, "message": "m"},
            "attributes": [
                {"key": "int", "value": {"intValue": form("9007199254740993")}},
                {"key": "double", "value": {"doubleValue": 1.5}},
                {"key": "nan", "value": {"doubleValue": "NaN"}},
                {"key": "bytes", "value": {"bytesValue": base64.b64encode(b"\x00\x01\xfe").decode()}},
                {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": False}, {"stringValue": "ü"}]}}},
                {"key": "map", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": "-1"}}]}}},
            ],
        }
        for number, form in ((1, str), (2, int))
    ]
    server.post_otlp(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}), "application/json")
    found = by_span(trace_as_protobuf(server, "abcdefabcdefabcdefabcdefabcdefab"))
    assert len(found) == 2
    for fields in found.values():
        assert (fields["name"], fields["kind"], fields["status"]) == ("json", 3, (2, "m"))
        assert fields["start_time_unix_nano"] == 1750000000000000001
        assert fields["end_time_unix_nano"] == 1750000000000000003
        assert fields["attributes"] == (
            ("bytes", ("bytes_value", b"\x00\x01\xfe")),
            ("double", ("double_value", (1.5).hex())),
            ("int", ("int_value", 9007199254740993)),
            ("list", ("array", (("bool_value", False), ("string_value", "ü")))),
            ("map", ("kvlist", (("k", ("int_value", -1)),))),
            ("nan", ("double_value", "nan")),
        )


def test_empty_requests_are_fine(new_tracehouse):
    tracehouse = new_tracehouse(KEEP_ALWAYS).start()
    for content_type, empty in (("application/x-protobuf", b""), ("application/json", b"{}")):
        answer = tracehouse.post_otlp(b"", content_type)
        assert (answer.content, answer.headers["Content-Type"]) == (empty, content_type)
    nothing = request([]).SerializeToString()
    assert tracehouse.post_otlp(nothing).content == b""
    assert tracehouse.search()["traces"] == []
    # Still there for others.
    tracehouse.post_otlp(request([span(b"\x01" * 16, b"\x02" * 8, START)]).SerializeToString())
    assert len(tracehouse.search(start="2025-06-15T00:00:00Z")["traces"]) == 1


def test_other_spans_under_the_same_ids(tracehouse):
    """They have ids, kind and start in common, but not what they say: no copies, wherever they lie."""
    trace, start, count = b"\x07" * 16, middle_of_hour(), 300
    spans = [span(trace, b"\x01" * 8, start, attributes={"number": number}) for number in range(count)]
    body = request(spans).SerializeToString()
    for stage in (lambda: None, tracehouse.flush, tracehouse.compact):
        # Each is sent again as well, and counts once.
        tracehouse.post_otlp(body)
        stage()
        assert tracehouse.json(f"/api/v1/traces/{trace.hex()}")["spanCount"] == count
        [found] = tracehouse.search(q=f"{{ }} | count() >= {count}")["traces"]
        assert found["spanCount"] == count
        query = {"query": "SELECT count(*) FROM spans"}
        assert tracehouse.request("POST", "/api/v1/sql", json=query).json()["rows"] == [[count]]
