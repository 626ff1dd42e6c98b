"""What comes is told as it comes: each trace once, across flushes, starts and tenants, and on the command line."""

import json
import subprocess
import threading
import time

from otlp import request, span
from tracehouse import BINARY

SECOND = 10**9


def send(server, numbers, error=False, tenant=None, parent=None):
    now = time.time_ns()
    spans = [
        span(
            number.to_bytes(16),
            (number + (parent or 0)).to_bytes(8),
            now - SECOND,
            name=f"work {number}",
            status={"code": 2} if error else {},
            **({"parent_span_id": parent.to_bytes(8)} if parent else {}),
        )
        for number in numbers
    ]
    server.post_otlp(request(spans, service="cart").SerializeToString(), tenant=tenant)


def look(server, after=None, tenant=None, **parameters):
    params = {"limit": 1000, **parameters, **({} if after is None else {"after": after})}
    return server.json("/api/v1/tail", params=params, tenant=tenant)


def ids(answer):
    return [int(trace["traceId"], 16) for trace in answer["traces"]]


def test_each_trace_comes_once(tracehouse):
    at = look(tracehouse)["position"]
    seen = []
    for number in range(1, 120):
        send(tracehouse, [number])
        if number % 10 == 0:
            tracehouse.flush()
        if number % 7 == 0:
            answer = look(tracehouse, at)
            assert answer["complete"] and answer["tracesMatched"] == 7 and answer["spansArrived"] == 7
            seen += reversed(ids(answer))
            at = answer["position"]
    tracehouse.kill()
    tracehouse.start()
    # What only stood in the log is there again; what had come before the position does not come again.
    answer = look(tracehouse, at)
    seen += reversed(ids(answer))
    assert seen == list(range(1, 120))
    assert look(tracehouse, answer["position"])["traces"] == []


def test_conditions_hold_of_spans_or_of_whole_traces(tracehouse):
    at = look(tracehouse)["position"]
    send(tracehouse, range(1, 30))
    send(tracehouse, range(30, 34), error=True)
    assert sorted(ids(look(tracehouse, at, status="error"))) == [30, 31, 32, 33]
    few = look(tracehouse, at, q="{ status = error }", limit=2)
    assert few["tracesMatched"] == 4 and len(few["traces"]) == 2
    assert look(tracehouse, at, q="{ status = error } >> { }")["traces"] == []
    # The child comes later, and the trace matches as a whole from then on.
    at = look(tracehouse)["position"]
    send(tracehouse, [31], parent=31)
    assert ids(look(tracehouse, at, q="{ status = error } >> { }")) == [31]
    assert ids(look(tracehouse, at, status="error")) == [], "no span of this kind came"


def test_tenants_see_what_is_theirs(tracehouse):
    at = look(tracehouse)["position"]
    send(tracehouse, [1], tenant="shop")
    send(tracehouse, [2, 3], tenant="bank")
    assert ids(look(tracehouse, at)) == []
    assert ids(look(tracehouse, at, tenant="shop")) == [1]
    both = look(tracehouse, at, tenant="shop|bank")
    assert sorted(ids(both)) == [1, 2, 3] and both["tracesMatched"] == 3 and both["spansArrived"] == 3
    assert {trace["tenant"] for trace in both["traces"]} == {"shop", "bank"}
    send(tracehouse, [4], tenant="bank")
    assert ids(look(tracehouse, both["position"], tenant="shop|bank")) == [4]


def test_on_the_command_line(tracehouse):
    tail = subprocess.Popen(
        [BINARY, "tail", "--url", tracehouse.url, "--status", "error", "--count", "5", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    begun = threading.Event()
    numbers = iter(range(1, 10_000))

    def keep_sending():
        while tail.poll() is None:
            send(tracehouse, [next(numbers)], error=True)
            send(tracehouse, [next(numbers)])
            begun.wait(0.05)

    sender = threading.Thread(target=keep_sending)
    sender.start()
    printed, said = tail.communicate(timeout=60)
    sender.join()
    traces = [json.loads(line) for line in printed.splitlines()]
    found = [int(trace["traceId"], 16) for trace in traces]
    assert len(found) == 5 and all(number % 2 == 1 for number in found) and found == sorted(set(found))
    assert tail.returncode == 0 and said == ""
