"""Spans of the real OpenTelemetry SDK arrive whole, whatever protocol carries them, and stay whole on their way from
memory to files, through compaction and a restart."""

import base64
import json

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from otlp import by_span, fields_of, trace_as_json, trace_as_protobuf

EXPORTERS = {
    "grpc": lambda server: GrpcExporter(endpoint=server.otlp_grpc, insecure=True),
    "grpc-gzip": lambda server: GrpcExporter(
        endpoint=server.otlp_grpc, insecure=True, compression=grpc.Compression.Gzip
    ),
    "http": lambda server: HttpExporter(endpoint=server.otlp_http + "/v1/traces"),
    "http-gzip": lambda server: HttpExporter(endpoint=server.otlp_http + "/v1/traces", compression=Compression.Gzip),
}

ATTRIBUTES = {
    "text": "a value",
    "text.empty": "",
    "text.unicode": "Grüße, 世界, 👩‍🚀, \u0000 and \u202e",
    "int": 42,
    "int.zero": 0,
    "int.min": -(2**63),
    "int.max": 2**63 - 1,
    "double": 3.25,
    "double.whole": 1.0,
    "double.small": 5e-324,
    "double.negative.zero": -0.0,
    "double.infinite": float("inf"),
    "bool.true": True,
    "bool.false": False,
    "texts": ["one", "zwei", "三"],
    "ints": [1, -(2**53) - 1, 2**63 - 1],
    "doubles": [0.1, -1.5e300],
    "bools": [True, False],
    "none.of.them": [],
    "mixed": ["a", 1, 2.5, False, None, b"\x00\xff", ["inner", ["deeper"]]],
    "bytes": b"\x00\xff\x80text",
    "map": {"text": "x", "int": -1, "list": [1, {"more": b"\x01"}], "map": {"empty": {}}},
    "nothing": None,
    "http.route": "/cart/{id}",
    'a key "with" spaces = odd': "odd key",
}


class Sender:
    """A provider that sends to a server and remembers what it sent."""

    def __init__(self, exporter, limits=None, name="sender"):
        resource = Resource(
            {"service.name": name, "service.instance.id": "i-1", "host.cpus": 8, "tags": ["a", "b"], "größe": 1.5},
            schema_url="https://opentelemetry.io/schemas/1.40.0",
        )
        self.exporter = exporter
        self.sent = InMemorySpanExporter()
        self.provider = TracerProvider(resource=resource, span_limits=limits, shutdown_on_exit=False)
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self.provider.add_span_processor(SimpleSpanProcessor(self.sent))

    def tracer(self, *arguments, **more):
        return self.provider.get_tracer(*arguments, **more)

    def finish(self):
        """Sends what is left; returns all that was sent, as the SDK writes it."""
        assert self.provider.force_flush()
        self.provider.shutdown()
        return encode_spans(self.sent.get_finished_spans())


def send_everything(exporter):
    """A trace with all that the SDK can say; returns its id, and the request as the SDK encodes it."""
    sender = Sender(exporter, name="everything")
    tracer = sender.tracer(
        "library.name",
        "1.2.3",
        schema_url="https://opentelemetry.io/schemas/1.37.0",
        attributes={"scope.text": "x", "scope.int": 7},
    )
    plain_tracer = sender.tracer("no.version")
    other = SpanContext(
        0x0123456789ABCDEF0123456789ABCDEF, 0xFEDCBA9876543210, True, TraceFlags(1), TraceState([("other", "state")])
    )
    with tracer.start_as_current_span(
        "root – größer 🚀",
        kind=SpanKind.SERVER,
        attributes=ATTRIBUTES,
        links=[Link(other, {"link.text": "why", "link.ints": [1, 2]}), Link(other)],
    ) as root:
        root.add_event("empty event")
        event = {"event.text": "x", "event.doubles": [1.5, 2.5], "event.map": {"bytes": b"\x00"}}
        root.add_event("event", event, timestamp=1_700_000_000_123_456_789)
        root.set_status(Status(StatusCode.OK))
        for kind in SpanKind:
            with tracer.start_as_current_span(f"kind {kind.name}", kind=kind) as child:
                child.set_attribute("http.route", "/by/kind")
        try:
            with plain_tracer.start_as_current_span("fails"):
                raise ValueError("it does not work – ünïcode\nsecond line")
        except ValueError:
            pass
        with plain_tracer.start_as_current_span("unset"):
            pass
        with plain_tracer.start_as_current_span("error without words") as child:
            child.set_status(StatusCode.ERROR)
    return f"{root.get_span_context().trace_id:032x}", sender.finish()


def send_beneath_remote_parent(exporter):
    """A span with a parent elsewhere, whose trace state it carries on."""
    sender = Sender(exporter, name="remote-child")
    state = TraceState([("ot", "th:8;rv:c0ffee00c0ffee"), ("vendor", "a/b:c")])
    parent = SpanContext(0xABCDEF << 96 | 5, 0x1111222233334444, True, TraceFlags(1), state)
    context = trace.set_span_in_context(NonRecordingSpan(parent))
    with sender.tracer("remote").start_as_current_span("continues", context=context, kind=SpanKind.SERVER) as child:
        with sender.tracer("remote").start_as_current_span("within"):
            pass
    return f"{child.get_span_context().trace_id:032x}", sender.finish()


def send_over_limits(exporter):
    """What the SDK itself drops, it counts."""
    limits = SpanLimits(
        max_span_attributes=3,
        max_events=2,
        max_links=1,
        max_event_attributes=1,
        max_link_attributes=1,
        max_span_attribute_length=5,
    )
    sender = Sender(exporter, limits=limits, name="limited")
    other = SpanContext(1, 2, False)
    pairs = {"a": "1234567", "b": 2, "c": 3, "d": 4, "e": 5}
    links = [Link(other, pairs), Link(other, pairs), Link(other, pairs)]
    with sender.tracer("limited").start_as_current_span("limited", attributes=pairs, links=links) as span:
        for number in range(7):
            span.add_event(f"event {number}", pairs)
    return f"{span.get_span_context().trace_id:032x}", sender.finish()


SENDERS = {"everything": send_everything, "remote parent": send_beneath_remote_parent, "limits": send_over_limits}


def assert_whole(server, sent, stage):
    """Every trace comes back with exactly the fields that were sent, in JSON and in protobuf."""
    for (protocol, kind), (trace_id, request) in sent.items():
        expected = by_span(request)
        for name, ask in (("JSON", trace_as_json), ("protobuf", trace_as_protobuf)):
            found = by_span(ask(server, trace_id))
            assert found == expected, f"{kind} over {protocol}, asked in {name}, {stage}"


def test_the_comparison_knows_all_fields():
    """If OTLP gets a new field, by_span must learn it, or the tests here would not see it lost."""
    assert fields_of(trace_pb2.ResourceSpans) == {"resource", "scope_spans", "schema_url"}
    assert fields_of(trace_pb2.ScopeSpans) == {"scope", "spans", "schema_url"}
    assert fields_of(trace_pb2.Span.Event) == {"time_unix_nano", "name", "attributes", "dropped_attributes_count"}
    assert fields_of(trace_pb2.Span.Link) == {
        "trace_id",
        "span_id",
        "trace_state",
        "attributes",
        "dropped_attributes_count",
        "flags",
    }
    assert fields_of(trace_pb2.Status) == {"message", "code"}


def test_the_tests_send_what_they_are_about(new_tracehouse):
    """The comparisons below would hold for spans without content just as well."""
    server = new_tracehouse().start()
    _, request = send_everything(EXPORTERS["http"](server))
    spans = {fields["name"]: fields for fields in by_span(request).values()}
    root = spans["root – größer 🚀"]
    assert {key for key, _ in root["attributes"]} == set(ATTRIBUTES)
    assert {value[0] for _, value in root["attributes"]} == {
        "string_value",
        "int_value",
        "double_value",
        "bool_value",
        "bytes_value",
        "array",
        "kvlist",
        "empty",
    }
    assert [len(root[field]) for field in ("events", "links")] == [2, 2]
    assert root["scope.attributes"] and root["scope.schema_url"] and root["resource.schema_url"]
    assert {fields["kind"] for fields in spans.values()} == {1, 2, 3, 4, 5}
    assert spans["fails"]["status"] == (2, "ValueError: it does not work – ünïcode\nsecond line")
    assert spans["fails"]["events"][0][1] == "exception"
    _, request = send_beneath_remote_parent(EXPORTERS["http"](server))
    remote = next(fields for fields in by_span(request).values() if fields["name"] == "continues")
    assert remote["trace_state"] == "ot=th:8;rv:c0ffee00c0ffee,vendor=a/b:c"
    assert remote["parent_span_id"].hex() == "1111222233334444"
    assert remote["flags"] == 0x300
    _, request = send_over_limits(EXPORTERS["http"](server))
    [limited] = by_span(request).values()
    dropped = [limited[f"dropped_{what}_count"] for what in ("attributes", "events", "links")]
    assert dropped == [2, 5, 2]
    assert limited["events"][0][3] == 4 and limited["links"][0][4] == 4


def test_every_field_survives_every_stage(new_tracehouse):
    server = new_tracehouse().start()
    sent = {}
    for protocol, exporter in EXPORTERS.items():
        for kind, send in SENDERS.items():
            if kind == "remote parent" and protocol != "grpc":
                continue  # Its trace id is always the same.
            sent[protocol, kind] = send(exporter(server))
    count = sum(len(by_span(request)) for _, request in sent.values())

    status = server.json("/api/v1/status")
    assert (status["spansHot"], status["spansStored"]) == (count, 0)
    assert_whole(server, sent, "in memory")

    assert server.flush()["spans"] == count
    status = server.json("/api/v1/status")
    assert (status["spansHot"], status["spansStored"]) == (0, count)
    assert_whole(server, sent, "in a flushed file")

    assert server.compact()["spans"] == count
    assert_whole(server, sent, "in a compacted file")

    server.restart()
    assert_whole(server, sent, "after a restart")

    server.kill()
    server.start()
    assert_whole(server, sent, "after a crash")


def test_every_field_survives_in_the_log(new_tracehouse):
    """Killed before the first flush: all is read back from the log."""
    server = new_tracehouse().start()
    sent = {(protocol, "everything"): send_everything(EXPORTERS[protocol](server)) for protocol in ("grpc", "http")}
    server.kill()
    assert server.parquet_files() == []
    server.start()
    assert_whole(server, sent, "from the log")


def test_spans_of_one_trace_meet_in_memory_and_files(new_tracehouse):
    """Half of a trace is in a file, then half in memory, then each in a file of its own, then both in one."""
    server = new_tracehouse().start()
    senders = [Sender(EXPORTERS["grpc"](server), name=name) for name in ("first", "second")]
    with senders[0].tracer("t").start_as_current_span("parent", attributes=ATTRIBUTES) as parent:
        context = trace.set_span_in_context(parent)
    trace_id = f"{parent.get_span_context().trace_id:032x}"
    expected = by_span(senders[0].finish())
    server.flush()
    with senders[1].tracer("t").start_as_current_span("late child", context=context, attributes={"late": True}):
        pass
    expected |= by_span(senders[1].finish())
    assert len(expected) == 2
    for step in (lambda: None, server.flush, server.compact, server.restart):
        step()
        assert by_span(trace_as_protobuf(server, trace_id)) == expected
        compact = server.json(f"/api/v1/traces/{trace_id}")
        assert (compact["spanCount"], compact["spans"]["parent"]) == (2, [-1, 0])


def test_native_api_and_command_line(new_tracehouse):
    server = new_tracehouse().start()
    trace_id, request = send_everything(EXPORTERS["grpc"](server))
    expected = by_span(request)
    for stage in (lambda: None, server.flush):
        stage()
        check_native(server, trace_id, expected)
        check_command_line(server, trace_id, expected)


def check_native(server, trace_id, expected):
    compact = server.json(f"/api/v1/traces/{trace_id}")
    assert compact["spanCount"] == compact["returned"] == len(expected)
    assert compact["complete"] is True and compact["errorCount"] == 2
    assert compact["rootServiceName"] == "everything" and compact["rootSpanName"] == "root – größer 🚀"
    spans = compact["spans"]
    assert sorted(spans["id"]) == sorted(span_id for _, span_id in expected)
    assert spans["parent"] == [-1] + [0] * (len(expected) - 1)
    for at, span_id in enumerate(spans["id"]):
        fields = expected[trace_id, span_id]
        assert compact["names"][spans["name"][at]] == fields["name"]
        assert spans["kind"][at] == fields["kind"]
        assert spans["status"][at] == fields["status"][0]
        assert int(compact["startTimeUnixNano"]) + spans["start"][at] == fields["start_time_unix_nano"]
        assert spans["duration"][at] == fields["end_time_unix_nano"] - fields["start_time_unix_nano"]
        assert [spans[what][at] for what in ("events", "links")] == [len(fields["events"]), len(fields["links"])]
        assert spans["exception"][at] == any(event[1] == "exception" for event in fields["events"])

    root = server.json(f"/api/v1/traces/{trace_id}/spans/{spans['id'][0]}")
    assert (root["kind"], root["status"], root["marks"]) == ("server", {"code": "ok", "message": ""}, [])
    values = {pair["key"]: (pair["type"], pair["value"]) for pair in root["attributes"]}
    assert set(values) == set(ATTRIBUTES)
    assert values["text.unicode"] == ("string", ATTRIBUTES["text.unicode"])
    assert values["int.min"] == ("int", str(-(2**63)))
    assert values["double.infinite"] == ("double", "Infinity")
    assert values["bool.false"] == ("bool", False)
    assert values["bytes"] == ("bytes", base64.b64encode(ATTRIBUTES["bytes"]).decode())
    assert values["map"][0] == "kvlist" and values["nothing"][0] == "empty"
    assert values["texts"] == ("array", ["one", "zwei", "三"])
    assert root["resource"]["schemaUrl"] == "https://opentelemetry.io/schemas/1.40.0"
    assert (root["scope"]["name"], root["scope"]["version"]) == ("library.name", "1.2.3")
    assert root["events"][1]["timeUnixNano"] == "1700000000123456789"
    assert root["links"][0]["traceId"] == "0123456789abcdef0123456789abcdef"

    found = server.json(f"/api/v1/traces/{trace_id}/find", params={"q": "ÜNÏCODE"})
    assert found["total"] == 1
    assert compact["names"][spans["name"][found["indices"][0]]] == "fails"


def check_command_line(server, trace_id, expected):
    answer = json.loads(server.client("trace", "get", trace_id, "--json").stdout)
    assert sorted(answer["spans"]["id"]) == sorted(span_id for _, span_id in expected)
    tree = server.client("trace", "get", trace_id).stdout
    for fields in expected.values():
        assert fields["name"] in tree
    server.client("trace", "get", "f" * 32, expect=1)

    search = json.loads(server.client("search", "--json", "--service", "everything", "--attr", "int=42").stdout)
    assert [found["traceId"] for found in search["traces"]] == [trace_id]
    assert trace_id in server.client("search", "--query", '{ span.text = "a value" && kind = server }').stdout
    server.client("search", "--service", "nobody", expect=1)


@pytest.mark.parametrize(
    "condition",
    [
        {"service": "everything"},
        {"operation": "root – größer 🚀"},
        {"status": "error"},
        {"kind": "producer"},
        {"attr": "text=a value"},
        {"attr": "span.int=42"},
        {"attr": "int.max=9223372036854775807"},
        {"attr": "int>41"},
        {"attr": "double=3.25"},
        {"attr": "double<=3.25"},
        {"attr": "bool.true=true"},
        {"attr": "bool.false=false"},
        {"attr": "resource.host.cpus=8"},
        {"attr": "resource.größe=1.5"},
        {"attr": "text=~a v.*"},
        {"attr": "text.unicode=~.*世界.*"},
        {"attr": "http.route!=/by/kind", "operation": "root – größer 🚀"},
        {"q": '{ span.text = "a value" }'},
        {"q": '{ .int = 42 && resource.service.name = "everything" }'},
        {"q": "{ span.double > 3.2 && span.double < 3.3 }"},
        {"q": "{ span.bool.true = true }"},
        {"q": "{ status = error }"},
        {"q": "{ kind = consumer }"},
        {"q": '{ name =~ "kind .*" }'},
    ],
    ids=str,
)
def test_search_finds_what_the_sdk_sent(shared_server, condition):
    server, trace_id, decoy_id = shared_server
    for stage in ("hot", "stored"):
        found = [trace["traceId"] for trace in server.search(tenant=stage, **condition)["traces"]]
        assert found == [trace_id[stage]], f"{condition} {stage}"
        assert decoy_id[stage] in [trace["traceId"] for trace in server.search(tenant=stage)["traces"]]


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory):
    """Two tenants with the same: one in memory, one in files. Beside the trace that is looked for is one that has
    nothing of it."""
    from tracehouse import Tracehouse

    server = Tracehouse(tmp_path_factory.mktemp("shared")).start()
    trace_id, decoy_id = {}, {}
    for tenant in ("stored", "hot"):
        headers = (("x-scope-orgid", tenant),)
        exporters = [GrpcExporter(endpoint=server.otlp_grpc, insecure=True, headers=headers) for _ in range(2)]
        trace_id[tenant], _ = send_everything(exporters[0])
        decoy_id[tenant] = send_decoy(exporters[1])
        if tenant == "stored":
            server.flush()
    yield server, trace_id, decoy_id
    server.kill()


def send_decoy(exporter):
    sender = Sender(exporter, name="everything else")
    sender.provider._resource = Resource({"service.name": "everything else"})
    pairs = {"text": "another value", "int": 41, "http.route": "/by/kind"}
    with sender.provider.get_tracer("decoy").start_as_current_span("decoy", attributes=pairs) as span:
        pass
    sender.finish()
    return f"{span.get_span_context().trace_id:032x}"
