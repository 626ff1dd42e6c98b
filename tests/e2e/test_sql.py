"""SQL by HTTP, by Arrow Flight SQL with ADBC, and on the command line; against DuckDB over the same files."""

import csv
import io
import json

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flightsql
import pyarrow.ipc
import pytest

import duck
from otlp import by_span, middle_of_hour
from test_duckdb import make_traces

TENANT = "acme"
TENANT_HEADER = f"{adbc_driver_flightsql.DatabaseOptions.RPC_CALL_HEADER_PREFIX.value}x-scope-orgid"
ARROW = "application/vnd.apache.arrow.stream"

# The same question to Tracehouse and to DuckDB.
PAIRS = [
    ("SELECT count(*) FROM spans", "SELECT count(*) FROM spans"),
    (
        "SELECT service_name, status, count(*), max(duration_nanos) FROM spans GROUP BY 1, 2",
        'SELECT "resource.service.name", status, count(*), max(duration_nanos) FROM spans GROUP BY 1, 2',
    ),
    (
        "SELECT attr('http.route'), count(*) FROM spans WHERE attr_int('http.response.status_code') >= 400 GROUP BY 1",
        'SELECT "span.http.route", count(*) FROM spans WHERE "span.http.response.status_code" >= 400 GROUP BY 1',
    ),
    (
        "SELECT span_id, attr_float('ratio'), attr_bool('retry') FROM spans WHERE kind = 'client'",
        'SELECT lower(hex(span_id)), "span.ratio", "span.retry" FROM spans WHERE kind = \'client\'',
    ),
    (
        "SELECT attr('rare'), count(*) FROM spans WHERE attr('rare') IS NOT NULL GROUP BY 1",
        "SELECT span_attributes['rare']->>'$', count(*) FROM spans WHERE span_attributes['rare'] IS NOT NULL "
        "GROUP BY 1",
    ),
    (
        "SELECT trace_id, spans, errors, duration_nanos FROM traces",
        """
        SELECT lower(hex(trace_id)), count(*), count(*) FILTER (WHERE status = 'error'),
               max(epoch_ns(start_time) + duration_nanos) - min(epoch_ns(start_time))
        FROM spans GROUP BY trace_id
        """,
    ),
    (
        "SELECT span_id, name FROM events",
        "SELECT lower(hex(span_id)), unnest([event.name for event in events]) FROM spans",
    ),
    (
        "SELECT parent_span_id IS NULL, count(*) FROM spans GROUP BY 1",
        "SELECT parent_offset IS NULL AND parent_span_id IS NULL, count(*) FROM spans GROUP BY 1",
    ),
]


@pytest.fixture
def filled(new_tracehouse):
    """A server with the spans of two tenants, the later ones in memory; and those of one of them."""
    server = new_tracehouse().start()
    sent = {}
    for hour in range(3):
        for made in make_traces(f"sql {hour}", middle_of_hour(hour + 1)):
            server.post_otlp(made.SerializeToString(), tenant=TENANT)
            sent |= by_span(made)
        for made in make_traces(f"other {hour}", middle_of_hour(hour + 1), count=3):
            server.post_otlp(made.SerializeToString())
        if hour < 2:
            server.flush()
    return server, sent


def ask(server, query, tenant=TENANT, **more):
    return server.request("POST", "/api/v1/sql", json={"query": query, **more}, tenant=tenant).json()


def connect(server, tenant=TENANT):
    return flightsql.connect(
        server.url.replace("http://", "grpc://"), db_kwargs={TENANT_HEADER: tenant}, autocommit=True
    )


def in_order(rows):
    return sorted(map(tuple, rows), key=lambda row: [(value is None, str(value)) for value in row])


def test_answers_are_those_of_duckdb(filled):
    server, sent = filled
    by_memory = [in_order(ask(server, ours)["rows"]) for ours, _ in PAIRS]
    server.flush()
    for stage in ("flushed", "compacted"):
        if stage == "compacted":
            server.compact()
        files = duck.connect(server)
        files.execute(f"CREATE TEMP VIEW mine AS SELECT * FROM spans WHERE tenant = '{TENANT}'")
        with connect(server) as connection, connection.cursor() as cursor:
            for (ours, theirs), in_memory in zip(PAIRS, by_memory, strict=True):
                expected = in_order(duck.rows(files, theirs.replace("FROM spans", "FROM mine")))
                assert expected
                answer = ask(server, ours)
                assert answer["complete"]
                assert in_order(answer["rows"]) == expected == in_memory, (stage, ours)
                cursor.execute(ours)
                assert in_order(cursor.fetchall()) == expected, (stage, ours)
    assert ask(server, "SELECT count(*) FROM spans")["rows"] == [[len(sent)]]


def test_the_ways_an_answer_may_look(filled):
    server, sent = filled
    answer = ask(server, "SELECT name, start_time, duration_nanos, weight FROM spans", limit=3)
    assert [column["type"] for column in answer["columns"]] == ["text", "timestamp", "bigint", "double"]
    assert len(answer["rows"]) == 3
    assert answer["complete"] is False
    assert answer["partialReason"].startswith("3 of at least 4 rows")
    as_arrow = server.request(
        "POST", "/api/v1/sql", json={"query": "SELECT * FROM spans"}, headers={"Accept": ARROW}, tenant=TENANT
    )
    table = pyarrow.ipc.open_stream(as_arrow.content).read_all()
    assert table.num_rows == len(sent)
    starts = {str(span): start.value for span, start in zip(table["span_id"], table["start_time"], strict=True)}
    assert starts == {span_id: fields["start_time_unix_nano"] for (_, span_id), fields in sent.items()}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("DELETE FROM spans", "only questions"),
        ("SELECT namex FROM spans", "name"),
        ("SELECT * FROM '/etc/passwd'", "/etc/passwd"),
        ("SELECT 1; SELECT 2", "one at a time"),
    ],
)
def test_refusals(tracehouse, query, expected):
    refused = tracehouse.request("POST", "/api/v1/sql", json={"query": query}, expect=400).json()
    assert expected in refused["detail"]
    with connect(tracehouse) as connection, connection.cursor() as cursor, pytest.raises(Exception, match=expected):
        cursor.execute(query)
    assert expected in tracehouse.client("sql", query, expect=2).stderr


def test_flight_sql_tells_what_there_is(filled):
    server, sent = filled
    with connect(server) as connection:
        assert connection.adbc_get_info()["vendor_name"] == "Tracehouse"
        assert connection.adbc_get_table_types() == ["TABLE"]
        [catalogue] = connection.adbc_get_objects(depth="columns").read_all().to_pylist()
        [schema] = catalogue["catalog_db_schemas"]
        tables = {
            table["table_name"]: [column["column_name"] for column in table["table_columns"]]
            for table in schema["db_schema_tables"]
        }
        assert set(tables) == {"spans", "traces", "events", "links"}
        assert "service_name" in tables["spans"]
        with connection.cursor() as cursor:
            cursor.adbc_prepare("SELECT count(*) AS spans FROM spans")
            cursor.execute("SELECT count(*) AS spans FROM spans")
            assert cursor.fetch_arrow_table().to_pydict() == {"spans": [len(sent)]}
    with connect(server, tenant="nobody") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM spans")
        assert cursor.fetchone() == (0,)


def test_the_command_line(filled):
    server, sent = filled
    query = "SELECT service_name, count(*) AS spans FROM spans GROUP BY 1 ORDER BY 1"
    expected = ask(server, query)["rows"]
    table = server.client("sql", query, "--tenant", TENANT).stdout.splitlines()
    assert table[0].split() == ["service_name", "spans"]
    assert [line.split() for line in table[1:-1]] == [[name, str(count)] for name, count in expected]
    assert table[-1] == f"{len(expected)} rows"
    as_csv = server.client("sql", query, "--tenant", TENANT, "--output", "csv").stdout
    assert list(csv.reader(io.StringIO(as_csv)))[1:] == [[name, str(count)] for name, count in expected]
    as_json = server.client("sql", query, "--tenant", TENANT, "--output", "json").stdout
    assert json.loads(as_json)["rows"] == expected
    cut = server.client("sql", "SELECT name FROM spans", "--tenant", TENANT, "--limit", "2")
    assert "2 of at least 3 rows" in cut.stderr
