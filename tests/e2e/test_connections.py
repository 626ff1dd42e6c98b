"""Connections that cost their peers nothing: half open and silent. Others are served as before."""

import resource
import socket
import threading
import time

import requests

from otlp import middle_of_hour, request, span

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
                connection = socket.create_connection(address_of(url))
                half_open.append(connection)
                try:
                    connection.sendall(sent)
                except ConnectionError:
                    # Closed already, to make room.
                    pass
        done = good.done
        wait_until(lambda: good.done > done + 20 or good.faults, 30, "being served beside the half open")
        good.stop()
    finally:
        good.halt.set()
        for connection in half_open:
            connection.close()
