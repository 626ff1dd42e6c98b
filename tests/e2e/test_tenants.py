"""Several tenants in one question: one answer over all of them, each result naming its tenant, nothing of another; only
for reading."""

import pytest

from otlp import middle_of_hour, request, span
from tracehouse import run

MILLI = 1_000_000
TRACE = bytes.fromhex("00112233445566778899aabbccddeeff")
PAGE, CALL, WORK, SECRET = (bytes([number]) * 8 for number in (1, 2, 3, 9))
BOTH = "shop|bank"
SECRET_WORDS = "vault"
HOUR_SECONDS = 3600
COUNT = "{ } | count_over_time()"


@pytest.fixture
def server(new_tracehouse):
    """Two tenants have a part of a trace each, a third one, which is never asked, has another; `bank` has one alone."""
    server = new_tracehouse({"tenants": ["shop", "bank", "vault"]}).start()
    start = middle_of_hour()
    page = span(TRACE, PAGE, start, 90 * MILLI, name="page", kind=3)
    work = span(TRACE, WORK, start + 20 * MILLI, 10 * MILLI, name="work", parent_span_id=CALL)
    call = span(TRACE, CALL, start + 10 * MILLI, 50 * MILLI, name="call", kind=2, parent_span_id=PAGE)
    alone = span(b"\x07" * 16, b"\x07" * 8, start + MILLI, MILLI, name="alone")
    secret = span(TRACE, SECRET, start, MILLI, name="vault door", parent_span_id=PAGE)
    for tenant, spans, service in [
        ("shop", [page, work], "front"),
        ("bank", [call, alone], "back"),
        ("vault", [secret], "vault"),
    ]:
        server.post_otlp(request(spans, service=service).SerializeToString(), tenant=tenant)
    server.range = {"start": start // 10**9 - HOUR_SECONDS, "end": start // 10**9 + HOUR_SECONDS}
    return server


def ask(server, path, tenant=BOTH, **parameters):
    answer = server.get(path, params=parameters, tenant=tenant)
    assert SECRET_WORDS not in answer.text, path
    assert "x-tracehouse-partial" not in answer.headers, path
    return answer.json()


def texts(attributes, key):
    return [each["value"]["stringValue"] for each in attributes if each["key"] == key]


def check_tempo(server):
    found = ask(server, "/api/search", q="{ }", **server.range)["traces"]
    assert [trace["traceID"] for trace in found] == ["07" * 16, TRACE.hex()]
    shared = found[1]
    assert (shared["rootServiceName"], shared["rootTraceName"]) == ("front", "page")
    found = [each for spanset in shared["spanSets"] for each in spanset["spans"]]
    spans = {each["name"]: texts(each["attributes"], "tenant") for each in found}
    assert spans == {"page": ["shop"], "work": ["shop"], "call": ["bank"]}
    # Conditions hold within a tenant.
    assert len(ask(server, "/api/search", q="{ name = `page` } && { name = `work` }", **server.range)["traces"]) == 1
    assert ask(server, "/api/search", q="{ name = `page` } && { name = `call` }", **server.range)["traces"] == []

    for path, place in (("/api/traces/", ["batches"]), ("/api/v2/traces/", ["trace", "resourceSpans"])):
        resources = ask(server, path + TRACE.hex())
        for name in place:
            resources = resources[name]
        owners = {}
        for each in resources:
            (tenant,) = texts(each["resource"]["attributes"], "tenant")
            for scope in each["scopeSpans"]:
                owners |= {each["name"]: tenant for each in scope["spans"]}
        assert owners == {"page": "shop", "call": "bank", "work": "shop"}

    values = ask(server, "/api/v2/search/tag/resource.service.name/values", **server.range)["tagValues"]
    assert [each["value"] for each in values] == ["back", "front"]
    scopes = ask(server, "/api/v2/search/tags", **server.range)["scopes"]
    assert "tenant" not in [tag for scope in scopes for tag in scope["tags"]]
    series = ask(server, "/api/metrics/query", q=COUNT, **server.range)["series"]
    assert {texts(each["labels"], "tenant")[0]: each["value"] for each in series} == {"shop": 2, "bank": 2}
    series = ask(server, "/api/metrics/query_range", q=COUNT, step="600s", **server.range)["series"]
    sums = {texts(each["labels"], "tenant")[0]: sum(sample["value"] for sample in each["samples"]) for each in series}
    assert sums == {"shop": 2, "bank": 2}


def check_jaeger_and_zipkin(server):
    (trace,) = ask(server, f"/jaeger/api/traces/{TRACE.hex()}")["data"]
    tenants = {
        name: next(tag["value"] for tag in process["tags"] if tag["key"] == "tenant")
        for name, process in trace["processes"].items()
    }
    found = [
        (each["operationName"], tenants[each["processID"]], [parent["spanID"] for parent in each["references"]])
        for each in trace["spans"]
    ]
    assert found == [("page", "shop", []), ("call", "bank", [PAGE.hex()]), ("work", "shop", [CALL.hex()])]
    assert ask(server, "/jaeger/api/services")["data"] == ["back", "front"]
    assert len(ask(server, "/jaeger/api/traces", service="back")["data"]) == 2

    spans = ask(server, f"/zipkin/api/v2/trace/{TRACE.hex()}")
    assert [(each["name"], each["tags"]["tenant"], each.get("parentId")) for each in spans] == [
        ("page", "shop", None),
        ("call", "bank", PAGE.hex()),
        ("work", "shop", CALL.hex()),
    ]
    assert ask(server, "/zipkin/api/v2/services") == ["back", "front"]


def check_native(server):
    traces = ask(server, "/api/v1/search")["traces"]
    assert {(each["tenant"], each["rootSpanName"]) for each in traces} == {
        ("bank", "alone"),
        ("bank", "call"),
        ("shop", "page"),
    }
    compact = ask(server, f"/api/v1/traces/{TRACE.hex()}")
    columns = compact["spans"]
    assert [compact["tenants"][number] for number in columns["tenant"]] == ["shop", "bank", "shop"]
    assert columns["parent"] == [-1, 0, 1]
    printed = run("search", "--url", server.url, "--tenant", BOTH).stdout
    assert "shop: front" in printed and "bank: back" in printed and SECRET_WORDS not in printed
    first = ask(server, "/api/v1/search?sort=-duration&limit=1")
    assert first["traces"][0]["durationNanos"] == max(trace["durationNanos"] for trace in traces)
    assert first["tracesMatched"] == ask(server, "/api/v1/search/count")["traces"] == 3
    some = run("search", "--url", server.url, "--tenant", BOTH, "--sort", "-duration", "--limit", "1").stdout
    assert first["traces"][0]["traceId"] in some and some.rstrip().splitlines()[-1] in ("1 of 3 traces", "2 of 3 traces")


def test_one_answer_over_both(server):
    for change in (lambda: None, server.flush, server.restart):
        change()
        check_tempo(server)
        check_jaeger_and_zipkin(server)
        check_native(server)


def test_one_tenant_is_answered_as_ever(server):
    """Whoever is asked beside it: nobody."""
    for path in (
        "/api/v1/search",
        f"/api/v1/traces/{TRACE.hex()}",
        f"/api/traces/{TRACE.hex()}",
        f"/jaeger/api/traces/{TRACE.hex()}",
        f"/zipkin/api/v2/trace/{TRACE.hex()}",
        "/jaeger/api/services",
    ):
        answers = [server.get(path, tenant=tenant).text for tenant in ("bank", "bank|bank", "bank, bank")]
        assert all("tenant" not in answer and "front" not in answer for answer in answers), path
        if path != "/api/v1/search":  # It says how long it took.
            assert len(set(answers)) == 1, path


@pytest.mark.parametrize("tenants", [BOTH, "shop|shop", "shop|", "|", "shop|../x"])
def test_spans_are_taken_for_one_tenant(server, tenants):
    sent = request([span(b"\x05" * 16, b"\x05" * 8, middle_of_hour(), MILLI)]).SerializeToString()
    refused = server.post_otlp(sent, tenant=tenants, expect=400)
    assert b"several tenants, which is for reading" in refused.content
    for tenant in ("shop", "bank"):
        server.get("/api/v1/traces/" + "05" * 16, tenant=tenant, expect=404)


def test_what_is_of_one_tenant_refuses_several(server):
    refused = server.request("POST", "/api/v1/sql", json={"query": "SELECT 1"}, tenant=BOTH, expect=400)
    assert refused.json()["detail"].endswith("name one")
    server.get("/api/v1/status", tenant=BOTH, expect=400)
    for wrong in ("shop|", "|", "shop||bank", "shop|../bank", "|".join(f"t{number}" for number in range(17))):
        server.get("/api/v1/search", tenant=wrong, expect=400)
