"""TraceQL over the native API and on the command line: time series, checks and explanations."""

import json
import time

import pytest

from otlp import request, span
from tracehouse import Tracehouse

SECOND = 10**9
SPANS = 60
STEP_SECONDS = 15
RATES = "{ } | rate() by (resource.service.name)"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A span each second for a minute; every third one is of another service and fails."""
    server = Tracehouse(tmp_path_factory.mktemp("query")).start()
    begin = (time.time_ns() // SECOND - 600) // 60 * 60
    spans = {"cart": [], "stock": []}
    for number in range(SPANS):
        other = number % 3 == 0
        spans["stock" if other else "cart"].append(
            span(
                (number + 1).to_bytes(16),
                (number + 1).to_bytes(8),
                (begin + number) * SECOND,
                duration_nanos=20_000_000 if other else 10_000_000,
                name="load",
                status={"code": 2} if other else {},
            )
        )
    for service, sent in spans.items():
        server.post_otlp(request(sent, service=service).SerializeToString())
    yield server, begin
    server.kill()


def test_time_series(filled):
    server, begin = filled
    asked = {"q": RATES, "start": begin, "end": begin + SPANS, "step": f"{STEP_SECONDS}s", "exemplars": 2}
    answer = server.json("/api/v1/metrics", params=asked)
    assert answer["startTimeUnixNano"] == str(begin * SECOND) and answer["stepNanos"] == STEP_SECONDS * SECOND
    assert answer["steps"] == SPANS // STEP_SECONDS and answer["complete"]
    by_service = {series["labels"][0]["value"]: series for series in answer["series"]}
    assert by_service["cart"]["values"] == pytest.approx([10 / STEP_SECONDS] * 4)
    assert by_service["stock"]["values"] == pytest.approx([5 / STEP_SECONDS] * 4)
    assert answer["weighting"] == {"spans": SPANS, "spansOfUnknownProbability": SPANS}
    exemplar = by_service["stock"]["exemplars"][0]
    assert server.json(f"/api/v1/traces/{exemplar['traceId']}")["rootServiceName"] == "stock"


def test_one_step(filled):
    server, begin = filled
    query = "{ status = error } | max_over_time(duration)"
    asked = {"q": query, "start": begin, "end": begin + SPANS, "instant": "true"}
    answer = server.json("/api/v1/metrics", params=asked)
    assert (answer["steps"], answer["stepNanos"]) == (1, SPANS * SECOND)
    assert [series["values"] for series in answer["series"]] == [[0.02]]


def test_check_and_explain(filled):
    server, _ = filled
    assert server.json("/api/v1/query/check", params={"q": RATES})["kind"] == "metrics"
    wrong = server.json("/api/v1/query/check", params={"q": "{ statsu = error }"})
    assert not wrong["valid"] and (wrong["error"]["start"], wrong["error"]["end"]) == (2, 8)
    explained = server.json("/api/v1/query/explain", params={"q": "{ status = error }"})
    assert explained["plan"] and explained["spansInMemory"] == SPANS


def test_command_line(filled):
    server, begin = filled
    times = ("--start", begin, "--end", begin + SPANS)

    table = server.client("query", RATES, *times, "--step", "15s").stdout.splitlines()
    assert table[0].split() == ["SERIES", "LAST", "MIN", "MAX", "AVG"]
    assert table[1].split() == ["resource.service.name=cart", *["0.667/s"] * 4]
    assert table[2].split() == ["resource.service.name=stock", *["0.333/s"] * 4]

    chart = server.client("query", "{ } | max_over_time(duration)", *times, "--output", "chart").stdout
    assert "20.0ms ┤" in chart and "└──" in chart
    answer = json.loads(server.client("query", RATES, "--since", "1h", "--output", "json").stdout)
    assert len(answer["series"]) == 2

    traces = server.client("query", "{ status = error }", "--limit", 5).stdout.splitlines()
    assert traces[0].startswith("TRACE ") and len(traces) == 6
    server.client("query", '{ name = "nothing" }', expect=1)
    assert "reads 0 of 0 files" in server.client("query", RATES, "--explain").stdout

    wrong = server.client("query", "{ statsu = error }", expect=None)
    assert wrong.returncode not in (0, 1) and "did you mean `status`?" in wrong.stderr
    assert "no chart" in server.client("query", "{ }", "--output", "chart", expect=None).stderr
