"""OTLP messages: made by hand, and brought into one form in which what was sent and what came back can be compared."""

import base64
import time

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

HOUR_NANOS = 3_600_000_000_000


def middle_of_hour(hours_ago=1):
    """A moment, in nanoseconds, around which half an hour on either side lies in one and the same hour."""
    return (time.time_ns() // HOUR_NANOS - hours_ago) * HOUR_NANOS + HOUR_NANOS // 2


def value(content):
    """An AnyValue of a Python value; None is the value without any type."""
    made = AnyValue()
    match content:
        case None:
            pass
        case bool():
            made.bool_value = content
        case str():
            made.string_value = content
        case int():
            made.int_value = content
        case float():
            made.double_value = content
        case bytes():
            made.bytes_value = content
        case list():
            made.array_value.SetInParent()
            made.array_value.values.extend(value(item) for item in content)
        case dict():
            made.kvlist_value.SetInParent()
            made.kvlist_value.values.extend(attributes(content))
        case _:
            raise TypeError(type(content))
    return made


def attributes(pairs: dict):
    return [KeyValue(key=key, value=value(content)) for key, content in pairs.items()]


def request(spans, service="shop", resource=None, scope="by.hand", scope_version="1"):
    """A request with spans given as dictionaries of Span's fields (attributes as a plain dictionary)."""
    made = ExportTraceServiceRequest()
    resource_spans = made.resource_spans.add()
    resource_spans.resource.attributes.extend(attributes({"service.name": service} | (resource or {})))
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = scope
    scope_spans.scope.version = scope_version
    for fields in spans:
        fields = dict(fields)
        pairs = fields.pop("attributes", {})
        scope_spans.spans.add(**fields).attributes.extend(attributes(pairs))
    return made


def span(trace_id: bytes, span_id: bytes, start_nanos: int, duration_nanos=1_000_000, **fields):
    """The fields of a span, for `request`."""
    return {
        "trace_id": trace_id,
        "span_id": span_id,
        "name": "work",
        "kind": 1,
        "start_time_unix_nano": start_nanos,
        "end_time_unix_nano": start_nanos + duration_nanos,
    } | fields


def partial_success(answer):
    """Refused spans and the message of an answer to OTLP/HTTP in protobuf."""
    said = ExportTraceServiceResponse.FromString(answer.content).partial_success
    return said.rejected_spans, said.error_message


def _any(content: AnyValue):
    kind = content.WhichOneof("value")
    match kind:
        case None:
            return ("empty",)
        case "array_value":
            return ("array", tuple(_any(item) for item in content.array_value.values))
        case "kvlist_value":
            return ("kvlist", _pairs(content.kvlist_value.values))
        case "double_value":
            # Unlike ==, this knows NaN and the sign of zero.
            return (kind, content.double_value.hex())
        case _:
            return (kind, getattr(content, kind))


def _pairs(pairs):
    """Attributes are a set of pairs: their order says nothing."""
    return tuple(sorted(((pair.key, _any(pair.value)) for pair in pairs), key=repr))


def by_span(traces):
    """Every field of every span with those of its resource and scope: {(trace id, span id): {field: value}}.

    `traces` is any of OTLP's messages with `resource_spans`. A span that is there twice is an error.
    """
    found = {}
    for resource_spans in traces.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                key = (span.trace_id.hex(), span.span_id.hex())
                assert key not in found, f"span {key} is there twice"
                found[key] = _span(span) | {
                    "resource.attributes": _pairs(resource_spans.resource.attributes),
                    "resource.dropped": resource_spans.resource.dropped_attributes_count,
                    "resource.schema_url": resource_spans.schema_url,
                    "scope.name": scope_spans.scope.name,
                    "scope.version": scope_spans.scope.version,
                    "scope.attributes": _pairs(scope_spans.scope.attributes),
                    "scope.dropped": scope_spans.scope.dropped_attributes_count,
                    "scope.schema_url": scope_spans.schema_url,
                }
    return found


def _span(span):
    fields = {}
    for field in span.DESCRIPTOR.fields:
        content = getattr(span, field.name)
        match field.name:
            case "attributes":
                content = _pairs(content)
            case "events":
                content = tuple(
                    (event.time_unix_nano, event.name, _pairs(event.attributes), event.dropped_attributes_count)
                    for event in content
                )
            case "links":
                content = tuple(
                    (
                        link.trace_id.hex(),
                        link.span_id.hex(),
                        link.trace_state,
                        _pairs(link.attributes),
                        link.dropped_attributes_count,
                        link.flags,
                    )
                    for link in content
                )
            case "status":
                content = (content.code, content.message)
        fields[field.name] = content
    return fields


def fields_of(message):
    """The names of a message's fields, to notice when OTLP gets new ones that the comparison does not know."""
    return {field.name for field in message.DESCRIPTOR.fields}


def _tempo_messages():
    """`tempopb.TraceByIDResponse`, with OTLP's TracesData for `tempopb.Trace`, which has the same shape."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tempopb.proto", package="tempopb", syntax="proto3", dependency=[TracesData.DESCRIPTOR.file.name]
    )
    file.message_type.add(name="TraceByIDMetrics")
    response = file.message_type.add(name="TraceByIDResponse")
    message, integer, text = (
        getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{name}") for name in ("MESSAGE", "INT32", "STRING")
    )
    response.field.add(name="trace", number=1, type=message, type_name=f".{TracesData.DESCRIPTOR.full_name}", label=1)
    response.field.add(name="metrics", number=2, type=message, type_name=".tempopb.TraceByIDMetrics", label=1)
    response.field.add(name="status", number=3, type=integer, label=1)
    response.field.add(name="message", number=4, type=text, label=1)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tempopb.TraceByIDResponse"))


TraceByIDResponse = _tempo_messages()


def trace_as_protobuf(server, trace_id, may_be_partial=False, **arguments):
    answer = server.get(f"/api/v2/traces/{trace_id}", headers={"Accept": "application/protobuf"}, **arguments)
    assert answer.headers["Content-Type"] == "application/protobuf"
    response = TraceByIDResponse.FromString(answer.content)
    assert may_be_partial or (response.status, response.message) == (0, ""), response.message
    return response.trace


def trace_as_json(server, trace_id, **arguments):
    answer = server.get(f"/api/v2/traces/{trace_id}", headers={"Accept": "application/json"}, **arguments)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert "status" not in answer.json(), answer.json()["message"]
    # Refuses names that OTLP does not know.
    return json_format.ParseDict(answer.json()["trace"], TracesData())


def hex_json_to_traces(document: dict):
    """OTLP's own JSON, in which ids are hexadecimal, as a message."""

    def walk(node):
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        ids = ("traceId", "spanId", "parentSpanId")
        return {
            key: base64.b64encode(bytes.fromhex(item)).decode() if key in ids else walk(item)
            for key, item in node.items()
        }

    return json_format.ParseDict(walk(document), TracesData())
