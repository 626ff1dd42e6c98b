"""What is too large, wrong, too slow or hostile is refused or cut, said and counted; everyone else goes on."""

import gzip
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from otlp import attributes, by_span, middle_of_hour, partial_success, request, span, trace_as_protobuf

MIB = 2**20
TRACE = bytes(range(1, 17))
SPAN = bytes(range(1, 9))


def one_span(number=1, **fields):
    return span(TRACE, number.to_bytes(8), middle_of_hour(), **fields)


class RawGrpc:
    """`TraceService/Export` with bytes for messages, so that anything can be sent."""

    def __init__(self, server, compression=None):
        options = [("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(server.otlp_grpc.removeprefix("http://"), options, compression)
        path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        self.export = self.channel.unary_unary(path, lambda body: body, ExportTraceServiceResponse.FromString)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def refused(self, body):
        with pytest.raises(grpc.RpcError) as raised:
            self.export(body, timeout=30)
        return raised.value


def assert_works(server, number=4242):
    """Others are served as if nothing had happened."""
    server.post_otlp(request([one_span(number)]).SerializeToString())
    found = by_span(trace_as_protobuf(server, TRACE.hex()))
    assert (TRACE.hex(), f"{number:016x}") in found


def peak_growth(server, act):
    """How much more memory the process took than ever before, in bytes, while something was done."""
    _, before = server.memory_bytes()
    act()
    return server.memory_bytes()[1] - before


# Size


def request_of(size):
    """A right request of about so many bytes."""
    text = "x" * 1000
    return request([one_span(number, attributes={"text": text}) for number in range(1, size // 1075)])


def test_a_request_that_is_too_large(tracehouse):
    body = request_of(20 * MIB).SerializeToString()
    assert len(body) > 16 * MIB
    answer = tracehouse.post_otlp(body, expect=413)
    assert "16777216" in answer.text and "Retry-After" not in answer.headers
    with RawGrpc(tracehouse) as raw:
        error = raw.refused(body)
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and "16777216" in error.details()
        # Without this a client must not try again: it would be refused for ever.
        assert "grpc-status-details-bin" not in {key for key, _ in error.trailing_metadata()} or (
            b"RetryInfo" not in dict(error.trailing_metadata())["grpc-status-details-bin"]
        )
        # The connection is still good.
        assert raw.export(request([one_span()]).SerializeToString()) == ExportTraceServiceResponse()
    # Announced by nobody: in pieces.
    answer = tracehouse.post_otlp((body[at : at + MIB] for at in range(0, len(body), MIB)), expect=None)
    assert answer.status_code == 413
    assert tracehouse.metric_sum("tracehouse_receive_refused_requests_total") == 3
    assert_works(tracehouse)


def test_a_request_that_is_just_not_too_large(tracehouse):
    made = request_of(15 * MIB)
    body = made.SerializeToString()
    assert 14 * MIB < len(body) < 16 * MIB
    spans = len(made.resource_spans[0].scope_spans[0].spans)
    assert partial_success(tracehouse.post_otlp(body)) == (0, "")
    with RawGrpc(tracehouse, grpc.Compression.Gzip) as raw:
        assert raw.export(body) == ExportTraceServiceResponse()
    # The same spans twice.
    assert tracehouse.json(f"/api/v1/traces/{TRACE.hex()}")["spanCount"] == spans


def test_a_gzip_bomb(tracehouse):
    """A gigabyte in a megabyte, and less for gRPC, whose client compresses by itself. The limit is 64 MiB."""
    bomb = gzip.compress(b"\0" * (64 * MIB), 9) * 16
    assert len(bomb) < 2 * MIB
    assert_works(tracehouse)

    def send():
        for _ in range(3):
            answer = tracehouse.post_otlp(bomb, headers={"Content-Encoding": "gzip"}, expect=413)
            assert "after decompression" in answer.text
        with RawGrpc(tracehouse, grpc.Compression.Gzip) as raw:
            error = raw.refused(b"\0" * (200 * MIB))
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and "after decompression" in error.details()

    # Room for 64 MiB is what is allowed. Growing that and the allocator's stock come on top; a gigabyte does not.
    assert peak_growth(tracehouse, send) < 320 * MIB
    assert_works(tracehouse, 4243)


def test_requests_that_are_nothing(tracehouse):
    right = request([one_span()]).SerializeToString()
    for body, headers, status in (
        (b"\xff" * 100, {}, 400),
        (right[:-1], {}, 400),
        (right, {"Content-Encoding": "gzip"}, 400),
        (gzip.compress(right)[:-4], {"Content-Encoding": "gzip"}, 400),
        (right, {"Content-Encoding": "br"}, 415),
        (right, {"Content-Type": "text/plain"}, 415),
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"[]", {"Content-Type": "application/json"}, 400),
        (b'{"resourceSpans": 1}', {"Content-Type": "application/json"}, 400),
    ):
        answer = tracehouse.post_otlp(body, headers=headers, expect=None)
        assert answer.status_code == status, (body[:20], headers, answer.text)
        assert answer.content, "a refusal says why"
    with RawGrpc(tracehouse) as raw:
        assert raw.refused(b"\xff" * 100).code() == grpc.StatusCode.INVALID_ARGUMENT
    assert tracehouse.json("/api/v1/status")["spansHot"] == 0
    assert_works(tracehouse)


# Spans that are wrong


def test_wrong_spans_are_refused_one_by_one(tracehouse):
    now = time.time_ns()
    right = [span(TRACE, bytes([number] * 8), now) for number in range(1, 6)]
    wrong = [
        span(b"\0" * 16, SPAN, now),
        span(TRACE, b"\0" * 8, now),
        span(TRACE[:15], SPAN, now),
        span(TRACE + b"1", SPAN, now),
        span(b"", SPAN, now),
        span(TRACE, SPAN[:7], now),
        span(TRACE, b"", now),
        span(TRACE, b"\x77" * 8, now, parent_span_id=b"123"),
        span(TRACE, b"\x78" * 8, 0),
        span(TRACE, b"\x79" * 8, 1_750_000_000),
        span(TRACE, b"\x7a" * 8, 2**63),
        span(TRACE, b"\x7b" * 8, now + 48 * 3_600 * 10**9),
    ]
    mixed = [pair for pairs in zip(wrong, [*right, *[None] * 7], strict=True) for pair in pairs if pair]
    body = request(mixed).SerializeToString()
    rejected, message = partial_success(tracehouse.post_otlp(body))
    assert rejected == len(wrong)
    for words in (
        "trace id",
        "span id",
        "parent span id",
        "start time is missing",
        "year 2000",
        "ahead of this server",
    ):
        assert words in message, message
    with RawGrpc(tracehouse) as raw:
        assert raw.export(body).partial_success.rejected_spans == len(wrong)
    document = {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {"traceId": TRACE.hex(), "spanId": "0" * 16, "name": "x", "startTimeUnixNano": str(now)},
                            {"traceId": TRACE.hex(), "spanId": "aa" * 8, "name": "x", "startTimeUnixNano": str(now)},
                        ]
                    }
                ]
            }
        ]
    }
    answer = tracehouse.post_otlp(json.dumps(document), "application/json").json()
    assert answer["partialSuccess"]["rejectedSpans"] == "1" and "span id" in answer["partialSuccess"]["errorMessage"]
    found = by_span(trace_as_protobuf(tracehouse, TRACE.hex()))
    assert {span_id for _, span_id in found} == {made["span_id"].hex() for made in right} | {"aa" * 8}
    # What came both ways counts once.
    counted = tracehouse.request("POST", "/api/v1/sql", json={"query": "SELECT count(*) FROM spans"})
    assert counted.json()["rows"] == [[len(right) + 1]]
    counted = tracehouse.metric_sum("tracehouse_receive_rejected_spans_total")
    assert counted == 2 * len(wrong) + 1


def test_spans_that_can_be_repaired_are_marked(tracehouse):
    now = middle_of_hour()
    repaired = {
        "end_before_start": span(TRACE, b"\x01" * 8, now, duration_nanos=-5_000),
        "no_end": span(TRACE, b"\x02" * 8, now) | {"end_time_unix_nano": 0},
        "unknown_enum": span(TRACE, b"\x03" * 8, now, kind=77),
        "own_parent": span(TRACE, b"\x04" * 8, now, parent_span_id=b"\x04" * 8),
    }
    assert partial_success(tracehouse.post_otlp(request(repaired.values()).SerializeToString())) == (0, "")
    for stage in (lambda: None, tracehouse.flush, tracehouse.compact):
        stage()
        for mark, made in repaired.items():
            answer = tracehouse.json(f"/api/v1/traces/{TRACE.hex()}/spans/{made['span_id'].hex()}")
            assert answer["marks"] == [mark]
            assert answer["startTimeUnixNano"] == str(now)
            if mark in ("end_before_start", "no_end"):
                assert answer["durationNanos"] == 0
            if mark == "own_parent":
                assert answer["parentSpanId"] == ""
            if mark == "unknown_enum":
                assert answer["kind"] == "unspecified"


# Attributes that are too much


def test_long_values_are_cut_and_marked(tracehouse):
    limit = 16 * 1024
    sent = {
        "fits": "x" * limit,
        "long": "y" * (limit + 1),
        # Never in the middle of a character.
        "wide": "ü" * limit,
        "bytes": b"\x01" * (limit * 2),
    }
    made = request([one_span(1, attributes=sent), one_span(2, attributes={"fits": "x" * limit})])
    assert partial_success(tracehouse.post_otlp(made.SerializeToString())) == (0, "")
    for stage in (lambda: None, tracehouse.flush, tracehouse.compact):
        stage()
        answer = tracehouse.json(f"/api/v1/traces/{TRACE.hex()}/spans/{1:016x}")
        assert answer["marks"] == ["value_cut"]
        values = {pair["key"]: pair["value"] for pair in answer["attributes"]}
        assert values["fits"] == sent["fits"]
        assert values["long"] == "y" * limit
        assert values["wide"] == "ü" * (limit // 2)
        assert len(values["bytes"]) < limit * 4 / 3 + 10
        assert tracehouse.json(f"/api/v1/traces/{TRACE.hex()}/spans/{2:016x}")["marks"] == []
    assert tracehouse.metric_sum("tracehouse_receive_values_cut_total") == 3


def test_what_is_too_many_is_dropped_and_counted(tracehouse):
    events = [{"name": f"event {number}", "time_unix_nano": number + 1} for number in range(1030)]
    links = [{"trace_id": TRACE, "span_id": number.to_bytes(8)} for number in range(1, 1031)]
    many = {f"key {number:03}": number for number in range(300)}
    made = one_span(1, attributes=many, events=events, links=links, dropped_attributes_count=1000)
    tracehouse.post_otlp(request([made]).SerializeToString())
    [found] = by_span(trace_as_protobuf(tracehouse, TRACE.hex())).values()
    assert [len(found[field]) for field in ("attributes", "events", "links")] == [256, 1024, 1024]
    dropped = [found[f"dropped_{field}_count"] for field in ("attributes", "events", "links")]
    assert dropped == [1044, 6, 6]
    assert tracehouse.json(f"/api/v1/traces/{TRACE.hex()}/spans/{1:016x}")["marks"] == ["over_limit"]


def nested(depth):
    """A value of so many arrays around an int, encoded from the inside out: the library's own encoder recurses."""
    encoded = AnyValue(int_value=7).SerializeToString()
    for _ in range(depth):
        array = b"\x0a" + varint(len(encoded)) + encoded
        encoded = b"\x2a" + varint(len(array)) + array
    return encoded


def varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def with_attribute(encoded_value):
    """A request with a span that has the attribute `deep` of this encoded value, and `flat`."""
    made = request([one_span(1)])
    pair = b"\x0a\x04deep\x12" + varint(len(encoded_value)) + encoded_value
    flat = attributes({"flat": 1})[0].SerializeToString()
    extra = b"\x4a" + varint(len(pair)) + pair + b"\x4a" + varint(len(flat)) + flat
    spans = made.resource_spans[0].scope_spans[0].spans[0].SerializeToString() + extra
    scope = made.resource_spans[0].scope_spans[0]
    del scope.spans[:]
    scope_spans = scope.SerializeToString() + b"\x12" + varint(len(spans)) + spans
    resource = made.resource_spans[0]
    del resource.scope_spans[:]
    resource_spans = resource.SerializeToString() + b"\x12" + varint(len(scope_spans)) + scope_spans
    return b"\x0a" + varint(len(resource_spans)) + resource_spans


@pytest.mark.parametrize("depth", [1, 16, 17, 100, 5_000])
def test_deep_values_in_protobuf(tracehouse, depth):
    """Up to 16 levels are kept whole; deeper ones are dropped and counted, and no stack overflows."""
    tracehouse.post_otlp(with_attribute(nested(depth)))
    check_depth(tracehouse, depth)


@pytest.mark.parametrize("depth", [1, 16, 17, 100, 5_000])
def test_deep_values_in_json(tracehouse, depth):
    value = '{"arrayValue":{"values":[' * depth + '{"intValue":"7"}' + "]}}" * depth
    flat = {"key": "flat", "value": {"intValue": 1}}
    start = middle_of_hour()
    made = {
        "traceId": TRACE.hex(),
        "spanId": f"{1:016x}",
        "name": "x",
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 1),
        "attributes": [{"key": "deep", "value": "DEEP"}, flat],
    }
    # Python's own encoder recurses, too.
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [made]}]}]}).replace('"DEEP"', value)
    answer = tracehouse.post_otlp(body, "application/json", expect=None)
    if answer.status_code == 400 and depth >= 100:
        # JSON as deep as that may be refused as a whole, with words.
        assert answer.json()["message"]
        assert_works(tracehouse)
        return
    check_depth(tracehouse, depth)


def check_depth(server, depth):
    for stage in (lambda: None, server.flush, server.compact):
        stage()
        [found] = by_span(trace_as_protobuf(server, TRACE.hex())).values()
        pairs = dict(found["attributes"])
        assert pairs["flat"] == ("int_value", 1)
        marks = server.json(f"/api/v1/traces/{TRACE.hex()}/spans/{1:016x}")["marks"]
        if depth <= 16:
            expected = ("int_value", 7)
            for _ in range(depth):
                expected = ("array", (expected,))
            assert pairs["deep"] == expected
            assert (found["dropped_attributes_count"], marks) == (0, [])
        else:
            assert "deep" not in pairs
            assert (found["dropped_attributes_count"], marks) == (1, ["over_limit"])


def test_a_trace_that_is_too_large(new_tracehouse):
    server = new_tracehouse({"limits": {"spans_per_trace_max": 100}}).start()
    first = [one_span(number) for number in range(1, 91)]
    assert partial_success(server.post_otlp(request(first).SerializeToString()))[0] == 0
    second = [one_span(number) for number in range(91, 131)]
    other = span(b"\x42" * 16, SPAN, middle_of_hour())
    rejected, message = partial_success(server.post_otlp(request([*second, other]).SerializeToString()))
    assert 25 <= rejected <= 40 and "spans_per_trace_max" in message
    assert server.json(f"/api/v1/traces/{TRACE.hex()}")["spanCount"] == 130 - rejected
    assert server.json(f"/api/v1/traces/{'42' * 16}")["spanCount"] == 1


# Time and room

SLOW_CLIENTS = 60


def test_slow_clients_do_not_block_others(tracehouse):
    """Some announce a megabyte and send a byte now and then, some never finish their headers, some only connect."""
    address = tracehouse.otlp_http.removeprefix("http://").split(":")
    head = (
        f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nContent-Length: {MIB}\r\n\r\n"
    ).encode()
    clients = []
    try:
        for number in range(SLOW_CLIENTS):
            client = socket.create_connection((address[0], int(address[1])))
            client.sendall((head, head[:40], b"")[number % 3])
            clients.append(client)
        waits = []
        for number in range(40):
            for client in clients[::3]:
                client.sendall(b"\x0a")
            began = time.monotonic()
            assert_works(tracehouse, 100 + number)
            waits.append(time.monotonic() - began)
        assert sorted(waits)[len(waits) // 2] < 0.5 and max(waits) < 3, waits
    finally:
        for client in clients:
            client.close()


def test_too_many_bytes_at_once_are_refused_for_now(new_tracehouse):
    """Room for two large requests, which come slowly but move on: a third is told to come back, and is taken when it does."""
    limits = {"request_bytes_max": "4MiB", "decompressed_bytes_max": "8MiB", "in_flight_bytes_max": "8MiB"}
    server = new_tracehouse({"limits": limits}).start()
    body = request_of(3 * MIB).SerializeToString()
    address = server.otlp_http.removeprefix("http://").split(":")
    head = (
        "POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()
    holders = [socket.create_connection((address[0], int(address[1]))) for _ in range(2)]
    # What moves on sends 16 KiB a second.
    sent, piece = len(body) * 7 // 8, 17 * 1024
    for holder in holders:
        holder.sendall(head + body[:sent])
    deadline = time.monotonic() + 10
    while server.metric_sum("tracehouse_receive_in_flight_bytes") < 2 * (len(body) - 1):
        assert time.monotonic() < deadline, "the two that hold room were not read"
        time.sleep(0.02)
    refused = threading.Event()

    def move_on(at):
        while not refused.wait(0.25):
            assert at + piece < len(body), "it took too long to refuse the third"
            for holder in holders:
                holder.sendall(body[at : at + piece])
            at += piece
        for holder in holders:
            holder.sendall(body[at:])

    with ThreadPoolExecutor() as threads:
        moving = threads.submit(move_on, sent)
        try:
            answer = server.post_otlp(body, expect=429)
            assert int(answer.headers["Retry-After"]) >= 1
            with RawGrpc(server) as raw:
                error = raw.refused(body)
                assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                assert b"RetryInfo" in dict(error.trailing_metadata())["grpc-status-details-bin"]
        finally:
            refused.set()
        moving.result()
    for holder in holders:
        assert holder.recv(100).startswith(b"HTTP/1.1 200")
        holder.close()
    server.post_otlp(body)


def test_overload_keeps_memory_bounded_and_loses_nothing(new_tracehouse):
    """More than the memory for new spans may hold, faster than it can be written: refused with a time to come back, and
    all that was acknowledged is there."""
    store = {"hot_bytes_max": "3MiB", "flush_bytes": "2MiB"}
    server = new_tracehouse({"store": store}).start()
    pattern = b"\xee" * 16
    spans = [
        span(pattern, (at + 1).to_bytes(8), middle_of_hour() + at, attributes={"text": f"{at}" * 50})
        for at in range(1_000)
    ]
    body = request(spans).SerializeToString()
    assert body.count(pattern) == len(spans)
    numbers = iter(range(1, 301))
    accepted, refused, errors = [], [], []

    def send():
        session = requests.Session()
        headers = {"Content-Type": "application/x-protobuf"}
        for number in numbers:
            made = body.replace(pattern, number.to_bytes(16))
            answer = session.post(server.otlp_http + "/v1/traces", data=made, headers=headers, timeout=60)
            if answer.status_code == 200:
                accepted.append(number)
            elif answer.status_code == 429 and int(answer.headers["Retry-After"]) >= 1:
                refused.append(number)
            else:
                errors.append((answer.status_code, answer.text))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _, peak = server.memory_bytes()
    print(f"\n{len(accepted)} requests taken, {len(refused)} refused, peak {peak / MIB:.0f} MiB")
    assert not errors
    assert len(accepted) > 10 and len(refused) > 10, "no overload came about"
    status = server.json("/api/v1/status")
    assert status["spansHot"] + status["spansStored"] == len(accepted) * len(spans)
    assert peak < 400 * MIB
    for number in accepted[:3] + accepted[-3:]:
        assert server.json(f"/api/v1/traces/{number:032x}")["spanCount"] == len(spans)
    for number in refused[:5]:
        server.get(f"/api/v1/traces/{number:032x}", expect=404)
    # What was refused is taken later, as a sender would try.
    again = refused[0].to_bytes(16)
    deadline = time.monotonic() + 20
    while server.post_otlp(body.replace(pattern, again), expect=None).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
