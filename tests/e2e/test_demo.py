"""The demo tells what it injected; the server must find exactly that. And a seed decides what a demo sends."""

import json
import re

import pytest

import duck
from otlp import by_span, trace_as_protobuf
from tracehouse import Tracehouse, run

SEED = 7
DEMO = ["--rate", "10", "--duration", "3s", "--history", "25m"]


def run_demo(server, facts_path, seed=SEED, tenant=None):
    arguments = ["demo", "--endpoint", server.otlp_grpc, "--seed", seed, "--facts", facts_path, *DEMO]
    done = run(*arguments, *(["--tenant", tenant] if tenant else []), timeout=180)
    facts = json.loads(facts_path.read_text())
    assert facts["finished"] and json.loads(done.stdout) == facts["totals"]
    totals = facts["totals"]
    assert totals["spansRejected"] == totals["spansAbandoned"] == 0
    assert totals["spansAcknowledged"] == totals["spansGenerated"]
    return facts


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A server with a demo's traffic, all in files; the facts; and DuckDB over the files."""
    folder = tmp_path_factory.mktemp("demo")
    server = Tracehouse(folder).start()
    facts = run_demo(server, folder / "facts.json")
    server.flush()
    server.compact()
    yield server, facts, duck.connect(server)
    server.kill()


def test_everything_is_there_once(demo):
    server, facts, files = demo
    totals = facts["totals"]
    assert totals["spansAcknowledged"] > 10_000
    counted = duck.row(files, "SELECT count(*), count(DISTINCT trace_id) FROM spans")
    assert counted == (totals["spansAcknowledged"], totals["tracesAcknowledged"])
    assert server.json("/api/v1/status")["spansStored"] == totals["spansAcknowledged"]


def test_services_and_operations(demo):
    server, facts, files = demo
    services = server.json("/api/v1/services")["services"]
    assert [service["name"] for service in services] == sorted(facts["services"])
    found = {
        service: {"traces": traces, "spans": spans, "errorSpans": errors}
        for service, traces, spans, errors in duck.rows(
            files,
            """
            SELECT "resource.service.name", count(DISTINCT trace_id), count(*), count(*) FILTER (status = 'error')
            FROM spans GROUP BY 1
            """,
        )
    }
    assert found == facts["services"]
    for service in facts["services"]:
        operations = server.json("/api/v1/operations", params={"service": service})["operations"]
        known = duck.rows(files, 'SELECT DISTINCT name FROM spans WHERE "resource.service.name" = ?', service)
        assert operations == sorted(name for (name,) in known)
        assert server.search(service=service, limit=1)["traces"], service
    for operation, count in facts["operations"].items():
        for example in count["examples"]:
            trace = server.json(f"/api/v1/traces/{example}")
            assert set(trace["services"]) <= set(count["services"]), operation
            assert trace["complete"] and trace["returned"] == trace["spanCount"]


# What the description of each problem says, as SQL over the files: one row for each occurrence, with its trace.
OCCURRENCES = {
    "slow_release": """
        SELECT trace_id FROM spans WHERE name = 'SELECT price_rule' AND "resource.service.name" = 'pricing'
        AND "resource.service.version" = '{release[to]}'
    """,
    "n_plus_one": "SELECT trace_id FROM spans WHERE name = 'SELECT order_line'",
    "retry_storm": """
        SELECT trace_id, unnest(range(calls - 1)) FROM (
            SELECT trace_id, count(*) AS calls FROM spans
            WHERE name LIKE '%PaymentService/Charge' AND kind = 'client' AND "resource.service.name" = 'checkout'
            GROUP BY trace_id
        ) WHERE calls >= 4
    """,
    "cold_start": "SELECT trace_id FROM spans WHERE \"resource.service.name\" = 'image-resizer' AND {cold} = 'true'",
    "lost_context": """
        SELECT trace_id FROM spans
        WHERE "resource.service.name" = 'ads' AND parent_span_id IS NULL AND parent_offset IS NULL
    """,
    "clock_skew": "SELECT trace_id FROM spans WHERE {host} = '{problems[clock_skew][parameters][host.name]}'",
    "personal_data": """
        SELECT trace_id FROM spans WHERE {user.email} IS NOT NULL
        UNION ALL SELECT trace_id FROM spans WHERE {email.recipient} IS NOT NULL
        UNION ALL SELECT trace_id FROM spans WHERE {payment.card_number} IS NOT NULL
    """,
    "noisy_tenant": """
        SELECT DISTINCT trace_id FROM spans WHERE {tenant.id} = 'polar-outlet' AND "resource.service.name" = 'gateway'
    """,
    "head_sampled": """
        SELECT trace_id FROM spans WHERE trace_state = 'ot=th:8' AND parent_span_id IS NULL AND parent_offset IS NULL
    """,
}


def fill_in(query, facts, columns):
    """Replaces {…}: paths into the facts, and attributes by where they are."""

    def replacement(match):
        name = match[1]
        if name == "cold":
            return text_of("faas.coldstart", columns)
        if name == "host":
            return text_of("host.name", columns, "resource")
        if "[" in name:
            node = facts
            for key in re.findall(r"[^\[\]]+", name):
                node = node[key]
            return node
        return text_of(name, columns)

    return re.sub(r"\{([^}]+)\}", replacement, query)


def text_of(key, columns, scope="span"):
    """A value wherever it is: in a column of its own, in the files that have one, else among the rest, as JSON."""
    rest = f"span_attributes['{key}']->>'$'" if scope == "span" else f"resource_attributes->>'$.\"{key}\"'"
    return f'coalesce("{scope}.{key}"::VARCHAR, {rest})' if f"{scope}.{key}" in columns else rest


@pytest.mark.parametrize("problem", OCCURRENCES)
def test_each_problem_is_found_as_often_as_injected(demo, problem):
    server, facts, files = demo
    columns = {name for name, *_ in duck.rows(files, "DESCRIBE spans")}
    found = [trace[0].hex() for trace in duck.rows(files, fill_in(OCCURRENCES[problem], facts, columns))]
    told = facts["problems"][problem]
    assert len(found) == told["occurrences"]
    assert len(set(found)) == told["traces"]
    assert set(told["examples"]) <= set(found)
    if problem != "retry_storm":  # It has its hour.
        assert told["occurrences"] > 0
    for example in [*told["examples"], *told.get("related", [])]:
        assert server.json(f"/api/v1/traces/{example}")["spanCount"] > 0


# The same by search: what to ask for, to get just the traces that the problem is in.
SEARCHES = {
    "slow_release": {"operation": "SELECT price_rule", "attr": "resource.service.version=3.9.0"},
    "n_plus_one": {"operation": "SELECT order_line"},
    "cold_start": {"attr": "faas.coldstart=true"},
    "noisy_tenant": {"service": "gateway", "attr": "span.tenant.id=polar-outlet"},
    "clock_skew": {"attr": "resource.host.name={problems[clock_skew][parameters][host.name]}"},
    "personal_data": {
        "q": "{ span.user.email != nil || span.email.recipient != nil || span.payment.card_number != nil }"
    },
}


@pytest.mark.parametrize("problem", SEARCHES)
def test_each_problem_is_found_by_search(demo, problem):
    server, facts, _ = demo
    parameters = {key: fill_in(text, facts, set()) if "[" in text else text for key, text in SEARCHES[problem].items()}
    answer = server.search(**parameters, limit=1000)
    told = facts["problems"][problem]
    assert answer["complete"] and len(answer["traces"]) == told["traces"] < 1000
    assert set(told["examples"]) <= {trace["traceId"] for trace in answer["traces"]}


def test_lost_context(demo):
    """A trace that began anew in `ads`, and the one it was torn from."""
    server, facts, _ = demo
    told = facts["problems"]["lost_context"]
    for torn, origin in zip(told["examples"], told["related"], strict=True):
        assert server.json(f"/api/v1/traces/{torn}")["rootServiceName"] == "ads"
        assert "ads" not in server.json(f"/api/v1/traces/{origin}")["rootServiceName"]


def test_missing_parents(demo):
    """Spans that name a parent which was never sent are told apart from roots."""
    server, facts, _ = demo
    told = facts["problems"]["missing_parent"]
    for example in told["examples"]:
        spans = server.json(f"/api/v1/traces/{example}")["spans"]
        assert spans["parent"].count(-2) >= 1
        assert spans["parent"].count(-1) == 1


def test_sampled_spans_say_for_how_many_they_stand(demo):
    server, facts, _ = demo
    for example in facts["problems"]["head_sampled"]["examples"][:5]:
        spans = server.json(f"/api/v1/traces/{example}")["spans"]
        root = server.json(f"/api/v1/traces/{example}/spans/{spans['id'][0]}")
        assert (root["traceState"], root["adjustedCount"]) == ("ot=th:8", 2)


def structure(server, tenant):
    """What must not depend on when the demo ran: ids, tree, names, services."""
    connection = duck.connect(server)
    return {
        tuple(row)
        for row in duck.rows(
            connection,
            """
            SELECT trace_id::VARCHAR, span_id::VARCHAR, parent_span_id::VARCHAR, name, kind,
                   "resource.service.name", scope_name
            FROM spans WHERE tenant = ?
            """,
            tenant,
        )
    }


def test_a_seed_decides_what_is_sent(new_tracehouse, tmp_path):
    server = new_tracehouse().start()
    for tenant, seed in (("one", 7), ("again", 7), ("other", 8)):
        run_demo(server, tmp_path / f"{tenant}.json", seed, tenant)
    server.flush()
    server.compact()
    one, again, other = (structure(server, tenant) for tenant in ("one", "again", "other"))
    # Arrivals follow the time of day, so at the ends of the run a request may fall in or out.
    assert len(one & again) > 0.98 * len(one | again) > 10_000
    assert not one & other


def test_the_demo_stops_when_asked(new_tracehouse, tmp_path):
    """Without a duration it goes on until SIGTERM, and then tells what it sent."""
    import signal
    import subprocess
    import time

    from tracehouse import BINARY, clean_environment

    server = new_tracehouse().start()
    facts_path = tmp_path / "facts.json"
    command = [BINARY, "demo", "--endpoint", server.otlp_grpc, "--rate", "50", "--facts", facts_path]
    process = subprocess.Popen(command, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
    facts = json.loads(facts_path.read_text())
    assert facts["finished"] and facts["totals"]["tracesAcknowledged"] > 20
    server.flush()
    server.compact()
    assert server.json("/api/v1/status")["spansStored"] == facts["totals"]["spansAcknowledged"]
    example = next(iter(facts["operations"].values()))["examples"][0]
    assert by_span(trace_as_protobuf(server, example))
