"""A disk that gives errors for good: every question ends, says what it lacks, and nothing is condemned for it."""

import time

import pytest

from failing_reads import failing_reads
from otlp import middle_of_hour, request, span

TRACES, SPANS = 400, 10
HOURS = (1, 2, 3)
NO_MERGES = {"store": {"compaction_interval": "1h"}}
QUESTION_SECONDS_MAX = 20


def traces(hours_ago):
    start = middle_of_hour(hours_ago)
    spans = [
        span(
            (hours_ago * 10_000 + trace + 1).to_bytes(16),
            (at + 1).to_bytes(8),
            start + trace * 1_000_000 + at,
            attributes={"number": trace * SPANS + at, "half": "odd" if at % 2 else "even"},
        )
        for trace in range(TRACES)
        for at in range(SPANS)
    ]
    return request(spans)


def ask(server, question):
    """What a question counts, and why it is partial, if it is."""
    asked = time.monotonic()
    kind, text = question
    if kind == "sql":
        answer = server.request("POST", "/api/v1/sql", json={"query": text}).json()
        [row] = answer["rows"]
        count, reason = int(row[0]), answer.get("partialReason")
    else:
        begin, end = middle_of_hour(4) // 10**9, middle_of_hour(0) // 10**9
        answer = server.json("/api/v1/metrics", params={"q": text, "start": begin, "end": end, "instant": "true"})
        count = int(sum(sum(series["values"]) for series in answer["series"]))
        reason = answer.get("partialReason")
    assert time.monotonic() - asked < QUESTION_SECONDS_MAX, question
    assert answer["complete"] == (reason is None), (question, answer)
    return count, reason


QUESTIONS = [
    ("sql", "SELECT count(*) FROM spans WHERE attr('half') = 'odd'"),
    ("sql", "SELECT count(DISTINCT attr('number')) FROM spans WHERE attr('half') = 'odd'"),
    ("sql", "SELECT count(*) FROM spans WHERE attributes LIKE '%odd%' AND name <> ''"),
    ("traceql", '{ span.half = "odd" } | count_over_time()'),
    ("traceql", '{ span.half = "odd" && span.number >= 0 } | count_over_time() by (span.half)'),
]


# Every read, some, and all that come after those that open a file.
@pytest.mark.parametrize("when", ["1+", "2+2", "3+3", "7+5", "3+"])
def test_questions_end_and_say_what_they_lack(new_tracehouse, when):
    server = new_tracehouse(NO_MERGES).start()
    for hour in HOURS:
        server.post_otlp(traces(hour).SerializeToString())
    server.flush()
    wanted = {question: ask(server, question) for question in QUESTIONS}
    assert all(reason is None and count > 0 for count, reason in wanted.values()), wanted
    files = sorted(server.data_dir.rglob("*.parquet"))
    assert len(files) == len(HOURS)
    lacking = 0
    with failing_reads(server, files, when):
        for attempt in ("the first time", "again"):
            for question in QUESTIONS:
                count, reason = ask(server, question)
                whole, _ = wanted[question]
                assert count == whole if reason is None else count <= whole, (attempt, question)
                if reason is not None:
                    lacking += 1
                    assert "could not be read" in reason, (attempt, question, reason)
        found = server.search(limit=20)
        assert found["complete"] or found["partialReason"], found
    assert lacking > 0, "the disk failed in vain"
    for question, whole in wanted.items():
        assert ask(server, question) == whole, f"nothing is wrong with the files: {question}"
    assert sorted(server.data_dir.rglob("*.parquet")) == files, "no file was set aside"
    assert server.json("/api/v1/status")["troubles"] == []
