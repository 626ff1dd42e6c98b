"""A server with default settings in a memory group of 2 GiB is never killed, whatever is asked of it."""

import gzip
import os
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import requests

from half_requests import begin, closed_at_last, half_body, half_streams
from memory_group import MemoryGroup
from otlp import HOUR_NANOS, middle_of_hour, request, span
from steady_ingest import steady_ingest

GIB = 2**30
GROUP_BYTES = 2 * GIB
# A question may be refused, be too much, be in the way of others, or take too long; never is it a defect.
ANSWERS = {200, 400, 413, 422, 429, 503, 504}
USERS = 4_000
SPANS = 40_000
SPANS_PER_REQUEST = 4_000


@pytest.fixture
def group():
    group = MemoryGroup(f"tracehouse-test-{os.getpid()}", GROUP_BYTES)
    yield group
    group.remove()


@pytest.fixture
def empty(group, new_tracehouse):
    """A server with default settings in the group. It must outlive the test."""
    server = new_tracehouse()
    server.start(before_exec=group.enter)
    yield server
    assert server.process.poll() is None, f"the server ended with {server.process.returncode}: {server.log()[-5_000:]}"
    assert group.kills() == 0
    assert server.get("/readyz").status_code == 200
    server.kill()


@pytest.fixture
def grouped(empty):
    """The same with spans of many users over an hour."""
    start = middle_of_hour()
    for first in range(0, SPANS, SPANS_PER_REQUEST):
        spans = [
            span(
                number.to_bytes(16),
                number.to_bytes(8),
                start + number * 40_000_000,
                duration_nanos=1_000 + number * 7_919 % 1_000_000_007,
                name=f"operation {number % 50}",
                attributes={"user": f"user-{number % USERS}", "text": "x" * (number % 500)},
            )
            for number in range(first + 1, first + SPANS_PER_REQUEST + 1)
        ]
        empty.post_otlp(request(spans).SerializeToString())
    empty.start_nanos = start
    return empty


def at_once(count, ask):
    """The status of each of so many questions that are asked at once."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def sql(server, query, **arguments):
    return server.request("POST", "/api/v1/sql", json={"query": query, "limit": 100_000}, expect=None, **arguments)


def test_the_limit_comes_from_the_group(grouped):
    metrics = grouped.metrics()
    assert abs(metrics["tracehouse_memory_limit_bytes"] - 0.6 * GROUP_BYTES) < 1000
    assert 0 < metrics["tracehouse_memory_allocated_bytes"] < GROUP_BYTES


def doubled(first, level, last, levels=20):
    tables = [f"t0 AS ({first})"] + [f"t{n} AS ({level.replace('BELOW', f't{n - 1}')})" for n in range(1, levels + 1)]
    return f"WITH {', '.join(tables)} {last.replace('LAST', f't{levels}')}"


# Refused before they are planned.
DOUBLED = [
    doubled("SELECT * FROM spans", "SELECT * FROM BELOW UNION ALL SELECT * FROM BELOW", "SELECT count(*) FROM LAST"),
    doubled("SELECT * FROM spans", "SELECT a.* FROM BELOW a JOIN BELOW b USING (span_id)", "SELECT count(*) FROM LAST"),
    doubled("SELECT name AS b FROM spans", "SELECT b || b AS b FROM BELOW", "SELECT b FROM LAST WHERE b = 'x'", 25),
]

# Refused, or planned within bounds.
PLANS = [
    "SELECT count(*) FROM " + " NATURAL JOIN ".join(["traces"] * 40),
    f"SELECT count(*) FROM spans GROUP BY CUBE ({', '.join(f'duration_nanos % {n}' for n in range(2, 14))})",
    "SELECT count(*) FROM spans GROUP BY CUBE (name, kind, status, trace_id, span_id, start_time, duration_nanos, service_name, scope_name, scope_version)",
    "SELECT count(*) FROM spans WHERE attributes ~ '([a-z]{1,500}){1,500}x'",
]

# Each would need more memory than there is, or time without end.
WORK = [
    "SELECT a.span_id, b.span_id FROM spans a, spans b ORDER BY a.name, b.attributes",
    "SELECT string_agg(a.attributes || b.attributes, '') FROM spans a, spans b",
    "SELECT a.name, array_agg(b.attributes) FROM spans a JOIN spans b ON a.kind = b.kind GROUP BY a.name",
    "SELECT a.attributes, count(*) OVER (PARTITION BY b.kind) FROM spans a, spans b LIMIT 100000",
    "SELECT a.*, b.attributes AS c FROM spans a, spans b",
    "SELECT count(DISTINCT a.span_id || b.span_id) FROM spans a, spans b",
    "SELECT count(*) FROM spans WHERE attributes ~ ('[a-z]{900}' || span_id)",
    "SELECT array_agg(value) FROM generate_series(1, 1000000000)",
    "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT r.x + 1 FROM r, generate_series(1, 4)) SELECT count(*) FROM r",
    "SELECT attributes, resource_attributes, name FROM spans ORDER BY attributes",
]


def test_statements_whose_plans_grow(grouped):
    for statement in DOUBLED:
        for asked in (statement, f"EXPLAIN {statement}"):
            answer = sql(grouped, asked)
            assert answer.status_code == 400 and "too large" in answer.text, f"{asked[:200]}: {answer.text[:500]}"
    for statement in PLANS:
        for asked in (statement, f"EXPLAIN {statement}"):
            answer = sql(grouped, asked)
            assert answer.status_code in ANSWERS, f"{asked[:200]}: {answer.text[:500]}"


def test_statements_that_work_hard_at_once(grouped):
    for first in range(0, len(WORK), 5):
        # Each twice, and more than may run at once.
        statements = 2 * WORK[first : first + 5]
        statuses = at_once(len(statements), lambda number: sql(grouped, statements[number]).status_code)
        assert set(statuses) <= ANSWERS, list(zip(statements, statuses, strict=True))


def test_answers_as_large_as_they_may_be(grouped):
    wide = "SELECT a.*, b.attributes AS c FROM spans a JOIN spans b ON a.kind = b.kind"

    def ask(number):
        headers = {"Accept": "application/vnd.apache.arrow.stream"} if number % 2 else {}
        answer = sql(grouped, wide, headers=headers, stream=True)
        # Nobody reads them for a while.
        return answer

    answers = at_once(12, ask)
    assert {answer.status_code for answer in answers} <= ANSWERS
    for answer in answers:
        answer.close()


SERIES = [
    "{ } | quantile_over_time(duration, .5, .9, .99) by (span.user)",
    "{ } | histogram_over_time(duration) by (span.user)",
    "{ } | rate() by (span.user, name)",
    "{ } | avg_over_time(duration) by (span.user, span.text)",
]


def test_heavy_series_at_once(grouped):
    """Three quantiles of each of 4,000 users over 10,900 steps would be 130 million points."""
    begin = grouped.start_nanos // 10**9 - 3_600

    def ask(number):
        parameters = {"q": SERIES[number % len(SERIES)], "start": begin, "end": begin + 10_900, "step": "1s"}
        try:
            return grouped.get("/api/v1/metrics", params=parameters, expect=None).status_code
        except requests.Timeout:
            return 504

    assert set(at_once(16, ask)) <= ANSWERS


def test_series_over_many_files(empty):
    """Each hour of ten days in a file of its own, and each file with users of its own."""
    files, users = 240, 200
    for hours_ago in range(1, files + 1):
        start = middle_of_hour(hours_ago)
        spans = [
            span(
                (hours_ago * users + number).to_bytes(16),
                (hours_ago * users + number).to_bytes(8),
                start + number,
                duration_nanos=1_000 + number,
                attributes={"user": f"user-{hours_ago}-{number}"},
            )
            for number in range(1, users + 1)
        ]
        empty.post_otlp(request(spans).SerializeToString())
        empty.flush()
    end = middle_of_hour(0) // 10**9

    def ask(number):
        begin = end - (files + 2) * HOUR_NANOS // 10**9
        parameters = {"q": SERIES[number % 3], "start": begin, "end": end, "step": "120s"}
        return empty.get("/api/v1/metrics", params=parameters, expect=None).status_code

    assert set(at_once(8, ask)) <= ANSWERS


def read(server, path, headers=None):
    """What was asked, the status of the answer, which is read to its end, and how many bytes it has."""
    with requests.get(server.url + path, headers=headers or {}, stream=True, timeout=120) as answer:
        return path, answer.status_code, sum(len(part) for part in answer.iter_content(1 << 20))


def read_by_grpc(server, trace):
    """Jaeger's GetTrace, its messages as bytes: the id of the trace is the first field."""
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.url.removeprefix("http://"), options=options) as channel:
        get_trace = channel.unary_stream("/jaeger.api_v3.QueryService/GetTrace")
        try:
            return "gRPC", 200, sum(len(message) for message in get_trace(b"\x0a\x20" + trace.encode(), timeout=120))
        except grpc.RpcError as error:
            assert error.code().name in {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}, error
            return "gRPC", 503, 0


def ways_to_a_trace(server, trace, span_id):
    """A trace in every interface, each a function that reads it."""
    protobuf = {"Accept": "application/protobuf"}
    paths = [
        (f"/api/v1/traces/{trace}", None),
        (f"/api/v1/traces/{trace}/spans/{span_id}", None),
        (f"/api/v1/traces/{trace}/find?q=nowhere", None),
        (f"/api/traces/{trace}", None),
        (f"/api/traces/{trace}", protobuf),
        (f"/api/v2/traces/{trace}", None),
        (f"/api/v2/traces/{trace}", protobuf),
        (f"/jaeger/api/traces/{trace}", None),
        (f"/jaeger/api/v3/traces/{trace}", None),
        (f"/zipkin/api/v2/trace/{trace}", None),
    ]
    ways = [lambda path=path, headers=headers: read(server, path, headers) for path, headers in paths]
    return [*ways, lambda: read_by_grpc(server, trace)]


def send_trace(server, trace, spans, spans_per_request, attributes_of):
    """One trace of so many spans, each the child of the one before; `attributes_of` gives a span's by its number."""
    start = middle_of_hour()
    for first in range(0, spans, spans_per_request):
        of_request = [
            span(
                trace,
                (number + 1).to_bytes(8),
                start + number * 1_000,
                parent_span_id=number.to_bytes(8) if number else b"",
                attributes=attributes_of(number),
            )
            for number in range(first, min(spans, first + spans_per_request))
        ]
        body = gzip.compress(request(of_request).SerializeToString(), 1)
        server.post_otlp(body, headers={"Content-Encoding": "gzip"})


def test_a_trace_of_long_texts_in_every_interface(empty):
    """60,000 spans with 16 KiB each: a gigabyte, but less than a hundredth of that on the wire."""
    trace = (7).to_bytes(16)
    send_trace(empty, trace, 60_000, 3_750, lambda number: {"text": f"{number:08}" + "x" * 16_376})
    for flushed in (False, True):
        if flushed:
            empty.flush()
        ways = ways_to_a_trace(empty, trace.hex(), f"{30_000:016x}")
        for answered in [way() for way in ways] + at_once(len(ways), lambda number, ways=ways: ways[number]()):
            assert answered[1] in ANSWERS, answered
        statements = [
            "SELECT attr('text') FROM spans",
            "SELECT attributes, name FROM spans",
            "SELECT max(attributes), min(attr('text')) FROM spans",
            "SELECT attr('text'), count(*) FROM spans GROUP BY 1",
            "SELECT span_id FROM spans ORDER BY attr('text') DESC",
            "SELECT count(*) FROM spans WHERE attributes LIKE '%y%x%y%'",
            "SELECT count(DISTINCT attr('text')) FROM spans",
            "SELECT a.attributes FROM spans a JOIN spans b ON a.span_id = b.parent_span_id",
        ]
        for statement in statements:
            assert sql(empty, statement).status_code in ANSWERS, statement
        statuses = at_once(len(statements), lambda number: sql(empty, statements[number]).status_code)
        assert set(statuses) <= ANSWERS


def test_a_trace_of_many_spans_at_once(empty):
    trace = (8).to_bytes(16)
    send_trace(empty, trace, 600_000, 50_000, lambda number: {"user": f"user-{number % USERS}"})
    ways = ways_to_a_trace(empty, trace.hex(), f"{300_000:016x}")
    for flushed in (False, True):
        if flushed:
            empty.flush()
        whole = f"/api/v1/traces/{trace.hex()}?limit=1000000"
        for answered in at_once(16, lambda _, whole=whole: read(empty, whole)):
            assert answered[1] in ANSWERS, answered
        for answered in at_once(len(ways), lambda number: ways[number]()):
            assert answered[1] in ANSWERS, answered


MIB = 2**20
# How many connections begin with what.
HALF_REQUESTS = {
    "streams with small heads": (1200, half_streams(b"/v1/traces", b"application/json", 256)),
    "streams with large heads": (200, half_streams(b"/v1/traces", b"application/json", 256, fields=150)),
    "large heads and bodies": (1200, half_body("/v1/traces", 30_000)),
}


@pytest.mark.parametrize("what", HALF_REQUESTS)
def test_requests_that_are_begun_and_never_finished(empty, what):
    """Tens of thousands of them, for each of which the server waits."""
    connections, sent = HALF_REQUESTS[what]
    before = empty.memory_bytes()[0]
    with steady_ingest(empty), closed_at_last() as held:
        for _ in range(connections):
            held.append(begin(empty.otlp_http, sent))
            # The limit of 64 MiB, and what connections and spans need.
            assert empty.memory_bytes()[1] - before < 600 * MIB
