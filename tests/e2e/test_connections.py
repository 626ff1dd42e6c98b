"""Connections that cost their peers nothing: half open, silent, slow, never reading. Others are served as before."""

import os
import resource
import socket
import time

import pytest
import requests

from half_requests import (
    EMPTY_SETTINGS,
    PREFACE,
    address_of,
    begin,
    closed_at_last,
    connections_max,
    half_body,
    half_streams,
)
from otlp import middle_of_hour, request, span
from process_clock import faster
from steady_ingest import steady_ingest

MIB = 2**20
TRACE = bytes(range(1, 17))
# Kinds of frames of HTTP/2, and the flag of settings and pings that are answers.
HEADERS, SETTINGS, PING, GOAWAY, ACK = 1, 4, 6, 7, 1
HALF_OPEN_PER_PORT = 5000

HALF_OPEN = {
    "nothing": b"",
    "one byte of a preface": b"P",
    "all but one byte of a preface": PREFACE[:-1],
    "HTTP/2 without a request": PREFACE + EMPTY_SETTINGS,
    # Its frame does not say that it is the last one.
    "half a head of HTTP/2": PREFACE + EMPTY_SETTINGS + b"\x00\x00\x02\x01\x00\x00\x00\x00\x01\x82\x86",
    "half a head": b"GET /api/v1/services HTTP/1.1\r\nHost: localhost\r\nX-Wait: ",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "half a body": b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000\r\n\r\n{",
}


def ports(server):
    return {"query": server.url, "otlp_grpc": server.otlp_grpc, "otlp_http": server.otlp_http}


def open_connections(server, port):
    return server.metrics()[f'tracehouse_connections_open{{port="{port}"}}']


def connections_ended(server, port, reason):
    return server.metrics().get(f'tracehouse_connections_ended_total{{port="{port}",reason="{reason}"}}', 0)


def wait_until(condition, seconds_max, what):
    deadline = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < deadline, f"{what} took more than {seconds_max} s"
        time.sleep(0.1)


def test_half_open_connections_on_every_port_keep_nobody_out(tracehouse):
    number = min(HALF_OPEN_PER_PORT, connections_max() // 3)
    with steady_ingest(tracehouse) as sender, closed_at_last() as half_open:
        for at in range(number):
            sent = list(HALF_OPEN.values())[at % len(HALF_OPEN)]
            for url in ports(tracehouse).values():
                half_open.append(begin(url, sent))
        sender.wait_for(20)
        for port in ports(tracehouse):
            assert number < HALF_OPEN_PER_PORT or connections_ended(tracehouse, port, "made_room") > 0, port
        # They go although nobody needs their places.
        for port in ports(tracehouse):
            wait_until(lambda port=port: open_connections(tracehouse, port) < 50, 90, f"closing those of {port}")


def test_half_bodies_alone_keep_nobody_out_and_are_answered(tracehouse):
    """Each is a request that has begun: the server waits for its rest, which is no work."""
    number = min(HALF_OPEN_PER_PORT, connections_max())
    with steady_ingest(tracehouse) as sender, closed_at_last() as half_open:
        for _ in range(number):
            half_open.append(begin(tracehouse.otlp_http, HALF_OPEN["half a body"]))
        sender.wait_for(20)
        last = half_open[-1]
        last.settimeout(60)
        assert last.recv(100).startswith(b"HTTP/1.1 408 ")


def http_body(tenant, announced, sent):
    """A request that announces so many bytes, with some of them."""
    head = (
        f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
        f"X-Scope-OrgID: {tenant}\r\nContent-Length: {announced}\r\n\r\n"
    )
    return head.encode() + bytes(sent)


@pytest.mark.parametrize("sent", [1, MIB - 1], ids=["announced", "sent"])
def test_large_half_bodies_of_two_tenants_keep_nobody_out(tracehouse, sent):
    """More than all requests may take together, announced or really sent and never ended."""
    in_flight_bytes_max = 96 * MIB
    with steady_ingest(tracehouse) as sender, closed_at_last() as half_open:
        for at in range(in_flight_bytes_max // MIB + 4):
            half_open.append(begin(tracehouse.otlp_http, http_body(f"evil{at % 2}", MIB, sent)))
        sender.wait_for(40)
    ended = tracehouse.metrics().get("tracehouse_receive_still_bodies_ended_total", 0)
    assert (ended > 0) == (sent > 1), "what was only announced takes no room"


def requests_ended(server, reason):
    counts = server.metrics().items()
    return sum(count for name, count in counts if name.startswith("tracehouse_requests_ended") and reason in name)


HALF_STREAMS = {
    "otlp_grpc": (b"/opentelemetry.proto.collector.trace.v1.TraceService/Export", b"application/grpc", b""),
    "otlp_http": (b"/v1/traces", b"application/json", b""),
    "query": (b"/api/v1/sql", b"application/json", b"{"),
}
HALF_STREAMS_CONNECTIONS = 300
STREAMS = 128


def test_half_streams_on_every_port_keep_nobody_out(tracehouse):
    """More than have room together, again and again: each connection is begun anew when its requests have ended."""
    with steady_ingest(tracehouse) as sender, closed_at_last() as held:
        for at in range(HALF_STREAMS_CONNECTIONS):
            for port, url in ports(tracehouse).items():
                path, content_type, data = HALF_STREAMS[port]
                held.append(begin(url, half_streams(path, content_type, STREAMS, data=data)))
        sender.wait_for(20)
        assert requests_ended(tracehouse, "made_room") > 0


def test_half_bodies_with_large_heads_keep_nobody_out(tracehouse):
    number, head_bytes = min(2000, connections_max()), 30_000
    with steady_ingest(tracehouse) as sender, closed_at_last() as held:
        for _ in range(number):
            held.append(begin(tracehouse.otlp_http, half_body("/v1/traces", head_bytes)))
        sender.wait_for(20)
        assert number * head_bytes < 48 * MIB or requests_ended(tracehouse, "made_room") > 0


def test_half_bodies_on_the_query_port_keep_no_question_out(tracehouse):
    """More than all bodies may hold together, really sent and never ended."""
    bodies_bytes_max = 64 * MIB
    with steady_ingest(tracehouse), closed_at_last() as held:
        for _ in range(bodies_bytes_max // MIB + 4):
            held.append(begin(tracehouse.url, half_body("/api/v1/sql", 0, MIB, b"{" + b" " * (MIB - 10))))
        for _ in range(5):
            answer = tracehouse.request("POST", "/api/v1/sql", json={"query": "SELECT count(*) FROM spans"}, expect=None)
            assert answer.status_code == 200, answer.text
        # Some of them found no room themselves.
        ended = "tracehouse_api_still_bodies_ended_total"
        wait_until(lambda: tracehouse.metrics().get(ended, 0) > 0, 10, "making room")


def test_without_file_handles_room_is_made_and_the_log_says_it_once(tracehouse):
    """No handle is left for new connections, again and again."""
    one = request([span(TRACE, b"\x01" * 8, middle_of_hour())]).SerializeToString()
    tracehouse.post_otlp(one)
    pid = tracehouse.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(handle) for handle in os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 4, limits[1]))
    held = []
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        held.append(begin(tracehouse.url, b"P"))
        time.sleep(0.01)
    # Who was there is served, and who comes gets the place of one that says nothing.
    tracehouse.post_otlp(one)
    assert tracehouse.search()["traces"]
    assert requests.get(tracehouse.url + "/healthz", timeout=20).status_code == 200
    assert connections_ended(tracehouse, "query", "made_room") > 0
    failures = tracehouse.metric_sum("tracehouse_connections_not_accepted_total")
    messages = tracehouse.log().count("could not accept connections")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    for connection in held:
        connection.close()
    assert failures >= 5 and 1 <= messages <= failures / 5, (failures, messages)
    tracehouse.post_otlp(one)


class RawHttp2:
    """A client of HTTP/2 that lets nothing of an answer's body through, where its windows are zero."""

    def __init__(self, url, window=0):
        self.authority = url.removeprefix("http://").encode()
        self.socket = socket.create_connection(address_of(url), timeout=30)
        initial_window_size = (4).to_bytes(2) + window.to_bytes(4)
        self.socket.sendall(PREFACE + self._frame(SETTINGS, 0, 0, initial_window_size))

    @staticmethod
    def _frame(kind, flags, stream, payload):
        return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload

    def get(self, number, path):
        """Asks on the stream of this number, from 0 on."""
        literal = lambda index, text: bytes([index, len(text)]) + text  # noqa: E731
        # The indexed fields are `:method: GET` and `:scheme: http` of HPACK's static table.
        head = b"\x82\x86" + literal(4, path.encode()) + literal(1, self.authority)
        end_of_stream_and_headers = 5
        self.socket.sendall(self._frame(HEADERS, end_of_stream_and_headers, 2 * number + 1, head))

    def ping(self):
        self.socket.sendall(self._frame(PING, 0, 0, b"tracecat"))

    def frame(self):
        """The next frame: its kind, whether it is an answer to what this side sent, its stream. Pings are answered."""
        head = self._exactly(9)
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:])
        payload = self._exactly(int.from_bytes(head[:3]))
        if kind == PING and not flags & ACK:
            self.socket.sendall(self._frame(PING, ACK, 0, payload))
        return kind, kind in (SETTINGS, PING) and bool(flags & ACK), stream

    def _exactly(self, count):
        received = b""
        while len(received) < count:
            part = self.socket.recv(count - len(received))
            assert part, "the server ended the connection"
            received += part
        return received

    def frames_until(self, *wanted):
        """The frames that come, up to this one."""
        frames = []
        while wanted not in frames:
            frames.append(self.frame())
        return frames


def test_answers_that_nobody_reads_hold_little_and_not_for_long(tracehouse):
    """Seen before: 16 answers of 55 MiB, held for as long as the connection was."""
    text = "x" * 1000
    for begin_at in range(0, 16_000, 1000):
        spans = [
            span(TRACE, (number + 1).to_bytes(8), middle_of_hour(), attributes={"note": text})
            for number in range(begin_at, begin_at + 1000)
        ]
        tracehouse.post_otlp(request(spans).SerializeToString())
    path = f"/api/traces/{TRACE.hex()}"
    answer_bytes = len(tracehouse.get(path, headers={"Accept-Encoding": "identity"}).content)
    assert answer_bytes > MIB
    held = []

    def waiting():
        held.append(tracehouse.metrics()["tracehouse_answers_waiting_bytes"])
        return held[-1]

    def refused():
        return tracehouse.metrics().get('tracehouse_requests_ended_total{port="query",reason="no_room"}', 0)

    clients = [RawHttp2(tracehouse.url) for _ in range(2)]
    for number in range(64 * MIB // answer_bytes + 2):
        for client in clients:
            before = waiting(), refused()
            client.get(number, path)
            wait_until(lambda before=before: (waiting(), refused()) != before, 30, "answering")
    assert refused() > 0
    wait_until(lambda: waiting() < MIB, 120, "ending the answers")
    assert 3 * answer_bytes < max(held) < 2 * 64 * MIB + MIB, (max(held), answer_bytes)
    # And the server is as it was.
    assert len(tracehouse.get(path, headers={"Accept-Encoding": "identity"}).content) == answer_bytes


# A second of the test is so many of the server. With more, answers to its pings would be late on a busy machine.
TIMES_FASTER = 20
# Each comes after half a minute of silence: together more than a connection without a request is kept.
PINGS = 4


def test_a_connection_at_rest_that_answers_pings_is_kept(new_tracehouse):
    """For minutes of the server's own time, on every port."""
    server = new_tracehouse().start(env=faster(TIMES_FASTER))
    clients = {port: RawHttp2(url, window=MIB) for port, url in ports(server).items()}
    came = {port: [] for port in clients}
    for number in range(PINGS):
        for client in clients.values():
            client.get(0, "/healthz") if number == 0 else client.ping()
        for port, client in clients.items():
            came[port] += client.frames_until(PING, False, 0)
    for port, client in clients.items():
        client.get(1, "/healthz")
        came[port] += client.frames_until(HEADERS, False, 3)
        assert came[port].count((PING, True, 0)) == PINGS - 1 and (HEADERS, False, 1) in came[port]
        assert (GOAWAY, False, 0) not in came[port]
        assert connections_ended(server, port, "silent") == connections_ended(server, port, "idle") == 0
