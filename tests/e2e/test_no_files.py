"""Something else in the place of a file of the data directory: nobody waits for it or reads it without end, it is named, and
the rest goes on."""

import os
import socket
import time

import pytest

from otlp import by_span, middle_of_hour, request, span, trace_as_protobuf
from tracehouse import run

SPANS = 5
MIB = 1 << 20
GIB = 1 << 30
DEADLINE_SECONDS = 30
CONFIG = {"store": {"compaction_interval": "1h", "delete_grace": "100ms"}}


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def bind_socket(path):
    # The path of a socket must be short.
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


def circle(path):
    path.symlink_to(path)


THINGS = {"a pipe": pipe, "a device": device, "a socket": bind_socket, "a link that leads in a circle": circle}


def send(server, number, hours_ago=1):
    start = middle_of_hour(hours_ago)
    spans = [span(number.to_bytes(16), (at + 1).to_bytes(8), start + at) for at in range(SPANS)]
    server.post_otlp(request(spans).SerializeToString())


def is_there(server, number):
    answer = server.get(f"/api/v2/traces/{number:032x}", expect=None)
    return answer.status_code == 200 and len(by_span(trace_as_protobuf(server, f"{number:032x}"))) == SPANS


def killed(new_tracehouse):
    """A killed server with a file, and spans that are only in the log."""
    server = new_tracehouse(CONFIG).start()
    send(server, 1)
    server.flush()
    send(server, 2)
    server.kill()
    return server


def file_of(server, name):
    if name == "segment":
        return sorted((server.data_dir / "log").glob("*.wal"))[-1]
    return server.store / "STORE_ID" if name == "STORE_ID" else server.data_dir / name


@pytest.mark.parametrize("name", ["LOCK", "catalogue.sqlite", "catalogue.sqlite-wal", "STORE_ID", "segment"])
def test_a_start_and_commands_name_it(new_tracehouse, name):
    """Once, a pipe kept them waiting for ever, and a device took all memory."""
    server = killed(new_tracehouse)
    path = file_of(server, name)
    kept = server.folder / "kept"
    for what, put in THINGS.items():
        path.rename(kept)
        put(path)
        words = ["a link that leads" if put is circle else what, str(path)]
        said = server.refuses_to_start()
        assert all(word in said for word in words), f"{what}: {said}"
        done = server.command("store", "check", expect=None)
        assert done.returncode in (1, 2) and all(word in done.stdout + done.stderr for word in words), what
        repaired = server.command("store", "repair", expect=None)
        # The log is no business of a repair.
        assert name == "segment" or (repaired.returncode == 2 and words[1] in repaired.stderr), what
        path.unlink()
        kept.rename(path)
    server.start()
    assert is_there(server, 1) and is_there(server, 2)


def test_a_log_segment_that_became_very_long(new_tracehouse):
    """Once, it was read as a whole: a start took half a minute and more, and as much memory as the segment was long."""
    server = killed(new_tracehouse)
    os.truncate(file_of(server, "segment"), 64 * GIB)
    done = server.command("store", "check", expect=1)
    assert "1 of 1 files are whole" in done.stdout and "bytes are no whole record" in done.stdout
    server.start()
    assert is_there(server, 1) and is_there(server, 2)
    assert server.memory_bytes()[1] < 512 * MIB
    assert "were cut off" in server.log()
    assert all(path.stat().st_size < GIB for path in (server.data_dir / "log").glob("*.wal"))


def count(server):
    answer = server.request("POST", "/api/v1/sql", json={"query": "SELECT count(span_id) FROM spans"}).json()
    return answer["rows"][0][0], answer.get("partialReason") or ""


def troubles(server):
    return " ".join(server.json("/api/v1/status")["troubles"])


def is_counted(server):
    is_told = "1 stored file that the catalogue lists is missing" in troubles(server)
    return is_told and server.metrics()["tracehouse_store_missing_files"] == 1


def await_count(server, expected):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while count(server)[0] != expected:
        assert time.monotonic() < deadline, f"not {expected} spans in {DEADLINE_SECONDS} s"
        time.sleep(0.1)


@pytest.mark.parametrize("what", THINGS)
def test_a_stored_file(new_tracehouse, what):
    """Once, neither status nor metrics counted it, and the log named it once for each question."""
    server = new_tracehouse(CONFIG).start()
    for number in (1, 2, 3):
        send(server, number, hours_ago=number)
        server.flush()
    server.restart()
    path, kept = server.parquet_files()[0], server.folder / "kept"
    path.rename(kept)
    THINGS[what](path)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_counted(server):
        assert count(server)[0] == 2 * SPANS
        assert time.monotonic() < deadline, "the file is not counted as missing"
    for _ in range(10):
        spans, reason = count(server)
        assert spans == 2 * SPANS and f"{SPANS} of {3 * SPANS} spans could not be read, in 1 of 3 files" in reason
    assert sum(path.name in line for line in server.log().splitlines()) == 1, "it is named once"
    path.unlink()
    kept.rename(path)
    await_count(server, 3 * SPANS)
    assert troubles(server) == ""
    # The same at a start.
    server.stop()
    path.rename(kept)
    THINGS[what](path)
    assert what in server.command("store", "check", expect=1).stdout
    assert what in server.command("store", "repair", expect=1).stdout
    server.start()
    assert count(server)[0] == 2 * SPANS and is_counted(server)


def test_a_repair_without_the_store_says_what_else_to_do(new_tracehouse):
    """Once, it said: run `tracehouse store repair`."""
    server = killed(new_tracehouse)
    server.store.rename(server.folder / "elsewhere")
    done = run("store", "repair", "--data-dir", server.data_dir, expect=2)
    assert "Mount the disk" in done.stderr and done.stderr.count("store repair") == 1
    assert "store repair --forget-missing" in done.stderr
