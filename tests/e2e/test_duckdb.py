"""DuckDB reads the stored files with one glob and sees what the API says: to leave, nobody needs anything of ours."""

import json
import random
from datetime import datetime

import pytest

import duck
from otlp import HOUR_NANOS, by_span, middle_of_hour, request, span, trace_as_protobuf

KINDS = ["unspecified", "internal", "server", "client", "producer", "consumer"]
STATUSES = ["unset", "ok", "error"]
ROUTES = ["/cart", "/cart/{id}", "/checkout", "/größe 🚀"]
HOURS = 3
TENANTS = ["default", "acme", "other-1"]


def make_traces(seed, hour, count=60):
    """Requests of traces within one hour, with attributes of every type: common ones, rare ones, and one whose type
    changes. Spans point at parents in their trace, and at one that is missing."""
    chance = random.Random(seed)
    requests = []
    for number in range(count):
        trace_id = chance.randbytes(16)
        service = f"service-{number % 4}"
        start = hour + chance.randrange(-HOUR_NANOS // 3, HOUR_NANOS // 3)
        spans, ids = [], []
        for at in range(chance.randrange(1, 12)):
            pairs = {
                "http.route": chance.choice(ROUTES),
                "http.response.status_code": chance.choice([200, 404, 500]),
                "retry": chance.random() < 0.5,
                "ratio": chance.random(),
                "list": [1, "two", True],
                "mostly.text": chance.choice(["text", "text", "text", 7, 7.5, True]),
            }
            if chance.random() < 0.01:
                pairs["rare"] = f"rare {number}"
            span_id = chance.randbytes(8)
            parent = b"" if at == 0 else chance.choice([*ids, b"\x99" * 8])
            ids.append(span_id)
            status = chance.randrange(3)
            events = [
                {"time_unix_nano": start + at, "name": f"event {event}", "attributes": []} for event in range(at % 3)
            ]
            spans.append(
                span(
                    trace_id,
                    span_id,
                    start + at * 1_000,
                    duration_nanos=chance.randrange(10**9),
                    name=f"operation {at}",
                    kind=chance.randrange(6),
                    parent_span_id=parent,
                    status={"code": status, "message": "broken" if status == 2 else ""},
                    events=events,
                    attributes=pairs,
                )
            )
        resource = {"service.version": "1.0", "host.name": f"host-{number % 3}", "host.cpu.count": 4}
        requests.append(request(spans, service=service, resource=resource))
    return requests


@pytest.fixture
def filled(new_tracehouse):
    """A server with three tenants and three hours, and what was sent: {tenant: {(trace, span): fields}}."""
    server = new_tracehouse().start()
    sent = {}
    for tenant_number, tenant in enumerate(TENANTS):
        sent[tenant] = {}
        for hour in range(HOURS):
            for made in make_traces(f"{tenant_number}/{hour}", middle_of_hour(hour + 1)):
                server.post_otlp(made.SerializeToString(), tenant=tenant)
                sent[tenant] |= by_span(made)
    return server, sent


def stages(server):
    """The same spans in files of each making, with how many files there are: one for each tenant and hour."""
    server.flush()
    yield "flushed", HOURS * len(TENANTS)
    server.compact()
    yield "compacted", HOURS * len(TENANTS)
    server.restart()
    yield "restarted", HOURS * len(TENANTS)


def test_counts_are_the_apis(filled):
    server, sent = filled
    for stage, files in stages(server):
        connection = duck.connect(server)
        for tenant, spans in sent.items():
            counted = duck.row(
                connection,
                """
                SELECT count(*), count(DISTINCT (trace_id, span_id)), count(DISTINCT trace_id)
                FROM spans WHERE tenant = ?
                """,
                tenant,
            )
            traces = {trace_id for trace_id, _ in spans}
            assert counted == (len(spans), len(spans), len(traces)), (stage, tenant)
            assert server.json("/api/v1/status", tenant=tenant)["spansStored"] == len(spans), (stage, tenant)
            found = server.search(tenant=tenant, limit=1000)["traces"]
            assert {trace["traceId"] for trace in found} == traces, (stage, tenant)
            assert sum(trace["spanCount"] for trace in found) == len(spans), (stage, tenant)
            by_hour = duck.rows(
                connection,
                f"""
                SELECT date, hour, min(epoch_ns(start_time)) // {HOUR_NANOS}, max(epoch_ns(start_time)) // {HOUR_NANOS}
                FROM spans WHERE tenant = ? GROUP BY ALL
                """,
                tenant,
            )
            assert len(by_hour) == HOURS
            for date, hour, first, last in by_hour:
                named = datetime.fromisoformat(f"{date}T{hour}:00:00+00:00").timestamp() / 3600
                assert first == last == named
        assert len(server.parquet_files()) == files, stage


def test_columns_hold_what_was_sent(filled):
    """Every span, column by column, against what was sent and what the API answers."""
    server, sent = filled
    for stage, _ in stages(server):
        connection = duck.connect(server)
        stored = {
            (tenant, row[0], row[1]): row[2:]
            for tenant, *row in duck.rows(
                connection,
                """
                SELECT tenant, lower(hex(trace_id)), lower(hex(span_id)), name, kind, status, status_message,
                       epoch_ns(start_time), duration_nanos, "resource.service.name", "span.http.route",
                       "span.http.response.status_code", "span.retry", "span.ratio",
                       span_attributes['list'], span_attributes['rare'],
                       coalesce("span.mostly.text", span_attributes['mostly.text']),
                       [event.name for event in events], scope_name, scope_version,
                       resource_attributes->>'$."host.name"', resource_attributes->'$."host.cpu.count"'
                FROM spans
                """,
            )
        }
        assert len(stored) == sum(map(len, sent.values()))
        for tenant, spans in sent.items():
            for (trace_id, span_id), fields in spans.items():
                assert stored[tenant, trace_id, span_id] == expected_columns(fields), stage
        # The API agrees, for a few of each tenant.
        for tenant, spans in sent.items():
            for trace_id in sorted({trace_id for trace_id, _ in spans})[:5]:
                answered = by_span(trace_as_protobuf(server, trace_id, tenant=tenant))
                for (_, span_id), fields in answered.items():
                    assert stored[tenant, trace_id, span_id] == expected_columns(fields), stage


def expected_columns(fields):
    pairs = {key: value[-1] for key, value in fields["attributes"]}
    resource = {key: value[-1] for key, value in fields["resource.attributes"]}
    code, message = fields["status"]
    kind, mostly_text = next(value for key, value in fields["attributes"] if key == "mostly.text")
    if kind == "double_value":
        mostly_text = float.fromhex(mostly_text)
    return [
        fields["name"],
        KINDS[fields["kind"]],
        STATUSES[code],
        message or None,
        fields["start_time_unix_nano"],
        fields["end_time_unix_nano"] - fields["start_time_unix_nano"],
        resource["service.name"],
        pairs["http.route"],
        pairs["http.response.status_code"],
        pairs["retry"],
        float.fromhex(pairs["ratio"]),
        '[1,"two",true]',
        json.dumps(pairs["rare"]) if "rare" in pairs else None,
        # The column is of the most frequent type; values of others are among the rest, as JSON.
        mostly_text if kind == "string_value" else json.dumps(mostly_text),
        [event[1] for event in fields["events"]],
        fields["scope.name"],
        fields["scope.version"],
        resource["host.name"],
        str(resource["host.cpu.count"]),
    ]


def test_parents_can_be_looked_up(filled):
    """A parent in the same trace is stored as its distance in rows, which any engine with row numbers can follow."""
    server, sent = filled
    expected = {
        (tenant, span_id): fields["parent_span_id"].hex() or None
        for tenant, spans in sent.items()
        for (_, span_id), fields in spans.items()
    }
    assert sum(parent == "99" * 8 for parent in expected.values()) > 100
    for stage, _ in stages(server):
        connection = duck.connect(server, "file_row_number = true, filename = true")
        found = duck.rows(
            connection,
            """
            SELECT child.tenant, lower(hex(child.span_id)), lower(hex(coalesce(child.parent_span_id, parent.span_id)))
            FROM spans AS child LEFT JOIN spans AS parent
            ON parent.filename = child.filename
            AND parent.file_row_number = child.file_row_number - child.parent_offset
            """,
        )
        assert len(found) == len(expected)
        assert {(tenant, span_id): parent for tenant, span_id, parent in found} == expected, stage


def test_small_questions(filled):
    """What people would ask, in the two forms an attribute has."""
    server, sent = filled
    server.flush()
    connection = duck.connect(server)
    everything = [fields for spans in sent.values() for fields in spans.values()]
    for route in ROUTES:
        expected = sum(("http.route", ("string_value", route)) in fields["attributes"] for fields in everything)
        assert duck.number(connection, 'SELECT count(*) FROM spans WHERE "span.http.route" = ?', route) == expected > 0
    rare = sum(any(key == "rare" for key, _ in fields["attributes"]) for fields in everything)
    assert duck.number(connection, "SELECT count(*) FROM spans WHERE span_attributes['rare'] IS NOT NULL") == rare > 0
    events = sum(len(fields["events"]) for fields in everything)
    assert duck.number(connection, "SELECT sum(len(events)) FROM spans") == events > 0
    errors = duck.rows(
        connection, "SELECT \"resource.service.name\", count(*) FROM spans WHERE status = 'error' GROUP BY 1 ORDER BY 1"
    )
    assert len(errors) == 4
    assert sum(count for _, count in errors) == sum(fields["status"][0] == 2 for fields in everything)
    acme = duck.number(connection, "SELECT count(*) FROM spans WHERE tenant = 'acme' AND status = 'error'")
    by_api = server.search(tenant="acme", status="error", limit=1000)["traces"]
    assert sum(trace["matchedCount"] for trace in by_api) == acme > 0


def test_spans_of_both_kinds_of_files_together(new_tracehouse):
    """Compacted files, fresh ones, and a key that has its own column in some of them only."""
    server = new_tracehouse().start()
    sent = {}
    for part in range(3):
        for made in make_traces(f"part {part}", middle_of_hour()):
            if part == 1:
                for pairs in (
                    span.attributes for rs in made.resource_spans for ss in rs.scope_spans for span in ss.spans
                ):
                    pairs.add(key="only.here").value.int_value = 5
            server.post_otlp(made.SerializeToString())
            sent |= by_span(made)
        server.flush()
        if part == 0:
            server.compact()
        connection = duck.connect(server)
        assert duck.number(connection, "SELECT count(*) FROM spans") == len(sent)
    assert len(server.parquet_files()) == 3
    expected = sum(any(key == "only.here" for key, _ in fields["attributes"]) for fields in sent.values())
    assert duck.number(connection, 'SELECT count(*) FROM spans WHERE "span.only.here" = 5') == expected > 0
    server.compact()
    assert len(server.parquet_files()) == 1
    connection = duck.connect(server)
    assert duck.number(connection, "SELECT count(*) FROM spans") == len(sent)
    assert duck.number(connection, 'SELECT count(*) FROM spans WHERE "span.only.here" = 5') == expected


def test_redelivered_spans_are_stored_once(new_tracehouse):
    """The same requests again: beside the first in memory, after a flush, after a compaction, after a crash."""
    server = new_tracehouse().start()
    bodies = [made.SerializeToString() for made in make_traces("again", middle_of_hour())]
    sent = {}
    for made in make_traces("again", middle_of_hour()):
        sent |= by_span(made)
    for step in (lambda: None, server.flush, server.compact, lambda: (server.kill(), server.start())):
        for body in bodies:
            server.post_otlp(body)
        step()
        trace_id, _ = next(iter(sent))
        answered = by_span(trace_as_protobuf(server, trace_id))
        assert answered == {key: fields for key, fields in sent.items() if key[0] == trace_id}
        found = server.search(limit=1000)["traces"]
        assert sum(trace["spanCount"] for trace in found) == len(sent)
    server.flush()
    connection = duck.connect(server)
    assert duck.row(connection, "SELECT count(*), count(DISTINCT (trace_id, span_id)) FROM spans") == (
        len(sent),
        len(sent),
    )


def test_keys_that_differ_only_in_case(new_tracehouse):
    """Each key has its own column in every file: to DuckDB names have no case, in one file and in several read together."""
    server = new_tracehouse().start()
    keys = ["userId", "userid", "USERID", "Ärger", "ärger"]
    hours = {1: keys, 2: ["userId", "Ärger"], 3: ["userid", "ärger"]}
    trace_number = 0
    for hour, in_hour in hours.items():
        spans = []
        for key in in_hour:
            for _ in range(40):
                trace_number += 1
                start = middle_of_hour(hour) + trace_number
                spans.append(span(trace_number.to_bytes(16), b"\1" * 8, start, attributes={key: f"{hour} {key}"}))
        server.post_otlp(request(spans).SerializeToString())
    asked = {
        "userId": '"span.user^Id"',
        "userid": '"span.userid"',
        "USERID": '"span.^U^S^E^R^I^D"',
        "ärger": '"span.ärger"',
        # Capitals beyond ASCII are the same letter to some engines: such a key has no column.
        "Ärger": "json_extract_string(span_attributes['Ärger'], '$')",
    }
    server.flush()
    for stage in ("flushed", "compacted", "restarted"):
        if stage == "compacted":
            server.compact()
        elif stage == "restarted":
            server.restart()
        connection = duck.connect(server)
        for key, column in asked.items():
            expected = [(f"{hour} {key}", 40) for hour, in_hour in hours.items() if key in in_hour]
            found = duck.rows(
                connection, f"SELECT {column}, count(*) FROM spans WHERE {column} IS NOT NULL GROUP BY 1 ORDER BY 1"
            )
            assert found == expected, (stage, key)
            query = f"SELECT attr('{key}'), count(*) FROM spans WHERE attr('{key}') IS NOT NULL GROUP BY 1 ORDER BY 1"
            answer = server.request("POST", "/api/v1/sql", json={"query": query}).json()
            assert [tuple(row) for row in answer["rows"]] == expected, (stage, key)
            traces = server.search(q=f'{{ span."{key}" != nil }}', limit=1000)["traces"]
            assert len(traces) == sum(count for _, count in expected), (stage, key)
