"""The two sides of a call under one id, as Zipkin's tracers and Envoy send them through the Collector: every interface has the server's half beneath
the client's."""

import pytest

from otlp import middle_of_hour, request, span

MILLI = 1_000_000
TRACE = bytes.fromhex("00112233445566778899aabbccddeeff")
PAGE, SHARED, WORK = b"\x11" * 8, b"\x22" * 8, b"\x33" * 8
# What the server's half names as its parent: the client's parent, none, or the shared id itself.
NAMED = {"the parent of the client": PAGE, "no parent": b"", "itself": SHARED}
TREE = [("page", None), ("call", "page"), ("answer", "call"), ("work", "answer")]
QUERIES = {
    "{ kind = client } > { kind = server }": ["answer"],
    "{ kind = client } >> { }": ["answer", "work"],
    "{ name = `work` } << { }": ["answer", "call", "page"],
    "{ name = `answer` } < { }": ["call"],
    "{ } ~ { }": [],
    "{ span:childCount = 0 }": ["work"],
    "{ parent = nil }": ["page"],
    "{ nestedSetParent < 0 }": ["page"],
    "{ parent.service.name = `gateway` && kind = server }": ["answer"],
    '{ span:parentID = "2222222222222222" }': ["answer", "work"],
}
EDGES = """
    SELECT child.name, parent.name FROM spans AS child LEFT JOIN spans AS parent
    ON parent.trace_id = child.trace_id AND parent.span_id = child.parent_span_id ORDER BY child.start_time
"""
PATHS = """
    WITH RECURSIVE below AS (
        SELECT trace_id, span_id, name AS path FROM spans WHERE parent_span_id IS NULL
        UNION ALL
        SELECT s.trace_id, s.span_id, below.path || '/' || s.name FROM spans AS s
        JOIN below ON s.trace_id = below.trace_id AND s.parent_span_id = below.span_id
    ) SELECT max(path) FROM below
"""


def sent(named):
    start = middle_of_hour()
    gateway = [
        span(TRACE, PAGE, start, 90 * MILLI, name="page", kind=2),
        span(TRACE, SHARED, start + 10 * MILLI, 50 * MILLI, name="call", kind=3, parent_span_id=PAGE),
    ]
    cart = [
        span(TRACE, SHARED, start + 20 * MILLI, 30 * MILLI, name="answer", kind=2, parent_span_id=named),
        span(TRACE, WORK, start + 30 * MILLI, 10 * MILLI, name="work", parent_span_id=SHARED),
    ]
    return [request(gateway, service="gateway"), request(cart, service="cart")]


def by_references(spans, name, span_id, parent):
    """A tree of spans that name their parents, which each have an id of their own."""
    ids = [span_id(each) for each in spans]
    assert len(set(ids)) == len(ids), "ids are unique"
    names = {span_id(each): name(each) for each in spans}
    return sorted((name(each), names[parent(each)] if parent(each) else None) for each in spans)


def check(server):
    trace_id = TRACE.hex()
    tree = sorted(TREE, key=lambda pair: pair[0])

    native = server.json(f"/api/v1/traces/{trace_id}")
    columns = native["spans"]
    names = [native["names"][number] for number in columns["name"]]
    assert [(name, names[at] if at >= 0 else None) for name, at in zip(names, columns["parent"], strict=True)] == TREE
    assert len(set(columns["id"])) == len(TREE)
    for span_id, name in zip(columns["id"], names, strict=True):
        assert server.json(f"/api/v1/traces/{trace_id}/spans/{span_id}")["name"] == name

    for query, expected in QUERIES.items():
        found = server.json("/api/search", params={"q": query, "spss": 10})["traces"]
        spans = [each for trace in found for spanset in trace["spanSets"] for each in spanset["spans"]]
        assert sorted(each["name"] for each in spans) == expected, query

    batches = server.json(f"/api/traces/{trace_id}")["batches"]
    spans = [each for batch in batches for scope in batch["scopeSpans"] for each in scope["spans"]]
    found = by_references(
        spans, lambda each: each["name"], lambda each: each["spanId"], lambda each: each.get("parentSpanId")
    )
    assert found == tree, "Tempo"

    spans = server.json(f"/jaeger/api/traces/{trace_id}")["data"][0]["spans"]
    found = by_references(
        spans,
        lambda each: each["operationName"],
        lambda each: each["spanID"],
        lambda each: next((reference["spanID"] for reference in each["references"]), None),
    )
    assert found == tree, "Jaeger"

    zipkin = {each["name"]: each for each in server.json(f"/zipkin/api/v2/trace/{trace_id}")}
    shared = zipkin["answer"]
    assert (shared["id"], shared["shared"], shared["parentId"]) == (SHARED.hex(), True, PAGE.hex())
    assert (zipkin["work"]["parentId"], zipkin["call"]["parentId"]) == (SHARED.hex(), PAGE.hex())
    assert "shared" not in zipkin["call"]

    for path in ("/api/dependencies", "/zipkin/api/v2/dependencies"):
        answer = server.json(path, params={"endTs": middle_of_hour(0) // MILLI, "lookback": 86_400_000})
        links = answer["data"] if isinstance(answer, dict) else answer
        assert [(each["parent"], each["child"], each["callCount"]) for each in links] == [("gateway", "cart", 1)]

    sql = lambda query: server.request("POST", "/api/v1/sql", json={"query": query}).json()["rows"]  # noqa: E731
    assert [tuple(row) for row in sql(EDGES)] == TREE
    assert sql(PATHS) == [["page/call/answer/work"]]


@pytest.mark.parametrize("named", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("server_first", [False, True], ids=["client first", "server first"])
def test_the_servers_half_lies_beneath_the_clients_everywhere(tracehouse, named, server_first):
    for made in sorted(sent(named), key=lambda made: made == sent(named)[0], reverse=not server_first):
        tracehouse.post_otlp(made.SerializeToString())
    check(tracehouse)
    tracehouse.flush()
    check(tracehouse)
    tracehouse.restart()
    check(tracehouse)


@pytest.mark.parametrize("named", NAMED.values(), ids=NAMED)
def test_halves_that_came_in_different_files_lie_beneath_each_other(tracehouse, named):
    for made in sent(named):
        tracehouse.post_otlp(made.SerializeToString())
        tracehouse.flush()
    tracehouse.compact()
    check(tracehouse)
