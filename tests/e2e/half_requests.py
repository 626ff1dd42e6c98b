"""Requests that are begun and never finished, as bytes of a connection, and the connections themselves."""

import contextlib
import resource
import socket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
DATA, HEADERS, END_HEADERS = 0, 1, 4
# For the test's own files, and the connections of those who behave well.
HANDLES_OF_OTHERS = 1000


def address_of(url):
    host, port = url.removeprefix("http://").rsplit(":", 1)
    return host, int(port)


def begin(url, sent):
    """A connection that was begun with this; it may have been closed to make room for others."""
    connection = socket.create_connection(address_of(url), timeout=30)
    try:
        connection.sendall(sent)
    except ConnectionError:
        pass
    return connection


@contextlib.contextmanager
def closed_at_last():
    connections = []
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def connections_max():
    """How many connections a test may hold, having raised its own limit."""
    _, handles = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (handles, handles))
    return handles - HANDLES_OF_OTHERS


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def indexed(index, text):
    """A header field whose name is in HPACK's static table."""
    return bytes([index, len(text)]) + text


def literal(name, text):
    """A header field that is in no table; each part has fewer than 127 bytes."""
    return bytes([0, len(name)]) + name + bytes([len(text)]) + text


def half_streams(path, content_type, streams, fields=0, data=b""):
    """A connection of HTTP/2 with so many requests, each with so many more fields of 100 bytes and the begin of a body."""
    post_and_http = b"\x83\x86"
    head = post_and_http + indexed(4, path) + indexed(1, b"localhost") + literal(b"content-type", content_type)
    head += b"".join(literal(b"x-%d" % number, b"v" * 100) for number in range(fields))
    requests = (
        frame(HEADERS, END_HEADERS, 2 * number + 1, head) + (frame(DATA, 0, 2 * number + 1, data) if data else b"")
        for number in range(streams)
    )
    return PREFACE + EMPTY_SETTINGS + b"".join(requests)


def half_body(path, head_bytes, announced=1000, sent=b"{"):
    """A request of HTTP/1.1 with a head of about so many bytes and the begin of a body."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {announced}\r\n"
    fields = "".join(f"X-{number}: {'v' * 1000}\r\n" for number in range(head_bytes // 1000))
    return head.encode() + fields.encode() + b"\r\n" + sent
