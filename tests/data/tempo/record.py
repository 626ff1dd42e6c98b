"""Sends the spans to a running Tempo, asks it the questions, and writes `answers.json`. See README.md.

tests/data/tempo/record.py http://127.0.0.1:3200 http://127.0.0.1:4318
"""

import json
import sys
import time
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).parents[2] / "e2e"))

from tempo_golden import DATA, SECOND, TENANT, ask, new_base, questions, requests_of_spans  # noqa: E402

SETTLE_SECONDS_MAX = 120


def spans_found(url, tenant, base):
    params = {"q": "{}", "start": base // SECOND - 60, "end": base // SECOND + 180, "limit": 100, "spss": 100}
    answer = requests.get(f"{url}/api/search", params=params, headers={"X-Scope-OrgID": tenant}, timeout=30).json()
    return sum(spans["matched"] for trace in answer.get("traces", []) for spans in trace["spanSets"])


def main(url, otlp):
    base = new_base()
    sent = {}
    for tenant, body in requests_of_spans(base):
        sent[tenant] = sum(len(s["spans"]) for r in body["resourceSpans"] for s in r["scopeSpans"])
        answer = requests.post(f"{otlp}/v1/traces", json=body, headers={"X-Scope-OrgID": tenant}, timeout=30)
        answer.raise_for_status()
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while {tenant: spans_found(url, tenant, base) for tenant in sent} != sent:
        assert time.monotonic() < deadline, "Tempo does not find all spans"
        time.sleep(1)
    # Series come only from blocks, which Tempo makes a little later than spans are found.
    count = {
        "kind": "series",
        "path": "/api/metrics/query",
        "params": {"q": "{} | count_over_time()", "start": "$0", "end": "$120"},
    }
    while (body := ask(url, count, base).get("body")) is None or [s["value"] for s in body["series"]] != [sent[TENANT]]:
        assert time.monotonic() < deadline, f"Tempo does not count all spans: {body}"
        time.sleep(1)
    answers = [asked | {"answer": ask(url, asked, base)} for asked in questions()]
    lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in answers)
    (DATA / "answers.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(answers)} answers")


if __name__ == "__main__":
    main(*sys.argv[1:])
