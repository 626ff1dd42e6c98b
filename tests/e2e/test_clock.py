"""A clock that is wrong deletes nothing, refuses nothing for its age, and the operator is told; ingest goes on."""

import time

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otlp import by_span, middle_of_hour, partial_success, request, span, trace_as_protobuf
from process_clock import shifted
from steady_ingest import steady_ingest

CONFIG = {"store": {"compaction_interval": "1h", "delete_grace": "100ms", "flush_interval": "200ms"}}
YEAR = 365 * 24 * 3600
SPANS = 5
DEADLINE_SECONDS = 30


def clock_at(date):
    """A clock that goes on from a date."""
    return shifted(0) | {"FAKETIME": f"@{date} 00:00:00"}


def send(server, number, hours_ago=1):
    start = middle_of_hour(hours_ago)
    spans = [span(number.to_bytes(16), (at + 1).to_bytes(8), start + at) for at in range(SPANS)]
    answer = server.post_otlp(request(spans).SerializeToString())
    assert partial_success(answer) == (0, ""), "no span is refused"


def all_there(server, numbers):
    return all(len(by_span(trace_as_protobuf(server, f"{number:032x}"))) == SPANS for number in numbers)


def offset_seconds(server):
    return server.metrics()["tracehouse_store_clock_offset_seconds"]


def offset_after_a_round(server):
    """Seconds by which the clock is ahead, once the keeper has judged every file by it and deleted what it would."""
    rounds = server.metric_sum("tracehouse_store_keeper_rounds_total")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while server.metric_sum("tracehouse_store_keeper_rounds_total") < rounds + 3:
        assert time.monotonic() < deadline, "the keeper makes no rounds"
        time.sleep(0.1)
    return offset_seconds(server)


def troubles(server):
    return " ".join(server.json("/api/v1/status")["troubles"])


@pytest.mark.parametrize("ahead", [30 * 24 * 3600, 10 * YEAR])
def test_a_clock_far_ahead_at_a_start(new_tracehouse, ahead):
    """Once, a start with a clock 30 days ahead retired every file, and deleted it two minutes later."""
    server = new_tracehouse(CONFIG).start()
    # So that it is no new store, in which nothing is old.
    server.request("POST", "/api/v1/admin/trust-clock", json={})
    send(server, 1)
    server.flush()
    server.stop()
    server.start(env=shifted(ahead))
    with steady_ingest(server) as sender:
        assert abs(offset_after_a_round(server) - ahead) < 60
        assert "trust-clock" in troubles(server)
        send(server, 2)
        server.flush()
        assert all_there(server, (1, 2))
    server.stop()
    assert "ahead of what the store knows" in server.log()
    server.start()
    sender.check()
    assert all_there(server, (1, 2)) and troubles(server) == ""
    assert server.metric_sum("tracehouse_store_expired_spans_total") == 0


def test_a_first_start_with_a_clock_ten_years_ahead(new_tracehouse):
    """A new store has nothing to compare the clock with, so nothing in it is old at first."""
    server = new_tracehouse(CONFIG).start(env=shifted(10 * YEAR))
    with steady_ingest(server) as sender:
        send(server, 1)
        server.flush()
        offset_after_a_round(server)
    server.restart()
    sender.check()
    send(server, 2)
    server.flush()
    offset_after_a_round(server)
    sender.check()
    assert all_there(server, (1, 2))
    assert "behind what the store knows" in troubles(server)
    assert server.metric_sum("tracehouse_store_expired_spans_total") == 0


def test_a_clock_far_behind_at_a_start(new_tracehouse):
    server = new_tracehouse(CONFIG).start()
    send(server, 1)
    server.flush()
    server.stop()
    server.start(env=shifted(-10 * YEAR))
    with steady_ingest(server) as sender:
        assert offset_after_a_round(server) < -9 * YEAR
        send(server, 2)
    server.restart()
    sender.check()
    assert all_there(server, (1, 2)) and troubles(server) == ""


def test_the_operator_confirms_the_clock(new_tracehouse):
    server = new_tracehouse(CONFIG).start()
    send(server, 1)
    server.flush()
    server.stop()
    server.start(env=shifted(3 * 3600))
    assert "trust-clock" in troubles(server)
    server.client("store", "trust-clock")
    assert troubles(server) == ""
    server.stop()
    # With the clock as it was, three hours are behind again; in a store that does not run it is confirmed likewise.
    server.command("store", "trust-clock")
    server.start()
    assert troubles(server) == "" and all_there(server, (1,))


def refusal_by_grpc(server, body):
    path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    with grpc.insecure_channel(server.otlp_grpc.removeprefix("http://")) as channel:
        export = channel.unary_unary(path, lambda message: message, ExportTraceServiceResponse.FromString)
        with pytest.raises(grpc.RpcError) as raised:
            export(body, timeout=DEADLINE_SECONDS)
    return raised.value


@pytest.mark.parametrize("date", ["1970-01-02", "1980-01-06", "2015-01-01"])
def test_a_new_store_with_a_clock_that_was_never_set(new_tracehouse, date):
    """Once, every span was refused for good, as one of the future, and no sender sent it again."""
    server = new_tracehouse(CONFIG).start(env=clock_at(date))
    body = request([span(b"\x01" * 16, b"\x02" * 8, middle_of_hour())]).SerializeToString()
    answer = server.post_otlp(body, expect=503)
    assert int(answer.headers["Retry-After"]) > 0 and b"never set" in answer.content
    refused = refusal_by_grpc(server, body)
    assert refused.code() == grpc.StatusCode.UNAVAILABLE and "never set" in refused.details()
    assert b"RetryInfo" in dict(refused.trailing_metadata())["grpc-status-details-bin"]
    assert "never set" in troubles(server)
    server.stop()
    assert server.log().count("senders are asked to retry later") == 1
    server.start()
    send(server, 1)
    assert all_there(server, (1,)) and troubles(server) == ""


@pytest.mark.parametrize("behind", [14 * 24 * 3600, 2 * YEAR])
def test_a_new_store_with_a_clock_that_is_behind(new_tracehouse, behind):
    """It can't know. Senders are told that either clock may be wrong, and the operator that it may be this one."""
    server = new_tracehouse(CONFIG).start(env=shifted(-behind))
    assert troubles(server) == ""
    body = request([span(b"\x01" * 16, b"\x02" * 8, middle_of_hour())]).SerializeToString()
    rejected, why = partial_success(server.post_otlp(body))
    assert rejected == 1 and "check the sender's clock and this server's" in why
    assert "later than this machine's clock allows" in troubles(server) and "as NTP does" in troubles(server)
    server.stop()
    server.start()
    send(server, 1)
    assert all_there(server, (1,)) and "later than" not in troubles(server)


def test_an_older_store_with_a_clock_that_was_never_set(new_tracehouse):
    server = new_tracehouse(CONFIG).start()
    send(server, 1)
    server.flush()
    server.stop()
    server.start(env=clock_at("1970-01-02"))
    send(server, 2)
    assert all_there(server, (1, 2))


def test_a_clock_before_1970(new_tracehouse):
    """Once, the server started, and each request ended in a panic."""
    server = new_tracehouse(CONFIG)
    try:
        server.start(env=clock_at("1969-06-01"))
    except AssertionError:
        assert "shows a time before 1970; set it" in server.log() and "panicked" not in server.log()
    else:
        raise AssertionError("the server must not start")
