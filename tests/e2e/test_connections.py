"""Connections that cost their peers nothing: half open, silent, slow, never reading. Others are served as before."""

import os
import resource
import socket
import threading
import time

import requests

from otlp import middle_of_hour, request, span

MIB = 2**20
TRACE = bytes(range(1, 17))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
HALF_OPEN_PER_PORT = 5000
# For the test's own files, and the connections of those who behave well.
HANDLES_OF_OTHERS = 1000

HALF_OPEN = {
    "nothing": b"",
    "one byte of a preface": b"P",
    "all but one byte of a preface": PREFACE[:-1],
    "HTTP/2 without a request": PREFACE + EMPTY_SETTINGS,
    "half a head": b"GET /api/v1/services HTTP/1.1\r\nHost: localhost\r\nX-Wait: ",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "half a body": b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000\r\n\r\n{",
}


def address_of(url):
    host, port = url.removeprefix("http://").rsplit(":", 1)
    return host, int(port)


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


class WellBehaved(threading.Thread):
    """Sends spans and asks for them, again and again; remembers what went wrong."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.halt = server, threading.Event()
        self.done, self.faults = 0, []
        self.sender, self.asker = requests.Session(), requests.Session()

    def run(self):
        while not self.halt.is_set():
            try:
                self._once(self.done + 1)
                self.done += 1
            except Exception as fault:
                self.faults.append(repr(fault))

    def _once(self, number):
        body = request([span(TRACE, number.to_bytes(8), middle_of_hour())]).SerializeToString()
        headers = {"Content-Type": "application/x-protobuf"}
        sent = self.sender.post(self.server.otlp_http + "/v1/traces", data=body, headers=headers, timeout=20)
        assert sent.status_code == 200, sent.text
        found = self.asker.get(self.server.url + "/api/v1/search", params={"limit": 1}, timeout=20)
        assert found.status_code == 200 and found.json()["traces"], found.text

    def stop(self):
        self.halt.set()
        self.join()
        assert self.faults == [] and self.done > 0, (self.done, self.faults[:3])


def test_half_open_connections_on_every_port_keep_nobody_out(tracehouse):
    _, handles = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (handles, handles))
    number = min(HALF_OPEN_PER_PORT, (handles - HANDLES_OF_OTHERS) // 3)
    good = WellBehaved(tracehouse)
    good.start()
    half_open = []
    try:
        for at in range(number):
            sent = list(HALF_OPEN.values())[at % len(HALF_OPEN)]
            for url in ports(tracehouse).values():
                half_open.append(begin(url, sent))
        done = good.done
        wait_until(lambda: good.done > done + 20 or good.faults, 30, "being served beside the half open")
        for port in ports(tracehouse):
            assert number < HALF_OPEN_PER_PORT or connections_ended(tracehouse, port, "made_room") > 0, port
        # They go although nobody needs their places.
        for port in ports(tracehouse):
            wait_until(lambda port=port: open_connections(tracehouse, port) < 50, 90, f"closing those of {port}")
        good.stop()
    finally:
        good.halt.set()
        for connection in half_open:
            connection.close()


def begin(url, sent):
    """A connection that was begun with this; it may have been closed to make room for others."""
    connection = socket.create_connection(address_of(url), timeout=30)
    try:
        connection.sendall(sent)
    except ConnectionError:
        pass
    return connection


def test_half_bodies_alone_keep_nobody_out_and_are_answered(tracehouse):
    """Each is a request that has begun: the server waits for its rest, which is no work."""
    _, handles = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (handles, handles))
    number = min(HALF_OPEN_PER_PORT, handles - HANDLES_OF_OTHERS)
    good = WellBehaved(tracehouse)
    good.start()
    half_open = []
    try:
        for _ in range(number):
            half_open.append(begin(tracehouse.otlp_http, HALF_OPEN["half a body"]))
        done = good.done
        wait_until(lambda: good.done > done + 20 or good.faults, 30, "being served beside the half bodies")
        last = half_open[-1]
        last.settimeout(60)
        assert last.recv(100).startswith(b"HTTP/1.1 408 ")
        good.stop()
    finally:
        good.halt.set()
        for connection in half_open:
            connection.close()


def test_without_file_handles_room_is_made_and_the_log_says_it_once(tracehouse):
    """No handle is left for new connections, again and again."""
    good = WellBehaved(tracehouse)
    good._once(1)
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
    assert tracehouse.search()["traces"]
    assert requests.get(tracehouse.url + "/healthz", timeout=20).status_code == 200
    assert connections_ended(tracehouse, "query", "made_room") > 0
    failures = tracehouse.metric_sum("tracehouse_connections_not_accepted_total")
    messages = tracehouse.log().count("could not accept connections")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    for connection in held:
        connection.close()
    assert failures >= 5 and 1 <= messages <= failures / 5, (failures, messages)
    good._once(2)


class RawHttp2:
    """A client of HTTP/2 that lets nothing of an answer's body through: its windows are zero."""

    def __init__(self, url):
        self.authority = url.removeprefix("http://").encode()
        self.socket = socket.create_connection(address_of(url))
        initial_window_size = (4).to_bytes(2) + (0).to_bytes(4)
        self.socket.sendall(PREFACE + self._frame(4, 0, 0, initial_window_size))

    @staticmethod
    def _frame(kind, flags, stream, payload):
        return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload

    def get(self, number, path):
        """Asks on the stream of this number, from 0 on."""
        literal = lambda index, text: bytes([index, len(text)]) + text  # noqa: E731
        # The indexed fields are `:method: GET` and `:scheme: http` of HPACK's static table.
        head = b"\x82\x86" + literal(4, path.encode()) + literal(1, self.authority)
        end_of_stream_and_headers = 5
        self.socket.sendall(self._frame(1, end_of_stream_and_headers, 2 * number + 1, head))


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
