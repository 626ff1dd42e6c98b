"""Tempo's interface, compared with what a running Tempo answered to the same questions about the same spans.

What Tempo answered is in `tests/data/tempo`, whose README tells how to record it anew. A question has one of three
outcomes: the answers are alike; they differ on purpose (`differences.json`, with what Tracehouse answers); or
Tracehouse is at fault (OPEN).
"""

import json
from pathlib import Path

import pytest

from tempo_golden import DATA, ask, in_our_way, name_of, new_base, questions, requests_of_spans
from tracehouse import Tracehouse

ANSWERS = json.loads((DATA / "answers.json").read_text())
DIFFERENCES = {each["question"]: each for each in json.loads((DATA / "differences.json").read_text())}
DOCS = Path(__file__).parents[2] / "docs"

# Faults of Tracehouse and the questions that show them. Whoever mends one removes it here.
OPEN = {
    "a list is shown as arrayValue, which Grafana leaves out; Tempo shows the value that matched": [
        '/api/search q={ resource.res.list = "x" && kind = client }',
        '/api/search q={ span.t.strs = "a" }',
        '/api/search q={ span.t.strs = "b" }',
        '/api/search q={ span.t.strs =~ "b.*" }',
        "/api/search q={ span.t.ints = 2 }",
        "/api/search q={ span.t.ints > 2 }",
        "/api/search q={ span.t.doubles = 0.5 }",
        "/api/search q={ span.t.doubles < 1.0 }",
        "/api/search q={ span.t.bools = true }",
        "/api/search q={ span.t.bools = false }",
        '/api/search q={ span.mixed = "1" }',
        '/api/search q={ span.mixed = 2 || span.mixed = "2" }',
        '/api/search q={ instrumentation.lib.all = "p" }',
    ],
    "sums, minima and maxima of integers are shown as doubleValue; in Tempo they are intValue": [
        "/api/search q={ span.load.n >= 0 } | sum(span.load.n) > 10",
        "/api/search q={ } | max(span.load.n) = 7",
        '/api/search q={ name =~ "load.*" } | min(.load.n) = 0',
    ],
    "the field of by(duration > 100ms) is called by(span:duration > 100ms)": [
        '/api/search q={ rootName = "settle" } | by(duration > 100ms)',
    ],
    "the older names root.name and root.service.name are not known": [
        "/api/search tags=root.name=load",
        "/api/search/tag/root.name/values",
    ],
    "no values of span:childCount for completion": [
        "/api/v2/search/tag/span:childCount/values",
    ],
    "no values of attributes of the parent for completion": [
        "/api/v2/search/tag/parent.level/values",
    ],
    "an attribute that is called like an intrinsic field has no values in version 1": [
        "/api/search/tag/status/values",
        "/api/search/tag/duration/values",
    ],
    "attributes of instrumentation scopes have no values in version 1": [
        "/api/search/tag/lib.lang/values",
    ],
    "of two fields that are called alike, such as span.status and status, a span shows only one": [
        '/api/search q={ name = "values" } | select(.service.name)',
        '/api/search q={ name = "values" } | select(span.status, status)',
    ],
    "exemplars do not show the fields that the query mentions": [
        '/api/metrics/query_range exemplars=100 q={ name = "load" } | rate()',
        '/api/metrics/query_range exemplars=100 q={ name = "load" } | max_over_time(duration) by (span.load.group)',
    ],
}

FAULT_OF = {name: fault for fault, names in OPEN.items() for name in names}


@pytest.fixture(scope="module", params=["memory", "files"])
def filled(request, tmp_path_factory):
    server = Tracehouse(tmp_path_factory.mktemp("tempo-golden")).start()
    base = new_base()
    for tenant, body in requests_of_spans(base):
        server.post_otlp(json.dumps(body), content_type="application/json", tenant=tenant)
    if request.param == "files":
        server.flush()
    yield server, base
    server.kill()


@pytest.mark.parametrize("answered", ANSWERS, ids=name_of)
def test_answers_are_those_of_tempo(filled, answered, request):
    server, base = filled
    name = name_of(answered)
    if name in FAULT_OF:
        request.applymarker(pytest.mark.xfail(strict=True, reason=FAULT_OF[name]))
    ours = ask(server.url, answered, base)
    if name in DIFFERENCES:
        assert ours == DIFFERENCES[name]["answer"]
        assert ours != answered["answer"], "there is no difference any more"
    else:
        tempo, ours = in_our_way(answered, answered["answer"], ours)
        assert ours == tempo


def test_all_questions_have_been_answered():
    assert list(questions()) == [{key: value for key, value in each.items() if key != "answer"} for each in ANSWERS]
    names = [name_of(each) for each in ANSWERS]
    assert len(set(names)) == len(names)
    assert set(FAULT_OF) | set(DIFFERENCES) <= set(names) and not set(FAULT_OF) & set(DIFFERENCES)


def test_differences_are_documented():
    text = " ".join(" ".join((DOCS / name).read_text() for name in ("coming-from.md", "traceql.md")).split())
    for name, each in DIFFERENCES.items():
        assert each["difference"] in ("documented", "not documented", "tempo is wrong"), name
        assert ("docs" in each) or each["difference"] != "documented", name
        assert "docs" in each or "why" in each, name
        assert each.get("docs", "") in text, f"the documentation does not say any more: {each['docs']}"
