"""A server with default settings in a memory group of 2 GiB is never killed, whatever is asked of it."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from memory_group import MemoryGroup
from otlp import middle_of_hour, request, span

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
def grouped(group, new_tracehouse):
    """A server with default settings in the group, and with spans of many users over an hour. It must outlive the test."""
    server = new_tracehouse()
    server.start(before_exec=group.enter)
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
        server.post_otlp(request(spans).SerializeToString())
    server.start_nanos = start
    yield server
    assert server.process.poll() is None, f"the server ended with {server.process.returncode}: {server.log()[-5_000:]}"
    assert group.kills() == 0
    assert server.get("/readyz").status_code == 200
    server.kill()


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


# Refused, or planned within bounds.
PLANS = [
    doubled("SELECT * FROM spans", "SELECT * FROM BELOW UNION ALL SELECT * FROM BELOW", "SELECT count(*) FROM LAST"),
    doubled("SELECT * FROM spans", "SELECT a.* FROM BELOW a JOIN BELOW b USING (span_id)", "SELECT count(*) FROM LAST"),
    doubled("SELECT name AS b FROM spans", "SELECT b || b AS b FROM BELOW", "SELECT b FROM LAST WHERE b = 'x'", 25),
    "SELECT count(*) FROM " + " NATURAL JOIN ".join(["traces"] * 40),
    f"SELECT count(*) FROM spans GROUP BY CUBE ({', '.join(f'duration_nanos % {n}' for n in range(2, 14))})",
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
