"""When the disk is full or damaged: nothing acknowledged is lost, what can be read is read, and people are told."""

import contextlib
import os
import random
import re
import subprocess
import time

import pytest

import duck
from otlp import HOUR_NANOS, by_span, middle_of_hour, request, span, trace_as_protobuf

MIB = 2**20
NO_MERGES = {"store": {"compaction_interval": "1h"}}


def trace(number, hours_ago=1, spans=5):
    """A request with one trace, whose id is the number."""
    start = middle_of_hour(hours_ago)
    return request(
        [
            span(number.to_bytes(16), (at + 1).to_bytes(8), start + at, attributes={"number": number, "at": at})
            for at in range(spans)
        ]
    )


def send(server, *numbers, **arguments):
    for number in numbers:
        server.post_otlp(trace(number, **arguments).SerializeToString())


def is_whole(server, number, spans=5):
    return len(by_span(trace_as_protobuf(server, f"{number:032x}"))) == spans


# Full


@contextlib.contextmanager
def small_disk(folder, megabytes):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a full disk needs a small one, which only root can mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder, leave_bytes):
    disk = os.statvfs(folder)
    with open(folder / "ballast", "wb") as ballast:
        ballast.write(b"\0" * (disk.f_bavail * disk.f_frsize - leave_bytes))


@pytest.mark.parametrize(
    ("disk_free_min", "leave_bytes"),
    [
        # Refused in time, while there is still room for what is under way …
        ("8MiB", 7 * MIB),
        # … and, where people set that aside, when the disk itself says so.
        ("1B", MIB // 2),
    ],
)
def test_a_full_disk_refuses_and_recovers(new_tracehouse, tmp_path, disk_free_min, leave_bytes):
    chance = random.Random(1)
    with small_disk(tmp_path / "disk", 48) as disk:
        server = new_tracehouse({"store": {"disk_free_min": disk_free_min}}, data_dir=disk / "data").start()
        acknowledged = []

        def post(number):
            text = chance.randbytes(3000).hex()
            spans = [
                span(
                    number.to_bytes(16), (at + 1).to_bytes(8), middle_of_hour() + at, attributes={"text": f"{at}{text}"}
                )
                for at in range(5)
            ]
            answer = server.post_otlp(request(spans).SerializeToString(), expect=None)
            if answer.status_code == 200:
                acknowledged.append(number)
            else:
                assert answer.status_code in (429, 503), (answer.status_code, answer.text)
                assert int(answer.headers["Retry-After"]) >= 1
                assert answer.content
            return answer.status_code

        for number in range(1, 20):
            assert post(number) == 200
        fill(disk, leave_bytes)
        time.sleep(0.6)  # The room is looked at twice a second.
        number = 20
        while post(number) == 200:
            number += 1
            assert number < 2_000, "a full disk was never noticed"
        # Still there for questions, all of them.
        server.get("/healthz")
        server.get("/readyz")
        if disk_free_min != "1B":
            assert "the disk is nearly full" in " ".join(server.json("/api/v1/status")["troubles"])
            assert server.metric_sum("tracehouse_store_disk_full") == 1
        assert all(is_whole(server, number) for number in acknowledged)
        assert {found["traceId"] for found in server.search(limit=1000)["traces"]} == {
            f"{number:032x}" for number in acknowledged
        }
        # A flush that finds no room leaves everything as it was.
        server.request("POST", "/api/v1/admin/flush", expect=None)
        assert all(is_whole(server, number) for number in acknowledged)

        (disk / "ballast").unlink()
        deadline = time.monotonic() + 20
        number += 1
        while post(number) != 200:
            assert time.monotonic() < deadline, "there is room again, and nothing is taken"
            number += 1
            time.sleep(0.2)
        server.flush()
        server.compact()
        assert all(is_whole(server, number) for number in acknowledged)
        server.kill()
        server.start()
        assert all(is_whole(server, number) for number in acknowledged)
        connection = duck.connect(server)
        assert duck.row(connection, "SELECT count(DISTINCT trace_id), count(*) FROM spans") == (
            len(acknowledged),
            5 * len(acknowledged),
        )
        connection.close()
        server.stop()


# Damaged files


def four_files(server):
    """Four files, of four hours; returns them with the trace that is in each."""
    files = {}
    for number in range(1, 5):
        send(server, number, hours_ago=number)
        known = set(server.parquet_files())
        server.flush()
        [file] = set(server.parquet_files()) - known
        files[file] = number
    return files


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def overwrite_footer(path):
    with open(path, "r+b") as file:
        file.seek(-200, os.SEEK_END)
        file.write(b"\xa5" * 180)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, empty, overwrite_footer, remove])
def test_a_damaged_file_stops_nothing_else(new_tracehouse, damage):
    server = new_tracehouse(NO_MERGES).start()
    files = four_files(server)
    server.stop()
    damaged, lost = next(iter(files.items()))
    damage(damaged)
    server.start()
    server.get("/readyz")
    # A start opens no file: it names one that is missing; what else is wrong is found by who reads it.
    server.search(limit=100)
    wait_until(lambda: damaged.name in server.log() and "ERROR" in server.log(), "the damage is not named")
    rest = [number for number in files.values() if number != lost]
    check_rest(server, rest, lost)
    # New spans come, files are merged, and the next start does not stumble again.
    send(server, 5)
    server.flush()
    server.compact()
    check_rest(server, [*rest, 5], lost)
    server.restart()
    check_rest(server, [*rest, 5], lost)
    if damage is not remove:
        # Kept for whoever wants to save something, but not where DuckDB would stumble over it.
        kept = [path for path in server.store.rglob("*") if damaged.name in path.name]
        assert len(kept) == 1
    connection = duck.connect(server)
    assert duck.number(connection, "SELECT count(DISTINCT trace_id) FROM spans") == len(rest) + 1


def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(new_tracehouse):
    server = new_tracehouse(NO_MERGES).start()
    files = four_files(server)
    server.stop()
    pipe, lost = next(iter(files.items()))
    pipe.unlink()
    os.mkfifo(pipe)
    server.start()
    check_rest(server, [number for number in files.values() if number != lost], lost)
    server.stop()


def check_rest(server, rest, lost):
    for number in rest:
        # Spans of it might have been in the file that can't be read.
        found = trace_as_protobuf(server, f"{number:032x}", may_be_partial=True)
        assert len(by_span(found)) == 5
    server.get(f"/api/v2/traces/{lost:032x}", expect=404)
    found = server.search(limit=100)
    assert {trace["traceId"] for trace in found["traces"]} == {f"{number:032x}" for number in rest}
    assert server.json("/api/v1/services")["services"] == [{"name": "shop"}]


def test_damage_within_a_file_that_is_read(new_tracehouse):
    """The footer is right, the pages are not: it shows only when the file is read. Others must still be found."""
    server = new_tracehouse(NO_MERGES).start()
    files = four_files(server)
    server.stop()
    damaged, lost = next(iter(files.items()))
    with open(damaged, "r+b") as file:
        file.seek(4)
        file.write(b"\xa5" * 600)
    server.start()
    for number in files.values():
        if number != lost:
            assert is_whole(server, number)
    answer = server.get(f"/api/v2/traces/{lost:032x}", expect=None)
    # Never as if nothing were wrong.
    assert answer.status_code != 200
    found = server.search(limit=100)["traces"]
    assert {trace["traceId"] for trace in found} >= {f"{number:032x}" for number in files.values() if number != lost}
    report = server.compact()
    wait_until(lambda: server.metric_sum("tracehouse_store_damaged_files_total") == 1, f"it is not counted: {report}")
    assert damaged.name in server.log()
    check_rest(server, [number for number in files.values() if number != lost], lost)


# Damaged log


def log_segments(server):
    return sorted((server.data_dir / "log").glob("*.wal"))


def test_a_torn_tail_of_the_log_is_no_damage(new_tracehouse):
    """A power cut leaves half a record at the end, which nobody was told was kept."""
    server = new_tracehouse().start()
    send(server, 1, 2, 3)
    server.kill()
    with open(log_segments(server)[-1], "ab") as segment:
        segment.write(b"\x10\x00\x00\x00half a record")
    server.start()
    assert all(is_whole(server, number) for number in (1, 2, 3))
    assert server.metric_sum("tracehouse_log_damaged_segments_total") == 0
    assert "the last 17 bytes of the log segment" in server.log() and "were cut off: no header of a record" in server.log()
    send(server, 4)
    server.kill()
    server.start()
    assert all(is_whole(server, number) for number in (1, 2, 3, 4))
    send(server, 5)
    server.kill()
    segment = log_segments(server)[-1]
    os.truncate(segment, segment_used(segment) - 20)
    server.start()
    # That one was acknowledged: people can tell, as it is said what was cut off.
    assert re.search(r"were cut off: the beginning of record 5 with \d+ bytes of spans of tenant default", server.log())


def test_damage_within_the_log_costs_only_what_it_hit(new_tracehouse):
    server = new_tracehouse().start()
    send(server, 1)
    [segment] = log_segments(server)
    end_of_first = server.json("/api/v1/status") and segment_used(segment)
    send(server, 2)
    end_of_second = segment_used(segment)
    send(server, 3)
    server.kill()
    assert end_of_first < end_of_second
    with open(segment, "r+b") as file:
        file.seek((end_of_first + end_of_second) // 2)
        file.write(b"\xa5\x5a\xa5\x5a")
    server.start()
    assert is_whole(server, 1) and is_whole(server, 3)
    server.get(f"/api/traces/{2:032x}", expect=404)
    assert server.metric_sum("tracehouse_log_damaged_segments_total") == 1
    assert "segment of the log is damaged" in server.log()
    assert segment.name in server.log()
    assert re.search(r"can't be read: record 2 with \d+ bytes of spans of tenant default. Its spans are lost", server.log())
    lost, copies = server.json("/api/v1/status")["troubles"]
    assert "1 record of the log could not be read" in lost and "1 copy of a damaged segment" in copies
    send(server, 4)
    server.restart()
    assert server.json("/api/v1/status")["troubles"] == [lost, copies], "until somebody has looked at it"
    assert server.metric_sum("tracehouse_log_losses_noted") == 1
    assert all(is_whole(server, number) for number in (1, 3, 4))
    server.stop()
    [copy] = (server.data_dir / "log/damaged").iterdir()
    said = server.command("store", "check", expect=1).stdout
    assert "record 2 with" in said and copy.name in said and f"{copy.stat().st_size} bytes" in said
    assert "done: acknowledge what the log lost" in server.command("store", "repair", expect=1).stdout, "the copy is left"
    copy.unlink()
    assert "are whole" in server.command("store", "check").stdout
    server.start()
    assert server.json("/api/v1/status")["troubles"] == []


def test_a_lost_log_is_named_until_it_is_acknowledged(new_tracehouse):
    """Once, only the first start after the loss said so."""
    server = new_tracehouse().start()
    send(server, 1)
    server.flush()
    send(server, 2, 3)
    server.kill()
    # What a next start would know of the log is what the catalogue was told last: here that it came to record 1 at least.
    for segment in log_segments(server):
        os.truncate(segment, 0)
    for _ in range(2):
        server.start()
        assert "the log ends with record" in " ".join(server.json("/api/v1/status")["troubles"])
        server.stop()
        assert "`tracehouse store repair` acknowledges that" in server.command("store", "check", expect=1).stdout
    server.command("store", "repair")
    assert "are whole" in server.command("store", "check").stdout
    server.start()
    assert server.json("/api/v1/status")["troubles"] == [] and is_whole(server, 1)


# Read-only


def test_a_disk_that_is_mounted_read_only_can_be_checked_and_is_named(new_tracehouse, tmp_path):
    """Once, a check needed to write, and both it and the server said to look at who owns the folder."""
    with small_disk(tmp_path / "disk", 2048) as disk:
        server = new_tracehouse(NO_MERGES, data_dir=disk / "data").start()
        send(server, 1)
        server.flush()
        send(server, 2)
        server.kill()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert "1 of 1 files are whole" in server.command("store", "check").stdout
        server.command("store", "repair", "--dry-run")
        repaired = server.command("store", "repair", expect=2)
        for refused in (repaired.stdout + repaired.stderr, server.refuses_to_start()):
            assert "mounted read-only" in refused and "remount,rw" in refused, refused
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        server.start()
        assert all(is_whole(server, number) for number in (1, 2))
        server.stop()


def segment_used(path):
    """Where a segment's content ends; segments may be made longer than that beforehand."""
    return len(path.read_bytes().rstrip(b"\0"))


# Age and size


def test_old_files_go_by_retention(new_tracehouse):
    server = new_tracehouse({"store": {"retention": "1d", "delete_grace": "100ms"}}).start()
    send(server, 1, hours_ago=3)
    send(server, 2, hours_ago=0)
    assert is_whole(server, 1) and is_whole(server, 2)
    server.flush()
    # What is already older would not be taken.
    server.config["store"]["retention"] = "90m"
    server.restart()
    # A new store knows no time, and deletes nothing for its age before somebody vouches for the clock.
    server.request("POST", "/api/v1/admin/trust-clock", json={})
    wait_until(lambda: len(list(server.store.rglob("*.parquet*"))) == 1, "the old file is not deleted")
    server.get(f"/api/traces/{1:032x}", expect=404)
    assert is_whole(server, 2)
    assert server.metric_sum("tracehouse_store_expired_spans_total") == 5
    server.restart()
    assert is_whole(server, 2)


def test_the_oldest_files_go_by_disk_budget(new_tracehouse):
    chance = random.Random(5)
    server = new_tracehouse({"store": {"disk_budget": "500KiB", "delete_grace": "100ms"}}).start()
    # About 200 kB each, of different hours.
    for number in (1, 2, 3, 4):
        spans = [
            span(
                number.to_bytes(16),
                (at + 1).to_bytes(8),
                middle_of_hour(6 - number),
                attributes={"x": chance.randbytes(100).hex()},
            )
            for at in range(2_000)
        ]
        server.post_otlp(request(spans).SerializeToString())
        server.flush()
    wait_until(lambda: server.json("/api/v1/status")["bytesStored"] <= 500 * 1024, "the budget is not kept")
    kept = [number for number in (1, 2, 3, 4) if server.get(f"/api/v1/traces/{number:032x}", expect=None).ok]
    assert kept in ([3, 4], [4]), kept
    wait_until(lambda: disk_bytes(server.store) <= 500 * 1024, "files beyond the budget are not deleted")


def disk_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*.parquet*"))


def wait_until(holds, otherwise, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


def test_a_trace_over_the_turn_of_an_hour_is_stored_once(new_tracehouse):
    """Files are of one hour. Half of a trace redelivered later must meet its first copy all the same."""
    server = new_tracehouse().start()
    turn = middle_of_hour(1) + HOUR_NANOS // 2
    before = span(b"\x01" * 16, b"\x01" * 8, turn - 1_000)
    after = span(b"\x01" * 16, b"\x02" * 8, turn + 1_000, parent_span_id=b"\x01" * 8)
    server.post_otlp(request([before, after]).SerializeToString())
    server.flush()
    server.post_otlp(request([after]).SerializeToString())
    server.flush()
    for stage in (lambda: None, server.compact, server.restart):
        stage()
        assert len(by_span(trace_as_protobuf(server, "01" * 16))) == 2
        assert server.search()["traces"][0]["spanCount"] == 2
    assert duck.number(duck.connect(server), "SELECT count(*) FROM spans") == 2
