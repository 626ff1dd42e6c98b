"""Ranges of time: what overlaps one is found by Tempo's and the native interface, what begins in one by Jaeger's and Zipkin's."""

import json
import shutil
import time

from otlp import request, span

SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
JOB, ORDINARY, LATER = ((number).to_bytes(16) for number in (1, 2, 3))
FAILED = {"code": 2}


def sent(now):
    """A job of two hours that failed 200 seconds ago, and ordinary spans of its first minutes and of now."""
    begun = now - 2 * HOUR - 200 * SECOND
    job = span(JOB, b"\1" * 8, begun, duration_nanos=2 * HOUR, name="job", status=FAILED)
    ordinary = span(ORDINARY, b"\2" * 8, begun + MINUTE, name="job", status=FAILED)
    later = span(LATER, b"\3" * 8, now - MINUTE, name="job", status=FAILED)
    return request([job, ordinary, later], service="nightly")


def check(server, now):
    quarter = {"start": (now - 15 * MINUTE) // SECOND, "end": now // SECOND}
    inside = {"start": (now - HOUR) // SECOND, "end": (now - HOUR) // SECOND + 5}
    long_ago = {"start": (now - 5 * HOUR) // SECOND, "end": (now - 4 * HOUR) // SECOND}
    for times, expected in [(quarter, [LATER, JOB]), (inside, [JOB]), (long_ago, [])]:
        expected = [trace.hex() for trace in expected]
        query = {"q": "{ status = error }", "limit": 10}
        found = [trace["traceID"] for trace in server.json("/api/search", params=query | times)["traces"]]
        assert found == expected
        found = [trace["traceId"] for trace in server.search(**query, **times)["traces"]]
        assert found == expected
        tags = {"tags": "service.name=nightly status=error"} | times
        assert [trace["traceID"] for trace in server.json("/api/search", params=tags)["traces"]] == expected
    micros = {"service": "nightly", "start": (now - 15 * MINUTE) // 1000, "end": now // 1000, "limit": 10}
    found = server.json("/jaeger/api/traces", params=micros | {"tags": json.dumps({"error": "true"})})["data"]
    assert [trace["traceID"] for trace in found] == [LATER.hex()]
    millis = {"endTs": now // 10**6, "lookback": 15 * 60 * 1000, "limit": 10}
    found = server.json("/zipkin/api/v2/traces", params=millis)
    assert [trace[0]["traceId"] for trace in found] == [LATER.hex()]


def test_a_long_job_is_found_where_it_failed(new_tracehouse):
    server = new_tracehouse().start()
    now = time.time_ns()
    server.post_otlp(sent(now).SerializeToString())
    check(server, now)
    server.flush()
    check(server, now)
    server.compact()
    check(server, now)
    server.restart()
    check(server, now)
    # A catalogue that is made anew learns from the files when their spans end.
    server.stop()
    for path in server.data_dir.glob("catalogue.sqlite*"):
        path.unlink()
    shutil.rmtree(server.data_dir / "log")
    server.command("store", "repair")
    server.start()
    check(server, now)
