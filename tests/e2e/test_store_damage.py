"""Catalogue and files that do not fit together, or are damaged: the server refuses to start or says what it can't show,
nothing is lost, ingest goes on, and `tracehouse store` brings them together again."""

import json
import os
import random
import re
import shutil
import sqlite3
import time

import pyarrow.parquet
import pytest

from otlp import TraceByIDResponse, by_span, middle_of_hour, request, span, trace_as_protobuf
from steady_ingest import steady_ingest

SPANS = 5
COMPARE_SECONDS_MAX = 20
NO_MERGES = {"store": {"compaction_interval": "1h", "delete_grace": "100ms"}}


def send(server, *numbers, tenant=None):
    """A trace for each number, that many hours ago: each hour has a file of its own."""
    for number in numbers:
        server.post_otlp(trace(number).SerializeToString(), tenant=tenant)
    server.flush()


def trace(number):
    start = middle_of_hour(number)
    return request([span(number.to_bytes(16), (at + 1).to_bytes(8), start + at) for at in range(SPANS)])


def is_there(server, number, gone=0):
    """Whether all spans of a trace are found; an answer is partial exactly while some files can't be read, and says how many."""
    answer = server.get(f"/api/v2/traces/{number:032x}", headers={"Accept": "application/protobuf"}, expect=None)
    if answer.status_code != 200:
        assert answer.status_code == 404
        return False
    response = TraceByIDResponse.FromString(answer.content)
    said = re.search(r" in (\d+) of \d+ files", response.message)
    assert (int(said[1]) if said else 0, response.status) == (gone, 1 if gone else 0), response.message
    return len(by_span(response.trace)) == SPANS


def all_there(server, numbers, gone=0):
    return all(is_there(server, number, gone) for number in numbers)


def troubles(server):
    return " ".join(server.json("/api/v1/status")["troubles"])


def counted_by_series(server, hours_ago_max):
    begin, end = (middle_of_hour(hours_ago) // 10**9 for hours_ago in (hours_ago_max + 1, 0))
    asked = {"q": "{ } | count_over_time()", "start": begin, "end": end, "instant": "true"}
    [series] = server.json("/api/v1/metrics", params=asked)["series"]
    return sum(series["values"])


def fresh(new_tracehouse, hours=range(1, 7)):
    """A stopped server with a file for each of some hours."""
    server = new_tracehouse(NO_MERGES).start()
    send(server, *hours)
    server.stop()
    return server


def forget_catalogue(server):
    for name in ("catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"):
        (server.data_dir / name).unlink(missing_ok=True)
    # The log would bring its spans back.
    shutil.rmtree(server.data_dir / "log")


def test_what_is_kept_is_its_owners_alone_and_in_one_catalogue_file_after_a_stop(new_tracehouse):
    # Once, a stop left a part of the catalogue in SQLite's file beside it now and then, and who copied the one lost it.
    for _ in range(3):
        settings = os.umask(0)
        try:
            server = new_tracehouse(NO_MERGES).start()
        finally:
            os.umask(settings)
        send(server, 1, 2)
        open_to_others = [path for path in server.data_dir.rglob("*") if path.stat().st_mode & 0o077]
        assert server.parquet_files() and open_to_others == []
        server.stop()
        assert [path.name for path in server.data_dir.glob("catalogue*")] == ["catalogue.sqlite"]


def test_a_store_that_is_not_mounted_is_refused(new_tracehouse):
    """Once, its files were taken for damaged at the next start, and their spans were gone for good."""
    server = fresh(new_tracehouse)
    elsewhere = server.data_dir / "elsewhere"
    server.store.rename(elsewhere)
    for _ in range(2):
        said = server.refuses_to_start()
        assert "mounted" in said and "6 files" in said and str(server.store) in said
        assert not server.store.exists(), "an absent folder is not made"
    server.store.mkdir()
    assert "mounted" in server.refuses_to_start()
    assert not list(server.store.iterdir()), "nothing is put where a disk is mounted on"
    server.store.rmdir()
    elsewhere.rename(server.store)
    server.start()
    with steady_ingest(server):
        assert all_there(server, range(1, 7)) and troubles(server) == ""


def until_compared(server):
    """Files that come back are compared with the others before they count."""
    deadline = time.monotonic() + COMPARE_SECONDS_MAX
    while server.metrics()["tracehouse_store_held_back_files"] > 0:
        assert time.monotonic() < deadline, "what came back does not count again"
        time.sleep(0.1)


def test_ingest_goes_on_without_a_tenants_folder(new_tracehouse):
    """One file of seven is missing with it, so the store is not taken for one that is not mounted."""
    server = fresh(new_tracehouse)
    server.start()
    send(server, 7, tenant="moved")
    server.stop()
    folder = server.store / "tenant=moved"
    [file] = folder.rglob("*.parquet")
    elsewhere = server.data_dir / "elsewhere"
    folder.rename(elsewhere)
    server.start()
    with steady_ingest(server, "moved", complete=False) as of_moved, steady_ingest(server) as of_other:
        assert all_there(server, range(1, 7))
        missing = server.get(f"/api/v2/traces/{7:032x}", tenant="moved", expect=404)
        assert "not among what can be read" in missing.text
        assert file.name in server.log()
    server.stop()
    file.parent.mkdir(parents=True, exist_ok=True)
    (elsewhere / file.relative_to(folder)).rename(file)
    server.start()
    until_compared(server)
    found = trace_as_protobuf(server, f"{7:032x}", tenant="moved")
    assert by_span(found) == by_span(trace(7)) and troubles(server) == ""
    of_moved.check()
    of_other.check()


def test_missing_files(new_tracehouse):
    server = fresh(new_tracehouse)
    files = server.parquet_files()
    kept = server.data_dir / "kept"
    files[2].rename(kept)
    server.start()
    missing = [number for number in range(1, 7) if not is_there(server, number, gone=1)]
    assert len(missing) == 1
    for interface in ("/api/v1/traces/", "/api/traces/", "/jaeger/api/traces/", "/jaeger/api/v3/traces/", "/api/v2/trace/"):
        answer = server.get(f"{interface}{missing[0]:032x}", expect=404)
        assert "not among what can be read" in answer.text and f"{SPANS} of {6 * SPANS} spans" in answer.text, interface
    for query in ("SELECT count(*) FROM spans", "SELECT count(span_id) FROM spans"):
        answer = server.request("POST", "/api/v1/sql", json={"query": query}).json()
        assert answer["rows"] == [[5 * SPANS]] and f"{SPANS} of {6 * SPANS} spans" in answer["partialReason"], query
    assert "1 stored file that the catalogue lists is missing" in troubles(server)
    with steady_ingest(server) as sender:
        assert all_there(server, [number for number in range(1, 7) if number not in missing], gone=1)
    assert server.metrics()["tracehouse_store_missing_files"] == 1
    server.stop()
    files[4].rename(server.data_dir / "kept-too")
    said = server.refuses_to_start()
    assert re.search(r"2 of the \d files", said) and "--forget-missing" in said
    assert "is missing" in server.command("store", "repair", expect=1).stdout
    assert "forget the missing" in server.command("store", "repair", "--dry-run", "--forget-missing").stdout
    kept.rename(files[2])
    (server.data_dir / "kept-too").rename(files[4])
    server.start()
    sender.check()
    until_compared(server)
    assert all_there(server, range(1, 7)) and troubles(server) == ""


def test_spans_that_were_stored_once_more_without_the_catalogue(new_tracehouse):
    """Once, SQL and series counted them twice after the repair, until their hours were merged."""
    hours = range(1, 7)
    server = new_tracehouse(NO_MERGES).start()
    send(server, *hours)
    server.kill()
    for name in ("catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"):
        (server.data_dir / name).unlink(missing_ok=True)
    server.start()
    # The log still has some; others are sent again.
    send(server, 1, 2, 9)
    assert "6 stored files are unknown" in troubles(server)
    server.stop()
    foreseen = server.command("store", "repair", "--dry-run").stdout.replace("would", "done:")
    done = server.command("store", "repair").stdout
    assert done == foreseen and "that another file holds too" in done
    assert server.command("store", "repair").stdout == "nothing has to be done\n"
    server.start()
    for _ in range(2):
        assert all_there(server, [*hours, 9]) and troubles(server) == ""
        query = {"query": "SELECT count(*) AS spans FROM spans"}
        assert server.request("POST", "/api/v1/sql", json=query).json()["rows"] == [[7 * SPANS]]
        assert counted_by_series(server, 9) == 7 * SPANS
        server.request("POST", "/api/v1/admin/compact")


def test_a_lost_catalogue(new_tracehouse):
    """Once, the files were renamed, the answers were complete without them, and the next start said nothing."""
    server = fresh(new_tracehouse)
    before = {path: path.read_bytes() for path in server.parquet_files()}
    forget_catalogue(server)
    for _ in range(2):
        server.start()
        assert not any(is_there(server, number) for number in range(1, 7))
        assert "6 stored files are unknown" in troubles(server)
        answer = server.request("POST", "/api/v1/sql", json={"query": "SELECT count(*) FROM spans"}).json()
        assert answer["partialReason"].startswith("an unknown number of spans could not be read, in 6 of 6 files")
        assert server.metrics()["tracehouse_store_unknown_files"] == 6
        server.stop()
        assert "does not know a stored file" in server.log()
        assert {path: path.read_bytes() for path in server.parquet_files()} == before, "they are left as they are"
    checked = server.command("store", "check", expect=1)
    assert checked.stdout.count("unknown to the catalogue") == 6 and "0 of 6 files are whole" in checked.stdout
    foreseen = server.command("store", "repair", "--dry-run").stdout.replace("would", "done:")
    assert server.command("store", "repair").stdout == foreseen
    assert foreseen.count("adopt") == 6
    assert server.command("store", "repair").stdout == "nothing has to be done\n"
    assert "6 of 6 files are whole" in server.command("store", "check").stdout
    server.start()
    assert all_there(server, range(1, 7)) and troubles(server) == ""


def test_a_catalogue_from_an_older_copy(new_tracehouse):
    server = fresh(new_tracehouse, range(1, 4))
    copy = server.data_dir / "copy.sqlite"
    with sqlite3.connect(server.data_dir / "catalogue.sqlite") as catalogue, sqlite3.connect(copy) as target:
        catalogue.backup(target)
    server.start()
    send(server, 4, 5, 6)
    server.stop()
    forget_catalogue(server)
    copy.rename(server.data_dir / "catalogue.sqlite")
    server.start()
    assert all_there(server, range(1, 4), gone=3) and not any(is_there(server, number) for number in range(4, 7))
    assert "3 stored files are unknown" in troubles(server)
    server.stop()
    server.command("store", "repair")
    server.start()
    assert all_there(server, range(1, 7)) and troubles(server) == ""


def test_swapped_files(new_tracehouse):
    """Once, each answered as the other."""
    server = fresh(new_tracehouse)
    one, other = server.parquet_files()[:2]
    between = server.data_dir / "between"
    one.rename(between)
    other.rename(one)
    between.rename(other)
    assert server.command("store", "check", "--quick", expect=1).stdout.count("has the name of another file") == 2
    server.command("store", "repair")
    assert server.command("store", "check").returncode == 0
    server.start()
    assert all_there(server, range(1, 7))


@pytest.mark.parametrize("damage", ["rows", "pages", "no database"])
def test_a_damaged_catalogue(new_tracehouse, damage):
    """Once, damaged rows took all files with them."""
    chance = random.Random(1)
    server = fresh(new_tracehouse)
    catalogue = server.data_dir / "catalogue.sqlite"
    if damage == "rows":
        connection = sqlite3.connect(catalogue)
        connection.execute("UPDATE files SET start_max = start_max + 1 WHERE rowid IN (2, 3)")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        server.start()
        assert sum(is_there(server, number, gone=2) for number in range(1, 7)) == 4, "the others are there"
        assert "2 rows of the catalogue are damaged" in troubles(server)
        server.stop()
    else:
        for path in server.data_dir.glob("catalogue.sqlite-*"):
            path.unlink()
        content = bytearray(catalogue.read_bytes())
        begin = 4096 if damage == "pages" else 0
        content[begin:] = chance.randbytes(len(content) - begin)
        catalogue.write_bytes(content)
        assert "store repair" in server.refuses_to_start()
        assert catalogue.read_bytes() == content, "nothing is changed"
    server.command("store", "repair")
    assert server.command("store", "check").returncode == 0
    server.start()
    assert all_there(server, range(1, 7)) and troubles(server) == ""
    assert len(server.parquet_files()) == 6


def flip_bit(path, at, bit):
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


DESCRIPTIONS = ["minutes ", "retired_reason", "success", "checksum BIGINT", "start_min ", "BIGINT NOT NULL", "checked rows"]


@pytest.mark.parametrize("name", [*DESCRIPTIONS, "WRITE_VERSION"])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_in_the_schema_of_the_catalogue(new_tracehouse, name, bit):
    """A column has another name then, or one that is no text: the catalogue is damaged, and is repaired. Once, neither the
    server nor a repair went on, or both waited for ever."""
    server = fresh(new_tracehouse)
    catalogue = server.data_dir / "catalogue.sqlite"
    content = catalogue.read_bytes()
    # What stands before a migration's name is its number.
    at = 18 if name == "WRITE_VERSION" else content.rfind(name.encode()) - (name == "checked rows")
    flip_bit(catalogue, at, bit)
    assert "store repair" in server.refuses_to_start()
    assert "damaged" in server.command("store", "check", expect=1).stdout
    server.command("store", "repair")
    server.start()
    with steady_ingest(server):
        assert all_there(server, range(1, 7)) and troubles(server) == ""


@pytest.mark.parametrize("damage", [0, 3, 7, "empty"])
def test_a_damaged_name_of_the_store(new_tracehouse, damage):
    """Once, one bit of it was a dead end."""
    server = fresh(new_tracehouse)
    name = server.store / "STORE_ID"
    sound = name.read_bytes()
    if damage == "empty":
        name.write_bytes(b"")
    else:
        flip_bit(name, 5, damage)
    said = server.refuses_to_start()
    assert "STORE_ID" in said and "store repair" in said
    assert "STORE_ID" in server.command("store", "check", expect=1).stdout
    assert "write the store's name" in server.command("store", "repair").stdout
    assert name.read_bytes() == sound
    server.start()
    with steady_ingest(server):
        assert all_there(server, range(1, 7)) and troubles(server) == ""


def test_links_that_lead_in_circles_and_what_replaced_the_spool(new_tracehouse):
    """Neither server nor commands walk them for ever, and what lies on another disk still counts."""
    server = fresh(new_tracehouse)
    for name, target in [("up", ".."), ("up-too", ".."), ("all", "/"), ("tenant=up", ".."), ("tenant=all", "/")]:
        (server.store / name).symlink_to(target)
    elsewhere = server.data_dir / "kept"
    (server.store / "tenant=default").rename(elsewhere)
    (server.store / "tenant=default").symlink_to(elsewhere)
    assert "6 of 6 files are whole" in server.command("store", "check").stdout
    assert "nothing has to be done" in server.command("store", "repair").stdout
    spool = server.store / ".spool"
    spool.rmdir()
    spool.write_bytes(b"")
    assert ".spool" in server.command("store", "check", expect=1).stdout
    assert ".spool" in server.command("store", "repair", expect=1).stdout
    assert ".spool" in server.refuses_to_start()
    spool.unlink()
    server.start()
    with steady_ingest(server):
        assert all_there(server, range(1, 7)) and troubles(server) == ""


def test_a_damaged_file_and_the_json_of_a_check(new_tracehouse):
    server = fresh(new_tracehouse)
    damaged = server.parquet_files()[1]
    content = bytearray(damaged.read_bytes())
    damaged.write_bytes(content[:-40])
    [finding] = json.loads(server.command("store", "check", "--json", expect=1).stdout)["findings"]
    assert finding["path"] == str(damaged.relative_to(server.store)) and finding["spans"] == SPANS
    assert finding["trouble"] == "damaged" and finding["state"] == "nothing"
    assert "set" in server.command("store", "repair", expect=1).stdout
    server.start()
    assert sum(is_there(server, number, gone=1) for number in range(1, 7)) == 5
    assert "1 stored file" in troubles(server) and "set aside" in troubles(server)
    server.stop()
    # A copy of it turns up.
    [aside] = [path for path in server.store.rglob("*.parquet*") if path.stem == damaged.stem or path == damaged]
    aside.write_bytes(content)
    assert "take back" in server.command("store", "repair").stdout
    server.start()
    assert all_there(server, range(1, 7)) and troubles(server) == ""


REST_SLICES = 12
FOOTER_SLICES = 4
WHOLE_FILES = 3


def regions(path):
    """A byte in each region of a file, by its name: the columns, what stands behind them, the footer, the ends."""
    size = path.stat().st_size
    metadata = pyarrow.parquet.read_metadata(path)
    footer = size - 8 - int.from_bytes(path.read_bytes()[-8:-4], "little")
    found = {"first magic": 1, "length of the footer": size - 7, "last magic": size - 2}
    rest = 4
    for number in range(metadata.num_columns):
        column = metadata.row_group(0).column(number)
        begin = column.dictionary_page_offset or column.data_page_offset
        rest = max(rest, begin + column.total_compressed_size)
        found |= {f"header of {number}": begin + 1, f"column {number}": begin + column.total_compressed_size - 2}
    # The filter of trace ids, names, the index with checksums, and Parquet's own indexes.
    for number in range(REST_SLICES):
        found[f"behind the columns, {number}"] = rest + (footer - rest) * (2 * number + 1) // (2 * REST_SLICES)
    for number in range(FOOTER_SLICES):
        found[f"footer, {number}"] = footer + (size - 8 - footer) * (2 * number + 1) // (2 * FOOTER_SLICES)
    return found


def flip(path, at):
    flip_bit(path, at, at % 8)


def spans_found(server, number):
    """How many spans of a trace are answered: with what was sent, and if not all, then the answer says so."""
    answer = server.get(f"/api/v2/traces/{number:032x}", headers={"Accept": "application/protobuf"}, expect=None)
    if answer.status_code == 404:
        assert "not among what can be read" in answer.text
        return 0
    assert answer.status_code == 200, answer.text
    response = TraceByIDResponse.FromString(answer.content)
    found, sent = by_span(response.trace), by_span(trace(number))
    assert all(fields == sent[key] for key, fields in found.items()), number
    assert len(found) == SPANS or response.message, number
    return len(found)


def counted_by_sql(server):
    """How many spans of each trace SQL finds; if not all, then the answer says so."""
    query = "SELECT trace_id, count(*), count(DISTINCT span_id) FROM spans WHERE service_name = 'shop' GROUP BY 1"
    answer = server.request("POST", "/api/v1/sql", json={"query": query, "limit": 1000}).json()
    assert all(spans == distinct <= SPANS for _, spans, distinct in answer["rows"])
    assert re.search(r"\d+ of \d+ spans", answer["partialReason"])
    return {int(trace, 16): spans for trace, spans, _ in answer["rows"]}


def test_a_flipped_bit_in_each_region_of_a_file(new_tracehouse):
    """Each in a file of its own: what is answered is right or said to be partial, and ingest goes on."""
    server = new_tracehouse(NO_MERGES).start()
    send(server, 1)
    [first] = server.parquet_files()
    names = list(regions(first))
    files = len(names) + WHOLE_FILES
    for number in range(2, files + 1):
        send(server, number)
    server.stop()
    # By the hour in their paths: the oldest come first, and the newest stay whole.
    for path, name in zip(server.parquet_files(), names, strict=False):
        flip(path, regions(path)[name])
    server.start()

    def check():
        by_trace = {number: spans_found(server, number) for number in range(1, files + 1)}
        by_sql = counted_by_sql(server)
        for number in range(1, WHOLE_FILES + 1):
            assert by_trace[number] == by_sql[number] == SPANS
        assert set(by_sql) <= set(by_trace) and len(by_sql) < files

    with steady_ingest(server, tenant=None, complete=False) as of_same, steady_ingest(server) as of_other:
        check()
        server.compact()
        check()
    server.restart()
    check()
    of_same.check()
    of_other.check()
    assert "set aside" in troubles(server)


def test_a_check_names_a_damaged_log(new_tracehouse):
    server = new_tracehouse(NO_MERGES).start()
    for number in range(1, 4):
        spans = [span(number.to_bytes(16), b"\x01" * 8, middle_of_hour(number))]
        server.post_otlp(request(spans).SerializeToString())
    server.kill()
    assert server.command("store", "check").returncode == 0, "spans that are only in the log are no fault"
    [segment] = sorted((server.data_dir / "log").glob("*.wal"))
    content = bytearray(segment.read_bytes())
    content[len(content.rstrip(b"\0")) // 2] ^= 1
    segment.write_bytes(content)
    assert "bytes are damaged" in server.command("store", "check", expect=1).stdout
    assert segment.read_bytes() == content, "nothing is changed"


def test_a_store_in_use_is_left_alone(new_tracehouse):
    server = new_tracehouse(NO_MERGES).start()
    for arguments in (("check",), ("repair",), ("trust-clock",)):
        assert "in use by another tracehouse" in server.command("store", *arguments, expect=2).stderr
    server.stop()
    nowhere = server.folder / "nowhere"
    server.data_dir, kept = nowhere, server.data_dir
    assert "holds no store" in server.command("store", "check", expect=2).stderr
    assert not nowhere.exists()
    server.data_dir = kept
