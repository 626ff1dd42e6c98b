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
OPEN = {}

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
