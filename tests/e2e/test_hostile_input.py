"""Input that was chosen to do harm is bounded, or refused with a reason; a well-behaved tenant goes on meanwhile."""

import gzip
import json
import os
import random
import time
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otlp import attributes, middle_of_hour, partial_success, request, span
from steady_ingest import steady_ingest
from tracehouse import Tracehouse

MIB = 2**20


def post_until_taken(server, body, tenant):
    """Sends again as long as it is asked to; what it is told in the end."""
    while True:
        answer = server.post_otlp(body, tenant=tenant, expect=None)
        if answer.status_code != 429:
            return answer
        time.sleep(0.2)


# Names


HOSTILE_BYTES = 32 * MIB
# What hostile names may take beyond as many bytes of ordinary spans, whatever their number: a flush and a merge hold the texts
# of a few row groups, and what files list of them is bounded.
NAMES_BUDGET = 160 * MIB
# A response lists no more, whatever there is.
LISTED_BYTES_MAX = 2 * MIB


def long_names(number):
    """About a megabyte of long texts that come once: span names, keys, values, services, scopes, event names."""
    made = ExportTraceServiceRequest()
    for at in range(64):
        unique = f"{number}-{at}-"
        resource = made.resource_spans.add()
        resource.resource.attributes.extend(attributes({"service.name": "service-" + unique + "s" * 2000}))
        scope = resource.scope_spans.add()
        scope.scope.name = "scope-" + unique + "c" * 2000
        one = scope.spans.add(name="name-" + unique + "n" * 2000)
        one.trace_id, one.span_id = (number + 1).to_bytes(16), (at + 1).to_bytes(8)
        one.start_time_unix_nano = one.end_time_unix_nano = middle_of_hour()
        one.attributes.extend(attributes({f"key-{unique}{key}" + "k" * 400: "v" for key in range(20)}))
        one.events.add(name="event-" + unique + "e" * 2000, time_unix_nano=middle_of_hour())
    return made.SerializeToString()


def many_names(number):
    """About a megabyte of short ones: each span has its own service, name and keys."""
    made = ExportTraceServiceRequest()
    for at in range(5_000):
        unique = f"{number}-{at}"
        resource = made.resource_spans.add()
        resource.resource.attributes.extend(attributes({"service.name": "s" + unique}))
        one = resource.scope_spans.add().spans.add(name="n" + unique)
        one.trace_id, one.span_id = (number + 1).to_bytes(16), (at + 1).to_bytes(8)
        one.start_time_unix_nano = one.end_time_unix_nano = middle_of_hour()
        one.attributes.extend(attributes({f"k{key}-{unique}": 1 for key in range(6)}))
    return made.SerializeToString()


def ordinary_names(number):
    """About a megabyte of spans as they usually are: values differ, names don't."""
    start = middle_of_hour()
    spans = [
        span(
            (number + 1).to_bytes(16),
            (at + 1).to_bytes(8),
            start + at,
            name=f"GET /items/{at % 20}",
            attributes={
                "http.route": f"/items/{at % 20}",
                "http.response.status_code": 200,
                "user.id": f"user-{at * 7 + number}",
                "session.id": "x" * 60 + str(at),
            },
        )
        for at in range(5_000)
    ]
    return request(spans).SerializeToString()


def peak_with_names(server, make):
    """Takes 32 MB of spans into several files, merges them, starts again, asks for names; most memory meanwhile."""
    sent = number = 0
    with steady_ingest(server) as sender:
        while sent < HOSTILE_BYTES:
            body = make(number)
            sent += len(body)
            number += 1
            assert post_until_taken(server, body, "hostile").status_code == 200
            if number % 8 == 0:
                server.flush()
        server.flush()
        server.compact()
    _, peak = server.memory_bytes()
    server.restart()
    sender.check()
    listed = [
        server.get(path, tenant="hostile")
        for path in ("/api/v1/services", "/api/v1/operations", "/api/v1/attributes/keys")
    ]
    assert server.json(f"/api/v1/traces/{1:032x}", tenant="hostile")["spanCount"] in (64, 5_000)
    server.compact()
    return max(peak, server.memory_bytes()[1]), listed


@pytest.fixture(scope="module")
def ordinary_peak(tmp_path_factory):
    """What a server takes for as many bytes of ordinary spans."""
    server = Tracehouse(tmp_path_factory.mktemp("ordinary")).start()
    peak, listed = peak_with_names(server, ordinary_names)
    server.kill()
    assert all(names.json()["complete"] for names in listed)
    return peak


@pytest.mark.parametrize("make", [long_names, many_names])
def test_thirty_two_megabytes_of_hostile_names(new_tracehouse, ordinary_peak, make):
    """They take little more than ordinary spans, through flushes, merges and a restart; what is not listed is named."""
    peak, listed = peak_with_names(new_tracehouse().start(), make)
    assert peak < ordinary_peak + NAMES_BUDGET, (peak // MIB, ordinary_peak // MIB)
    for names in listed:
        assert not names.json()["complete"] and len(names.content) < LISTED_BYTES_MAX
        assert "1 of 1 files list only a part of their names" in names.headers["X-Tracehouse-Partial"]


# Ids

CHOSEN_IDS = 100_000


def chosen_ids():
    """Trace ids whose halves fold to one number, and span ids whose products with a well-known factor are small: with a
    hash that anybody can work out all of them share one place."""
    mask = 2**64 - 1
    inverse = pow(0xF1357AEA2E62A9C5, -1, 2**64)
    for number in range(1, CHOSEN_IDS + 1):
        high = number << 20 & mask
        low = 0x1234567890ABCDEF ^ (high << 32 | high >> 32) & mask
        yield (high << 64 | low).to_bytes(16), (number * inverse & mask).to_bytes(8)


def ordinary_ids():
    chance = random.Random(7)
    return [(chance.randbytes(16), chance.randbytes(8)) for _ in range(CHOSEN_IDS)]


def cpu_seconds(server):
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def take_and_read(server, tenant, ids):
    """Sends spans with these ids, one for each trace and all in one trace, reads them from memory, files and merged
    files; what that took of the processor, in seconds."""
    before = cpu_seconds(server)
    start = middle_of_hour()
    for begin in range(0, CHOSEN_IDS, 10_000):
        part = ids[begin : begin + 10_000]
        spans = [span(trace, number, start) for trace, number in part]
        spans += [span(b"\x77" * 16, number, start, kind=3) for _, number in part]
        answer = post_until_taken(server, request(spans).SerializeToString(), tenant)
        assert (answer.status_code, answer.content) == (200, b"")
    for stage in (lambda: None, server.flush, server.compact):
        stage()
        assert server.json(f"/api/v1/traces/{'77' * 16}", tenant=tenant)["spanCount"] == CHOSEN_IDS
        assert server.json(f"/api/v1/traces/{ids[77][0].hex()}", tenant=tenant)["spanCount"] == 1
    assert server.json("/api/v1/status", tenant=tenant)["spansStored"] == 2 * CHOSEN_IDS
    return cpu_seconds(server) - before


def test_a_hundred_thousand_chosen_ids(new_tracehouse):
    """They cost about what as many others cost."""
    server = new_tracehouse().start()
    chosen = list(chosen_ids())
    assert len(set(chosen)) == CHOSEN_IDS
    with steady_ingest(server):
        ordinary = take_and_read(server, "ordinary", ordinary_ids())
        assert take_and_read(server, "hostile", chosen) < 3 * ordinary + 2


# Tenants

INVENTED = 5_000
TENANTS_MAX = 1_000


def test_five_thousand_invented_tenants(new_tracehouse):
    """A thousand tenants have room; the names beyond are refused for good, over either protocol, and leave nothing."""
    server = new_tracehouse().start()
    body = request([span(b"\x01" * 16, b"\x02" * 8, middle_of_hour())]).SerializeToString()
    with steady_ingest(server) as sender:
        # It has the first of the places.
        sender.wait_for(1)
        codes = [
            server.post_otlp(body, tenant=f"invented-{number}", expect=None).status_code for number in range(INVENTED)
        ]
        assert codes == [200] * (TENANTS_MAX - 1) + [403] * (INVENTED - TENANTS_MAX + 1)
        refused = server.post_otlp(body, tenant="one-more", expect=403)
        assert "limits.tenants_max" in refused.text and "Retry-After" not in refused.headers
        error = refused_by_grpc(server, body, "one-more")
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED and "limits.tenants_max" in error.details()
        server.flush()
    assert len(list(server.store.glob("tenant=*"))) == TENANTS_MAX
    samples = server.metrics()
    assert len(samples) < 2_000 and not any("invented" in sample for sample in samples)
    assert samples['tracehouse_pipeline_refused_tenants_total{reason="too_many"}'] >= INVENTED - TENANTS_MAX
    # Named in the log once, not four thousand times.
    assert server.log().count("refused requests of tenants") <= 3
    # To ask for one that is not there finds nothing and makes nothing.
    assert server.search(tenant="one-more")["traces"] == []
    # Those that are known go on after a restart.
    server.restart()
    sender.check()
    server.post_otlp(body, tenant="invented-5")
    server.post_otlp(body, tenant="invented-4999", expect=403)


def refused_by_grpc(server, body, tenant):
    path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    with grpc.insecure_channel(server.otlp_grpc.removeprefix("http://")) as channel:
        export = channel.unary_unary(path, lambda message: message, ExportTraceServiceResponse.FromString)
        with pytest.raises(grpc.RpcError) as raised:
            export(body, timeout=30, metadata=[("x-scope-orgid", tenant)])
    return raised.value


def test_only_configured_tenants(new_tracehouse):
    server = new_tracehouse({"tenants": ["team-a", "team-b"], "limits": {"tenants_max": 1}}).start()
    body = request([span(b"\x01" * 16, b"\x02" * 8, middle_of_hour())]).SerializeToString()
    for tenant in ("team-a", "team-b"):
        server.post_otlp(body, tenant=tenant)
    for tenant in ("team-c", None):
        refused = server.post_otlp(body, tenant=tenant, expect=403)
        assert f"the tenant {tenant or 'default'} is not known here" in refused.text
    assert refused_by_grpc(server, body, "team-c").code() == grpc.StatusCode.PERMISSION_DENIED
    server.flush()
    assert sorted(path.name for path in server.store.glob("tenant=*")) == ["tenant=team-a", "tenant=team-b"]


def test_a_stranger_cannot_use_up_the_share_of_a_trace(new_tracehouse):
    server = new_tracehouse({"limits": {"spans_per_trace_max": 10}}).start()

    def spans(begin):
        made = [span(b"\x09" * 16, number.to_bytes(8), middle_of_hour()) for number in range(begin, begin + 10)]
        return request(made).SerializeToString()

    assert partial_success(server.post_otlp(spans(1), tenant="stranger"))[0] == 0
    assert partial_success(server.post_otlp(spans(20), tenant="stranger"))[0] == 10
    assert partial_success(server.post_otlp(spans(1)))[0] == 0


# Requests that unfold


def field(number, content):
    length, rest = bytearray(), len(content)
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes([number << 3 | 2]) + bytes(length) + content


def unfolding_requests():
    """A few kilobytes as sent, 60 MiB when unpacked."""
    empty_scopes = field(1, b"\x12\x00" * (30 * MIB))
    small_link = field(13, field(3, b"s")) * 1024
    one = field(1, b"\x01" * 16) + field(2, b"\x02" * 8) + b"\x39" + b"\x07" * 8 + small_link
    many_links = field(1, field(2, field(2, one) * (60 * MIB // len(one))))
    empty_json = b'{"resourceSpans":[{"scopeSpans":[' + b"{}," * (20 * MIB) + b"{}]}]}"
    return [
        ("scopes", empty_scopes, "application/x-protobuf"),
        ("links", many_links, "application/x-protobuf"),
        ("JSON", empty_json, "application/json"),
    ]


def test_requests_that_unfold_are_refused_early(new_tracehouse):
    server = new_tracehouse().start()
    with steady_ingest(server):
        for what, body, content_type in unfolding_requests():
            packed = gzip.compress(body)
            assert len(packed) < MIB
            _, before = server.memory_bytes()
            refused = server.post_otlp(packed, content_type, headers={"Content-Encoding": "gzip"}, expect=400)
            assert "out of proportion" in refused.text, what
            # The request unpacked, and as much as the limit lets its spans take while their columns grow.
            assert server.memory_bytes()[1] - before < 450 * MIB, what
    assert server.metric_sum("tracehouse_receive_in_flight_bytes") == 0


# Text that is not kept

SECRET = "s3cret-of-nobody"


START = middle_of_hour()
TEXTS = {"name": SECRET, "attributes": {SECRET: SECRET}, "trace_state": SECRET}
REFUSED = {
    "by the receiver": [
        span(b"\x00" * 16, b"\x01" * 8, START, **TEXTS),
        span(b"\x01" * 16, b"\x01" * 7, START, **TEXTS),
        span(b"\x01" * 16, b"\x02" * 8, 0, **TEXTS),
    ],
    "by the pipeline": [
        span(b"\x01" * 16, b"\x03" * 8, START + 10**18, **TEXTS),
        span(b"\x01" * 16, b"\x04" * 8, START - 10**18, **TEXTS),
    ],
    "not at all": [],
}


def with_secrets(refused):
    """Refused spans, and one that is kept, of whose repeated key the first value is not; a resource without spans."""
    made = request([span(b"\x05" * 16, b"\x06" * 8, START), *refused])
    for value in (SECRET, "kept"):
        made.resource_spans[0].scope_spans[0].spans[0].attributes.extend(attributes({"key": value}))
    if not refused:
        made.resource_spans.extend(request([], service=SECRET, scope=SECRET).resource_spans)
    return made


def files_with_secret(server):
    files = (path for path in server.data_dir.rglob("*") if path.is_file())
    return [str(path) for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("refused", REFUSED)
@pytest.mark.parametrize("encoding", ["protobuf", "json", "grpc"])
def test_what_is_not_kept_reaches_no_file(new_tracehouse, encoding, refused):
    server = new_tracehouse().start()
    made = with_secrets(REFUSED[refused])
    assert rejected_spans(server, made, encoding) == len(REFUSED[refused])
    assert files_with_secret(server) == []
    server.kill()
    server.start()
    for stage in (lambda: None, server.flush, server.compact, server.restart):
        stage()
        assert files_with_secret(server) == []
        assert server.json(f"/api/v1/traces/{'05' * 16}")["spanCount"] == 1


def rejected_spans(server, made, encoding):
    if encoding == "json":
        answer = server.post_otlp(json.dumps(hex_json(made)), "application/json").json()
        return int(answer.get("partialSuccess", {}).get("rejectedSpans", 0))
    if encoding == "protobuf":
        return partial_success(server.post_otlp(made.SerializeToString()))[0]
    path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    with grpc.insecure_channel(server.otlp_grpc.removeprefix("http://")) as channel:
        export = channel.unary_unary(path, lambda message: message, ExportTraceServiceResponse.FromString)
        return export(made.SerializeToString(), timeout=30).partial_success.rejected_spans


def hex_json(made):
    """OTLP's JSON has ids in hexadecimal."""
    tree = json_format.MessageToDict(made)
    for resource in tree["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for one, sent in zip(scope.get("spans", []), made.resource_spans[0].scope_spans[0].spans, strict=False):
                one["traceId"], one["spanId"] = sent.trace_id.hex(), sent.span_id.hex()
    return tree
